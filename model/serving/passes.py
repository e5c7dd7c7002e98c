r"""One forward pass of an instance: prompts, decoding sequences, or both together.

A pass runs through all layers once. Its tokens are T = n (1 + drafted) of n decoding sequences and the prompt tokens of
the pass, in each attention group; linear layers work on T rows, attention on each sequence's own keys, the experts on
the rows that the whole stage sends them. Layer structure and sharding are those of training (model/modules.py), latent
attention is absorbed for decoding sequences (queries meet the compressed cache) and expanded for prompts: DeepSeek-V2,
arXiv:2405.04434. Large-scale expert parallelism, micro-batch overlap and its gains: arXiv:2506.12708, section 4.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

from model.chip import launching
from model.collective import transfer
from model.cost import Parts, gathered
from model.matmul import matmul
from model.serving.attention_half import attention_half
from model.serving.collectives import all_gather
from model.serving.feed_forward_half import dense_half, mixture_half
from model.serving.instance import Instance
from model.serving.shares import Batch, Layer, Rank, Share, distinct, rank_of, share_of
from model.serving.stack import ServingStack
from model.serving.workload import Serving
from model.system import System


@dataclass(frozen=True, slots=True)
class PassTime(Parts):
    """Seconds of a pass through all stages, by cause."""

    linear: Any  # projections, dense feed-forward, head
    attention: Any
    experts: Any  # routed and shared experts, router
    vector: Any  # norms, rotary embeddings, activations, quantisation
    tensor: Any  # all-reduces of tensor parallelism
    context: Any  # exchange of keys or of partial results between context-parallel ranks
    exchange: Any  # exposed dispatch and combine
    transfer: Any  # between pipeline stages
    host: Any  # launch gaps and floors
    fixed: Any  # scheduling and sampling


@dataclass(frozen=True, slots=True)
class PassCost:
    """Time of a pass, and what the instance's ranks draw on for it together."""

    time: PassTime
    matrix_joules: Any
    hbm_bytes: Any
    link_bytes: Any

    @property
    def seconds(self) -> Any:
        """Seconds from the first stage to the last."""
        return self.time.total


def _head(system: System, rank: Rank, share: Share, sequences: Any) -> Layer:
    """Output head for the `sequences` tokens of a group that are sampled from, and the gather of their logits.

    An engine may divide the head over more ranks than the attention group has; these work on each other's tokens too.
    """
    model = rank.serving.architecture
    ranks = share.head
    rows = sequences * ranks / share.tensor
    linear = matmul(rank.chip, "bf16", rows, model.vocabulary / ranks, model.hidden)
    moved = rank.vector(6.0 * rows * model.vocabulary / ranks, 2)
    logits = all_gather(system, 2.0 * sequences * model.vocabulary, ranks, 1, share.block)  # of its own tokens
    return Layer(linear=linear, vector=moved, tensor=logits)


@dataclass(frozen=True, slots=True)
class _Once:
    """Parts of a pass for each distinct share: instances that differ in experts and groups have much in common."""

    system: System
    rank: Rank
    share: Share
    place: Any  # of each row among the shares; None: they are the rows

    def __call__(self, part: Callable[[System, Rank, Share], Layer]) -> Layer:
        """A part, row by row."""
        found = part(self.system, self.rank, self.share)
        if self.place is None:
            return found
        whole: Layer = gathered(found, self.place)
        return whole


def _once(system: System, rank: Rank, share: Share) -> _Once:
    found = distinct(share)
    if found is None:
        return _Once(system, rank, share, None)
    some, place = found
    return _Once(system, rank_of(rank.chip, rank.stack, rank.serving, some), some, place)


