"""Residuals fitted to published runs of grade A and B, with shrinkage, and the share of measurements that bands hold.

Each framework counts alike in what is expected of software without rows. A stack's median is pulled towards that, by
its cases n against a weight, n / (n + weight), and so are the logarithms of the distances from the median to the 10
and 90 % points; a chip's are pulled towards its stack's in the same way. The weight is the one that predicts each case
best from the others (interval score of Gneiting and Raftery, Journal of the American Statistical Association 102
(2007), section 6.2). Of less than nine cases the points are Student's prediction limits.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import exp, hypot, log, sqrt
from pathlib import Path
from typing import Any

import numpy as np

from sweep import catalogue
from sweep.prediction import Prediction
from sweep.residuals import (
    ANY,
    TAIL,
    UNSEEN_MEMORY,
    Residual,
    Residuals,
    Z,
    chip_class,
    chip_named,
    family_of,
    is_engine,
    is_rate,
    read,
)

CHIP_CASES = 10  # of a chip, from which it has numbers apart from those of its stack
WEIGHTS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # that are tried
NEARLY = 0.01  # above the best score: of the weights that come so near it, the largest is taken
_RANKED = 9  # cases from which the 10 % point lies among them
_NARROWEST = 0.25  # of the standard deviation: a side of a band has some width
_DIGITS = 4


@dataclass(frozen=True, slots=True)
class Row:
    """One measured quantity of one case: `value` is log(predicted / measured) as a time or in bytes."""

    id: str
    source: str
    family: str
    kind: str
    framework: str
    software: str
    chip: str
    value: float


@dataclass(frozen=True, slots=True)
class Points:
    """10 %, median and 90 % of a distribution."""

    low: float
    median: float
    high: float


def rows_of(predictions: Iterable[Prediction]) -> list[Row]:
    """What can be fitted to: comparisons of grade A and B of a quantity that has a family, and all of power.

    A measurement under two names, as the first token and the whole time of a prefill, is counted once.
    """
    once: dict[tuple[str, float | None], Prediction] = {}
    for one in predictions:
        once.setdefault((one.id, one.measured), one)
    return [row for one in once.values() if (row := _row(one)) is not None]


def _row(one: Prediction) -> Row | None:
    family = family_of(one.quantity, is_engine(one.stack or ""))
    if family is None or one.chip is None or one.predicted is None or not one.measured:
        return None
    value = log(one.predicted / one.measured) * (-1.0 if is_rate(one.quantity) else 1.0)
    chip, source = chip_named(one.chip), one.group.split()[0]
    if family == "power":  # chips count alike, and are left out in turn
        return Row(one.id, source, family, ANY, chip, ANY, chip, value)
    if one.grade not in ("A", "B") or one.stack is None or one.kind is None:
        return None
    facts = catalogue.entry("engines" if is_engine(one.stack) else "stacks", one.stack).facts
    return Row(one.id, source, family, one.kind, facts["frameworks"][0], one.stack, chip, value)


# ------------------------------------------------------------------------------------------------ three points
def student(freedom: int) -> float:
    """The 90 % point of Student's distribution (Abramowitz and Stegun 26.7.5, to the third term; exact for 1 and 2)."""
    if freedom == 1:
        return 3.0777
    if freedom == 2:
        return 1.8856
    terms = (Z**3 + Z) / 4.0, (5.0 * Z**5 + 16.0 * Z**3 + 3.0 * Z) / 96.0
    third = (3.0 * Z**7 + 19.0 * Z**5 + 17.0 * Z**3 - 15.0 * Z) / 384.0
    return Z + terms[0] / freedom + terms[1] / freedom**2 + third / freedom**3


def expected(among: Sequence[Sequence[float]]) -> Points:
    """Points for one more member, of members with some values each that count alike."""
    values = np.concatenate([np.asarray(one, float) for one in among])
    weights = np.concatenate([np.full(len(one), 1.0 / len(one)) for one in among])
    order = np.argsort(values)
    values, weights = values[order], weights[order] / len(among)
    low, median, high = np.interp((TAIL, 0.5, 1.0 - TAIL), np.cumsum(weights) - weights / 2.0, values)
    more = student(len(among) - 1) / Z * sqrt(1.0 + 1.0 / len(among)) if len(among) > 1 else 1.0
    return Points(float(median - more * (median - low)), float(median), float(median + more * (high - median)))


