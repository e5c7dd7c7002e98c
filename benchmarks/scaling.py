"""Two workers against one, and Ray against plain forked processes doing the same cases.

Rounds of all kinds alternate and the best of each counts, as other work on the machine only ever adds time. What plain
processes gain from a second core is the reference: no scheduler gains more on the same machine.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.measurement import Measurement
from benchmarks.workload import listed, opened, seconds_of_a_case, timed
from sweep.cases import Case, Question
from sweep.cluster import pool
from sweep.scheduler import Shared, Step, run_steps

ROUNDS = 3
WORK_S = 10.0  # of one process
LEAST_EFFICIENCY, MOST_OVERHEAD = 0.85, 0.05


def measurements() -> Iterator[Measurement]:
    """Efficiency from one worker to two, and what Ray adds."""
    if (os.cpu_count() or 1) < 2:
        yield Measurement("scaling", None, "", reason="needs two cores")
        return
    all_cases, question = listed(max(40, round(WORK_S / seconds_of_a_case())))
    ray: dict[int, list[float]] = {1: [], 2: []}
    plain: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(ROUNDS):
        for workers in (1, 2):
            plain[workers].append(_plain_seconds(all_cases, question, workers))
            ray[workers].append(_ray_seconds(all_cases, question, workers))
    own, others = (min(times[1]) / (2 * min(times[2])) for times in (ray, plain))
    yield Measurement("scaling.efficiency_1_to_2", own, "", LEAST_EFFICIENCY)
    yield Measurement("scaling.efficiency_1_to_2_against_plain_processes", own, "", others)
    for workers in (1, 2):
        overhead = min(ray[workers]) / min(plain[workers]) - 1
        yield Measurement(f"scaling.overhead_of_ray_with_{workers}", overhead, "", MOST_OVERHEAD)
    yield Measurement("scaling.cases_per_s_with_2", len(all_cases) / min(ray[2]), "1/s", len(all_cases) / min(plain[2]))


def _ray_seconds(all_cases: list[Case], question: Question, workers: int) -> float:
    """Seconds of the cases on a Ray of so many workers, once its workers run."""
    with pool(workers) as ready:
        with opened(question, ready, 8) as scheduler:
            scheduler.work_off(all_cases[: 4 * workers])  # starts the workers, and imports what they need
        with opened(question, ready, len(all_cases)) as scheduler:
            return timed(lambda: scheduler.work_off(all_cases))


def _plain_seconds(all_cases: list[Case], question: Question, workers: int) -> float:
    """Seconds of the cases in forked processes that take the next one from a counter."""
    context = multiprocessing.get_context("fork")
    counter = context.Value("i", 0)
    with TemporaryDirectory() as place:
        shared = Shared(question, Path(place), Path(place))
        processes = [context.Process(target=_work, args=(shared, all_cases, counter)) for _ in range(workers)]

        def together() -> None:
            for process in processes:
                process.start()
            for process in processes:
                process.join()

        return timed(together)


def _work(shared: Shared, all_cases: list[Case], counter: Any) -> None:
    while True:
        with counter.get_lock():
            index = counter.value
            counter.value += 1
        if index >= len(all_cases):
            return
        run_steps(shared, [Step(all_cases[index])], 1.0)
