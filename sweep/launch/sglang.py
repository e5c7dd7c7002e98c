"""Options of SGLang. Its tensor-parallel size is all ranks of a stage; attention groups and experts divide it."""

from __future__ import annotations

from sweep.launch.arguments import Arguments, Command, Launch
from sweep.launch.jobs import InstanceJob, ServingJob
from sweep.launch.serving import AS_STORED, ROUTED, drafts, launched, quantised, title

_KEPT_IN = {"bf16": "bf16", "fp16": "auto", "fp8": "fp8_e4m3", "fp4": "nvfp4"}
_WEIGHTS = {"fp8": "fp8", "mxfp8": "mxfp8", "nvfp4": "modelopt_fp4", "mxfp4": "mxfp4", "mxfp4-mxfp8": "mxfp4",
            "mxfp4-bf16": "mxfp4", "int8": "w8a8_int8", "int4-fp8": "w4afp8", "int4-bf16": "awq",
            "int8-bf16": "gptq"}  # fmt: skip


def sglang(job: ServingJob) -> Launch:
    """Launch with SGLang."""
    everything = Arguments()
    commands = []
    for one in job.instances:
        found = Arguments()
        found.set("--model-path", "$MODEL")
        _parallelism(one, job, found)
        _working_point(one, job, found)
        _formats(job, found)
        if job.disaggregated:
            found.set("--disaggregation-mode", one.kind)
        commands.append(Command(title(one), "python -m sglang.launch_server", found.given, role=one.kind))
        everything.lacking += found.lacking
        everything.remarks += found.remarks
    if job.disaggregated:
        everything.remark(ROUTED)
    everything.remark("Over several hosts add --nnodes, --node-rank and --dist-init-addr.")
    return launched(job, "sglang", commands, everything)


def _parallelism(one: InstanceJob, job: ServingJob, found: Arguments) -> None:
    found.set("--tp-size", one.stage_ranks)
    found.when(one.pipeline_parallel > 1, "--pp-size", one.pipeline_parallel)
    found.when(one.data_parallel > 1, "--attn-dp-size", one.data_parallel)
    if one.context_parallel > 1:
        if one.kind == "prefill":
            found.set("--attn-cp-size", one.context_parallel)
            found.set("--enable-prefill-cp")
        else:
            found.set("--dcp-size", one.context_parallel)
    if job.mixture:
        found.set("--ep-size", one.expert_parallel)
        if one.expert_parallel == one.stage_ranks and one.data_parallel > 1:
            found.set("--moe-a2a-backend", "deepep")
    found.when(one.redundant, "--ep-num-redundant-experts", one.redundant)
    found.when(one.micro_batches == 2, "--enable-two-batch-overlap")
    if one.micro_batches > 2:
        found.lacks(f"{one.micro_batches} micro-batches that overlap; it has two")


def _working_point(one: InstanceJob, job: ServingJob, found: Arguments) -> None:
    found.set("--max-running-requests", one.group_batch * one.data_parallel)
    found.when(one.chunk, "--chunked-prefill-size", one.chunk * one.data_parallel)
    found.set("--context-length", job.longest)
    found.set("--mem-fraction-static", round(job.usable_memory, 3))
    found.when(job.block > 1, "--page-size", job.block)
    if drafts(one, job, found):
        found.set("--speculative-algorithm", "NEXTN")
        found.set("--speculative-num-steps", one.draft_tokens)
        found.set("--speculative-eagle-topk", 1)
        found.set("--speculative-num-draft-tokens", one.draft_tokens + 1)


def _formats(job: ServingJob, found: Arguments) -> None:
    if job.kv_format in _KEPT_IN:
        found.set("--kv-cache-dtype", _KEPT_IN[job.kv_format])
    else:
        found.lacks(f"a cache in {job.kv_format}")
    if job.weight_format in AS_STORED:
        return
    if job.weight_format in _WEIGHTS:
        found.set("--quantization", _WEIGHTS[job.weight_format])
        found.remark(quantised(job.weight_format))
    else:
        found.lacks(f"weights in {job.weight_format}")
