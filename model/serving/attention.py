r"""Attention of tokens that are generated, over keys and values in a cache.

Grouped-query attention streams the cache: with b sequences of s keys, q new tokens each, a heads on g key/value heads
of d elements,

.. math::
    t = t_0 + (t_c^4 + t_m^4)^{1/4}, \quad
    t_m = \frac{2 b s g d\, b_{kv}}{BW e_m}, \quad t_c = \frac{4 b q a s d}{P e_c}

Latent attention (MLA) with absorbed projections is multi-query attention on a latent of c + d_r elements whose first c
are the values: t = t0 + the same norm of 2 b q a s (2 c + d_r) / (P e_c) and b s (c + d_r) b_kv / (BW e_m).

Sources: FlashMLA, github.com/deepseek-ai/FlashMLA; CloudMatrix384, arXiv:2506.12708, tables 8 and 9; constants from
measured tables (sweep/calibration.py).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from model.architecture import LatentAttention, SparseAttention
from model.chip import FORMATS, Chip
from model.matmul import smooth_maximum
from model.vector import vector
from model.work import Work

_INDEX_PEAKS = ("fp8", "int8", "bf16")  # of the indexer's products: the first that the chip has


def cached_attention(
    chip: Chip, sequences: Any, queries: Any, keys: Any, heads: Any, key_heads: Any, head_size: int,
    kv_bytes: float = 2.0, core: str = "bf16",
) -> Work:  # fmt: skip
    """Work of grouped-query attention over a cache, on one rank (arrays broadcast).

    Parameters
    ----------
    sequences : sequences of the rank; queries : new tokens of each, drafted ones included; keys : mean keys of each
    heads, key_heads : query heads and key/value heads of the rank; head_size : elements of a head
    kv_bytes : of one element of the cache, scales included; core : number format of the products
    """
    fit = chip.calibration.decode
    peak = FORMATS[core].peak
    moved = 2.0 * sequences * keys * key_heads * head_size * kv_bytes
    flops = 4.0 * sequences * queries * heads * keys * head_size
    compute = flops / (chip.peak_flops[peak] * fit.attention_fraction)
    narrow = fit.narrow_cache_fraction if kv_bytes < FORMATS[core].input_bytes else 1.0
    memory = moved / (chip.hbm_bandwidth * fit.cache_fraction * narrow)
    return Work(
        fit.attention_launch_s + smooth_maximum(compute, memory), flops * chip.power.joule_per_flop[peak], moved
    )


def latent_cached_attention(
    chip: Chip, sequences: Any, queries: Any, keys: Any, heads: Any, latent: LatentAttention,
    kv_bytes: float = 2.0, core: str = "bf16",
) -> Work:  # fmt: skip
    """Work of latent attention with absorbed projections over a cache, on one rank (arrays broadcast).

    Parameters as in `cached_attention`; with sparse attention `keys` are those that were picked.
    """
    fit = chip.calibration.decode
    peak = FORMATS[core].peak
    value, width = latent.key_value_rank, latent.key_value_rank + latent.rope_head
    moved = sequences * keys * width * kv_bytes
    flops = 2.0 * sequences * queries * heads * keys * (width + value)
    fraction = fit.latent_fraction
    if kv_bytes < FORMATS[core].input_bytes:  # a narrower cache is widened on its way to the matrix engine
        fraction = fraction * fit.widening_fraction
    compute = flops / (chip.peak_flops[peak] * fraction)
    memory = moved / (chip.hbm_bandwidth * fit.latent_cache_fraction)
    return Work(fit.latent_launch_s + smooth_maximum(compute, memory), flops * chip.power.joule_per_flop[peak], moved)


def sparse_heads(chip: Chip, heads: Any) -> Any:
    """Query heads that a kernel of sparse latent attention works on for `heads` of a rank.

    Each token picks keys of its own, so that the rows of a tile are heads of one token: 64 on Hopper, 128 on Blackwell
    (flash_mla_sparse_fwd pads to them, vLLM's and SGLang's sparse backends).
    """
    tile = chip.calibration.decode.sparse_heads
    return np.ceil(np.asarray(heads, float) / tile) * tile


def sparse_prompt_attention(
    chip: Chip, tokens: Any, keys: Any, heads: Any, latent: LatentAttention, core: str = "bf16"
) -> Work:
    """Work of `tokens` of prompts that attend to `keys` picked ones each, with absorbed projections, on one rank.

    Neighbours pick much the same keys, which stay in the cache of the chip: compute alone counts.
    """
    fit, peak = chip.calibration.decode, FORMATS[core].peak
    flops = 2.0 * tokens * sparse_heads(chip, heads) * keys * (2.0 * latent.key_value_rank + latent.rope_head)
    seconds = flops / (chip.peak_flops[peak] * fit.latent_fraction)
    return Work(fit.latent_launch_s + seconds, flops * chip.power.joule_per_flop[peak], 0.0)


def index_scores(chip: Chip, sparse: SparseAttention, sequences: Any, queries: Any, keys: Any) -> Work:
    """Work of scoring all `keys` of a sequence for each new token, in 8 bits; scores are written in 32."""
    fit = chip.calibration.decode
    peak = next(name for name in _INDEX_PEAKS if name in chip.peak_flops)
    flops = 2.0 * sequences * queries * sparse.index_heads * sparse.index_head * keys
    moved = sequences * keys * (sparse.index_head + 4.0) + 4.0 * sequences * queries * keys
    compute = flops / (chip.peak_flops[peak] * fit.indexer_fraction)
    memory = moved / (chip.hbm_bandwidth * fit.cache_fraction)
    return Work(fit.indexer_launch_s + smooth_maximum(compute, memory), flops * chip.power.joule_per_flop[peak], moved)


def indexer(chip: Chip, sparse: SparseAttention, sequences: Any, queries: Any, keys: Any) -> Work:
    """Work of scoring all `keys` for each new token, and of picking the best in one pass over the scores."""
    return index_scores(chip, sparse, sequences, queries, keys) + vector(chip, 4.0 * sequences * queries * keys, 1.0)
