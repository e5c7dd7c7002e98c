"""Every legal layout of one model on one number of ranks, listed in three levels and never held as a whole.

* A *node* fixes what a layer's cost depends on beside the options: tp, cp, mbs, ep and etp. Thousands at most.
* A *point* adds the pipeline: stages, schedule and chunks; data parallelism takes the ranks that are left.
* The *options* of a point (sequence parallelism, recomputation, ZeRO stage, ...) multiply.

Points are listed for the nodes that are looked at. Points that allow the same options form an open mesh, one axis an
option and the points along the last, on which the cost model computes every quantity on the axes it depends on.
Layouts that cost the same by construction are listed once: an option that has no effect takes its neutral value,
whatever the study lists for it.

The order is part of the contract of a run: nodes by ascending degrees, then stages, schedules, and the options, the
first slowest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from model.architecture import Architecture
from model.layout import SCHEDULES, Array, Layout
from sweep.axes import Axes, Degreed, Problem
from sweep.options import OPTION_FIELDS, add_lost, allowed, count_options, layouts_of, option_values, set_bits

BLOCK = 1 << 17  # layouts evaluated at once: fewer cost more in calls, more leave the processor's caches
_1F1B, _INTERLEAVED = SCHEDULES.index("1f1b"), SCHEDULES.index("interleaved")
_ZBV, _DUALPIPE = SCHEDULES.index("zb-v"), SCHEDULES.index("dualpipe")
NODE_FIELDS = ("tensor_parallel", "context_parallel", "micro_batch", "expert_parallel", "expert_tensor_parallel")
POINT_FIELDS = (*NODE_FIELDS, "pipeline_parallel", "data_parallel", "schedule", "virtual_stages")
_LISTED = 1 << 13  # nodes whose layouts are counted at once


@dataclass(frozen=True, slots=True)
class Mesh:
    """Points that allow the same options, and those options: an axis each, and the points along the last."""

    points: Array  # places in the listing
    chosen: tuple[Array, ...]  # places among the values of each option axis
    first: Array  # number of each point's first layout

    @property
    def shape(self) -> tuple[int, ...]:
        """Axes of options, then points."""
        return (*(len(places) for places in self.chosen), len(self.points))

    @property
    def size(self) -> int:
        """Layouts."""
        return math.prod(self.shape)

    def numbers(self, places: Array) -> Array:
        """Numbers of the layouts at these places of the flattened mesh."""
        option, point = np.divmod(places, len(self.points))
        return self.first[point] + option

    def cut(self, layouts: int) -> Iterator[Mesh]:
        """Pieces of about this many layouts."""
        step = max(1, layouts // (self.size // len(self.points)))
        for start in range(0, len(self.points), step):
            part = slice(start, start + step)
            yield Mesh(self.points[part], self.chosen, self.first[part])


@dataclass(frozen=True, slots=True)
class Listing:
    """The points of some nodes of a space."""

    space: Space
    nodes: Array  # of the space
    stages: Degreed  # a row for every node and number of stages
    node: Array  # place among `nodes` of each stage row
    stage: Array  # stage row of each point
    schedule: Array  # of each point
    virtual_stages: Array
    masks: Array  # stage rows x options: bits of the allowed values
    sizes: Array  # layouts of each point
    first: Array  # number of each point's first layout

    def degrees(self, points: Array | slice = slice(None)) -> dict[str, Array]:
        """POINT_FIELDS of the points."""
        rows = self.stage[points]
        found = {name: values[rows] for name, values in self.stages.items()}
        return found | {"schedule": self.schedule[points], "virtual_stages": self.virtual_stages[points]}

    def only(self, points: Array) -> Listing:
        """The listing with these points, and the nodes that they need, alone."""
        rows, stage = np.unique(self.stage[points], return_inverse=True)
        nodes, node = np.unique(self.node[rows], return_inverse=True)
        return Listing(
            self.space, self.nodes[nodes], {name: values[rows] for name, values in self.stages.items()}, node, stage,
            self.schedule[points], self.virtual_stages[points], self.masks[rows], self.sizes[points],
            self.first[points],
        )  # fmt: skip

    def meshes(self) -> Iterator[Mesh]:
        """The points by what they allow, and by their schedule where that makes meshes of a good size."""
        masks, kind = np.unique(self.masks, axis=0, return_inverse=True)
        kinds = kind.reshape(-1)[self.stage]
        order = np.argsort(kinds, kind="stable")
        edges = np.searchsorted(kinds[order], np.arange(len(masks) + 1))
        for mask, start, stop in zip(masks, edges[:-1], edges[1:], strict=True):
            chosen = tuple(_places(bits) for bits in mask)
            for points in self._by_schedule(order[start:stop]):
                yield Mesh(points, chosen, self.first[points])

    def _by_schedule(self, points: Array) -> list[Array]:
        """Points of one schedule each where they are many: its rule is then applied, not chosen from all."""
        schedules = np.unique(self.schedule[points])
        if self.sizes[points].sum() < len(schedules) * BLOCK // 2:
            return [points] if len(points) else []
        return [points[self.schedule[points] == schedule] for schedule in schedules]

    def layout(self, mesh: Mesh) -> Layout:
        """The layouts of a mesh, open."""
        degrees = self.degrees(mesh.points)
        if (degrees["schedule"] == degrees["schedule"][0]).all():
            degrees["schedule"] = degrees["schedule"][:1]
        return self.space.open_layout(degrees, mesh.chosen)


def _places(bits: Any) -> Array:
    """Places of the bits that are set, ascending."""
    return np.asarray([place for place in range(int(bits).bit_length()) if int(bits) >> place & 1])


@dataclass(frozen=True)
class Space:
    """The legal layouts of a problem, numbered from 0 to `count` - 1."""

    problem: Problem
    axes: Axes
    nodes: Degreed  # NODE_FIELDS of every node
    values: tuple[Array, ...]  # on offer along each option axis
    offsets: Array  # first layout of each node, and the count
    points: int
    dropped: Mapping[str, int]  # rule -> combinations that it is the first to drop
    combinations: int  # of all axes, before any rule
    degrees: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # values that legal layouts have

    @property
    def count(self) -> int:
        """Number of legal layouts."""
        return int(self.offsets[-1])

    @cached_property
    def pairs(self) -> list[tuple[int, int]]:
        """Pairs of schedule and chunks a stage on offer."""
        return [(int(schedule), int(chunks)) for schedule, chunks in _pipelines(self.problem, self.axes)]

    def listing(self, nodes: Array) -> Listing:
        """The points of these nodes, in the order given."""
        stages, node, masks = _stages_of(self.problem, self.axes, self.values, self.nodes, nodes, {})
        pairs = np.asarray(self.pairs)
        legal, _ = _legal_pairs(self.problem, self.axes, pairs, stages)
        legal &= (layouts_of(masks) > 0)[:, None]
        stage, pair = np.nonzero(legal)
        sizes = layouts_of(masks)[stage]
        before = np.cumsum(sizes) - sizes
        starts = np.searchsorted(node[stage], np.arange(len(nodes)))  # first point of each node
        base = np.append(before, sizes.sum())[starts]
        first = self.offsets[nodes][node[stage]] + before - base[node[stage]]
        return Listing(self, nodes, stages, node, stage, pairs[pair, 0], pairs[pair, 1], masks, sizes, first)

    def open_layout(self, degrees: Degreed, chosen: tuple[Array, ...]) -> Layout:
        """Degrees along the last axis and the chosen values of each option along its own."""
        options = {}
        for axis, (name, values, places) in enumerate(zip(OPTION_FIELDS, self.values, chosen, strict=True)):
            shape = [1] * (len(OPTION_FIELDS) + 1)
            shape[axis] = len(places)
            options[name] = values[places].reshape(shape)
        return Layout(global_batch=self.problem.global_batch, **degrees, **options)

    def take(self, numbers: Array) -> Layout:
        """The layouts of the given numbers, flat."""
        numbers = np.asarray(numbers, np.int64)
        nodes, _ = np.unique(np.searchsorted(self.offsets, numbers, side="right") - 1, return_inverse=True)
        listed = self.listing(nodes)
        point = np.searchsorted(listed.first, numbers, side="right") - 1
        inside = numbers - listed.first[point]
        masks = listed.masks[listed.stage[point]]
        chosen: dict[str, Array] = listed.degrees(point)
        for axis in reversed(range(len(OPTION_FIELDS))):
            counts = set_bits(masks[:, axis])
            inside, rank = np.divmod(inside, counts)
            chosen[OPTION_FIELDS[axis]] = self.values[axis][_nth_bit(masks[:, axis], rank)]
        return Layout(global_batch=np.full(len(numbers), self.problem.global_batch, np.int64), **chosen)

    def decode(self, start: int, stop: int) -> Layout:
        """The layouts `start` to `stop` - 1, flat."""
        return self.take(np.arange(start, stop))

    def find(self, wanted: Layout) -> Array:
        """Numbers of flat layouts; -1 where one is not legal. An option without effect may have any value."""
        node = _rows_in(self.nodes, wanted, NODE_FIELDS)
        known = np.unique(node[node >= 0])
        listed = self.listing(known)
        point = _rows_in(listed.degrees(), wanted, POINT_FIELDS) if len(known) else np.full(len(node), -1)
        found = (node >= 0) & (point >= 0)
        rows = np.where(found, point, 0)
        inside = np.zeros(len(node), np.int64)
        if not found.any():
            return np.full(len(node), -1)
        masks = listed.masks[listed.stage[rows]]
        for axis, name in enumerate(OPTION_FIELDS):
            mask, values = masks[:, axis], self.values[axis]
            sought = np.broadcast_to(np.asarray(getattr(wanted, name)), node.shape)
            place = np.argmax(values[None, :] == sought[:, None], axis=1)
            legal = (values[place] == sought) & (mask >> place & 1 == 1)
            single = set_bits(mask) == 1
            found &= legal | single
            inside = inside * set_bits(mask) + np.where(legal, set_bits(mask & ((1 << place) - 1)), 0)
        return np.where(found, listed.first[rows] + inside, -1)


def _rows_in(table: Degreed, wanted: Layout, names: tuple[str, ...]) -> Array:
    """Row of `table` that each wanted layout has in the named fields; -1 where none has."""
    if not len(table[names[0]]):
        return np.full(np.broadcast_shapes((1,), *(np.shape(getattr(wanted, name)) for name in names)), -1)
    own: Array = np.zeros(1, np.int64)
    sought, known = own, np.ones(1, bool)
    for name in names:  # a row becomes one number, in a numeral system of the values that the table has
        values, digit = np.unique(table[name], return_inverse=True)
        given = np.atleast_1d(getattr(wanted, name))
        place = np.minimum(np.searchsorted(values, given), len(values) - 1)
        known = known & (values[place] == given)
        own, sought = own * len(values) + digit, sought * len(values) + place
    order = np.argsort(own)
    row = order[np.minimum(np.searchsorted(own, sought, sorter=order), len(order) - 1)]
    return np.where(known & (own[row] == sought), row, -1)


def _nth_bit(masks: Array, rank: Array) -> Array:
    """Place of the bit of a mask that has `rank` bits below it."""
    place = np.zeros(len(masks), np.int64)
    for bit in range(int(masks.max(initial=0)).bit_length()):
        hit = (masks >> bit & 1 == 1) & (set_bits(masks & ((1 << bit) - 1)) == rank)
        place = np.where(hit, bit, place)
    return place


def divisors(number: int) -> Array:
    """Divisors of `number`, ascending."""
    candidates = np.arange(1, int(number**0.5) + 1)
    low = candidates[number % candidates == 0]
    return np.unique(np.concatenate([low, number // low])).astype(np.int64)


def layout_space(problem: Problem, axes: Axes) -> Space:
    """List the legal layouts of `problem` along `axes`."""
    return _space(problem, axes)


@lru_cache(maxsize=4)
def _space(problem: Problem, axes: Axes) -> Space:
    choices, stages = _degree_choices(problem, axes), _stage_choices(problem, axes)
    values = tuple(np.asarray(codes, np.int64) for codes in option_values(problem, axes))
    pairs = _pipelines(problem, axes)
    dropped: dict[str, int] = {}
    per_point = math.prod(len(codes) for codes in values)
    per_node = len(stages) * len(pairs) * per_point
    nodes = _nodes(problem, axes, choices, per_node, dropped)
    count = len(nodes["tensor_parallel"])
    layouts, points = np.zeros(count, np.int64), 0
    occurring: dict[str, set[int]] = {name: set() for name in POINT_FIELDS}
    for start in range(0, count, _LISTED):
        some = np.arange(start, min(start + _LISTED, count))
        rows, node, masks = _stages_of(problem, axes, values, nodes, some, dropped)
        legal, lost = _legal_pairs(problem, axes, pairs, rows)
        add_lost(dropped, "schedule: illegal, or without effect", lost * per_point)
        of_row = np.count_nonzero(legal, axis=1)
        count_options(dropped, values, masks, of_row)
        layouts[some] = np.bincount(node, of_row * layouts_of(masks), len(some)).astype(np.int64)
        possible = legal & (layouts_of(masks) > 0)[:, None]
        points += int(np.count_nonzero(possible))
        _note_values(occurring, rows, pairs, possible)
    shown = {name: tuple(sorted(found)) for name, found in occurring.items()}
    combinations = math.prod(len(degrees) for degrees in choices.values()) * per_node
    offsets = np.concatenate([[0], np.cumsum(layouts)])
    return Space(problem, axes, nodes, values, offsets, points, dropped, combinations, shown)


def _note_values(occurring: dict[str, set[int]], rows: Degreed, pairs: Array, possible: Array) -> None:
    """Note the values of every degree that layouts have."""
    alive = possible.any(axis=1)
    for name, values in rows.items():
        occurring[name].update(np.unique(values[alive]).tolist())
    used = pairs[possible.any(axis=0)]
    occurring["schedule"].update(used[:, 0].tolist())
    occurring["virtual_stages"].update(used[:, 1].tolist())


# ------------------------------------------------------------------------------------------------------- nodes
def _most_stages(shape: Architecture) -> int:
    """Layers that can stand on a pipeline stage of their own."""
    return shape.layers + shape.mtp_layers


def _degree_choices(problem: Problem, axes: Axes) -> dict[str, Array]:
    """Candidates of every degree of a node: divisors of what it must divide, within the study's bounds."""
    shape, of_ranks = problem.architecture, divisors(problem.ranks)
    experts = shape.experts
    one = np.ones(1, np.int64)
    of_experts, of_width = (divisors(experts.experts), divisors(experts.hidden)) if experts else (one, one)
    return {
        "tensor_parallel": axes.tensor_parallel.among(of_ranks),
        "context_parallel": axes.context_parallel.among(of_ranks),
        "micro_batch": axes.micro_batch.among(divisors(problem.global_batch)),
        "expert_parallel": axes.expert_parallel.among(of_experts) if experts else one,
        "expert_tensor_parallel": axes.expert_tensor_parallel.among(of_width) if experts else one,
    }


