"""Which rows of a search are kept: the best, the best K, a Pareto front, or all.

Keeping is associative: the rows kept of two parts of a search, kept again together, are the rows kept of the whole.
Ties are broken by the layout's number, so that neither the order of the parts nor their size can change a row.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
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
    order = np.lexsort((numbers, *values.T[::-1]))  # sorted, so that only earlier rows can beat later ones
    ordered = values[order]
    if values.shape[1] == 2 and len(order):
        least = np.minimum.accumulate(ordered[:, 1])
        return np.asarray(order[np.append(True, ordered[1:, 1] < least[:-1])])
    if values.shape[1] == 3:
        return np.asarray(order[_on_stairs(ordered[:, 1].tolist(), ordered[:, 2].tolist())])
    kept = np.empty((0, values.shape[1]))
    chosen = []
    for start in range(0, len(order), 512):
        part = ordered[start : start + 512]
        alive = np.flatnonzero(~_beaten(part, kept))
        among = _first_alive(part[alive])
        chosen.append(order[start + alive[among]])
        kept = np.concatenate([kept, part[alive[among]]])
    return np.concatenate(chosen) if chosen else order


def _on_stairs(second: list[float], third: list[float]) -> list[int]:
    """Positions of the rows, in the order of their first objective, that no earlier row equals or beats in the others.

    Of the rows so far the best pairs of the other two form stairs: the second rises while the third falls. Source:
    Kung, Luccio and Preparata, Journal of the ACM 22 (1975), for three dimensions.
    """
    chosen: list[int] = []
    stairs: list[float] = []
    heights: list[float] = []
    for row, (x, y) in enumerate(zip(second, third, strict=True)):
        at = bisect_right(stairs, x)
        if at and heights[at - 1] <= y:
            continue
        first = bisect_left(stairs, x)
        last = first
        while last < len(stairs) and heights[last] >= y:
            last += 1
        stairs[first:last], heights[first:last] = [x], [y]
        chosen.append(row)
    return chosen


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
        self._values = np.empty((0, len(objectives(search))))
        self._numbers = np.empty(0, np.int64)
        self._waiting: list[tuple[Array, Array]] = []  # for a front: offered, and not yet compared with each other
        self._shadow: _Shadow | None = None

    @property
    def numbers(self) -> Array:
        """Numbers of the leaders."""
        self._compare()
        return self._numbers

    @property
    def limit(self) -> float:
        """Value that a layout must reach to be among the best; infinite while there are fewer than wanted."""
        full = self.search.rows != "pareto" and len(self._numbers) >= self.search.top
        return float(self._values[:, 0].max()) if full else np.inf

    def offer(self, values: Array, numbers: Array) -> None:
        """Look at layouts that meet every limit. A layout counts once, however often it is offered."""
        if len(numbers):
            self._waiting.append((values, numbers))
        few = max(_TOGETHER, len(self._numbers))
        if self.search.rows != "pareto" or sum(len(more) for _, more in self._waiting) >= few:
            self._compare()

    def _compare(self) -> None:
        """Let the leaders be the best of themselves and of what waits."""
        if not self._waiting:
            return
        values = np.concatenate([self._values, *(more for more, _ in self._waiting)])
        numbers = np.concatenate([self._numbers, *(more for _, more in self._waiting)])
        self._waiting = []
        numbers, first = np.unique(numbers, return_index=True)
        values = values[first]
        if self.search.rows == "pareto":
            chosen = front(values, numbers)
        else:
            chosen = best(values[:, 0], numbers, self.search.top)
        self._values, self._numbers = values[chosen], numbers[chosen]
        self._shadow = _Shadow(self._values) if self.search.rows == "pareto" else None

    def promising(self, values: Array) -> Array:
        """Rows of objectives that may be kept: a quick look that never drops one that would be."""
        if self.search.rows != "pareto":
            near = values[:, 0] <= self.limit
            if np.count_nonzero(near) > 4 * self.search.top:
                near &= values[:, 0] <= np.partition(values[near, 0], self.search.top - 1)[self.search.top - 1]
            return np.flatnonzero(near)
        if self._shadow is None:  # the first block: some of it stands for the front
            some = np.linspace(0, len(values) - 1, min(len(values), _TOGETHER)).astype(int)
            shadow = _Shadow(values[some[front(values[some], some)]])
        else:
            shadow = self._shadow
        return shadow.outside(values)

    def out_of_reach(self, bounds: Array) -> Array:
        """Where nothing with values of at least these bounds can be kept."""
        if self.search.rows != "pareto":
            return np.asarray(bounds[:, 0] > self.limit)
        if self._shadow is None:
            return np.zeros(len(bounds), bool)
        out = np.ones(len(bounds), bool)
        out[self._shadow.outside(bounds)] = False
        return out


_TOGETHER = 4096  # rows that are compared with each other at once, at least
_SPREAD = 8  # rows of a front that are compared with all others first
_CELLS = {1: 1 << 14, 2: 1 << 9, 3: 1 << 6}  # along each axis of the shadow's table, by its number of axes


class _Shadow:
    """What a front beats, looked up instead of compared row by row.

    All objectives but the last are cut at values of the front. A table holds, for every corner of cuts, the least last
    objective of the front's rows that reach the corner: a row beyond the corner with no smaller last objective is
    beaten. It is beaten for certain only, so that some rows in the shadow may be taken for outside.
    """

    def __init__(self, rows: Array) -> None:
        self._spread = rows[np.unique(np.linspace(0, len(rows) - 1, _SPREAD).astype(int))] if len(rows) else rows
        axes = rows.shape[1] - 1
        cells = _CELLS.get(axes)
        self._cuts: list[Array] = []
        if cells is None or not len(rows):
            return
        for j in range(axes):
            values = np.unique(rows[:, j])
            chosen = np.unique(np.linspace(0, len(values) - 1, cells).astype(int))
            self._cuts.append(values[chosen])
        table = np.full([len(cuts) + 1 for cuts in self._cuts], np.inf)
        # a row reaches the corners from the first cut on that is not below it
        places = tuple(np.searchsorted(cuts, rows[:, j], side="left") + 1 for j, cuts in enumerate(self._cuts))
        inside = np.all([place < size for place, size in zip(places, table.shape, strict=True)], axis=0)
        np.minimum.at(table, tuple(place[inside] for place in places), rows[inside, -1])
        for axis in range(axes):
            table = np.minimum.accumulate(table, axis=axis)
        self._table = table

    def outside(self, values: Array) -> Array:
        """Rows that are not known to be strictly beaten by the front."""
        alive = np.ones(len(values), bool)
        for row in self._spread:
            alive &= ~_strictly_beaten(values, row)
        left = np.flatnonzero(alive)
        return left if not self._cuts else left[~self._beaten(values[left])]

    def _beaten(self, values: Array) -> Array:
        at_most = [np.searchsorted(cuts, values[:, j], side="right") for j, cuts in enumerate(self._cuts)]
        below = [np.searchsorted(cuts, values[:, j], side="left") for j, cuts in enumerate(self._cuts)]
        last = values[:, -1]
        beaten = self._table[tuple(at_most)] < last  # as good elsewhere, better in the last
        for j in range(len(self._cuts)):  # better in one, as good in the last
            beaten |= self._table[tuple(below[j] if i == j else place for i, place in enumerate(at_most))] <= last
        return np.asarray(beaten)


def _strictly_beaten(values: Array, row: Array) -> Array:
    """Where `row` is as good in every objective and better in one."""
    as_good = np.ones(len(values), bool)
    better = np.zeros(len(values), bool)
    for j, value in enumerate(row):
        as_good &= value <= values[:, j]
        better |= value < values[:, j]
    return np.asarray(as_good & better)
