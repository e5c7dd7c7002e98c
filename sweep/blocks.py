"""One task of a search: a range of grid points of one case, evaluated in blocks, of which the best rows are kept.

A task needs nothing but its description, writes its own Parquet part, and returns what fits on a line. What it writes
depends on its description alone, so that a task may run twice, anywhere, in any order.
"""

from __future__ import annotations

import ctypes
import itertools
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from model.cost import StepCost
from model.evaluate import evaluate_blocks, evaluate_training
from model.layout import Array, Layout
from sweep import store
from sweep.bounds import memory_floor, time_floor
from sweep.cases import Case, Question, Records, identity, records
from sweep.columns import QUANTITIES
from sweep.keep import Columns, Kept, merged, select
from sweep.space import BLOCK, Space
from sweep.study import Search

# Layouts of a task: a second or so, short enough to cancel and to balance, long enough to hide what a task costs.
PRUNED_TASK = 1 << 24
FULL_TASK = 1 << 20
_LISTED = 1 << 17  # layouts listed at once where all are evaluated
STORED_TASK = 1 << 17  # every row is kept in memory until the part is written
# These follow from the step time of a case alone, so that a bound on the time bounds them.
_FOLLOW_TIME = ("tokens_per_s", "tokens_per_s_per_chip", "mfu", "step_time_s")


@dataclass(frozen=True, slots=True)
class Task:
    """Grid points `first` to `last` - 1 of a case; rows go to `part`."""

    question: Question
    case: Case
    first: int
    last: int
    part: Path


@dataclass(slots=True)
class Tally:
    """What a task saw. Counts are of layouts."""

    layouts: int = 0
    evaluated: int = 0
    feasible: int = 0
    too_large: int = 0  # left out because their least memory does not fit
    too_slow: int = 0  # left out because their least time is worse than the best found
    broken: dict[str, int] = field(default_factory=dict)  # violation -> layouts
    nearest: dict[str, float] = field(default_factory=dict)  # violation -> least excess seen

    def note(self, name: str, excess: Array) -> None:
        """Count a violation."""
        count = int(np.count_nonzero(excess > 0))
        if count:
            self.broken[name] = self.broken.get(name, 0) + count
        self.nearest[name] = min(self.nearest.get(name, np.inf), float(np.min(excess)))


def tasks(question: Question, case: Case, space: Space, part_of: Any) -> list[Task]:
    """Cut a case into tasks by its number of layouts. `part_of(case, first, whole)` names the part of a task."""
    points = len(space.offsets) - 1
    if space.count == 0:
        return []
    limit = _task_size(question.search)
    cuts = np.searchsorted(space.offsets, np.arange(0, space.count, limit), side="left")
    edges = np.unique(np.append(np.minimum(cuts, points - 1), points))
    whole = len(edges) == 2 or question.search.rows in ("feasible", "all")
    return [
        Task(question, case, int(first), int(last), part_of(case, int(first), whole))
        for first, last in itertools.pairwise(edges)
    ]


def _task_size(search: Search) -> int:
    if search.rows in ("feasible", "all"):
        return STORED_TASK
    return PRUNED_TASK if search.prune and search.rows in ("best", "top") else FULL_TASK


def prunes_by_time(search: Search) -> bool:
    """Whether a bound on the time decides that a layout cannot be kept."""
    return search.prune and search.rows in ("best", "top") and search.objective in _FOLLOW_TIME


def solve(task: Task) -> dict[str, Any]:
    """Search a task's grid points, write the rows to keep, and return the tally and the best row."""
    keep_freed_memory()
    found, tally = search_points(task.question, task.case, task.first, task.last)
    rows = store.write_part(task.part, task.question, task.case, found)
    return summary(task.question, task.case, found, tally) | {"rows": rows, "part": task.part.name}


def finish(question: Question, case: Case, parts: list[Path], target: Path) -> dict[str, Any]:
    """Keep the best of what several tasks of a case kept, and write it as the part of the case."""
    tables = [columns for part in parts if (columns := store.read_part(part)) is not None]
    if not tables:
        return {"rows": 0, "best": None}
    found = merged(tables)
    chosen = select(question.search, found)
    found = {name: values[chosen] for name, values in found.items()}
    rows = store.write_part(target, question, case, found)
    return {"rows": rows, "part": target.name, "best": best_row(question, case, found)}


def search_points(question: Question, case: Case, first: int, last: int) -> tuple[Columns | None, Tally]:
    """The rows to keep of a range of grid points."""
    known = records(question, case)
    space, search = known.space, question.search
    kept, tally = Kept(search), Tally(layouts=int(space.offsets[last] - space.offsets[first]))
    points = np.arange(first, last)
    if not search.prune or search.rows == "all":
        _look_at_all(question, known, kept, tally, range(int(space.offsets[first]), int(space.offsets[last])))
        return kept.rows(), tally
    points = _that_fit(question, known, points, tally)
    floors = None
    if prunes_by_time(search) and len(points):
        floors = time_floor(known, points)
        order = np.argsort(floors, kind="stable")
        points, floors = points[order], floors[order]
    sizes = space.offsets[points + 1] - space.offsets[points]
    start = 0
    while start < len(points):
        if floors is not None and _value_at(search, case, known, floors[start]) > kept.limit:
            tally.too_slow += int(sizes[start:].sum())
            break
        stop = start + max(1, int(np.searchsorted(np.cumsum(sizes[start : start + BLOCK]), BLOCK, side="right")))
        look(question, known, kept, tally, *space.of_points(points[start:stop]))
        start = stop
    return kept.rows(), tally