def _stage_choices(problem: Problem, axes: Axes) -> Array:
    of_ranks = divisors(problem.ranks)
    return axes.pipeline_parallel.among(of_ranks[of_ranks <= _most_stages(problem.architecture)])


def _nodes(
    problem: Problem, axes: Axes, choices: Mapping[str, Array], per_node: int, dropped: dict[str, int]
) -> dict[str, Array]:
    """Legal nodes: one degree is added at a time, and what is illegal already is dropped at once."""
    nodes: dict[str, Array] = {}
    later = math.prod(len(degrees) for degrees in choices.values()) * per_node
    size = 1
    for name, degrees in choices.items():
        later //= max(len(degrees), 1)
        nodes = {known: np.repeat(values, len(degrees)) for known, values in nodes.items()}
        nodes[name] = np.tile(degrees, size)
        for rule, legal in _NODE_RULES.get(name, {}).items():
            nodes, lost = _kept(nodes, legal(problem, axes, nodes))
            add_lost(dropped, rule, lost * later)
        size = len(nodes[name])
    return nodes


def _kept(rows: Degreed, legal: Array) -> tuple[dict[str, Array], int]:
    """The legal rows, and how many are lost."""
    lost = int(np.count_nonzero(~legal))
    return ({name: values[legal] for name, values in rows.items()} if lost else dict(rows)), lost


