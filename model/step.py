"""One training step of every layout: time by cause, memory, energy, violations.

The step is assembled from costs that depend on few of a layout's fields each: a layer's (LAYER_KEYS), the ends' (the
same fields), and data-parallel traffic (DATA_KEYS). `training_step` computes them for the layouts as given;
model/evaluate.py computes each once per distinct combination and gathers. Both run the same functions.

Step time of a pipeline: m max_i(tau_i) + bubble + exposed data-parallel traffic + optimizer + fixed, where the bubble
of 1F1B is the other stages' time once, sum_i(tau_i) - max_i(tau_i). Source: arXiv:2104.04473, arXiv:2401.10241.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import Any

import numpy as np

from model.architecture import Architecture
from model.attention import mean_keys
from model.chip import FORMATS
from model.collective import transfer
from model.cost import StepCost, TimeParts
from model.data_parallel import DataCost, bytes_sent, data_cost, exposed_seconds
from model.energy import Energy
from model.head import EndCost, end_cost
from model.layer import LayerCost, layer_cost
from model.layout import OFFLOADS, Layout, has
from model.legality import violations
from model.memory import Memory, memory
from model.pipeline import PipelineTimes, bubble_seconds
from model.stack import Stack
from model.stages import Stage, Stages, split
from model.system import System
from model.workload import Training

_NODE = 8.0  # ranks whose stragglers the stack's `compute_slowdown` holds
_WEIGHT_BYTES = 2.0  # of an element in a checkpoint, beside its optimizer state


@dataclass(frozen=True, slots=True)
class LocalCosts:
    """What a rank does for one microbatch: a dense layer, a mixture layer, the ends of the model."""

    dense: LayerCost
    mixture: LayerCost
    ends: EndCost


def local_costs(system: System, stack: Stack, training: Training, layout: Layout) -> LocalCosts:
    """Layer and end costs of every layout; they depend on LAYER_KEYS only."""
    model = training.architecture
    dense = layer_cost(system, stack, training, layout, mixture_layer=False)
    mixture = layer_cost(system, stack, training, layout, mixture_layer=True) if model.experts else dense
    return LocalCosts(dense, mixture, end_cost(system, stack, training, layout, mixture))


@dataclass(frozen=True, slots=True)
class _Slowest:
    """Seconds of the slowest stage for one microbatch, by cause, and of the whole model."""

    compute: Any
    tensor: Any
    context: Any
    expert: Any
    host: Any
    total: Any  # of all causes
    whole_s: Any  # all stages together, ends included
    forward_s: Any = 0.0  # of the total, where a layout asks for it; see _with_passes
    offload: Any = 0.0


def _paced(stage: Stage, local: LocalCosts, ends_s: Any, share: Any, whole_s: Any) -> _Slowest:
    """Seconds by cause of 1/`share` of a stage's layers and ends."""
    dense, mixture = local.dense, local.mixture
    causes = {
        "compute": (stage.of(dense.compute_s, mixture.compute_s) + ends_s) / share,
        "tensor": stage.of(dense.tensor_s, mixture.tensor_s) / share,
        "context": stage.of(dense.context_s, mixture.context_s) / share,
        "expert": stage.of(dense.expert_s, mixture.expert_s) / share,
        "host": stage.of(dense.host_s, mixture.host_s) / share,
    }
    return _Slowest(**causes, total=reduce(add, causes.values()), whole_s=whole_s)


def _stage_seconds(stage: Stage, local: LocalCosts) -> Any:
    """Forward and backward of a stage's layers for one microbatch."""
    return stage.of(local.dense.forward_s + local.dense.backward_s, local.mixture.forward_s + local.mixture.backward_s)


def _at_the_ends(stages: Stages, local: LocalCosts, single: Any, ends_s: Any, head_s: Any) -> tuple[Any, Any]:
    """Where the first stage of an even split sets the pace, and where the last does."""
    times = (
        _stage_seconds(stages.first, local) + np.where(single, ends_s, local.ends.embedding_s),
        _stage_seconds(stages.middle, local),
        _stage_seconds(stages.last, local) + head_s,
    )
    first = single | ((times[0] >= times[1]) & (times[0] >= times[2]))
    return first, ~first & (times[2] >= times[1])


