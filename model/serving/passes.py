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
from typing import Any, TypeVar

import numpy as np

from model.architecture import Architecture, Experts, LatentAttention, SparseAttention
from model.attention import fused_attention
from model.chip import FORMATS, Chip, launching
from model.collective import transfer
from model.cost import Parts
from model.matmul import matmul
from model.serving.attention import cached_attention, indexer, latent_cached_attention
from model.serving.balance import active_share, imbalance
from model.serving.collectives import all_gather, all_reduce, expert_exchange, reduce_scatter
from model.serving.experts import grouped_matmul
from model.serving.instance import Instance
from model.serving.stack import ServingStack
from model.serving.workload import Serving
from model.system import System
from model.vector import vector
from model.work import NOTHING, SILENCE, Traffic, Work

_NARROW_BYTES = 1.5  # of a cached element: below, the cache holds 8 bits
_POOL_KERNELS = 3  # softmax of the weights, weighted sum, norm and writing
_INDEX_KERNELS = 4  # rotation, scaling to 8 bits, writing the key, choice of the best


@dataclass(frozen=True, slots=True)
class Batch:
    """What goes through the instance together in one pass; counts of the whole instance, arrays that broadcast.

    The stages of a pipeline work on different batches at the same time.
    """

    sequences: Any = 0.0  # decoding
    context: Any = 0.0  # mean tokens of theirs in the cache
    prompt_tokens: Any = 0.0  # new tokens of prompts
    prompts: Any = 1.0  # that these belong to
    cached: Any = 0.0  # mean tokens of these prompts already in the cache


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


@dataclass(frozen=True, slots=True)
class _Share:
    """What one rank has of a pass, after the split into attention groups and micro-batches."""

    ranks: Any  # of the instance
    tensor: Any
    context: Any
    groups: Any  # attention groups of the stage
    sequences: Any  # decoding, of the group
    queries: Any  # tokens of each
    keys: Any  # in the cache of each
    prompt_tokens: Any  # of the group, on this context-parallel rank
    prompts: Any
    cached: Any
    halves: Any

    @property
    def tokens(self) -> Any:
        """Rows of the group's linear layers on this rank."""
        return self.sequences * self.queries + self.prompt_tokens

    @property
    def decoding(self) -> Any:
        """Rows of decoding sequences."""
        return self.sequences * self.queries


def _share(instance: Instance, batch: Batch) -> _Share:
    groups = np.asarray(instance.data_parallel, float)
    halves = np.asarray(instance.micro_batches, float)
    context = np.asarray(instance.context_parallel, float)
    sequences = np.asarray(batch.sequences, float)
    prompts = np.asarray(batch.prompts, float)
    # fewer sequences than groups leave some groups idle, and the others with one each
    own = np.maximum(sequences / groups, np.minimum(sequences, 1.0)) / halves
    busy = np.minimum(prompts, groups)
    return _Share(
        ranks=instance.ranks,
        tensor=np.asarray(instance.tensor_parallel, float),
        context=context,
        groups=groups,
        sequences=own,
        queries=1.0 + np.asarray(instance.draft_tokens, float),
        keys=np.asarray(batch.context, float),
        prompt_tokens=np.asarray(batch.prompt_tokens, float) / (busy * halves * context),
        prompts=prompts / busy / halves,
        cached=np.asarray(batch.cached, float),
        halves=halves,
    )


@dataclass(frozen=True, slots=True)
class _Rank:
    """The chip, the engine and the model that kernels run with."""

    chip: Chip
    stack: ServingStack
    serving: Serving
    vector_passes: Any  # of element-wise kernels, by what the pass holds

    def linear(self, number_format: str, rows: Any, *shapes: tuple[Any, Any]) -> Work:
        """Linear layers of `rows` tokens: (outputs, inputs) each, with the quantisation of their inputs."""
        cast = FORMATS[number_format].cast_bytes
        done = NOTHING
        for outputs, inputs in shapes:
            done = done + matmul(self.chip, number_format, rows, outputs, inputs)
            if cast:
                done = done + vector(self.chip, cast * rows * inputs, 0.0)
        return done.slower(1.0 / self.stack.matmul_speed)

    def vector(self, moved_bytes: Any, launches: float) -> Work:
        """Element-wise kernels."""
        return vector(self.chip, moved_bytes * self.vector_passes, launches * self.vector_passes)


