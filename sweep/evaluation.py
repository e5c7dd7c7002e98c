"""The cost of listed points with all their options, as open meshes: each quantity once per combination it depends on.

A layer's cost is computed for the nodes, data-parallel traffic for the nodes and their stages, the step for the points.
Every number is that of model.step.training_step, bit for bit, as the same functions run on the same values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from model.cost import StepCost, mapped
from model.data_parallel import DataCost, data_cost
from model.layout import Array
from model.step import LocalCosts, assemble, local_costs
from sweep.cases import Records
from sweep.options import OPTION_FIELDS
from sweep.space import Listing, Mesh

_OF_LAYERS = ("sequence_parallel", "recompute", "context_exchange", "overlap_off")
_OF_DATA = ("offload", "zero_stage", "rank_order")


@dataclass(frozen=True, slots=True)
class Partial:
    """Partial costs of a listing: of its nodes' layers, and of its stage rows' data-parallel traffic."""

    listing: Listing
    local: LocalCosts
    data: DataCost


def places(known: Records, names: tuple[str, ...]) -> tuple[Array, ...]:
    """All places along the named option axes, the first along the others."""
    values = zip(OPTION_FIELDS, known.space.values, strict=True)
    return tuple(np.arange(len(v) if name in names else 1) for name, v in values)


def layer_costs(known: Records, nodes: Array, chosen: tuple[Array, ...]) -> LocalCosts:
    """Layer costs of nodes at the chosen options."""
    space = known.space
    layout = space.open_layout({name: values[nodes] for name, values in space.nodes.items()}, chosen)
    return local_costs(known.system, known.stack, known.training, layout)


def partial_costs(known: Records, listing: Listing) -> Partial:
    """Partial costs of a listing at every option on offer."""
    local = layer_costs(known, listing.nodes, places(known, _OF_LAYERS))
    layout = known.space.open_layout(listing.stages, places(known, _OF_DATA))
    return Partial(listing, local, data_cost(known.system, known.stack, known.training, layout))


def evaluate(known: Records, partial: Partial, mesh: Mesh) -> StepCost:
    """Cost of one step for the layouts of a mesh of the listing."""
    listing = partial.listing
    stage = listing.stage[mesh.points]
    return assemble(
        known.system,
        known.stack,
        known.training,
        listing.layout(mesh),
        _at(partial.local, mesh.chosen, listing.node[stage]),
        _at(partial.data, mesh.chosen, stage),
    )


def chosen_of(record: Any, axis: int, wanted: slice) -> Any:
    """A record of arrays over a mesh at some places of one option axis, where it varies along that."""

    def chosen(values: Array) -> Array:
        place = axis - (len(OPTION_FIELDS) + 1 - values.ndim)  # leading axes of one may be left out
        if place < 0 or values.shape[place] == 1:
            return values
        return values[(slice(None),) * place + (wanted,)]

    return mapped(record, chosen)


def _at(record: Any, chosen: tuple[Array, ...], last: Array) -> Any:
    """A record at the chosen places of each option axis, and at `last` of the last one."""
    return mapped(record, lambda values: _gathered(values, chosen, last))


def _gathered(values: Array, chosen: tuple[Array, ...], last: Array) -> Array:
    if values.ndim == 0:
        return values
    ahead = (1,) * (len(chosen) + 1 - values.ndim)
    values = values.reshape(ahead + values.shape)
    for axis, wanted in enumerate(chosen):
        if values.shape[axis] > len(wanted):
            values = values[(slice(None),) * axis + (_slice(wanted),)]
    return values if values.shape[-1] == 1 else values.take(last, axis=-1)


def _slice(wanted: Array) -> slice | Array:
    """Places as a slice where they follow each other: a view instead of a copy."""
    first, last = int(wanted[0]), int(wanted[-1])
    return slice(first, last + 1) if last - first + 1 == len(wanted) else wanted
