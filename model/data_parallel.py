"""Gradient and parameter traffic between replicas, and the optimizer.

ZeRO 0 all-reduces gradients; 1 scatters them and gathers the updated parameters, once a step; 2 scatters every
microbatch; 3 also gathers the weights of every microbatch (model/fully_sharded.py). Source: ZeRO, arXiv:1910.02054;
Megatron-Core's distributed optimizer. An offloaded optimizer updates in the host's memory: gradients go there, weights
come back (ZeRO-Offload, arXiv:2101.06840). Replicas of a dense weight: data x context; of an expert:
tp cp dp / (ep etp).
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import Any

import numpy as np

from model.collective import collective, place
from model.fully_sharded import CORES_TAKEN, ShardTraffic, shard_traffic, shards, waiting_seconds
from model.layout import OFFLOADS, OVERLAPS, SCHEDULES, Layout, has
from model.stack import Stack
from model.stages import mean_stage_weights
from model.system import System
from model.vector import vector
from model.work import SILENCE, Traffic
from model.workload import Training

DATA_KEYS = (
    "tensor_parallel",
    "context_parallel",
    "pipeline_parallel",
    "data_parallel",
    "expert_parallel",
    "expert_tensor_parallel",
    "zero_stage",
    "rank_order",
    "offload",
)
_INTERLEAVED = SCHEDULES.index("interleaved")  # spreads the last backward over all stages
_NEVER_HIDDEN = 0.05  # of overlapped gradient traffic, besides the last bucket
_ZERO_2_NEVER_HIDDEN = 0.03
_OPTIMIZER_BYTES = 40.0  # per local element: fp32 master and moments read and written, gradient read, weight written
_NORM_BYTES = 6.0  # per gradient that a rank holds: norm and clipping


@dataclass(frozen=True, slots=True)
class DataCost:
    """Seconds of each collective over all weights of a mean stage, the optimizer's, and bytes sent per step."""

    reduce_scatter_s: Any
    all_gather_s: Any
    all_reduce_s: Any
    optimizer_s: Any
    reduce_scatter_bytes: Any
    all_gather_bytes: Any
    all_reduce_bytes: Any
    optimizer_hbm_bytes: Any
    shard_gather_s: Any  # ZeRO 3: of a microbatch, layer by layer (model/fully_sharded.py)
    shard_scatter_s: Any
    shard_open_s: Any
    shard_near_gather_s: Any
    shard_near_scatter_s: Any

    @property
    def shard_traffic(self) -> ShardTraffic:
        """Layer by layer."""
        return ShardTraffic(
            self.shard_gather_s, self.shard_scatter_s, self.shard_open_s,
            self.shard_near_gather_s, self.shard_near_scatter_s,
        )  # fmt: skip