@dataclass(frozen=True, slots=True)
class _Layer:
    """Work and traffic of one layer on one rank, or of several together."""

    linear: Work = NOTHING
    attention: Work = NOTHING
    experts: Work = NOTHING
    vector: Work = NOTHING
    tensor: Traffic = SILENCE
    context: Traffic = SILENCE
    exchange: Traffic = SILENCE

    def __add__(self, other: _Layer) -> _Layer:
        return _Layer(*(getattr(self, name) + getattr(other, name) for name in _LAYER_FIELDS))

    def times(self, factor: Any) -> _Layer:
        """So many of them."""
        return _Layer(*(getattr(self, name).times(factor) for name in _LAYER_FIELDS))

    @property
    def works(self) -> Work:
        """All of its work."""
        return self.linear + self.attention + self.experts + self.vector

    @property
    def traffic(self) -> Traffic:
        """All of its traffic."""
        return self.tensor + self.context + self.exchange


_LAYER_FIELDS = tuple(_Layer.__dataclass_fields__)


# ------------------------------------------------------------------------------------------------ attention
def _spans(model: Architecture, keys: Any) -> tuple[tuple[float, Any], ...]:
    """Share of the layers and keys that a query of theirs attends to: full layers, and those with a window."""
    if model.sparse is not None:
        sparse = model.sparse
        near = np.minimum(keys, float(sparse.window))
        picked = np.minimum(keys / sparse.compression, float(sparse.keys)) + near
        return ((sparse.picking, picked), (1.0 - sparse.picking, keys / sparse.summary + near))
    if model.window <= 0:
        return ((1.0, keys),)
    full = 1.0 / model.full_attention_every if model.full_attention_every > 1 else 0.0
    return ((full, keys), (1.0 - full, np.minimum(keys, float(model.window))))


def _prompt_keys(model: Architecture, new: Any, cached: Any) -> tuple[tuple[float, Any], ...]:
    """The same for the mean query of a prompt's `new` tokens, causal, after `cached` ones."""

    def mean(limit: float) -> Any:
        """Mean of min(limit, cached + i) over the new tokens i."""
        below = np.clip(limit - cached, 0.0, new)  # queries that do not reach the limit
        return ((cached + below / 2.0) * below + limit * (new - below)) / np.maximum(new, 1e-9)

    if model.sparse is not None:
        sparse = model.sparse
        near = mean(float(sparse.window))
        picked = mean(float(sparse.keys * sparse.compression)) / sparse.compression + near
        return ((sparse.picking, picked), (1.0 - sparse.picking, (cached + new / 2.0) / sparse.summary + near))
    if model.window <= 0:
        return ((1.0, cached + new / 2.0),)
    full = 1.0 / model.full_attention_every if model.full_attention_every > 1 else 0.0
    return ((full, cached + new / 2.0), (1.0 - full, mean(float(model.window))))


def _decode_attention(rank: _Rank, share: _Share) -> Work:
    """Attention of the decoding sequences over their caches."""
    serving, model, chip = rank.serving, rank.serving.architecture, rank.chip
    heads = model.heads / share.tensor
    core = serving.attention_core
    if rank.stack.narrow_attention and serving.kv_bytes < _NARROW_BYTES and chip.supports("fp8"):
        core = "fp8"
    done = NOTHING
    for part, span in _spans(model, share.keys):
        if not part:
            continue
        keys = span / share.context
        if model.latent is not None:
            one = latent_cached_attention(
                chip,
                share.sequences,
                share.queries,
                keys,
                heads,
                model.latent,
                serving.kv_bytes,
                core,
            )
        else:
            held = np.maximum(model.key_value_heads / share.tensor, 1.0)
            key_heads = held + (heads - held) * rank.stack.repeated_reads
            one = cached_attention(
                chip,
                share.sequences,
                share.queries,
                keys,
                heads,
                key_heads,
                model.head_size,
                serving.kv_bytes,
                core,
            )
        done = done + one.times(part)
    if model.sparse is not None:
        entries = share.keys / share.context / model.sparse.compression
        scores = indexer(chip, model.sparse, share.sequences, share.queries, entries)
        done = done + scores.times(model.sparse.picking)
    return done.slower(1.0 / rank.stack.decode_attention_speed)


