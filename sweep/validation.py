"""The model against published measurements: predict every case, and sum the errors up by group.

One parameter set per chip and one per software stack; a case that cannot be expressed is listed with the reason.
Error = predicted / measured - 1, on step time (and on memory where a source prints it); never on MFU, which sources
count differently.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from model.evaluate import evaluate_training
from model.layout import SHORT, Layout, recompute_names
from model.stack import Stack
from model.system import System
from sweep import catalogue
from sweep.errors import InputError, Problem
from sweep.flags import applied
from sweep.power_validation import is_power, predict_power
from sweep.prediction import Prediction, banded
from sweep.published import (
    CHIP_SYSTEMS,
    InexpressibleError,
    aligned,
    is_fully_sharded,
    measured_step_seconds,
    model_kind,
    networked,
    question,
)
from sweep.serving_validation import is_serving, predict_serving

# A run that was published did fit, whatever the model says. Where the source does not say what it recomputed, nothing
# is recomputed unless the predicted memory passes this multiple of the chip's.
FITS_WITHIN = 2.0


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


def stack_of(case: Mapping[str, Any]) -> tuple[str, Stack]:
    """The stack record of a case's framework and release; the nearest by year where the framework is unknown."""
    software = case.get("software") or {}
    framework = str(software.get("framework") or "other")
    if any("maxtext" in str(flag).lower() for flag in case.get("flags") or []):
        framework = "maxtext"  # a benchmark suite or submission that ran it
    year = _year(framework, case)
    names = catalogue.stacks_of(framework, year) or catalogue.stacks_of(framework)
    name = names[0] if names else _nearest_stack(case, year)
    return name, catalogue.stack(name)


def _nearest_stack(case: Mapping[str, Any], year: int | None) -> str:
    """For an unknown framework: one of its kind and year.

    Fully sharded data parallelism if the case says so; Megatron-LM of the year on GPUs, of the year in which the chip
    was current where none is known; else what the chip's machine runs.
    """
    if is_fully_sharded(case):
        return "fms-fsdp"
    chip = str(case.get("chip"))
    if chip.startswith(_GPUS):
        current = 2025 if chip.startswith(_RECENT_GPUS) else 2024
        return catalogue.stacks_of("megatron-lm", year or current)[0]
    return catalogue.default_stack(CHIP_SYSTEMS[chip][0])


_RECENT_GPUS = ("b200", "b300", "gb200", "gb300", "mi355x")
_GPUS = (*_RECENT_GPUS, "a100", "h100", "h800", "h20", "mi300x", "mi325x")


_BRANCH = re.compile(r"\br0\.(\d+)")  # release branches of Megatron-LM and Megatron-Core
_CALENDAR = re.compile(r"\b(2[0-9])\.(?:0[1-9]|1[0-2])\b")  # releases numbered by year and month


def _year(framework: str, case: Mapping[str, Any]) -> int | None:
    """Year of a case's software: stated, or read from how each project numbers its releases.

    The release may stand in the case's software, in its flags, or in the title and section of its source. Calendar
    versions ("25.04", "24.11.1") name the year; MLPerf Training 3 to 5 are of 2023 to 2025; Megatron's branches up to
    r0.10 are of 2024 or before. Other numbering says nothing.
    """
    software, source = case.get("software") or {}, case.get("source") or {}
    if software.get("year"):
        return int(software["year"])
    release = str(software.get("release") or "")
    if framework == "mlperf" and release.split(".")[0].isdigit():
        return 2020 + int(release.split(".")[0])
    title = source.get("title") if isinstance(source, dict) else source
    said = " ".join(map(str, (release, *(case.get("flags") or []), title, case.get("table_or_section"))))
    calendar, branch = _CALENDAR.search(said), _BRANCH.search(said)
    if calendar:
        return 2000 + int(calendar.group(1))
    if branch:
        return 2024 if int(branch.group(1)) <= 10 else 2025
    return None


def machine_of(case: Mapping[str, Any]) -> tuple[System, int]:
    """The machine of a case, and ranks per published chip."""
    chip = case.get("chip")
    if str(chip) not in CHIP_SYSTEMS:
        raise InexpressibleError(f"chip {chip!r} is not in the catalogue")
    name, sold_with = CHIP_SYSTEMS[str(chip)]
    system = aligned(networked(catalogue.system(name, chip_name=sold_with), case), case)
    return system, 1 if str(chip).endswith("_die") else system.chip.ranks_per_package


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
    system, ranks_per_chip = machine_of(case)
    name, stack = stack_of(case)
    stack, rules = applied(stack, case)
    asked = question(case, stack, ranks_per_chip)
    if not system.chip.supports(asked.training.number_format):
        raise InexpressibleError(f"{system.chip.name} does not compute in {asked.training.number_format}")
    cost = evaluate_training(system, stack, asked.training, asked.layouts)
    row = chosen_row(system, asked.layouts, cost.step_time, cost.memory.total, cost.violations)
    layout = asked.layouts.flat().take(np.array([row]))
    seconds = float(cost.step_time[row])
    if not 0.0 < seconds < np.inf:
        raise InexpressibleError("the numbers of the case give no finite step time")
    done = replace(
        blank,
        stack=name,
        rules=rules,
        chosen=filled(asked.chosen, layout),
        predicted=seconds,
        error=seconds / float(blank.measured or np.nan) - 1.0,
        roofline_error=float(cost.model_flops_utilisation[row]) * seconds / float(blank.measured or np.nan) - 1.0,
        parts={part: float(np.broadcast_to(v, cost.step_time.shape)[row]) for part, v in cost.time.parts().items()},
    )
    return [done, *_memory(case, done, float(cost.memory.total[row]))]


def chosen_row(system: System, layouts: Layout, seconds: Any, used: Any, violations: Mapping[str, Any]) -> int:
    """Least recomputation that fits (with a margin), then the fastest."""
    broken = np.zeros(seconds.shape, bool)
    for rule, excess in violations.items():
        if rule != "hbm_bytes":
            broken |= np.broadcast_to(np.asarray(excess), seconds.shape) > 0
    usable = ~broken if not broken.all() else np.ones_like(broken)
    fits = usable & (used <= FITS_WITHIN * system.chip.hbm_bytes)
    if not fits.any():
        return int(np.flatnonzero(usable)[np.argmin(used[usable])])
    masks = np.broadcast_to(layouts.recompute, seconds.shape)
    amount = np.where(masks == 0, 0, np.where(masks & 1, 2, 1))
    least = amount[fits].min()
    candidates = np.flatnonzero(fits & (amount == least))
    return int(candidates[np.argmin(seconds[candidates])])


def filled(open_fields: Sequence[str], layout: Layout) -> str | None:
    """What a case leaves open, as the layout taken has it."""
    columns = {short: np.asarray(getattr(layout, name)).item() for name, short in SHORT.items()}
    shown = {"micro_batch": f"micro_batch={columns['mbs']}", "vp": f"vp={columns['vp']}",
             "recompute": f"recompute={recompute_names(columns['recompute'])}"}  # fmt: skip
    return ", ".join(shown[name] for name in open_fields) or None


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
