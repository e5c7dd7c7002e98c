"""One transformer layer on one rank and microbatch: compute, exposed communication, saved bytes, energy.

A layer's cost depends only on the fields in LAYER_KEYS, so a search evaluates it once per distinct combination.
Overlap rules: exposed = what does not fit behind the compute that the software hides it under; compute slows by the
chip's `communication_slowdown` for the time that it shares (cost of the copy kernels).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

from model.chip import without_cores
from model.collective import all_to_all, collective, place
from model.dispatch import dispatch_and_combine
from model.layout import OVERLAPS, RECOMPUTE_MODULES, Layout, has
from model.modules import Module, Rank, Shard, attention, feed_forward, mixture, norms_and_residuals
from model.stack import Stack
from model.system import System
from model.work import Traffic
from model.workload import Training

LAYER_KEYS = (
    "tensor_parallel",
    "context_parallel",
    "expert_parallel",
    "expert_tensor_parallel",
    "micro_batch",
    "sequence_parallel",
    "recompute",
    "context_exchange",
    "overlap_off",
)
_HIDING_SHARE = 0.8  # of the backward matmuls beside which regathers and reduce-scatters run
_EAGER_FORWARD = 0.4  # forward share of the host's launch time of a layer
_FULL = RECOMPUTE_MODULES.index("full")


@dataclass(frozen=True, slots=True)
class LayerCost:
    """Seconds, bytes and joules of one layer on one rank for one microbatch (forward and backward)."""

    forward_s: Any
    backward_s: Any  # recomputation included
    compute_s: Any
    tensor_s: Any
    context_s: Any
    expert_s: Any
    host_s: Any
    saved_bytes: Any
    matrix_joules: Any
    forward_joules: Any  # of them in the forward
    weight_joules: Any  # of them for weight gradients, the work that zero-bubble schedules move
    hbm_bytes: Any
    link_bytes: Any


@dataclass(frozen=True, slots=True)
class _Exposed:
    """Exposed seconds and bytes sent, forward and backward, of one kind of traffic."""

    forward_s: Any = 0.0
    backward_s: Any = 0.0
    slowdown_forward_s: Any = 0.0
    slowdown_backward_s: Any = 0.0
    forward_bytes: Any = 0.0
    backward_bytes: Any = 0.0


def _bit(layout: Layout, *names: str) -> Any:
    """1.0 where any of the named modules is recomputed."""
    mask = sum(1 << RECOMPUTE_MODULES.index(name) for name in names)
    return np.where(np.asarray(layout.recompute) & mask, 1.0, 0.0)


def _offered(layout: Layout, kind: str, share: float) -> Any:
    """The share of a kind of traffic that the stack hides, 0 where a layout does without."""
    return share if not np.any(layout.overlap_off) else np.where(has(layout.overlap_off, kind, OVERLAPS), 0.0, share)


def _tensor_traffic(
    system: System, stack: Stack, layout: Layout, shard: Shard, hidden: int, pairs: float, hiding_s: Any
) -> _Exposed:
    """All-gathers and reduce-scatters (or all-reduces) around `pairs` column- and row-parallel pairs.

    With sequence parallelism the backward gathers the output gradient in the open, and regathers the input and
    scatters its gradient beside the weight- and input-gradient matmuls (Korthikanti et al., arXiv:2205.05198).
    """
    group = place(system, layout.tensor_parallel, 1.0)
    gathered = 2.0 * shard.tokens * hidden
    gather = collective(system, "all_gather", gathered, group)
    scatter = collective(system, "reduce_scatter", gathered, group)
    reduce_ = collective(system, "all_reduce", gathered, group)
    sequence = np.asarray(layout.sequence_parallel) > 0
    forward = np.where(sequence, gather.seconds + scatter.seconds, reduce_.seconds) * pairs
    behind = stack.all_reduce_backward_overlap
    beside = np.where(sequence, gather.seconds + scatter.seconds, reduce_.seconds if behind else 0.0) * pairs
    open_ = np.where(sequence, gather.seconds, 0.0 if behind else reduce_.seconds) * pairs
    slow = system.chip.calibration.communication_slowdown
    hidden_share = _offered(layout, "tensor", stack.tensor_overlap)
    sent = np.where(sequence, gather.link_bytes + scatter.link_bytes, reduce_.link_bytes) * pairs
    sent_back = np.where(sequence, 2.0 * gather.link_bytes + scatter.link_bytes, reduce_.link_bytes) * pairs
    if not stack.tensor_backward_overlap:
        return _Exposed(
            forward * (1.0 - hidden_share), open_ + beside, forward * hidden_share * slow, 0.0, sent, sent_back
        )
    return _Exposed(
        forward * (1.0 - hidden_share),
        open_ * (1.0 - hidden_share) + np.maximum(beside - hiding_s, 0.0),
        forward * hidden_share * slow,
        (np.minimum(beside, hiding_s) + open_ * hidden_share) * slow,
        sent,
        sent_back,
    )


def _context_traffic(
    system: System, stack: Stack, training: Training, layout: Layout, shard: Shard, core: Module
) -> _Exposed:
    """Ring exchange of keys and values behind attention, or all-to-all of queries, keys, values and outputs."""
    model = training.architecture
    group = place(system, layout.context_parallel, layout.tensor_parallel)
    value, query_key = model.value_head, model.query_key_head
    heads = model.heads / shard.tensor
    keys = heads if model.latent is not None else shard.key_heads(model)
    ring_bytes = 2.0 * shard.sequences * shard.sequence * keys * (query_key + value)
    ring = collective(system, "all_gather", ring_bytes, group)
    packed = (heads + keys) * query_key + (keys + heads) * value
    exchange = all_to_all(system, 2.0 * shard.tokens * packed, group)
    is_ring = np.asarray(layout.context_exchange) == 0
    left = stack.context_exposed
    ring_forward = np.maximum(ring.seconds - stack.context_overlap * core.forward.seconds, left * ring.seconds)
    ring_backward = np.maximum(
        2.0 * ring.seconds - stack.context_overlap * core.backward.seconds, left * 2.0 * ring.seconds
    )
    return _Exposed(
        np.where(is_ring, ring_forward, exchange.seconds),
        np.where(is_ring, ring_backward, exchange.seconds),
        forward_bytes=np.where(is_ring, ring.link_bytes, exchange.link_bytes),
        backward_bytes=np.where(is_ring, 2.0 * ring.link_bytes, exchange.link_bytes),
    )


def _expert_traffic(stack: Stack, layout: Layout, slowdown: float, forward: Traffic, backward: Traffic) -> _Exposed:
    """Dispatch and combine; the hidden share slows the compute that it runs beside."""
    hidden = _offered(layout, "expert", stack.expert_overlap)
    kept = 1.0 - hidden + hidden * slowdown
    return _Exposed(
        forward.seconds * kept,
        backward.seconds * kept,
        forward_bytes=forward.link_bytes,
        backward_bytes=backward.link_bytes,
    )


def _redone(modules: Sequence[Module], layout: Layout, stack: Stack) -> tuple[Any, Any, Any, Any]:
    """Seconds, joules and bytes of recomputation, and the bytes saved for the backward.

    A share of the layers recomputes. What no gradient needs is not computed again by a compiler that sees the whole
    backward (jax.checkpoint, dead code elimination), or where recomputation stops at the last tensor that the backward
    needs (torch.utils.checkpoint.set_checkpoint_early_stop, PyTorch 2.1): the last projection of a dense feed-forward,
    whose output is only added to the residual. Of routed experts it is needed, for the gradient of the weights that
    they are combined with. A policy by operator does a share of the matmuls again where it does the activation again.
    """
    share = stack.recompute_share
    whole = _bit(layout, "full")
    full = whole * share
    partly = _bit(layout, "activation") * (1.0 - whole) * share * stack.redone_matmuls
    seconds: Any = 0.0
    joules: Any = 0.0
    moved: Any = 0.0
    saved: Any = 0.0
    for module in modules:
        again = _bit(layout, *module.recompute) * (1.0 - whole) * share if module.recompute else np.asarray(0.0)
        redo = module.redo.times(again) + module.forward.times(full)
        if stack.recompute_pruned:
            redo = redo + module.unread.times(-(again + full))
        if stack.redone_matmuls and module.has_weights:
            part = np.maximum(partly - again, 0.0)
            again = again + part
            redo = redo + module.forward.times(part)
        seconds = seconds + redo.seconds
        joules = joules + redo.matrix_joules
        moved = moved + redo.hbm_bytes
        saved = saved + module.kept_bytes + (1.0 - again) * module.saved_bytes
    return seconds, joules, moved, saved


def layer_cost(system: System, stack: Stack, training: Training, layout: Layout, mixture_layer: bool) -> LayerCost:
    """Cost of one layer (dense, or a mixture of experts) for every layout."""
    model, chip = training.architecture, without_cores(system.chip, stack.reserved_cores)
    shard = Shard.of(training, layout)
    rank = Rank(chip, stack, training.number_format, training.frozen_weights)
    halves = attention(rank, model, shard)
    inner = (
        mixture(rank, model, shard, training.expert_imbalance) if mixture_layer else feed_forward(rank, model, shard)
    )
    modules = (*norms_and_residuals(rank, model, shard), *halves, *inner)
    core = next(m for m in halves if m.name == "attention")

    linears = [m for m in modules if m.has_weights]
    hiding = _HIDING_SHARE * sum(m.backward.seconds for m in linears if not mixture_layer or m in halves)
    has_shared = mixture_layer and model.experts is not None and model.experts.shared_width > 0
    pairs = (1.5 if has_shared else 1.0) if mixture_layer else 2.0
    tensor = _tensor_traffic(system, stack, layout, shard, model.hidden, pairs, hiding)
    context = _context_traffic(system, stack, training, layout, shard, core)
    expert = _Exposed()
    if mixture_layer:
        sent = dispatch_and_combine(system, stack, model, shard, training.expert_imbalance)
        expert = _expert_traffic(stack, layout, chip.calibration.communication_slowdown, *sent)

    forward = reduce(lambda a, b: a + b, (m.forward for m in modules))
    backward = reduce(lambda a, b: a + b, (m.backward for m in modules))
    redo_s, redo_joules, redo_bytes, saved = _redone(modules, layout, stack)
    full = _bit(layout, "full") * stack.recompute_share
    slow = stack.compute_slowdown
    compute_forward = forward.seconds * slow + tensor.slowdown_forward_s
    compute_backward = (backward.seconds + redo_s) * slow + tensor.slowdown_backward_s
    # without the last matmul there is no traffic after it: one of the two exchanges of two pairs
    repeated = 0.75 if stack.recompute_pruned and not mixture_layer else 1.0
    again = full * (repeated * tensor.forward_s + context.forward_s)
    traffic_forward = tensor.forward_s + context.forward_s + expert.forward_s
    traffic_backward = tensor.backward_s + context.backward_s + expert.backward_s + again + full * expert.forward_s
    sync = stack.moe_sync_s if mixture_layer else 0.0
    eager = stack.host_moe_layer_s if mixture_layer else stack.host_layer_s
    forward_s = np.maximum(compute_forward + traffic_forward + sync, _EAGER_FORWARD * eager)
    backward_s = np.maximum(compute_backward + traffic_backward, (1.0 - _EAGER_FORWARD) * eager)
    tensor_s = tensor.forward_s * (1.0 + repeated * full) + tensor.backward_s
    context_s = context.forward_s * (1.0 + full) + context.backward_s
    expert_s = expert.forward_s * (1.0 + full) + expert.backward_s
    compute_s = compute_forward + compute_backward
    kinds = ((tensor, repeated), (context, 1.0), (expert, 1.0))
    links = sum((k.forward_bytes * (1.0 + again * full) + k.backward_bytes for k, again in kinds), np.asarray(0.0))
    return LayerCost(
        forward_s=forward_s,
        backward_s=backward_s,
        compute_s=compute_s,
        tensor_s=tensor_s,
        context_s=context_s,
        expert_s=expert_s,
        host_s=np.maximum(forward_s + backward_s - (compute_s + tensor_s + context_s + expert_s), 0.0),  # not -1e-16
        saved_bytes=full * (2.0 * shard.tokens * model.hidden * shard.token_share) + (1.0 - full) * saved,
        matrix_joules=forward.matrix_joules + backward.matrix_joules + redo_joules,
        forward_joules=forward.matrix_joules,
        weight_joules=sum(m.forward.matrix_joules for m in linears) * (0.0 if training.frozen_weights else 1.0),
        hbm_bytes=forward.hbm_bytes + backward.hbm_bytes + redo_bytes,
        link_bytes=links,
    )
