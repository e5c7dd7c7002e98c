"""Memory of the fullest rank: states, activations, logits, buffers (worst of the first, the second and the last stage).

States per weight element: weights, gradients and optimizer state, each divided over the replicas from ZeRO stage 3, 2
and 1 on (arXiv:1910.02054): 18 bytes in mixed precision with fp32 gradients, 6 + 12/n with a sharded optimizer.
Activations: what the layers save (model/modules.py), times the microbatches in flight (model/pipeline.py). Offloaded
state lies in the host's memory; of offloaded activations two layers' stay, one at work and one on its way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from model.cost import MemoryParts
from model.fully_sharded import shards
from model.head import EndCost
from model.layer import LayerCost
from model.layout import OFFLOADS, Array, Layout, has
from model.pipeline import in_flight, weight_copies
from model.stack import Stack
from model.stages import Stage, StageWeights, split, stage_weights
from model.workload import Training

_WEIGHT_BYTES = 2.0
_WORKING_COPIES = 8.0  # 16-bit tensors of T x h alive inside a layer


def _states(stack: Stack, layout: Layout, weights: StageWeights, frozen: bool) -> tuple[Any, Any, Any]:
    """Bytes of weights, gradients and optimizer state of a stage."""
    zero = np.asarray(layout.zero_stage)
    copies = weight_copies(layout.schedule)
    groups = (
        (weights.dense, np.asarray(layout.data_parallel, float) * layout.context_parallel),
        (weights.routed, np.maximum(layout.expert_data_parallel, 1.0)),
    )
    held: Any = 0.0
    gradients: Any = 0.0
    optimizer: Any = 0.0
    for elements, replicas in groups:
        holders = np.where(zero >= 3, shards(stack, replicas), replicas)
        held = held + copies * _WEIGHT_BYTES * elements / np.where(zero >= 3, holders, 1.0)
        if frozen:
            continue
        gradients = gradients + copies * stack.gradient_bytes * elements / np.where(zero >= 2, holders, 1.0)
        optimizer = optimizer + stack.optimizer_bytes * elements / np.where(zero >= 1, holders, 1.0)
    return held, gradients, optimizer


def _buffers(training: Training, layout: Layout, stage: Stage, weights: StageWeights) -> Any:
    """Working tensors of the layer in progress, and two gathered layers under ZeRO-3."""
    model = training.architecture
    tokens = np.asarray(layout.micro_batch, float) * training.sequence / layout.context_parallel
    working = 2.0 * _WORKING_COPIES * tokens * model.hidden
    if model.experts is not None:
        working = working + 8.0 * tokens / layout.tensor_parallel * model.experts.per_token * model.hidden
    layers = np.maximum(stage.dense + stage.mixture, 1.0)
    gathered = 2.0 * _WEIGHT_BYTES * (weights.dense + weights.routed) / layers
    return working + np.where(np.asarray(layout.zero_stage) >= 3, gathered, 0.0)


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes on the fullest rank of every layout: the parts of a rank of the first, the second and the last stage.

    The total is a maximum of sums; which of the three it is, and its parts, only those layouts need that are kept.
    """

    stages: tuple[tuple[Any, ...], ...]  # parts of each, in the order of MemoryParts
    base: float
    host_bytes: Any  # in the host's memory

    @property
    def _sums(self) -> list[Any]:
        return [sum(parts[1:], parts[0]) for parts in self.stages]

    @property
    def total(self) -> Array:
        """Bytes."""
        first, second, last = self._sums
        return np.asarray(np.maximum(np.maximum(first, second), last) + self.base)

    @property
    def split(self) -> MemoryParts:
        """The parts of the total."""
        most, fullest = self._sums[0], self.stages[0]
        for used, parts in zip(self._sums[1:], self.stages[1:], strict=True):
            more = used > most
            fullest = tuple(np.where(more, new, old) for new, old in zip(parts, fullest, strict=True))
            most = np.maximum(used, most)
        return MemoryParts(*(*fullest, self.base))

    def parts(self) -> dict[str, Array]:
        """Part name -> array."""
        return self.split.parts()


def memory(
    stack: Stack, training: Training, layout: Layout, dense: LayerCost, mixture: LayerCost, ends: EndCost
) -> Memory:
    """Bytes on the fullest rank of every layout, and in its host's memory.

    The first stage holds the embedding and the most microbatches, the last one the head; in between, the second stage
    holds the most microbatches, and all of its layers may be mixtures.
    """
    model = training.architecture
    stages = split(model, layout)
    p = np.asarray(layout.pipeline_parallel, float)
    logits = ends.logits_bytes * (1.0 + model.mtp_layers)
    extra = float(model.mtp_layers) * (mixture if model.experts else dense).saved_bytes
    single = p <= 1
    places = (0.0 * p, np.minimum(1.0, p - 1.0), p - 1.0)
    candidates: list[tuple[Any, ...]] = []
    away: Any = 0.0
    for stage, weights, at in zip(
        (stages.first, stages.middle, stages.last), stage_weights(model, layout, stages), places, strict=True
    ):
        ending = at >= p - 1.0  # the last stage, or the only one
        flying = in_flight(layout.schedule, p, np.asarray(layout.virtual_stages, float), layout.microbatches, at)
        saved = stage.of(dense.saved_bytes, mixture.saved_bytes) + np.where(ending, extra, 0.0)
        held, gradients, optimizer = _states(stack, layout, weights, training.frozen_weights)
        activations = saved * np.where(single, 1.0, flying)
        if np.any(layout.offload):
            leaving = stack.offload_share * activations
            on_the_way = np.minimum(leaving, 2.0 * np.maximum(dense.saved_bytes, mixture.saved_bytes))
            kept = activations - np.where(has(layout.offload, "activations", OFFLOADS), leaving - on_the_way, 0.0)
            state = np.where(has(layout.offload, "optimizer", OFFLOADS), 0.0, optimizer)
            left = activations - kept + optimizer - state
            away = np.maximum(away, left)
            activations, optimizer = kept, state
        parts = (held, gradients, optimizer, np.where(ending, logits, 0.0), _buffers(training, layout, stage, weights))
        candidates.append((*parts, activations))
    return Memory(tuple(candidates), stack.base_bytes, away)
