"""The scheduler starts each task once, few at a time, again when one is late, and shows how far it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sweep import scheduler as scheduling
from sweep.cases import Case, Question, cases
from sweep.errors import InputError
from sweep.failures import OutOfSpace, Raised
from sweep.progress import Progress, clock
from sweep.scheduler import Ran, Scheduler, Step
from sweep.store import RunFolder
from sweep.study import parse

STUDY = """
question = "which?"
chips = [8, 16, 24, 32, 40]
[[workloads]]
model = "llama-3-8b"
sequence = "8192 token"
batch = 128
[[designs]]
system = "hgx-h20"
"""


class Clock:
    """Time that passes only when a pool waits."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class SimulatedPool:
    """Ends tasks in the order that they were started, a second a step; a task begun in `lost` never ends."""

    slots = 2

    def __init__(
        self, time: Clock, lost: int = 0, newest_first: bool = False, raising: dict[int, Raised] | None = None,
        task_s: float = 0.0,
    ) -> None:  # fmt: skip
        self.time, self.lost, self.newest_first, self.task_s = time, lost, newest_first, task_s
        self.raising = raising or {}
        self.window = 4
        self.started: list[tuple[int, ...]] = []  # cases of each task
        self.elsewhere: list[int] = []  # tasks that are to go to other machines
        self.under_way: list[tuple[int, Any]] = []
        self.most = 0
        self.forgotten: list[int] = []
        self.puts: list[Any] = []
        self.wants: list[int] = []

    def put(self, value: Any) -> Any:
        self.puts.append(value)
        return f"reference {len(self.puts)}"

    def submit(self, work: object, shared: Any, steps: tuple[Step, ...], *_: object, elsewhere: bool = False) -> int:
        assert shared == "reference 1"
        handle = len(self.started)
        self.started.append(tuple(step.case.index for step in steps))
        self.under_way.append((handle, steps))
        self.most = max(self.most, len(self.under_way))
        if elsewhere:
            self.elsewhere.append(handle)
        return handle

    def wait(self, timeout_s: float) -> list[tuple[int, Any]]:
        ready = [one for one in self.under_way if one[0] >= self.lost]
        if not ready:
            self.time.now += 1.0
            return []
        one = ready[-1 if self.newest_first else 0]
        self.under_way.remove(one)
        handle, steps = one
        self.time.now += len(steps)
        dead = next((self.raising[s.case.index] for s in steps if s.case.index in self.raising), None)
        if dead is not None and dead.lost:
            return [(handle, dead)]
        return [(handle, [Ran(self.raising.get(step.case.index) or self.report(step), 1.0) for step in steps])]

    def report(self, step: Step) -> dict[str, Any]:
        return {"case": step.case.index, "rows": 0, "best": None, "broken": {}, "nearest": {}, "layouts": 10,
                "evaluated": 5, "feasible": 2, "pruned": {"memory bound": 5}, "bound": None}  # fmt: skip

    def forget(self, handle: int) -> None:
        self.under_way = [one for one in self.under_way if one[0] != handle]
        self.forgotten.append(handle)

    def want(self, tasks: int) -> None:
        self.wants.append(tasks)


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Clock:
    fake = Clock()
    monkeypatch.setattr(scheduling, "time", fake)
    return fake


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[RunFolder]:
    opened = RunFolder(tmp_path / "run")
    opened.open("", {}, {})
    yield opened
    opened.close()


def make(
    folder: RunFolder, pool: SimulatedPool, sizes: str = "[8, 16, 24, 32, 40]"
) -> tuple[Scheduler, list[Case], Question]:
    study = parse(STUDY.replace("[8, 16, 24, 32, 40]", sizes))
    listed, _ = cases(study)
    question = Question(study.axes, study.search, (), 0)
    progress = Progress("small", "tokens_per_s", len(listed))
    return Scheduler(folder, question, pool, progress), listed, question


def done_cases(folder: RunFolder) -> list[int]:
    return [line["case"] for line in folder.lines() if line["done"] == "case"]


@pytest.mark.parametrize("newest_first", [False, True])
def test_a_bounded_number_of_tasks_is_under_way(folder: RunFolder, time: Clock, newest_first: bool) -> None:
    """No more than the window, each case once, whatever ends first; what all tasks read is put once."""
    pool = SimulatedPool(time, newest_first=newest_first)
    scheduler, listed, question = make(folder, pool)
    outcomes = scheduler.work_off(listed)
    assert sorted(outcomes) == [case.index for case in listed]
    assert sorted(pool.started) == [(case,) for case in sorted(outcomes)]
    assert pool.most == pool.window
    assert sorted(done_cases(folder)) == sorted(outcomes)
    assert [shared.question for shared in pool.puts] == [question]
    assert pool.wants[0] == len(listed)


def test_short_cases_go_together(folder: RunFolder, time: Clock) -> None:
    """Where a task should take ten times as long as a case, cases are put together, and fewer towards the end."""
    pool = SimulatedPool(time, task_s=10.0)
    scheduler, listed, _ = make(folder, pool, str(list(range(8, 1608, 8))))
    scheduler.work_off(listed)
    sizes = [len(task) for task in pool.started]
    assert sorted(case for task in pool.started for case in task) == [case.index for case in listed]
    assert sizes[: pool.window] == [1] * pool.window  # before anything is known
    assert max(sizes) == 10
    assert sizes[-1] == 1
    assert len(sizes) < len(listed) / 4