def _key_value_heads(problem: Problem, axes: Axes, rows: Degreed) -> Array:
    tp, heads = rows["tensor_parallel"], problem.architecture.key_value_heads
    if problem.architecture.latent is not None:  # every rank holds the whole compressed key/value
        return np.ones(tp.shape, bool)
    return np.asarray((heads % tp == 0) | (tp % heads == 0))


def _zigzag(problem: Problem, axes: Axes, rows: Degreed) -> Array:
    cp = rows["context_parallel"]
    return np.asarray((cp == 1) | (problem.sequence % (2 * cp) == 0))


def _expert_ranks(problem: Problem, axes: Axes, rows: Degreed) -> Array:
    ranks = rows["tensor_parallel"] * rows["context_parallel"] * rows["data_parallel"]
    return np.asarray(ranks % (rows["expert_parallel"] * rows["expert_tensor_parallel"]) == 0)


def _offered_replicas(problem: Problem, axes: Axes, rows: Degreed) -> Array:
    dp = rows["data_parallel"]
    return np.isin(dp, axes.data_parallel.among(np.unique(dp)))


Rule = Callable[[Problem, Axes, Degreed], Array]
# The degree that completes a rule -> rule -> which combinations it keeps.
_NODE_RULES: dict[str, dict[str, Rule]] = {
    "tensor_parallel": {
        "tp divides the attention heads": lambda p, a, x: p.architecture.heads % x["tensor_parallel"] == 0,
        "tp divides the key/value heads, or is a multiple of them": _key_value_heads,
        "tp divides the feed-forward width": lambda p, a, x: p.architecture.feed_forward % x["tensor_parallel"] == 0,
    },
    "context_parallel": {
        "tp x cp divides the ranks": lambda p, a, x: p.ranks % (x["tensor_parallel"] * x["context_parallel"]) == 0,
        "2 cp divides the sequence": _zigzag,
    },
}
_STAGE_RULES: dict[str, Rule] = {
    "tp x cp x pp x dp equals the ranks": lambda p, a, x: x["data_parallel"] > 0,
    "dp is among the study's": _offered_replicas,
    "mbs x dp divides the batch": lambda p, a, x: p.global_batch % (x["micro_batch"] * x["data_parallel"]) == 0,
    "ep x etp divides tp x cp x dp": _expert_ranks,
}


