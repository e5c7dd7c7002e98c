"""How uncertain a number of the catalogue is: its distribution, from its range or else from where it comes from.

A number is log-normal about its value, with a width of its own on either side; its value is the median. `low` and
`high` are its 10 % and 90 % points. Where there is none, the width is that of its family and of the kind of its source
(RELATIVE_SD). What cannot pass a bound (a fraction of a peak, the overhead of a building) is held there.

Sources of the widths: official specifications are taken as they are; measurements, coefficients of energy, prices and
rates of failure as estimated in docs/uncertainty.md. A constant that was fitted to measured runs has no width of its
own: what the fit leaves over is the error of the model (sweep/uncertainty/model_error.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from model.layout import Array
from sweep.catalogue import Quantity

TAIL = 1.2815515655446004  # standard normal deviate of 90 %
# Whole numbers and what a study chooses: never drawn.
FIXED = frozenset({"cores", "per_packages", "racks", "tolerance", "clustering"})
FIXED_WITHOUT_RANGE = frozenset({"count"})

Family = Literal["fraction", "peak", "bandwidth", "capacity", "power", "energy", "latency", "price", "failure", "other"]
# Standard deviation of the logarithm where nothing else is said, by family and kind of source; "placeholder" is a
# number of which nothing is published. Specifications are 0: a chip is sold as what it is.
_KINDS = ("measured", "derived", "estimated", "rumour", "placeholder")
_WIDTHS: dict[Family, tuple[float, ...]] = {
    "fraction": (0.03, 0.05, 0.15, 0.15, 0.20),  # of a peak that is reached
    "peak": (0.03, 0.05, 0.15, 0.15, 0.20),
    "bandwidth": (0.03, 0.05, 0.10, 0.10, 0.20),
    "capacity": (0.03, 0.05, 0.10, 0.10, 0.20),
    "power": (0.03, 0.10, 0.15, 0.15, 0.25),
    "energy": (0.10, 0.30, 0.30, 0.30, 0.40),
    "latency": (0.05, 0.20, 0.30, 0.30, 0.40),
    "price": (0.10, 0.20, 0.40, 0.40, 0.50),
    "failure": (0.20, 0.50, 0.50, 0.50, 0.70),
    "other": (0.03, 0.10, 0.20, 0.20, 0.30),
}
RELATIVE_SD = {name: dict(zip(_KINDS, widths, strict=True)) for name, widths in _WIDTHS.items()}
_MARKS: tuple[tuple[str, Family], ...] = (
    ("joule_per", "energy"), ("failure_rate", "failure"), ("usd", "price"), ("bandwidth", "bandwidth"),
    ("peak_flops", "peak"), ("bytes", "capacity"), ("watts", "power"), ("efficiency", "fraction"),
    ("fraction", "fraction"), ("sustained_clock", "fraction"), ("yield", "fraction"),
)  # fmt: skip
_NEVER_BELOW = {"pue": 1.0, "oversubscription": 1.0}
_NEVER_ABOVE = {"gross_margin": 0.95}  # twenty times what it costs to make; at 1 the price would have no end
_SHARES = ("efficiency", "fraction", "sustained_clock", "wave_quantisation", "yield", "share", "utilisation", "margin")
_NAMED_ABOVE = ("efficiency", "peak_flops", "joule_per_flop")  # of a number format or collective, which stands last


@dataclass(frozen=True, slots=True)
class Distribution:
    """A two-piece log-normal distribution about a median.

    Attributes
    ----------
    median
        The value of the catalogue.
    below, above
        Standard deviation of the logarithm under and over the median; of the number itself where `linear`.
    floor, ceiling
        What the number cannot pass; it is held there.
    origin
        The number less this is log-normal: 1 for a factor that is at least 1.
    linear
        Normal, not log-normal: the median or its low end is 0.
    """

    median: float
    below: float
    above: float
    floor: float = 0.0
    ceiling: float = math.inf
    origin: float = 0.0
    linear: bool = False

    @property
    def certain(self) -> bool:
        """Whether it is one number."""
        return self.below == 0.0 and self.above == 0.0

    @property
    def log_sd(self) -> float:
        """Standard deviation of the number's logarithm, the mean of both sides; 0 where the number is 0."""
        width = (self.below + self.above) / 2.0
        scale = 1.0 if self.linear else self.median - self.origin
        return width * scale / self.median if self.median else 0.0

    def at(self, normal: Any) -> Array:
        """The numbers that stand where a standard normal variable has these values (any shape)."""
        normal = np.asarray(normal, float)
        moved = np.where(normal < 0.0, self.below, self.above) * normal
        values = self.median + moved if self.linear else self.origin + (self.median - self.origin) * np.exp(moved)
        return self.held(np.where(moved == 0.0, self.median, values))

    def quantile(self, share: Any) -> Array:
        """The number that this share lies below, in (0, 1) (any shape); it never falls as the share grows."""
        return self.at(standard_normal(share))

    def held(self, values: Any) -> Array:
        """Values within the bounds."""
        return np.asarray(np.clip(values, self.floor, self.ceiling))


def standard_normal(share: Any) -> Array:
    """The standard normal deviate that a share in [0, 1] lies below, at most 8 in size."""
    from scipy.special import ndtri

    return np.asarray(np.clip(ndtri(np.asarray(share, float)), -8.0, 8.0))


def _name(path: str) -> str:
    """What a number is called, whatever the part, format or collective that it is of."""
    steps = path.split(".")
    return next((name for name in _NAMED_ABOVE if name in steps), steps[-1])


def family(path: str) -> Family:
    """What sort of number stands at a path of the catalogue."""
    name = _name(path)
    found = next((which for mark, which in _MARKS if mark in name), None)
    if found is not None:
        return found
    return "latency" if name.endswith("_s") else "power" if name.endswith("_w") else "other"


def _default_sd(kind: str, path: str, quantity: Quantity) -> float:
    if quantity.placeholder:
        return RELATIVE_SD[family(path)]["placeholder"]
    fitted = kind == "calibrations" and quantity.kind in ("derived", "measured")
    return 0.0 if fitted or quantity.kind == "datasheet" else RELATIVE_SD[family(path)][quantity.kind]


def distribution(kind: str, path: str, quantity: Quantity) -> Distribution | None:
    """The distribution of a quantity at a path of an entry of this kind; None for a setting or a whole number."""
    value, name = quantity.value, path.rpartition(".")[2]
    ranged = quantity.low is not None or quantity.high is not None
    if not isinstance(value, float) or name in FIXED or (name in FIXED_WITHOUT_RANGE and not ranged):
        return None
    low = value if quantity.low is None else float(quantity.low)
    high = value if quantity.high is None else float(quantity.high)
    least = _NEVER_BELOW.get(name, 0.0)
    most = max(_NEVER_ABOVE.get(name, 1.0), value, high) if any(mark in _name(path) for mark in _SHARES) else math.inf
    if ranged and low <= least:
        below, above = (value - low) / TAIL, (high - value) / TAIL
        return Distribution(value, below, above, min(least, low), most, linear=True)
    default = _default_sd(kind, path, quantity)
    origin = least if value > least else 0.0
    below = math.log((value - origin) / (low - origin)) / TAIL if quantity.low is not None else default
    above = math.log((high - origin) / (value - origin)) / TAIL if quantity.high is not None else default
    if value <= least:  # 0, or a factor of 1: nothing to stretch
        below = above = 0.0
    return Distribution(value, below, above, least if origin else min(0.0, value), most, origin)
