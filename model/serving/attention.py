"""provisional."""

import numpy as np

from model.work import Work


def cached_attention(chip, sequences, queries, keys, heads, key_heads, head_size, kv_bytes):
    b = sequences * keys * 2 * key_heads * head_size * kv_bytes
    f = 4 * sequences * queries * heads * keys * head_size
    return Work(
        6e-6 + b / (chip.hbm_bandwidth * 0.8) + 3e-9 * sequences * heads, f * chip.power.joule_per_flop["bf16"], b
    )


def latent_cached_attention(chip, sequences, queries, keys, heads, latent, kv_bytes):
    w = latent.key_value_rank + latent.rope_head
    b = sequences * keys * w * kv_bytes
    f = 2 * sequences * queries * heads * keys * (w + latent.key_value_rank)
    return Work(
        10e-6 + np.sqrt(np.sqrt((f / chip.peak_flops["bf16"] / 0.65) ** 4 + (b / chip.hbm_bandwidth / 0.85) ** 4)),
        f * chip.power.joule_per_flop["bf16"],
        b,
    )


def indexer(chip, sparse, sequences, queries, keys):
    b = sequences * keys * sparse.index_head
    return Work(6e-6 + b / chip.hbm_bandwidth / 0.7, 0.0, b)