def _prompt_attention(rank: _Rank, share: _Share) -> Work:
    """Attention of the prompts: each rank has its heads, and its share of the queries under context parallelism."""
    model, chip = rank.serving.architecture, rank.chip
    heads = model.heads / share.tensor
    own = share.prompt_tokens / np.maximum(share.prompts, 1e-9)
    sizes = (model.query_key_head, model.value_head)
    done = NOTHING
    for part, keys in _prompt_keys(model, own * share.context, share.cached):
        if not part:
            continue
        done = done + fused_attention(chip, share.prompts, own, keys, heads, sizes).times(part)
    if model.sparse is not None:
        entries = (share.cached + own * share.context / 2.0) / model.sparse.compression
        done = done + indexer(chip, model.sparse, share.prompts, own, entries).times(model.sparse.picking)
    return done.slower(1.0 / rank.stack.prefill_attention_speed)


_Cost = TypeVar("_Cost", Work, Traffic)


def _when(condition: Any, cost: Callable[[], _Cost], nothing: _Cost) -> _Cost:
    """The cost where the condition holds, nothing elsewhere; not computed where it holds nowhere."""
    return cost().times(np.where(condition, 1.0, 0.0)) if np.any(condition) else nothing


def _latent_projections(rank: _Rank, model: Architecture, latent: LatentAttention, share: _Share) -> Work:
    """Projections of latent attention: down (whole on every rank), up by heads, output.

    Decoding sequences multiply queries and outputs with the up-projection of keys and values head by head; prompts
    expand keys and values, of what they have in the cache too.
    """
    form = rank.serving.projections_in
    heads = model.heads / share.tensor
    head = latent.nope_head + latent.rope_head
    tokens = share.tokens
    down = [(latent.query_rank + latent.key_value_rank + latent.rope_head, model.hidden)]
    done = rank.linear(form, tokens, *down, (heads * head, latent.query_rank or model.hidden))
    done = done + rank.linear(form, tokens, (model.hidden, heads * latent.value_head))

    def absorbed() -> Work:
        rows, ranks = share.decoding * heads, latent.key_value_rank
        return grouped_matmul(rank.chip, "bf16", rows, heads, ranks, latent.nope_head) + grouped_matmul(
            rank.chip, "bf16", rows, heads, latent.value_head, ranks
        )

    def expanded() -> Work:
        rows = share.prompt_tokens + share.cached * share.prompts / share.context
        return rank.linear(form, rows, (heads * (latent.nope_head + latent.value_head), latent.key_value_rank))

    return done + _when(share.decoding > 0, absorbed, NOTHING) + _when(share.prompt_tokens > 0, expanded, NOTHING)


def _projections(rank: _Rank, model: Architecture, share: _Share, packed: Any) -> Work:
    """Projections of plain attention: queries, keys and values at once, and the output; or through low ranks."""
    form, tokens = rank.serving.projections_in, share.tokens
    out = model.heads / share.tensor * model.head_size
    low = model.low_rank
    if low is None:
        return rank.linear(form, tokens, (packed, model.hidden), (model.hidden, out))
    groups = np.maximum(low.output_groups / share.tensor, 1.0)
    done = rank.linear(form, tokens, (low.query_rank + packed - out, model.hidden), (out, low.query_rank))
    grouped = matmul(rank.chip, form, tokens, low.output_rank, out / groups, groups)
    return done + grouped + rank.linear(form, tokens, (model.hidden, groups * low.output_rank))