def _slowest_stage(model: Architecture, stack: Stack, layout: Layout, local: LocalCosts) -> _Slowest:
    """The stage that sets the pace: first, middle or last of an even split, or a balanced split's."""
    stages = split(model, layout)
    p = np.asarray(layout.pipeline_parallel, float)
    whole = Stage(np.asarray(float(model.dense_layers)), np.asarray(float(model.moe_layers)))
    head = local.ends.head_forward_s + local.ends.head_backward_s
    ends = head + local.ends.embedding_s
    whole_s = _stage_seconds(whole, local) + ends
    if stack.balanced_stages:
        # layers are whole: no stage is faster than the fullest one's layers, however the ends are placed
        fullest = np.ceil(model.layers / p) / model.layers * (whole_s - ends)
        return _paced(whole, local, ends, np.minimum(p, whole_s / fullest), whole_s)
    single = p <= 1
    first, last = _at_the_ends(stages, local, single, ends, head)
    dense = np.where(first, stages.first.dense, np.where(last, stages.last.dense, stages.middle.dense))
    mixture = np.where(first, stages.first.mixture, np.where(last, stages.last.mixture, stages.middle.mixture))
    chosen = Stage(dense, mixture)
    own_ends = np.where(single, ends, np.where(first, local.ends.embedding_s, np.where(last, head, 0.0)))
    return _paced(chosen, local, own_ends, 1.0, whole_s)


def _transfer_seconds(
    system: System, stack: Stack, training: Training, layout: Layout, ends: EndCost
) -> tuple[Any, Any]:
    """Seconds of one stage boundary in one direction: exposed between microbatches, and whole.

    While the pipeline fills and drains there is nothing to hide a transfer behind.
    """
    t = np.asarray(layout.tensor_parallel, float)
    tokens = np.asarray(layout.micro_batch, float) * training.sequence / layout.context_parallel
    shared = (np.asarray(layout.sequence_parallel) > 0) | stack.scatter_gather
    sent = 2.0 * tokens * training.architecture.hidden / np.where(shared, t, 1.0)
    inside = t * layout.context_parallel
    stride = np.where(np.asarray(layout.rank_order) == 0, inside * layout.data_parallel, inside)
    seconds = transfer(system, sent, stride, layout.pipeline_parallel).seconds + ends.boundary_gather_s
    staged = np.asarray(layout.pipeline_parallel) > 1
    exposed = np.where(staged, seconds * stack.pipeline_exposed + stack.transfer_sync_s, 0.0)
    return exposed, np.where(staged, seconds + stack.transfer_sync_s, 0.0)


def _with_passes(layout: Layout, local: LocalCosts, slowest: _Slowest, whole: Stage, share: Any) -> _Slowest:
    """The slowest stage with the forward's part of its seconds.

    Without a pipeline the parts are known. Of the stage that sets the pace, which may be another on another machine,
    the forward is `share`, by FLOPs: both parts rise and fall with the stage's time. Only gathers of ZeRO-3 and
    offloaded activations ask for them.
    """
    if not (np.any(layout.offload) or np.any(np.asarray(layout.zero_stage) >= 3)):
        return slowest
    alone = whole.of(local.dense.forward_s, local.mixture.forward_s) + local.ends.head_forward_s
    return replace(slowest, forward_s=np.where(layout.pipeline_parallel > 1, share * slowest.total, alone))


def _offloaded(
    system: System, stack: Stack, layout: Layout, local: LocalCosts, slowest: _Slowest, whole: Stage, share: Any
) -> _Slowest:
    """The slowest stage, and the whole, with what stages wait for activations on their way to the host and back.

    They leave beside the forward, `share` of the other stages' time, and return beside the backward. Source: activation
    offloading as in Calculon, Isaev et al., SC 2023 (doi:10.1145/3581784.3607102).
    """
    if system.host is None or not np.any(layout.offload):
        return slowest
    p = np.asarray(layout.pipeline_parallel, float)
    saved = stack.offload_share * whole.of(local.dense.saved_bytes, local.mixture.saved_bytes) / p
    seconds = saved / (system.host.link_bandwidth * system.host.achieved_fraction)
    away = has(layout.offload, "activations", OFFLOADS)

    def wait(pass_s: Any) -> Any:
        return np.where(away, np.maximum(seconds - pass_s, 0.0), 0.0)

    other = np.maximum(slowest.whole_s - slowest.total, 0.0) / np.maximum(p - 1.0, 1.0)
    leaving = wait(slowest.forward_s)
    waits = leaving + wait(slowest.total - slowest.forward_s)
    waits_elsewhere = (p - 1.0) * (wait(share * other) + wait((1.0 - share) * other))
    return replace(
        slowest,
        total=slowest.total + waits,
        forward_s=slowest.forward_s + leaving,
        offload=waits,
        whole_s=slowest.whole_s + waits + waits_elsewhere,
    )


