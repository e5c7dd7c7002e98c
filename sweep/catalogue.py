"""The catalogue: chips, systems, models, software and prices, each number with its source.

One TOML file an entry, in sweep/catalogue_data/<kind>/<name>.toml. A folder of one's own with the same layout
adds entries and replaces entries by name: pass it as `extra`. Peaks stand in the chips, what is reached of them
in the calibrations.

A corner moves every number of one sort to one end of its range: "low" and "high" the performance numbers (peaks,
bandwidths, capacities, efficiencies, and how a cluster is run) to the worst and the best, "power_low" and "power_high"
the power numbers to the least and the most. All other numbers stay nominal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, replace
from functools import cache, wraps
from pathlib import Path
from typing import Any, Literal, ParamSpec, Protocol, TypeVar, get_args

from model import chip as chips
from model import system as systems
from model import units
from model.architecture import Architecture, Experts, LatentAttention, LowRankProjections, SparseAttention
from model.prices import Prices
from model.reliability import Operation
from model.serving.stack import ServingStack
from model.stack import Stack
from sweep.errors import InputError, Problem, nearest, problem, spelling
from sweep.toml_text import text_of, toml_tables

Kind = Literal[
    "chips", "calibrations", "systems", "fabrics", "models", "stacks", "engines", "operations", "prices", "processes",
    "memories",
]  # fmt: skip
Corner = Literal["nominal", "low", "high", "power_low", "power_high"]

KINDS: tuple[Kind, ...] = (
    "chips", "calibrations", "systems", "fabrics", "models", "stacks", "engines", "operations", "prices", "processes",
    "memories",
)  # fmt: skip
CORNERS: tuple[Corner, ...] = ("nominal", "low", "high", "power_low", "power_high")
SOURCE_KINDS = ("datasheet", "measured", "derived", "estimated", "rumour")
DATA = Path(__file__).parent / "catalogue_data"


# -------------------------------------------------------------------------------------------------- entries
@dataclass(frozen=True, slots=True)
class Quantity:
    """A value in SI base units, its range, and where it comes from.

    Attributes
    ----------
    value
        A number; for settings a flag, a word or a tuple.
    unit
        SI unit of the number; empty for a plain number or a setting.
    low, high
        Ends of the published or estimated range; None where there is none.
    source, kind
        Where the value comes from, and how: one of `SOURCE_KINDS`.
    placeholder
        Nothing is published, not even a rumour: a scaled assumption.
    sense
        1 where more is better, -1 where less is better, 0 where neither.
    role
        Which corners move it: "performance", "power", or "data" for none.
    """

    value: Any
    unit: str
    low: Any
    high: Any
    source: str
    kind: str
    placeholder: bool
    note: str
    sense: int
    role: str

    def at(self, corner: Corner) -> Any:
        """The value at a corner."""
        role = "power" if corner.startswith("power") else "performance"
        if corner == "nominal" or role != self.role:
            return self.value
        best = corner in ("high", "power_low")
        end = self.high if best == (self.sense > 0) else self.low
        return self.value if end is None or self.sense == 0 else end

    def text(self) -> str:
        """The value with its unit, for people."""
        if isinstance(self.value, bool):
            return "yes" if self.value else "no"
        if self.unit == "byte" and self.value % 2**30 == 0:
            return f"{self.value / 2**30:.0f} GiB"
        if isinstance(self.value, float) or self.unit:
            return units.show(self.value, self.unit)
        if isinstance(self.value, int):
            return str(self.value)
        return str(self.value) if isinstance(self.value, str) else ", ".join(map(str, self.value))


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of the catalogue, checked.

    Attributes
    ----------
    facts
        Plain texts and lists by path: title, vendor, status, names of other entries.
    quantities
        Every number and setting by dotted path, as in "power.board_w"; an item of a list goes by its name.
    text
        The file as written.
    """

    kind: Kind
    name: str
    file: Path
    text: str
    facts: Mapping[str, Any]
    quantities: Mapping[str, Quantity]

    @property
    def title(self) -> str:
        """Full name."""
        return str(self.facts["title"])

    def value(self, path: str, corner: At = "nominal") -> Any:
        """A quantity at a corner, or as it is read."""
        return self.quantities[path].at(corner) if isinstance(corner, str) else corner(self, path)

    def under(self, path: str, corner: At = "nominal") -> dict[str, Any]:
        """The quantities directly under a path, by their last name."""
        start = f"{path}." if path else ""
        inside = [key for key in self.quantities if key.startswith(start) and "." not in key.removeprefix(start)]
        return {key.removeprefix(start): self.value(key, corner) for key in inside}


