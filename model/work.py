"""The cost of running a kernel on one rank: seconds, matrix joules and HBM bytes. Costs of a sequence add up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Work:
    """Seconds of a kernel or a sequence of kernels, and what they draw on."""

    seconds: Any = 0.0
    matrix_joules: Any = 0.0  # energy of the multiply-adds
    hbm_bytes: Any = 0.0

    def __add__(self, other: Work) -> Work:
        """One after the other."""
        return Work(
            self.seconds + other.seconds,
            self.matrix_joules + other.matrix_joules,
            self.hbm_bytes + other.hbm_bytes,
        )

    def times(self, factor: Any) -> Work:
        """The same work `factor` times over (a number or an array)."""
        return Work(self.seconds * factor, self.matrix_joules * factor, self.hbm_bytes * factor)

    def slower(self, factor: Any) -> Work:
        """The same work stretched in time only."""
        return Work(self.seconds * factor, self.matrix_joules, self.hbm_bytes)


@dataclass(frozen=True, slots=True)
class Traffic:
    """Seconds of a collective and the bytes that one rank sends for it."""

    seconds: Any = 0.0
    link_bytes: Any = 0.0

    def __add__(self, other: Traffic) -> Traffic:
        """One after the other."""
        return Traffic(self.seconds + other.seconds, self.link_bytes + other.link_bytes)

    def times(self, factor: Any) -> Traffic:
        """The same traffic `factor` times over."""
        return Traffic(self.seconds * factor, self.link_bytes * factor)


NOTHING = Work()
SILENCE = Traffic()
