"""What serving costs: rates, latencies, memory, energy. Every field is an array that broadcasts with the instances."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from model.energy import Energy
from model.layout import Array
from model.serving.memory import ServingMemory
from model.serving.passes import PassTime


@dataclass(frozen=True, slots=True)
class ServingCost:
    """An instance at its working point, in steady state.

    Rates are of one instance. Time, memory and energy are those of one mean pass through the instance, of which a
    pipeline has as many at work as it has stages; `energy` is of all of these together. What a phase does not have
    (the time per output token of prefill, say) is not a number.
    """

    batch: Any  # sequences in flight
    ttft: Any  # mean seconds from arrival to the first token
    ttft_p99: Any
    tpot: Any  # mean seconds per output token of a request after the first
    tpot_p99: Any
    requests_per_second: Any
    tokens_per_second: Any  # prompt tokens in prefill, output tokens else
    step_time: Any  # mean seconds of a pass
    time: PassTime
    memory: ServingMemory
    energy: Energy
    tokens: Any  # that `energy` was spent on
    packages: Any
    violations: dict[str, Array]  # name -> excess in physical units, positive where broken

    @property
    def tokens_per_second_per_user(self) -> Array:
        """Output tokens/s that one request sees."""
        return np.asarray(1.0 / self.tpot)

    @property
    def tokens_per_second_per_package(self) -> Array:
        """Tokens/s of a chip as it is sold."""
        return np.asarray(self.tokens_per_second / self.packages)

    @property
    def energy_per_token(self) -> Array:
        """Joules per token at the building's meter."""
        return np.asarray(self.energy.total / self.tokens)

    @property
    def power(self) -> Array:
        """Mean watts of the instance at the building's meter."""
        return np.asarray(self.energy.total / self.step_time)

    @property
    def feasible(self) -> Array:
        """Where no violation is positive."""
        ok: Array = np.asarray(True)
        for excess in self.violations.values():
            ok = ok & (np.asarray(excess) <= 0)
        return np.broadcast_to(ok, np.shape(self.step_time))
