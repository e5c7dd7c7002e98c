"""The scheduler starts each task once, few at a time, again when one is late, and shows how far it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sweep import scheduler as scheduling
from sweep.cases import Case, Question, cases
from sweep.errors import InputError
from sweep.progress import Progress, clock
from sweep.scheduler import Scheduler
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


class FakePool:
    """Ends tasks in the order of `ends`, a second each; tasks not in it never end."""

    slots = 2

    def __init__(self, time: Clock, lost: set[int], newest_first: bool = False) -> None:
        self.time, self.lost, self.newest_first = time, lost, newest_first
        self.started: list[int] = []
        self.under_way: list[tuple[int, int]] = []
        self.most = 0
        self.forgotten: list[int] = []

    def submit(self, work: object, question: Question, case: Case, *arguments: object) -> int:
        handle = len(self.started)
        self.started.append(case.index)
        self.under_way.append((handle, case.index))
        self.most = max(self.most, len(self.under_way))
        return handle

    def wait(self, timeout_s: float) -> list[tuple[int, dict[str, Any]]]:
        self.time.now += 1.0
        ready = [one for one in self.under_way if one[0] not in self.lost]
        if not ready:
            return []
        one = ready[-1 if self.newest_first else 0]
        self.under_way.remove(one)
        report = {"case": one[1], "rows": 0, "best": None, "broken": {}, "nearest": {}, "layouts": 10, "evaluated": 5,
                  "feasible": 2, "pruned": {"memory bound": 5}, "bound": None}  # fmt: skip
        return [(one[0], report)]

    def forget(self, handle: int) -> None:
        self.under_way = [one for one in self.under_way if one[0] != handle]
        self.forgotten.append(handle)


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


def make(folder: RunFolder, pool: FakePool) -> tuple[Scheduler, list[Case], Question]:
    study = parse(STUDY)
    listed, _ = cases(study)
    question = Question(study.axes, study.search, (), 0)
    progress = Progress("small", "tokens_per_s", len(listed))
    return Scheduler(folder, question, pool, progress), listed, question


@pytest.mark.parametrize("newest_first", [False, True])
def test_a_bounded_number_of_tasks_is_under_way(folder: RunFolder, time: Clock, newest_first: bool) -> None:
    """Twice the slots at most, each case once, whatever ends first."""
    pool = FakePool(time, set(), newest_first)
    scheduler, listed, _ = make(folder, pool)
    outcomes = scheduler.work_off(listed)
    assert sorted(outcomes) == [case.index for case in listed]
    assert sorted(pool.started) == sorted(outcomes)
    assert pool.most == 4
    assert sum(line["done"] == "case" for line in folder.lines()) == len(listed)


def test_a_lost_task_is_started_again(folder: RunFolder, time: Clock) -> None:
    """A task that is far over the median is started once more, its double's result counts, and it is forgotten."""
    pool = FakePool(time, lost={0})
    scheduler, listed, _ = make(folder, pool)
    began = time.now
    outcomes = scheduler.work_off(listed)
    assert sorted(outcomes) == [case.index for case in listed]
    assert pool.started.count(0) == 2
    assert pool.forgotten == [0]
    assert 60 < time.now - began < 80
    assert sum(line["done"] == "case" for line in folder.lines()) == len(listed)


def test_a_case_in_the_manifest_is_not_started(folder: RunFolder, time: Clock) -> None:
    """A second scheduler on the same folder starts only what is missing."""
    pool = FakePool(time, set())
    scheduler, listed, question = make(folder, pool)
    scheduler.work_off(listed[:3])
    again = FakePool(time, set())
    progress = Progress("small", "tokens_per_s", len(listed))
    outcomes = Scheduler(folder, question, again, progress).work_off(listed)
    assert again.started == [3, 4]
    assert len(outcomes) == progress.done == len(listed)


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
