"""Cases to measure the way from driver to worker with: as many as asked, all of the same length."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

from sweep.cases import Case, Question, cases
from sweep.cluster import Pool
from sweep.progress import Progress
from sweep.scheduler import Scheduler, Shared, Step, run_steps
from sweep.store import RunFolder
from sweep.study import parse

STUDY = """
question = "How long is the way?"
chips = [48]
[[workloads]]
model = "llama-3-8b"
sequence = "8192 token"
batch = 128
[[designs]]
system = "hgx-h20"
[search]
prune = false
"""


def listed(count: int) -> tuple[list[Case], Question]:
    """The same case under many numbers, and what its tasks share."""
    study = parse(STUDY)
    (case,), _ = cases(study)
    metadata = (("study_file", study.text * 20),)  # as long as the file of a large study
    question = Question(study.axes, study.search, study.constraints, study.seed, metadata)
    return [replace(case, index=index) for index in range(count)], question


@contextmanager
def opened(question: Question, pool: Pool, total: int) -> Iterator[Scheduler]:
    """A scheduler on a run folder that is deleted afterwards."""
    with TemporaryDirectory() as place:
        folder = RunFolder(Path(place) / "run")
        folder.open("", {}, {})
        try:
            yield Scheduler(folder, question, pool, Progress("measured", "tokens_per_s", total))
        finally:
            folder.close()


def seconds_of_a_case() -> float:
    """Seconds that one case takes in this process, its part included."""
    (case,), question = listed(1)
    with TemporaryDirectory() as place:
        shared = Shared(question, Path(place), Path(place))
        return min(timed(lambda: run_steps(shared, [Step(case)], 1.0)) for _ in range(4))


def timed(work: Callable[[], object]) -> float:
    """Wall seconds of a piece of work."""
    began = perf_counter()
    work()
    return perf_counter() - began