class Reading(Protocol):
    """What the numbers of a machine are taken for, where it is not a corner: drawn from their ranges, say."""

    def __call__(self, found: Entry, path: str) -> Any:
        """The value of the quantity at a path: a number, or an array."""


At = Corner | Reading
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


def _folders(kind: str, extra: Path | None) -> Iterator[Path]:
    if extra is not None:
        yield Path(extra) / kind
    yield DATA / kind


def _must_stay(file: Path, folder: Path) -> None:
    """Refuse a link that leads out of a study's own folder of entries."""
    if not file.resolve().is_relative_to(folder.resolve()):
        raise problem(file, "", "must not lead out of the catalogue folder", str(file.resolve()), "copy the entry")


@cache
def _files(kind: Kind, extra: Path | None) -> dict[str, Path]:
    if kind not in KINDS:
        raise problem("catalogue", "", "not a kind of entry", kind, nearest(kind, KINDS))
    if extra is not None and not Path(extra).is_dir():
        raise problem(extra, "", "not a folder of catalogue entries")
    found: dict[str, Path] = {}
    for folder in _folders(kind, extra):
        for file in sorted(folder.glob("*.toml")):
            if extra is not None and folder.parent == Path(extra):
                _must_stay(file, Path(extra))
            found.setdefault(file.stem, file)
    return found


def names(kind: Kind, extra: Path | None = None) -> list[str]:
    """Names of all entries of a kind, in alphabetical order."""
    return sorted(_files(kind, extra))


def _one(kind: Kind) -> str:
    words = {"prices": "price basis", "processes": "process", "memories": "memory"}
    return words.get(kind, kind.removesuffix("s"))


@cache
def entry(kind: Kind, name: str, extra: Path | None = None) -> Entry:
    """Read one entry.

    Parameters
    ----------
    kind
        One of `KINDS`.
    name
        Name of the file without its ending, as in "ascend-910c".
    extra
        Folder of further entries, which replace those of the same name.

    Raises
    ------
    InputError
        For an unknown name, or with every problem of the file.
    """
    files = _files(kind, extra)
    if name not in files:
        raise problem("catalogue", kind, f"no {_one(kind)} of this name", name, nearest(name, files))
    file = files[name]
    shown = f"{kind}/{file.name}" if file.is_relative_to(DATA) else str(file)
    text = text_of(file)
    raw = toml_tables(text, shown)
    from sweep.catalogue_schema import read  # pydantic is slow to import, and `sweep --help` reads no entry

    facts, quantities = read(kind, raw, shown)
    return Entry(kind, name, file, text, facts, quantities)


def _wrong(found: Entry, key: str, rule: str, value: object = None, remedy: str = "") -> InputError:
    return InputError([Problem(f"{found.kind}/{found.file.name}", key, rule, value, remedy)])


def referred(found: Entry, key: str, kind: Kind, extra: Path | None) -> Entry:
    """The entry that another entry names."""
    name = found.facts[key]
    known = _files(kind, extra)
    if name not in known:
        raise _wrong(found, key, f"no entry of {kind} has this name", name, nearest(name, known))
    return entry(kind, name, extra)


# -------------------------------------------------------------------------------------------------- records
def _calibration(found: Entry, peaks: Mapping[str, float], corner: At, by: Entry) -> chips.Calibration:
    matmul = {peak: found.under(f"matmul.{peak}", corner) for peak in peaks}
    lacking = [peak for peak, constants in matmul.items() if not constants]
    if lacking:
        rule = f"calibration {found.name!r} has no matmul constants for a peak of the chip"
        raise _wrong(by, "calibration", rule, ", ".join(lacking), "add them to it, or leave the peak out")
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
    from sweep.price_basis import silicon_of  # which asks this module for entries

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
        raise _wrong(
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
    from sweep.price_basis import resolved  # which asks this module for entries

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
        raise _wrong(found, "architecture", "missing", None, "give the shapes, or alias_of = 'another model'")
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
            raise _wrong(found, "like", rule, " -> ".join((*names, base.name)), "state the values in one of them")
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