def _that_fit(question: Question, known: Records, points: Array, tally: Tally) -> Array:
    """The grid points whose least memory fits."""
    floors = memory_floor(known, points, question.axes.zero_stage)
    excess = floors - known.stack.usable_memory * known.system.chip.hbm_bytes
    over = excess > 0
    if over.any():
        space = known.space
        lost = int((space.offsets[points + 1] - space.offsets[points])[over].sum())
        tally.too_large += lost
        tally.broken["hbm_bytes"] = tally.broken.get("hbm_bytes", 0) + lost
        tally.nearest["hbm_bytes"] = float(excess[over].min())
    return np.asarray(points[~over])


def _value_at(search: Search, case: Case, known: Records, seconds: float) -> float:
    """The objective, smaller being better, of a step that takes this long; all steps of a case do equal work."""
    if search.objective == "step_time_s":
        return seconds
    tokens = case.batch * case.sequence
    if search.objective == "tokens_per_s":
        return -tokens / seconds
    if search.objective == "tokens_per_s_per_chip":
        return -tokens / seconds / case.chips
    first = evaluate_training(known.system, known.stack, known.training, known.space.decode(0, 1))
    return float(-(np.asarray(first.model_flops) / (np.asarray(first.peak_flops) * seconds))[0])


def _look_at_all(question: Question, known: Records, kept: Kept, tally: Tally, layouts: range) -> None:
    """Evaluate every layout in the order of the space; neighbours share their partial costs."""
    for start in range(layouts.start, layouts.stop, _LISTED):
        stop = min(start + _LISTED, layouts.stop)
        layout = known.space.decode(start, stop)
        for rows, cost in evaluate_blocks(known.system, known.stack, known.training, layout, BLOCK):
            numbers = np.arange(start + rows.start, start + rows.stop, dtype=np.int64)
            weigh(question, kept, tally, numbers, layout.take(rows), cost)


def look(question: Question, known: Records, kept: Kept, tally: Tally, numbers: Array, layout: Layout) -> StepCost:
    """Evaluate a block, count what it breaks, and keep what is to be kept."""
    cost = evaluate_training(known.system, known.stack, known.training, layout)
    weigh(question, kept, tally, numbers, layout, cost)
    return cost


def weigh(question: Question, kept: Kept, tally: Tally, numbers: Array, layout: Layout, cost: StepCost) -> None:
    """Count what evaluated layouts break, and keep what is to be kept."""
    shape = numbers.shape
    extra: dict[str, Any] = {}
    for name, sense, limit in question.constraints:
        value = np.asarray(QUANTITIES[name].read(cost))
        extra[f"violation_limit_{name}"] = (value - limit) if sense == "<=" else (limit - value)
    fits = np.broadcast_to(np.asarray(cost.feasible), shape).copy()
    for name, excess in extra.items():
        tally.note(name.removeprefix("violation_"), np.broadcast_to(excess, shape))
        fits &= excess <= 0
    for name, excess in cost.violations.items():
        tally.note(name, np.broadcast_to(np.asarray(excess), shape))
    tally.evaluated += len(numbers)
    tally.feasible += int(np.count_nonzero(fits))
    kept.offer(numbers, layout, cost, extra, fits)


def best_row(question: Question, case: Case, found: Columns | None) -> dict[str, Any] | None:
    """The best feasible row as plain values, with everything that the data set says of it."""
    if found is None or not found["feasible"].any():
        return None
    feasible = np.flatnonzero(found["feasible"])
    quantity = QUANTITIES[question.search.objective]
    value = quantity.sign * found[question.search.objective][feasible]
    at = feasible[np.lexsort((found["layout_id"][feasible], value))[0]]
    row = {name: values[at] for name, values in found.items()}
    plain = {name: value.item() if isinstance(value, np.generic) else value for name, value in row.items()}
    return identity(case) | plain


def summary(question: Question, case: Case, found: Columns | None, tally: Tally) -> dict[str, Any]:
    """What the driver hears of a task."""
    return {
        "case": case.index,
        "layouts": tally.layouts,
        "evaluated": tally.evaluated,
        "feasible": tally.feasible,
        "too_large": tally.too_large,
        "too_slow": tally.too_slow,
        "broken": dict(sorted(tally.broken.items())),
        "nearest": dict(sorted(tally.nearest.items())),
        "best": best_row(question, case, found),
    }


@cache
def keep_freed_memory() -> None:
    """Tell glibc to keep freed temporaries instead of returning their pages, which costs 2 to 4 times the run time."""
    try:
        libc = ctypes.CDLL(None)
        for option in (-1, -3):  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
            libc.mallopt(option, 1 << 30)
    except (OSError, AttributeError):
        return  # not glibc: nothing to tell
