"""Memory of the fullest rank: states, activations, logits, buffers (worst of the first and the last stage).

States per weight element: weights, gradients and optimizer state, each divided over the replicas from ZeRO stage 3, 2
and 1 on (arXiv:1910.02054): 18 bytes in mixed precision with fp32 gradients, 6 + 12/n with a sharded optimizer.
Activations: what the layers save (model/modules.py), times the microbatches in flight (model/pipeline.py).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from model.cost import MemoryParts
from model.head import EndCost
from model.layer import LayerCost
from model.layout import Layout
from model.pipeline import in_flight, weight_copies
from model.stack import Stack
from model.stages import Stages, StageWeights, split, stage_weights
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
        held = held + copies * _WEIGHT_BYTES * elements / np.where(zero >= 3, replicas, 1.0)
        if frozen:
            continue
        gradients = gradients + copies * stack.gradient_bytes * elements / np.where(zero >= 2, replicas, 1.0)
        optimizer = optimizer + stack.optimizer_bytes * elements / np.where(zero >= 1, replicas, 1.0)
    return held, gradients, optimizer


def _buffers(training: Training, layout: Layout, stages: Stages, weights: StageWeights) -> Any:
    """Working tensors of the layer in progress, and two gathered layers under ZeRO-3."""
    model = training.architecture
    tokens = np.asarray(layout.micro_batch, float) * training.sequence / layout.context_parallel
    working = 2.0 * _WORKING_COPIES * tokens * model.hidden
    if model.experts is not None:
        working = working + 8.0 * tokens / layout.tensor_parallel * model.experts.per_token * model.hidden
    layers = np.maximum(stages.first.dense + stages.first.mixture, 1.0)
    gathered = 2.0 * _WEIGHT_BYTES * (weights.dense + weights.routed) / layers
    return working + np.where(np.asarray(layout.zero_stage) >= 3, gathered, 0.0)


def memory(
    stack: Stack, training: Training, layout: Layout, dense: LayerCost, mixture: LayerCost, ends: EndCost
) -> MemoryParts:
    """Bytes by part on the fullest rank of every layout."""
    model = training.architecture
    stages = split(model, layout)
    first_weights, last_weights = stage_weights(model, layout, stages)
    p = np.asarray(layout.pipeline_parallel, float)
    flying_first, flying_last = in_flight(
        layout.schedule, p, np.asarray(layout.virtual_stages, float), layout.microbatches
    )
    single = p <= 1
    first_saved = stages.first.of(dense.saved_bytes, mixture.saved_bytes) * np.where(single, 1.0, flying_first)
    last_saved = stages.last.of(dense.saved_bytes, mixture.saved_bytes) * np.where(single, 1.0, flying_last)
    extra = float(model.mtp_layers) * (mixture if model.experts else dense).saved_bytes
    last_saved = last_saved + extra * np.where(single, 1.0, flying_last)
    first_saved = np.where(single, last_saved, first_saved)
    logits = ends.logits_bytes * (1.0 + model.mtp_layers)
    first = (
        *_states(stack, layout, first_weights, training.frozen_weights),
        first_saved,
        np.where(single, logits, 0.0),
    )
    last = (*_states(stack, layout, last_weights, training.frozen_weights), last_saved, logits)
    total_first, total_last = sum(first[1:], first[0]), sum(last[1:], last[0])
    fuller = total_first >= total_last
    held, gradients, optimizer, saved, written = (np.where(fuller, a, b) for a, b in zip(first, last, strict=True))
    return MemoryParts(
        held,
        gradients,
        optimizer,
        saved,
        written,
        _buffers(training, layout, stages, first_weights),
        stack.base_bytes,
    )
