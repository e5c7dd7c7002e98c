"""Arguments of MindSpeed-LLM: those of an older Megatron, and its own."""

from __future__ import annotations

from sweep.launch.arguments import Arguments, Launch
from sweep.launch.jobs import TrainingJob
from sweep.launch.megatron import (
    balanced,
    launched,
    lost_schedule,
    measuring,
    model_arguments,
    number_format,
    parallelism,
)

# Modules that are computed anew, as switches.
_RECOMPUTE_SWITCHES = {
    "norm": "--recompute-norm",
    "mla_up_projection": "--recompute-mla-up-proj",
    "activation": "--recompute-activation-function",
}


def mindspeed_llm(job: TrainingJob) -> Launch:
    """Launch with MindSpeed-LLM."""
    found = Arguments()
    model, layout = job.model, job.layout
    found.set("--use-mcore-models")
    model_arguments(job, found)
    if model.experts is not None:
        found.when(model.experts.dense_layers, "--first-k-dense-replace", model.experts.dense_layers)
        found.set("--moe-layer-freq", model.experts.every)
        found.set("--moe-token-dispatcher-type", "alltoall")
    if model.window:
        found.set("--sliding-window", model.window)
        if 1 < model.full_attention_every <= model.layers:
            found.lacks(
                f"full attention in one layer of {model.full_attention_every}; check --interleave-sliding-window"
            )
    if model.sparse is not None:
        found.set("--enable-dsa-indexer")
        found.set("--index-n-heads", model.sparse.index_heads)
        found.set("--index-head-dim", model.sparse.index_head)
        found.set("--index-topk", model.sparse.keys)
    found.when(job.stack.fused_attention, "--use-flash-attn")
    parallelism(job, found)
    _mindspeed_stages(job, found)
    if int(layout.context_parallel) > 1:
        around = job.context_exchange == "all_to_all"
        found.set("--context-parallel-algo", "ulysses_cp_algo" if around else "megatron_cp_algo")
    if int(layout.zero_stage) >= 2:
        found.lacks(f"ZeRO stage {int(layout.zero_stage)} of a Megatron model; the script shards the optimizer only")
    _mindspeed_memory(job, found)
    overlapped = job.stack.tensor_overlap > 0 and job.overlaps("tensor")
    found.when(overlapped and int(layout.sequence_parallel), "--use-ascend-mc2")
    if model.experts is not None and job.stack.expert_overlap > 0 and job.overlaps("expert"):
        both_ways = job.schedule == "dualpipe"
        found.set("--moe-fb-overlap" if both_ways else "--moe-alltoall-overlap-comm")
    if job.schedule == "dualpipe" and int(layout.pipeline_parallel) > 1:
        found.set("--schedules-method", "dualpipev")
        found.lacks("DualPipe with two copies of the weights; the script runs DualPipeV, its V-shaped form with one")
    number_format(job, found, fp4=False)
    lost_schedule(job, found, ("dualpipe",))
    balanced(job, found)
    measuring(job, found)
    return launched(job, "mindspeed-llm", found)


def _mindspeed_stages(job: TrainingJob, found: Arguments) -> None:
    """Layers of the stages: a list without model chunks, layers that do nothing with them."""
    chunks, vp = job.chunk_layers, int(job.layout.virtual_stages)
    if vp > 1:
        most = max(chunks)
        found.set("--num-layers-per-virtual-pipeline-stage", most)
        idle = [str(number * most + most - 1) for number, layers in enumerate(chunks) if layers < most]
        if idle:
            found.set("--num-layers", most * len(chunks))
            found.set("--noop-layers", ",".join(idle))
            found.remark(f"{len(idle)} of the layers do nothing: they fill the shorter model chunks up.")
    elif len(set(chunks)) > 1:
        found.set("--num-layer-list", ",".join(map(str, chunks)))


def _mindspeed_memory(job: TrainingJob, found: Arguments) -> None:
    """Recomputation and offloading."""
    if "full" in job.recompute:
        found.set("--recompute-granularity", "full")
        found.set("--recompute-method", "uniform")
        found.set("--recompute-num-layers", 1)
    else:
        for name in job.recompute:
            if name == "core_attention":
                found.set("--recompute-granularity", "selective")
            elif name in _RECOMPUTE_SWITCHES:
                found.set(_RECOMPUTE_SWITCHES[name])
            else:
                found.lacks(f"recomputation of {name} alone")
    found.when("optimizer" in job.offload, "--swap-optimizer")
    if "activations" in job.offload:
        found.set("--swap-attention")
        found.remark("Activations of attention are swapped, not those of the whole layer as predicted.")
