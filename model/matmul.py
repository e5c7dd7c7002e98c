r"""Matrix multiplication on tiles and waves.

A product M x N x K is cut into output tiles x by y. With S cores, w = ceil(M/x) ceil(N/y) / S tiles fall on each; a
partly filled last wave costs a fraction `wave_quantisation` of a full one. A tile takes (K + K0) steps, K0 being the
prologue and epilogue; where there are fewer tiles than cores, K is split. The library picks the fastest tile:

.. math::
    t_c = \min_{x,y} W (K/q + K_0) \frac{2 x y S}{P e f_s (1 - d \log_2(x_0 y_0 / (x y)))}, \qquad
    t = t_0 + (t_c^4 + t_m^4)^{1/4}

with t_m the HBM time of the three operands. The form was fitted on measured tables of bf16 matmuls (A100, H100, B200):
median error 2.3 to 5.4 % for M, N, K >= 1024, at the spread between two libraries on one chip (1 to 5 %).
Data: github.com/ai-dynamo/aiconfigurator, systems/data, commit 095f58a5.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from model.chip import FORMATS, Chip, MatmulCalibration
from model.vector import vector
from model.work import Work


def _tile_seconds(chip: Chip, fit: MatmulCalibration, peak: str, shape: tuple[Any, Any, Any], batch: Any) -> Any:
    """Matrix-engine seconds of the best tile, at the sustained clock."""
    m, n, k = shape
    rate = chip.peak_flops[peak] * fit.peak_fraction * chip.clock(peak)
    hard = fit.wave_quantisation
    # all tiles at once, on an axis before those of the layouts and of the chip's numbers
    numbers = (rate, hard, fit.overhead_k, fit.tile_loss)
    inner = max(np.broadcast(m, n, k, batch).ndim, *(getattr(number, "ndim", 0) for number in numbers))
    x, y = (np.asarray(sides, float).reshape(-1, *[1] * inner) for sides in zip(*chip.tiles, strict=True))
    waves = batch * np.ceil(m / x) * np.ceil(n / y) / chip.cores
    most = np.maximum(1.0, np.floor(k / 1024.0))
    split = np.minimum(np.maximum(np.floor(1.0 / np.maximum(waves, 1e-9)), 1.0), most)
    rounds = np.where(waves < 1.0, 1.0, hard * np.ceil(waves) + (1.0 - hard) * waves)
    efficiency = 1.0 - fit.tile_loss * np.log2((x * y).max() / (x * y))
    seconds = rounds * (k / split + fit.overhead_k) * (2.0 * x * y * chip.cores / (rate * efficiency))
    return seconds.min(axis=0)


def matmul(chip: Chip, number_format: str, m: Any, n: Any, k: Any, batch: Any = 1.0, output_bytes: float = 2.0) -> Work:
    """Work of `batch` independent products M x N x K in `number_format` (arrays broadcast).

    `output_bytes` is the HBM traffic per output element: 2 to write 16 bits, 8 to accumulate into fp32.
    """
    kind = FORMATS[number_format]
    fit = chip.calibration.matmul[kind.peak]
    m, n, k = (np.maximum(np.asarray(v, float), 1e-9) for v in (m, n, k))
    seconds = _tile_seconds(chip, fit, kind.peak, (m, n, k), batch)
    decades = np.clip(np.log10(np.maximum(seconds, 1e-9) / 1e-3), 0.0, 1.0)
    seconds = seconds * (1.0 + fit.long_kernel_loss * decades)
    moved = batch * (kind.input_bytes * m * k + kind.weight_bytes * n * k + output_bytes * m * n)
    memory = moved / (chip.hbm_bandwidth * chip.calibration.memory.matmul_fraction)
    flops = 2.0 * batch * m * n * k
    return Work(
        fit.launch_s + smooth_maximum(seconds, memory),
        flops * chip.power.joule_per_flop[kind.peak],
        moved,
    )


def smooth_maximum(a: Any, b: Any) -> Any:
    """(a^4 + b^4)^(1/4), by products and roots: they round alike on every machine, powers do not."""
    a, b = a * a, b * b
    return np.sqrt(np.sqrt(a * a + b * b))


def linear(
    chip: Chip, number_format: str, rows: Any, n: Any, k: Any, batch: Any = 1.0, accumulated: bool = True
) -> tuple[Work, Work, Work]:
    """Forward, input-gradient and weight-gradient work of `rows` x K -> `rows` x N.

    The weight gradient is accumulated into fp32: 8 bytes of traffic an element where the matmul does it
    (`accumulated`), else 2 and 10 more of a kernel that adds them. Source: Megatron-LM's gradient
    accumulation fusion (megatron/core/tensor_parallel/layers.py).
    """
    forward, inputs = matmul(chip, number_format, rows, n, k, batch), matmul(chip, number_format, rows, k, n, batch)
    weights = matmul(chip, number_format, n, k, rows, batch, output_bytes=8.0 if accumulated else 2.0)
    return forward, inputs, weights if accumulated else weights + vector(chip, 10.0 * n * k * batch, 1)
