"""What a step costs: records of parts whose totals are their sums by construction.

Every field is an array that broadcasts with the layout it was computed from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np

from model.layout import Array

if TYPE_CHECKING:
    from model.energy import Energy
    from model.memory import Memory
    from model.system import System


class Parts:
    """Named parts that add up."""

    __slots__ = ()

    def parts(self) -> dict[str, Array]:
        """Part name -> array."""
        return {f.name: np.asarray(getattr(self, f.name)) for f in fields(self)}  # type: ignore[arg-type]

    @property
    def total(self) -> Array:
        """Sum of the parts."""
        return np.asarray(reduce(np.add, self.parts().values()))


def mapped(record: Any, change: Callable[[Array], Array]) -> Any:
    """A record of arrays, and of such records, with every array changed; a record that stands twice only once."""
    done: dict[int, Any] = {}

    def along(values: Any) -> Any:
        if not is_dataclass(values):
            return change(np.asarray(values))
        if id(values) not in done:
            changed = {f.name: along(getattr(values, f.name)) for f in fields(values)}
            done[id(values)] = replace(values, **changed)  # type: ignore[type-var]
        return done[id(values)]

    return along(record)


def gathered(record: Any, index: Array) -> Any:
    """A record of arrays with the places `index` of the last axis; what does not vary along it stays as it is."""
    return mapped(
        record,
        lambda values: values if values.ndim == 0 or values.shape[-1] == 1 else values.take(index, axis=-1),
    )


@dataclass(frozen=True, slots=True)
class TimeParts(Parts):
    """Seconds of one step on the critical path, by cause.

    In the order of what they depend on, the fewest fields of a layout first: a sum over an open mesh is short then.
    """

    compute: Any  # matmul, attention, vector kernels and recomputation of the busiest stage
    tensor: Any  # exposed tensor-parallel collectives
    context: Any  # exposed context-parallel exchange
    expert: Any  # exposed dispatch and combine
    host: Any  # launch floors and synchronisation
    offload: Any  # transfers to and from the host's memory that no compute hides
    fixed: Any  # per-step constant
    transfer: Any  # exposed stage-to-stage transfers
    bubble: Any  # pipeline idle time
    optimizer: Any
    data: Any  # exposed gradient and parameter traffic


@dataclass(frozen=True, slots=True)
class MemoryParts(Parts):
    """Bytes on the fullest rank."""

    weights: Any
    gradients: Any
    optimizer: Any
    logits: Any
    buffers: Any  # working buffers, gathered weights, communication
    activations: Any
    base: Any  # context and kernels


@dataclass(frozen=True, slots=True)
class EnergyParts(Parts):
    """Joules of one step of the whole cluster, at the meter of the building."""

    matrix: Any  # matmul and attention FLOPs
    hbm: Any  # memory traffic
    link: Any  # chip-to-chip serdes
    idle: Any  # chips' power at rest over the step
    host: Any  # CPUs, boards, storage
    network: Any  # switches, optics, NICs
    conversion: Any  # power supplies
    cooling: Any  # fans, pumps and the building's overhead


class Spent:
    """What follows from energy, time and violations, of a training step and of an instance that serves.

    A subclass has `energy`, `step_time`, `tokens` and `violations`.
    """

    __slots__ = ()

    energy: Energy
    step_time: Any
    tokens: Any
    violations: dict[str, Array]

    @property
    def system(self) -> System:
        """The machine."""
        return self.energy.system

    @property
    def power(self) -> Array:
        """Mean watts at the building's meter during a step."""
        return np.asarray(self.energy.total / self.step_time)

    @property
    def tokens_per_joule(self) -> Array:
        """Tokens for a joule at the building's meter."""
        return np.asarray(self.tokens / self.energy.total)

    @property
    def energy_per_token(self) -> Array:
        """Joules per token at the building's meter."""
        return np.asarray(self.energy.total / self.tokens)

    @property
    def feasible(self) -> Array:
        """Where no violation is positive."""
        ok: Array = np.asarray(True)
        for excess in self.violations.values():
            ok = ok & (np.asarray(excess) <= 0)
        return np.broadcast_to(ok, np.shape(self.step_time))


@dataclass(frozen=True, slots=True)
class StepCost(Spent):
    """Cost of one step for every layout given.

    Every part has the shape of what it depends on, and broadcasts to the shape of the layouts.
    """

    step_time: Array  # seconds: the total of `time`, which many quantities need
    time: TimeParts
    memory: Memory
    energy: Energy
    tokens: Any  # tokens of a step
    model_flops: Any  # 6 N_active + causal attention, per step (for MFU only)
    peak_flops: Any  # of all ranks, in the workload's number format
    packages: Any
    saved_bytes: Any  # of a checkpoint, a rank's share: weights and optimizer state, each written once
    violations: dict[str, Array]  # name -> excess in physical units, positive where broken

    @property
    def tokens_per_second(self) -> Array:
        """Tokens/s of the whole cluster."""
        return np.asarray(self.tokens / self.step_time)

    @property
    def model_flops_utilisation(self) -> Array:
        """Model FLOPs over peak FLOPs of the step's time (MFU), causal attention counted at half."""
        return np.asarray(self.model_flops / (self.peak_flops * self.step_time))