def _straggling(stack: Stack, layout: Layout, slowest: _Slowest) -> _Slowest:
    """The slowest stage, and the whole, with what each stage waits for the slowest of its fellow nodes.

    All wait for the slowest of the nodes in each step, and the expected maximum of a normal spread grows about linearly
    in the logarithm of their number: `stack.straggling` for each doubling. What a node of eight loses inside is part of
    `compute_slowdown`. Seen in weak-scaling series of up to 2,304 H100 (NVIDIA DGX Cloud recipes, NeMo 24.11 to 25.04):
    the step grows by 0.45 % a doubling in 16 bits and 0.8 % in 8, its traffic that does not hide by 0.02 %.
    """
    if not stack.straggling:
        return slowest
    share = stack.straggling * np.log2(np.maximum(layout.ranks / _NODE, 1.0))
    return replace(
        slowest,
        compute=slowest.compute + share * slowest.total,
        total=slowest.total * (1.0 + share),
        forward_s=slowest.forward_s * (1.0 + share),
        whole_s=slowest.whole_s * (1.0 + share),
    )


def _mean_rank(model: Architecture, layout: Layout, local: LocalCosts, time: TimeParts) -> tuple[Any, Any]:
    """Seconds of a step that kernels of the mean rank run, and that it waits for communication.

    Every stage has its share of the layers; what the slowest has beyond it, the others wait.
    """
    whole = Stage(float(model.dense_layers), float(model.moe_layers))
    dense, mixture, ends = local.dense, local.mixture, local.ends
    passes = layout.microbatches / np.asarray(layout.pipeline_parallel, float)
    kernels = whole.of(dense.compute_s, mixture.compute_s)
    kernels = kernels + (ends.head_forward_s + ends.head_backward_s + ends.embedding_s)
    exchanged = whole.of(
        dense.tensor_s + dense.context_s + dense.expert_s, mixture.tensor_s + mixture.context_s + mixture.expert_s
    )
    return passes * kernels, passes * exchanged + (time.transfer + time.data)


def _pipelined(
    system: System, stack: Stack, training: Training, layout: Layout, local: LocalCosts
) -> tuple[_Slowest, Any, PipelineTimes]:
    """The slowest stage, exposed transfers of a microbatch on a stage, and what the schedule's rules need."""
    model = training.architecture
    p = np.asarray(layout.pipeline_parallel, float)
    v = np.asarray(layout.virtual_stages, float)
    slowest = _slowest_stage(model, stack, layout, local)
    boundary, idle_boundary = _transfer_seconds(system, stack, training, layout, local.ends)
    whole = Stage(float(model.dense_layers), float(model.moe_layers))
    transfers = 2.0 * v * boundary
    dense, mixture = local.dense, local.mixture
    executed = whole.of(dense.matrix_joules, mixture.matrix_joules)
    forward_share = whole.of(dense.forward_joules, mixture.forward_joules) / executed
    slowest = _with_passes(layout, local, slowest, whole, forward_share)
    slowest = _offloaded(system, stack, layout, local, slowest, whole, forward_share)
    slowest = _straggling(stack, layout, slowest)
    pipeline = PipelineTimes(
        stages=p,
        chunks=v,
        microbatches=layout.microbatches,
        stage_s=slowest.total,
        forward_share=forward_share,
        weight_share=whole.of(dense.weight_joules, mixture.weight_joules) / executed,
        other_stages_s=np.maximum(slowest.whole_s - slowest.total, 0.0) + (p - 1.0) * 2.0 * v * idle_boundary,
    )
    return slowest, transfers, pipeline


def pipeline_times(
    system: System, stack: Stack, training: Training, layout: Layout
) -> tuple[PipelineTimes, Any, tuple[Any, Any]]:
    """What a step's schedule is costed from: its times, exposed transfers, and which stage sets the pace.

    Transfers are the seconds of a microbatch on each stage, both ways; the pace is the first stage's, the last one's
    (two masks), or that of those between. Where stages are evened out all have the same.
    """
    local = local_costs(system, stack, training, layout)
    _, transfers, pipeline = _pipelined(system, stack, training, layout, local)
    head = local.ends.head_forward_s + local.ends.head_backward_s
    single = np.asarray(layout.pipeline_parallel) <= 1
    ends = head + local.ends.embedding_s
    place = _at_the_ends(split(training.architecture, layout), local, single, ends, head)
    return pipeline, transfers, place


