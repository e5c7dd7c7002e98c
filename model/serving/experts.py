r"""Grouped matmul of the experts of a rank: few rows an expert in decode, thousands in prefill.

With E active experts of m = rows/E rows each, K x N weights and r0 rows lost in partly filled tiles,

.. math::
    t = t_0 + \left(\left[\frac{2 E (m + r_0) N K}{P e}\right]^4 +
        \left[\frac{E N K b_w + R (K b_{in} + 2 N)}{BW e_m}\right]^4\right)^{1/4}

Only experts that got a row are read. Constants from measured tables (sweep/calibration.py):
github.com/alibaba/InferSim, github.com/deepseek-ai/DeepGEMM; arXiv:2506.12708, table 10.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from model.chip import FORMATS, Chip
from model.matmul import smooth_maximum
from model.work import Work

_SMALLEST_TILE = 8.0  # rows; kernels for few rows use narrower tiles


def is_widened(number_format: str) -> bool:
    """Whether weights are narrower than the 16 bits that they are multiplied in."""
    kind = FORMATS[number_format]
    return kind.peak == "bf16" and kind.weight_bytes < kind.input_bytes


def grouped_matmul(chip: Chip, number_format: str, rows: Any, active_experts: Any, n: Any, k: Any) -> Work:
    """Work of `rows` x K -> `rows` x N on one rank, the rows spread evenly over `active_experts` weights (arrays)."""
    kind, fit = FORMATS[number_format], chip.calibration.decode
    matmul = chip.calibration.matmul[kind.peak]
    rows = np.asarray(rows, float)
    active = np.minimum(np.maximum(np.asarray(active_experts, float), 0.0), rows)
    n, k = np.asarray(n, float), np.asarray(k, float)
    speed = chip.peak_flops[kind.peak] * matmul.peak_fraction * fit.grouped_fraction * chip.clock(kind.peak)
    each = rows / np.maximum(active, 1e-9)
    padded = each + fit.grouped_padding_rows * (each + _SMALLEST_TILE) / (each + fit.grouped_padding_rows)
    compute = 2.0 * padded * active * n * k / speed
    moved = active * n * k * kind.weight_bytes + rows * (k * kind.input_bytes + 2.0 * n)
    fraction = fit.weights_fraction * (fit.narrow_weights_fraction if is_widened(number_format) else 1.0)
    memory = moved / (chip.hbm_bandwidth * fraction)
    flops = 2.0 * rows * n * k
    launch = np.where(rows > 0.0, fit.grouped_launch_s, 0.0)
    return Work(launch + smooth_maximum(compute, memory), flops * chip.power.joule_per_flop[kind.peak], moved)
