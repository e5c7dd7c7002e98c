"""How many workers one driver feeds: what its own work costs, and the real scheduler before simulated workers.

The scheduler, its run folder with every fsync, and the progress are real; only the workers are simulated, by a clock
that runs on with the driver's own work, and jumps where the driver waits. So workers stand idle in the simulation
exactly when the driver is too slow for them. What a task costs in Ray is measured first and added for each.
"""

from __future__ import annotations

import heapq
import os
import random
import time
from collections.abc import Iterator
from typing import Any

from benchmarks.measurement import Measurement
from benchmarks.workload import listed, opened
from sweep import cluster, scheduler
from sweep.cluster import RayPool, pool
from sweep.scheduler import Ran, Shared, Step

WORKERS = (100, 1000, 5000)
STEP_S = 1.0  # a piece of a large case; its length varies by half
STEPS_OF_A_WORKER = 40
RAY_TASKS = 3000
WINDOWS = (8, 2000)  # tasks under way; no task's cost may depend on how many others there are
WORKERS_WANTED = 1000.0


class Clock:
    """Real time of the driver's own work, and a jump where it waits."""

    def __init__(self) -> None:
        self.jumped = 0.0

    def monotonic(self) -> float:
        """Seconds."""
        return time.perf_counter() + self.jumped  # waiting for the disk counts too


class SimulatedPool:
    """So many workers, that take as long as a seeded dice says and report what a real one did."""

    def __init__(self, slots: int, clock: Clock, report: dict[str, Any], ray_s: float) -> None:
        self.slots, self.clock, self.report, self.ray_s = slots, clock, report, ray_s
        self.window = 2 * slots
        self.task_s = max(cluster._TASK_S, cluster._TASK_S_OF_A_SLOT * slots)
        self.busy_s = 0.0
        self.tasks = 0
        self._dice = random.Random(0)
        self._free = [0.0] * slots  # when each worker is free
        self._ends: list[tuple[float, int, list[Ran]]] = []

    def put(self, value: Any) -> Any:
        """Stands for itself."""
        return value

    def submit(
        self, work: Any, shared: Any, steps: tuple[Step, ...], patience_s: float, elsewhere: bool = False
    ) -> int:
        """Give a task to the worker that is free first."""
        self.clock.jumped += self.ray_s
        begin = max(heapq.heappop(self._free), self.clock.monotonic())
        lengths = [STEP_S * self._dice.uniform(0.5, 1.5) for _ in steps]
        ran = [
            Ran({**self.report, "case": step.case.index}, seconds) for step, seconds in zip(steps, lengths, strict=True)
        ]
        end = begin + sum(lengths)
        self.busy_s += sum(lengths)
        self.tasks += 1
        heapq.heappush(self._free, end)
        heapq.heappush(self._ends, (end, self.tasks, ran))
        return self.tasks

    def wait(self, timeout_s: float) -> list[tuple[int, Any]]:
        """What has ended, or the next that does."""
        now = self.clock.monotonic()
        if self._ends[0][0] > now:
            self.clock.jumped += self._ends[0][0] - now
            now = self._ends[0][0]
        ended = []
        while self._ends and self._ends[0][0] <= now:
            _, handle, ran = heapq.heappop(self._ends)
            ended.append((handle, ran))
        return ended

    def forget(self, handle: int) -> None:
        """No task is started twice here."""

    def want(self, tasks: int) -> None:
        """The number of workers is given."""


def measurements() -> Iterator[Measurement]:
    """Cost of a Ray task and of a step to the driver, and the share of time that workers have something to do."""
    report, ray_s = {}, {}
    with pool(2) as ready:
        assert isinstance(ready, RayPool)
        for window in WINDOWS:
            ray_s[window] = _ray_cost(ready, window)
        (case,), question = listed(1)
        with opened(question, ready, 1) as real:
            report = real.work_off([case])[0]
    few, many = WINDOWS
    yield Measurement(f"driver_load.ray_task_cpu_with_{many}_under_way", ray_s[many], "s", ray_s[few])
    step_s = 0.0
    for workers in WORKERS:
        simulated, step_s, makespan_s = _simulated(workers, report, ray_s[many])
        busy = simulated.busy_s / (workers * makespan_s)
        yield Measurement(f"driver_load.busy_share_of_{workers}_workers", busy, "", 1.0)
        tasks_of_a_step = simulated.tasks / (workers * STEPS_OF_A_WORKER)
        cost_s = step_s + tasks_of_a_step * ray_s[many]
        yield Measurement(f"driver_load.cpu_of_a_step_with_{workers}_workers", cost_s, "s", STEP_S / workers)
    yield Measurement("driver_load.steps_per_s", 1 / cost_s, "1/s", WORKERS_WANTED / STEP_S)
    yield Measurement(f"driver_load.workers_fed_at_{STEP_S:g}_s_a_step", STEP_S / cost_s, "", WORKERS_WANTED)


def _ray_cost(ready: RayPool, window: int) -> float:
    """CPU seconds of this process, Ray's threads included, for a task that does nothing."""
    cases, question = listed(1)
    shared = ready.put(Shared(question, None, None))  # type: ignore[arg-type]
    started = ended = 0
    for _ in range(8):
        ready.submit(_nothing, shared, (Step(cases[0]),), 1.0)
    while ended < 8:
        ended += len(ready.wait(1.0))
    ended = 0
    before = sum(os.times()[:2])
    while ended < RAY_TASKS:
        while started < RAY_TASKS and started - ended < window:
            ready.submit(_nothing, shared, (Step(cases[0]),), 1.0)
            started += 1
        ended += len(ready.wait(1.0))
    return (sum(os.times()[:2]) - before) / RAY_TASKS


def _nothing(shared: Shared, steps: tuple[Step, ...], patience_s: float) -> list[Ran]:
    return [Ran(result, 0.0) for result in (({},) if steps else ())]


def _simulated(workers: int, report: dict[str, Any], ray_s: float) -> tuple[SimulatedPool, float, float]:
    """The pool, CPU seconds of the driver for a step, and the seconds that the whole took on the simulated clock."""
    cases, question = listed(workers * STEPS_OF_A_WORKER)
    clock = Clock()
    simulated = SimulatedPool(workers, clock, report | {"rows": 0}, ray_s)
    real_time = scheduler.time
    scheduler.time = clock  # type: ignore[assignment]
    try:
        with opened(question, simulated, len(cases)) as driver:
            before, began = time.process_time(), clock.monotonic()
            simulated._free = [began] * workers
            driver.work_off(cases)
            return simulated, (time.process_time() - before) / len(cases), clock.monotonic() - began
    finally:
        scheduler.time = real_time
