"""A design of a study as records of the cost model: the machine of the catalogue with what the study changes."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from fnmatch import fnmatch
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Union

from model import units
from model.stack import Stack
from model.system import System, partly_used
from sweep import catalogue
from sweep.axes import InstanceAxes
from sweep.errors import nearest

# Where a study names none: everybody's list prices, and a cluster that is run with care.
DEFAULT_PRICES, DEFAULT_OPERATION = "list", "careful-2026"
_IN_USE = "tiers.*.ranks_in_use"
# Written for a package, as a chip is bought; a rank gets its share.
_OF_A_PACKAGE = (
    "chip.peak_flops.*",
    "chip.cores",
    "chip.hbm_bytes",
    "chip.hbm_bandwidth",
    "chip.power_cap_w",
    "chip.power.board_w",
    "chip.power.idle_w",
)
# The layout of ranks on dies is the layouts' to know, and a torus is its dimensions.
_GROUPS = ("peak_flops", "joule_per_flop", "efficiency")  # tables of one quantity
_FIXED = frozenset({"ranks_per_package"})


@dataclass(frozen=True, slots=True)
class HowServed:
    """How a design serves where it is not as the workload does; None: as the workload."""

    expert: str | None = None
    attention: str | None = None
    cache: str | None = None
    redundant: tuple[int, ...] | None = None  # numbers of redundant experts on offer
    axes: InstanceAxes | None = None


@dataclass(frozen=True, slots=True)
class Design:
    """A machine to compare: its name in the catalogue, its software, and what the study changes about it.

    The software is a training stack or a serving engine, as the study's phase has it.
    """

    label: str
    system: str
    stack: str
    chips: tuple[int, ...]
    number_formats: tuple[str, ...] | None = None  # None: the workload's
    power_cap_w: float | None = None
    changes: tuple[tuple[str, float], ...] = ()
    extra: Path | None = None  # folder of further catalogue entries
    served: HowServed = HowServed()
    prices: str = DEFAULT_PRICES
    operation: str = DEFAULT_OPERATION


def dimension_of(path: str) -> units.Dimension:
    """Dimension of a number of a machine. Raises ValueError for a path that a study may not change."""
    from sweep.catalogue_schema import dimension_of as named

    if fnmatch(path, _IN_USE):
        return units.NUMBER
    _kind_at(path)
    *_, group, name = ("", *path.split("."))
    return named(group if group in _GROUPS else name)


def number_of(path: str, written: Any) -> float:
    """A number of a machine as a study writes it, in SI units. Raises ValueError where the machine cannot have it."""
    from sweep.number_ranges import in_range

    dimension = dimension_of(path)
    *_, group, name = ("", *path.split("."))
    own = group if group in _GROUPS else name
    return in_range(units.parse(written, dimension), written, own, dimension)


@cache
def _kind_at(path: str) -> type:
    """Type of the number at a dotted path of a machine: float or int. Raises ValueError where there is none."""
    at, steps, wrong = _resolved(System, path.split("."))
    if at in (float, int) and not steps:
        return at  # type: ignore[no-any-return]
    if not is_dataclass(at) or not steps:
        raise ValueError("not a number that a study may change, as in 'chip.hbm_bandwidth'")
    before = path.removesuffix(".".join(steps))
    raise ValueError(f"not a number that a study may change; {nearest(before + steps[0], [before + o for o in wrong])}")


def _resolved(at: Any, steps: list[str]) -> tuple[Any, list[str], list[str]]:
    """What a path leads to from a record: its type, the steps that lead nowhere, and what could stand there instead.

    A name may hold dots: of several readings the one that leads furthest is taken, of equal ones that with the shortest
    name. Whether the machine has one of this name is seen when it is changed.
    """
    if not steps or not is_dataclass(at):
        return at, steps, []
    known = {name: _inside(hint) for name, hint in typing.get_type_hints(at).items() if name not in _FIXED}
    known = {name: found for name, found in known.items() if is_dataclass(found[0]) or found[0] in (float, int)}
    if steps[0] not in known:
        return at, steps, list(known)
    inner, named = known[steps[0]]
    rest = steps[1:]
    if not named:
        return _resolved(inner, rest)
    if not rest:
        return Mapping, rest, []
    if not is_dataclass(inner):
        return inner, [], []
    readings = [_resolved(inner, rest[count:]) for count in range(1, len(rest))] or [(inner, [], [])]
    return min(readings, key=lambda reading: len(reading[1]))


def _inside(hint: Any) -> tuple[Any, bool]:
    """What a field holds, and whether it holds several by their names."""
    if typing.get_origin(hint) in (Union, types.UnionType):
        hint = next(one for one in typing.get_args(hint) if one is not type(None))
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple and inner[1:] == (Ellipsis,) and is_dataclass(inner[0]):
        return inner[0], True
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        return inner[1], True
    return hint, False


def changed(system: System, path: str, value: float) -> System:
    """A copy of a machine with the number at a dotted path replaced. Raises ValueError for an unknown name.

    The chip's peaks, memory and power are those of a package, as in the catalogue.
    """
    if fnmatch(path, _IN_USE):
        _, *name, _ = path.split(".")
        return partly_used(system, ".".join(name), round(value))
    whole = _kind_at(path) is int
    if any(fnmatch(path, pattern) for pattern in _OF_A_PACKAGE):
        value /= system.chip.ranks_per_package
    result: System = _changed(system, path.split("."), round(value) if whole else value)
    return result


def number_at(system: System, path: str) -> float | None:
    """The number at a dotted path of a machine, of a package where it is the chip's; None where none is set."""
    if path == "chip.power_cap_w" and system.chip.power_cap_w is None:
        path = "chip.power.board_w"  # the cap in force
    at: Any = system
    steps = path.split(".")
    while steps and at is not None:
        name, steps = _first(at, steps)
        if isinstance(at, tuple):
            at = next((item for item in at if item.name == name), None)
        else:
            at = at.get(name) if isinstance(at, Mapping) else getattr(at, name, None)
    if at is None:
        return None
    of_package = any(fnmatch(path, pattern) for pattern in _OF_A_PACKAGE)
    return float(at * system.chip.ranks_per_package if of_package else at)


