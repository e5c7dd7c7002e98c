"""Layouts as variables for a sampler: ordered places on axes, every proposal turned into a legal layout.

A degree is an ordered axis, so that neighbours are alike. Of all combinations a half or fewer are legal; one that is
not becomes the nearest legal layout, as one does that was looked at before. Nearness counts steps along the axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from model.layout import SCHEDULES, SHORT, Array, Layout
from sweep.columns import CODED
from sweep.options import OPTION_FIELDS
from sweep.space import NODE_FIELDS, Space
from sweep.trials import Choice, Params

Places = Array  # layouts x axes: the place of each layout on each axis
_POOL = 4096  # layouts, evenly spaced, among which the nearest is taken where none is near
_AT_ONCE = 1024  # candidates looked up together
_ORDERED_OPTIONS = ("sequence_parallel", "zero_stage")
# Where ranks are exchanged between two degrees, the layout stays as large as it is.
_STEP, _EXCHANGE = 0.35, 0.7  # chances, added up: one step, two opposite steps, else two or more anywhere
_MORE = 0.5  # chance that those are no more, and so on: without long moves a search stays where it is


@dataclass(frozen=True, slots=True)
class Axis:
    """A variable of the layouts: the fields that it sets, and the codes on offer."""

    fields: tuple[str, ...]
    codes: Array  # places x fields
    words: tuple[Any, ...]  # the codes as people write them
    ordered: bool


def distributions(space: Space) -> dict[str, Axis]:
    """The variables of a space by their columns' names: every degree and option that layouts differ in."""
    axes = {}
    for name in (*NODE_FIELDS, "pipeline_parallel"):
        axes[SHORT[name]] = _axis(name, sorted(space.degrees[name]), ordered=True)
    pairs = sorted(space.pairs)  # chunks of one schedule stand side by side
    words = tuple(f"{SCHEDULES[schedule]} x {chunks}" for schedule, chunks in pairs)
    axes["schedule"] = Axis(("schedule", "virtual_stages"), np.asarray(pairs), words, ordered=True)
    for name, values in zip(OPTION_FIELDS, space.values, strict=True):
        axes[SHORT[name]] = _axis(name, sorted(values.tolist()), ordered=name in _ORDERED_OPTIONS)
    return axes


def _axis(field: str, codes: Sequence[int], ordered: bool) -> Axis:
    words = [CODED[SHORT[field]][code] if SHORT[field] in CODED else code for code in codes]
    return Axis((field,), np.asarray(codes)[:, None], tuple(words), ordered)


