"""`sweep plan`: what a study would run."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from model.layout import SCHEDULES, SHORT
from model.serving.instance import SHORT as OF_INSTANCES
from sweep.planning import Plan, plan_study
from sweep.progress import clock
from sweep.study import Study, load

_NAMES = {**OF_INSTANCES, **SHORT}


def plan(
    study: Path,
    *,
    workers: int | None = None,
    overrides: Annotated[list[str] | None, Parameter(name="--set", negative="")] = None,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Say what a study would run: axes, legal layouts, which rule drops how many others, and about how long.

    Parameters
    ----------
    study
        The study file.
    workers
        Worker processes to estimate the time for: one a core unless given.
    overrides
        Changes to the study as path=value; see sweep run.
    as_json
        Print one JSON object.
    """
    checked = load(study, overrides or [])
    found = plan_study(checked, workers or os.cpu_count() or 1)
    if as_json:
        sys.stdout.write(json.dumps({"study": checked.name} | found.as_object(), allow_nan=False) + "\n")
    else:
        sys.stdout.write("\n".join(_lines(checked, found)) + "\n")


def _lines(study: Study, found: Plan) -> list[str]:
    how = f"{study.outer.trials} trials a design" if study.outer else "every size"
    lines = [
        f"{study.name}: {found.layouts:,} legal layouts in {found.cases} cases ({how}), "
        f"about {clock(found.seconds)} on {found.workers} workers",
        "",
        f"{found.combinations:,} combinations of all axes; dropped by the first rule that they break:",
    ]
    lines += [f"  {count:>16,}  {rule}" for rule, count in found.dropped.items()]
    lines += ["", "Values that occur in legal layouts:"]
    lines += [f"  {_NAMES.get(name, name):<9} {_values(name, values)}" for name, values in found.axes.items()]
    lines += ["", f"  {'design':<24} {'model':<20} {'chips':>7} {'ranks':>7} {'layouts':>12}  searched"]
    lines += [
        f"  {one.design:<24} {one.model:<20} {one.chips:>7,} {one.ranks:>7,} {one.layouts:>12,}  {one.times} x"
        for one in found.spaces
    ]
    return [*lines, *([""] if found.notes else []), *found.notes]


def _values(name: str, values: tuple[int, ...]) -> str:
    words = [SCHEDULES[value] for value in values] if name == "schedule" else [str(value) for value in values]
    shown = words if len(words) <= 20 else [*words[:10], "...", *words[-5:]]
    return " ".join(shown)
