"""Options and YAML of TensorRT-LLM's server.

Attention runs data parallel on every rank of a stage, or tensor parallel on all of them; nothing in between. Experts
divide in both ways at once.
"""

from __future__ import annotations

from sweep.launch.arguments import Arguments, Command, Launch, Value
from sweep.launch.jobs import InstanceJob, ServingJob
from sweep.launch.serving import AS_STORED, drafts, launched, title

_KEPT_IN = {"bf16": "auto", "fp16": "auto", "fp8": "fp8", "fp4": "nvfp4"}


def tensorrt_llm(job: ServingJob) -> Launch:
    """Launch with TensorRT-LLM."""
    everything = Arguments()
    commands = []
    for one in job.instances:
        found = Arguments()
        keys: dict[str, Value] = {}
        _parallelism(one, job, found, keys)
        _working_point(one, job, found, keys)
        found.set("--config", "config.yaml")
        commands.append(Command(title(one), 'trtllm-serve "$MODEL"', found.given, keys, one.kind))
        everything.lacking += found.lacking
    if job.disaggregated:
        everything.remark("`trtllm-serve disaggregated` stands in front: list the instances for prefill under "
                          "context_servers, those for decode under generation_servers.")  # fmt: skip
    if job.weight_format not in AS_STORED:
        everything.remark(f"Weights in {job.weight_format}: MODEL must be a checkpoint in that format.")
    everything.remark("Over several hosts start it under mpirun or srun with trtllm-llmapi-launch.")
    return launched(job, "tensorrt-llm", commands, everything)


def _parallelism(one: InstanceJob, job: ServingJob, found: Arguments, keys: dict[str, Value]) -> None:
    groups = one.data_parallel > 1
    found.set("--tp_size", one.tensor_parallel * one.data_parallel)
    found.set("--pp_size", one.pipeline_parallel)
    if one.context_parallel > 1:
        found.set("--cp_size", one.context_parallel)
        keys["cp_config.cp_type"] = "HELIX"  # without it the heads are divided (Ulysses), not the cache
        keys["cp_config.tokens_per_block"] = job.block
        if one.kind != "decode":
            found.lacks("a context divided over ranks that also read prompts: HELIX is for instances that decode alone")
    keys["enable_attention_dp"] = groups
    if groups and one.tensor_parallel > 1:
        found.lacks(f"{one.data_parallel} attention groups of {one.tensor_parallel} ranks; the command makes every "
                    f"rank of a stage a group of its own ({one.tensor_parallel * one.data_parallel})")  # fmt: skip
    if job.mixture:
        found.set("--ep_size", one.expert_parallel)
        keys["moe_tensor_parallel_size"] = one.expert_tensor_parallel
    if one.redundant:
        found.lacks(f"{one.redundant} redundant experts without a file of the balance: "
                    "moe_config.load_balancer names one")  # fmt: skip
    if one.micro_batches > 1:
        found.lacks(f"{one.micro_batches} micro-batches that overlap")


def _working_point(one: InstanceJob, job: ServingJob, found: Arguments, keys: dict[str, Value]) -> None:
    found.set("--max_batch_size", one.group_batch)
    drafted = one.group_batch * (1 + one.draft_tokens)
    found.set("--max_num_tokens", max(one.chunk, drafted))
    found.set("--max_seq_len", job.longest)
    keys["enable_chunked_prefill"] = bool(one.chunk)
    keys["kv_cache_config.free_gpu_memory_fraction"] = round(job.usable_memory, 3)
    if job.kv_format in _KEPT_IN:
        keys["kv_cache_config.dtype"] = _KEPT_IN[job.kv_format]
    else:
        found.lacks(f"a cache in {job.kv_format}")
    if job.block > 1:
        keys["kv_cache_config.tokens_per_block"] = job.block
    if one.kind != "prefill":
        keys["cuda_graph_config.enable_padding"] = True
        keys["cuda_graph_config.max_batch_size"] = one.group_batch
    if drafts(one, job, found):
        keys["speculative_config.decoding_type"] = "MTP"
        keys["speculative_config.max_draft_len"] = one.draft_tokens
    if job.disaggregated:
        keys["cache_transceiver_config.backend"] = "DEFAULT"