class Encoding:
    """The layouts of a space as places on axes."""

    def __init__(self, space: Space) -> None:
        self.space = space
        every = distributions(space)
        self.axes = {name: axis for name, axis in every.items() if len(axis.words) > 1}
        self._fixed = [axis for axis in every.values() if len(axis.words) == 1]
        self.variables = {name: Choice(axis.words, axis.ordered) for name, axis in self.axes.items()}
        self._sizes = np.asarray([len(axis.words) for axis in self.axes.values()], dtype=np.int64)
        self._ordered = np.asarray([axis.ordered for axis in self.axes.values()], dtype=bool)
        first = space.take(np.zeros(1, np.int64))
        self._ranks, self._batch = int(first.ranks[0]), int(np.asarray(first.global_batch)[0])

    # ------------------------------------------------------------------------------------------ to and from
    def places(self, numbers: Sequence[int] | Array) -> Places:
        """Places of legal layouts; an option without effect is at its neutral value."""
        layout = self.space.take(np.asarray(numbers, dtype=np.int64))
        found = np.zeros((len(numbers), len(self.axes)), np.int64)
        for i, axis in enumerate(self.axes.values()):
            own = np.stack([np.asarray(getattr(layout, field)) for field in axis.fields], axis=1)
            found[:, i] = (own[:, None, :] == axis.codes[None, :, :]).all(axis=2).argmax(axis=1)
        return found

    def params(self, numbers: Sequence[int] | Array) -> list[Params]:
        """Legal layouts as people write them."""
        words = [axis.words for axis in self.axes.values()]
        return [
            {name: words[i][place] for i, (name, place) in enumerate(zip(self.axes, row, strict=True))}
            for row in self.places(numbers).tolist()
        ]

    def places_of(self, params: Sequence[Params]) -> Places:
        """Places of proposals."""
        rows = [[one.place(row[name]) for name, one in self.variables.items()] for row in params]
        return np.asarray(rows, dtype=np.int64).reshape(len(params), len(self.axes))

    def find(self, places: Places) -> Array:
        """Numbers of the layouts at places; -1 where they are not legal."""
        columns: dict[str, Array] = {}
        for i, axis in enumerate(self.axes.values()):
            columns |= dict(zip(axis.fields, axis.codes[places[:, i]].T, strict=True))
        for axis in self._fixed:
            columns |= {name: np.full(len(places), axis.codes[0, j]) for j, name in enumerate(axis.fields)}
        plain = columns["pipeline_parallel"] == 1  # without a pipeline there is one schedule
        for name, neutral in (("schedule", 0), ("virtual_stages", 1)):
            columns[name] = np.where(plain, neutral, columns[name])
        inside = columns["tensor_parallel"] * columns["context_parallel"] * columns["pipeline_parallel"]
        columns["data_parallel"] = np.where(self._ranks % inside == 0, self._ranks // inside, 0)
        return self.space.find(Layout(global_batch=np.full(len(places), self._batch), **columns))

    # -------------------------------------------------------------------------------------------- proposals
    def settle(self, places: Places, seen: set[int]) -> list[int]:
        """Numbers of the legal layouts nearest to places that are not `seen`, each added to it in turn."""
        numbers = self.find(places).tolist()
        moving = [i for i, number in enumerate(numbers) if number < 0 or number in seen]
        moving += [i for i, number in enumerate(numbers) if number >= 0 and numbers.index(number) < i]
        around = dict(zip(moving, self._moved(places[moving], self._moves[0]), strict=True))
        settled = []
        for i, number in enumerate(numbers):
            if i in around:
                number = next((one for one in around[i].tolist() if one >= 0 and one not in seen), -1)
            chosen = number if number >= 0 and number not in seen else self._further(places[i], seen)
            seen.add(chosen)
            settled.append(chosen)
        return settled

    def stepped(self, places: Places, rng: np.random.Generator) -> Places:
        """Places a step or two away, seldom more, drawn at random."""
        moved = places.copy()
        ordered = np.flatnonzero(self._ordered)
        for row in moved:
            chance = rng.random()
            if chance < _STEP or len(self._sizes) < 2:
                self._step(row, int(rng.integers(len(row))), rng)
            elif chance < _EXCHANGE and len(ordered) > 1:
                gives, takes = rng.choice(ordered, 2, replace=False)
                row[gives], row[takes] = row[gives] - 1, row[takes] + 1
            else:
                for axis in rng.choice(len(row), min(1 + rng.geometric(_MORE), len(row)), replace=False):
                    self._step(row, int(axis), rng)
        return np.asarray(np.clip(moved, 0, self._sizes - 1))

    def _step(self, row: Array, axis: int, rng: np.random.Generator) -> None:
        size = int(self._sizes[axis])
        if self._ordered[axis]:
            row[axis] += rng.choice((-1, 1))
        else:
            row[axis] = (row[axis] + rng.integers(1, size)) % size

    def _moved(self, places: Places, moves: Array) -> Array:
        """Numbers of the layouts at places + moves; -1 where they are not legal. Places x moves."""
        around = places[:, None, :] + moves
        around = np.where(self._ordered, around, around % self._sizes).reshape(-1, len(self._sizes))
        inside = ((around >= 0) & (around < self._sizes)).all(axis=1)
        numbers = np.full(len(around), -1, np.int64)
        numbers[inside] = self.find(around[inside])
        return numbers.reshape(len(places), len(moves))

    def _further(self, row: Array, seen: set[int]) -> int:
        """The nearest layout that is two moves away, or further."""
        moves = self._moves[1]
        for start in range(0, len(moves), _AT_ONCE):
            for number in self._moved(row[None], moves[start : start + _AT_ONCE])[0].tolist():
                if number >= 0 and number not in seen:
                    return int(number)
        return self._far(row, seen)

    def _far(self, row: Array, seen: set[int]) -> int:
        """The nearest of a pool, or the first that is left: near the place nothing is legal that is not seen."""
        numbers, places = self._pool
        apart = np.where(self._ordered, np.abs(places - row), places != row).sum(axis=1)
        for number in numbers[np.argsort(apart, kind="stable")].tolist():
            if number not in seen:
                return int(number)
        return next(number for number in range(self.space.count) if number not in seen)

    @cached_property
    def _pool(self) -> tuple[Array, Places]:
        numbers = np.unique(np.linspace(0, self.space.count - 1, _POOL).astype(np.int64))
        return numbers, self.places(numbers)

    @cached_property
    def _moves(self) -> tuple[Array, Array]:
        """Moves along one axis, and along two, the shortest first."""
        singles, cost = [], []
        for axis, size in enumerate(self._sizes.tolist()):
            for far in range(1, size):
                for step in (far, -far) if self._ordered[axis] else (far,):
                    move = np.zeros(len(self._sizes), np.int64)
                    move[axis] = step
                    singles.append(move)
                    cost.append(far if self._ordered[axis] else 1)
        alone, costs = np.asarray(singles).reshape(-1, len(self._sizes)), np.asarray(cost)
        one, other = np.triu_indices(len(alone), 1)
        apart = (alone[one] != 0).argmax(axis=1) != (alone[other] != 0).argmax(axis=1)
        one, other = one[apart], other[apart]
        order = np.argsort(costs[one] + costs[other], kind="stable")
        pairs = (alone[one] + alone[other])[order]
        return alone[np.argsort(costs, kind="stable")], pairs