def _attention_half(system: System, rank: _Rank, share: _Share) -> _Layer:
    """Norm, projections, attention, output projection and its all-reduce."""
    model, stack = rank.serving.architecture, rank.stack
    tokens, heads = share.tokens, model.heads / share.tensor
    if model.latent is not None:
        linear = _latent_projections(rank, model, model.latent, share)
        packed = heads * model.query_key_head + model.latent.key_value_rank
        cache = float(model.latent.key_value_rank + model.latent.rope_head)
    else:
        key_heads = np.maximum(model.key_value_heads / share.tensor, 1.0)
        packed = (heads + 2.0 * key_heads) * model.head_size
        cache = 2.0 * key_heads * model.head_size
        linear = _projections(rank, model, share, packed)
    own = np.where(stack.sequence_parallel & (share.decoding <= 0), 1.0 / share.tensor, 1.0)
    work = rank.vector(4.0 * tokens * packed, 1) + _streams(rank, tokens * own)
    if model.sparse is not None:
        projected, prepared = _index_projections(rank, model, model.sparse, tokens)
        linear, work = linear + projected, work + prepared
    if not model.parallel_blocks:  # else the norm and the sum over ranks are those of the feed-forward
        work = work + rank.vector(6.0 * tokens * model.hidden * own, 1)
    prompts, decoding = share.prompt_tokens > 0, share.decoding > 0

    def keys() -> Traffic:
        gathered = share.prompt_tokens * share.context * cache * rank.serving.kv_bytes
        return all_gather(system, gathered, share.context, share.tensor, share.ranks)

    def partial() -> Traffic:
        return all_reduce(
            system, 2.0 * share.decoding * heads * model.value_head, share.context, share.tensor, share.ranks
        )

    split = share.context > 1
    divided = (share.tensor > 1) & (not model.parallel_blocks)
    return _Layer(
        linear=linear,
        attention=_when(decoding, lambda: _decode_attention(rank, share), NOTHING)
        + _when(prompts, lambda: _prompt_attention(rank, share), NOTHING),
        vector=work,
        tensor=_when(divided, lambda: _joined(system, rank, share, share.tensor), SILENCE),
        context=_when(prompts & split, keys, SILENCE) + _when(decoding & split, partial, SILENCE),
    )


def _index_projections(rank: _Rank, model: Architecture, sparse: SparseAttention, tokens: Any) -> tuple[Work, Work]:
    """Queries, key and weights of the indexer, on every rank whole; their rotation, scaling and the choice of keys."""
    low = model.latent.query_rank if model.latent else model.low_rank.query_rank if model.low_rank else 0
    shapes = ((sparse.index_heads * sparse.index_head, low or model.hidden),
              (sparse.index_head + sparse.index_heads, model.hidden))  # fmt: skip
    linear = rank.linear(rank.serving.projections_in, tokens, *shapes)
    prepared = rank.vector(8.0 * tokens * (sparse.index_heads + 1) * sparse.index_head, _INDEX_KERNELS)
    linear, prepared = linear.times(sparse.picking), prepared.times(sparse.picking)
    if sparse.compression > 1:  # entries are weighted sums of tokens: values and weights of two overlapping windows
        entries = rank.linear(rank.serving.projections_in, tokens, (4.0 * model.head_size, model.hidden))
        linear, prepared = linear + entries, prepared + rank.vector(16.0 * tokens * model.head_size, _POOL_KERNELS)
    return linear, prepared


def _streams(rank: _Rank, tokens: Any) -> Work:
    """Mixing of several residual streams before and after half a layer (hyper-connections, arXiv:2409.19606)."""
    streams = rank.serving.architecture.residual_streams
    if streams == 1:
        return NOTHING
    return rank.vector(4.0 * streams * tokens * rank.serving.architecture.hidden, 2)


def _joined(system: System, rank: _Rank, share: _Share, group: Any) -> Traffic:
    """The all-reduce behind a row-parallel layer, or what a two-dimensional layout exchanges instead of it.

    Weight-stationary in two dimensions on n ranks, a feed-forward four times as wide as the model gathers and scatters
    activations on either side of its two matmuls, 8 T h / sqrt(n) elements in all, over half and twice sqrt(n) ranks.
    Source: Pope et al., arXiv:2211.05102, section 3.2.2.
    """
    stack, hidden = rank.stack, rank.serving.architecture.hidden
    joined = 2.0 * share.tokens * hidden
    if stack.tensor_layout == "weight_stationary_2d":
        narrow = np.maximum(np.sqrt(group) / 2.0, 1.0)
        wide = group / narrow
        each = 2.0 * joined / np.maximum(np.sqrt(group), 1.0)
        done = SILENCE
        for side, apart in ((wide, 1), (narrow, wide)):
            done = done + all_gather(system, each, side, apart, share.ranks)
            done = done + reduce_scatter(system, each, side, apart, share.ranks)
    else:
        done = all_reduce(system, joined, group, 1, share.ranks)
    return Traffic(done.seconds * (1.0 - stack.tensor_overlap) / stack.collective_speed, done.link_bytes)


