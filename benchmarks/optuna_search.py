"""What Optuna's samplers reach and cost in the space of layouts.

* How many trials until the best found is within 1 % of the exact optimum: the median of three seeds, beside that of
  random sampling, or all of its trials where it was not there either; none where the median seed was not there.
* What a trial costs beside its evaluation (proposal, settling on a legal layout, log, telling), after 100 and after
  1,000 trials, beside what its evaluation costs.
* How long a run of 10,000 trials takes to finish that was killed before its last generation, beside the whole run.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

import numpy as np

from benchmarks.measurement import Measurement
from sweep.cases import Case, Question, Records, cases, records
from sweep.running import run_study
from sweep.sampled import Sampling
from sweep.samplers import SAMPLERS
from sweep.search import rows_of, search_range
from sweep.store import Place, place
from sweep.study import parse

STUDY = """
question = "how soon is sampling near the best layout?"
chips = [{chips}]
[[workloads]]
model = "{model}"
sequence = "{sequence} token"
batch = {batch}
[[designs]]
system = "dgx-h100"
[search]
method = "optuna"
"""
SPACES = {
    "llama-3-70b_1024": STUDY.format(chips=1024, model="llama-3-70b", sequence=8192, batch=1024),
    "deepseek-v3_2048": STUDY.format(chips=2048, model="deepseek-v3", sequence=4096, batch=15_360),
}
ALL = {"random": 0.0, "qmc": 0.0, "tpe": 0.5, "nsga2": 0.5, "cma_es": 0.5, "gp": 0.5}  # and their share of neighbours
SEEDS = range(3)
TRIALS, SLOW_TRIALS = 1000, 200  # of samplers that think for a second
SLOW = ("gp",)
NEAR = 0.01
GENERATION = 16
COSTED = {"after_100": (64, 128), "after_1000": (936, 1000)}
LONG_RUN = 10_000


@dataclass(frozen=True, slots=True)
class Space:
    """A case, and its proven best."""

    question: Question
    case: Case
    known: Records
    best: float


@dataclass(frozen=True, slots=True)
class Course:
    """What a run of trials came to."""

    near: float  # trials until it was near the best; infinite where it never was
    overheads: dict[str, tuple[float, float]]  # seconds of a trial beside its evaluation, and of its evaluation


def measurements() -> Iterator[Measurement]:
    """Trials to 1 %, overhead of a trial, seconds to go on."""
    spaces = {name: _space(text) for name, text in SPACES.items()}
    runs = [(name, name, share) for name, share in ALL.items()]
    alone = [("tpe_without_neighbours", "tpe", 0.0)]
    with tempfile.TemporaryDirectory() as folder:
        for space_name, space in spaces.items():
            yield Measurement(f"optuna_search.{space_name}.layouts", space.known.space.count, "layout")
            reference = float(TRIALS)
            only = space_name == next(iter(spaces))  # where the rest is compared too, as thinking takes long
            for label, sampler, share in [*runs, *alone] if only else runs:
                missing = SAMPLERS[sampler].missing()
                name = f"optuna_search.{space_name}.{label}"
                if missing:
                    yield Measurement(f"{name}.trials_to_1pct", None, "trial", None, f"{missing[0]} is not installed")
                    continue
                out = place(folder) / space_name / label
                trials = SLOW_TRIALS if sampler in SLOW else TRIALS
                whole = only and label == sampler
                courses = [_course(space, sampler, share, seed, trials, out, whole and not seed) for seed in SEEDS]
                found = median(course.near for course in courses)
                reference = min(found, TRIALS) if label == "random" else reference
                yield _near(f"{name}.trials_to_1pct", found, reference, trials)
                for when, (overhead, evaluation) in courses[0].overheads.items():
                    yield Measurement(f"{name}.overhead_{when}", 1e3 * overhead, "ms/trial", 1e3 * evaluation)
        yield _resumed(Path(folder))


def _near(name: str, found: float, reference: float, trials: int) -> Measurement:
    """Trials until near, or that it took more than all."""
    if math.isfinite(found):
        return Measurement(name, found, "trial", reference)
    return Measurement(name, None, "trial", reference, f"not within 1 % after {trials} trials")


def _space(text: str) -> Space:
    study = parse(text)
    question = Question(study.axes, study.search, study.constraints, study.seed, ())
    ((case,), _) = cases(study)
    known = records(question, case)
    found, _ = search_range(question, known, 0, known.space.count)
    assert found is not None, "the space has a feasible layout"
    return Space(question, case, known, float(found[question.search.objective][0]))


def _course(space: Space, sampler: str, share: float, seed: int, trials: int, out: Place, whole: bool) -> Course:
    """One run of trials, until it is near or to the end."""
    search = replace(space.question.search, sampler=sampler, neighbours=share, trials=trials, generation=GENERATION)
    question = replace(space.question, search=search, seed=seed)
    sampling = Sampling(question, space.case, space.known, out / str(seed))
    near, took, overheads = math.inf, [], {}
    began = process_time()
    for told in sampling.generations():
        now = process_time()
        took.append((told[0]["trial"], now - began))
        for one in told:
            if math.isinf(near) and one["best"] is not None and abs(one["best"] / space.best - 1.0) <= NEAR:
                near = one["trial"] + 1
        if math.isfinite(near) and not whole:
            break
        began = process_time()
    for when, (start, stop) in COSTED.items() if whole else ():
        if len(sampling.trials) >= stop:
            seconds = sum(spent for trial, spent in took if start <= trial < stop) / (stop - start)
            evaluation = _evaluation(space, [one["layout_id"] for one in sampling.trials[start:stop]])
            overheads[when] = (seconds - evaluation, evaluation)
    return Course(near, overheads)


def _evaluation(space: Space, layouts: list[int]) -> float:
    """Seconds to evaluate a trial, a generation at a time."""
    began = process_time()
    for start in range(0, len(layouts), GENERATION):
        rows_of(space.question, space.known, np.asarray(layouts[start : start + GENERATION]))
    return (process_time() - began) / len(layouts)


def _resumed(folder: Path) -> Measurement:
    """Seconds until a run is finished whose last generation is missing, beside those of the whole run."""
    text = SPACES["llama-3-70b_1024"] + f'sampler = "random"\ntrials = {LONG_RUN}\ngeneration = 100\n'
    study = parse(text)
    began = perf_counter()
    whole = run_study(study, folder / "long", workers=0)
    took = perf_counter() - began
    run = Path(str(whole.path))
    (run / "manifest.jsonl").unlink()  # the case is not told, as where the run was killed in it
    (log,) = (run / "trials").glob("*.jsonl")
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:-100]))
    began = perf_counter()
    again = run_study(study, folder / "long", workers=0)
    seconds = perf_counter() - began
    assert again.fresh and again.digest == whole.digest
    return Measurement("optuna_search.resume_10000_trials", seconds, "s", took)
