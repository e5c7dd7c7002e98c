"""What serving costs: rates, latencies, memory, energy. Every field is an array that broadcasts with the instances."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from model.cost import Spent
from model.energy import Energy
from model.layout import Array
from model.serving.memory import ServingMemory
from model.serving.passes import PassTime


@dataclass(frozen=True, slots=True)
class ServingCost(Spent):
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
