"""Works a list of cases off on a pool: a bounded number of tasks under way, each done once, in any order.

A case is one step unless it is large; then the first step that looks at it answers with how to cut it, the pieces keep
their best rows in candidate parts, and a last step keeps the best of those. Short steps go to a worker several at a
time, as one task. What is done is in the manifest, so a run that was stopped goes on where it was.
"""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from sweep.blocks import Task, finish, solve, tasks
from sweep.cases import Case, Question
from sweep.cluster import Pool
from sweep.columns import QUANTITIES
from sweep.errors import InputError, problem
from sweep.failures import OutOfSpace, Raised, clear_failures, failed_case
from sweep.kinds import known_case
from sweep.progress import Progress
from sweep.store import DamagedPartError, Place, RunFolder, part_name

Report = dict[str, Any]
_WAIT_S = 0.25
_LATE_FACTOR, _LATE_S = 5.0, 60.0  # a task this much over the median is started once more; the first result counts
_LOOK_S = 1.0  # between two looks for late tasks
_TOGETHER = 256  # steps of a task at most
_PATIENCE = 2.0  # a task that takes this much longer than planned hands the steps that it has not begun back
_HOPELESS = 25  # failures without a single success, after which nothing new is started
_COUNTS = ("layouts", "evaluated", "feasible")


@dataclass(frozen=True, slots=True)
class Step:
    """Something to do: a whole case (no range), a piece of one, or the end of a case in pieces."""

    case: Case
    first: int = -1
    last: int = -1
    pieces: tuple[int, ...] = ()

    @property
    def key(self) -> tuple[int, int, int]:
        """What the manifest knows it by."""
        return (self.case.index, -2, -2) if self.pieces else (self.case.index, self.first, self.last)

    @property
    def kind(self) -> str:
        """Steps of a kind take about as long as each other."""
        return "end" if self.pieces else "piece" if self.first >= 0 else self.case.method


@dataclass(frozen=True, slots=True)
class Shared:
    """What every task reads: it is sent once."""

    question: Question
    designs: Place
    candidates: Place

    def piece_part(self, case: Case, first: int) -> Place:
        """Where the rows of a piece go: to the data set if all are kept, else to wait for the end of the case."""
        final = self.question.search.rows in ("feasible", "all")
        return (self.designs if final else self.candidates) / part_name(case, first)


@dataclass(frozen=True, slots=True)
class Ran:
    """What became of a step, and how long it took."""

    result: Report | Raised
    seconds: float


@dataclass(slots=True, eq=False)
class _Task:
    """Steps under way together. Several handles, if it was started again."""

    steps: tuple[Step, ...]
    began: float
    handles: list[Any] = field(default_factory=list)


@dataclass(slots=True)
class _Pieces:
    """A case in pieces: which are still to come, and what the others reported."""

    waiting: set[tuple[int, int, int]]
    firsts: tuple[int, ...]
    reports: list[Report] = field(default_factory=list)
    failed: bool = False


# ----------------------------------------------------------------------------------------------------- workers
def run_case(question: Question, case: Case, designs: Place, candidates: Place) -> Report:
    """Search a case whole, or say how to cut it."""
    if case.method == "optuna":
        from sweep.sampled import solve_sampled

        return solve_sampled(question, case, designs / part_name(case))
    cut = tasks(question, case, known_case(question, case).space, lambda c, f, whole: designs / part_name(c))
    if not cut:
        return {"case": case.index, "rows": 0, "best": None, "broken": {}, "nearest": {}} | dict.fromkeys(_COUNTS, 0)
    if len(cut) == 1:
        return solve(cut[0])
    return {"case": case.index, "cut": [(task.first, task.last) for task in cut]}


def run_piece(question: Question, case: Case, first: int, last: int, part: Place) -> Report:
    """Search a piece of a case."""
    return solve(Task(question, case, first, last, part))


def run_end(question: Question, case: Case, pieces: list[Place], part: Place) -> Report:
    """Keep the best of a case's pieces."""
    return {"case": case.index} | finish(question, case, pieces, part)


def run_step(shared: Shared, step: Step) -> Report:
    """Do a step."""
    question, case = shared.question, step.case
    if step.pieces:
        parts = [shared.piece_part(case, first) for first in step.pieces]
        return run_end(question, case, parts, shared.designs / part_name(case))
    if step.first >= 0:
        return run_piece(question, case, step.first, step.last, shared.piece_part(case, step.first))
    return run_case(question, case, shared.designs, shared.candidates)