def pulled(own: Sequence[float], cases: int, towards: Points, weight: float) -> Points:
    """Points of a group of so many cases, pulled towards those of what it belongs to."""
    if not cases:
        return towards
    median = float(np.median(own))
    share = cases / (cases + weight)
    centre = share * median + (1.0 - share) * towards.median
    wide = (towards.median - towards.low, towards.high - towards.median)
    if cases < 2:
        return Points(centre - wide[0], centre, centre + wide[1])
    below, above = (
        exp(share * log(max(mine, 1e-6)) + (1.0 - share) * log(other))
        for mine, other in zip(_sides(own, cases, median), wide, strict=True)
    )
    return Points(centre - below, centre, centre + above)


def _sides(own: Sequence[float], cases: int, median: float) -> tuple[float, float]:
    deviation = float(np.std(own, ddof=1))
    if cases < _RANKED:
        side = student(cases - 1) * sqrt(1.0 + 1.0 / cases) * deviation
        return side, side
    low, high = np.quantile(own, (TAIL, 1.0 - TAIL), method="hazen")
    narrowest = _NARROWEST * deviation
    return max(median - float(low), narrowest), max(float(high) - median, narrowest)


# ------------------------------------------------------------------------------------------------ a fit
def grouped(rows: Iterable[Row], key: Callable[[Row], Any]) -> dict[Any, list[Row]]:
    """Rows by a key, in the order of the keys."""
    found: dict[Any, list[Row]] = {}
    for row in rows:
        found.setdefault(key(row), []).append(row)
    return dict(sorted(found.items()))


def _values(rows: Iterable[Row]) -> list[float]:
    return [row.value for row in rows]


def _cases(rows: Iterable[Row]) -> int:
    return len({row.id for row in rows})


def _expected(rows: Iterable[Row]) -> Points:
    """Points for a framework like those of the rows."""
    return expected([_values(one) for one in grouped(rows, lambda row: row.framework).values()])


def _unseen(family: str, towards: Points) -> Points:
    """Points for a framework without rows. Of memory only one framework says anything: a spread is assumed."""
    if family != "memory":
        return towards
    below = hypot(towards.median - towards.low, Z * UNSEEN_MEMORY)
    above = hypot(towards.high - towards.median, Z * UNSEEN_MEMORY)
    return Points(towards.median - below, towards.median, towards.median + above)


def tables(rows: Sequence[Row], weight: float) -> dict[str, Any]:
    """The tables of the file of fitted numbers."""
    groups: list[dict[str, Any]] = []
    unseen: list[dict[str, Any]] = []
    families = []
    for (family, kind), those in grouped(rows, lambda row: (row.family, row.kind)).items():
        towards = _expected(those)
        frameworks = len({row.framework for row in those})
        unseen.append(
            {"family": family, "kind": kind, "frameworks": frameworks, **_entry(those, _unseen(family, towards))}
        )
        for software, own in grouped(those, lambda row: row.software).items():
            stack = pulled(_values(own), _cases(own), towards, weight)
            name = {"family": family, "kind": kind, "software": software}
            chips = grouped(own, lambda row: row.chip)
            found = {"sources": sorted({row.source for row in own}), "chips": list(chips)}
            groups.append({**name, "chip": "", **_entry(own, stack), **found})
            for chip, there in chips.items():
                if len(chips) > 1 and _cases(there) >= CHIP_CASES:
                    points = pulled(_values(there), _cases(there), stack, weight)
                    groups.append({**name, "chip": chip, **_entry(there, points)})
    for family, those in grouped(rows, lambda row: row.family).items():
        classes = sorted({chip_class(row.chip) for row in those})
        families.append({"family": family, "between_chips": _between_chips(those), "calibrations": classes})
    return {"group": groups, "unseen": unseen, "family": families}


