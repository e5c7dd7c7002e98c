"""The entries of the catalogue: chips, systems, models, software and prices as their files state them.

One TOML file an entry, in sweep/catalogue_data/<kind>/<name>.toml, each number with its source. A folder of one's own
with the same layout adds entries and replaces entries by name: pass it as `extra`.

A corner moves every number of one sort to one end of its range: "low" and "high" the performance numbers (peaks,
bandwidths, capacities, efficiencies, and how a cluster is run) to the worst and the best, "power_low" and "power_high"
the power numbers to the least and the most. All other numbers stay nominal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal, Protocol

from model import units
from sweep.errors import InputError, Problem, nearest, problem
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


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One file of the catalogue, checked. Two entries are one only if they are the same reading of a file.

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
    _inside: Mapping[str, Sequence[str]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """List what lies under each path once: machines of a study are read anew at hundreds of points."""
        inside: dict[str, list[str]] = {}
        for path in self.quantities:
            inside.setdefault(path.rpartition(".")[0], []).append(path)
        object.__setattr__(self, "_inside", inside)

    @property
    def title(self) -> str:
        """Full name."""
        return str(self.facts["title"])

    def value(self, path: str, corner: At = "nominal") -> Any:
        """A quantity at a corner, or as it is read."""
        return self.quantities[path].at(corner) if isinstance(corner, str) else corner(self, path)

    def under(self, path: str, corner: At = "nominal") -> dict[str, Any]:
        """The quantities directly under a path, by their last name."""
        return {key.rpartition(".")[2]: self.value(key, corner) for key in self._inside.get(path, ())}


class Reading(Protocol):
    """What the numbers of a machine are taken for, where it is not a corner: drawn from their ranges, say."""

    def __call__(self, found: Entry, path: str) -> Any:
        """The value of the quantity at a path: a number, or an array."""


At = Corner | Reading


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


def wrong_entry(found: Entry, key: str, rule: str, value: object = None, remedy: str = "") -> InputError:
    """The error of one value of an entry, or of one that it lacks."""
    return InputError([Problem(f"{found.kind}/{found.file.name}", key, rule, value, remedy)])


def referred(found: Entry, key: str, kind: Kind, extra: Path | None) -> Entry:
    """The entry that another entry names."""
    name = found.facts[key]
    known = _files(kind, extra)
    if name not in known:
        raise wrong_entry(found, key, f"no entry of {kind} has this name", name, nearest(name, known))
    return entry(kind, name, extra)
