"""The ends of the model on one rank: token embedding, output head with its loss, multi-token prediction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from model.chip import without_cores
from model.collective import collective, place
from model.layer import LayerCost
from model.layout import Layout
from model.matmul import linear
from model.modules import Shard
from model.stack import Stack
from model.system import System
from model.vector import vector
from model.work import NOTHING, Work
from model.workload import Training


@dataclass(frozen=True, slots=True)
class EndCost:
    """Cost per microbatch of the embedding and of everything after the last layer."""

    embedding_s: Any
    head_forward_s: Any
    head_backward_s: Any
    logits_bytes: Any
    matrix_joules: Any
    hbm_bytes: Any
    boundary_gather_s: Any  # tensor-parallel all-gather of a stage's input, where stages exchange 1/tp of it


def end_cost(system: System, stack: Stack, training: Training, layout: Layout, layer: LayerCost) -> EndCost:
    """Embedding, head, loss and MTP modules; `layer` is the cost of the layer that an MTP module repeats.

    The loss moves `loss_bytes_per_logit` bytes for each of T V / tp logits: 18 fused, 40 to 56 as separate kernels in
    fp32. An MTP module is a projection of 2h to h, a layer, and the shared head again (DeepSeek-V3, arXiv:2412.19437).
    """
    model, chip = training.architecture, without_cores(system.chip, stack.reserved_cores)
    shard = Shard.of(training, layout)
    vocabulary = model.vocabulary / shard.tensor
    forward, inputs, weights = linear(chip, "bf16", shard.tokens, vocabulary, model.hidden)
    weights = NOTHING if training.frozen_weights else weights
    loss = vector(chip, shard.tokens * vocabulary * stack.loss_bytes_per_logit, 4).times(0.5)
    embedding = vector(chip, 6.0 * shard.tokens * model.hidden, 2)
    slow = stack.compute_slowdown
    depth = 1.0 + model.mtp_layers
    head_forward, head_backward = (forward + loss).times(depth), (inputs + weights + loss).times(depth)
    ends = head_forward + head_backward + embedding
    extra: Work = Work()
    if model.mtp_layers:
        parts = linear(chip, "bf16", shard.tokens, model.hidden / shard.tensor, 2.0 * model.hidden)
        head_forward, head_backward = head_forward + parts[0], head_backward + parts[1] + parts[2]
        extra = parts[0] + parts[1] + parts[2]
    repeated = float(model.mtp_layers)
    group = place(system, layout.tensor_parallel, 1.0)
    whole = collective(system, "all_gather", 2.0 * shard.tokens * model.hidden, group).seconds
    split = (np.asarray(layout.sequence_parallel) == 0) & stack.scatter_gather
    return EndCost(
        embedding_s=embedding.seconds * slow,
        head_forward_s=head_forward.seconds * slow + repeated * layer.forward_s,
        head_backward_s=head_backward.seconds * slow + repeated * layer.backward_s,
        logits_bytes=stack.logit_bytes * shard.tokens * vocabulary,
        matrix_joules=ends.matrix_joules + extra.matrix_joules + repeated * layer.matrix_joules,
        hbm_bytes=ends.hbm_bytes + extra.hbm_bytes + repeated * layer.hbm_bytes,
        boundary_gather_s=np.where(split, whole, 0.0),
    )