# ------------------------------------------------------------------------------------------------------ stages
def _stages_of(
    problem: Problem, axes: Axes, values: tuple[Array, ...], nodes: Degreed, some: Array, dropped: dict[str, int]
) -> tuple[dict[str, Array], Array, Array]:
    """Every legal number of stages of some nodes: degrees, place of the node, bits of the options allowed."""
    choices = _stage_choices(problem, axes)
    rows = {name: np.repeat(column[some], len(choices)) for name, column in nodes.items()}
    rows["node"] = np.repeat(np.arange(len(some)), len(choices))
    rows["pipeline_parallel"] = np.tile(choices, len(some))
    inside = rows["tensor_parallel"] * rows["context_parallel"] * rows["pipeline_parallel"]
    replicas = problem.ranks // inside
    rows["data_parallel"] = np.where(replicas * inside == problem.ranks, replicas, 0)
    per_row = len(_pipelines(problem, axes)) * math.prod(len(codes) for codes in values)
    for rule, legal in _STAGE_RULES.items():
        rows, lost = _kept(rows, legal(problem, axes, rows))
        add_lost(dropped, rule, lost * per_row)
    node = rows.pop("node")
    return rows, node, allowed(problem, axes, values, rows)


def _pipelines(problem: Problem, axes: Axes) -> Array:
    """Pairs of schedule and chunks a stage on offer; without a pipeline it is 1F1B and one, offered or not."""
    virtual = [int(v) for v in axes.virtual_stages.among(np.arange(1, _most_stages(problem.architecture) + 1))]
    pairs = [(schedule, v) for schedule in axes.schedule for v in virtual if _chunks_fit(schedule, v)]
    return np.asarray(list(dict.fromkeys([(_1F1B, 1), *pairs])), dtype=np.int64)


