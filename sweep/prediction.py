"""What the model says of published cases, and the errors summed up by group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import comb

import numpy as np

from sweep.residuals import residual_of

# A group of so many rows whose bands hold less or more of them than this has a remark.
REMARKED = 10
HELD = (0.7, 0.9)
RARE = 0.1  # chance of as few, or as many, of a group's rows in bands that hold four of five


@dataclass(frozen=True, slots=True)
class Prediction:
    """One quantity of one case. `predicted` and `error` are None where `reason` says why."""

    id: str
    group: str
    quantity: str
    measured: float | None
    predicted: float | None
    error: float | None
    stack: str | None
    reason: str | None
    grade: str | None = None
    measured_how: str | None = None
    chosen: str | None = None  # what the source leaves open, as the model filled it
    rules: tuple[str, ...] = ()  # of the case that changed the stack, or how it was read
    parts: Mapping[str, float] | None = None
    roofline_error: float | None = None  # of plain peaks: FLOPs of the model, and in serving bytes, at the chip's rates
    kind: str | None = None  # "dense" or "MoE"
    chip: str | None = None  # as the case names it
    low: float | None = None  # 10 % of measurements are expected below it
    high: float | None = None  # and 10 % above it
    covered: bool | None = None  # whether the measured value lies from low to high
    stated: Mapping[str, str | float] | None = None  # what the case says of its run, see sweep/stated.py
    memory: float | None = None  # predicted bytes of the fullest rank over what may be planned: above 1 it does not fit
    memory_parts: Mapping[str, float] | None = None  # bytes by cause
    ran: bool | None = None  # False where the source says that memory ran out, True where the run was measured
    stack_why: str | None = None  # why this stack was taken


@dataclass(frozen=True, slots=True)
class GroupError:
    """Errors of a group on one quantity, as fractions."""

    group: str
    quantity: str
    n: int
    mean_absolute_error: float
    median: float  # of the absolute errors
    p90: float
    max: float
    bias: float
    roofline: float | None = None  # mean absolute error of plain peaks on the same cases
    constant: float | None = None  # the same of plain peaks times one constant: the best guess of a single MFU for all
    coverage: float | None = None  # share of the measured values that lie in their bands, without cases of grade C
    remark: str | None = None  # where the bands hold too few or too many


def banded(one: Prediction) -> Prediction:
    """The prediction with the band that residuals give it; as it is where nothing says how wrong such a quantity is."""
    if one.predicted is None:
        return one
    found = residual_of(one.stack, one.kind, one.chip, one.quantity)
    if found is None:
        return one
    low, high = found.band(one.predicted)
    covered = None if one.measured is None else low <= one.measured <= high
    return replace(one, low=low, high=high, covered=covered)


def summarise(predictions: Sequence[Prediction]) -> list[GroupError]:
    """Errors by group and over everything, for each quantity."""
    groups: dict[tuple[str, str], list[Prediction]] = {}
    for one in predictions:
        if one.error is not None:
            groups.setdefault((one.group, one.quantity), []).append(one)
            groups.setdefault(("all", one.quantity), []).append(one)
    constants = {quantity: _constant(members) for (group, quantity), members in groups.items() if group == "all"}
    return [
        _summed(group, quantity, members, constants[quantity])
        for (group, quantity), members in sorted(groups.items(), key=lambda item: (item[0][0] == "all", item[0]))
    ]


def _constant(members: Sequence[Prediction]) -> float:
    """The median of measured over plain peaks: what a guess by one constant would be made with."""
    over = [1.0 + one.roofline_error for one in members if one.roofline_error is not None and one.roofline_error > -1.0]
    return float(np.median(1.0 / np.asarray(over))) if over else 1.0


def _summed(group: str, quantity: str, members: Sequence[Prediction], constant: float) -> GroupError:
    errors = [one.error for one in members if one.error is not None]
    sizes = np.abs(errors)
    naive = np.asarray([one.roofline_error for one in members if one.roofline_error is not None])
    held = [one.covered for one in members if one.covered is not None and one.grade != "C"]
    coverage = float(np.mean(held)) if held else None
    return GroupError(
        group, quantity, len(errors), float(sizes.mean()), float(np.median(sizes)), float(np.quantile(sizes, 0.9)),
        float(sizes.max()), float(np.mean(errors)), float(np.abs(naive).mean()) if naive.size else None,
        float(np.abs(constant * (1.0 + naive) - 1.0).mean()) if naive.size else None,
        coverage, _remark(coverage, len(held)),
    )  # fmt: skip


def _remark(coverage: float | None, rows: int) -> str | None:
    """Where bands of four of five hold so few or so many of a group's rows that chance would rarely do it."""
    if coverage is None or rows < REMARKED or HELD[0] <= round(coverage, 2) <= HELD[1]:
        return None
    held, expected = round(coverage * rows), (HELD[0] + HELD[1]) / 2.0
    tight = coverage < HELD[0]
    beyond = range(held + 1) if tight else range(held, rows + 1)
    if sum(comb(rows, one) * expected**one * (1.0 - expected) ** (rows - one) for one in beyond) > RARE:
        return None
    return f"bands are too {'tight' if tight else 'loose'}: they hold {100 * coverage:.0f} % of {rows} measured values"
