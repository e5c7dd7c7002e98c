"""Cases of the laws: a machine, a software stack and a workload of the catalogue, and many legal layouts at once.

The model works on arrays, so one example holds some hundred layouts: hypothesis draws the case and a seed, and the
layouts follow from the seed. A law that fails names the worst row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from model.architecture import Architecture
from model.chip import FORMATS
from model.layout import (
    OFFLOADS,
    OVERLAPS,
    RECOMPUTE_MODULES,
    SCHEDULES,
    Array,
    Layout,
    recompute_code,
    recompute_names,
)
from model.legality import legal
from model.stack import Stack
from model.system import System
from model.workload import Training
from sweep import catalogue

ROWS = 300  # layouts of one example
SYSTEMS = catalogue.names("systems")
MODELS = catalogue.names("models")
STACKS = catalogue.names("stacks")
SEQUENCES = (2048, 4096, 8192, 32768)
TOLERANCE = 1e-9

_INTERLEAVED, _ZERO_BUBBLE_V = SCHEDULES.index("interleaved"), SCHEDULES.index("zb-v")
_RECOMPUTE = (0, recompute_code(["full"]), *(1 << bit for bit in range(1, len(RECOMPUTE_MODULES))))


@dataclass(frozen=True)
class Case:
    """A machine, its software, a workload and legal layouts of it."""

    system: System
    stack: Stack
    training: Training
    layout: Layout

    def __repr__(self) -> str:
        names = f"{self.system.name}, {self.stack.name}, {self.training.architecture.name}"
        return f"<{names}, s={self.training.sequence}, {self.training.number_format}, {self.layout.shape} layouts>"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self))  # hypothesis would print every array

    def with_layout(self, **changes: Any) -> Case:
        """The case with some of the layouts' fields replaced, and only the rows that stay legal."""
        layout = self.layout.with_(**changes).flat()
        return replace(self, layout=layout.take(np.flatnonzero(legal(self.training, layout))))

    def row(self, index: int) -> str:
        """One layout in words."""
        columns = {name: int(values[index]) for name, values in self.layout.columns().items()}
        named = {"recompute": recompute_names(columns["recompute"]), "schedule": SCHEDULES[columns["schedule"]]}
        return ", ".join(f"{name}={value}" for name, value in (columns | named).items())


def at_most(case: Case, low: Any, high: Any, what: str, tolerance: float = TOLERANCE) -> None:
    """Assert low <= high in every row, up to a relative tolerance; the message names the row that breaks it most."""
    shape = case.layout.shape
    low, high = (np.broadcast_to(np.asarray(value, float), shape) for value in (low, high))
    excess = (low - high) / np.maximum(np.abs(high), 1e-30)
    excess = np.where(low == high, 0.0, np.where(np.isnan(excess), np.inf, excess))
    worst = int(np.argmax(excess)) if excess.size else 0
    assert not excess.size or excess[worst] <= tolerance, (
        f"{what}: {low[worst]!r} > {high[worst]!r} (by {excess[worst]:.3g}) in {int((excess > tolerance).sum())} of "
        f"{excess.size} layouts of {case!r}, most in {case.row(worst)}"
    )