def test_a_lost_task_is_started_again(folder: RunFolder, time: Clock) -> None:
    """A task that is far over the median is started once more, elsewhere; its double's result counts."""
    pool = SimulatedPool(time, lost=1)
    scheduler, listed, _ = make(folder, pool)
    began = time.now
    outcomes = scheduler.work_off(listed)
    assert sorted(outcomes) == [case.index for case in listed]
    assert pool.started.count((0,)) == 2
    assert pool.forgotten == [0]
    assert pool.elsewhere == [len(pool.started) - 1]
    assert 60 < time.now - began < 80
    assert sorted(done_cases(folder)) == sorted(outcomes)


def test_doubles_that_are_lost_too_do_not_stop_a_run(folder: RunFolder, time: Clock) -> None:
    """While a machine is not yet known to be cut off, doubles may go there as well: there are further ones."""
    pool = SimulatedPool(time, lost=7)  # all five cases, and two doubles
    scheduler, listed, _ = make(folder, pool)
    scheduler._took.append(1.0)
    began = time.now
    assert len(scheduler.work_off(listed)) == len(listed)
    assert max(pool.started.count((case.index,)) for case in listed) == 3
    assert time.now - began < 250
    assert sorted(done_cases(folder)) == [case.index for case in listed]


def test_a_case_in_the_manifest_is_not_started(folder: RunFolder, time: Clock) -> None:
    """A second scheduler on the same folder starts only what is missing."""
    pool = SimulatedPool(time)
    scheduler, listed, question = make(folder, pool)
    scheduler.work_off(listed[:3])
    again = SimulatedPool(time)
    progress = Progress("small", "tokens_per_s", len(listed))
    outcomes = Scheduler(folder, question, again, progress).work_off(listed)
    assert again.started == [(3,), (4,)]
    assert len(outcomes) == progress.done == len(listed)


def test_one_death_takes_no_other_case_along(folder: RunFolder, time: Clock) -> None:
    """Of cases whose worker died together, each is tried alone, and only the guilty one fails."""
    deadly = Raised("WorkerCrashedError", "the worker died", lost=True)
    pool = SimulatedPool(time, task_s=10.0, raising={60: deadly})
    scheduler, listed, _ = make(folder, pool, str(list(range(8, 1608, 8))))
    outcomes = scheduler.work_off(listed)
    assert {case.index for case in listed} - set(outcomes) == {60}
    (told,) = scheduler.failures
    assert told["case"] == 60
    assert told["chips"] == listed[60].chips
    assert "WorkerCrashedError" in (folder.path / told["file"]).read_text()
    (together,) = [task for task in pool.started if 60 in task and len(task) > 1]
    assert all((case,) in pool.started for case in together)
    assert len(done_cases(folder)) == len(set(done_cases(folder))) == len(listed) - 1


def test_a_run_in_which_nothing_succeeds_gives_up(folder: RunFolder, time: Clock) -> None:
    """Broken workers fail every case: after some the others are not tried."""
    raising = {case: Raised("ValueError", "no") for case in range(200)}
    pool = SimulatedPool(time, raising=raising)
    scheduler, listed, _ = make(folder, pool, str(list(range(8, 1608, 8))))
    assert scheduler.work_off(listed) == {}
    assert len(scheduler.failures) + scheduler.untried == len(listed)
    assert len(scheduler.failures) < 30


def test_a_full_disk_stops_the_run_and_keeps_what_is_done(folder: RunFolder, time: Clock) -> None:
    """The case that met the full disk is no failure of its own; those that ended with it are in the manifest."""
    full = Raised("OSError", "[Errno 28] No space left on device", no_space=True)
    pool = SimulatedPool(time, raising={2: full})
    scheduler, listed, _ = make(folder, pool)
    with pytest.raises(OutOfSpace, match="the same command goes on"):
        scheduler.work_off(listed)
    assert done_cases(folder) == [0, 1]
    assert scheduler.failures == []


def test_one_process_at_a_time_has_a_run_folder(tmp_path: Path) -> None:
    """A folder that is being written is refused with a remedy, and free again when closed."""
    first, second = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "run")
    first.open("", {}, {})
    with pytest.raises(InputError, match="another process is running"):
        second.open("", {}, {})
    first.close()
    second.open("", {}, {})
    second.close()


def test_progress_counts_what_tasks_report() -> None:
    """Layouts, the share that is feasible of those looked at, and the best so far."""
    progress = Progress("small", "tokens_per_s", 3)
    best = {"tokens_per_s": 2.0e6, "design": "A", "chips": 8, "model": "m"}
    progress.saw({"layouts": 100, "evaluated": 40, "pruned": {"memory bound": 40}, "feasible": 20, "best": best})
    progress.saw({"layouts": 50, "evaluated": 0, "pruned": {}, "feasible": 0, "best": {**best, "tokens_per_s": 1.0}})
    progress.done += 1
    first, second = progress.lines()
    assert "1/3 cases" in first
    assert "150 layouts" in first
    assert "feasible 25.0%" in first
    assert second == "best so far: 2 Mtoken/s  A  8 chips  m"
    assert clock(3725) == "1:02:05"
