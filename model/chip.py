"""A chip as the cost model sees it: one rank's peaks, and beside them the calibration that says what is achieved.

A *rank* is what one process of the job drives: an H100, a B200 package, one die of an Ascend 910C (its package holds
two ranks), one TPU chip. Peaks are dense FLOP/s; bandwidths are bytes per second in one direction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any

import numpy as np

from model.powers import power
from model.silicon import Silicon


@dataclass(frozen=True, slots=True)
class NumberFormat:
    """Bytes of one element of a matmul's inputs, scales included."""

    name: str
    input_bytes: float
    cast_bytes: float  # HBM bytes to quantise an element of a 16-bit tensor; 0: not quantised
    peak: str  # which peak of the chip it runs at: "bf16", "fp8", "fp4", "int8"
    stored_bytes: float = 0.0  # of a weight, where it is narrower than the activations; 0: as they are

    @property
    def weight_bytes(self) -> float:
        """Bytes of an element of the weights."""
        return self.stored_bytes or self.input_bytes


FORMATS: dict[str, NumberFormat] = {
    f.name: f
    for f in (
        NumberFormat("bf16", 2.0, 0.0, "bf16"),
        NumberFormat("fp16", 2.0, 0.0, "bf16"),
        # read 16 bits, write a byte; per-tensor scales are known beforehand or found in the producing kernel
        NumberFormat("fp8", 1.0, 3.0, "fp8"),
        # a row-wise and a column-wise copy with block scales and their swizzle
        NumberFormat("mxfp8", 1.0 + 1 / 32, 5.0, "fp8"),
        # as mxfp8, after a Hadamard transform and a second pass for the tensor's maximum
        NumberFormat("nvfp4", 0.5 + 1 / 16, 8.0, "fp4"),
        NumberFormat("int8", 1.0, 3.0, "int8"),
        NumberFormat("mxfp4", 0.5 + 1 / 32, 8.0, "fp4"),
        # narrow weights, widened on their way to the matrix engine
        NumberFormat("mxfp4-mxfp8", 1.0 + 1 / 32, 5.0, "fp8", 0.5 + 1 / 32),
        NumberFormat("int4-fp8", 1.0, 3.0, "fp8", 0.5 + 1 / 64),
        NumberFormat("int4-int8", 1.0, 3.0, "int8", 0.5 + 1 / 64),
        NumberFormat("mxfp4-bf16", 2.0, 0.0, "bf16", 0.5 + 1 / 32),
        NumberFormat("int4-bf16", 2.0, 0.0, "bf16", 0.5 + 1 / 64),
        NumberFormat("int8-bf16", 2.0, 0.0, "bf16", 1.0),
        NumberFormat("fp8-bf16", 2.0, 0.0, "bf16", 1.0),
    )
}

# Those whose gradients can be formed: weights as wide as activations.
TRAINING_FORMATS = {name: form for name, form in FORMATS.items() if not form.stored_bytes}


@dataclass(frozen=True, slots=True)
class MatmulCalibration:
    """Achieved matmul speed in one number format (the tile model of model/matmul.py)."""

    peak_fraction: float  # burst fraction of peak of a large tile
    overhead_k: float  # prologue and epilogue of a tile, in elements of K
    wave_quantisation: float  # 1: hard waves of tiles, 0: stream-K or systolic
    tile_loss: float  # efficiency lost per halving of the tile area
    launch_s: float
    long_kernel_loss: float = 0.0  # slow-down per decade of kernel time over 1 ms (power)
    sustained_clock: float = 1.0  # matrix clock under the board's power cap in a long training run, of the burst


@dataclass(frozen=True, slots=True)
class AttentionCalibration:
    """Achieved speed of fused (flash) attention."""

    forward_fraction: float
    backward_fraction: float
    overhead_keys: float  # fixed cost of a block of queries, in keys
    launch_s: float
    long_kernel_loss: float = 0.12  # per decade over 2 ms
    older_kernels: float = 1.0  # speed of kernels written for the generation before, of native ones
    unequal_heads_backward: float = 0.83  # MLA: query/key head wider than the value head
    array_width: float = 0.0  # of the matrix engine: heads that are narrower leave a part of it idle; 0: no such loss


@dataclass(frozen=True, slots=True)
class MemoryCalibration:
    """Achieved fractions of the HBM bandwidth."""

    matmul_fraction: float
    vector_fraction: float  # streaming element-wise kernels
    gather_fraction: float  # permutes: gather and scatter of rows
    vector_launch_s: float


@dataclass(frozen=True, slots=True)
class DecodeCalibration:
    """Achieved speed of the kernels of generation (model/serving). Defaults: typical of measured chips."""

    attention_fraction: float = 0.45  # of peak, grouped-query attention over a cache
    cache_fraction: float = 0.85  # of the HBM bandwidth, reading its keys and values
    narrow_cache_fraction: float = 1.0  # of that, where the cache is narrower than the products
    attention_launch_s: float = 12e-6
    latent_fraction: float = 0.65  # of peak, absorbed latent attention
    latent_cache_fraction: float = 0.85
    latent_launch_s: float = 14e-6
    widening_fraction: float = 1.0  # of the latent fraction, where a narrower cache is widened on the way
    sparse_heads: float = 1.0  # that kernels of sparse latent attention work on at least; a rank with fewer pads them
    indexer_fraction: float = 0.5  # of the 8-bit peak, scores of sparse attention
    indexer_launch_s: float = 8e-6
    grouped_fraction: float = 0.9  # large grouped matmuls, over large plain ones
    grouped_padding_rows: float = 64.0  # rows lost in partly filled tiles, of each expert
    narrow_weights_fraction: float = 0.7  # of that, where weights are widened to 16 bits on their way
    weights_fraction: float = 0.8  # of the HBM bandwidth, reading the experts' weights
    grouped_launch_s: float = 8e-6
    launch_share: float = 1.0  # of launches in captured graphs, where kernels start before those ahead of them end
    prompt_attention_speed: float = 1.0  # kernels of prompts, over those of training at the clock of training


