"""What would have to be true: the value of a number at which one design overtakes another, all others as they are.

The number is moved to a quarter and to four times its value, by a grid in its logarithm; where the designs change
places, the nearest place on either side is narrowed down by halving. Both designs run their best layouts at each value.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from model.layout import Array
from sweep.uncertainty.contenders import Contender, badness, values
from sweep.uncertainty.points import Column, Number, Scaled, placed
from sweep.uncertainty.sensitivity import influences

REACH = 4.0  # times the value, and a part of it
_GRID = 17
_HALVINGS = 12  # of a step of the grid: to 0.004 %
# A number whose elasticity, times this, would not bring the designs together over the whole reach is not tried.
_BEND = 4.0


@dataclass(frozen=True, slots=True)
class Flip:
    """Where two designs change places as one number moves.

    Attributes
    ----------
    column, number
        What is moved, and the one of its numbers that does the most: value, unit, range, source.
    factor
        Of its value, at which both are equal (to the width of the last halving); None: at none from a quarter to four
        times.
    inside
        Whether that lies within the number's 10 and 90 % points.
    probability
        That the number lies beyond, so that the designs have changed places.
    """

    column: Column
    number: Number
    factor: float | None
    inside: bool
    probability: float

    @property
    def value(self) -> float | None:
        """The number there, in SI units as the catalogue writes it."""
        return None if self.factor is None else self.number.quantity.value * self.factor


def _ahead(one: Contender, other: Contender, quantity: str, columns: tuple[Column, ...], factors: Array) -> Array:
    """By how much one design is ahead of the other, in the quantity's logarithm; positive where it is the better."""
    points = Scaled(placed(columns), factors)
    logs = []
    for contender in (one, other):
        best = badness(values(contender, quantity, points), quantity).min(axis=1)
        feasible = np.isfinite(best)
        size = np.log(np.abs(np.where(feasible, best, 1.0)))
        logs.append(np.where(feasible, np.where(best < 0.0, -size, size), np.inf))
    with np.errstate(invalid="ignore"):  # neither feasible: not a number
        return np.asarray(logs[1] - logs[0])


def _along(columns: int, places: Array, factors: Array) -> Array:
    """Points at which one column each is multiplied."""
    found = np.ones((len(places), columns))
    found[np.arange(len(places)), places] = factors
    return found


def flips(one: Contender, other: Contender, quantity: str) -> tuple[Flip, ...]:
    """For every number of either machine: the value at which the two change places; the nearest first.

    The errors of the model are left out, and numbers that change nothing. Those along which the designs never change
    places come last, with a factor of None. Raises ValueError where no layout is feasible at the catalogue's values.
    """
    plain = [replace(each, error=None) for each in (one, other)]
    margin = abs(float(_ahead(plain[0], plain[1], quantity, (), np.ones((1, 0)))[0]))
    numbers: dict[Column, Number] = {}
    hopeless: dict[Column, Number] = {}
    for found in sorted((*influences(one, quantity), *influences(other, quantity)), key=lambda it: -abs(it.elasticity)):
        if found.number is not None and found.elasticity:
            near = abs(found.elasticity) * np.log(REACH) * _BEND >= margin
            (numbers if near or found.column in numbers else hopeless).setdefault(found.column, found.number)
    columns = tuple(numbers)

    def ahead(places: Array, logs: Array) -> Array:
        return _ahead(plain[0], plain[1], quantity, columns, _along(len(columns), places, np.exp(logs)))

    grid = np.linspace(-np.log(REACH), np.log(REACH), _GRID)
    each = np.repeat(np.arange(len(columns)), _GRID)
    margins = ahead(each, np.tile(grid, len(columns))).reshape(len(columns), _GRID)
    nearest = _crossings(margins, grid)
    known = np.flatnonzero(~np.isnan(nearest[:, 0]))
    near, far = nearest[known, 0], nearest[known, 1]
    start = np.sign(margins[known, _GRID // 2])
    for _ in range(_HALVINGS if len(known) else 0):
        middle = (near + far) / 2.0
        same = np.sign(ahead(known, middle)) == start
        near, far = np.where(same, middle, near), np.where(same, far, middle)
    factors = {columns[place]: float(np.exp(log)) for place, log in zip(known, far, strict=True)}
    every = numbers | {column: number for column, number in hopeless.items() if column not in numbers}
    results = [_flip(column, number, factors.get(column)) for column, number in every.items()]
    return tuple(sorted(results, key=lambda flip: np.inf if flip.factor is None else abs(np.log(flip.factor))))


def _crossings(found: Array, grid: Array) -> Array:
    """Ends of the step nearest to the middle of the grid across which each row changes sign: (rows, near and far)."""
    signs, middle = np.sign(found), len(grid) // 2
    nearest = np.full((len(found), 2), np.nan)
    for step in range(middle):
        for side in (-1, 1):
            near, far = middle + side * step, middle + side * (step + 1)
            turned = (signs[:, near] == signs[:, middle]) & (signs[:, far] != signs[:, middle])
            turned &= ~np.isnan(signs[:, far]) & np.isnan(nearest[:, 0])
            nearest[turned] = grid[[near, far]]
    return nearest


def _flip(column: Column, number: Number, factor: float | None) -> Flip:
    if factor is None:
        return Flip(column, number, None, False, 0.0)
    spread, value = number.distribution, number.quantity.value * factor
    low, high = spread.quantile(np.array([0.1, 0.9]))
    return Flip(column, number, factor, bool(low <= value <= high), _beyond(number, value))


def _beyond(number: Number, value: float) -> float:
    """Probability that a number lies farther from its median than a value does, on the same side."""
    shares = np.linspace(0.0005, 0.9995, 1000)
    drawn = number.distribution.quantile(shares)
    return float(np.mean(drawn >= value) if value > number.quantity.value else np.mean(drawn <= value))
