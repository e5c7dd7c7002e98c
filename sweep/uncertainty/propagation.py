"""How sure a result is: the best of each design at many points of its numbers, all designs at the same points.

At each point a design runs the layout that is best there, of those that it is given. Median and band are over points;
a design is best with the probability that it is at a point.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from model.layout import Array
from sweep.uncertainty.contenders import Contender, badness, best_of, values
from sweep.uncertainty.points import Column, nominal, sobol_points, uncertain_columns
from sweep.uncertainty.sensitivity import influences

NEAR = 0.02  # within this share of the best a design, or a layout, is as good


@dataclass(frozen=True, slots=True)
class Band:
    """A number at the catalogue's values, and over the points: the median, and what 10 and 90 % lie below."""

    nominal: float
    low: float
    median: float
    high: float


@dataclass(frozen=True, slots=True)
class Standing:
    """One design among those compared.

    Attributes
    ----------
    band
        Of the quantity, with the best layout at each point; over the points where one is feasible.
    fixed
        The same of the layout that is best at the catalogue's values, where it is feasible.
    feasible
        Share of the points at which a layout is feasible.
    best, near_best
        Probability that the design is the best, and that it is within 2 % of the best.
    layout
        Row of the layout that is best at the catalogue's values.
    layout_best, layout_near
        Probability that each layout is the design's best, and within 2 % of it; of shape (K,).
    """

    label: str
    band: Band
    fixed: Band
    feasible: float
    best: float
    near_best: float
    layout: int
    layout_best: Array
    layout_near: Array


@dataclass(frozen=True, slots=True)
class Assessment:
    """Designs compared in one quantity.

    Attributes
    ----------
    columns
        What was drawn.
    values
        The quantity of each design with its best layout at each point, of shape (P, designs).
    """

    quantity: str
    points: int
    seed: int
    columns: tuple[Column, ...]
    standings: tuple[Standing, ...]
    values: Array

    def place(self, label: str) -> int:
        """Place of a design. Raises ValueError for one that was not compared."""
        return [standing.label for standing in self.standings].index(label)

    def ratio(self, label: str, reference: str) -> Band:
        """A design's quantity over that of another, point by point: what both have in common cancels."""
        one, other = self.place(label), self.place(reference)
        value = self.standings[one].band.nominal / self.standings[other].band.nominal
        return band(value, self.values[:, one] / self.values[:, other])

    def ahead(self, label: str, reference: str) -> float:
        """Probability that a design is better than another; half of where they are equal."""
        pair = badness(self.values[:, [self.place(label), self.place(reference)]], self.quantity)
        return float(np.mean((pair[:, 0] < pair[:, 1]) + 0.5 * (pair[:, 0] == pair[:, 1])))


def band(value: float, found: Array) -> Band:
    """Median and band of a quantity over points, those left out where it is not a number."""
    known = found[~np.isnan(found)]
    if not len(known):
        return Band(value, np.nan, np.nan, np.nan)
    with np.errstate(invalid="ignore"):  # between two infinities nothing is known
        low, median, high = np.quantile(known, (0.1, 0.5, 0.9))
    return Band(value, float(low), float(median), float(high))


def shares_best(found: Array, quantity: str) -> tuple[Array, Array]:
    """Share of the points at which each column is the best, ties divided evenly, and within 2 % of it."""
    bad = badness(found, quantity)
    least = bad.min(axis=1, keepdims=True)
    some = np.isfinite(least)
    tied = (bad == least) & some
    room = least + NEAR * np.abs(np.where(some, least, 0.0))
    count = np.maximum(tied.sum(axis=1, keepdims=True), 1)
    return (tied / count).mean(axis=0), ((bad <= room) & some).mean(axis=0)


def columns_of(contenders: Sequence[Contender]) -> tuple[Column, ...]:
    """What is uncertain about contenders: their machines' numbers and the model's errors, each once."""
    errors = [column for one in contenders if one.error is not None for column in one.error.columns]
    return tuple(dict.fromkeys((*uncertain_columns(one.design for one in contenders), *errors)))


def weightiest_first(contenders: Sequence[Contender], quantity: str) -> tuple[Column, ...]:
    """The same columns, those that do the most to a quantity first: the first places of Sobol points are the evenest.

    Columns of no effect on a layout stay: memory decides whether it runs at all.
    """
    uncertain = columns_of(contenders)
    most = dict.fromkeys(uncertain, 0.0)
    for one in contenders:
        row, value = _nominal(one, quantity)
        if np.isfinite(value) and value != 0.0:
            for found in influences(one, quantity, row):
                most[found.column] = max(most.get(found.column, 0.0), abs(found.effect))
    return tuple(sorted(uncertain, key=lambda column: -most[column]))


def _nominal(contender: Contender, quantity: str) -> tuple[int, float]:
    """The best layout at the catalogue's values, and the quantity there."""
    found = values(contender, quantity, nominal())
    row = int(best_of(found, quantity)[0][0])
    return row, float(found[0, row])


def assess(contenders: Sequence[Contender], quantity: str, points: int = 1024, seed: int = 0) -> Assessment:
    """Compare designs at many points of the numbers that they rest on.

    Parameters
    ----------
    contenders
        Designs with their best layouts.
    quantity
        A name in `sweep.columns.QUANTITIES`.
    points
        A power of two; with the same seed and contenders, more points begin with those of fewer.

    Raises ValueError for another number of points or none to compare, KeyError for an unknown quantity.
    """
    if not contenders:
        raise ValueError("nothing to compare")
    columns = weightiest_first(contenders, quantity)
    drawn = sobol_points(columns, points, seed)
    all_values = [values(one, quantity, drawn) for one in contenders]
    chosen = np.stack([best_of(found, quantity)[1] for found in all_values], axis=1)
    best, near = shares_best(chosen, quantity)
    standings = []
    for place, (contender, found) in enumerate(zip(contenders, all_values, strict=True)):
        row, value = _nominal(contender, quantity)
        layout_best, layout_near = shares_best(found, quantity)
        standings.append(
            Standing(
                label=contender.label,
                band=band(value, chosen[:, place]),
                fixed=band(value, found[:, row]),
                feasible=float(np.mean(~np.isnan(chosen[:, place]))),
                best=float(best[place]),
                near_best=float(near[place]),
                layout=row,
                layout_best=layout_best,
                layout_near=layout_near,
            )
        )
    return Assessment(quantity, points, seed, columns, tuple(standings), chosen)