# ------------------------------------------------------------------------------------------------ feed-forward
def _wide(rank: _Rank, number_format: str, rows: Any, width: Any) -> tuple[Work, Work]:
    """A feed-forward of `width` on a rank: its matmuls, and the activation between them."""
    model = rank.serving.architecture
    linear = rank.linear(number_format, rows, ((model.matrices - 1) * width, model.hidden), (model.hidden, width))
    return linear, rank.vector((6.0 if model.gated else 4.0) * rows * width, 1)


def _dense_half(system: System, rank: _Rank, share: _Share) -> _Layer:
    """Norm, dense feed-forward and its all-reduce, on the ranks of the attention group."""
    model = rank.serving.architecture
    width = model.feed_forward / share.tensor
    linear, activation = _wide(rank, rank.serving.weight_format, share.tokens, width)
    norm = rank.vector(6.0 * share.tokens * model.hidden, 1) + _streams(rank, share.tokens)
    joined = _when(share.tensor > 1, lambda: _joined(system, rank, share, share.tensor), SILENCE)
    return _Layer(linear=linear, vector=norm + activation, tensor=joined)


def _routed(rank: _Rank, experts: Experts, copies: int, share: _Share, instance: Instance) -> tuple[Work, Work, Any]:
    """Grouped matmuls of the busiest rank's experts, the activation between them, and the busiest rank's load.

    `copies` of each token go to experts, those to shared experts on ranks of their own among them.
    """
    serving, model = rank.serving, rank.serving.architecture
    ranks = np.asarray(instance.expert_parallel, float)
    width = experts.hidden / np.maximum(instance.expert_tensor_parallel, 1.0)
    all_tokens = share.tokens * share.context * share.groups
    held = (experts.experts + serving.balance.redundant) / ranks
    mean = all_tokens * copies / ranks
    load = imbalance(serving.balance, experts, ranks, mean)
    active = held * active_share(experts, all_tokens)
    rows = mean * load
    form = serving.experts_in
    work = grouped_matmul(rank.chip, form, rows, active, (model.matrices - 1) * width, model.hidden)
    work = work + grouped_matmul(rank.chip, form, rows, active, model.hidden, width)
    activation = rank.vector((6.0 if model.gated else 4.0) * rows * width, 1)
    cast = FORMATS[form].cast_bytes
    if cast:
        activation = activation + rank.vector(cast * rows * width, 0)
    return work.slower(1.0 / rank.stack.expert_speed), activation, load


def _mixture_half(system: System, rank: _Rank, instance: Instance, share: _Share) -> _Layer:
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
    joined = _when(alone, lambda: _joined(system, rank, share, instance.stage_ranks), SILENCE)
    exchange = _when(~alone, lambda: _exchanged(system, rank, copies, instance, share, own, load), SILENCE)
    hidden = np.where(alone, 0.0, np.minimum(stack.shared_overlap * shared.seconds, exchange.seconds))
    permuted = rank.vector(4.0 * routing * experts.per_token * model.hidden, 2)
    norm = rank.vector(6.0 * share.tokens * model.hidden, 1) + _streams(rank, share.tokens)
    return _Layer(
        experts=routed + router + Work(shared.seconds - hidden, shared.matrix_joules, shared.hbm_bytes),
        vector=norm + activation + permuted,
        tensor=joined,
        exchange=exchange,
    )


