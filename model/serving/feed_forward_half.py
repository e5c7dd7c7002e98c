"""The feed-forward half of a layer that serves: dense, or experts with their dispatch and combine."""

from __future__ import annotations

from typing import Any

import numpy as np

from model.architecture import Experts
from model.chip import FORMATS
from model.matmul import matmul
from model.serving.balance import busiest_active, imbalance
from model.serving.collectives import all_gather, expert_exchange, reduce_scatter
from model.serving.experts import grouped_matmul, is_widened
from model.serving.instance import Instance
from model.serving.shares import Layer, Rank, Share, joined, streams, when
from model.system import System
from model.work import NOTHING, SILENCE, Traffic, Work


def _wide(rank: Rank, number_format: str, rows: Any, width: Any) -> tuple[Work, Work]:
    """A feed-forward of `width` on a rank: its matmuls, and the activation between them."""
    model = rank.serving.architecture
    linear = rank.linear(number_format, rows, ((model.matrices - 1) * width, model.hidden), (model.hidden, width))
    return linear, rank.vector((6.0 if model.gated else 4.0) * rows * width, 1)


def dense_half(system: System, rank: Rank, share: Share) -> Layer:
    """Norm, dense feed-forward and its all-reduce, on the ranks of the attention group."""
    model = rank.serving.architecture
    width = model.feed_forward / share.tensor
    linear, activation = _wide(rank, rank.serving.weight_format, share.tokens, width)
    norm = rank.vector(6.0 * share.tokens * model.hidden, 1) + streams(rank, share.tokens)
    summed = when(share.tensor > 1, lambda: joined(system, rank, share, share.tensor), SILENCE)
    return Layer(linear=linear, vector=norm + activation, tensor=summed)


def _routed(rank: Rank, experts: Experts, copies: int, share: Share, instance: Instance) -> tuple[Work, Work, Any]:
    """Grouped matmuls of the busiest rank's experts, the activation between them, and the busiest rank's load.

    `copies` of each token go to experts, those to shared experts on ranks of their own among them.
    """
    serving, model = rank.serving, rank.serving.architecture
    ranks = np.asarray(instance.expert_parallel, float)
    width = experts.hidden / np.maximum(instance.expert_tensor_parallel, 1.0)
    all_tokens = share.tokens * share.context * share.groups
    mean = all_tokens * copies / ranks
    load = imbalance(serving.balance, experts, ranks, mean)
    active = busiest_active(serving.balance, experts, ranks, all_tokens)
    rows = mean * load
    form = serving.experts_in
    work = grouped_matmul(rank.chip, form, rows, active, (model.matrices - 1) * width, model.hidden)
    work = work + grouped_matmul(rank.chip, form, rows, active, model.hidden, width)
    activation = rank.vector((6.0 if model.gated else 4.0) * rows * width, 1)
    cast, speed = FORMATS[form].cast_bytes, rank.stack.expert_speed
    if cast:
        activation = activation + rank.vector(cast * rows * width, 0)
    if is_widened(form):
        speed = speed * rank.stack.widened_speed
    return work.slower(1.0 / speed), activation, load


def mixture_half(system: System, rank: Rank, instance: Instance, share: Share) -> Layer:
    """Norm, router, dispatch, experts and combine; shared experts beside them."""
    serving, model, stack = rank.serving, rank.serving.architecture, rank.stack
    experts = model.experts
    if experts is None:
        raise ValueError(f"{model.name} has no experts")
    own = share.tokens / share.tensor  # with several groups each rank routes its share of the group's tokens
    alone = share.groups <= 1.0
    routing = np.where(alone, share.tokens, own)
    router = matmul(rank.chip, "bf16", routing, experts.experts, model.hidden) + rank.vector(
        8.0 * routing * experts.experts, 1
    )
    apart = stack.shared_experts == "routed"  # on ranks of their own, which tokens are sent to
    copies = experts.per_token + (experts.shared if apart else 0)
    routed, activation, load = _routed(rank, experts, copies, share, instance)
    shared = NOTHING
    if experts.shared_width and not apart:
        # one group divides the shared experts as a dense layer; several keep them whole on every rank
        across = np.where(alone, instance.stage_ranks, 1.0)
        shared, active = _wide(rank, serving.experts_in, routing, experts.shared_width / across)
        activation = activation + active
    summed = when(alone, lambda: joined(system, rank, share, instance.stage_ranks), SILENCE)
    exchange = when(~alone, lambda: _exchanged(system, rank, copies, instance, share, own, load), SILENCE)
    hidden = np.where(alone, 0.0, np.minimum(stack.shared_overlap * shared.seconds, exchange.seconds))
    permuted = rank.vector(4.0 * routing * experts.per_token * model.hidden, 2)
    norm = rank.vector(6.0 * share.tokens * model.hidden, 1) + streams(rank, share.tokens)
    return Layer(
        experts=routed + router + Work(shared.seconds - hidden, shared.matrix_joules, shared.hbm_bytes),
        vector=norm + activation + permuted,
        tensor=summed,
        exchange=exchange,
    )


def _exchanged(
    system: System, rank: Rank, copies: int, instance: Instance, share: Share, tokens: Any, load: Any
) -> Traffic:
    """Tokens of all attention groups to their experts and back: `tokens` of each rank, as the busiest one sees them."""
    stack, hidden, stage = rank.stack, rank.serving.architecture.hidden, instance.stage_ranks
    if stack.exchange == "gather":
        everything = tokens * stage * hidden
        done = all_gather(system, everything * stack.dispatch_bytes, stage, 1, share.block) + reduce_scatter(
            system, everything * stack.combine_bytes, stage, 1, share.block
        )
    else:
        ranks = (instance.expert_parallel, instance.expert_tensor_parallel)
        done = SILENCE
        for element_bytes in (stack.dispatch_bytes, stack.combine_bytes):
            row = hidden * element_bytes
            done = done + expert_exchange(system, tokens * load, copies, row, *ranks, block=share.block)
    return Traffic(done.seconds / stack.dispatch_speed, done.link_bytes)
