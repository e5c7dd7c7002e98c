"""Which rows of a search are kept: the best, the best K, a Pareto front, or all.

Keeping is associative: the rows kept of two parts of a search, kept again together, are the rows kept of the whole.
Ties are broken by the layout's number, so that neither the order of the parts nor their size can change a row.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from model.layout import Array
from sweep import columns
from sweep.study import Search

Columns = dict[str, Array]


def objectives(search: Search) -> tuple[str, ...]:
    """Quantities that decide which rows are kept."""
    return search.pareto if search.rows == "pareto" else (search.objective,)


def values_of(search: Search, rows: Mapping[str, Array]) -> Array:
    """Rows x objectives, smaller being better."""
    chosen = [columns.QUANTITIES[name].sign * np.asarray(rows[name]) for name in objectives(search)]
    return np.stack(chosen, axis=1)


def best(values: Array, numbers: Array, top: int) -> Array:
    """Positions of the `top` smallest values, equal ones by their number."""
    return np.asarray(np.lexsort((numbers, values))[:top])


def front(values: Array, numbers: Array) -> Array:
    """Positions of the rows that no other row beats in every objective; of equal rows the first by number."""
    order = np.lexsort((numbers, *values.T[::-1]))
    ordered = values[order]
    kept = np.empty((0, values.shape[1]))
    chosen = []
    for start in range(0, len(order), 512):  # sorted, so that only earlier rows can beat later ones
        part = ordered[start : start + 512]
        alive = np.flatnonzero(~_beaten(part, kept))
        among = _first_alive(part[alive])
        chosen.append(order[start + alive[among]])
        kept = np.concatenate([kept, part[alive[among]]])
    return np.concatenate(chosen) if chosen else order


def _beaten(rows: Array, by: Array) -> Array:
    """Where some row of `by` is at least as good in every objective."""
    if not len(by):
        return np.zeros(len(rows), bool)
    return np.asarray(np.any(np.all(by[None, :, :] <= rows[:, None, :], axis=2), axis=1))


def _first_alive(rows: Array) -> Array:
    """Positions of rows, sorted already, that no earlier one beats or equals."""
    covers = np.all(rows[None, :, :] <= rows[:, None, :], axis=2)
    return np.flatnonzero(~np.any(np.tril(covers, -1), axis=1))


def select(search: Search, rows: Mapping[str, Array]) -> Array:
    """Positions of the rows to keep, in the order of their numbers."""
    numbers = rows["layout_id"]
    if search.rows == "pareto":
        chosen = front(values_of(search, rows), numbers)
    elif search.rows in ("best", "top"):
        chosen = best(values_of(search, rows)[:, 0], numbers, search.top)
    else:
        chosen = np.arange(len(numbers))
    return np.asarray(chosen[np.argsort(numbers[chosen], kind="stable")])


def merged(parts: list[Columns]) -> Columns:
    """Parts one after the other."""
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


class Leaders:
    """Values and numbers of the layouts that are the best so far: the best, the best K, or a Pareto front."""

    def __init__(self, search: Search) -> None:
        self.search = search
        self.values = np.empty((0, len(objectives(search))))
        self.numbers = np.empty(0, np.int64)

    @property
    def limit(self) -> float:
        """Value that a layout must reach to be among the best; infinite while there are fewer than wanted."""
        full = self.search.rows != "pareto" and len(self.numbers) >= self.search.top
        return float(self.values[:, 0].max()) if full else np.inf

    def offer(self, values: Array, numbers: Array) -> None:
        """Look at layouts that meet every limit. A layout counts once, however often it is offered."""
        values = np.concatenate([self.values, values])
        numbers = np.concatenate([self.numbers, numbers])
        numbers, first = np.unique(numbers, return_index=True)
        values = values[first]
        if self.search.rows == "pareto":
            chosen = front(values, numbers)
        else:
            chosen = best(values[:, 0], numbers, self.search.top)
        self.values, self.numbers = values[chosen], numbers[chosen]

    def promising(self, values: Array) -> Array:
        """Rows of objectives that may be kept: a quick look that never drops one that would be."""
        if self.search.rows != "pareto":
            near = values[:, 0] <= self.limit
            if np.count_nonzero(near) > 4 * self.search.top:
                near &= values[:, 0] <= np.partition(values[near, 0], self.search.top - 1)[self.search.top - 1]
            return np.flatnonzero(near)
        alive = np.ones(len(values), bool)
        for row in self._spread():
            alive &= ~_strictly_beaten(values, row)
        return np.flatnonzero(alive)

    def _spread(self) -> Array:
        """Some rows of the front, spread along it."""
        order = np.argsort(self.values[:, 0], kind="stable")
        places = np.unique(np.linspace(0, max(len(order) - 1, 0), _SPREAD).astype(int))
        return np.asarray(self.values[order[places[: len(order)]]])

    def out_of_reach(self, bounds: Array) -> Array:
        """Where nothing with values of at least these bounds can be kept."""
        if self.search.rows != "pareto":
            return np.asarray(bounds[:, 0] > self.limit)
        out = np.zeros(len(bounds), bool)
        for start in range(0, len(bounds), 4096):
            part = bounds[start : start + 4096]
            better = np.ones((len(part), len(self.values)), bool)
            strictly = np.zeros_like(better)
            for j in range(bounds.shape[1]):
                better &= self.values[None, :, j] <= part[:, None, j]
                strictly |= self.values[None, :, j] < part[:, None, j]
            out[start : start + 4096] = np.any(better & strictly, axis=1)
        return out


_SPREAD = 24  # rows of a front that a block is compared with before the whole front is


def _strictly_beaten(values: Array, row: Array) -> Array:
    """Where `row` is as good in every objective and better in one."""
    as_good = np.ones(len(values), bool)
    better = np.zeros(len(values), bool)
    for j, value in enumerate(row):
        as_good &= value <= values[:, j]
        better |= value < values[:, j]
    return np.asarray(as_good & better)
