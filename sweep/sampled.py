"""Layouts proposed by Optuna instead of enumerated: for spaces too large, and to see what sampling loses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from model.evaluate import evaluate_training
from model.layout import SCHEDULES, Array, Layout
from sweep import store
from sweep.blocks import keep_freed_memory, summary
from sweep.cases import Case, Question, Records, records
from sweep.columns import QUANTITIES
from sweep.keep import Columns, select
from sweep.options import OPTION_FIELDS
from sweep.search import Tally, rows_of
from sweep.space import NODE_FIELDS, Space
from sweep.store import Place
from sweep.trials import NOTHING, new_study, quiet, sampler, seed_of

if TYPE_CHECKING:
    import optuna

_PIPELINE = "schedule"


def distributions(space: Space) -> dict[str, Any]:
    """Optuna's variables of a space: every degree and option that offers more than one value."""
    from optuna.distributions import CategoricalDistribution

    degrees = (*NODE_FIELDS, "pipeline_parallel")
    offered: dict[str, list[Any]] = {name: list(space.degrees[name]) for name in degrees}
    offered[_PIPELINE] = [f"{SCHEDULES[schedule]} x {chunks}" for schedule, chunks in space.pairs]
    for name, values in zip(OPTION_FIELDS, space.values, strict=True):
        offered[name] = sorted(values.tolist())
    return {name: CategoricalDistribution(values) for name, values in offered.items() if values}


def solve_sampled(question: Question, case: Case, part: Place) -> dict[str, Any]:
    """Worker: propose, evaluate and tell, generation by generation, and write the rows to keep."""
    keep_freed_memory()
    known = records(question, case)
    tally = Tally(layouts=known.space.count)
    trials: list[dict[str, Any]] = []
    seen: set[int] = set()
    if known.space.count:
        with quiet():
            trials = _propose(question, case, known, seen)
    found = _kept(question, known, np.asarray(sorted(seen), np.int64), tally)
    rows = store.write_part(part, question, case, found)
    return summary(question, case, found, tally) | {"rows": rows, "part": part.name, "trials": trials}


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


def _propose(question: Question, case: Case, known: Records, seen: set[int]) -> list[dict[str, Any]]:
    search = question.search
    study = new_study((search.objective,))
    variables = distributions(known.space)
    seed = seed_of(question.seed, "layout", case.index)
    trials: list[dict[str, Any]] = []
    for generation in range(-(-search.trials // search.generation)):
        study.sampler = sampler(search.sampler, seed, generation, search.generation)
        size = min(search.generation, search.trials - generation * search.generation)
        asked = [study.ask(variables) for _ in range(size)]
        numbers = known.space.find(_layouts(known.space, [trial.params for trial in asked]))
        results = _evaluate(question, known, numbers, seen)
        for trial, number in zip(asked, numbers.tolist(), strict=True):
            value, constraints = results.get(number, _illegal(search.objective))
            trials.append(_tell(study, trial, value, constraints))
    return trials


def _layouts(space: Space, params: list[dict[str, Any]]) -> Layout:
    """Proposals as a flat layout; data parallelism takes the ranks that the others leave."""
    columns: dict[str, Array] = {}
    for name in params[0]:
        if name == _PIPELINE:
            words = [str(p[name]).split(" x ") for p in params]
            columns["schedule"] = np.asarray([SCHEDULES.index(word) for word, _ in words])
            columns["virtual_stages"] = np.asarray([int(chunks) for _, chunks in words])
        else:
            columns[name] = np.asarray([int(p[name]) for p in params])
    plain = columns["pipeline_parallel"] == 1  # without a pipeline there is one schedule
    columns["schedule"] = np.where(plain, 0, columns["schedule"])
    columns["virtual_stages"] = np.where(plain, 1, columns["virtual_stages"])
    ranks = space.problem.ranks
    inside = np.prod([columns[name] for name in _OF_RANKS[:-1]], axis=0)
    columns["data_parallel"] = np.where(ranks % inside == 0, ranks // inside, 0)
    batch = np.full(len(params), space.problem.global_batch, np.int64)
    return Layout(global_batch=batch, **columns)


_OF_RANKS = ("tensor_parallel", "context_parallel", "pipeline_parallel", "data_parallel")


def _evaluate(
    question: Question, known: Records, numbers: Array, seen: set[int]
) -> dict[int, tuple[float, dict[str, float]]]:
    """Objective and constraints of every legal proposal."""
    legal = np.unique(numbers[numbers >= 0])
    if not len(legal):
        return {}
    seen.update(legal.tolist())
    cost = evaluate_training(known.system, known.stack, known.training, known.space.take(legal))
    shape = legal.shape
    value = np.broadcast_to(np.asarray(QUANTITIES[question.search.objective].read(cost)), shape)
    limits = {"legal": np.full(shape, -1.0)}
    limits |= {name: np.broadcast_to(np.asarray(excess, float), shape) for name, excess in cost.violations.items()}
    for name, sense, limit in question.constraints:
        over = np.asarray(QUANTITIES[name].read(cost)) - limit
        limits[f"limit_{name}"] = np.broadcast_to(over if sense == "<=" else -over, shape)
    return {
        number: (float(value[i]), {name: float(excess[i]) for name, excess in limits.items()})
        for i, number in enumerate(legal.tolist())
    }


def _illegal(objective: str) -> tuple[float, dict[str, float]]:
    return NOTHING[QUANTITIES[objective].better], {"legal": 1.0}


def _tell(study: optuna.Study, trial: optuna.Trial, value: float, constraints: dict[str, float]) -> dict[str, Any]:
    for name, excess in constraints.items():
        trial.set_constraint(name, excess)
    study.tell(trial, value)
    return {"params": trial.params, "values": [value], "constraints": constraints}
