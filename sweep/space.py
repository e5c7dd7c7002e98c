"""Every legal layout of one model on one number of ranks, as a list that is decoded where it is looked at.

The list has two levels. A *grid point* fixes the degrees of parallelism, the microbatch and the pipeline schedule; the
options of each point (sequence parallelism, recomputation, ZeRO stage, ...) multiply. A point stores how many options
each axis allows it, so a layout's number is decoded with a search and a few divisions, and no more than a block of
layouts ever exists. Layouts that cost the same by construction are listed once: an option that has no effect takes its
neutral value, whatever the study lists for it.

The order is part of the contract of a run: grid points by ascending degrees, the first option slowest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from model.architecture import Architecture
from model.layout import CONTEXT_EXCHANGES, SCHEDULES, Array, Layout, recompute_code

BLOCK = 1 << 14  # layouts evaluated at once: temporaries stay in the second-level cache
_1F1B, _INTERLEAVED = SCHEDULES.index("1f1b"), SCHEDULES.index("interleaved")
_ZBV, _DUALPIPE = SCHEDULES.index("zb-v"), SCHEDULES.index("dualpipe")
Points = Mapping[str, Array]
_ALL_TO_ALL = CONTEXT_EXCHANGES.index("all_to_all")


@dataclass(frozen=True, slots=True)
class Degrees:
    """The values that a study allows a degree: a list, or every legal one within bounds."""

    values: tuple[int, ...] | None = None
    low: int = 1
    high: int = 1 << 30

    def among(self, candidates: Array) -> Array:
        """The allowed ones of `candidates`, ascending."""
        if self.values is not None:
            return np.intersect1d(candidates, np.asarray(self.values, dtype=np.int64))
        return candidates[(candidates >= self.low) & (candidates <= self.high)]


@dataclass(frozen=True, slots=True)
class Axes:
    """What a study lets the layouts vary over. The defaults are the axes of a study that narrows nothing."""

    tensor_parallel: Degrees = Degrees(high=64)
    context_parallel: Degrees = Degrees(high=16)
    pipeline_parallel: Degrees = Degrees()
    virtual_stages: Degrees = Degrees(high=8)
    data_parallel: Degrees = Degrees()
    expert_parallel: Degrees = Degrees()
    expert_tensor_parallel: Degrees = Degrees(high=8)
    micro_batch: Degrees = Degrees(high=8)
    sequence_parallel: tuple[int, ...] = (0, 1)
    recompute: tuple[tuple[str, ...], ...] = (("none",), ("selective",), ("full",))
    zero_stage: tuple[int, ...] = (0, 1, 3)
    schedule: tuple[int, ...] = (_1F1B, _INTERLEAVED)
    context_exchange: tuple[int, ...] = (0, 1)
    rank_order: tuple[int, ...] = (0, 1)


@dataclass(frozen=True, slots=True)
class Problem:
    """What the legality of a layout depends on."""

    architecture: Architecture
    sequence: int
    ranks: int
    global_batch: int  # sequences
    selective: tuple[str, ...]  # the modules that "selective" recomputes in this software stack

    def recompute_codes(self, axes: Axes) -> tuple[int, ...]:
        """Bit masks of the study's recompute choices, each once, in the study's order."""
        codes = [recompute_code(self.selective if m == ("selective",) else m) for m in axes.recompute]
        return tuple(dict.fromkeys(codes))


@dataclass(frozen=True, slots=True)
class Option:
    """One axis of options: which of its values each grid point allows."""

    field: str  # of Layout
    table: Array  # kind of point x position -> value
    kind: Array  # of each point
    counts: Array  # allowed values of each point


@dataclass(frozen=True)
class Space:
    """The legal layouts of a problem, numbered from 0 to `count` - 1."""

    points: Mapping[str, Array]  # degree -> value of each grid point
    options: tuple[Option, ...]
    offsets: Array  # first layout of each point, and the count
    global_batch: int
    dropped: Mapping[str, int]  # rule -> combinations that it is the first to drop
    combinations: int  # of all axes, before any rule
    axes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # values on offer, for people

    @property
    def count(self) -> int:
        """Number of legal layouts."""
        return int(self.offsets[-1])

    def decode(self, start: int, stop: int) -> Layout:
        """The layouts `start` to `stop` - 1, flat."""
        first, last = np.searchsorted(self.offsets, (start, stop - 1), side="right") - 1
        sizes = np.diff(self.offsets[first : last + 2])
        sizes[-1] = stop - self.offsets[last]
        inside = np.arange(start - self.offsets[first], stop - self.offsets[first], dtype=np.int64)
        sizes[0] -= start - self.offsets[first]
        point = np.repeat(np.arange(first, last + 1), sizes)
        inside -= np.repeat(self.offsets[first : last + 1] - self.offsets[first], sizes)
        return self._layout(point, inside.astype(np.int32))

    def take(self, numbers: Array) -> Layout:
        """The layouts of the given numbers, flat."""
        point = np.searchsorted(self.offsets, numbers, side="right") - 1
        return self._layout(point, (numbers - self.offsets[point]).astype(np.int32))

    def of_points(self, points: Array) -> tuple[Array, Layout]:
        """Numbers and layouts of all options of the given grid points."""
        sizes = self.offsets[points + 1] - self.offsets[points]
        before = np.cumsum(sizes) - sizes
        inside = np.arange(int(sizes.sum()), dtype=np.int64) - np.repeat(before, sizes)
        point = np.repeat(points, sizes)
        return self.offsets[point] + inside, self._layout(point, inside.astype(np.int32))

    def find(self, wanted: Layout) -> Array:
        """Numbers of flat layouts; -1 where one is not legal. An option without effect may have any value."""
        names = list(self.points)
        own = np.stack([self.points[name] for name in names], axis=1)
        sought = np.stack([np.asarray(getattr(wanted, name)) for name in names], axis=1)
        _, code = np.unique(np.concatenate([own, sought]), axis=0, return_inverse=True)
        own_code, sought_code = code[: len(own)], code[len(own) :]
        order = np.argsort(own_code)
        place = np.minimum(np.searchsorted(own_code, sought_code, sorter=order), max(len(own) - 1, 0))
        point = order[place]
        found = own_code[point] == sought_code
        inside = np.zeros(len(sought), np.int64)
        for option in self.options:
            counts = option.counts[point]
            legal = option.table[option.kind[point]] == np.asarray(getattr(wanted, option.field))[:, None]
            legal &= np.arange(option.table.shape[1]) < counts[:, None]
            found &= legal.any(axis=1) | (counts == 1)
            inside = inside * counts + np.where(legal.any(axis=1), legal.argmax(axis=1), 0)
        return np.where(found, self.offsets[point] + inside, -1)

    def point_layouts(self, points: Array, **options: int) -> Layout:
        """The given grid points as a layout with the named options, legal or not; for bounds."""
        degrees = {name: values[points] for name, values in self.points.items()}
        fixed = {name: np.full(points.shape, value, np.int64) for name, value in options.items()}
        return Layout(global_batch=np.full(points.shape, self.global_batch, np.int64), **degrees | fixed)

    def _layout(self, point: Array, inside: Array) -> Layout:
        chosen: dict[str, Any] = {name: values[point] for name, values in self.points.items()}
        for option in reversed(self.options):
            counts = option.counts[point]
            inside, position = np.divmod(inside, counts)
            chosen[option.field] = option.table[option.kind[point], position]
        return Layout(global_batch=np.full(point.shape, self.global_batch, np.int64), **chosen)


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
    choices = _degree_choices(problem, axes)
    dropped: dict[str, int] = {}
    per_point = math.prod(len(values) for _, values in _option_values(problem, axes).values())
    per_point *= len(_pipelines(problem, axes))
    points = _points(problem, axes, choices, per_point, dropped)
    options, offsets = _options(problem, axes, points, dropped)
    combinations = math.prod(len(degrees) for degrees in choices.values()) * per_point
    shown = {name: tuple(int(v) for v in degrees) for name, degrees in choices.items()}
    return Space(points, options, offsets, problem.global_batch, dropped, combinations, shown)


# ------------------------------------------------------------------------------------------------- grid points
def _stages(shape: Architecture) -> int:
    """Layers that can stand on a pipeline stage of their own."""
    return shape.layers + shape.mtp_layers


def _degree_choices(problem: Problem, axes: Axes) -> dict[str, Array]:
    """Candidates of every degree: divisors of what it must divide, within the study's bounds."""
    shape, of_ranks = problem.architecture, divisors(problem.ranks)
    experts = shape.experts
    one = np.ones(1, np.int64)
    of_experts, of_width = (divisors(experts.experts), divisors(experts.hidden)) if experts else (one, one)
    return {  # the pipeline last: what a layer costs does not depend on it, so neighbours share their layers
        "tensor_parallel": axes.tensor_parallel.among(of_ranks),
        "context_parallel": axes.context_parallel.among(of_ranks),
        "micro_batch": axes.micro_batch.among(divisors(problem.global_batch)),
        "expert_parallel": axes.expert_parallel.among(of_experts) if experts else one,
        "expert_tensor_parallel": axes.expert_tensor_parallel.among(of_width) if experts else one,
        "pipeline_parallel": axes.pipeline_parallel.among(of_ranks[of_ranks <= _stages(shape)]),
    }


