"""The attention half of a layer that serves: projections, attention of prompts and over caches, what ranks exchange.

Latent attention is absorbed for decoding sequences (queries meet the compressed cache) and expanded for prompts:
DeepSeek-V2, arXiv:2405.04434. Indexers of sparse attention: DeepSeek-V3.2, arXiv:2512.02556.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from model.architecture import Architecture, LatentAttention, SparseAttention
from model.attention import fused_attention
from model.matmul import matmul
from model.serving.attention import (
    cached_attention,
    indexer,
    latent_cached_attention,
    sparse_heads,
    sparse_prompt_attention,
)
from model.serving.collectives import all_gather, all_reduce
from model.serving.experts import grouped_matmul
from model.serving.shares import Layer, Rank, Share, joined, streams, when
from model.system import System
from model.work import NOTHING, SILENCE, Traffic, Work

_NARROW_BYTES = 1.5  # of a cached element: below, the cache holds 8 bits
_POOL_KERNELS = 3  # softmax of the weights, weighted sum, norm and writing
_INDEX_KERNELS = 4  # rotation, scaling to 8 bits, writing the key, choice of the best


def spans(model: Architecture, keys: Any) -> tuple[tuple[float, Any], ...]:
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


def _core(rank: Rank) -> str:
    """Number format that attention multiplies in."""
    narrow = rank.stack.narrow_attention and rank.serving.kv_bytes < _NARROW_BYTES
    return "fp8" if narrow and rank.chip.supports("fp8") else rank.serving.attention_core


def _decode_attention(rank: Rank, share: Share) -> Work:
    """Attention of the decoding sequences over their caches."""
    serving, model, chip = rank.serving, rank.serving.architecture, rank.chip
    heads = model.heads / share.tensor
    core = _core(rank)
    done = NOTHING
    for part, span in spans(model, share.keys):
        if not part:
            continue
        keys = span / share.context
        if model.latent is not None:
            one = latent_cached_attention(
                chip,
                share.sequences,
                share.queries,
                keys,
                heads if model.sparse is None else sparse_heads(chip, heads),
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


def _prompt_attention(rank: Rank, share: Share) -> Work:
    """Attention of the prompts: each rank has its heads, and its share of the queries under context parallelism."""
    model, chip = rank.serving.architecture, rank.chip
    heads = model.heads / share.tensor
    own = share.prompt_tokens / np.maximum(share.prompts, 1e-9)
    sizes = (model.query_key_head, model.value_head)
    done = NOTHING
    for part, keys in _prompt_keys(model, own * share.context, share.cached):
        if not part:
            continue
        plain = fused_attention(chip, share.prompts, own, keys, heads, sizes, core=_core(rank))
        if model.sparse is not None and model.latent is not None:
            tokens = share.prompts * own
            picked = sparse_prompt_attention(chip, tokens, keys, heads, model.latent, _core(rank))
            # prompts within what is picked attend to all of it, as kernels of prompts do
            few = share.cached + own * share.context <= model.sparse.keys
            plain = plain.times(np.where(few, 1.0, 0.0)) + picked.times(np.where(few, 0.0, 1.0))
        done = done + plain.times(part)
    if model.sparse is not None:
        entries = (share.cached + own * share.context / 2.0) / model.sparse.compression
        done = done + indexer(chip, model.sparse, share.prompts, own, entries).times(model.sparse.picking)
    return done.slower(1.0 / rank.stack.prefill_attention_speed)


def _latent_projections(rank: Rank, model: Architecture, latent: LatentAttention, share: Share) -> Work:
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

    return done + when(share.decoding > 0, absorbed, NOTHING) + when(share.prompt_tokens > 0, expanded, NOTHING)


def _projections(rank: Rank, model: Architecture, share: Share, packed: Any) -> Work:
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


def attention_half(system: System, rank: Rank, share: Share) -> Layer:
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
    work = rank.vector(4.0 * tokens * packed, 1) + streams(rank, tokens * own)
    if model.sparse is not None:
        projected, prepared = _index_projections(rank, model, model.sparse, tokens)
        linear, work = linear + projected, work + prepared
    if not model.parallel_blocks:  # else the norm and the sum over ranks are those of the feed-forward
        work = work + rank.vector(6.0 * tokens * model.hidden * own, 1)
    prompts, decoding = share.prompt_tokens > 0, share.decoding > 0

    def keys() -> Traffic:
        gathered = share.prompt_tokens * share.context * cache * rank.serving.kv_bytes
        return all_gather(system, gathered, share.context, share.tensor, share.block)

    def partial() -> Traffic:
        return all_reduce(
            system, 2.0 * share.decoding * heads * model.value_head, share.context, share.tensor, share.block
        )

    split = share.context > 1
    divided = (share.tensor > 1) & (not model.parallel_blocks)
    return Layer(
        linear=linear,
        attention=when(decoding, lambda: _decode_attention(rank, share), NOTHING)
        + when(prompts, lambda: _prompt_attention(rank, share), NOTHING),
        vector=work,
        tensor=when(divided, lambda: joined(system, rank, share, share.tensor), SILENCE),
        context=when(prompts & split, keys, SILENCE) + when(decoding & split, partial, SILENCE),
    )


def _index_projections(rank: Rank, model: Architecture, sparse: SparseAttention, tokens: Any) -> tuple[Work, Work]:
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
