"""Constants that are free in the fit, and what they belong to.

A constant of a record, such as `compute_slowdown` of the stack nemo-2025, is the sum over its line of descent, on the
constant's own scale: what is expected of all, what its kind adds, what it adds itself. An addition has mean 0 and the
standard deviation that the plan states, so that a record of which few runs are known stays with its kind.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from dataclasses import field as made
from functools import cache
from math import exp, log
from pathlib import Path
from typing import Any, Literal

from sweep import catalogue

PLAN = Path(__file__).parent / "plan.toml"
FITTED = "fit"  # begins the source of a number that a fit wrote

Owner = Literal["stacks", "calibrations", "recipes"]


@dataclass(frozen=True, slots=True)
class Constant:
    """A number that records of one kind have, and what is believed of it before any run is seen."""

    of: Owner
    field: str
    expected: float
    width: float  # standard deviation of what all share, about `expected`
    between: float  # of a kind or a record, about what it belongs to
    low: float
    high: float
    scale: Literal["log", "linear"]
    why: str
    of_records: Mapping[str, float] = made(default_factory=dict)  # what is expected of single records beforehand

    def inward(self, value: float) -> float:
        """A value on the scale that widths are measured on."""
        return log(value) if self.scale == "log" else value

    def outward(self, point: float) -> float:
        """The value at a point of that scale, within the bounds."""
        return min(max(exp(point) if self.scale == "log" else point, self.low), self.high)

    def own_expected(self, record: str) -> float:
        """What a record is expected to add to what it belongs to."""
        told = self.of_records.get(record)
        return 0.0 if told is None else self.inward(told) - self.inward(self.expected)


@dataclass(frozen=True, slots=True)
class Free:
    """A constant of one record, which the fit may change."""

    constant: Constant
    entry: str  # name of the record
    line: tuple[str, ...]  # what it belongs to, the widest first, itself last

    @property
    def key(self) -> tuple[str, str, str]:
        """Owner, record and field."""
        return (self.constant.of, self.entry, self.constant.field)


Values = Mapping[tuple[str, str, str], float]


@cache
def plan() -> tuple[Constant, ...]:
    """Constants that the plan frees."""
    raw = tomllib.loads(PLAN.read_text(encoding="utf-8"))
    return tuple(Constant(**one) for one in raw["constant"])


def free(stacks: Iterable[str], calibrations: Iterable[str]) -> list[Free]:
    """The constants of these records that are not facts, and those of recipes."""
    records = {"stacks": sorted(set(stacks)), "calibrations": sorted(set(calibrations)), "recipes": ["recipes"]}
    found = []
    for constant in plan():
        for name in records[constant.of]:
            line = _line(constant, name)
            if line is not None:
                found.append(Free(constant, name, (constant.field, *line)))
    return found


def _line(constant: Constant, name: str) -> tuple[str, ...] | None:
    """What a constant of a record belongs to, the widest first; None where it is a fact."""
    if constant.of == "recipes":
        return ("recipes",)
    if constant.of == "calibrations":
        quantity = catalogue.entry("calibrations", name).quantities.get(constant.field)
        return (generation(name), name) if quantity is not None and "step times" in quantity.source else None
    lineage = [one for one in catalogue.lineage(catalogue.entry("stacks", name)) if constant.field in one.quantities]
    if not lineage or not is_fitted(lineage[0].quantities[constant.field], constant):
        return None
    # a record may have a constant of its own, whether it has one now or not
    return tuple(dict.fromkeys((*(one.name for one in reversed(lineage)), name)))


def is_fitted(stated: catalogue.Quantity, constant: Constant) -> bool:
    """Whether a number of a stack is a fit's or an assumption; else it is a fact, as are times of 0."""
    if float(stated.value) <= 0.0 and (constant.scale == "log" or constant.field.endswith("_s")):
        return False
    assumed = stated.kind == "estimated" and "assumption" in stated.source
    return assumed or stated.source.startswith(FITTED)


_GENERATIONS = {
    "hopper": ("h100", "h20", "h800"),
    "blackwell": ("b200", "gb200", "b300", "gb300"),
    "tpu": ("tpu",),
    "ascend": ("ascend",),
}


def generation(name: str) -> str:
    """Generation of chips that a calibration is of; its own where it has no sisters."""
    return next((one for one, parts in _GENERATIONS.items() if name.startswith(parts)), f"{name} alone")


def tuned(record: Any, entry: str, of: Owner, values: Values) -> Any:
    """A record with the constants of the fit in place of its own."""
    for (owner, name, path), value in values.items():
        if owner == of and name == entry:
            record = _with(record, path.split("."), value)
    return record


def _with(record: Any, path: list[str], value: float) -> Any:
    name, rest = path[0], path[1:]
    if isinstance(record, Mapping):
        if name not in record:
            return record
        return {**record, name: _with(record[name], rest, value) if rest else value}
    return replace(record, **{name: _with(getattr(record, name), rest, value) if rest else value})
