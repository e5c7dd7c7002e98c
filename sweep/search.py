"""The exact search of a range of layouts: all of them in open meshes, or as few as bounds leave.

Branch and bound, best bound first: nodes in the order of their bounds, each cut off as soon as its bound, or that of
its points, is out of reach of what has been found. What is cut off cannot be kept, so the answer is that of looking at
every layout; how much was cut off by which rule, and the best value that it could have had, are reported with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from model.cost import StepCost, gathered
from model.evaluate import evaluate_training
from model.layout import Array
from model.step import LocalCosts
from sweep import columns
from sweep.bounds import Floors, bound_values, floor_costs, node_floors, point_floors
from sweep.cases import Question, Records
from sweep.columns import QUANTITIES
from sweep.evaluation import Partial, evaluate, partial_costs
from sweep.keep import Columns, Leaders, merged, objectives
from sweep.space import BLOCK, Listing, Mesh

_FIRST_NODES = 16  # looked at first, to have something to compare bounds with
_FLOORS = 1 << 14  # nodes whose bounds are computed at once
_LAYERS = 1 << 18  # layer costs held at once: nodes x options
BY_LAYER, BY_PIPELINE, BY_MEMORY, BY_LIMIT = "layer bound", "pipeline bound", "memory bound", "bound of a limit"


@dataclass(slots=True)
class Tally:
    """What a search saw. Counts are of layouts."""

    layouts: int = 0
    evaluated: int = 0
    feasible: int = 0
    pruned: dict[str, int] = field(default_factory=dict)  # rule -> layouts not looked at
    bound: float = np.inf  # best value that a layout pruned for its value could have, smaller being better
    broken: dict[str, int] = field(default_factory=dict)  # violation -> layouts
    nearest: dict[str, float] = field(default_factory=dict)  # violation -> least excess seen

    def note(self, name: str, excess: Array, layouts: int) -> None:
        """Count a violation: an excess that broadcasts to so many layouts."""
        excess = np.asarray(excess)
        count = int(np.count_nonzero(excess > 0)) * (layouts // excess.size)
        if count:
            self.broken[name] = self.broken.get(name, 0) + count
        self.nearest[name] = min(self.nearest.get(name, np.inf), float(excess.min()))

    def prune(self, rule: str, layouts: int) -> None:
        """Count layouts that need not be looked at."""
        if layouts:
            self.pruned[rule] = self.pruned.get(rule, 0) + layouts


@dataclass(frozen=True, slots=True)
class _Hunt:
    """What a search of leaders carries along."""

    question: Question
    known: Records
    leaders: Leaders
    tally: Tally

    def bounds(self, floors: Floors) -> Array:
        """Rows x objectives."""
        return bound_values(self.known, floors, objectives(self.question.search))


def search_range(question: Question, known: Records, first: int, last: int) -> tuple[Columns | None, Tally]:
    """The rows to keep of the points whose first layouts are numbered `first` to `last` - 1, and what was seen."""
    tally = Tally()
    if first >= last:  # a case without a legal layout
        return None, tally
    if question.search.rows in ("feasible", "all"):
        return _stored(question, known, tally, first, last), tally
    hunt = _Hunt(question, known, Leaders(question.search), tally)
    if question.search.prune:
        _bounded(hunt, first, last)
    else:
        for listing in _listings(known, first, last):
            tally.layouts += int(listing.sizes.sum())
            _look(hunt, listing)
    if not len(hunt.leaders.numbers):
        return None, tally
    return rows_of(question, known, np.sort(hunt.leaders.numbers)), tally


def rows_of(question: Question, known: Records, numbers: Array) -> Columns:
    """All columns of the layouts of these numbers."""
    layout = known.space.take(numbers)
    cost = evaluate_training(known.system, known.stack, known.training, layout)
    extra = _limits(question, cost)
    fits = np.broadcast_to(_fits(cost, extra), numbers.shape)
    return columns.rows(cost, layout, extra) | {"layout_id": numbers, "feasible": fits.copy()}


# ------------------------------------------------------------------------------------------------ what is looked at
def _nodes_between(known: Records, first: int, last: int) -> Array:
    """Nodes with layouts in a range of numbers."""
    offsets = known.space.offsets
    start, stop = np.searchsorted(offsets, (first, last - 1), side="right") - 1
    nodes = np.arange(start, stop + 1)
    return np.asarray(nodes[offsets[nodes + 1] > offsets[nodes]])


def _sizes(known: Records, nodes: Array, first: int, last: int) -> Array:
    """Layouts of these nodes' points that start in a range of numbers; only nodes at its ends lie in it in part."""
    offsets = known.space.offsets
    sizes = offsets[nodes + 1] - offsets[nodes]
    for place in np.flatnonzero((offsets[nodes] < first) | (offsets[nodes + 1] > last)):
        sizes[place] = _inside(known.space.listing(nodes[place : place + 1]), first, last).sizes.sum()
    return np.asarray(sizes)


