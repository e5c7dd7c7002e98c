"""Which rows of a search are kept: the best, the best K, a Pareto front, or all.

Keeping is associative: the rows kept of two parts of a search, kept again together, are the rows kept of the whole.
Ties are broken by the layout's number, so that neither the order of the parts nor their size can change a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from model.cost import StepCost
from model.layout import Array, Layout
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


class Kept:
    """The rows kept so far of one part of a search."""

    def __init__(self, search: Search) -> None:
        self.search = search
        self.parts: list[Columns] = []
        self.limit = np.inf  # value that a row must reach to be among the best

    def offer(self, numbers: Array, layout: Layout, cost: StepCost, extra: Mapping[str, Any], fits: Array) -> None:
        """Look at a block of rows; `fits` says where every limit is met."""
        search = self.search
        candidates = np.arange(len(numbers)) if search.rows == "all" else np.flatnonzero(fits)
        if search.rows in ("best", "top", "pareto"):
            candidates = self._promising(numbers, cost, candidates)
        if not len(candidates):
            return
        rows = columns.rows(cost, layout, dict(extra), candidates)
        rows |= {"layout_id": numbers[candidates], "feasible": fits[candidates]}
        self.parts.append(rows)
        if search.rows in ("best", "top", "pareto"):
            self._condense()

    def _promising(self, numbers: Array, cost: StepCost, candidates: Array) -> Array:
        """Those of the block that may be kept, judged by the objectives alone."""
        read = [columns.QUANTITIES[name] for name in objectives(self.search)]
        values = np.stack([q.sign * np.asarray(q.read(cost))[candidates] for q in read], axis=1)
        if self.search.rows == "pareto":
            return np.asarray(candidates[front(values, numbers[candidates])])
        near = np.flatnonzero(values[:, 0] <= self.limit)
        return np.asarray(candidates[near[best(values[near, 0], numbers[candidates[near]], self.search.top)]])

    def _condense(self) -> None:
        rows = merged(self.parts)
        chosen = select(self.search, rows)
        rows = {name: values[chosen] for name, values in rows.items()}
        self.parts = [rows]
        if self.search.rows != "pareto" and len(chosen) == self.search.top:
            self.limit = float(values_of(self.search, rows)[:, 0].max())

    def rows(self) -> Columns | None:
        """The rows kept, by ascending number; None without any."""
        if not self.parts:
            return None
        rows = merged(self.parts)
        order = np.argsort(rows["layout_id"], kind="stable")
        return {name: values[order] for name, values in rows.items()}