def _pipelines(problem: Problem, axes: Axes) -> Array:
    """Pairs of schedule and chunks a stage on offer; without a pipeline it is 1F1B and one, offered or not."""
    virtual = [int(v) for v in axes.virtual_stages.among(np.arange(1, _stages(problem.architecture) + 1))]
    pairs = [(schedule, v) for schedule in axes.schedule for v in virtual if _chunks_fit(schedule, v)]
    return np.asarray(list(dict.fromkeys([(_1F1B, 1), *pairs])), dtype=np.int64)


def _chunks_fit(schedule: int, chunks: int) -> bool:
    """Whether a schedule cuts a stage into this many chunks: several interleaved, two in ZB-V, else one."""
    if schedule == _INTERLEAVED:
        return chunks > 1
    return chunks == (2 if schedule == _ZBV else 1)


def _points(problem: Problem, axes: Axes, choices: Points, per_point: int, dropped: dict[str, int]) -> dict[str, Array]:
    """Legal grid points: one degree is added at a time, and what is illegal already is dropped at once."""
    points: dict[str, Array] = {}
    later = math.prod(len(degrees) for degrees in choices.values()) * per_point
    size = 1
    for name, degrees in choices.items():
        later //= max(len(degrees), 1)
        points = {known: np.repeat(values, len(degrees)) for known, values in points.items()}
        points[name] = np.tile(degrees, size)
        if name == "pipeline_parallel":
            inside = points["tensor_parallel"] * points["context_parallel"] * points[name]
            points["data_parallel"] = np.where(problem.ranks % inside == 0, problem.ranks // inside, 0)
        for rule, legal in _RULES.get(name, {}).items():
            kept = legal(problem, axes, points)
            if lost := int(np.count_nonzero(~kept)):
                dropped[rule] = lost * later
                points = {known: values[kept] for known, values in points.items()}
        size = len(points[name])
    return _with_schedules(problem, axes, points, per_point, dropped)


def _with_schedules(
    problem: Problem, axes: Axes, points: Points, per_point: int, dropped: dict[str, int]
) -> dict[str, Array]:
    """Every point with every schedule that it allows."""
    pairs = _pipelines(problem, axes)
    schedule, chunks = pairs[:, 0], pairs[:, 1]
    plain = (pairs == (_1F1B, 1)).all(axis=1)
    offered = np.isin(schedule, axes.schedule) & np.isin(chunks, axes.virtual_stages.among(np.unique(chunks)))
    pp = points["pipeline_parallel"][:, None]
    batches = (problem.global_batch // (points["micro_batch"] * points["data_parallel"]))[:, None]
    legal = offered & (pp * chunks <= _stages(problem.architecture))
    legal &= (schedule != _INTERLEAVED) | (batches % pp == 0)
    legal &= (schedule != _DUALPIPE) | ((pp % 2 == 0) & (batches % 2 == 0) & (batches >= 2 * pp))
    legal = np.where(pp == 1, plain, legal)
    if lost := int(np.count_nonzero(~legal)):
        dropped["schedule: illegal, or without effect"] = lost * (per_point // len(pairs))
    point, pair = np.nonzero(legal)
    chosen = {name: values[point] for name, values in points.items()}
    return chosen | {"schedule": schedule[pair], "virtual_stages": chunks[pair]}


def _key_value_heads(problem: Problem, axes: Axes, points: Points) -> Array:
    tp, heads = points["tensor_parallel"], problem.architecture.key_value_heads
    if problem.architecture.latent is not None:  # every rank holds the whole compressed key/value
        return np.ones(tp.shape, bool)
    return np.asarray((heads % tp == 0) | (tp % heads == 0))


def _zigzag(problem: Problem, axes: Axes, points: Points) -> Array:
    cp = points["context_parallel"]
    return np.asarray((cp == 1) | (problem.sequence % (2 * cp) == 0))


def _expert_ranks(problem: Problem, axes: Axes, points: Points) -> Array:
    ranks = points["tensor_parallel"] * points["context_parallel"] * points["data_parallel"]
    return np.asarray(ranks % (points["expert_parallel"] * points["expert_tensor_parallel"]) == 0)


def _offered_replicas(problem: Problem, axes: Axes, points: Points) -> Array:
    dp = points["data_parallel"]
    return np.isin(dp, axes.data_parallel.among(np.unique(dp)))


Rule = Callable[[Problem, Axes, Points], Array]
# The degree that completes a rule -> rule -> which combinations it keeps.
_RULES: dict[str, dict[str, Rule]] = {
    "tensor_parallel": {
        "tp divides the attention heads": lambda p, a, x: p.architecture.heads % x["tensor_parallel"] == 0,
        "tp divides the key/value heads, or is a multiple of them": _key_value_heads,
        "tp divides the feed-forward width": lambda p, a, x: p.architecture.feed_forward % x["tensor_parallel"] == 0,
    },
    "context_parallel": {"2 cp divides the sequence": _zigzag},
    "pipeline_parallel": {
        "tp x cp x pp x dp equals the ranks": lambda p, a, x: x["data_parallel"] > 0,
        "dp is among the study's": _offered_replicas,
        "mbs x dp divides the batch": lambda p, a, x: p.global_batch % (x["micro_batch"] * x["data_parallel"]) == 0,
        "ep x etp divides tp x cp x dp": _expert_ranks,
    },
}


# ----------------------------------------------------------------------------------------------------- options
def _option_values(problem: Problem, axes: Axes) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Axis of options -> the layout field it sets and the values on offer, the neutral one included."""

    def with_neutral(values: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(dict.fromkeys((0, *values)))

    return {
        "sequence parallelism": ("sequence_parallel", with_neutral(axes.sequence_parallel)),
        "recomputation": ("recompute", problem.recompute_codes(axes)),
        "context exchange": ("context_exchange", with_neutral(axes.context_exchange)),
        "ZeRO stage": ("zero_stage", axes.zero_stage),
        "rank order": ("rank_order", with_neutral(axes.rank_order)),
    }


def _options(problem: Problem, axes: Axes, points: Points, dropped: dict[str, int]) -> tuple[tuple[Option, ...], Array]:
    """Which options each point allows, and the number of its first layout."""
    offered = _option_values(problem, axes)
    sizes = [len(values) for _, values in offered.values()]
    total = np.ones(len(points["tensor_parallel"]), np.int64)
    built = []
    for i, (name, (field_name, values)) in enumerate(offered.items()):
        codes = np.asarray(values, dtype=np.int64)
        allowed = _ALLOWED[name](problem, axes, points, codes)
        mask = allowed @ (1 << np.arange(len(codes), dtype=np.int64))
        _, first, kind = np.unique(mask, return_index=True, return_inverse=True)
        table = codes[np.argsort(~allowed[first], axis=1, kind="stable")]
        counts = allowed.sum(axis=1)
        if lost := int((total * (len(codes) - counts)).sum()) * math.prod(sizes[i + 1 :]):
            dropped[f"{name}: illegal, or without effect"] = lost
        total = total * counts
        built.append(Option(field_name, table, kind, counts.astype(np.int32)))
    return tuple(built), np.concatenate([[0], np.cumsum(total)])


def _neutral(without_effect: Array, values: Array, neutral: int, legal: Array) -> Array:
    """Points x values: the neutral value alone where the axis has no effect, else the legal ones."""
    return np.asarray(np.where(without_effect[:, None], values == neutral, legal))


def _sequence_parallel(problem: Problem, axes: Axes, points: Points, values: Array) -> Array:
    tp = points["tensor_parallel"]
    shard = problem.sequence // points["context_parallel"]
    legal = np.isin(values, axes.sequence_parallel) & ((values == 0) | (shard % tp == 0)[:, None])
    legal &= (values == 1) | (points["expert_parallel"] == 1)[:, None]  # Megatron-Core demands it of experts under tp
    return _neutral(tp == 1, values, 0, legal)


def _recompute(problem: Problem, axes: Axes, points: Points, values: Array) -> Array:
    return np.ones((len(points["tensor_parallel"]), len(values)), bool)


def _context_exchange(problem: Problem, axes: Axes, points: Points, values: Array) -> Array:
    cp = points["context_parallel"]
    fits = (problem.architecture.heads % (points["tensor_parallel"] * cp) == 0)[:, None]
    legal = np.isin(values, axes.context_exchange) & ((values != _ALL_TO_ALL) | fits)
    return _neutral(cp == 1, values, 0, legal)


def _zero_stage(problem: Problem, axes: Axes, points: Points, values: Array) -> Array:
    replicas = points["data_parallel"] * points["context_parallel"]
    inner = points["expert_parallel"] * points["expert_tensor_parallel"]
    alone = (replicas == 1) & (replicas * points["tensor_parallel"] == inner)
    legal = (values < 2) | (points["pipeline_parallel"] == 1)[:, None]
    return np.asarray(_neutral(alone, values, min(axes.zero_stage), legal) & legal)


def _rank_order(problem: Problem, axes: Axes, points: Points, values: Array) -> Array:
    fixed = (points["pipeline_parallel"] == 1) | (points["data_parallel"] == 1)
    offered = np.isin(values, axes.rank_order)
    return _neutral(fixed, values, 0, np.broadcast_to(offered, (len(fixed), len(offered))))


_ALLOWED = {
    "sequence parallelism": _sequence_parallel,
    "recomputation": _recompute,
    "context exchange": _context_exchange,
    "ZeRO stage": _zero_stage,
    "rank order": _rank_order,
}
