"""Layouts that are nearest to feasible, where none is: what each breaks, as a share of the limit that it breaks.

A bounded number of layouts is looked at. Of training those whose bounds (`sweep.bounds`) break the limits least: a
layout left out breaks some limit by at least the share that the last one looked at did, so that counts of what a
relaxation up to there frees are exact. Of serving the instances in the order of their numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from model.layout import Array
from model.system import System
from sweep.bounds import bound_values, floor_costs, point_floors
from sweep.cases import Case, Question, Records
from sweep.columns import QUANTITIES
from sweep.evaluation import evaluate, partial_costs
from sweep.kinds import Known, known_case
from sweep.limits import HBM, INSTANCES, LIMIT, SEQUENCES, Limits, share_over, shares_over
from sweep.search import nodes_at_once, rows_of
from sweep.served import Served, constraints_of
from sweep.serving_search import ServingCase, evaluated
from sweep.serving_search import rows_of as served_rows
from sweep.space import BLOCK, Listing
from sweep.work import ServingWork

TRAINED = 1 << 18  # layouts looked at, of all cases together
SERVED: Mapping[str, int] = {"prefill": 1 << 16, "decode": 1 << 14, "serving": 1 << 11}


@dataclass(frozen=True, slots=True)
class Misses:
    """Layouts of a case.

    Attributes
    ----------
    numbers
        Of the layouts within the case.
    shares
        Rule -> by how much of the limit each layout is over it; 0 where it is met.
    seen
        All that could be freed by relaxing every limit by up to this share is among them; infinite: all there is.
    """

    known: Known
    numbers: Array
    shares: Mapping[str, Array]
    seen: float

    @property
    def worst(self) -> Array:
        """The share by which all limits must be relaxed, of each layout."""
        return np.max(list(self.shares.values()), axis=0) if self.shares else np.zeros(len(self.numbers))

    def row(self, number: int) -> dict[str, Any]:
        """All columns of one of the layouts."""
        from sweep.columns import plain

        at, records = np.asarray([number]), self.known.records
        found = rows_of(self.known.question, records, at) if isinstance(records, Records) else served_rows(records, at)
        return {name: plain(name, values[0]) for name, values in found.items()}


def limits_of(question: Question, case: Case) -> Limits:
    """Bounds on quantities of a case: quantity, sense and limit."""
    return constraints_of(question, case) if isinstance(case.work, ServingWork) else question.constraints


def near_misses(question: Question, case: Case, most: int) -> Misses:
    """The layouts of a case that break its limits least; at least some, at most about `most`."""
    known = known_case(question, case)
    if isinstance(known.records, Records):
        return _trained(known, most)
    return _served(known, most)


# ------------------------------------------------------------------------------------------------ training
def _trained(known: Known, most: int) -> Misses:
    records, question = known.records, known.question
    limits = limits_of(question, known.case)
    listings = list(_listings(records))
    floors = [_least_shares(records, limits, listing) for listing in listings]
    sizes = np.concatenate([listing.sizes for listing in listings]) if listings else np.zeros(0, int)
    least = np.concatenate(floors) if floors else np.zeros(0)
    seen = _reach(least, sizes, most)
    numbers: list[Array] = []
    shares: list[dict[str, Array]] = []
    for listing, floor in zip(listings, floors, strict=True):
        chosen = np.flatnonzero(floor < seen)
        if len(chosen):
            for some, found in _looked_at(records, limits, listing.only(chosen)):
                numbers.append(some)
                shares.append(found)
    return Misses(known, *_joined(numbers, shares), seen)


def could_fit(known: Known) -> bool:
    """Whether bounds leave a layout of training that meets every limit."""
    limits = limits_of(known.question, known.case)
    return any((_least_shares(known.records, limits, one) <= 0).any() for one in _listings(known.records))


def _listings(records: Records) -> Iterator[Listing]:
    space = records.space
    nodes = np.flatnonzero(np.diff(space.offsets) > 0)
    step = nodes_at_once(records)
    for start in range(0, len(nodes), step):
        yield space.listing(nodes[start : start + step])


def _reach(least: Array, sizes: Array, most: int) -> float:
    """The share below which points are looked at: about `most` layouts; infinite where that is all of them."""
    order = np.argsort(least, kind="stable")
    count = int(np.searchsorted(np.cumsum(sizes[order]), most, side="right")) + 1
    if count >= len(order):
        return float("inf")
    edge = float(least[order[count]])
    return edge if edge > least[order[0]] else float(np.nextafter(edge, np.inf))


def _least_shares(records: Records, limits: Limits, listing: Listing) -> Array:
    """The share by which each point is at least over some limit."""
    floors = point_floors(records, listing, floor_costs(records, listing.nodes))
    room = records.stack.usable_memory * records.system.chip.hbm_bytes
    worst = np.maximum(floors.bytes / room - 1.0, 0.0)
    for name, sense, limit in limits:
        if (QUANTITIES[name].better == "less") == (sense == "<="):
            value = QUANTITIES[name].sign * bound_values(records, floors, (name,))[:, 0]
            worst = np.maximum(worst, share_over(value, sense, limit))
    return np.asarray(worst)


def _looked_at(records: Records, limits: Limits, listing: Listing) -> Iterator[tuple[Array, dict[str, Array]]]:
    partial = partial_costs(records, listing)
    for mesh in listing.meshes():
        for block in mesh.cut(BLOCK):
            cost = evaluate(records, partial, block)
            found = shares_over(cost, records.stack, records.system, limits)
            flat = {name: np.broadcast_to(share, block.shape).reshape(-1) for name, share in found.items()}
            yield block.numbers(np.arange(block.size)), flat


# ------------------------------------------------------------------------------------------------ serving
def _served(known: Known, most: int) -> Misses:
    one: ServingCase = known.records
    count = one.space.colocated
    numbers = np.arange(count) if count <= most else np.unique(np.linspace(0, count - 1, most).astype(np.int64))
    if one.pairs is not None:
        apart = len(one.pairs.prefills) * len(one.pairs.decodes)
        from sweep.pairs import candidates

        pairs = [places for places, _ in candidates(one.pairs)] if apart else []
        joined = np.concatenate([np.zeros(0, np.int64), *pairs])[:most]
        numbers = np.concatenate([numbers, count + joined])
    found = [(some, _served_shares(one, served)) for some, served in evaluated(one, numbers)]
    seen = float("inf") if count <= most else 0.0
    return Misses(known, *_joined([some for some, _ in found], [shares for _, shares in found]), seen)


def _served_shares(one: ServingCase, found: Served) -> dict[str, Array]:
    """Shares over memory, the engine's and the cluster's room, and the limits of the case."""
    known = one.known
    size = len(np.asarray(found.packages))
    room = {HBM: known.engine.usable_memory * known.system.chip.hbm_bytes, SEQUENCES: known.engine.max_sequences}
    shares = {}
    for name, excess in found.violations.items():
        over = np.asarray(excess, float)
        if name == INSTANCES:  # of the ranks that there are
            over = np.where(over > 0, np.asarray(found.chips_used) * known.system.chip.ranks_per_package, 0.0)
            shares[name] = np.maximum(over / known.ranks - 1.0, np.where(np.asarray(excess) > 0, 1e-9, 0.0))
        else:
            shares[name] = np.maximum(over / room.get(name, 1.0), 0.0)
    for name, sense, limit in limits_of(one.question, one.case):
        shares[LIMIT + name] = share_over(QUANTITIES[name].read(found), sense, limit)
    return {name: np.broadcast_to(share, (size,)) for name, share in shares.items()}


def _joined(numbers: list[Array], shares: list[dict[str, Array]]) -> tuple[Array, dict[str, Array]]:
    if not numbers:
        return np.zeros(0, np.int64), {}
    return np.concatenate(numbers), {name: np.concatenate([one[name] for one in shares]) for name in shares[0]}


# ------------------------------------------------------------------------------------------------ another machine
def on_machine(misses: Misses, numbers: Array, system: System) -> Mapping[str, Array]:
    """Shares of layouts of a case on another machine, by rule; of serving each at its best batch there."""
    records, limits = misses.known.records, limits_of(misses.known.question, misses.known.case)
    if isinstance(records, Records):
        from model.evaluate import evaluate_training

        cost = evaluate_training(system, records.stack, records.training, records.space.take(numbers))
        shares = shares_over(cost, records.stack, system, limits)
        return {name: np.broadcast_to(share, numbers.shape) for name, share in shares.items()}
    one: ServingCase = records
    sides = one.pairs
    if sides is not None:
        sides = replace(sides, **{n: replace(getattr(sides, n), system=system) for n in ("prefill", "decode")})
    other = replace(one, known=replace(one.known, system=system), pairs=sides)
    found = [_served_shares(other, served) for _, served in evaluated(other, numbers)]
    return {name: np.concatenate([part[name] for part in found]) for name in found[0]}
