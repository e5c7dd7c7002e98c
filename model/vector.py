"""Element-wise kernels: they move bytes and start kernels.

time = bytes / (HBM bandwidth x achieved fraction) + launches x launch time. Source of the form and of the achieved
fractions (0.75 to 0.80 streaming, about 0.5 gathering): measured streaming kernels in SimuMax's system files,
github.com/MooreThreads/SimuMax, configs/system, commit 4dcaae5.
"""

from __future__ import annotations

from typing import Any

from model.chip import Chip
from model.work import Work


def vector(chip: Chip, moved_bytes: Any, launches: float) -> Work:
    """Work of streaming kernels that read and write `moved_bytes` in all."""
    memory = chip.calibration.memory
    seconds = moved_bytes / (chip.hbm_bandwidth * memory.vector_fraction) + launches * memory.vector_launch_s
    return Work(seconds, 0.0, moved_bytes)


def gather(chip: Chip, moved_bytes: Any, launches: float) -> Work:
    """Work of kernels that gather or scatter rows."""
    memory = chip.calibration.memory
    seconds = moved_bytes / (chip.hbm_bandwidth * memory.gather_fraction) + launches * memory.vector_launch_s
    return Work(seconds, 0.0, moved_bytes)
