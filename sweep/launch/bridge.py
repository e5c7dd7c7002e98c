"""Overrides of a Megatron-Bridge recipe (NeMo's trainer): the recipe brings the model, the layout replaces the rest."""

from __future__ import annotations

from sweep.errors import nearest
from sweep.launch.arguments import Arguments, Command, Launch, Value
from sweep.launch.jobs import TrainingJob
from sweep.launch.megatron import megatron_recompute, offloaded_modules, rendezvous, stage_layout, unknown_to
from sweep.launch.options import options

_PRECISIONS = {
    "bf16": "bf16_mixed",
    "fp16": "fp16_mixed",
    "fp8": "bf16_with_fp8_current_scaling_mixed",
    "mxfp8": "bf16_with_mxfp8_mixed",
    "nvfp4": "bf16_with_nvfp4_mixed",
}
# Models of the catalogue whose recipe is named in another way.
_RECIPES = {
    "deepseek-r1": "deepseek_v3",
    "gpt-3-175b": "gpt3_175b",
    "llama-3-8b": "llama3_8b",
    "llama-3-70b": "llama3_70b",
    "llama-3.1-8b": "llama31_8b",
    "llama-3.1-70b": "llama31_70b",
    "llama-3.1-405b": "llama31_405b",
    "llama-3.2-1b": "llama32_1b",
    "llama-3.2-3b": "llama32_3b",
    "llama-2-7b": "llama2_7b",
    "qwen3-0.6b": "qwen3_600m",
    "qwen3-1.7b": "qwen3_1p7b",
}


def recipe(model: str) -> str | None:
    """Recipe of a model of the catalogue; None where the release has none of that name."""
    name = f"{_RECIPES.get(model, model.replace('-', '_').replace('.', 'p'))}_pretrain_config"
    return name if name in options("megatron-bridge").choices["--recipe"] else None


def megatron_bridge(job: TrainingJob) -> Launch:
    """Launch with Megatron-Bridge."""
    found, known = Arguments(), options("megatron-bridge")
    model, layout = job.model, job.layout
    name = recipe(model.name)
    variables = rendezvous(job)
    if name is None:
        variables["RECIPE"] = "vanilla_gpt_pretrain_config"
        near = nearest(model.name.replace("-", "_"), known.choices["--recipe"])
        found.lacks(f"the model: {known.framework} {known.release} has no recipe named after {model.name}; {near}")
    found.set("--recipe", name or "$RECIPE")
    found.set("--mode", "pretrain")
    unknown_to(model, found)
    overrides: dict[str, Value] = {
        "model.tensor_model_parallel_size": int(layout.tensor_parallel),
        "model.pipeline_model_parallel_size": int(layout.pipeline_parallel),
        "model.context_parallel_size": int(layout.context_parallel),
        "model.sequence_parallel": bool(int(layout.sequence_parallel)),
        "train.micro_batch_size": int(layout.micro_batch),
        "train.global_batch_size": int(layout.global_batch),
        "dataset.seq_length": job.sequence,
        "dist.use_tp_pp_dp_mapping": job.rank_order == "tp-cp-pp-dp",
        "ddp.use_distributed_optimizer": int(layout.zero_stage) >= 1,
    }
    if model.experts is not None:
        overrides["model.expert_model_parallel_size"] = int(layout.expert_parallel)
        overrides["model.expert_tensor_parallel_size"] = int(layout.expert_tensor_parallel)
        if job.stack.dispatch != "all_to_all":
            overrides["model.moe_token_dispatcher_type"] = "flex"
    _stages(job, overrides)
    _memory(job, found, overrides)
    overlapped = job.overlaps("data") and job.stack.gradient_overlap > 0
    overrides["comm_overlap.overlap_grad_reduce"] = overlapped
    overrides["comm_overlap.overlap_param_gather"] = overlapped and int(layout.zero_stage) >= 1
    overrides["comm_overlap.tp_comm_overlap"] = (
        job.overlaps("tensor") and job.stack.tensor_overlap > 0 and bool(int(layout.sequence_parallel))
    )
    if model.experts is not None:
        overrides["comm_overlap.overlap_moe_expert_parallel_comm"] = (
            job.overlaps("expert") and job.stack.expert_overlap > 0 and int(layout.expert_parallel) > 1
        )
    if job.number_format in _PRECISIONS:
        overrides["mixed_precision"] = _PRECISIONS[job.number_format]
    else:
        overrides["mixed_precision"] = _PRECISIONS["bf16"]
        found.lacks(f"matmuls in {job.number_format}; the recipe trains in bf16")
    if int(layout.pipeline_parallel) > 1 and job.schedule not in ("1f1b", "interleaved"):
        found.lacks(f"the pipeline schedule {job.schedule}; the recipe runs 1F1B")
    found.remark(
        "The recipe brings the model's shapes, data, optimizer and learning rate; the keys replace its layout."
    )
    found.given |= overrides
    program = (
        'torchrun --nnodes "$NNODES" --nproc-per-node "$NPROC_PER_NODE" --node-rank "$NODE_RANK" '
        '--master-addr "$MASTER_ADDR" --master-port "$MASTER_PORT" scripts/training/run_recipe.py'
    )
    return Launch(
        "megatron-bridge", known.framework, known.release, known.source, job.described(),
        (Command("On every host, with its own NODE_RANK.", program, found.given),), variables,
        tuple(found.lacking), tuple(found.remarks),
    )  # fmt: skip


def _stages(job: TrainingJob, overrides: dict[str, Value]) -> None:
    """Model chunks of every stage."""
    layout = job.layout
    if int(layout.pipeline_parallel) > 1 and len(set(job.chunk_layers)) > 1:
        overrides["model.pipeline_model_parallel_layout"] = stage_layout(job)
    if int(layout.virtual_stages) > 1:
        overrides["model.virtual_pipeline_model_parallel_size"] = int(layout.virtual_stages)
    if int(layout.context_parallel) > 1:
        overrides["model.cp_comm_type"] = "a2a" if job.context_exchange == "all_to_all" else "p2p"


def _memory(job: TrainingJob, found: Arguments, overrides: dict[str, Value]) -> None:
    """Recomputation, sharding and offloading."""
    if "full" in job.recompute:
        overrides["model.recompute_granularity"] = "full"
        overrides["model.recompute_method"] = "uniform"
        overrides["model.recompute_num_layers"] = 1
    elif modules := megatron_recompute(job, found):
        overrides["model.recompute_granularity"] = "selective"
        overrides["model.recompute_modules"] = modules
    if int(job.layout.zero_stage) >= 2:
        stage = "optim_grads_params" if int(job.layout.zero_stage) == 3 else "optim_grads"
        overrides["dist.use_megatron_fsdp"] = True
        overrides["ddp.data_parallel_sharding_strategy"] = stage
    if "optimizer" in job.offload:
        overrides["optimizer.optimizer_cpu_offload"] = True
        overrides["optimizer.optimizer_offload_fraction"] = 1.0
    if "activations" in job.offload:
        overrides["model.fine_grained_activation_offloading"] = True
        overrides["model.offload_modules"] = offloaded_modules(job.model)
        found.remark("Activations leave module by module, not the whole of a layer as predicted.")