def divisors(number: int) -> Array:
    """Divisors of a number, ascending."""
    low = [d for d in range(1, math.isqrt(number) + 1) if number % d == 0]
    return np.unique([*low, *(number // d for d in low)])


def _divisor_of(rng: np.random.Generator, numbers: Array) -> Array:
    """A random divisor of each number."""
    chosen = np.empty_like(numbers)
    for number in np.unique(numbers):
        rows = np.flatnonzero(numbers == number)
        chosen[rows] = rng.choice(divisors(int(number)), rows.size)
    return chosen


def _stages(rng: np.random.Generator, model: Architecture, rows: int) -> tuple[Array, Array, Array]:
    """Pipeline stages, chunks a stage and a schedule that goes with them."""
    depth = model.layers + model.mtp_layers
    ways = np.unique([1, 2, 3, 4, 6, 8, 12, 16, 24, 32, *divisors(model.layers)])
    stages = rng.choice(ways[ways <= depth], rows)
    schedule = np.where(stages > 1, rng.integers(0, len(SCHEDULES), rows), 0)
    chunks = np.where(schedule == _INTERLEAVED, rng.choice([1, 2, 3, 4, 6], rows), 1)
    return stages, np.where(schedule == _ZERO_BUBBLE_V, 2, chunks), schedule


def random_layouts(training: Training, seed: int, rows: int = ROWS, few_microbatches: bool = True) -> Layout:
    """About `rows` random legal layouts: every degree, schedule, option and order that the model knows."""
    rng, model, wanted = np.random.default_rng(seed), training.architecture, rows
    rows = 4 * wanted
    stages, chunks, schedule = _stages(rng, model, rows)
    tensor = rng.choice([d for d in divisors(math.gcd(model.heads, model.feed_forward)) if d <= 64], rows)
    context = rng.choice([1, 1, 2, 4, 8, 16], rows)
    data = rng.choice([1, 2, 3, 4, 8, 16, 64, 256], rows)
    expert, expert_tensor = np.ones_like(tensor), np.ones_like(tensor)
    if model.experts is not None:
        expert = _divisor_of(rng, np.gcd(model.experts.experts, tensor * context * data))
        expert_tensor = _divisor_of(rng, np.gcd(model.experts.hidden, tensor * context * data // expert))
    micro_batch = rng.choice([1, 1, 2, 4, 8], rows)
    microbatches = rng.choice([1, 2, 3, 4, 5, 8, 16, 24, 32, 128], rows)
    microbatches = np.where(schedule == _INTERLEAVED, stages * rng.choice([1, 2, 3, 4, 8], rows), microbatches)
    if not few_microbatches:
        microbatches = 2 * stages * microbatches
    layout = Layout(
        tensor_parallel=tensor,
        context_parallel=context,
        pipeline_parallel=stages,
        virtual_stages=chunks,
        data_parallel=data,
        expert_parallel=expert,
        expert_tensor_parallel=expert_tensor,
        micro_batch=micro_batch,
        global_batch=microbatches * micro_batch * data,
        sequence_parallel=np.where(tensor > 1, rng.integers(0, 2, rows), 0),
        recompute=np.where(rng.random(rows) < 0.2, rng.integers(0, 256, rows), rng.choice(_RECOMPUTE, rows)),
        zero_stage=rng.integers(0, np.where(stages == 1, 4, 2)),
        schedule=schedule,
        context_exchange=rng.integers(0, 2, rows),
        rank_order=rng.integers(0, 2, rows),
        overlap_off=np.where(rng.random(rows) < 0.3, rng.integers(0, 1 << len(OVERLAPS), rows), 0),
        offload=np.where(rng.random(rows) < 0.3, rng.integers(0, 1 << len(OFFLOADS), rows), 0),
    )
    return layout.take(np.flatnonzero(legal(training, layout))[:wanted])


def formats(system: System) -> list[str]:
    """Number formats that the machine's chip runs."""
    return [name for name in FORMATS if system.chip.supports(name)]


@st.composite
def cases(
    draw: st.DrawFn,
    models: tuple[str, ...] = tuple(MODELS),
    stacks: tuple[str, ...] = tuple(STACKS),
    rows: int = ROWS,
    few_microbatches: bool = True,
) -> Case:
    """Any machine of the catalogue with any stack, model, number format and sequence, and legal layouts."""
    system = catalogue.system(draw(st.sampled_from(SYSTEMS)))
    training = Training(
        catalogue.architecture(draw(st.sampled_from(models))),
        draw(st.sampled_from(SEQUENCES)),
        draw(st.sampled_from(formats(system))),
        draw(st.sampled_from((1.0, 1.2))),
    )
    layout = random_layouts(training, draw(st.integers(0, 2**32 - 1)), rows, few_microbatches)
    return Case(system, catalogue.stack(draw(st.sampled_from(stacks))), training, layout)


def with_chip(system: System, **changes: Any) -> System:
    """The machine with some numbers of its chip replaced."""
    return replace(system, chip=replace(system.chip, **changes))


def with_tiers(system: System, index: int | None, **factors: float) -> System:
    """The machine with numbers of one tier, or of all, multiplied."""
    tiers = [
        replace(tier, **{name: getattr(tier, name) * factor for name, factor in factors.items()})
        if index is None or j == index % len(system.tiers)
        else tier
        for j, tier in enumerate(system.tiers)
    ]
    return replace(system, tiers=tuple(tiers))
