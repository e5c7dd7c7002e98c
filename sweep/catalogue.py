"""The catalogue: chips, systems, models, software and prices as records of the cost model.

What the files state, each number with its source, is read by sweep/entries.py, whose names stand here too. Peaks stand
in the chips, what is reached of them in the calibrations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, replace
from functools import cache, wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, get_args

from model import chip as chips
from model import system as systems
from model.architecture import Architecture, Experts, LatentAttention, LowRankProjections, SparseAttention
from model.prices import Prices
from model.reliability import Operation
from model.serving.stack import ServingStack
from model.stack import Stack
from sweep.entries import (
    CORNERS,
    DATA,
    KINDS,
    SOURCE_KINDS,
    At,
    Corner,
    Entry,
    Kind,
    Quantity,
    Reading,
    entry,
    names,
    referred,
    wrong_entry,
)
from sweep.errors import InputError, Problem, nearest, spelling
from sweep.price_basis import resolved, silicon_of

__all__ = [
    "CORNERS", "DATA", "KINDS", "SOURCE_KINDS", "At", "Corner", "Entry", "Kind", "Quantity", "Reading",
    "architecture", "chip", "default_engine", "default_stack", "engine", "engines_of", "entry", "is_scenario",
    "lineage", "names", "operation", "prices", "referred", "stack", "stacks_of", "system",
]  # fmt: skip

_Given = ParamSpec("_Given")
_Record = TypeVar("_Record")


def _kept(build: Callable[_Given, _Record]) -> Callable[_Given, _Record]:
    """Build a record of a corner once. One of a reading is not kept: it may hold thousands of points."""
    kept = cache(build)

    @wraps(build)
    def one(*given: _Given.args, **named: _Given.kwargs) -> _Record:
        read = any(callable(argument) for argument in (*given, *named.values()))
        return build(*given, **named) if read else kept(*given, **named)  # type: ignore[arg-type]

    return one


# ------------------------------------------------------------------------------------------------- machines
def _calibration(found: Entry, peaks: Mapping[str, float], corner: At, by: Entry) -> chips.Calibration:
    matmul = {peak: found.under(f"matmul.{peak}", corner) for peak in peaks}
    lacking = [peak for peak, constants in matmul.items() if not constants]
    if lacking:
        rule = f"calibration {found.name!r} has no matmul constants for a peak of the chip"
        raise wrong_entry(by, "calibration", rule, ", ".join(lacking), "add them to it, or leave the peak out")
    return chips.Calibration(
        matmul={peak: chips.MatmulCalibration(**constants) for peak, constants in matmul.items()},
        attention=chips.AttentionCalibration(**found.under("attention", corner)),
        memory=chips.MemoryCalibration(**found.under("memory", corner)),
        decode=chips.DecodeCalibration(**found.under("decode", corner)),
        **found.under("", corner),
    )


def _notes(found: Entry) -> dict[str, str]:
    return {key: found.facts[key] for key in ("title", "status", "topology", "note") if key in found.facts}


@_kept
def chip(name: str, corner: At = "nominal", extra: Path | None = None) -> chips.Chip:
    """One rank of a chip: the package of the file, divided by its ranks."""
    found = entry("chips", name, extra)
    calibration = referred(found, "calibration", "calibrations", extra)
    ranks = found.value("ranks_per_package")
    power = found.under("power", corner)
    peaks = {peak: flops / ranks for peak, flops in found.under("peak_flops", corner).items()}
    tiles = {"tiles": found.value("tiles")} if "tiles" in found.quantities else {}
    return chips.Chip(
        name=name,
        peak_flops=peaks,
        cores=round(found.value("cores") / ranks),
        hbm_bytes=found.value("hbm_bytes", corner) / ranks,
        hbm_bandwidth=found.value("hbm_bandwidth", corner) / ranks,
        ranks_per_package=ranks,
        power=chips.ChipPower(
            **{key: watts / ranks if key.endswith("_w") else watts for key, watts in power.items()},
            joule_per_flop=found.under("power.joule_per_flop", corner),
        ),
        calibration=_calibration(calibration, peaks, corner, found),
        silicon=silicon_of(found, corner, extra),
        notes=_notes(found),
        **tiles,
    )


def _tier(found: Entry, name: str, corner: At, extra: Path | None) -> systems.Tier:
    """A tier: what its fabric says, replaced by what the system says."""
    at = f"tiers.{name}"
    given: list[tuple[Entry, str]] = [(found, at)]
    if f"{at}.fabric" in found.facts:
        given.insert(0, (referred(found, f"{at}.fabric", "fabrics", extra), ""))
    values: dict[str, Any] = {"name": name, "efficiency": {}}
    for source, path in given:
        start = f"{path}." if path else ""
        values.update(source.under(path, corner))
        values["efficiency"].update(source.under(f"{start}efficiency", corner))
        values.update({key: source.facts[start + key] for key in ("topology", "medium") if start + key in source.facts})
    known = {field.name: field for field in fields(systems.Tier)}
    values = {key: value for key, value in values.items() if key in known}
    lacking = [key for key, field in known.items() if field.default is MISSING and key not in values]
    lacking += [f"efficiency.{one}" for one in get_args(systems.Collective) if one not in values["efficiency"]]
    if lacking:
        remedy = "give it here or in the fabric"
        file = f"systems/{found.file.name}"
        raise InputError([Problem(file, f"{at}.{key}", "missing", None, remedy) for key in lacking])
    return systems.Tier(**values)


def _part(found: Entry, name: str, corner: At) -> systems.Part:
    values = found.under(f"parts.{name}", corner)
    plain = {key: found.facts[at] for key in ("group", "outside") if (at := f"parts.{name}.{key}") in found.facts}
    return systems.Part(name=name, **plain, **values)


def _host(found: Entry, corner: At, ranks: int) -> systems.Host | None:
    """A rank's share of its host; the catalogue gives a package's."""
    values = found.under("host", corner)
    if not values:
        return None
    fraction = values.pop("achieved_fraction")
    return systems.Host(**{name: value / ranks for name, value in values.items()}, achieved_fraction=fraction)


@_kept
def _operation(name: str, corner: At, extra: Path | None) -> Operation:
    return Operation(name=name, **entry("operations", name, extra).under("", corner))


def operation(name: str, corner: At = "nominal", extra: Path | None = None) -> Operation:
    """How a cluster is run: what fails, what a failure costs, what stands by."""
    return _operation(name, corner, extra)


@_kept
def system(
    name: str,
    corner: At = "nominal",
    extra: Path | None = None,
    chip_name: str | None = None,
    prices: str | None = None,
    operation: str | None = None,
) -> systems.System:
    """A machine with its chip, tiers and parts.

    Parameters
    ----------
    name
        Name of the system, as in "cloudmatrix-384".
    corner
        End of the ranges to take, or what reads each number.
    extra
        Folder of further entries.
    chip_name
        Another chip that the system is sold with, from its `other_chips`.
    prices
        Name of a price basis; None: nothing is priced.
    operation
        How it is run, as in "llama3-2024"; without one nothing fails.

    Raises
    ------
    InputError
        For an unknown name, and where the basis lacks a price of this machine.
    """
    found = entry("systems", name, extra)
    own = referred(found, "chip", "chips", extra).name
    sold_with = (own, *found.facts.get("other_chips", ()))
    if chip_name is not None and chip_name not in sold_with:
        raise wrong_entry(
            found,
            "other_chips",
            "the system is not sold with this chip",
            chip_name,
            nearest(chip_name, sold_with),
        )
    built = systems.System(
        name=name,
        chip=chip(chip_name or own, corner, extra),
        tiers=tuple(_tier(found, tier, corner, extra) for tier in found.facts["tiers"]),
        parts=tuple(_part(found, part, corner) for part in found.facts.get("parts", ())),
        facility=systems.Facility(**found.under("facility", corner)),
        unit_packages=found.value("unit_packages"),
        host=_host(found, corner, chip(chip_name or own, corner, extra).ranks_per_package),
        racks=systems.Racks(**racks) if (racks := found.under("racks", corner)) else None,
        operation=None if operation is None else _operation(operation, corner, extra),
        fault_domain_packages=found.under("").get("fault_domain_packages", 0),
        notes=_notes(found),
    )
    if prices is None:
        return built
    basis = entry("prices", prices, extra)
    return replace(built, prices=resolved(basis, built, found, entry("chips", chip_name or own, extra), corner))


def prices(
    name: str, system_name: str, corner: Corner = "nominal", extra: Path | None = None, chip_name: str | None = None
) -> Prices:
    """A price basis as it holds for one machine. Raises InputError as `system`."""
    found = system(system_name, corner, extra, chip_name, prices=name).prices
    assert found is not None
    return found


@cache
def architecture(name: str, extra: Path | None = None) -> Architecture:
    """Shapes of a model."""
    found = entry("models", name, extra)
    while "alias_of" in found.facts:
        found = referred(found, "alias_of", "models", extra)
    if not found.under("architecture"):
        raise wrong_entry(found, "architecture", "missing", None, "give the shapes, or alias_of = 'another model'")
    parts = {"latent": LatentAttention, "experts": Experts, "sparse": SparseAttention, "low_rank": LowRankProjections}
    given = {key: found.under(f"architecture.{key}") for key in parts}
    return Architecture(
        name=name,
        **{key: part(**given[key]) for key, part in parts.items() if given[key]},
        **found.under("architecture"),
    )


def lineage(found: Entry, extra: Path | None = None) -> tuple[Entry, ...]:
    """A stack with those that it is like, itself first. Raises InputError for unknown names and for a circle."""
    line = [found]
    while "like" in line[-1].facts:
        base = referred(line[-1], "like", found.kind, extra)
        if base.name in (names := [one.name for one in line]):
            rule = "must not lead back to the entry itself"
            raise wrong_entry(found, "like", rule, " -> ".join((*names, base.name)), "state the values in one of them")
        line.append(base)
    return tuple(line)


@cache
def stack(name: str, extra: Path | None = None) -> Stack:
    """Behaviour of a software stack: its file, those it is `like`, then the defaults of `model.stack.Stack`."""
    found = entry("stacks", name, extra)
    stated: dict[str, Any] = {}
    for one in reversed(lineage(found, extra)):
        stated |= one.under("")
    return Stack(name=name, year=found.facts["from_year"], **stated)


@cache
def engine(name: str, extra: Path | None = None) -> ServingStack:
    """Behaviour of a serving engine; what its file leaves out is the default of the record."""
    found = entry("engines", name, extra)
    return ServingStack(name=name, year=found.facts["from_year"], **found.under(""))


# ------------------------------------------------------------------------------------------- about a system
def default_engine(system_name: str, extra: Path | None = None) -> str:
    """Name of the engine that serves on a system where none is named."""
    return referred(entry("systems", system_name, extra), "default_engine", "engines", extra).name


def default_stack(system_name: str, extra: Path | None = None) -> str:
    """Name of the stack that a study takes for a system when it names none."""
    return referred(entry("systems", system_name, extra), "default_stack", "stacks", extra).name


def is_scenario(system_name: str, extra: Path | None = None) -> bool:
    """Whether a system, or its chip, exists in rumour or on a roadmap only."""
    found = entry("systems", system_name, extra)
    return bool(found.facts.get("scenario") or referred(found, "chip", "chips", extra).facts.get("scenario"))


def _of_framework(
    kind: Kind, framework: str, year: int | None, extra: Path | None, vendor: str | None = None
) -> list[str]:
    """Entries of a kind that describe a framework, the newest first; with a year, only those of that year.

    With a vendor of chips, only those that run on its chips.
    """

    wanted = spelling(framework)

    def fits(facts: Mapping[str, Any]) -> bool:
        to_year = facts.get("to_year", 9999)
        named = wanted in map(spelling, facts["frameworks"])
        runs = vendor is None or vendor in facts.get("vendors", [vendor])
        return named and runs and (year is None or facts["from_year"] <= year <= to_year)

    found = [one for name in names(kind, extra) if fits((one := entry(kind, name, extra)).facts)]
    return [one.name for one in sorted(found, key=lambda one: -int(one.facts["from_year"]))]


def stacks_of(
    framework: str, year: int | None = None, extra: Path | None = None, vendor: str | None = None
) -> list[str]:
    """Stacks that describe a framework, the newest first; with a year, only those of that year.

    With a vendor of chips, only those that run on its chips: XLA is another compiler on each.
    """
    return _of_framework("stacks", framework, year, extra, vendor)


def engines_of(framework: str, year: int | None = None, extra: Path | None = None) -> list[str]:
    """Serving engines that describe a framework, the newest first; with a year, only those of that year."""
    return _of_framework("engines", framework, year, extra)
