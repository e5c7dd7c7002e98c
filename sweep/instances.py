"""Every legal instance of a served model on at most so many ranks, numbered; how many of them run is another matter.

A pipeline stage has tensor x context x data ranks, over which the experts of a layer are laid in groups of
`expert_parallel`, the rest dividing each expert. Degrees of attention data parallelism therefore follow from the
experts; a dense model has one attention group, and more of it are more instances.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from model.architecture import Architecture
from model.layout import Array
from model.serving.instance import Instance
from sweep.axes import InstanceAxes
from sweep.space import divisors
from sweep.work import Phase

Rows = dict[str, Array]


@dataclass(frozen=True, slots=True)
class InstanceProblem:
    """What the legality of an instance depends on."""

    architecture: Architecture
    ranks: int
    phase: Phase
    chunk: int  # prompt tokens of one pass, where the study does not say
    redundant: tuple[int, ...] = (0,)  # numbers of redundant experts on offer
    drafts: int = 0  # tokens that may be drafted without modules of the model's own


@dataclass(frozen=True)
class InstanceSpace:
    """The legal instances of a problem at every batch on offer, numbered from 0 to `count` - 1; batches fastest."""

    problem: InstanceProblem
    axes: InstanceAxes
    rows: Mapping[str, Array]  # fields of Instance but the batch, `redundant`, and `expert_tensor_parallel`
    batches: tuple[int, ...]  # of an attention group; empty: to be solved
    dropped: Mapping[str, int]
    combinations: int

    @property
    def size(self) -> int:
        """Instances without their batches."""
        return len(self.rows["tensor_parallel"])

    @property
    def points(self) -> int:
        """Instances without their batches, as plans count them."""
        return self.size

    @property
    def count(self) -> int:
        """Instances with their batches."""
        return self.size * max(1, len(self.batches))

    @property
    def degrees(self) -> dict[str, tuple[int, ...]]:
        """Values that legal instances have."""
        return {name: tuple(np.unique(values).tolist()) for name, values in self.rows.items()}

    def take(self, numbers: Array) -> tuple[Instance, Rows]:
        """Instances of these numbers, and their columns that are no field of theirs. A batch to be solved is 0."""
        row, at = np.divmod(np.asarray(numbers, np.int64), max(1, len(self.batches)))
        chosen = {name: values[row] for name, values in self.rows.items()}
        more = {name: chosen.pop(name) for name in ("redundant", "expert_tensor_parallel")}
        each = np.asarray(self.batches, np.int64)[at] if self.batches else np.zeros(len(row), np.int64)
        return Instance(batch=each * chosen["data_parallel"], **chosen), more


def instance_space(problem: InstanceProblem, axes: InstanceAxes) -> InstanceSpace:
    """List the legal instances of `problem` along `axes`."""
    return _space(problem, axes)


@lru_cache(maxsize=16)
def _space(problem: InstanceProblem, axes: InstanceAxes) -> InstanceSpace:
    choices = _choices(problem, axes)
    dropped: dict[str, int] = {}
    combinations = later = math.prod(len(values) for values in choices.values())
    rows: Rows = {}
    for name, values in choices.items():
        later //= max(len(values), 1)
        size = len(next(iter(rows.values()))) if rows else 1
        rows = {known: np.repeat(column, len(values)) for known, column in rows.items()}
        rows[name] = np.tile(values, size)
        for rule, legal in _RULES.get(name, {}).items():
            keep = legal(problem, axes, rows)
            lost = int(np.count_nonzero(~keep))
            if lost:
                dropped[rule] = dropped.get(rule, 0) + lost * later
                rows = {known: column[keep] for known, column in rows.items()}
    stage = rows["expert_parallel"] * rows["expert_tensor_parallel"]
    own = rows["tensor_parallel"] * rows["context_parallel"]
    rows["data_parallel"] = stage // own if problem.architecture.experts else np.ones(len(own), np.int64)
    return InstanceSpace(problem, axes, rows, axes.batch, dropped, combinations)


# ------------------------------------------------------------------------------------------------------ choices
def _choices(problem: InstanceProblem, axes: InstanceAxes) -> dict[str, Array]:
    """Candidates of every field, in the order in which instances are numbered, the slowest first."""
    shape, ranks = problem.architecture, problem.ranks
    experts = shape.experts
    one = np.ones(1, np.int64)
    redundant = np.asarray(sorted(set(problem.redundant)) if experts else [0], np.int64)
    of_experts = one
    if experts:
        of_experts = np.unique(np.concatenate([divisors(experts.experts + int(r)) for r in redundant]))
    small = 1 << np.arange(int(ranks).bit_length())
    stages = np.unique(np.concatenate([divisors(shape.layers), small]))
    drafting, prompts = problem.phase != "prefill", problem.phase != "decode"
    drafts = [n for n in axes.draft_tokens if n == 0 or shape.mtp_layers or n <= problem.drafts] if drafting else [0]
    return {
        "redundant": redundant,
        "tensor_parallel": axes.tensor_parallel.among(_up_to(divisors(shape.heads), ranks)),
        "context_parallel": axes.context_parallel.among(_up_to(small, ranks)),
        "pipeline_parallel": axes.pipeline_parallel.among(_up_to(stages, min(ranks, shape.layers))),
        "expert_parallel": axes.expert_parallel.among(_up_to(of_experts, ranks)) if experts else one,
        "expert_tensor_parallel": (
            axes.expert_tensor_parallel.among(_up_to(divisors(experts.hidden), ranks)) if experts else one
        ),
        "micro_batches": np.asarray(axes.micro_batches, np.int64),
        "draft_tokens": np.asarray(drafts, np.int64),
        "chunk": np.unique([n or problem.chunk for n in axes.chunk] if prompts else [0]),
    }


def _up_to(values: Array, most: int) -> Array:
    return np.asarray(values[values <= most], np.int64)


# -------------------------------------------------------------------------------------------------------- rules
Rule = Callable[[InstanceProblem, InstanceAxes, Rows], Array]


def _key_value_heads(problem: InstanceProblem, axes: InstanceAxes, rows: Rows) -> Array:
    tp, heads = rows["tensor_parallel"], problem.architecture.key_value_heads
    if problem.architecture.latent is not None:  # every rank holds the whole compressed key/value
        return np.ones(tp.shape, bool)
    return np.asarray((heads % tp == 0) | (tp % heads == 0))


def _no_empty_stage(problem: InstanceProblem, axes: InstanceAxes, rows: Rows) -> Array:
    pp, layers = rows["pipeline_parallel"], problem.architecture.layers
    return np.asarray(-(-layers // pp) * (pp - 1) < layers)


def _experts_divide(problem: InstanceProblem, axes: InstanceAxes, rows: Rows) -> Array:
    experts = problem.architecture.experts
    if experts is None:
        return np.ones(rows["expert_parallel"].shape, bool)
    return np.asarray((experts.experts + rows["redundant"]) % rows["expert_parallel"] == 0)


def _groups(problem: InstanceProblem, rows: Rows) -> tuple[Array, Array]:
    """Attention groups of a stage, rounded down, and where they are whole."""
    stage = rows["expert_parallel"] * rows["expert_tensor_parallel"]
    own = rows["tensor_parallel"] * rows["context_parallel"]
    if problem.architecture.experts is None:
        return np.ones(stage.shape, np.int64), np.ones(stage.shape, bool)
    return stage // own, (stage % own == 0) & (stage >= own)


def _whole_groups(problem: InstanceProblem, axes: InstanceAxes, rows: Rows) -> Array:
    return _groups(problem, rows)[1]


def _offered_groups(problem: InstanceProblem, axes: InstanceAxes, rows: Rows) -> Array:
    groups = _groups(problem, rows)[0]
    return np.isin(groups, axes.data_parallel.among(np.unique(groups)))


def _fits_the_cluster(problem: InstanceProblem, axes: InstanceAxes, rows: Rows) -> Array:
    own = rows["tensor_parallel"] * rows["context_parallel"]
    return np.asarray(own * _groups(problem, rows)[0] * rows["pipeline_parallel"] <= problem.ranks)


def _copies_travel(problem: InstanceProblem, axes: InstanceAxes, rows: Rows) -> Array:
    return np.asarray((rows["redundant"] == 0) | (_groups(problem, rows)[0] > 1))


def _halves_travel(problem: InstanceProblem, axes: InstanceAxes, rows: Rows) -> Array:
    return np.asarray((rows["micro_batches"] == 1) | (_groups(problem, rows)[0] > 1))


# The field that completes a rule -> rule -> which combinations it keeps.
_RULES: Mapping[str, Mapping[str, Rule]] = {
    "tensor_parallel": {
        "tp divides the key/value heads, or is a multiple of them": _key_value_heads,
        "tp divides the feed-forward width": lambda p, a, x: p.architecture.feed_forward % x["tensor_parallel"] == 0,
    },
    "pipeline_parallel": {
        "no stage is without layers": _no_empty_stage,
        "tp x cp x pp is at most the ranks": lambda p, a, x: (
            x["tensor_parallel"] * x["context_parallel"] * x["pipeline_parallel"] <= p.ranks
        ),
    },
    "expert_parallel": {"ep divides the experts, redundant ones included": _experts_divide},
    "expert_tensor_parallel": {
        "tp x cp divides ep x etp": _whole_groups,
        "dp is among the study's": _offered_groups,
        "tp x cp x dp x pp is at most the ranks": _fits_the_cluster,
        "redundant experts need tokens that travel: dp over 1": _copies_travel,
    },
    "micro_batches": {"micro-batches need tokens that travel: dp over 1": _halves_travel},
}