def _entry(rows: Sequence[Row], points: Points) -> dict[str, Any]:
    low, median, high = (round(one, _DIGITS) for one in (points.low, points.median, points.high))
    return {"cases": _cases(rows), "rows": len(rows), "low": low, "median": median, "high": high}


def _between_chips(rows: Sequence[Row]) -> float:
    """Standard deviation of the medians of a stack's chips of three cases and more about that of all its rows."""
    squares, freedom = 0.0, 0
    for own in grouped(rows, lambda row: (row.kind, row.software)).values():
        chips = [one for one in grouped(own, lambda row: row.chip).values() if _cases(one) >= 3]
        if len(chips) < 2:
            continue
        medians = np.array([np.median(_values(one)) for one in chips])
        squares += float(np.sum((medians - medians.mean()) ** 2))
        freedom += len(chips) - 1
    return round(sqrt(squares / freedom), _DIGITS) if freedom else 0.0


def fit(rows: Sequence[Row], weight: float) -> Residuals:
    """Residuals fitted to rows."""
    return read(tables(rows, weight))


def shrinkage(rows: Sequence[Row]) -> float:
    """The weight that predicts each case of a stack best from its others, every stack counting alike."""
    scores = {weight: _score(rows, weight) for weight in WEIGHTS}
    enough = (1.0 + NEARLY) * min(scores.values())
    return max(weight for weight, score in scores.items() if score <= enough)


def _score(rows: Sequence[Row], weight: float) -> float:
    scores = []
    for those in grouped(rows, lambda row: (row.family, row.kind)).values():
        towards = _expected(those)
        for own in grouped(those, lambda row: row.software).values():
            cases = _cases(own)
            if cases < 2:
                continue
            scores.append(
                np.mean([_interval_score(points, row) for row, points in _others(own, cases, towards, weight)])
            )
    return float(np.mean(scores))


def _others(own: Sequence[Row], cases: int, towards: Points, weight: float) -> Iterable[tuple[Row, Points]]:
    for left in grouped(own, lambda row: row.id).values():
        others = [row.value for row in own if row.id != left[0].id]
        points = pulled(others, cases - 1, towards, weight)
        yield from ((row, points) for row in left)


def _interval_score(points: Points, row: Row) -> float:
    """Width, and for a row outside its distance by 2 over the share that may lie outside."""
    outside = max(points.low - row.value, row.value - points.high, 0.0)
    return points.high - points.low + outside / TAIL


# ------------------------------------------------------------------------------------------------ coverage
@dataclass(frozen=True, slots=True)
class Coverage:
    """Share of the rows of a stack, kind and family inside of their bands; None where nothing can be left out."""

    name: tuple[str, str, str]
    cases: int
    rows: int
    in_sample: float
    case_out: float | None  # bands from all cases but the one that is held against them
    framework_out: float | None  # bands from all other frameworks


def inside(found: Residual, row: Row) -> bool:
    """Whether a row lies in the band."""
    return found.log_low <= row.value <= found.log_high


def held(fitted_to: Residuals, rows: Iterable[Row]) -> list[bool]:
    """Of each row whether it lies in its band."""
    return [inside(fitted_to.of(row.family, row.kind, row.software, row.chip), row) for row in rows]


def coverage(rows: Sequence[Row], weight: float) -> list[Coverage]:
    """Coverage by family, kind and software: in sample, and with a case or a whole framework left out."""
    all_in = fit(rows, weight)
    found = []
    for (family, kind), those in grouped(rows, lambda row: (row.family, row.kind)).items():
        frameworks = {
            one: fit(rest, weight)
            for one in {row.framework for row in those}
            if (rest := [row for row in those if row.framework != one])
        }
        for software, own in grouped(those, lambda row: row.software).items():
            cases = _cases(own)
            without = frameworks.get(own[0].framework)
            found.append(Coverage(
                (family, kind, software), cases, len(own), float(np.mean(held(all_in, own))),
                _case_out(those, own, weight) if cases > 1 else None,
                float(np.mean(held(without, own))) if without else None,
            ))  # fmt: skip
    return found


