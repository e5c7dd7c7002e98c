"""Constants of the serving operators, fitted to measured operators and written to the catalogue.

    python -m sweep.calibration            # fit, and write what changed
    python -m sweep.calibration --check    # fit, and fail where the catalogue holds other values
    python -m sweep.calibration --rows FILE  # take the rows that fits use from a file of measured operators

One set of constants per chip or machine, by least squares on the logarithm of the error with a robust loss: a row that
is off counts linearly. The rows stand in calibration_data/operators.jsonl.gz with their sources. Constants that
training uses as well are not touched.
"""

from __future__ import annotations

import gzip
import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from model.system import System
from sweep import catalogue
from sweep.calibration_plan import ASSUMED, FITS, RANGES, Constant, Fit
from sweep.chip_names import CHIP_SYSTEMS
from sweep.operator_forms import Operation, burst, predicted_seconds
from sweep.operator_rows import operations
from sweep.published import InexpressibleError

DATA = Path(__file__).parent / "calibration_data" / "operators.jsonl.gz"
_DIGITS = 3
_SAME = 0.03  # a constant of the catalogue is the fitted one within this
_SAME_LOSS = 0.002  # or fits as well within this
_ROBUST = 0.1  # logarithmic error beyond which a row counts linearly
_STARTS = 6

Values = Mapping[Constant, float]


