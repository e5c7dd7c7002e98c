"""Points of the numbers that designs rest on, and the machine at each point: one machine whose numbers are arrays.

A column is what is drawn together. The same number of the catalogue is the same column wherever it is used, so that two
designs differ at a point only by what is their own (common random numbers). Numbers that err together share one: a
chip's peaks in all formats, its constants of one sort, and the numbers of SHARED over all machines.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

from model.layout import Array
from model.system import System
from sweep import catalogue
from sweep.designs import Design, machine_as_read
from sweep.uncertainty.distributions import Distribution, distribution

# Numbers of one entry that one column moves: all under a path, or one constant of all number formats.
_TOGETHER = ("peak_flops.*", "power.joule_per_flop.*", "efficiency.*", "tiers.*.efficiency.*")
_IN_EACH_FORMAT = "matmul.*.*"
# One cause for all machines: coefficients fitted or taken from one source, and the building that they stand in.
SHARED = ("power.joule_per_flop.*", "power.joule_per_hbm_byte", "power.joule_per_link_byte", "power.clock_exponent",
          "communication_slowdown", "facility.pue")  # fmt: skip
EVERY = "every machine"


@dataclass(frozen=True, slots=True, order=True)
class Column:
    """What is drawn together: an entry of the catalogue, as "chips/h100", and a path in it."""

    entry: str
    path: str

    @property
    def text(self) -> str:
        """For people."""
        return f"{self.entry}: {self.path}"


@dataclass(frozen=True, slots=True)
class Number:
    """A number of the catalogue that a machine rests on."""

    column: Column
    entry: str
    path: str
    quantity: catalogue.Quantity
    distribution: Distribution

    @property
    def own(self) -> Column:
        """A column of its own, for where it is moved without those that it is drawn with."""
        return Column(self.entry, self.path)

    @property
    def origin(self) -> str:
        """Kind of its source, or "placeholder"."""
        return "placeholder" if self.quantity.placeholder else self.quantity.kind


@lru_cache(maxsize=2**16)  # asked for each number of a machine at each of hundreds of points
def number_at(found: catalogue.Entry, path: str) -> Number | None:
    """The number at a path of an entry; None for a setting or a whole number."""
    quantity = found.quantities[path]
    spread = distribution(found.kind, path, quantity)
    if spread is None:
        return None
    entry, together = f"{found.kind}/{found.name}", path
    if any(fnmatch(path, pattern) for pattern in _TOGETHER):
        together = path.rpartition(".")[0]
    elif fnmatch(path, _IN_EACH_FORMAT):
        together = f"matmul.{path.rpartition('.')[2]}"
    shared = not quantity.placeholder and any(fnmatch(path, pattern) for pattern in SHARED)
    return Number(Column(EVERY if shared else entry, together), entry, path, quantity, spread)


class _Listing:
    """A reading that lists what is asked for and gives the catalogue's values."""

    def __init__(self) -> None:
        self.numbers: dict[tuple[str, str], Number] = {}

    def __call__(self, found: catalogue.Entry, path: str) -> Any:
        number = number_at(found, path)
        if number is not None:
            self.numbers[number.entry, path] = number
        return found.quantities[path].value


def numbers_of(design: Design) -> tuple[Number, ...]:
    """The numbers that the machine of a design is made of, in the order in which they are read."""
    listing = _Listing()
    machine_as_read(design, listing)
    return tuple(listing.numbers.values())


def uncertain_columns(designs: Iterable[Design]) -> tuple[Column, ...]:
    """What is uncertain about some designs: each column once."""
    numbers = [number for design in designs for number in numbers_of(design)]
    return tuple(dict.fromkeys(number.column for number in numbers if not number.distribution.certain))


class Points(Protocol):
    """Readings of a machine's numbers, one for each of so many points."""

    @property
    def count(self) -> int:
        """How many points."""

    def part(self, start: int, stop: int) -> Points:
        """The points from `start` to before `stop`."""

    def __call__(self, found: catalogue.Entry, path: str) -> Any:
        """The value of a quantity: of shape (P, 1) where it differs between points."""

    def normal(self, column: Column) -> Array | None:
        """Standard normal deviates of a column, of shape (P,); None where nothing is drawn along it."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """Numbers at quantiles of their distributions: `normals` holds a standard normal deviate, points x columns.

    With `apart` the columns are those that each number has of its own.
    """

    columns: Mapping[Column, int]
    normals: Array
    apart: bool = False

    @property
    def count(self) -> int:
        """How many points."""
        return len(self.normals)

    def part(self, start: int, stop: int) -> Drawn:
        """The points from `start` to before `stop`."""
        return Drawn(self.columns, self.normals[start:stop], self.apart)

    def normal(self, column: Column) -> Array | None:
        """Deviates of a column."""
        place = self.columns.get(column)
        return None if place is None else self.normals[:, place]

    def __call__(self, found: catalogue.Entry, path: str) -> Any:
        """The value of a quantity."""
        number = number_at(found, path)
        if number is None or number.distribution.certain:
            return found.quantities[path].value
        deviates = self.normal(number.own if self.apart else number.column)
        if deviates is None or not np.any(deviates):
            return found.quantities[path].value
        return number.distribution.at(deviates)[:, None]


@dataclass(frozen=True, slots=True)
class Scaled:
    """Numbers of the catalogue times a factor, within their bounds: `factors` is points x columns.

    With `apart` the columns are those that each number has of its own.
    """

    columns: Mapping[Column, int]
    factors: Array
    apart: bool = False

    @property
    def count(self) -> int:
        """How many points."""
        return len(self.factors)

    def part(self, start: int, stop: int) -> Scaled:
        """The points from `start` to before `stop`."""
        return Scaled(self.columns, self.factors[start:stop], self.apart)

    def normal(self, column: Column) -> Array | None:
        """None: nothing is drawn."""
        return None

    def __call__(self, found: catalogue.Entry, path: str) -> Any:
        """The value of a quantity."""
        number = number_at(found, path)
        place = None if number is None else self.columns.get(number.own if self.apart else number.column)
        if number is None or place is None or np.all(self.factors[:, place] == 1.0):
            return found.quantities[path].value
        return number.distribution.held(number.quantity.value * self.factors[:, place])[:, None]


def placed(columns: Sequence[Column]) -> dict[Column, int]:
    """Columns with their places."""
    return {column: place for place, column in enumerate(columns)}


def nominal(columns: Sequence[Column] = ()) -> Drawn:
    """The one point where every number is as the catalogue has it."""
    return Drawn(placed(columns), np.zeros((1, len(columns))))


def sobol_points(columns: Sequence[Column], count: int, seed: int) -> Drawn:
    """Scrambled Sobol points: with the same seed, the first of more points are those of fewer.

    Source: Matousek, Journal of Complexity 14, 1998.

    Raises ValueError unless `count` is a power of two, which the balance of the points needs.
    """
    from scipy.stats import qmc

    from sweep.uncertainty.distributions import standard_normal

    if count < 2 or count & (count - 1):
        raise ValueError(f"{count} points are no power of two")
    if not columns:
        return Drawn({}, np.zeros((count, 0)))
    shares = qmc.Sobol(len(columns), scramble=True, rng=seed).random(count)
    return Drawn(placed(columns), standard_normal(shares))


def machine_at(design: Design, points: catalogue.Reading) -> System:
    """The machine of a design whose numbers are arrays of shape (P, 1). What a study fixes is not drawn."""
    return machine_as_read(design, points)