def _chunks_fit(schedule: int, chunks: int) -> bool:
    """Whether a schedule cuts a stage into this many chunks: several interleaved, two in ZB-V, else one."""
    if schedule == _INTERLEAVED:
        return chunks > 1
    return chunks == (2 if schedule == _ZBV else 1)


def _legal_pairs(problem: Problem, axes: Axes, pairs: Array, rows: Degreed) -> tuple[Array, int]:
    """Rows of stages x pairs of schedule and chunks: which are legal, and how many are not."""
    pp = rows["pipeline_parallel"]
    batches = problem.global_batch // (rows["micro_batch"] * rows["data_parallel"])
    whole = batches % pp == 0
    dual = (pp % 2 == 0) & (batches % 2 == 0) & (batches >= 2 * pp)
    most = _most_stages(problem.architecture)
    legal = np.empty((len(pp), len(pairs)), bool)
    for i, (schedule, chunks) in enumerate(pairs.tolist()):
        offered = schedule in axes.schedule and len(axes.virtual_stages.among(np.array([chunks]))) == 1
        column = (pp > 1) & (pp * chunks <= most) if offered else np.zeros(len(pp), bool)
        if schedule == _INTERLEAVED:
            column &= whole
        elif schedule == _DUALPIPE:
            column &= dual
        legal[:, i] = column | (pp == 1) if (schedule, chunks) == (_1F1B, 1) else column
    return legal, int(np.count_nonzero(~legal))