def _case_out(those: Sequence[Row], own: Sequence[Row], weight: float) -> float:
    results: list[bool] = []
    for left in grouped(own, lambda row: row.id).values():
        rest = [row for row in those if row.id != left[0].id]
        results += held(fit(rest, weight), left)
    return float(np.mean(results))


def total(found: Sequence[Coverage]) -> Mapping[str, tuple[float, float]]:
    """Each kind of coverage over all: of rows, and of stacks that count alike."""
    sums = {}
    for name in ("in_sample", "case_out", "framework_out"):
        shares = [(getattr(one, name), one.rows) for one in found if getattr(one, name) is not None]
        if shares:
            each, weights = zip(*shares, strict=True)
            sums[name] = float(np.average(each, weights=weights)), float(np.mean(each))
    return sums


def fitted_numbers(of: Mapping[str, Any]) -> int:
    """How many numbers were fitted: three of each distribution, the spreads between chips, the weight."""
    spreads = sum(1 for one in of["family"] if one["between_chips"])
    return 3 * (len(of["group"]) + len(of["unseen"])) + spreads + 1


# ------------------------------------------------------------------------------------------------ the file
_HEAD = """\
# Distributions of log(predicted / measured): 10 %, median and 90 %. Times and bytes; those of rates are mirrored.
# Written by python -m sweep.residuals from published cases of grade A and B; docs/accuracy.md says how sure they are.

"""


def written(of: Mapping[str, Any]) -> str:
    """The file of fitted numbers."""
    parts = [f"{key} = {{ {', '.join(_pairs(value))} }}\n" for key, value in of.items() if isinstance(value, Mapping)]
    for key, value in of.items():
        if isinstance(value, list):
            lines = "".join(f"  {{ {', '.join(_pairs(one))} }},\n" for one in value)
            parts.append(f"\n{key} = [\n{lines}]\n")
    return _HEAD + "".join(parts)


def _pairs(table: Mapping[str, Any]) -> list[str]:
    return [f"{key} = {_text(value)}" for key, value in table.items()]


def _text(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_text(one) for one in value)}]"
    return f'"{value}"' if isinstance(value, str) else repr(value)


def fit_files(files: Sequence[Path], target: Path, check: bool = False) -> int:
    """Fit to files of cases, say what bands hold, and write the numbers; with `check` only compare them."""
    from sweep.validation import read_cases, unbanded

    rows = rows_of(one for case in read_cases(files) for one in unbanded(case))
    weight = shrinkage(rows)
    of = tables(rows, weight)
    fitted = {"cases": _cases(rows), "rows": len(rows), "numbers": fitted_numbers(of)}
    text = written({"fitted": fitted, "shrinkage": {"weight": weight}, **of})
    for line in report(coverage(rows, weight), fitted):
        sys.stdout.write(f"{line}\n")
    if check:
        same = target.read_text(encoding="utf-8") == text
        sys.stdout.write("the product holds these numbers\n" if same else f"{target.name} holds other numbers\n")
        return 0 if same else 1
    target.write_text(text, encoding="utf-8")
    return 0


def report(found: Sequence[Coverage], fitted: Mapping[str, int]) -> list[str]:
    """Coverage by group as a table for a page, and the sum of it."""
    lines = ["| family | kind | software | cases | in sample | case left out | framework left out |",
             "| --- | --- | --- | ---: | ---: | ---: | ---: |"]  # fmt: skip
    for one in found:
        shares = (_share(value) for value in (one.in_sample, one.case_out, one.framework_out))
        lines.append(f"| {' | '.join(one.name)} | {one.cases} | {' | '.join(shares)} |")
    sums = total(found)
    for at, what in enumerate(("all rows", "all, each software alike")):
        shares = (
            _share(sums[name][at] if name in sums else None) for name in ("in_sample", "case_out", "framework_out")
        )
        lines.append(f"| {what} | | | {fitted['cases']} | {' | '.join(shares)} |")
    ratio = fitted["rows"] / fitted["numbers"]
    return [*lines, "", f"{fitted['numbers']} numbers fitted to {fitted['rows']} rows: {ratio:.1f} rows a number"]


def _share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.0f} %"