def data_cost(system: System, stack: Stack, training: Training, layout: Layout) -> DataCost:
    """Collectives and optimizer of every layout; depends on DATA_KEYS only."""
    model = training.architecture
    weights = mean_stage_weights(model, layout)
    t, p = np.asarray(layout.tensor_parallel, float), np.asarray(layout.pipeline_parallel, float)
    replicas = np.asarray(layout.data_parallel, float) * layout.context_parallel
    inner = np.where(np.asarray(layout.rank_order) == 1, p, 1.0)  # pipeline inside data
    groups = [(weights.dense, place(system, replicas, t * inner), replicas)]
    if model.experts is not None:
        expert = np.asarray(layout.expert_parallel, float) * layout.expert_tensor_parallel
        copies = np.maximum(layout.expert_data_parallel, 1.0)
        groups.append((weights.routed, place(system, copies, expert * inner), copies))
    scatter: Traffic = SILENCE
    gather: Traffic = SILENCE
    reduce_: Traffic = SILENCE
    updated: Any = 0.0
    local: Any = 0.0
    zero = np.asarray(layout.zero_stage)
    sharded, scattered, fully = zero >= 1, zero >= 2, zero >= 3
    traffic = ShardTraffic(*[0.0 * t] * 5)
    if np.any(fully):
        traffic = shard_traffic(system, stack, training, layout, weights)
    layered = astuple(traffic)
    for elements, group, count in groups:
        gradients = elements * stack.gradient_wire_bytes
        scatter = scatter + collective(system, "reduce_scatter", gradients, group)
        gather = gather + collective(system, "all_gather", elements * stack.parameter_wire_bytes, group)
        reduce_ = reduce_ + collective(system, "all_reduce", gradients, group)
        held = np.where(fully, shards(stack, count), count)
        updated = updated + elements / np.where(sharded, held, 1.0)
        local = local + elements / np.where(scattered, held, 1.0)
    if training.frozen_weights:
        still = np.zeros(np.shape(updated))
        fsdp = np.where(np.asarray(layout.zero_stage) >= 3, 1.0, 0.0)
        return DataCost(
            still, gather.seconds * fsdp, still, still, still, gather.link_bytes * fsdp, still, still, *layered
        )
    update, norm = vector(system.chip, updated * _OPTIMIZER_BYTES, 12), vector(system.chip, local * _NORM_BYTES, 6)
    seconds, moved = update.seconds, update.hbm_bytes
    if np.any(layout.offload) and system.host is not None:
        away = has(layout.offload, "optimizer", OFFLOADS)
        crossing = updated * (stack.gradient_bytes + stack.parameter_wire_bytes)
        on_host = crossing / system.host.link_bandwidth + updated * _OPTIMIZER_BYTES / system.host.memory_bandwidth
        on_host = on_host / system.host.achieved_fraction
        seconds, moved = np.where(away, on_host, seconds), np.where(away, crossing, moved)
    return DataCost(
        scatter.seconds, gather.seconds, reduce_.seconds, seconds + norm.seconds,
        scatter.link_bytes, gather.link_bytes, reduce_.link_bytes, moved + norm.hbm_bytes, *layered,
    )  # fmt: skip


def exposed_seconds(
    system: System,
    stack: Stack,
    layout: Layout,
    cost: DataCost,
    layers_per_stage: Any,
    stage_s: Any,
    forward_s: Any,
) -> Any:
    """Seconds of data-parallel traffic that the step waits for.

    Parameters
    ----------
    stage_s : forward and backward of the slowest stage for one microbatch; forward_s : of it, the forward.
    """
    zero = np.asarray(layout.zero_stage)
    m = layout.microbatches
    off = has(layout.overlap_off, "data", OVERLAPS) if np.any(layout.overlap_off) else None
    waited: Any = 0.0 if stack.gather_overlap else np.where(zero == 1, cost.all_gather_s, 0.0)
    once = np.where(zero >= 1, cost.reduce_scatter_s + cost.all_gather_s, cost.all_reduce_s) - waited
    if np.any(stack.gradient_overlap):
        share = stack.gradient_overlap if off is None else np.where(off, 0.0, stack.gradient_overlap)
        behind = np.where(np.asarray(layout.schedule) == _INTERLEAVED, layout.pipeline_parallel, 1.0)
        room = share * np.minimum(m, behind) * stage_s
        last_bucket = once / np.maximum(2.0 * layers_per_stage, 1.0) + _NEVER_HIDDEN * once
        once = np.maximum(once - room, last_bucket)
    once = once + waited
    if not np.any(zero >= 2):
        return once
    share = stack.fsdp_overlap if off is None else np.where(off, 0.0, stack.fsdp_overlap)
    each = m * cost.reduce_scatter_s + cost.all_gather_s
    hidden = share * m * stage_s
    slowed = CORES_TAKEN * system.chip.calibration.communication_slowdown * np.minimum(each, hidden)
    each = np.maximum(each - hidden, _ZERO_2_NEVER_HIDDEN * each) + slowed
    if np.any(zero >= 3):
        waits = waiting_seconds(system, stack, cost.shard_traffic, share, forward_s, stage_s - forward_s)
        each = np.where(zero >= 3, m * waits, each)
    return np.where(zero >= 2, each, once)


def bytes_sent(layout: Layout, cost: DataCost) -> Any:
    """Bytes that one rank sends for data-parallel traffic in a step."""
    zero = np.asarray(layout.zero_stage)
    m = layout.microbatches
    scatters = np.where(zero >= 2, m, 1.0)
    gathers = np.where(zero >= 3, 2.0 * m, 1.0)
    sharded = scatters * cost.reduce_scatter_bytes + gathers * cost.all_gather_bytes
    return np.where(zero >= 1, sharded, cost.all_reduce_bytes)