def run_steps(shared: Shared, steps: Sequence[Step], patience_s: float) -> list[Ran]:
    """Do steps one after another. Fewer results than steps: time was up, and the rest was not begun."""
    ran: list[Ran] = []
    began = time.monotonic()
    for step in steps:
        before = time.monotonic()
        if ran and before - began > patience_s:
            break
        try:
            result: Report | Raised = run_step(shared, step)
        except Exception as failure:  # told with its inputs; the other steps go on
            result = Raised.of(failure)
        ran.append(Ran(result, time.monotonic() - before))
    return ran


# ------------------------------------------------------------------------------------------------------ driver
class Scheduler:
    """Works cases off, remembering in the run folder what is done."""

    def __init__(self, folder: RunFolder, question: Question, pool: Pool, progress: Progress) -> None:
        self.folder, self.question, self.pool, self.progress = folder, question, pool, progress
        self.failures: list[dict[str, Any]] = []  # what is told of each step that failed
        self.untried = 0  # cases that were given up because all others failed
        self._shared = Shared(question, folder.designs, folder.candidates)
        self._sent = pool.put(self._shared)
        self._outcomes: dict[int, Report] = {}
        self._pieces: dict[int, _Pieces] = {}
        self._seen: dict[tuple[int, int, int], Report] = {}  # steps that an earlier process did
        self._queue: deque[Step] = deque()
        self._running: dict[Any, _Task] = {}
        self._alone: set[tuple[int, int, int]] = set()  # steps of a task whose worker died: one of them did it
        self._lines: list[Report] = []  # of the manifest, to be written before what they say counts
        self._spare: list[Place] = []  # parts that nobody needs once those lines are written
        self._took: deque[float] = deque(maxlen=101)
        self._step_took: dict[str, deque[float]] = {}
        self._looked = 0.0
        clear_failures(folder.path)  # these are tried again
        for line in folder.kept():
            if line["done"] == "case":
                self._outcomes[line["case"]] = line
            else:
                case, first, last = line["step"]
                self._seen[case, first, last] = line

    def work_off(self, cases: Iterable[Case]) -> dict[int, Report]:
        """Outcome of every case by its number, without those that failed."""
        wanted = list(cases)
        for case in wanted:
            if case.index in self._outcomes:
                self.progress.done += 1
                self.progress.saw(self._outcomes[case.index])
            else:
                self._queue.append(Step(case))
        try:
            while self._queue or self._running:
                self._fill()
                for handle, results in self.pool.wait(_WAIT_S) if self._running else []:
                    self._ended(handle, results)
                self._write_down()
                self._restart_late()
                self.progress.tick()
        finally:
            with suppress(OSError):  # of a run that is stopped, this may be the reason
                self._write_down()
        return {case.index: self._outcomes[case.index] for case in wanted if case.index in self._outcomes}

    # ------------------------------------------------------------------------------------------------- starting
    def _fill(self) -> None:
        window = self.pool.window
        while self._queue and len(self._running) < window:
            steps = self._next_steps()
            if steps:
                self._start(_Task(steps, 0.0))
        self._write_down()
        self.pool.want(len(self._queue) + len(self._running))

    def _next_steps(self) -> tuple[Step, ...]:
        """Steps of a kind for a task: as many as make it long enough, while all slots get their share."""
        kind = self._queue[0].kind
        took = self._step_took.get(kind)
        most = 1
        if took and self._queue[0].key not in self._alone:
            most = min(
                int(self.pool.task_s / max(statistics.fmean(took), 1e-6)),
                len(self._queue) // self.pool.slots,
                _TOGETHER,
            )
        steps: list[Step] = []
        while self._queue and len(steps) < max(most, 1) and self._queue[0].kind == kind:
            if steps and self._queue[0].key in self._alone:
                break
            step = self._queue.popleft()
            if step.key in self._seen:
                self._done(step, self._seen.pop(step.key), again=True)
            else:
                steps.append(step)
        return tuple(steps)

    def _start(self, task: _Task) -> None:
        patience_s = _PATIENCE * self.pool.task_s
        arguments = (self._sent, task.steps, patience_s)
        handle = self.pool.submit(run_steps, *arguments, elsewhere=bool(task.handles))
        task.handles.append(handle)
        task.began = time.monotonic()
        self._running[handle] = task

    def _restart_late(self) -> None:
        """Start late tasks once more, each time with twice the patience: a machine that is cut off never answers."""
        now = time.monotonic()
        if not self._took or now - self._looked < _LOOK_S:
            return
        self._looked = now
        late = _LATE_FACTOR * statistics.median(self._took) + _LATE_S
        for task in dict.fromkeys(self._running.values()):
            if now - task.began > late * 2 ** (len(task.handles) - 1):
                self._start(task)

    # --------------------------------------------------------------------------------------------------- ending
    def _ended(self, handle: Any, results: list[Ran] | Raised) -> None:
        task = self._running.pop(handle)
        if isinstance(results, Raised) and results.lost and any(other in self._running for other in task.handles):
            return  # its double may fare better
        for other in task.handles:
            if other != handle and self._running.pop(other, None) is not None:
                self.pool.forget(other)
        self._took.append(time.monotonic() - task.began)
        if not isinstance(results, Raised):
            for step, ran in zip(task.steps, results, strict=False):
                self._step_took.setdefault(step.kind, deque(maxlen=101)).append(ran.seconds)
                self._result(step, ran.result)
            self._queue.extendleft(reversed(task.steps[len(results) :]))
        elif len(task.steps) > 1:
            self._alone.update(step.key for step in task.steps)
            self._queue.extendleft(reversed(task.steps))
        else:
            self._result(task.steps[0], results)

    def _result(self, step: Step, result: Report | Raised) -> None:
        if isinstance(result, Raised):
            self._failed(step, result)
        else:
            self._check_part(step, result)
            self._done(step, result)

    def _failed(self, step: Step, raised: Raised) -> None:
        if raised.damaged:
            raise DamagedPartError(raised.damaged)
        if raised.problems:
            raise InputError(raised.problems)
        if raised.no_space:
            raise OutOfSpace(self.folder.path, raised.sentence())
        self.failures.append(failed_case(step.case, step.first, step.last, raised, self.folder.path))
        self.progress.failed += 1
        if step.first >= 0:
            self._piece_ended(step, None)
        if len(self.failures) >= _HOPELESS and not self._took_any():
            self.untried += len({one.case.index for one in self._queue})
            self._queue.clear()

    def _took_any(self) -> bool:
        """Whether anything at all has been done."""
        return bool(self._outcomes) or any(pieces.reports for pieces in self._pieces.values())

    def _done(self, step: Step, report: Report, again: bool = False) -> None:
        case = step.case
        if "cut" in report:
            if not again:
                self._lines.append({"done": "step", "step": step.key, **report})
            pieces = [Step(case, first, last) for first, last in report["cut"]]
            self._pieces[case.index] = _Pieces({piece.key for piece in pieces}, tuple(p.first for p in pieces))
            self._queue.extendleft(reversed(pieces))
        elif step.pieces:
            self._settle(case, _summed(self.question, self._pieces.pop(case.index).reports) | report)
            self._spare += [self._shared.piece_part(case, first) for first in step.pieces]
        elif step.first >= 0:
            if not again:
                self._lines.append({"done": "step", "step": step.key, **report})
            self.progress.saw(report)
            self._piece_ended(step, report)
        else:
            self.progress.saw(report)
            self._settle(case, report)

    def _piece_ended(self, step: Step, report: Report | None) -> None:
        """Note what a piece reported, or that it failed; the case ends when all have."""
        pieces = self._pieces[step.case.index]
        pieces.waiting.discard(step.key)
        if report is None:
            pieces.failed = True
        else:
            pieces.reports.append(report)
        if pieces.waiting or pieces.failed:
            return
        if self.question.search.rows in ("feasible", "all"):
            self._settle(step.case, _summed(self.question, self._pieces.pop(step.case.index).reports))
        else:
            self._queue.appendleft(Step(step.case, pieces=pieces.firsts))

    def _check_part(self, step: Step, report: Report) -> None:
        """A worker on another machine may have written where this process cannot see it."""
        folder = self.folder.designs
        if step.first >= 0:
            folder = self._shared.piece_part(step.case, step.first).parent
        if report.get("rows") and not self.folder.sees(folder / report["part"]):
            raise problem(
                self.folder.path, "", "workers must see the run folder under the same path as this process",
                report["part"], "give --out a folder that all nodes share",
            )  # fmt: skip

    def _settle(self, case: Case, outcome: Report) -> None:
        line = {"done": "case", **outcome, "case": case.index}
        self._lines.append(line)
        self._outcomes[case.index] = line
        self.progress.done += 1

    def _write_down(self) -> None:
        """Put what was done since on disk: nothing is built on it before."""
        if self._lines:
            lines, self._lines = self._lines, []
            self.folder.note_all(lines)
        for part in self._spare:
            part.unlink(missing_ok=True)
        self._spare.clear()


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
