"""Works a list of cases off on a pool: a bounded number of tasks under way, each done once, in any order.

A case is one task unless it is large; then the first task that looks at it answers with how to cut it, the pieces keep
their best rows in candidate parts, and a last task keeps the best of those. What is done is in the manifest, so a run
that was stopped goes on where it was.
"""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sweep.blocks import Task, finish, solve, tasks
from sweep.cases import Case, Question, records
from sweep.cluster import Pool
from sweep.columns import QUANTITIES
from sweep.errors import problem
from sweep.progress import Progress
from sweep.store import Place, RunFolder, part_name

Report = dict[str, Any]
_WAIT_S = 0.25
_WINDOW = 2  # tasks under way for every slot: enough to hide the way to a worker, few enough to stop soon
_LATE_FACTOR, _LATE_S = 5.0, 60.0  # a task this much over the median is started once more; the first result counts
_COUNTS = ("layouts", "evaluated", "feasible")


@dataclass(frozen=True, slots=True)
class Step:
    """A task to run: a whole case (no range), a piece of one, or the end of a case in pieces."""

    case: Case
    first: int = -1
    last: int = -1
    pieces: tuple[int, ...] = ()

    @property
    def key(self) -> tuple[int, int, int]:
        """What the manifest knows it by."""
        return (self.case.index, -2, -2) if self.pieces else (self.case.index, self.first, self.last)


@dataclass(slots=True)
class _Pieces:
    """A case in pieces: which are still to come, and what the others reported."""

    waiting: set[tuple[int, int, int]]
    firsts: tuple[int, ...]
    reports: list[Report] = field(default_factory=list)


def run_case(question: Question, case: Case, designs: Place, candidates: Place) -> Report:
    """Worker: search a case whole, or say how to cut it."""
    if case.method == "optuna":
        from sweep.sampled import solve_sampled

        return solve_sampled(question, case, designs / part_name(case))
    cut = tasks(question, case, records(question, case).space, lambda c, f, whole: designs / part_name(c))
    if not cut:
        return {"case": case.index, "rows": 0, "best": None, "broken": {}, "nearest": {}} | dict.fromkeys(_COUNTS, 0)
    if len(cut) == 1:
        return solve(cut[0])
    return {"case": case.index, "cut": [(task.first, task.last) for task in cut]}


def run_piece(question: Question, case: Case, first: int, last: int, part: Place) -> Report:
    """Worker: search a piece of a case."""
    return solve(Task(question, case, first, last, part))


def run_end(question: Question, case: Case, pieces: list[Place], part: Place) -> Report:
    """Worker: keep the best of a case's pieces."""
    return {"case": case.index} | finish(question, case, pieces, part)


