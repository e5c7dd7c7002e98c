"""What published serving runs say of the constants of their engines: errors, and how each constant moves them.

A case is evaluated once with every free constant moved in turn: engines may carry arrays in their numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from model.layout import Array
from model.serving.stack import ServingStack
from sweep import catalogue
from sweep.engine_constants import Plan
from sweep.published import InexpressibleError
from sweep.residuals import is_rate
from sweep.serving_cases import ServingQuestion, is_serving, measured_quantities, serving_question
from sweep.serving_validation import answers

STEP = 0.1  # that a constant is moved by, of ln(value + floor)
_FIRST = ("ttft_s",)
_PROMPTS = ("prefill", "static")  # kinds of run whose first tokens wait for no other user
SUBJECTS = ("time per token", "prefill", "first token of users", "whole run", "rate")
_STEPS = ("tpot_s", "step_time_s", "layer_s")


@dataclass(frozen=True, slots=True)
class Row:
    """One measured quantity of one case."""

    id: str
    quantity: str
    grade: str
    engine: str
    framework: str  # with its kind, as in engine_constants.Plan
    chip: str
    model: str  # family
    way: str  # kind of run, as in serving_cases.Way
    load: float  # sequences, as far as stated
    error: float  # ln(predicted / measured) as a time, with the present constants
    slopes: Array  # of the error by each constant

    @property
    def subject(self) -> str:
        """What it tells of, one of SUBJECTS: prompts alone or as a batch are prefill, else first tokens queue."""
        if self.way == "prefill" or (self.quantity in _FIRST and self.way in _PROMPTS):
            return "prefill"
        if self.quantity in _FIRST:
            return "first token of users"
        return "time per token" if self.quantity in _STEPS else "whole run" if not is_rate(self.quantity) else "rate"


def model_family(name: str) -> str:
    """The family of a model by its name: what stands before the first digit or sign."""
    word = name.strip().lower()
    for sign in "-_ /.0123456789":
        word = word.split(sign)[0]
    return word or name


def rows_of(cases: Iterable[Mapping[str, Any]], of: Plan, present: Mapping[str, ServingStack]) -> list[Row]:
    """Rows of the serving cases of grade A and B that can be asked, with these engines' constants."""
    from sweep.case_schema import read_serving

    found: list[Row] = []
    for case in cases:
        if not is_serving(case) or case.get("grade") not in ("A", "B"):
            continue
        try:
            read = read_serving(case)
            with np.errstate(all="ignore"):
                found.extend(_rows(read, of, present))
        except (InexpressibleError, ValueError):
            continue
    return found


def _rows(case: Mapping[str, Any], of: Plan, present: Mapping[str, ServingStack]) -> list[Row]:
    measured, question = measured_quantities(case, []), serving_question(case)
    engine = question.engine
    free = {one.name for one in of.free(engine.name)}
    moved: dict[str, Any] = {}
    for place, one in enumerate(of.constants):
        value = getattr(present[engine.name], one.name)
        many = np.full(len(of.constants) + 1, float(value))
        many[place + 1] = one.decoded(one.encoded(value) + STEP)
        if one.name in free and not _without(engine, one.name):
            moved[one.name] = many
    quantities = _answered(question, moved)
    rows = []
    counted: set[float] = set()
    for name, value in measured.items():
        if name not in quantities or value in counted:
            continue  # the first token and the whole time of a prefill are one measurement
        counted.add(value)
        errors = _errors(name, quantities[name], value, len(of.constants) + 1)
        if np.all(np.isfinite(errors)):
            rows.append(
                Row(
                    str(case.get("id")), name, str(case["grade"]), engine.name, of.framework[engine.name],
                    str(case["chip"]), model_family(str(case.get("model"))), question.way, question.batch or 0.0,
                    float(errors[0]), (errors[1:] - errors[0]) / STEP,
                )
            )  # fmt: skip
    return rows


def _answered(question: ServingQuestion, moved: Mapping[str, Any]) -> Mapping[str, Any]:
    """Quantities of a question with arrays of constants, by the layout that the engine as it is would take."""
    taken = answers(question).taken
    instance = question.instance.flat().take(np.array([taken]))
    return answers(replace(question, engine=replace(question.engine, **moved), instance=instance)).quantities


def _errors(name: str, predicted: Any, measured: float, count: int) -> Array:
    """ln(predicted / measured) as of a time, one for each of so many engines."""
    seconds = np.broadcast_to(np.asarray(predicted, float).reshape(-1), (count,))
    return np.asarray(np.log(seconds / measured) * (-1.0 if is_rate(name) else 1.0))


def errors_with(
    cases: Iterable[Mapping[str, Any]], rows: Sequence[Row], constants: Callable[[Row], Sequence[Mapping[str, float]]]
) -> Array:
    """Errors of the rows with other constants of their engines, some sets for each row: rows x sets.

    `cases` are those that the rows are of; the sets of a row may depend on all but its quantity and error.
    """
    from sweep.case_schema import read_serving

    places: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        places.setdefault(row.id, []).append(number)
    found: list[Array] = [np.zeros(0)] * len(rows)
    for case in cases:
        mine = places.get(str(case.get("id")))
        if mine is None:
            continue
        read = read_serving(case)
        measured, question = measured_quantities(read, []), serving_question(read)
        sets = constants(rows[mine[0]])
        moved = {name: np.array([one[name] for one in sets]) for name in sets[0] if not _without(question.engine, name)}
        with np.errstate(all="ignore"):
            quantities = _answered(question, moved)
            for number in mine:
                name = rows[number].quantity
                found[number] = _errors(name, quantities[name], measured[name], len(sets))
    return np.array(found)


def _without(engine: ServingStack, name: str) -> bool:
    """Whether a run does without what a constant stands for."""
    return bool(getattr(engine, name) != getattr(catalogue.engine(engine.name), name))
