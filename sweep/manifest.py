"""What a line of a manifest may be: a run folder may come from anybody, and what is read back from it is checked.

A line that is not as this program writes it counts as work not done, like a line that a crash has cut.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sweep.columns import IDENTITY_MEANINGS, LAYOUT_COLUMNS, QUANTITIES

_PART = re.compile(r"case-[0-9]{6,9}(-[0-9]{10,18})?\.parquet")  # a name, never a path
_COUNTS = ("layouts", "evaluated", "feasible", "too_large", "too_slow", "rows")
_TEXTS = {"design", "system", "chip", "stack", "changes", "corner", "method", "model", "number_format"}
_ROW = {*IDENTITY_MEANINGS, *LAYOUT_COLUMNS, *QUANTITIES}


def sound(line: object) -> bool:
    """Whether a line is one that this program could have written."""
    if not isinstance(line, dict):
        return False
    done = line.get("done")
    if done == "case":
        return _is_count(line.get("case")) and _is_report(line)
    if done == "step":
        return _is_step(line.get("step")) and (_is_report(line) or _is_cut(line.get("cut")))
    if done == "generation":
        trials = line.get("trials")
        known = isinstance(trials, list) and all(isinstance(trial, dict) for trial in trials)
        return isinstance(line.get("track"), str) and _is_count(line.get("generation")) and known
    return bool(done == "run")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_step(value: object) -> bool:
    """Case, and the range of its points; -1 stands for the whole case."""
    numbers = isinstance(value, list) and len(value) == 3 and all(isinstance(one, int) for one in value)
    return numbers and isinstance(value, list) and value[0] >= 0 and min(value) >= -2


def _is_cut(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(pair, list) and len(pair) == 2 and all(_is_count(one) for one in pair) for pair in value
    )


def _is_report(line: Mapping[str, Any]) -> bool:
    broken, nearest, best = line.get("broken"), line.get("nearest"), line.get("best")
    return (
        all(_is_count(line.get(name)) for name in _COUNTS)
        and isinstance(broken, dict)
        and all(_is_count(count) for count in broken.values())
        and isinstance(nearest, dict)
        and all(_is_number(excess) for excess in nearest.values())
        and (best is None or _is_row(best))
        and ("part" not in line or (isinstance(line["part"], str) and _PART.fullmatch(line["part"]) is not None))
    )


def _is_row(row: object) -> bool:
    if not isinstance(row, dict) or not row.keys() >= _ROW:
        return False
    return all(isinstance(row[name], str) for name in _TEXTS) and all(_is_number(row[name]) for name in QUANTITIES)