class Scheduler:
    """Works cases off, remembering in the run folder what is done."""

    def __init__(self, folder: RunFolder, question: Question, pool: Pool, progress: Progress) -> None:
        self.folder, self.question, self.pool, self.progress = folder, question, pool, progress
        self._outcomes: dict[int, Report] = {}
        self._pieces: dict[int, _Pieces] = {}
        self._seen: dict[tuple[int, int, int], Report] = {}  # steps that an earlier process did
        self._queue: deque[Step] = deque()
        self._running: dict[Any, tuple[Step, float]] = {}
        self._twice: set[tuple[int, int, int]] = set()
        self._took: deque[float] = deque(maxlen=101)
        for line in folder.kept():
            if line["done"] == "case":
                self._outcomes[line["case"]] = line
            else:
                case, first, last = line["step"]
                self._seen[case, first, last] = line

    def work_off(self, cases: Iterable[Case]) -> dict[int, Report]:
        """Outcome of every case, by its number."""
        wanted = list(cases)
        for case in wanted:
            if case.index in self._outcomes:
                self.progress.done += 1
                self.progress.saw(self._outcomes[case.index])
            else:
                self._queue.append(Step(case))
        while self._queue or self._running:
            self._fill()
            for handle, report in self.pool.wait(_WAIT_S) if self._running else []:
                step, began = self._running.pop(handle)
                self._took.append(time.monotonic() - began)
                self._done(step, report)
            self._restart_late()
            self.progress.tick()
        return {case.index: self._outcomes[case.index] for case in wanted}

    def _fill(self) -> None:
        room = _WINDOW * self.pool.slots - len(self._running)
        while self._queue and room > 0:
            step = self._queue.popleft()
            if step.key in self._seen:
                self._done(step, self._seen.pop(step.key), again=True)
                continue
            self._start(step)
            room -= 1

    def _start(self, step: Step) -> None:
        case, designs, candidates = step.case, self.folder.designs, self.folder.candidates
        if step.pieces:
            parts = [self._piece_part(case, first) for first in step.pieces]
            handle = self.pool.submit(run_end, self.question, case, parts, designs / part_name(case))
        elif step.first >= 0:
            part = self._piece_part(case, step.first)
            handle = self.pool.submit(run_piece, self.question, case, step.first, step.last, part)
        else:
            handle = self.pool.submit(run_case, self.question, case, designs, candidates)
        self._running[handle] = (step, time.monotonic())

    def _piece_part(self, case: Case, first: int) -> Place:
        final = self.question.search.rows in ("feasible", "all")
        return (self.folder.designs if final else self.folder.candidates) / part_name(case, first)

    def _restart_late(self) -> None:
        if not self._took:
            return
        late = _LATE_FACTOR * statistics.median(self._took) + _LATE_S
        for step, began in list(self._running.values()):
            if time.monotonic() - began > late and step.key not in self._twice:
                self._twice.add(step.key)
                self._start(step)

    def _done(self, step: Step, report: Report, again: bool = False) -> None:
        for handle, (other, _) in list(self._running.items()):  # its double, if it was started twice
            if other.key == step.key:
                self._running.pop(handle)
                self.pool.forget(handle)
        case = step.case
        if not again:
            self._check_part(step, report)
        if "cut" in report:
            if not again:
                self.folder.note({"done": "step", "step": step.key, **report})
            pieces = [Step(case, first, last) for first, last in report["cut"]]
            self._pieces[case.index] = _Pieces({piece.key for piece in pieces}, tuple(p.first for p in pieces))
            self._queue.extendleft(reversed(pieces))
        elif step.pieces:
            self._settle(case, _summed(self.question, self._pieces[case.index].reports) | report)
            for first in step.pieces:
                self._piece_part(case, first).unlink(missing_ok=True)
        elif step.first >= 0:
            if not again:
                self.folder.note({"done": "step", "step": step.key, **report})
            self._piece_done(step, report)
        else:
            self.progress.saw(report)
            self._settle(case, report)

    def _piece_done(self, step: Step, report: Report) -> None:
        self.progress.saw(report)
        pieces = self._pieces[step.case.index]
        pieces.waiting.discard(step.key)
        pieces.reports.append(report)
        if pieces.waiting:
            return
        if self.question.search.rows in ("feasible", "all"):
            self._settle(step.case, _summed(self.question, pieces.reports))
        else:
            self._queue.appendleft(Step(step.case, pieces=pieces.firsts))

    def _check_part(self, step: Step, report: Report) -> None:
        """A worker on another machine may have written where this process cannot see it."""
        folder = self.folder.designs
        if step.first >= 0:
            folder = self._piece_part(step.case, step.first).parent
        if report.get("rows") and not self.folder.sees(folder / report["part"]):
            raise problem(
                self.folder.path, "", "workers must see the run folder under the same path as this process",
                report["part"], "give --out a folder that all nodes share",
            )  # fmt: skip

    def _settle(self, case: Case, outcome: Report) -> None:
        line = {"done": "case", **outcome, "case": case.index}
        self.folder.note(line)
        self._outcomes[case.index] = line
        self.progress.done += 1


def _summed(question: Question, reports: list[Report]) -> Report:
    """Reports of the pieces of a case as one. The order of the pieces does not matter."""
    summed: Report = {name: sum(report[name] for report in reports) for name in (*_COUNTS, "rows")}
    broken: dict[str, int] = {}
    pruned: dict[str, int] = {}
    nearest: dict[str, float] = {}
    bounds = [report["bound"] for report in reports if report["bound"] is not None]
    for report in reports:
        for counts, more in ((broken, report["broken"]), (pruned, report["pruned"])):
            for name, count in more.items():
                counts[name] = counts.get(name, 0) + count
        for name, excess in report["nearest"].items():
            nearest[name] = min(nearest.get(name, excess), excess)
    quantity = QUANTITIES[question.search.objective]
    rows = [report["best"] for report in reports if report["best"] is not None]
    best: Mapping[str, Any] | None = min(
        rows, key=lambda row: (quantity.sign * row[quantity.name], row["layout_id"]), default=None
    )
    summed |= {"pruned": dict(sorted(pruned.items())), "bound": min(bounds, default=None)}
    return summed | {"broken": dict(sorted(broken.items())), "nearest": dict(sorted(nearest.items())), "best": best}
