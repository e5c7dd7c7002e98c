r"""Attention of training and prefill: fused (flash) and unfused.

Fused attention works through blocks of 128 queries; a block costs its keys plus a fixed overhead of s0 keys:

.. math:: t = t_0 + W S \cdot 128 \cdot 2 (d_{qk} + d_v) (\bar s + n s_0) c / (P e)

with :math:`\bar s` the mean number of keys a query attends to (half the sequence when causal), n the ring steps of
context parallelism, W = max(1, ceil(blocks / cores)) and c = 1 forward, 2.5 backward (five products against two).
Source: FlashAttention-2, arXiv:2307.08691; fitted on aiconfigurator's context-attention tables, median error 1.6 %
(A100), 4.1 % (H100), 3.8 % (B200) at 2048 tokens and more.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from model.chip import FORMATS, Chip
from model.matmul import matmul
from model.vector import vector
from model.work import Work

_QUERY_BLOCK = 128.0
_BACKWARD_PRODUCTS = 2.5
# Exponentials of a key, as elements of head size: heads of 64 reach about 0.7 of the rate of 128 (FlashAttention-3).
_SOFTMAX = 120
_CALIBRATED_HEADS = 256.0  # query/key and value heads of 128, on which the fractions were measured
_BACKWARD_OVERHEAD = 0.55  # of the forward's s0: the backward's loop is longer


def mean_keys(sequence: Any, window: int, full_every: int) -> Any:
    """Mean keys per query of a causal layer, averaged over sliding-window and full layers.

    With a window, one layer of `full_every` attends to everything; none where that is 1.
    """
    full = sequence / 2.0
    if window <= 0:
        return full
    span = np.minimum(window, sequence)
    windowed = span * (1.0 - span / (2.0 * sequence))
    share = 1.0 / full_every if full_every > 1 else 0.0
    return full * share + windowed * (1.0 - share)


def softmax_factor(query_key: int, value: int) -> float:
    """Time of a head of these sizes over heads of 128, per FLOP: exponentials cost the same whatever the head."""
    return (1.0 + _SOFTMAX / (query_key + value)) / (1.0 + _SOFTMAX / _CALIBRATED_HEADS)


def fused_attention(
    chip: Chip, batch: Any, queries: Any, keys: Any, heads: Any, head_sizes: tuple[int, int], ring: Any = 1.0,
    backward: bool = False, core: str = "bf16",
) -> Work:  # fmt: skip
    """Work of flash attention over `batch` sequences on one rank.

    Parameters
    ----------
    queries : tokens of queries on this rank; keys : mean keys per query; heads : query heads on this rank
    head_sizes : (query/key, value); ring : context-parallel ring steps
    core : number format of the products; 8 bits are taken to reach the same fraction of their peak
    """
    fit = chip.calibration.attention
    query_key, value = head_sizes
    fraction = fit.backward_fraction if backward else fit.forward_fraction
    if backward and query_key != value:
        fraction = fraction * fit.unequal_heads_backward
    waves = np.ceil(queries / _QUERY_BLOCK) * batch * heads / chip.cores
    rounds = np.where(waves < 1.0, 1.0, np.ceil(waves))
    overhead = fit.overhead_keys * (_BACKWARD_OVERHEAD if backward else 1.0)
    per_key = 2.0 * (query_key + value) * (_BACKWARD_PRODUCTS if backward else 1.0)
    softmax = softmax_factor(query_key, value)
    peak = chip.peak_flops[FORMATS[core].peak]
    seconds = rounds * chip.cores * _QUERY_BLOCK * per_key * softmax * (keys + ring * overhead) / (peak * fraction)
    decades = np.clip(np.log10(np.maximum(seconds, 1e-9) / 2e-3), 0.0, 1.5)
    flops = batch * queries * heads * per_key * keys
    moved = 2.0 * batch * queries * heads * 2.0 * (query_key + value) * (2.5 if backward else 1.0)
    return Work(
        fit.launch_s + seconds * (1.0 + fit.long_kernel_loss * decades),
        flops * chip.power.joule_per_flop[FORMATS[core].peak],
        moved,
    )


def unfused_attention(
    chip: Chip, batch: Any, queries: Any, sequence: Any, heads: Any, head_sizes: tuple[int, int], dropout: bool,
    backward: bool = False,
) -> Work:  # fmt: skip
    """Work of attention as batched products, scale-mask-softmax and dropout on the full score matrix.

    Bytes per score beside the products: forward softmax 4 and dropout 5, backward 6 and 5; nothing is skipped for
    causality. Reproduces Korthikanti et al., arXiv:2205.05198, within 5 % with no parameter of its own.
    """
    query_key, value = head_sizes
    groups = batch * heads
    scores = groups * queries * sequence
    products = matmul(chip, "bf16", queries, sequence, query_key, groups) + matmul(
        chip, "bf16", queries, value, sequence, groups
    )
    if backward:
        return products.times(2.0) + vector(chip, scores * (6.0 + (5.0 if dropout else 0.0)), 2)
    return products + vector(chip, scores * (4.0 + (5.0 if dropout else 0.0)), 2)