def _first(record: Any, path: list[str]) -> tuple[str, list[str]]:
    """The first name of a path in a record, and the rest of the path: the longest name that the record has."""
    if isinstance(record, (tuple, Mapping)):
        known = set(record) if isinstance(record, Mapping) else {item.name for item in record}
        for count in range(len(path), 1, -1):
            if (name := ".".join(path[:count])) in known:
                return name, path[count:]
    return path[0], path[1:]


def _changed(record: Any, path: list[str], value: float) -> Any:
    name, rest = _first(record, path)
    if record is None:
        raise ValueError(f"the machine has no record that {name!r} is in")
    if isinstance(record, tuple):
        names = [item.name for item in record]
        if name not in names:
            raise ValueError(f"{name!r} is not one of the machine's; {nearest(name, names)}")
        return tuple(_changed(item, rest, value) if item.name == name else item for item in record)
    if isinstance(record, Mapping):
        if name not in record:
            raise ValueError(f"{name!r} is not one of the chip's; {nearest(name, record)}")
        return {**record, name: _changed(record[name], rest, value) if rest else value}
    if not is_dataclass(record) or name not in {field.name for field in fields(record)}:
        raise ValueError(f"no number {name!r} here")
    own: Any = record
    return replace(own, **{name: _changed(getattr(own, name), rest, value) if rest else value})


def changes_text(design: Design) -> str:
    """What a study changes about a machine, as the data set says it."""
    cap = () if design.power_cap_w is None else (("chip.power_cap_w", design.power_cap_w),)
    return ";".join(f"{path}={value!r}" for path, value in (*design.changes, *cap))


def changes_of(row: Mapping[str, Any]) -> list[tuple[str, float]]:
    """What a study changes about the machine of a row, in SI units."""
    pairs = [text.rpartition("=") for text in str(row["changes"]).split(";") if text]
    return [(path, float(value)) for path, _, value in pairs]


def design_of_row(row: Mapping[str, Any], extra: Path | None = None) -> Design:
    """The design that a row of a data set was computed for, with what the study changed."""
    changes = tuple(changes_of(row))
    names = (str(row["design"]), str(row["system"]), str(row["stack"]))
    prices, operation = (str(row.get(name, "")) for name in ("prices", "operation"))  # older runs had neither
    return Design(*names, (), None, None, changes, extra, prices=prices, operation=operation)


def machine_of_row(row: Mapping[str, Any], extra: Path | None = None) -> System:
    """The machine that a row of a data set was computed for, at its corner."""
    return machine(design_of_row(row, extra), row["corner"])


@lru_cache(maxsize=256)
def machine(design: Design, corner: catalogue.Corner = "nominal") -> System:
    """The machine of a design at a corner of its numbers' ranges."""
    return machine_as_read(design, corner)


def machine_as_read(design: Design, reading: catalogue.At) -> System:
    """The machine of a design whose numbers are read at a corner or drawn; what the study says of it stays as it is."""
    system = catalogue.system(
        design.system, reading, design.extra, prices=design.prices or None, operation=design.operation or None
    )
    for path, value in design.changes:
        system = changed(system, path, value)
    if design.power_cap_w is not None:
        system = changed(system, "chip.power_cap_w", design.power_cap_w)
    return system


def software(design: Design) -> Stack:
    """The software stack of a design."""
    return catalogue.stack(design.stack, design.extra)


def is_scenario(design: Design) -> bool:
    """Whether a design's machine exists in rumour or on a roadmap only."""
    return catalogue.is_scenario(design.system, design.extra)