def _exchanged(
    system: System, rank: _Rank, copies: int, instance: Instance, share: _Share, tokens: Any, load: Any
) -> Traffic:
    """Tokens of all attention groups to their experts and back: `tokens` of each rank, as the busiest one sees them."""
    stack, hidden, stage = rank.stack, rank.serving.architecture.hidden, instance.stage_ranks
    if stack.exchange == "gather":
        everything = tokens * stage * hidden
        done = all_gather(system, everything * stack.dispatch_bytes, stage, 1, share.ranks) + reduce_scatter(
            system, everything * stack.combine_bytes, stage, 1, share.ranks
        )
    else:
        ranks = (instance.expert_parallel, instance.expert_tensor_parallel)
        done = SILENCE
        for element_bytes in (stack.dispatch_bytes, stack.combine_bytes):
            row = hidden * element_bytes
            done = done + expert_exchange(system, tokens * load, copies, row, *ranks, block=share.ranks)
    return Traffic(done.seconds / stack.dispatch_speed, done.link_bytes)


# ------------------------------------------------------------------------------------------------ the pass
def _head(system: System, rank: _Rank, share: _Share, instance: Instance, sequences: Any) -> _Layer:
    """Output head for the `sequences` tokens of a group that are sampled from, and the gather of their logits.

    An engine may divide the head over more ranks than the attention group has; these work on each other's tokens too.
    """
    model = rank.serving.architecture
    ranks = np.maximum(share.tensor, np.minimum(float(rank.stack.head_ranks), instance.stage_ranks))
    rows = sequences * ranks / share.tensor
    linear = matmul(rank.chip, "bf16", rows, model.vocabulary / ranks, model.hidden)
    moved = rank.vector(6.0 * rows * model.vocabulary / ranks, 2)
    logits = all_gather(system, 2.0 * sequences * model.vocabulary, ranks, 1, share.ranks)  # of its own tokens
    return _Layer(linear=linear, vector=moved, tensor=logits)


def _layers(system: System, rank: _Rank, instance: Instance, share: _Share) -> tuple[_Layer, Any, Any]:
    """All layers of one micro-batch with those that draft, and how many layers and mixture layers that is."""
    model = rank.serving.architecture
    drafts = np.where(share.sequences > 0, share.queries - 1.0, 0.0)
    layers = [_attention_half(system, rank, share).times(model.layers + drafts)]
    dense, mixture = float(model.dense_layers), float(model.moe_layers)
    if model.experts is not None:
        layers.append(_mixture_half(system, rank, instance, share).times(mixture + drafts))
    if dense or model.experts is None:
        layers.append(_dense_half(system, rank, share).times(dense + (0.0 if model.experts else drafts)))
    return reduce(lambda a, b: a + b, layers), model.layers + drafts, mixture + (drafts if model.experts else 0.0)


def _ends(system: System, rank: _Rank, instance: Instance, share: _Share) -> _Layer:
    """Embedding and head, once for all micro-batches, and what joins drafts to them."""
    model = rank.serving.architecture
    sequences, prompts = share.sequences * share.halves, share.prompts * share.halves
    sampled = sequences * share.queries + prompts * np.where(share.prompt_tokens > 0, 1.0, 0.0)
    ends = _head(system, rank, share, instance, sampled)
    ends = ends + _Layer(vector=rank.vector(4.0 * share.tokens * share.halves * model.hidden, 1))
    drafts = np.where(share.sequences > 0, share.queries - 1.0, 0.0)
    if not np.any(drafts):
        return ends
    merge = rank.linear(rank.serving.weight_format, sequences, (model.hidden, 2.0 * model.hidden))
    again = _head(system, rank, share, instance, sequences) + _Layer(linear=merge)
    return ends + again.times(drafts)


def forward_pass(system: System, stack: ServingStack, serving: Serving, instance: Instance, batch: Batch) -> PassCost:
    """Cost of one pass of a batch through the instance (scalars, lists or open meshes).

    Raises KeyError where the chip does not run a number format that is asked for (see Chip.supports).
    """
    share = _share(instance, batch)
    fused = np.where(share.prompt_tokens > 0, stack.prefill_vector_passes, stack.vector_passes)
    rank = _Rank(
        launching(system.chip, stack.launch_share * system.chip.calibration.decode.launch_share), stack, serving, fused
    )
    model = serving.architecture
    halves = share.halves
    one, layers, mixtures = _layers(system, rank, instance, share)
    whole = one.times(halves) + _ends(system, rank, instance, share)
    stages = np.asarray(instance.pipeline_parallel, float)
    ranks = np.asarray(instance.tensor_parallel, np.int64) * instance.context_parallel * instance.data_parallel
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