def _times(
    system: System, stack: Stack, training: Training, layout: Layout, local: LocalCosts, data: DataCost
) -> TimeParts:
    """Seconds of the step by cause."""
    slowest, transfers, pipeline = _pipelined(system, stack, training, layout, local)
    m = layout.microbatches
    p = np.asarray(layout.pipeline_parallel, float)
    # gathers hide behind all that a stage does and waits for on its own
    layers = training.architecture.layers / p
    exposed = exposed_seconds(system, stack, layout, data, layers, slowest.total, slowest.forward_s)
    return TimeParts(
        compute=m * slowest.compute,
        tensor=m * slowest.tensor,
        context=m * slowest.context,
        expert=m * slowest.expert,
        host=m * slowest.host,
        offload=m * slowest.offload,
        transfer=m * transfers,
        bubble=bubble_seconds(layout.schedule, pipeline),
        data=exposed,
        optimizer=data.optimizer_s,
        fixed=np.asarray(stack.step_fixed_s),
    )


def model_flops_per_token(model: Architecture, sequence: float) -> float:
    """Model FLOPs per token: 6 per active weight outside the embedding, and causal attention at half, times 3.

    The convention of Megatron-Bridge and Llama 3 (arXiv:2407.21783); Narayanan et al. and Korthikanti et al. count the
    full square, so compare step times across sources, never MFU.
    """
    table = model.vocabulary * model.hidden
    weights = model.active_parameters - (0 if model.tied_embeddings else table)
    keys = float(mean_keys(sequence, model.window, model.full_attention_every))
    attention = 2.0 * model.layers * model.heads * (model.query_key_head + model.value_head) * keys
    return 6.0 * weights + 3.0 * attention


def assemble(
    system: System, stack: Stack, training: Training, layout: Layout, local: LocalCosts, data: DataCost
) -> StepCost:
    """The step's cost from its parts. Of what a layout may break it judges memory alone; `judged` adds legality."""
    model = training.architecture
    time = _times(system, stack, training, layout, local, data)
    used = memory(stack, training, layout, local.dense, local.mixture, local.ends)
    seconds, ranks = time.total, layout.ranks
    whole = Stage(float(model.dense_layers), float(model.moe_layers))
    replicas = np.asarray(layout.tensor_parallel) * layout.context_parallel * layout.data_parallel
    passes = layout.microbatches * replicas
    matrix = whole.of(local.dense.matrix_joules, local.mixture.matrix_joules) + local.ends.matrix_joules
    moved = whole.of(local.dense.hbm_bytes, local.mixture.hbm_bytes) + local.ends.hbm_bytes
    sent = whole.of(local.dense.link_bytes, local.mixture.link_bytes)
    per_byte, per_link_byte = system.chip.power.joule_per_hbm_byte, system.chip.power.joule_per_link_byte
    tokens = np.asarray(layout.global_batch, float) * training.sequence
    work_s, exchange_s = _mean_rank(model, layout, local, time)
    return StepCost(
        step_time=seconds,
        time=time,
        memory=used,
        energy=Energy(
            system, seconds, ranks, matrix * passes, moved * passes * per_byte, sent * passes * per_link_byte,
            work_s, exchange_s, data.optimizer_hbm_bytes * ranks * per_byte,
            bytes_sent(layout, data) * ranks * per_link_byte, time.optimizer,
        ),
        tokens=tokens,
        model_flops=tokens * model_flops_per_token(model, training.attended),
        peak_flops=ranks * system.chip.peak_flops.get(FORMATS[training.number_format].peak, np.nan),
        packages=ranks * system.packages_per_rank,
        saved_bytes=model.parameters * (_WEIGHT_BYTES + stack.optimizer_bytes) / ranks,
        violations=_over(system, stack, used),
    )  # fmt: skip


def _over(system: System, stack: Stack, used: Memory) -> dict[str, Any]:
    """Bytes over the share of HBM that may be planned, and over the host's memory; negative: bytes left."""
    return {
        "hbm_bytes": used.total - stack.usable_memory * system.chip.hbm_bytes,
        "host_bytes": np.asarray(used.host_bytes - (system.host.memory_bytes if system.host else 0.0)),
    }


def training_step(system: System, stack: Stack, training: Training, layout: Layout) -> StepCost:
    """Cost of one optimizer step for every layout (scalars, a flat list or an open mesh).

    Raises KeyError where the chip does not run the workload's number format (see Chip.supports).
    """
    local = local_costs(system, stack, training, layout)
    data = data_cost(system, stack, training, layout)
    return judged(training, layout, assemble(system, stack, training, layout, local, data))


def judged(training: Training, layout: Layout, cost: StepCost) -> StepCost:
    """The cost with the rules of legality that its layouts break."""
    return replace(cost, violations=violations(training, layout) | cost.violations)
