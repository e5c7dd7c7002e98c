"""Options of torchtitan: a configuration of the model, and the degrees that replace its own."""

from __future__ import annotations

from sweep.launch.arguments import Arguments, Command, Launch
from sweep.launch.jobs import TrainingJob
from sweep.launch.megatron import rendezvous, unknown_to
from sweep.launch.options import options

# Names of torch.distributed.pipelining by those of model/layout.py.
_SCHEDULES = {"1f1b": "1F1B", "gpipe": "GPipe", "interleaved": "Interleaved1F1B", "zb-v": "ZBVZeroBubble"}
# Model of the catalogue -> module and configuration. Source: torchtitan 0.3.0, torchtitan/models/*/config_registry.py.
_MODELS = {
    "deepseek-v3": ("deepseek_v3", "deepseek_v3_671b"),
    "deepseek-r1": ("deepseek_v3", "deepseek_v3_671b"),
    "gpt-oss-120b": ("gpt_oss", "gpt_oss_120b"),
    "gpt-oss-20b": ("gpt_oss", "gpt_oss_20b"),
    "llama-3-70b": ("llama3", "llama3_70b"),
    "llama-3-8b": ("llama3", "llama3_8b"),
    "llama-3.1-405b": ("llama3", "llama3_405b"),
    "llama-3.1-70b": ("llama3", "llama3_70b"),
    "llama-3.1-8b": ("llama3", "llama3_8b"),
    "qwen3-0.6b": ("qwen3", "qwen3_0_6b"),
    "qwen3-1.7b": ("qwen3", "qwen3_1_7b"),
    "qwen3-14b": ("qwen3", "qwen3_14b"),
    "qwen3-30b-a3b": ("qwen3", "qwen3_30b_a3b"),
    "qwen3-32b": ("qwen3", "qwen3_32b"),
}


def torchtitan(job: TrainingJob) -> Launch:
    """Launch with torchtitan."""
    found, known = Arguments(), options("torchtitan")
    variables = rendezvous(job)
    module, configuration = _MODELS.get(job.model.name, ("$MODULE", "$CONFIG"))
    if job.model.name not in _MODELS:
        variables |= {"MODULE": "llama3", "CONFIG": "llama3_8b"}
        found.lacks(f"the model: {known.framework} {known.release} has no configuration named after {job.model.name}; "
                    "register one and set MODULE and CONFIG")  # fmt: skip
    found.set("--module", module)
    found.set("--config", configuration)
    unknown_to(job.model, found)
    _training(job, found)
    _parallelism(job, found)
    _memory(job, found)
    _software(job, found)
    program = (
        'torchrun --nnodes "$NNODES" --nproc-per-node "$NPROC_PER_NODE" --node-rank "$NODE_RANK" '
        '--master-addr "$MASTER_ADDR" --master-port "$MASTER_PORT" -m torchtitan.train'
    )
    found.remark("The configuration brings the model's shapes, data, optimizer and learning rate.")
    return Launch(
        "torchtitan", known.framework, known.release, known.source, job.described(),
        (Command("On every host, with its own NODE_RANK.", program, found.given),), variables,
        tuple(found.lacking), tuple(found.remarks),
    )  # fmt: skip


def _training(job: TrainingJob, found: Arguments) -> None:
    layout = job.layout
    staged = int(layout.pipeline_parallel) > 1
    micro = int(layout.micro_batch)
    found.set("--training.seq_len", job.sequence)
    found.set("--training.global_batch_size", int(layout.global_batch))
    found.set("--training.local_batch_size", micro * int(layout.microbatches) if staged else micro)
    found.when(staged, "--parallelism.pipeline_parallel_microbatch_size", micro)


