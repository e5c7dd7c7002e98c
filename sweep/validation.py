"""The model against published measurements: predict every case, and sum the errors up by group.

One parameter set per chip and one per software stack; a case that cannot be expressed is listed with the reason.
Error = predicted / measured - 1, on step time (and on memory where a source prints it); never on MFU, which sources
count differently.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sweep.errors import InputError, Problem
from sweep.memory_cases import measured_memory, ran_out_of_memory, without_failures
from sweep.power_validation import is_power, predict_power
from sweep.prediction import Prediction, banded
from sweep.published import (
    InexpressibleError,
    measured_step_seconds,
    model_kind,
)
from sweep.serving_validation import is_serving, predict_serving
from sweep.stated import stated
from sweep.training_cases import evaluated

_ONE_A_LINE = "write one object a line"


def read_cases(files: Iterable[Path]) -> list[dict[str, Any]]:
    """Cases of JSON Lines files.

    Raises InputError naming every file that cannot be read and every line that is not an object.
    """
    cases: list[dict[str, Any]] = []
    problems: list[Problem] = []
    for file in files:
        try:
            lines = file.read_text(encoding="utf-8-sig").split("\n")  # other line ends may stand inside of texts
        except (OSError, ValueError) as failure:
            problems.append(Problem(str(file), "", f"cannot be read: {failure}", None, "give a JSON Lines file"))
            continue
        for at, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                case = json.loads(line)
            except (ValueError, RecursionError) as failure:
                fault = getattr(failure, "msg", str(failure))
                problems.append(
                    Problem(str(file), f"line {at}", f"is not JSON: {fault}", None, "write one object a line")
                )
                continue
            if isinstance(case, dict):
                cases.append(case)
            else:
                problems.append(Problem(str(file), f"line {at}", "must be an object", type(case).__name__, _ONE_A_LINE))
    if problems:
        raise InputError(problems)
    return cases


def group_of(case: Mapping[str, Any]) -> str:
    """Framework, chip, number format and kind of model: the group that errors are summed over."""
    software = case.get("software") or {}
    year = f" {software['year']}" if software.get("year") else ""
    ran = f"{software.get('framework') or 'unknown'}{year} {case.get('chip') or 'unknown chip'}"
    return f"{ran} {_format(case)} {model_kind(case)}"


def _format(case: Mapping[str, Any]) -> str:
    text = str(case.get("number_format") or "bf16")
    return "fp8" if text == "mxfp8" else text


def predict(case: Mapping[str, Any]) -> list[Prediction]:
    """Predictions for every quantity that a case measures, training, serving or power, with their bands."""
    facts = stated(case)
    return [replace(banded(one), stated=facts) for one in unbanded(case)]


def unbanded(case: Mapping[str, Any]) -> list[Prediction]:
    """The same without bands, as residuals are fitted to."""
    from sweep.case_schema import read  # pydantic is slow to import

    if is_power(case):
        return predict_power(case)
    if is_serving(case):
        return predict_serving(case)

    ran_out = ran_out_of_memory(case)
    blank = Prediction(str(case.get("id")), "not readable", "step_time_s", None, None, None, None, None, None)
    try:
        case = read(without_failures(case) if ran_out else case)
    except ValueError as fault:
        return [replace(blank, reason=str(fault))]
    blank = replace(
        blank, group=group_of(case), grade=case.get("grade"), kind=model_kind(case), chip=str(case.get("chip")),
        ran=not ran_out,
    )  # fmt: skip
    return _of_training(case, blank, measured_memory(case))


def _of_training(case: Mapping[str, Any], blank: Prediction, used: float | None) -> list[Prediction]:
    """Step time, and memory where the source prints it or says that it ran out."""
    found = []
    unmeasured = "the source says that memory ran out"
    if blank.ran:
        try:
            measured, how = measured_step_seconds(case)
            blank = replace(blank, measured=measured, measured_how=how)
        except InexpressibleError as reason:
            unmeasured = str(reason)
    step = blank.measured is not None
    if not step:
        found.append(replace(blank, reason=unmeasured))
    room = replace(blank, quantity="memory_bytes", measured=used, measured_how=None)
    try:
        if step or used is not None or not blank.ran:
            done = _predicted(case, blank)
            found += [done] if step else []
            found += [_memory(done, used)] if used is not None or not blank.ran else []
    except InexpressibleError as reason:
        found += [replace(blank, reason=str(reason))] if step else []
        found += [replace(room, reason=str(reason))] if used is not None or not blank.ran else []
    return found


def _predicted(case: Mapping[str, Any], blank: Prediction) -> Prediction:
    run = evaluated(case)
    cost, row = run.cost, run.row
    seconds = float(cost.step_time[row])
    if not 0.0 < seconds < np.inf:
        raise InexpressibleError("the numbers of the case give no finite step time")
    measured = blank.measured
    bound = float(cost.model_flops_utilisation[row]) * seconds
    planned = run.usable_memory * run.system.chip.hbm_bytes
    return replace(
        blank,
        stack=run.stack,
        stack_why=run.stack_why,
        rules=run.rules,
        chosen=run.chosen,
        predicted=seconds,
        error=None if measured is None else seconds / measured - 1.0,
        roofline_error=None if measured is None else bound / measured - 1.0,
        parts={part: float(np.broadcast_to(v, cost.step_time.shape)[row]) for part, v in cost.time.parts().items()},
        memory=float(np.broadcast_to(cost.memory.total, cost.step_time.shape)[row]) / planned,
        memory_parts={
            part: float(np.broadcast_to(v, cost.step_time.shape)[row]) for part, v in cost.memory.parts().items()
        },
    )


def _memory(done: Prediction, measured: float | None) -> Prediction:
    """The memory of a run that was predicted, against the peak that the source prints."""
    parts = done.memory_parts or {}
    predicted = sum(parts.values())
    error = None if measured is None else predicted / measured - 1.0
    return replace(
        done, quantity="memory_bytes", measured=measured, predicted=predicted, error=error, roofline_error=None,
        measured_how=None, parts=parts,
    )  # fmt: skip