# --------------------------------------------------------------------------------------------------------- fitting
def needed(given: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows that a fit uses, with the fields that it needs and the source of each."""
    kept = []
    for row in given:
        try:
            found = operations(row)
        except InexpressibleError:
            continue
        if any(_uses(fit, one) for fit in FITS for one in found):
            source = {key: row["source"][key] for key in ("repo", "path", "commit", "url") if row["source"].get(key)}
            fields = {key: row[key] for key in ("id", "group", "kind", "chip_key", "chips", "params", "measured")}
            kept.append({**fields, "source": source})
    return kept


def _uses(fit: Fit, one: Operation) -> bool:
    return one.chip == fit.chip and one.kind.startswith(fit.kinds) and one.source not in fit.without


def rows() -> list[dict[str, Any]]:
    """Rows of the product's own data."""
    return [json.loads(line) for line in gzip.decompress(DATA.read_bytes()).decode().splitlines()]


@cache
def measured() -> tuple[Operation, ...]:
    """All operations of the product's own data."""
    return tuple(one for row in rows() for one in operations(row))


def machine(chip: str, values: Values) -> System:
    """The machine of a chip at the burst clock, with some constants replaced."""
    name, sold_with = CHIP_SYSTEMS[chip]
    system = catalogue.system(name, chip_name=sold_with)
    calibration_name = catalogue.entry("chips", system.chip.name).facts["calibration"]
    facts = catalogue.entry("systems", name).facts
    tiers = []
    for tier in system.tiers:
        own: dict[str, Any] = {
            one.name: value
            for one, value in values.items()
            if (one.kind == "systems" and (one.entry, one.table) == (name, tier.name))
            or (one.kind == "fabrics" and one.entry == facts.get(f"tiers.{tier.name}.fabric"))
        }
        tiers.append(replace(tier, **own))
    calibration = system.chip.calibration
    for one, value in values.items():
        if (one.kind, one.entry) != ("calibrations", calibration_name):
            continue
        if one.table == "decode":
            calibration = replace(calibration, decode=replace(calibration.decode, **{one.name: value}))
        else:
            peak = one.table.removeprefix("matmul.")
            matmul = replace(calibration.matmul[peak], **{one.name: value})
            calibration = replace(calibration, matmul={**calibration.matmul, peak: matmul})
    return burst(replace(system, tiers=tuple(tiers), chip=replace(system.chip, calibration=calibration)))


def fitted(fit: Fit, known: Values) -> dict[Constant, float]:
    """Constants of a fit, those before it known."""
    from scipy.optimize import least_squares

    residuals = _residuals(fit, known)
    low, high = np.log([(one.low, one.high) for one in fit.constants]).T
    best: Any = None
    for start in _starts(len(fit.constants)):
        # differences wide enough to see past the steps of waves of tiles and of choices between kernels
        one = least_squares(
            residuals, low + start * (high - low), bounds=(low, high), loss="soft_l1", f_scale=_ROBUST,
            diff_step=1e-3, max_nfev=200,
        )  # fmt: skip
        best = one if best is None or one.cost < best.cost else best
    return {one: _rounded(value) for one, value in zip(fit.constants, np.exp(best.x), strict=True)}


def loss(fit: Fit, values: Values) -> float:
    """Robust mean loss of a fit with given constants."""
    errors = _residuals(fit, values)(np.log([values[one] for one in fit.constants]))
    return float(np.mean(2.0 * _ROBUST**2 * (np.sqrt(1.0 + (errors / _ROBUST) ** 2) - 1.0)))


def _residuals(fit: Fit, known: Values) -> Callable[[Any], Any]:
    found = [one for one in measured() if _uses(fit, one)]
    if not found:
        raise ValueError(f"no measured operation for {fit.chip}: {', '.join(fit.kinds)}")
    times = np.log([one.measured for one in found])

    def residuals(point: Any) -> Any:
        values = {**known, **dict(zip(fit.constants, np.exp(point), strict=True))}
        return np.log(predicted_seconds(found, lambda chip: machine(chip, values))) - times

    return residuals


def _starts(dimensions: int) -> Any:
    """Points of the unit cube, the same in every run."""
    return np.random.default_rng(1).uniform(0.2, 0.8, (_STARTS, dimensions))


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def fit_all() -> dict[Constant, float]:
    """Every fitted constant, beside those that are assumed outright."""
    assumed = {
        Constant(one.kind, one.entry, one.table, name, *RANGES[name]): value
        for one in ASSUMED
        for name, value in one.changed
    }
    values: dict[Constant, float] = {}
    for fit in FITS:
        values.update(fitted(fit, {**assumed, **values}))
    return values


# ----------------------------------------------------------------------------------------- to and from the catalogue
@dataclass(frozen=True, slots=True)
class Entry:
    """A constant as the catalogue is to hold it."""

    constant: Constant
    value: float
    source: str
    kind: str


def entries(values: Values) -> list[Entry]:
    """Every constant of the fits and of those assumed from them."""
    sources = {one: fit.source for fit in FITS for one in fit.constants}
    found = {_key(one): Entry(one, value, sources[one], "derived") for one, value in values.items()}
    for one in ASSUMED:
        changed = dict(one.changed)
        for name in one.names:
            constant = Constant(one.kind, one.entry, one.table, name, *RANGES[name])
            if _key(constant) not in found:
                value = changed[name] if name in changed else found[(*one.like, name)].value
                found[_key(constant)] = Entry(constant, value, one.source, "estimated")
    return list(found.values())


def _key(one: Constant) -> tuple[str, str, str, str]:
    return (one.kind, one.entry, one.table, one.name)


def _path(one: Constant) -> str:
    tier = "tiers." if one.kind == "systems" else ""
    return f"{tier}{one.table}.{one.name}" if one.table else one.name


def _line(entry: Entry) -> str:
    one = entry.constant
    shown = f'"{_rounded(entry.value * 1e6):g} us"' if one.name.endswith("_s") else f"{entry.value:g}"
    return f'{one.name} = {{ value = {shown}, source = "{entry.source}", kind = "{entry.kind}" }}'


def written(text: str, found: Iterable[Entry]) -> str:
    """The text of a file of the catalogue with constants replaced or added."""
    lines = text.rstrip("\n").split("\n")
    for entry in found:
        start, end = _block(lines, entry.constant)
        at = next((i for i in range(start, end) if re.match(rf"{entry.constant.name}\s*=", lines[i])), None)
        if at is None:
            lines.insert(end, _line(entry))
        else:
            lines[at] = _line(entry)
    return "\n".join(lines) + "\n"


def _block(lines: list[str], one: Constant) -> tuple[int, int]:
    """First and last line of a constant's table, the last exclusive; made at the end where it is lacking."""
    if one.kind == "systems":
        start = next(
            i for i, line in enumerate(lines) if line == f'name = "{one.table}"' and lines[i - 1] == "[[tiers]]"
        )
    elif one.table:
        if f"[{one.table}]" not in lines:
            lines += ["", f"[{one.table}]"]
        start = lines.index(f"[{one.table}]") + 1
    else:
        start = 0
    end = next((i for i in range(start, len(lines)) if lines[i].startswith("[")), len(lines))
    while end > start and not lines[end - 1].strip():
        end -= 1
    return start, end


def stale(values: Values) -> list[str]:
    """Constants that the catalogue does not hold as fitted; those that fit as well count as the same."""
    found = []
    for one in entries(held(values)):
        value = held_value(one.constant)
        if value is None or abs(value / one.value - 1.0) > _SAME:
            place = f"{one.constant.kind}/{one.constant.entry}.toml: {_path(one.constant)}"
            found.append(f"{place} is {value}, fitted {one.value:g}; run make calibrate")
    return found


def held(values: Values) -> dict[Constant, float]:
    """The fitted constants, but for those of fits that the catalogue's are as good for: then the catalogue's."""
    good = {one for fit in FITS if _as_good(fit, values) for one in fit.constants}
    return {one: (held_value(one) or value) if one in good else value for one, value in values.items()}


def held_value(one: Constant) -> float | None:
    """A constant as the catalogue holds it; None where it does not."""
    quantity = catalogue.entry(one.kind, one.entry).quantities.get(_path(one))
    return None if quantity is None else float(quantity.value)


def _as_good(fit: Fit, values: Values) -> bool:
    own = {one: value for one in values if (value := held_value(one)) is not None}
    return all(one in own for one in fit.constants) and loss(fit, own) <= loss(fit, values) * (1.0 + _SAME_LOSS)


def main(arguments: Sequence[str]) -> int:
    """Fit; write the catalogue, or with --check only compare it."""
    if "--rows" in arguments:
        from sweep.validation import read_cases

        kept = needed(read_cases([Path(arguments[arguments.index("--rows") + 1])]))
        text = "".join(json.dumps(row, sort_keys=True) + "\n" for row in kept)
        DATA.write_bytes(gzip.compress(text.encode(), 9, mtime=0))
        measured.cache_clear()
    values = fit_all()
    if "--check" in arguments:
        found = stale(values)
        sys.stdout.write("".join(f"{line}\n" for line in found) or "the catalogue holds the fitted constants\n")
        return 1 if found else 0
    for file, of_file in by_file(entries(values)).items():
        file.write_text(written(file.read_text(encoding="utf-8"), of_file), encoding="utf-8")
    return 0


def by_file(found: Iterable[Entry]) -> dict[Path, list[Entry]]:
    """Constants by the file that holds them."""
    files: dict[Path, list[Entry]] = {}
    for one in found:
        files.setdefault(catalogue.entry(one.constant.kind, one.constant.entry).file, []).append(one)
    return files


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
