r"""Fully sharded data parallelism (ZeRO 3): each layer's weights are gathered as it is needed, one layer ahead.

A layer's gather runs beside the layer before it; in the backward a layer's gradients are scattered, and the weights of
the next gathered, beside another layer's backward. With L like layers, per layer gather g, scatter r, forward f,
backward b (recomputation included) and a share s of compute that hides traffic, a microbatch waits

.. math:: L \max(g - s f, x g) + L \max(g + r - s b, x (g + r)) + g + r + g_e + r_e

where x is what never hides (`Stack.fsdp_exposed`), and g_e and r_e carry embedding and head: nothing runs before the
first gather or after the last scatter. f and b include the time lost beside traffic: to its cores, and to the memory
bandwidth that it takes inside a node. Source: PyTorch FSDP, arXiv:2304.11277, sections 3.3 and 4.3. Collectives are of
a layer's size, and a ring of many nodes has a latency that grows with the nodes (NCCL, src/graph/tuning.cc: all-gather
and reduce-scatter run rings only). Hybrid shards lie on few ranks, such as a node's; each rank's share of the gradients
is then all-reduced between them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from model.collective import collective, place
from model.layout import Layout
from model.stack import Stack
from model.stages import StageWeights
from model.system import System
from model.workload import Training

CORES_TAKEN = 0.5  # of the cores that the chip's calibration gives to collectives: one kernel at a time


@dataclass(frozen=True, slots=True)
class ShardTraffic:
    """Seconds of a microbatch's collectives, layer by layer: of all layers, and of what never hides."""

    gather_s: Any
    scatter_s: Any
    open_s: Any  # the first layer's gather, the last one's scatter, and both of embedding and head
    near_gather_s: Any  # of all layers' gathers at the speed of the scale-up domain
    near_scatter_s: Any


def shard_traffic(
    system: System, stack: Stack, training: Training, layout: Layout, weights: StageWeights
) -> ShardTraffic:
    """Collectives of every layout as ZeRO 3 would run them; `weights` are those of a mean stage."""
    model = training.architecture
    outer = tuple(replace(tier, bandwidth=tier.bandwidth * stack.fsdp_rate) for tier in system.tiers[1:])
    slowed = replace(system, tiers=(system.tiers[0], *outer))
    t, p = np.asarray(layout.tensor_parallel, float), np.asarray(layout.pipeline_parallel, float)
    replicas = np.asarray(layout.data_parallel, float) * layout.context_parallel
    tables = np.where((p > 1) | model.tied_embeddings, 1.0, 2.0) * model.vocabulary * model.hidden / t
    layers = model.layers / p
    parts = [((weights.dense - tables) / layers, tables, replicas, t)]
    if model.experts is not None:
        expert = np.asarray(layout.expert_parallel, float) * layout.expert_tensor_parallel
        parts.append((weights.routed / layers, 0.0 * tables, np.maximum(layout.expert_data_parallel, 1.0), expert))
    gather: Any = 0.0
    scatter: Any = 0.0
    ends: Any = 0.0
    near_gather: Any = 0.0
    near_scatter: Any = 0.0
    for layer, table, ranks, stride in parts:
        one = _gather_and_scatter(slowed, stack, layer, ranks, stride)
        both = _gather_and_scatter(slowed, stack, table, ranks, stride)
        gather, scatter, ends = gather + one[0], scatter + one[1], ends + both[0] + both[1]
        near = _inside_domain(system, stack, layer, ranks, stride)
        near_gather, near_scatter = near_gather + near[0], near_scatter + near[1]
    if training.frozen_weights:
        scatter, ends, near_scatter = 0.0 * scatter, 0.5 * ends, 0.0 * near_scatter
    return ShardTraffic(
        layers * gather, layers * scatter, gather + scatter + ends, layers * near_gather, layers * near_scatter
    )


def shards(stack: Stack, ranks: Any) -> Any:
    """Ranks that hold one copy of the weights, of `ranks` replicas."""
    return np.minimum(ranks, stack.shard_ranks) if stack.shard_ranks else ranks


def _inside_domain(system: System, stack: Stack, elements: Any, ranks: Any, stride: Any) -> tuple[Any, Any]:
    """Seconds to gather and to scatter a layer where all its ranks lay in one scale-up domain."""
    if not np.any(stack.fsdp_contention):
        return 0.0 * np.asarray(elements), 0.0 * np.asarray(elements)
    group = place(system, place(system, shards(stack, ranks), stride).inside[0], stride)
    gather = collective(system, "all_gather", elements * stack.parameter_wire_bytes, group).seconds
    return gather, collective(system, "reduce_scatter", elements * stack.gradient_wire_bytes, group).seconds


def _gather_and_scatter(system: System, stack: Stack, elements: Any, ranks: Any, stride: Any) -> tuple[Any, Any]:
    """Seconds to gather `elements` of weights and to scatter their gradients among ranks `stride` apart."""
    holders = shards(stack, ranks)
    group = place(system, holders, stride)
    gradients = elements * stack.gradient_wire_bytes
    gather = collective(system, "all_gather", elements * stack.parameter_wire_bytes, group).seconds
    scatter = collective(system, "reduce_scatter", gradients, group).seconds
    ring = stack.fsdp_node_s * (holders / group.inside[0] - 1.0) * (np.asarray(elements) > 0)
    if stack.shard_ranks:
        across = place(system, ranks / holders, stride * holders)
        reduced = collective(system, "all_reduce", gradients / holders, across).seconds
        scatter = np.maximum(scatter, reduced - gather)  # on wires of its own, beside both
    return gather + ring, scatter + ring


def waiting_seconds(
    system: System, stack: Stack, traffic: ShardTraffic, share: Any, forward_s: Any, backward_s: Any
) -> Any:
    """Seconds that a microbatch waits for its weights and gradients, and by which it slows beside their traffic.

    Compute that slows down hides more: a pass takes the longer of its slowed compute and of its traffic.

    Parameters
    ----------
    share : of compute that hides traffic; forward_s, backward_s : of all layers and the model's ends
    """
    taken = CORES_TAKEN * system.chip.calibration.communication_slowdown
    waits = traffic.open_s
    for compute, sent, near in (
        (forward_s, traffic.gather_s, traffic.near_gather_s),
        (backward_s, traffic.gather_s + traffic.scatter_s, traffic.near_gather_s + traffic.near_scatter_s),
    ):
        room = share * compute
        slowed = taken * np.minimum(sent, room) + stack.fsdp_contention * np.minimum(near, room)
        waits = waits + slowed + np.maximum(sent - share * (compute + slowed), stack.fsdp_exposed * sent)
    return waits
