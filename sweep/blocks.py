"""One task of a run: a range of the layouts of one case, of which the rows to keep are written.

A task needs nothing but its description, writes its own Parquet part, and returns what fits on a line. What it writes
depends on its description alone, so that a task may run twice, anywhere, in any order.
"""

from __future__ import annotations

import ctypes
import itertools
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from sweep import store
from sweep.cases import Case, Question, identity
from sweep.columns import QUANTITIES, plain
from sweep.keep import Columns, merged, select
from sweep.kinds import Numbered, known_case, task_size
from sweep.search import Tally
from sweep.store import Place


@dataclass(frozen=True, slots=True)
class Task:
    """Layouts `first` to `last` - 1 of a case; rows go to `part`."""

    question: Question
    case: Case
    first: int
    last: int
    part: Place


def tasks(question: Question, case: Case, space: Numbered, part_of: Any) -> list[Task]:
    """Cut a case into tasks by its number of layouts. `part_of(case, first, whole)` names the part of a task."""
    if space.count == 0:
        return []
    edges = [*range(0, space.count, task_size(question)), space.count]
    whole = len(edges) == 2 or question.search.rows in ("feasible", "all")
    return [Task(question, case, first, last, part_of(case, first, whole)) for first, last in itertools.pairwise(edges)]


def solve(task: Task) -> dict[str, Any]:
    """Search a task's layouts, write the rows to keep, and return the tally and the best row."""
    keep_freed_memory()
    found, tally = known_case(task.question, task.case).search(task.first, task.last)
    rows = store.write_part(task.part, task.question, task.case, found)
    return summary(task.question, task.case, found, tally) | {"rows": rows, "part": task.part.name}


def finish(question: Question, case: Case, parts: list[Place], target: Place) -> dict[str, Any]:
    """Keep the best of what several tasks of a case kept, and write it as the part of the case."""
    found: Columns | None = None
    for part in parts:  # one after the other: a front of each of a hundred parts would not fit
        columns = store.read_part(part)
        if columns is None:
            continue
        every = columns if found is None else merged([found, columns])
        chosen = select(question.search, every)
        found = {name: values[chosen] for name, values in every.items()}
    if found is None:
        return {"rows": 0, "best": None}
    rows = store.write_part(target, question, case, found)
    return {"rows": rows, "part": target.name, "best": best_row(question, case, found)}


def best_row(question: Question, case: Case, found: Columns | None) -> dict[str, Any] | None:
    """The best feasible row as plain values, with everything that the data set says of it."""
    if found is None or not found["feasible"].any():
        return None
    feasible = np.flatnonzero(found["feasible"])
    quantity = QUANTITIES[question.search.objective]
    value = quantity.sign * found[question.search.objective][feasible]
    at = feasible[np.lexsort((found["layout_id"][feasible], value))[0]]
    return identity(case) | {name: plain(name, values[at]) for name, values in found.items()}


def summary(question: Question, case: Case, found: Columns | None, tally: Tally) -> dict[str, Any]:
    """What the driver hears of a task."""
    return {
        "case": case.index,
        "layouts": tally.layouts,
        "evaluated": tally.evaluated,
        "feasible": tally.feasible,
        "pruned": dict(sorted(tally.pruned.items())),
        "bound": None if np.isinf(tally.bound) else tally.bound,
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
