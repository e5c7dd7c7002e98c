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
from sweep.power_validation import is_power, predict_power
from sweep.prediction import Prediction, banded
from sweep.published import (
    InexpressibleError,
    measured_step_seconds,
    model_kind,
)
from sweep.serving_validation import is_serving, predict_serving
from sweep.training_cases import evaluated


def read_cases(files: Iterable[Path]) -> list[dict[str, Any]]:
    """Cases of JSON Lines files.

    Raises InputError naming every file that cannot be read and every line that is not an object.
    """
    cases: list[dict[str, Any]] = []
    problems: list[Problem] = []
    for file in files:
        try:
            lines = file.read_text(encoding="utf-8-sig").split("\n")  # other line ends may stand inside of texts
        except (OSError, UnicodeDecodeError) as failure:
            problems.append(Problem(str(file), "", f"cannot be read: {failure}", None, "give a JSON Lines file"))
            continue
        for at, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                case = json.loads(line)
            except (ValueError, RecursionError) as failure:
                fault = getattr(failure, "msg", str(failure))
                problems.append(Problem(str(file), f"line {at}", f"is not JSON: {fault}"))
                continue
            if isinstance(case, dict):
                cases.append(case)
            else:
                problems.append(Problem(str(file), f"line {at}", "must be an object", type(case).__name__))
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
    return [banded(one) for one in unbanded(case)]


def unbanded(case: Mapping[str, Any]) -> list[Prediction]:
    """The same without bands, as residuals are fitted to."""
    from sweep.case_schema import read  # pydantic is slow to import

    if is_power(case):
        return predict_power(case)
    if is_serving(case):
        return predict_serving(case)

    blank = Prediction(str(case.get("id")), "not readable", "step_time_s", None, None, None, None, None, None)
    try:
        case = read(case)
    except ValueError as fault:
        return [replace(blank, reason=str(fault))]
    blank = replace(
        blank, group=group_of(case), grade=case.get("grade"), kind=model_kind(case), chip=str(case.get("chip"))
    )
    try:
        measured, how = measured_step_seconds(case)
        blank = replace(blank, measured=measured, measured_how=how)
        return _predicted(case, blank)
    except InexpressibleError as reason:
        return [replace(blank, reason=str(reason))]


def _predicted(case: Mapping[str, Any], blank: Prediction) -> list[Prediction]:
    run = evaluated(case)
    cost, row = run.cost, run.row
    seconds = float(cost.step_time[row])
    if not 0.0 < seconds < np.inf:
        raise InexpressibleError("the numbers of the case give no finite step time")
    done = replace(
        blank,
        stack=run.stack,
        stack_why=run.stack_why,
        rules=run.rules,
        chosen=run.chosen,
        predicted=seconds,
        error=seconds / float(blank.measured or np.nan) - 1.0,
        roofline_error=float(cost.model_flops_utilisation[row]) * seconds / float(blank.measured or np.nan) - 1.0,
        parts={part: float(np.broadcast_to(v, cost.step_time.shape)[row]) for part, v in cost.time.parts().items()},
    )
    return [done, *_memory(case, done, float(cost.memory.total[row]))]


def _memory(case: Mapping[str, Any], done: Prediction, predicted: float) -> list[Prediction]:
    """The memory prediction, where the source prints the peak that was allocated."""
    extra = case.get("extra") or {}
    known = {"real_alloc_gib": 2.0**30, "max_memory_gb": 2.0**30, "peak_mem_mib": 2.0**20, "memory_mb": 2.0**20}
    for key, scale in known.items():
        if extra.get(key):
            measured = float(extra[key]) * scale
            error = predicted / measured - 1.0
            blank = replace(done, roofline_error=None)
            return [replace(blank, quantity="memory_bytes", measured=measured, predicted=predicted, error=error)]
    return []
