"""The options of a layout beside its degrees: which values each point of a space allows.

Options multiply. One that has no effect on a point takes its neutral value there, whatever the study lists for it, so
that layouts that cost the same by construction are listed once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from model.layout import CONTEXT_EXCHANGES, OVERLAPS, Array
from sweep.axes import Axes, Degreed, Problem

# The axes of a mesh before its points, in the order of a layout's number.
OPTION_FIELDS = (
    "sequence_parallel", "recompute", "context_exchange", "overlap_off", "offload", "zero_stage", "rank_order",
)  # fmt: skip
_ALL_TO_ALL = CONTEXT_EXCHANGES.index("all_to_all")


def set_bits(masks: Array) -> Array:
    """Number of bits that are set."""
    return np.bitwise_count(masks).astype(np.int64)


def layouts_of(masks: Array) -> Array:
    """Layouts that each row of masks allows."""
    return np.asarray(np.prod(set_bits(masks), axis=1))


def allowed(problem: Problem, axes: Axes, values: tuple[Array, ...], rows: Degreed) -> Array:
    """Rows x option axes: bits of the values that each row of degrees allows."""
    masks = np.empty((len(rows["tensor_parallel"]), len(OPTION_FIELDS)), np.int64)
    for axis, (name, codes) in enumerate(zip(OPTION_FIELDS, values, strict=True)):
        legal = _ALLOWED[name](problem, axes, rows, codes)
        masks[:, axis] = legal @ (1 << np.arange(len(codes), dtype=np.int64))
    return masks


def add_lost(dropped: dict[str, int], rule: str, lost: int) -> None:
    """Note combinations that a rule is the first to drop."""
    if lost:
        dropped[rule] = dropped.get(rule, 0) + lost


def option_values(problem: Problem, axes: Axes) -> Iterator[tuple[int, ...]]:
    """Values on offer along each option axis, the neutral one included."""

    def with_neutral(values: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(dict.fromkeys((0, *values)))

    known = sum(1 << OVERLAPS.index(name) for name in problem.overlaps)
    yield with_neutral(axes.sequence_parallel)
    yield problem.recompute_codes(axes)
    yield with_neutral(axes.context_exchange)
    yield tuple(sorted({code & part & known for code in axes.overlap_off for part in range(1 << len(OVERLAPS))}))
    yield axes.offload if problem.host else tuple(dict.fromkeys((0, *axes.offload)))
    yield axes.zero_stage
    yield with_neutral(axes.rank_order)


_OPTION_NAMES = (
    "sequence parallelism", "recomputation", "context exchange", "overlaps", "offloading", "ZeRO stage", "rank order",
)  # fmt: skip


def count_options(dropped: dict[str, int], values: tuple[Array, ...], masks: Array, points: Array) -> None:
    """Note the combinations that each option is the first to drop; `points` of each row of stages."""
    total = points.astype(np.int64)
    for axis, (name, codes) in enumerate(zip(_OPTION_NAMES, values, strict=True)):
        counts = set_bits(masks[:, axis])
        later = math.prod(len(other) for other in values[axis + 1 :])
        add_lost(dropped, f"{name}: illegal, or without effect", int((total * (len(codes) - counts)).sum()) * later)
        total = total * counts


def _neutral(without_effect: Array, values: Array, neutral: int, legal: Array) -> Array:
    """Rows x values: the neutral value alone where the axis has no effect, else the legal ones."""
    return np.asarray(np.where(without_effect[:, None], values == neutral, legal))


def _sequence_parallel(problem: Problem, axes: Axes, rows: Degreed, values: Array) -> Array:
    tp = rows["tensor_parallel"]
    shard = problem.sequence // rows["context_parallel"]
    legal = np.isin(values, axes.sequence_parallel) & ((values == 0) | (shard % tp == 0)[:, None])
    legal &= (values == 1) | (rows["expert_parallel"] == 1)[:, None]  # Megatron-Core demands it of experts under tp
    return _neutral(tp == 1, values, 0, legal)


def _recompute(problem: Problem, axes: Axes, rows: Degreed, values: Array) -> Array:
    return np.ones((len(rows["tensor_parallel"]), len(values)), bool)


def _context_exchange(problem: Problem, axes: Axes, rows: Degreed, values: Array) -> Array:
    cp = rows["context_parallel"]
    fits = (problem.architecture.heads % (rows["tensor_parallel"] * cp) == 0)[:, None]
    legal = np.isin(values, axes.context_exchange) & ((values != _ALL_TO_ALL) | fits)
    return _neutral(cp == 1, values, 0, legal)


def _alone(rows: Degreed) -> Array:
    """Where no weight has a second copy."""
    replicas = rows["data_parallel"] * rows["context_parallel"]
    inner = rows["expert_parallel"] * rows["expert_tensor_parallel"]
    return np.asarray((replicas == 1) & (replicas * rows["tensor_parallel"] == inner))


def _overlap_off(problem: Problem, axes: Axes, rows: Degreed, values: Array) -> Array:
    effect = (rows["tensor_parallel"] > 1) << OVERLAPS.index("tensor")
    effect = effect | (rows["expert_parallel"] > 1) << OVERLAPS.index("expert")
    effect = effect | ~_alone(rows) << OVERLAPS.index("data")
    table = [np.isin(values, np.asarray(axes.overlap_off) & code) for code in range(1 << len(OVERLAPS))]
    known = sum(1 << OVERLAPS.index(name) for name in problem.overlaps)
    return np.asarray(np.stack(table)[effect & known])


def _offload(problem: Problem, axes: Axes, rows: Degreed, values: Array) -> Array:
    legal = np.isin(values, axes.offload) & (problem.host | (values == 0))
    return np.broadcast_to(legal, (len(rows["tensor_parallel"]), len(values)))


def _zero_stage(problem: Problem, axes: Axes, rows: Degreed, values: Array) -> Array:
    legal = (values < 2) | (rows["pipeline_parallel"] == 1)[:, None]
    return np.asarray(_neutral(_alone(rows), values, min(axes.zero_stage), legal) & legal)


def _rank_order(problem: Problem, axes: Axes, rows: Degreed, values: Array) -> Array:
    fixed = (rows["pipeline_parallel"] == 1) | (rows["data_parallel"] == 1)
    offered = np.isin(values, axes.rank_order)
    return _neutral(fixed, values, 0, np.broadcast_to(offered, (len(fixed), len(offered))))


_ALLOWED: dict[str, Callable[[Problem, Axes, Degreed, Array], Array]] = {
    "sequence_parallel": _sequence_parallel,
    "recompute": _recompute,
    "context_exchange": _context_exchange,
    "overlap_off": _overlap_off,
    "offload": _offload,
    "zero_stage": _zero_stage,
    "rank_order": _rank_order,
}