def _parallelism(job: TrainingJob, found: Arguments) -> None:
    layout, at = job.layout, "--parallelism."
    found.set(f"{at}tensor_parallel_degree", int(layout.tensor_parallel))
    found.set(f"{at}pipeline_parallel_degree", int(layout.pipeline_parallel))
    found.set(f"{at}context_parallel_degree", int(layout.context_parallel))
    if job.model.experts is not None:
        found.set(f"{at}expert_parallel_degree", int(layout.expert_parallel))
        if int(layout.expert_tensor_parallel) > 1:
            found.lacks(f"tensor parallelism of experts apart from that of attention (etp={_etp(job)})")
    zero, replicas = int(layout.zero_stage), int(layout.data_parallel)
    found.set(f"{at}data_parallel_replicate_degree", replicas if zero == 0 else 1)
    found.set(f"{at}data_parallel_shard_degree", 1 if zero == 0 else replicas)
    found.when(zero, f"{at}fsdp_reshard_after_forward", "always" if zero == 3 else "never")
    if zero == 1:
        found.lacks("ZeRO stage 1; FSDP without resharding after the forward (stage 2) is the nearest")
    if int(layout.pipeline_parallel) > 1:
        name = _SCHEDULES.get(job.schedule)
        found.set(f"{at}pipeline_parallel_schedule", name or "1F1B")
        if name is None:
            found.lacks(f"the pipeline schedule {job.schedule}; the run takes 1F1B")
        found.set(f"{at}pipeline_parallel_layers_per_stage", max(job.chunk_layers))
        found.set(f"{at}pipeline_parallel_first_stage_less_layers", 0)
        found.set(f"{at}pipeline_parallel_last_stage_less_layers", 0)
        if len(set(job.chunk_layers)) > 1:
            found.remark(
                "Layers do not divide evenly over the model chunks: torchtitan rounds; for the split that was "
                "predicted write module_fqns_per_model_part into the configuration."
            )
    if int(layout.tensor_parallel) > 1 and not int(layout.sequence_parallel):
        found.lacks("tensor parallelism without sequence parallelism from the command line; set "
                    "parallelism.enable_sequence_parallel = False in the configuration")  # fmt: skip
    if int(layout.context_parallel) > 1 and job.context_exchange == "all_to_all":
        found.lacks("context parallelism by all-to-all; the run exchanges keys and values around")
    if job.model.experts is not None and job.stack.expert_overlap > 0 and job.overlaps("expert"):
        found.lacks("expert traffic hidden behind the compute of another microbatch")
    if job.rank_order != "tp-cp-dp-pp":
        found.lacks(f"the rank order {job.rank_order}; pipeline stages are the outermost")


def _etp(job: TrainingJob) -> int:
    return int(job.layout.expert_tensor_parallel)


def _memory(job: TrainingJob, found: Arguments) -> None:
    if "full" in job.recompute:
        found.set("activation-checkpoint:full")
    elif job.recompute:
        found.set("activation-checkpoint:selective")
        modules = "+".join(job.recompute)
        found.lacks(f"recomputation of {modules} alone; its selective policy saves the costly operations instead")
    else:
        found.set("activation-checkpoint:none")
    if "optimizer" in job.offload:
        found.set("--training.enable_cpu_offload")
        found.remark("Offloading takes parameters and gradients to the host too, not the optimizer alone.")
    if "activations" in job.offload:
        found.lacks("activations in the host's memory")


def _software(job: TrainingJob, found: Arguments) -> None:
    found.set("--compile.enable")
    if job.stack.tensor_overlap > 0 and job.overlaps("tensor") and int(job.layout.tensor_parallel) > 1:
        found.set("--compile.enable_async_tensor_parallel")
    if not job.overlaps("data"):
        found.lacks("sharded data parallelism without overlap")
    if job.number_format not in ("bf16", "fp16"):
        found.lacks(f"matmuls in {job.number_format} from the command line; add its converter to the configuration")
    elif job.number_format == "fp16":
        found.lacks("matmuls in fp16; the run computes in bfloat16")
    # a subcommand ends the options of its parent: it stands last
    for name in [name for name in found.given if name.startswith("activation-checkpoint:")]:
        found.given[name] = found.given.pop(name)
