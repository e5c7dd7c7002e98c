"""Layouts proposed by Optuna instead of enumerated: for spaces too large, and to see what sampling loses.

Every trial evaluates a legal layout that no trial before it evaluated: a proposal that is illegal or known moves to
the nearest one, and Optuna is told of the layout that it became. A share of each generation is proposed beside the
best layouts so far, because the objective is rugged where degrees trade against each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from model.layout import Array
from sweep import store
from sweep.blocks import keep_freed_memory, summary
from sweep.cases import Case, Question, Records, records
from sweep.columns import QUANTITIES
from sweep.encoding import Encoding
from sweep.errors import InputError, Problem
from sweep.keep import Columns, front, objectives, select
from sweep.samplers import seed_of
from sweep.search import Tally, rows_of
from sweep.space import Space
from sweep.store import Place
from sweep.trial_log import FOLDER, TrialLog
from sweep.trials import Proposer, Result, Source, Trial, generations

_OF_THE_BEST = 0.25  # chance that a neighbour is one of the best layout, else of the second best, and so on
_REMEMBERED = 32  # best layouts that neighbours are looked for of


def solve_sampled(question: Question, case: Case, part: Place) -> dict[str, Any]:
    """Worker: propose, evaluate and tell, generation by generation, and write the rows to keep.

    A generation is in the case's log before the next is proposed; one that is there is not evaluated again.
    """
    keep_freed_memory()
    known = records(question, case)
    trials: list[Trial] = []
    if known.space.count:
        trials = Sampling(question, case, known, part.parent.parent / FOLDER).run()
    numbers = np.asarray(sorted(trial["layout_id"] for trial in trials), dtype=np.int64)
    tally = Tally(layouts=known.space.count)
    found = _kept(question, known, numbers, tally)
    rows = store.write_part(part, question, case, found)
    told = {"rows": rows, "part": part.name, "improvements": improvements(trials)}
    return summary(question, case, found, tally) | told


def _kept(question: Question, known: Records, numbers: Array, tally: Tally) -> Columns | None:
    """The rows to keep of the layouts that were tried."""
    if not len(numbers):
        return None
    rows, search = rows_of(question, known, numbers), question.search
    for name in rows:
        if name.startswith("violation_"):
            tally.note(name.removeprefix("violation_"), rows[name], len(numbers))
    tally.evaluated, tally.feasible = len(numbers), int(np.count_nonzero(rows["feasible"]))
    if search.rows != "all":
        rows = {name: values[rows["feasible"]] for name, values in rows.items()}
    chosen = select(search, rows)
    return {name: values[chosen] for name, values in rows.items()} if len(chosen) else None


def improvements(trials: Sequence[Trial]) -> list[tuple[int, float]]:
    """Where the best so far changed: number of the trial, and the objective."""
    found: list[tuple[int, float]] = []
    for trial in trials:
        if trial["best"] is not None and (not found or trial["best"] != found[-1][1]):
            found.append((trial["trial"], trial["best"]))
    return found


def baseline_numbers(baselines: Sequence[str], space: Space) -> list[int]:
    """Numbers of the baselines of a study in a space; -1 where one is not among its legal layouts."""
    from sweep.explanation import parse_layout

    if not space.count:
        return [-1] * len(baselines)
    first = space.take(np.zeros(1, np.int64))
    ranks, batch = int(first.ranks[0]), int(np.asarray(first.global_batch)[0])
    numbers = []
    for text in baselines:
        try:
            numbers.append(int(space.find(parse_layout(text, ranks, batch).flat())[0]))
        except InputError:  # of a form that these ranks cannot have
            numbers.append(-1)
    return numbers


def baseline_notes(question: Question, cases: Sequence[Case]) -> tuple[str, ...]:
    """Which baselines are left out where. Raises InputError with those that are legal nowhere."""
    baselines = question.search.baselines
    sampled = [case for case in cases if case.method == "optuna" and case.corner == "nominal"] if baselines else []
    legal_in = {case: baseline_numbers(baselines, records(question, case).space) for case in sampled}
    problems, notes = [], []
    for i, text in enumerate(baselines):
        without = [case for case, numbers in legal_in.items() if numbers[i] < 0]
        if sampled and len(without) == len(sampled):
            rule = "is among the legal layouts of no case of the study"
            problems.append(Problem("study", f"search.baselines[{i}]", rule, text, "see sweep plan for legal degrees"))
        elif without:
            named = ", ".join(dict.fromkeys(f"{case.design.label} {case.model} {case.chips}" for case in without))
            notes.append(f"Baseline {text} is no legal layout of, and left out for: {named}")
    if problems:
        raise InputError(problems)
    return tuple(notes)


@dataclass(frozen=True, slots=True)
class _Evaluated:
    """Layouts of a generation with what they cost."""

    layouts: list[int]
    objective: Array
    values: Array  # layouts x objectives
    limits: Mapping[str, Array]
    feasible: Array

    def results(self, encoding: Encoding) -> list[Result]:
        """What Optuna is told."""
        excesses = [dict(zip(self.limits, row, strict=True)) for row in np.stack([*self.limits.values()], 1).tolist()]
        params = encoding.params(self.layouts)
        return [Result(*one) for one in zip(params, self.values.tolist(), excesses, strict=True)]


class Sampling:
    """The trials of one case."""

    def __init__(self, question: Question, case: Case, known: Records, folder: Place) -> None:
        search = question.search
        self.question, self.known, self.search = question, known, search
        self.encoding = Encoding(known.space)
        self.objectives = objectives(search)
        self.seed = seed_of(question.seed, "layout", case.index)
        legal = [number for number in baseline_numbers(search.baselines, known.space) if number >= 0]
        self.baselines = list(dict.fromkeys(legal))
        self.planned = generations(min(search.trials, known.space.count), search.generation, len(self.baselines))
        self.log = TrialLog(folder, case.index)
        variables = self.encoding.variables
        self.proposer = Proposer(search.sampler, variables, self.objectives, self.seed, search.generation)
        self.trials: list[Trial] = []
        self.seen: set[int] = set()
        self.elite: list[tuple[tuple[float, ...], int]] = []  # feasible layouts: objectives, to be small, and number
        self.best: float | None = None

    def run(self) -> list[Trial]:
        """All trials, and their log as an undisturbed worker leaves it."""
        for _ in self.generations():
            pass
        self.log.finish(self.trials)
        return self.trials

    def generations(self) -> Iterator[Sequence[Trial]]:
        """Each generation as it is told; those that the log has are only remembered."""
        self.log.begin(self.encoding.variables, self.objectives)
        done = self.log.generations(self.planned)
        for generation, numbers in enumerate(self.planned):
            if generation < len(done):
                self.proposer.remember(generation, done[generation])
                self._learn(done[generation])
            else:
                self._try(generation, len(numbers))
            yield self.trials[numbers.start : numbers.stop]

    def _try(self, generation: int, count: int) -> None:
        evaluated = self._evaluate(self._propose(generation, count))
        told = self.proposer.tell(generation, evaluated.results(self.encoding))
        sign = QUANTITIES[self.search.objective].sign
        for i, record in enumerate(told):
            value, fits = float(evaluated.objective[i]), bool(evaluated.feasible[i])
            if fits and (self.best is None or sign * value < sign * self.best):
                self.best = value
            record |= {"layout_id": evaluated.layouts[i], "feasible": fits, "best": self.best}
        self.log.add(told)
        self._learn(told)

    # -------------------------------------------------------------------------------------------- proposals
    def _propose(self, generation: int, count: int) -> list[int]:
        source: Source = "neighbour"
        if generation == 0 and self.baselines:
            given, source = self.baselines, "baseline"
        elif self.search.sampler == "brute_force":
            given, source = self._in_order(count), "order"
        else:
            given = self._beside_the_best(generation, count)
        params = self.proposer.ask(generation, count, self.encoding.params(given), source)
        asked = self.encoding.places_of(params[: count - len(given)])
        return [*self.encoding.settle(asked, self.seen | set(given)), *given]

    def _in_order(self, count: int) -> list[int]:
        """The next layouts of the list."""
        start = max(len(self.trials) - len(self.baselines), 0)
        free = (number for number in range(start, self.known.space.count) if number not in self.seen)
        return [next(free) for _ in range(count)]

    def _beside_the_best(self, generation: int, count: int) -> list[int]:
        """Layouts a step or two beside the best."""
        wanted = int(self.search.neighbours * count)
        if not wanted or not self.elite:
            return []
        rng = np.random.default_rng(seed_of(self.seed, "neighbours", generation))
        ranks = np.minimum(rng.geometric(_OF_THE_BEST, wanted) - 1, len(self.elite) - 1)
        around = self.encoding.places([self.elite[rank][1] for rank in ranks])
        return self.encoding.settle(self.encoding.stepped(around, rng), set(self.seen))

    # -------------------------------------------------------------------------------------------- outcomes
    def _evaluate(self, layouts: list[int]) -> _Evaluated:
        rows = rows_of(self.question, self.known, np.asarray(layouts, dtype=np.int64))
        limits = {
            name.removeprefix("violation_"): np.asarray(rows[name], float)
            for name in rows
            if name.startswith("violation_")
        }
        values = np.stack([np.asarray(rows[name], float) for name in self.objectives], axis=1)
        return _Evaluated(layouts, rows[self.search.objective], values, limits, rows["feasible"])

    def _learn(self, told: Sequence[Trial]) -> None:
        """Take up what a generation came to."""
        self.trials.extend(told)
        self.seen.update(trial["layout_id"] for trial in told)
        self.best = told[-1]["best"]
        signs = [QUANTITIES[name].sign for name in self.objectives]
        self.elite += [
            (tuple(sign * value for sign, value in zip(signs, trial["values"], strict=True)), trial["layout_id"])
            for trial in told
            if trial["feasible"]
        ]
        self.elite.sort()
        if len(signs) > 1 and self.elite:
            chosen = front(np.asarray([values for values, _ in self.elite]), np.arange(len(self.elite)))
            self.elite = [self.elite[i] for i in chosen]
        self.elite = self.elite[:_REMEMBERED]
