"""A design of a study as records of the cost model: the machine of the catalogue with what the study changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from fnmatch import fnmatch
from functools import lru_cache
from pathlib import Path
from typing import Any

from model import units
from model.stack import Stack
from model.system import System, partly_used
from sweep import catalogue
from sweep.axes import InstanceAxes
from sweep.errors import nearest

# What a study may change about a machine: path (with * for any name) -> dimension of the value.
CHANGEABLE: dict[str, units.Dimension] = {
    "chip.peak_flops.*": units.FLOPS,
    "chip.hbm_bytes": units.BYTES,
    "chip.hbm_bandwidth": units.BANDWIDTH,
    "chip.power_cap_w": units.WATTS,
    "chip.power.board_w": units.WATTS,
    "chip.power.idle_w": units.WATTS,
    "chip.power.joule_per_flop.*": units.JOULES_PER_FLOP,
    "chip.power.joule_per_hbm_byte": units.JOULES_PER_BYTE,
    "chip.power.joule_per_link_byte": units.JOULES_PER_BYTE,
    "tiers.*.bandwidth": units.BANDWIDTH,
    "tiers.*.ranks": units.NUMBER,
    "tiers.*.ranks_in_use": units.NUMBER,
    "tiers.*.latency_s": units.SECONDS,
    "tiers.*.latency_step_s": units.SECONDS,
    "tiers.*.oversubscription": units.NUMBER,
    "facility.conversion_efficiency": units.NUMBER,
    "facility.cooling_fraction": units.NUMBER,
    "facility.pue": units.NUMBER,
    "unit_packages": units.NUMBER,
}
_IN_USE = "tiers.*.ranks_in_use"
_WHOLE = ("tiers.*.ranks", "unit_packages")
# Written for a package, as a chip is bought; a rank gets its share.
_OF_A_PACKAGE = (
    "chip.peak_flops.*",
    "chip.hbm_bytes",
    "chip.hbm_bandwidth",
    "chip.power_cap_w",
    "chip.power.board_w",
    "chip.power.idle_w",
)


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


def dimension_of(path: str) -> units.Dimension:
    """Dimension of a changeable number. Raises ValueError for a path that a study may not change."""
    for pattern, dimension in CHANGEABLE.items():
        if fnmatch(path, pattern) and path.count(".") == pattern.count("."):
            return dimension
    raise ValueError(f"not a number that a study may change; {nearest(path, CHANGEABLE)}")


def changed(system: System, path: str, value: float) -> System:
    """A copy of a machine with the number at a dotted path replaced. Raises ValueError for an unknown name.

    The chip's peaks, memory and power are those of a package, as in the catalogue.
    """
    if fnmatch(path, _IN_USE):
        return partly_used(system, path.split(".")[1], round(value))
    if any(fnmatch(path, pattern) for pattern in _OF_A_PACKAGE):
        value /= system.chip.ranks_per_package
    whole = any(fnmatch(path, pattern) for pattern in _WHOLE)
    result: System = _changed(system, path.split("."), round(value) if whole else value)
    return result


def _changed(record: Any, path: list[str], value: float) -> Any:
    name, rest = path[0], path[1:]
    if isinstance(record, tuple):
        names = [item.name for item in record]
        if name not in names:
            raise ValueError(f"{name!r} is not one of the machine's; {nearest(name, names)}")
        return tuple(_changed(item, rest, value) if item.name == name else item for item in record)
    if isinstance(record, Mapping):
        if name not in record:
            raise ValueError(f"{name!r} is not one of the chip's; {nearest(name, record)}")
        return {**record, name: value}
    if not is_dataclass(record) or name not in {field.name for field in fields(record)}:
        raise ValueError(f"no number {name!r} here")
    own: Any = record
    return replace(own, **{name: _changed(getattr(own, name), rest, value) if rest else value})


def changes_text(design: Design) -> str:
    """What a study changes about a machine, as the data set says it."""
    cap = () if design.power_cap_w is None else (("chip.power_cap_w", design.power_cap_w),)
    return ";".join(f"{path}={value!r}" for path, value in (*design.changes, *cap))


def machine_of_row(row: Mapping[str, Any], extra: Path | None = None) -> System:
    """The machine that a row of a data set was computed for: its corner, and what the study changed."""
    pairs = [text.rpartition("=") for text in str(row["changes"]).split(";") if text]
    changes = tuple((path, float(value)) for path, _, value in pairs)
    design = Design(str(row["design"]), str(row["system"]), str(row["stack"]), (), None, None, changes, extra)
    return machine(design, row["corner"])


@lru_cache(maxsize=256)
def machine(design: Design, corner: catalogue.Corner = "nominal") -> System:
    """The machine of a design at a corner of its numbers' ranges."""
    system = catalogue.system(design.system, corner, design.extra)
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
