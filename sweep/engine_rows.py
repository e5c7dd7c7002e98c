"""What published serving runs say of the constants of their engines: errors, and how each constant moves them.

A case is evaluated once with every free constant moved in turn: engines may carry arrays in their numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from model.layout import Array
from model.serving.stack import ServingStack
from sweep.engine_constants import Plan
from sweep.published import InexpressibleError
from sweep.residuals import is_rate
from sweep.serving_cases import is_serving, measured_quantities, serving_question
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
        if one.name in free and getattr(engine, one.name) == value:  # else the run does without it
            moved[one.name] = many
    taken = answers(question).taken  # the layout, where it is open
    asked = replace(
        question, engine=replace(engine, **moved), instance=question.instance.flat().take(np.array([taken]))
    )
    quantities = answers(asked).quantities
    rows = []
    for name, value in measured.items():
        if name not in quantities:
            continue
        seconds = np.broadcast_to(np.asarray(quantities[name], float).reshape(-1), (len(of.constants) + 1,))
        errors = np.log(seconds / value) * (-1.0 if is_rate(name) else 1.0)
        if np.all(np.isfinite(errors)):
            rows.append(
                Row(
                    str(case.get("id")), name, str(case["grade"]), engine.name, of.framework[engine.name],
                    str(case["chip"]), model_family(str(case.get("model"))), question.way, question.batch or 0.0,
                    float(errors[0]), (errors[1:] - errors[0]) / STEP,
                )
            )  # fmt: skip
    return rows
