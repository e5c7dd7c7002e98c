"""The exact search of the instances of a serving case: each at the best batch that its targets allow, or at all.

Instances that take prompts in too (colocated serving) are costly to solve, so that those come first which could serve
the most if they decoded alone; once that bound is out of reach the rest need no look. A deployment of separate prefill
and decode instances is searched from both sides: of the instances of a size those count that no other beats in rate and
latency, and every pair of these is joined in the whole numbers that serve the most.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from model.layout import Array
from sweep import columns, pairs
from sweep.cases import Case, Question
from sweep.columns import QUANTITIES, SETS, ColumnSet
from sweep.keep import Columns, Leaders, merged, objectives
from sweep.search import Tally
from sweep.served import Served, ServedRecords, axes_of, constraints_of, served, served_records

BLOCK = 1 << 14  # points evaluated at once
_MIXED_BLOCK = 1 << 14  # of instances that take prompts in: a call costs as much as some thousand of them
_FIRST = 1 << 10  # of them looked at first
BY_DECODE = "bound of decoding alone"
_SLACK = 1.1  # of that bound: a batch between two solved ones may fill its tiles better
_FOLLOW_DECODE = ("tokens_per_s", "tokens_per_s_per_chip", "requests_per_s")
_FOLLOW_LOAD = ("chips_used",)  # the same, where the instances are as many as a load needs
COLOCATED, DISAGGREGATED = 0, 1


@dataclass(frozen=True, slots=True)
class ServingCase:
    """A case of serving: its instances, and those of both sides where prompts have instances of their own."""

    question: Question
    case: Case
    known: ServedRecords
    pairs: pairs.Sides | None

    @property
    def system(self) -> Any:
        """The machine."""
        return self.known.system

    @property
    def space(self) -> CaseSpace:
        """Numbers of all that there is to look at."""
        return CaseSpace(self)

    @property
    def columns(self) -> ColumnSet:
        """Columns of the rows."""
        return SETS[self.known.work.phase]


@dataclass(frozen=True, slots=True)
class CaseSpace:
    """Colocated instances by number, then one number for all pairs of prefill and decode instances."""

    of: ServingCase

    @property
    def colocated(self) -> int:
        """Points of instances that do all that the phase asks for."""
        return self.of.known.space.count if _offers(self.of.question, self.of.case, COLOCATED) else 0

    @property
    def count(self) -> int:
        """Points, the pairs being one."""
        return self.colocated + (self.of.pairs is not None)

    @property
    def points(self) -> int:
        """Instances of all spaces."""
        sides = self.of.pairs
        apart = 0 if sides is None else sides.prefill.space.count + sides.decode.space.count
        return self.colocated + apart

    @property
    def dropped(self) -> dict[str, int]:
        """Rule -> combinations that it is the first to drop."""
        return dict(self.of.known.space.dropped)

    @property
    def combinations(self) -> int:
        """Of all axes."""
        return self.of.known.space.combinations

    @property
    def degrees(self) -> dict[str, tuple[int, ...]]:
        """Values that legal instances have."""
        return self.of.known.space.degrees


def _offers(question: Question, case: Case, deployment: int) -> bool:
    """Whether a study looks at a deployment; a single phase has but one."""
    return deployment in (axes_of(question, case).deployment if case.work.phase == "serving" else (COLOCATED,))


def serving_case(question: Question, case: Case) -> ServingCase:
    """Look a case up in the catalogue and list its instances."""
    known = served_records(question, case)
    if not _offers(question, case, DISAGGREGATED):
        return ServingCase(question, case, known, None)
    prefill, decode = (served_records(question, case, phase) for phase in ("prefill", "decode"))
    return ServingCase(question, case, known, pairs.Sides(prefill, decode, _limits(question, case)))


def _limits(question: Question, case: Case) -> dict[str, float]:
    return {name: limit for name, sense, limit in constraints_of(question, case) if sense == "<="}


# ------------------------------------------------------------------------------------------------ the search
def search_served(one: ServingCase, first: int, last: int) -> tuple[Columns | None, Tally]:
    """The rows to keep of the points numbered `first` to `last` - 1, and what was seen."""
    search, tally = one.question.search, Tally()
    stored: list[Columns] = []
    leaders = Leaders(search)
    every = search.rows == "all"
    stores = search.rows in ("feasible", "all")
    wanted = [QUANTITIES[name] for name in objectives(search)]
    for numbers, found in _looked_at(one, first, last, leaders, tally):
        excesses = _excesses(one, found)
        fits = np.ones(len(numbers), bool)
        for name, excess in excesses.items():
            tally.note(name.removeprefix("violation_"), excess, len(numbers))
            fits &= np.asarray(excess) <= 0
        tally.evaluated += len(numbers)
        tally.feasible += int(np.count_nonzero(fits))
        index = np.arange(len(numbers)) if every else np.flatnonzero(fits)
        if stores and len(index):
            stored.append(_rows(one, numbers, found, excesses, fits, index))
        elif len(index):
            values = [quantity.sign * np.asarray(quantity.read(found))[index] for quantity in wanted]
            leaders.offer(np.stack(values, axis=1), numbers[index])
    if stores:
        return (merged(stored) if stored else None), tally
    chosen = np.sort(leaders.numbers)
    return (rows_of(one, chosen) if len(chosen) else None), tally


def rows_of(one: ServingCase, numbers: Array) -> Columns:
    """All columns of these numbers."""
    parts = []
    for some, found in evaluated(one, numbers):
        excesses = _excesses(one, found)
        fits = np.all([np.asarray(excess) <= 0 for excess in excesses.values()], axis=0)
        parts.append(_rows(one, some, found, excesses, fits, np.arange(len(some))))
    rows = merged(parts)
    order = np.argsort(rows["layout_id"], kind="stable")
    return {name: values[order] for name, values in rows.items()}


def evaluated(one: ServingCase, numbers: Array) -> Iterator[tuple[Array, Served]]:
    """What points serve, in blocks of the same redundant experts; pairs are numbered after all others."""
    colocated = one.space.colocated
    own = numbers[numbers < colocated]
    for some in _blocks(one.known, own):
        yield some, served(one.known, some)
    apart = numbers[numbers >= colocated]
    if len(apart) and one.pairs is not None:
        yield apart, pairs.joined_at(one.pairs, apart - colocated)


def _blocks(known: ServedRecords, numbers: Array) -> Iterator[Array]:
    """Numbers in blocks whose instances have equally many redundant experts."""
    copies = known.space.rows["redundant"][numbers // max(1, len(known.space.batches))]
    for value in np.unique(copies):
        own = numbers[copies == value]
        block = _MIXED_BLOCK if known.phase == "serving" else BLOCK
        for start in range(0, len(own), block):
            yield own[start : start + block]


def _looked_at(
    one: ServingCase, first: int, last: int, leaders: Leaders, tally: Tally
) -> Iterator[tuple[Array, Served]]:
    """Points that may be kept and what they serve, the most promising first."""
    space = one.space
    numbers = np.arange(first, min(last, space.colocated))
    tally.layouts += len(numbers)
    if last > space.colocated and one.pairs is not None:
        sides = one.pairs.prefill.space.count + one.pairs.decode.space.count
        tally.layouts, tally.evaluated = tally.layouts + sides, tally.evaluated + sides
        for places, found in pairs.candidates(one.pairs):
            tally.layouts += len(places)
            yield space.colocated + places, found
    if _bounded(one):
        yield from _best_first(one, numbers, leaders, tally)
    else:
        yield from evaluated(one, numbers)


def _bounded(one: ServingCase) -> bool:
    """Whether decoding alone bounds the objective, and the batch is solved."""
    search, known = one.question.search, one.known
    follows = search.objective in (_FOLLOW_DECODE if known.work.load is None else _FOLLOW_LOAD)
    return bool(
        search.prune and search.rows in ("best", "top") and follows and known.phase == "serving"
        and not known.space.batches
    )  # fmt: skip


def _best_first(one: ServingCase, numbers: Array, leaders: Leaders, tally: Tally) -> Iterator[tuple[Array, Served]]:
    """Colocated instances, those first that could serve the most if they decoded alone."""
    known = one.known
    limits = tuple((name, limit) for name, limit in known.limits if name.startswith("tpot"))
    alone = replace(known, phase="decode", limits=limits)
    quantity = QUANTITIES[one.question.search.objective]
    bounds = np.full(len(numbers), np.inf)
    for some in _blocks(known, numbers):
        found = served(alone, some)
        best = np.asarray(quantity.read(found))
        bounds[some - numbers[0]] = -best * _SLACK if quantity.better == "more" else np.floor(best / _SLACK)
    order = np.argsort(bounds, kind="stable")
    size, start = _FIRST, 0
    while start < len(order):
        part = order[start : start + size]
        if bounds[part[0]] > leaders.limit:
            tally.prune(BY_DECODE, len(order) - start)
            tally.bound = min(tally.bound, float(bounds[part[0]]))
            return
        for some in _blocks(known, numbers[np.sort(part)]):
            yield some, served(known, some)
        start, size = start + size, min(4 * size, _MIXED_BLOCK)


def _excesses(one: ServingCase, found: Served) -> dict[str, Array]:
    """Excess over every limit, by column."""
    excesses = {f"violation_{name}": np.asarray(excess) for name, excess in found.violations.items()}
    for name, sense, limit in constraints_of(one.question, one.case):
        value = np.asarray(QUANTITIES[name].read(found))
        excess = (value - limit) if sense == "<=" else (limit - value)
        column = f"violation_limit_{name}"
        excesses[column] = np.maximum(excess, excesses[column]) if column in excesses else excess
    return excesses


def _rows(
    one: ServingCase, numbers: Array, found: Served, excesses: dict[str, Array], fits: Array, index: Array
) -> Columns:
    """Columns of some of the points."""
    own, size = one.columns, len(numbers)

    def pick(values: Any) -> Array:
        return np.asarray(np.broadcast_to(values, (size,))[index])

    rows = {name: pick(found.layout[name]) if name in found.layout else pick(0) for name in own.layout}
    rows |= {name: pick(QUANTITIES[name].read(found)) for name in own.quantities}
    times = {name: pick(part) for name, part in found.time.parts().items()}
    rows |= {f"time_{name}_s": part for name, part in times.items()}
    rows |= {f"memory_{name}_bytes": pick(part) for name, part in found.memory.parts().items()}
    rows["bound_by"] = columns.bound_by(times)
    rows |= {name: pick(excess) for name, excess in excesses.items()}
    return rows | {"layout_id": numbers[index], "feasible": fits[index]}