def _layers(once: _Once, system: System, rank: Rank, instance: Instance, share: Share) -> tuple[Layer, Any, Any]:
    """All layers of one micro-batch with those that draft, and how many layers and mixture layers that is."""
    model = rank.serving.architecture
    drafts = np.where(share.sequences > 0, share.queries - 1.0, 0.0)
    layers = [once(attention_half).times(model.layers + drafts)]
    dense, mixture = float(model.dense_layers), float(model.moe_layers)
    if model.experts is not None:
        layers.append(mixture_half(system, rank, instance, share).times(mixture + drafts))
    if dense or model.experts is None:
        layers.append(once(dense_half).times(dense + (0.0 if model.experts else drafts)))
    return reduce(lambda a, b: a + b, layers), model.layers + drafts, mixture + (drafts if model.experts else 0.0)


def _ends(system: System, rank: Rank, share: Share) -> Layer:
    """Embedding and head, once for all micro-batches, and what joins drafts to them."""
    model = rank.serving.architecture
    sequences, prompts = share.sequences * share.halves, share.prompts * share.halves
    sampled = sequences * share.queries + prompts * np.where(share.prompt_tokens > 0, 1.0, 0.0)
    ends = _head(system, rank, share, sampled)
    ends = ends + Layer(vector=rank.vector(4.0 * share.tokens * share.halves * model.hidden, 1))
    drafts = np.where(share.sequences > 0, share.queries - 1.0, 0.0)
    if not np.any(drafts):
        return ends
    merge = rank.linear(rank.serving.weight_format, sequences, (model.hidden, 2.0 * model.hidden))
    again = _head(system, rank, share, sequences) + Layer(linear=merge)
    return ends + again.times(drafts)


def forward_pass(system: System, stack: ServingStack, serving: Serving, instance: Instance, batch: Batch) -> PassCost:
    """Cost of one pass of a batch through the instance (scalars, lists or open meshes).

    Raises KeyError where the chip does not run a number format that is asked for (see Chip.supports).
    """
    share = share_of(system, stack, instance, batch)
    launches = stack.launch_share * system.chip.calibration.decode.launch_share
    rank = rank_of(launching(system.chip, launches), stack, serving, share)
    model = serving.architecture
    halves = share.halves
    once = _once(system, rank, share)
    one, layers, mixtures = _layers(once, system, rank, instance, share)
    whole = one.times(halves) + once(_ends)
    stages = np.asarray(instance.pipeline_parallel, float)
    ranks = instance.stage_ranks
    with_prompts = share.prompt_tokens > 0
    hiding = np.where(halves > 1.0, np.where(with_prompts, stack.prefill_overlap, stack.decode_overlap), 0.0)
    reserved = np.where(with_prompts & (halves > 1.0), stack.prefill_reserved_cores, 0.0)
    slow = stack.compute_slowdown / (1.0 - reserved)
    works = slow * whole.works.seconds
    exchange = whole.exchange.seconds
    exposed = exchange - np.minimum(hiding * exchange, works)
    busy = works + whole.tensor.seconds + whole.context.seconds + exposed
    gaps = halves * (stack.layer_s * layers + stack.moe_layer_s * mixtures)
    floor = np.where(with_prompts, stack.prefill_layer_s * layers, 0.0)
    boundary = transfer(system, 2.0 * share.tokens * model.hidden * halves / share.tensor, ranks, stages)
    return PassCost(
        time=PassTime(
            linear=slow * whole.linear.seconds,
            attention=slow * whole.attention.seconds,
            experts=slow * whole.experts.seconds,
            vector=slow * whole.vector.seconds,
            tensor=whole.tensor.seconds,
            context=whole.context.seconds,
            exchange=exposed,
            transfer=(stages - 1.0) * boundary.seconds * stack.pipeline_exposed,
            host=np.maximum(gaps, floor - busy),
            fixed=stack.step_s
            + stack.draft_s * np.where(share.sequences > 0, share.queries - 1.0, 0.0)
            + stack.sequence_s * share.sequences * halves,  # of an attention group: each has its own scheduler
        ),
        matrix_joules=whole.works.matrix_joules * ranks,
        hbm_bytes=whole.works.hbm_bytes * ranks,
        link_bytes=whole.traffic.link_bytes * ranks,
    )
