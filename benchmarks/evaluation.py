"""How many legal layouts a core evaluates in a second: time, memory, energy and feasibility of each.

The layouts are those of a study without bounds, on 16,384 H100 in nodes of eight, in lists spread evenly over all of
them. Partial costs are shared within a list, the rest is done in blocks that stay in the cache. The same model called
for one layout at a time says what the arrays are worth.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from time import perf_counter, process_time

import numpy as np

from benchmarks.measurement import Measurement
from model.evaluate import evaluate_blocks
from model.layout import Layout
from model.stack import Stack
from model.step import training_step
from model.system import System
from model.workload import Training
from sweep import catalogue
from sweep.space import BLOCK, Axes, Problem, Space, layout_space

SYSTEM = "dgx-h100"
RANKS = 16_384
WORKLOADS = (("llama-3.1-405b", 8192, 2048), ("deepseek-v3", 4096, 15_360))  # model, sequence, batch
LISTED = 1 << 18  # layouts listed at once: neighbours share their layers
LISTS = 4
SINGLE_CALLS = 200
TARGET = 1e6  # layouts a second and core


@dataclass(frozen=True, slots=True)
class Rate:
    """Layouts in a second, by the wall and by the CPU."""

    wall: float
    cpu: float


def measurements() -> Iterator[Measurement]:
    """Layouts a second in blocks, with and without listing them, and one at a time."""
    system, stack = catalogue.system(SYSTEM), catalogue.stack(catalogue.default_stack(SYSTEM))
    for model, sequence, batch in WORKLOADS:
        training = Training(catalogue.architecture(model), sequence)
        space = layout_space(Problem(training.architecture, sequence, RANKS, batch, stack.selective_recompute), Axes())
        starts = np.linspace(0, max(space.count - LISTED, 0), LISTS).astype(int)
        rates = _rates(system, stack, training, space, starts)
        single = _single(system, stack, training, space)
        for kind in ("cpu", "wall"):
            value = getattr(rates["evaluate"], kind)
            yield Measurement(f"evaluation.{model}.layouts_per_{kind}_second", value, "layout/s", TARGET)
        yield Measurement(f"evaluation.{model}.listed_and_evaluated", rates["both"].cpu, "layout/s", TARGET)
        yield Measurement(f"evaluation.{model}.blocks_over_single_calls", rates["evaluate"].cpu, "layout/s", single)


def _touch(system: System, stack: Stack, training: Training, layout: Layout) -> None:
    """Evaluate and ask for everything that a search asks for."""
    for _, cost in evaluate_blocks(system, stack, training, layout, BLOCK):
        _ = cost.step_time, cost.memory.total, cost.energy.total, cost.feasible


def _rates(system: System, stack: Stack, training: Training, space: Space, starts: np.ndarray) -> dict[str, Rate]:
    """Layouts a second, evaluated alone and with their listing; the first block warms up."""
    evaluated, both, count = np.zeros(2), np.zeros(2), 0
    _touch(system, stack, training, space.decode(0, min(BLOCK, space.count)))
    for start in starts.tolist():
        stop = min(start + LISTED, space.count)
        begin = _clocks()
        layout = space.decode(start, stop)
        listed = _clocks()
        _touch(system, stack, training, layout)
        end = _clocks()
        evaluated, both, count = evaluated + end - listed, both + end - begin, count + stop - start
    return {"evaluate": Rate(*(count / evaluated)), "both": Rate(*(count / both))}


def _single(system: System, stack: Stack, training: Training, space: Space) -> float:
    """Layouts a CPU second when every layout is a call of its own."""
    rows = space.take(np.linspace(0, space.count - 1, SINGLE_CALLS).astype(np.int64))
    start = process_time()
    for row in range(SINGLE_CALLS):
        alone = Layout(**{name: int(getattr(rows, name)[row]) for name in Layout.__dataclass_fields__})
        cost = training_step(system, stack, training, alone)
        _ = cost.step_time, cost.memory.total, cost.energy.total, cost.feasible
    return SINGLE_CALLS / (process_time() - start)


def _clocks() -> np.ndarray:
    return np.array([perf_counter(), process_time()])
