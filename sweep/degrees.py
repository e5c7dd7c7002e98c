"""The best layout for each pair of two degrees, over all else: what a heatmap of a case shows.

All legal layouts of a case are evaluated, also those that a search never had to look at; a layout that is infeasible
counts by how far it is from being feasible, so that a case without any has a nearest one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from model.layout import SHORT, Array
from sweep.cases import Question, Records
from sweep.columns import QUANTITIES
from sweep.evaluation import evaluate, partial_costs
from sweep.limits import shares_over
from sweep.space import BLOCK, Listing

_NODES = 4096
_LONG = {short: name for name, short in SHORT.items()}


@dataclass(frozen=True, slots=True)
class Cell:
    """The best layout of a pair of degrees.

    Attributes
    ----------
    layout
        Its number within the case.
    value
        The quantity; of an infeasible layout too.
    excess
        0 where it is feasible; else the sum of its violations, each as a share of its limit.
    broken
        The violation that is the largest share of its limit; empty where it is feasible.
    """

    layout: int
    value: float
    excess: float
    broken: str


Cells = dict[tuple[int, int], Cell]
Pair = tuple[str, str]


def best_of_each(question: Question, known: Records, quantity: str, pairs: Sequence[Pair]) -> dict[Pair, Cells]:
    """The best layout of each pair of degrees: the feasible ones before the others, then by the quantity.

    Parameters
    ----------
    pairs
        Short names of degrees, as in [("tp", "pp")]; each pair has cells of its own.
    """
    found: dict[Pair, Cells] = {pair: {} for pair in pairs}
    space = known.space
    for start in range(0, len(space.offsets) - 1, _NODES):
        nodes = np.arange(start, min(start + _NODES, len(space.offsets) - 1))
        nodes = nodes[space.offsets[nodes + 1] > space.offsets[nodes]]
        if len(nodes):
            _look(question, known, quantity, space.listing(nodes), found)
    return found


def _look(question: Question, known: Records, quantity: str, listing: Listing, found: dict[Pair, Cells]) -> None:
    partial = partial_costs(known, listing)
    sign = QUANTITIES[quantity].sign
    for mesh in listing.meshes():
        for block in mesh.cut(BLOCK):
            cost = evaluate(known, partial, block)
            layout = partial.listing.layout(block)
            shares = shares_over(cost, known.stack, known.system, question.constraints)
            flat = {name: np.broadcast_to(share, block.shape).reshape(-1) for name, share in shares.items()}
            excess = np.sum(list(flat.values()), axis=0)
            value = sign * np.broadcast_to(np.asarray(QUANTITIES[quantity].read(cost)), block.shape).reshape(-1)
            for pair, cells in found.items():
                keys = [np.broadcast_to(getattr(layout, _LONG[name]), block.shape).reshape(-1) for name in pair]
                first = _first_of_each(keys, value, excess)
                for at, number in zip(first.tolist(), block.numbers(first).tolist(), strict=True):
                    broken = max(flat, key=lambda name: flat[name][at]) if excess[at] > 0 else ""
                    cell = Cell(int(number), sign * float(value[at]), float(excess[at]), broken)
                    place = int(keys[0][at]), int(keys[1][at])
                    old = cells.get(place)
                    if old is None or (cell.excess, sign * cell.value) < (old.excess, sign * old.value):
                        cells[place] = cell


def _first_of_each(keys: Sequence[Array], value: Array, excess: Array) -> Array:
    """Place of the best layout of each pair of degrees: a pair is a number, of which a block has few."""
    code = keys[0].astype(np.int64) << 32 | keys[1]
    places = []
    for one in np.unique(code):
        own = np.flatnonzero(code == one)
        own = own[excess[own] == excess[own].min()]
        places.append(own[np.argmin(value[own])])
    return np.asarray(places)