def nodes_at_once(known: Records) -> int:
    """Nodes whose layer costs are held at once."""
    options = int(np.prod([len(values) for values in known.space.values[:4]]))
    return max(1, _LAYERS // options)


def _listings(known: Records, first: int, last: int) -> Iterator[Listing]:
    """Listings of the points whose first layouts are in a range of numbers, a bounded number of nodes at a time."""
    nodes = _nodes_between(known, first, last)
    step = nodes_at_once(known)
    for start in range(0, len(nodes), step):
        listing = _inside(known.space.listing(nodes[start : start + step]), first, last)
        if len(listing.stage):  # a range may begin and end inside the options of one point: none starts in it
            yield listing


def _inside(listing: Listing, first: int, last: int) -> Listing:
    """The listing's points whose first layouts are in a range of numbers."""
    inside = (listing.first >= first) & (listing.first < last)
    return listing if inside.all() else listing.only(np.flatnonzero(inside))


def _limits(question: Question, cost: StepCost) -> dict[str, Array]:
    """Excess over each of the study's limits."""
    found = {}
    for name, sense, limit in question.constraints:
        value = np.asarray(QUANTITIES[name].read(cost))
        found[f"violation_limit_{name}"] = (value - limit) if sense == "<=" else (limit - value)
    return found


def _fits(cost: StepCost, extra: Mapping[str, Array]) -> Array:
    """Where every limit is met, in the shape that this depends on."""
    fits: Array = np.asarray(True)
    for excess in (*cost.violations.values(), *extra.values()):
        fits = fits & (np.asarray(excess) <= 0)
    return fits


def _judged(question: Question, tally: Tally, cost: StepCost, layouts: int) -> tuple[dict[str, Array], Array]:
    """Excesses over the study's limits and where all limits are met; what is broken is counted."""
    extra = _limits(question, cost)
    for name, excess in extra.items():
        tally.note(name.removeprefix("violation_"), excess, layouts)
    for name, excess in cost.violations.items():
        tally.note(name, excess, layouts)
    fits = _fits(cost, extra)
    tally.evaluated += layouts
    tally.feasible += int(np.count_nonzero(fits)) * (layouts // fits.size)
    return extra, fits


def _stored(question: Question, known: Records, tally: Tally, first: int, last: int) -> Columns | None:
    """All columns of every layout, or of every feasible one, by ascending number."""
    parts: list[Columns] = []
    every = question.search.rows == "all"
    for listing in _listings(known, first, last):
        tally.layouts += int(listing.sizes.sum())
        if not every:
            floors = point_floors(known, listing, floor_costs(known, listing.nodes))
            listing = _that_fit(question, known, tally, listing, floors)[0]
            if not len(listing.stage):
                continue
        partial = partial_costs(known, listing)
        for mesh in listing.meshes():
            for block in mesh.cut(BLOCK):
                parts += _block_rows(question, known, tally, partial, block, every)
    if not parts:
        return None
    rows = merged(sorted(parts, key=lambda part: int(part["layout_id"][0])))
    if np.all(rows["layout_id"][1:] > rows["layout_id"][:-1]):
        return rows
    order = np.argsort(rows["layout_id"], kind="stable")
    return {name: np.take(values, order, mode="clip") for name, values in rows.items()}


def _block_rows(
    question: Question, known: Records, tally: Tally, partial: Partial, block: Mesh, every: bool
) -> list[Columns]:
    cost = evaluate(known, partial, block)
    extra, fits = _judged(question, tally, cost, block.size)
    options = block.size // len(block.points)
    numbers = (block.first[:, None] + np.arange(options)).reshape(-1)
    feasible = np.moveaxis(np.broadcast_to(fits, block.shape), -1, 0).reshape(-1)
    index = slice(None) if every else np.flatnonzero(feasible)
    if not every and not len(index):  # type: ignore[arg-type]
        return []
    rows = columns.rows(cost, partial.listing.layout(block), extra, index)
    return [rows | {"layout_id": numbers[index], "feasible": feasible[index]}]


def _look(hunt: _Hunt, listing: Listing) -> None:
    """Evaluate all layouts of a listing and offer them to the leaders."""
    if not len(listing.stage):
        return
    partial = partial_costs(hunt.known, listing)
    search = hunt.question.search
    reads = [QUANTITIES[name] for name in objectives(search)]
    for mesh in listing.meshes():
        for block in mesh.cut(BLOCK):
            cost = evaluate(hunt.known, partial, block)
            _, fits = _judged(hunt.question, hunt.tally, cost, block.size)
            if not fits.any():
                continue
            values = [quantity.sign * np.asarray(quantity.read(cost)) for quantity in reads]
            near = fits if search.rows == "pareto" else fits & (values[0] <= hunt.leaders.limit)
            places = np.flatnonzero(np.broadcast_to(near, block.shape))
            if not len(places):
                continue
            chosen = np.stack([np.broadcast_to(v, block.shape).reshape(-1)[places] for v in values], axis=1)
            promising = hunt.leaders.promising(chosen)
            hunt.leaders.offer(chosen[promising], block.numbers(places[promising]))


# ------------------------------------------------------------------------------------------------ branch and bound
def _bounded(hunt: _Hunt, first: int, last: int) -> None:
    """Offer what can be among the leaders, nodes and points of the best bound first."""
    known, tally = hunt.known, hunt.tally
    nodes = _nodes_between(known, first, last)
    sizes = _sizes(known, nodes, first, last)
    tally.layouts += int(sizes.sum())
    costs = _FloorCosts(known, nodes)
    bounds = np.concatenate([hunt.bounds(node_floors(known, some, costs.of(some))) for some in _some(nodes)])
    order = np.argsort(bounds[:, 0], kind="stable")
    nodes, sizes, bounds = nodes[order], sizes[order], bounds[order]
    start, batch = 0, _FIRST_NODES
    while start < len(nodes):
        if hunt.leaders.search.rows != "pareto" and bounds[start, 0] > hunt.leaders.limit:
            _cut_off(hunt, BY_LAYER, sizes[start:], bounds[start:])
            break
        part = slice(start, start + batch)
        out = hunt.leaders.out_of_reach(bounds[part])
        _cut_off(hunt, BY_LAYER, sizes[part][out], bounds[part][out])
        alive = nodes[part][~out]
        if len(alive):
            _points(hunt, _inside(known.space.listing(alive), first, last), costs)
        start += batch
        batch = min(2 * batch, nodes_at_once(known))


class _FloorCosts:
    """Layer costs that bounds rest on: held for all nodes where these are few, else computed when asked for."""

    def __init__(self, known: Records, nodes: Array) -> None:
        self._known = known
        self._held = floor_costs(known, nodes) if len(nodes) <= _FLOORS else None
        self._nodes = nodes  # ascending

    def of(self, nodes: Array) -> LocalCosts:
        """Costs of some of the nodes."""
        if self._held is None:
            return floor_costs(self._known, nodes)
        chosen: LocalCosts = gathered(self._held, np.searchsorted(self._nodes, nodes))
        return chosen


def _some(nodes: Array) -> Iterator[Array]:
    """Nodes in lists of a bounded length."""
    for start in range(0, len(nodes), _FLOORS):
        yield nodes[start : start + _FLOORS]


def _cut_off(hunt: _Hunt, rule: str, sizes: Array, bounds: Array) -> None:
    """Count layouts whose values are out of reach."""
    if len(sizes):
        hunt.tally.prune(rule, int(sizes.sum()))
        hunt.tally.bound = min(hunt.tally.bound, float(bounds[:, 0].min()))


def _that_fit(
    question: Question, known: Records, tally: Tally, listing: Listing, floors: Floors
) -> tuple[Listing, Floors]:
    """The points whose least memory fits, and that can meet the study's limits."""
    excess = floors.bytes - known.stack.usable_memory * known.system.chip.hbm_bytes
    over = excess > 0
    if over.any():
        lost = int(listing.sizes[over].sum())
        tally.prune(BY_MEMORY, lost)
        tally.broken["hbm_bytes"] = tally.broken.get("hbm_bytes", 0) + lost
        tally.nearest["hbm_bytes"] = min(tally.nearest.get("hbm_bytes", np.inf), float(excess[over].min()))
    for name, sense, limit in question.constraints:
        least = QUANTITIES[name].sign * bound_values(known, floors, (name,))[:, 0]
        beyond = least - limit if sense == "<=" else limit - least
        if (QUANTITIES[name].better == "less") != (sense == "<="):
            continue  # a bound says how good a quantity can be, not how bad
        out = (beyond > 0) & ~over
        if out.any():
            lost = int(listing.sizes[out].sum())
            key = f"limit_{name}"
            tally.prune(BY_LIMIT, lost)
            tally.broken[key] = tally.broken.get(key, 0) + lost
            tally.nearest[key] = min(tally.nearest.get(key, np.inf), float(beyond[out].min()))
            over = over | out
    if not over.any():
        return listing, floors
    kept = np.flatnonzero(~over)
    return listing.only(kept), floors.take(kept)


def _points(hunt: _Hunt, listing: Listing, costs: _FloorCosts) -> None:
    """Look at the points of a listing that are within reach, the best bounds first."""
    if not len(listing.stage):
        return
    floors = point_floors(hunt.known, listing, costs.of(listing.nodes))
    listing, floors = _that_fit(hunt.question, hunt.known, hunt.tally, listing, floors)
    bounds = hunt.bounds(floors)
    todo = np.argsort(bounds[:, 0], kind="stable")
    layouts = BLOCK
    while len(todo):
        out = hunt.leaders.out_of_reach(bounds[todo])
        _cut_off(hunt, BY_PIPELINE, listing.sizes[todo][out], bounds[todo][out])
        todo = todo[~out]
        count = max(1, int(np.searchsorted(np.cumsum(listing.sizes[todo]), layouts, side="right")))
        if len(todo):
            _look(hunt, listing.only(np.sort(todo[:count])))
        todo = todo[count:]
        layouts *= 8
