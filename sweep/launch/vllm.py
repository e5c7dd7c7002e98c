"""Options of vLLM, and of vllm-ascend, which takes them and some of its own as a JSON text.

vLLM divides the experts over all ranks of an instance, tensor times prefill-context times data, or not at all.
"""

from __future__ import annotations

import json

from sweep.launch.arguments import Arguments, Command, Launch, Value
from sweep.launch.jobs import InstanceJob, ServingJob
from sweep.launch.serving import AS_STORED, ROUTED, drafts, launched, quantised, title

_KEPT_IN = {"bf16": "auto", "fp16": "float16", "fp8": "fp8", "int8": "int8_per_token_head", "fp4": "nvfp4"}
_WEIGHTS = {"fp8": "fp8", "mxfp8": "mxfp8", "nvfp4": "modelopt_fp4", "mxfp4": "mxfp4", "mxfp4-mxfp8": "mxfp4",
            "mxfp4-bf16": "mxfp4", "int8": "compressed-tensors", "int4-bf16": "compressed-tensors",
            "int8-bf16": "compressed-tensors"}  # fmt: skip


def vllm(job: ServingJob) -> Launch:
    """Launch with vLLM."""
    return _launch(job, "vllm")


def vllm_ascend(job: ServingJob) -> Launch:
    """Launch with vLLM on Ascend."""
    return _launch(job, "vllm-ascend")


def _launch(job: ServingJob, name: str) -> Launch:
    ascend = name == "vllm-ascend"
    everything = Arguments()
    commands = []
    for one in job.instances:
        found = Arguments()
        _parallelism(one, job, found, ascend)
        _working_point(one, job, found)
        _formats(job, found, ascend)
        if job.disaggregated:
            role = "kv_producer" if one.kind == "prefill" else "kv_consumer"
            connector = "MooncakeConnectorV1" if ascend else "NixlConnector"
            text = {"kv_connector": connector, "kv_role": role if ascend else "kv_both"}
            found.set("--kv-transfer-config", json.dumps(text))
        commands.append(Command(title(one), 'vllm serve "$MODEL"', found.given, role=one.kind))
        everything.lacking += found.lacking
        everything.remarks += found.remarks
    if job.disaggregated:
        everything.remark(ROUTED)
    everything.remark("One command is one instance; over several hosts add --data-parallel-address, "
                      "--data-parallel-size-local and --data-parallel-start-rank of each host.")  # fmt: skip
    return launched(job, name, commands, everything)


def _parallelism(one: InstanceJob, job: ServingJob, found: Arguments, ascend: bool) -> None:
    prompts_only = one.kind == "prefill"
    # of a decode group, context parallelism shares the ranks of tensor parallelism; of prompts it has its own
    found.set("--tensor-parallel-size", one.tensor_parallel * (1 if prompts_only else one.context_parallel))
    found.when(one.pipeline_parallel > 1, "--pipeline-parallel-size", one.pipeline_parallel)
    found.when(one.data_parallel > 1, "--data-parallel-size", one.data_parallel)
    if one.context_parallel > 1:
        option = "--prefill-context-parallel-size" if prompts_only else "--decode-context-parallel-size"
        found.set(option, one.context_parallel)
        if not prompts_only:
            found.lacks("a cache divided over ranks whose linear layers are not; the command divides both")
    if job.mixture:
        whole = one.expert_parallel == one.stage_ranks
        found.when(whole and one.stage_ranks > 1, "--enable-expert-parallel")
        if not whole and one.expert_parallel > 1:
            found.set("--enable-expert-parallel")
            found.lacks(f"experts over {one.expert_parallel} ranks, each divided over {one.expert_tensor_parallel}; "
                        f"the command lays whole experts over all {one.stage_ranks}")  # fmt: skip
        elif not whole and one.data_parallel > 1:
            found.remark("Without expert parallelism each expert is divided over all ranks.")
    if one.redundant:
        if ascend:
            balance = {"dynamic_eplb": True, "num_redundant_experts": one.redundant}
            found.set("--additional-config", json.dumps({"eplb_config": balance}))
        else:
            found.set("--enable-eplb")
            found.set("--eplb-config", json.dumps({"num_redundant_experts": one.redundant}))
    if one.micro_batches == 2 and not ascend:
        found.set("--enable-dbo")
    elif one.micro_batches > 1:
        found.lacks(f"{one.micro_batches} micro-batches that overlap{'' if ascend else '; it has two'}")


def _working_point(one: InstanceJob, job: ServingJob, found: Arguments) -> None:
    found.set("--max-num-seqs", one.group_batch)
    tokens = one.chunk or one.group_batch * (1 + one.draft_tokens)
    found.set("--max-num-batched-tokens", max(tokens, one.group_batch * (1 + one.draft_tokens)))
    found.set("--max-model-len", job.longest)
    found.set("--gpu-memory-utilization", round(job.usable_memory, 3))
    found.when(job.block > 1, "--block-size", job.block)
    if drafts(one, job, found):
        text = {"method": "mtp", "num_speculative_tokens": one.draft_tokens}
        found.set("--speculative-config", json.dumps(text))


def _formats(job: ServingJob, found: Arguments, ascend: bool) -> None:
    kept: Value | None = _KEPT_IN.get(job.kv_format)
    if kept is None or (ascend and job.kv_format not in AS_STORED):
        found.lacks(f"a cache in {job.kv_format}")
    else:
        found.set("--kv-cache-dtype", kept)
    if job.weight_format in AS_STORED:
        return
    quantisation = "ascend" if ascend and job.weight_format == "int8" else _WEIGHTS.get(job.weight_format)
    if quantisation is None or (ascend and job.weight_format != "int8"):
        found.lacks(f"weights in {job.weight_format}")
    else:
        found.set("--quantization", quantisation)
        found.remark(quantised(job.weight_format))