@dataclass(frozen=True, slots=True)
class Calibration:
    """Everything that turns a chip's peaks into times."""

    matmul: Mapping[str, MatmulCalibration]  # by peak name: "bf16", "fp8", "fp4", "int8"
    attention: AttentionCalibration
    memory: MemoryCalibration
    communication_slowdown: float  # compute slows by this share while a collective runs beside it
    grouped_overhead_rows: float = 55.0  # grouped matmul: slow-down 1 + rows0 / rows per expert (+ fixed)
    grouped_overhead: float = 0.1
    decode: DecodeCalibration = DecodeCalibration()


@dataclass(frozen=True, slots=True)
class ChipPower:
    """Power of one rank: watts at rest, joules of work, and the cap that the board holds."""

    board_w: float  # power cap
    idle_w: float  # clocked, waiting
    joule_per_flop: Mapping[str, float]  # by peak name, at the clock that the rating sustains
    joule_per_hbm_byte: float
    joule_per_link_byte: float  # scale-up serdes, one direction
    clock_exponent: float = 1.0  # sustained clock ~ (power above idle)^exponent


@dataclass(frozen=True, slots=True)
class Chip:
    """One rank. Sources and ranges of every number are in the catalogue."""

    name: str
    peak_flops: Mapping[str, float]  # dense FLOP/s by peak name; a missing name is not supported
    cores: int  # streaming multiprocessors, cube cores, compute units
    hbm_bytes: float  # usable
    hbm_bandwidth: float
    ranks_per_package: int
    power: ChipPower
    calibration: Calibration
    tiles: tuple[tuple[int, int], ...] = ((256, 128), (128, 256), (128, 128), (128, 64), (64, 128), (64, 64))
    power_cap_w: float | None = None  # a study may cap the board below (or above) its rating
    silicon: Silicon | None = None  # of the package, all its ranks together; unknown: it cannot be priced from it
    notes: Mapping[str, str] = field(default_factory=dict)

    def supports(self, number_format: str) -> bool:
        """Whether the matrix engine runs this number format."""
        return FORMATS[number_format].peak in self.peak_flops

    def clock(self, peak: str) -> Any:
        """Sustained matrix clock in a training run, as a fraction of the burst clock, at the power cap in force.

        The measured fraction at the board's own rating scales with the power above idle, to the chip's exponent
        (1: measured on one die at 1000, 1200 and 1400 W; classical voltage scaling gives 1/3 to 1/2), and
        never exceeds the burst clock.
        """
        matmul = self.calibration.matmul[peak]
        if self.power_cap_w is None:
            return matmul.sustained_clock
        above = (self.power_cap_w - self.power.idle_w) / (self.power.board_w - self.power.idle_w)
        return np.minimum(1.0, matmul.sustained_clock * power(np.maximum(above, 0.05), self.power.clock_exponent))

    @property
    def thrift(self) -> Any:
        r"""Joules of a FLOP at the cap in force, over those at the board's rating.

        Power above idle goes as :math:`f^{1/\gamma}` with the clock, gamma being the chip's exponent, so a FLOP goes as
        :math:`f^{1/\gamma - 1} = x^{1 - \gamma}` with x the power above idle, over the rating's: slower is thriftier
        where the voltage falls with the clock (gamma below 1), faster is thirstier, up to the burst clock.
        """
        if self.power_cap_w is None:
            return 1.0
        gamma = self.power.clock_exponent
        above = (self.power_cap_w - self.power.idle_w) / (self.power.board_w - self.power.idle_w)
        slowest = reduce(np.minimum, (fit.sustained_clock for fit in self.calibration.matmul.values()))
        burst = power(slowest, -1.0 / gamma)  # power above idle at which no clock rises any more
        return power(np.clip(above, 0.05, burst), 1.0 - gamma)


def launching(chip: Chip, share: Any) -> Chip:
    """The chip with a share of its launches: kernels of a captured graph may start before those ahead of them end."""
    if np.all(share == 1.0):
        return chip
    fit = chip.calibration
    matmul = {name: replace(one, launch_s=one.launch_s * share) for name, one in fit.matmul.items()}
    memory = replace(fit.memory, vector_launch_s=fit.memory.vector_launch_s * share)
    names = ("attention_launch_s", "latent_launch_s", "indexer_launch_s", "grouped_launch_s")
    decode = replace(fit.decode, **{name: getattr(fit.decode, name) * share for name in names})
    return replace(chip, calibration=replace(fit, matmul=matmul, memory=memory, decode=decode))


def without_cores(chip: Chip, share: float) -> Chip:
    """The chip with a share of its cores given away for good, as persistent communication kernels do."""
    if not share:
        return chip
    peaks = {name: peak * (1.0 - share) for name, peak in chip.peak_flops.items()}
    return replace(chip, peak_flops=peaks, cores=max(1, int(chip.cores * (1.0 - share))))
