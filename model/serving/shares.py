"""What one rank has of a pass: its tokens, what it runs with, and the record of a layer's work and traffic."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np

from model.chip import FORMATS, Chip
from model.matmul import matmul
from model.serving.collectives import all_gather, all_reduce, reduce_scatter
from model.serving.instance import Instance
from model.serving.stack import ServingStack
from model.serving.workload import Serving
from model.system import System
from model.vector import vector
from model.work import NOTHING, SILENCE, Traffic, Work


@dataclass(frozen=True, slots=True)
class Batch:
    """What goes through the instance together in one pass; counts of the whole instance, arrays that broadcast.

    The stages of a pipeline work on different batches at the same time.
    """

    sequences: Any = 0.0  # decoding
    context: Any = 0.0  # mean tokens of theirs in the cache
    prompt_tokens: Any = 0.0  # new tokens of prompts
    prompts: Any = 1.0  # that these belong to
    cached: Any = 0.0  # mean tokens of these prompts already in the cache


@dataclass(frozen=True, slots=True)
class Share:
    """What one rank has of a pass, after the split into attention groups and micro-batches."""

    block: Any  # ranks of the smallest tier that holds the instance: what placing its groups asks for
    tensor: Any
    context: Any
    groups: Any  # attention groups of the stage
    sequences: Any  # decoding, of the group
    queries: Any  # tokens of each
    keys: Any  # in the cache of each
    prompt_tokens: Any  # of the group, on this context-parallel rank
    prompts: Any
    cached: Any
    halves: Any
    head: Any  # ranks that divide the output head

    @property
    def tokens(self) -> Any:
        """Rows of the group's linear layers on this rank."""
        return self.sequences * self.queries + self.prompt_tokens

    @property
    def decoding(self) -> Any:
        """Rows of decoding sequences."""
        return self.sequences * self.queries


def _block(system: System, ranks: Any) -> Any:
    """Ranks of the smallest tier that holds so many; no tier holds more than the last."""
    found: Any = np.full(np.shape(ranks), float(system.tiers[-1].ranks))
    for tier in reversed(system.tiers[:-1]):
        found = np.where(ranks <= tier.ranks, float(tier.ranks), found)
    return found


def share_of(system: System, stack: ServingStack, instance: Instance, batch: Batch) -> Share:
    """The share of a rank of the busiest attention group."""
    groups = np.asarray(instance.data_parallel, float)
    halves = np.asarray(instance.micro_batches, float)
    context = np.asarray(instance.context_parallel, float)
    sequences = np.asarray(batch.sequences, float)
    prompts = np.asarray(batch.prompts, float)
    # fewer sequences than groups leave some groups idle, and the others with one each
    own = np.maximum(sequences / groups, np.minimum(sequences, 1.0)) / halves
    busy = np.minimum(prompts, groups)
    return Share(
        block=_block(system, instance.ranks),
        tensor=np.asarray(instance.tensor_parallel, float),
        context=context,
        groups=groups,
        sequences=own,
        queries=1.0 + np.asarray(instance.draft_tokens, float),
        keys=np.asarray(batch.context, float),
        prompt_tokens=np.asarray(batch.prompt_tokens, float) / (busy * halves * context),
        prompts=prompts / busy / halves,
        cached=np.asarray(batch.cached, float),
        halves=halves,
        head=np.maximum(
            np.asarray(instance.tensor_parallel, float), np.minimum(float(stack.head_ranks), instance.stage_ranks)
        ),
    )


_FEW = 256  # rows below which looking for equal ones costs more than it saves
_WORTH = 0.5  # share of the rows that are distinct above which all are computed
_MIX = np.array([0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB], np.uint64)


def distinct(share: Share) -> tuple[Share, Any] | None:
    """The distinct rows of a list of shares, whatever else the stage holds, and each row's place among them.

    None where there are few rows, or few equal ones. Rows are compared by a hash of their bits first, then in full.
    """
    columns = [np.asarray(getattr(share, f.name), float) for f in fields(share) if f.name != "groups"]
    shape = np.broadcast_shapes(*(column.shape for column in columns))
    if len(shape) != 1 or shape[0] < _FEW:
        return None
    key = np.zeros(shape, np.uint64)
    for column in columns:
        if column.size > 1:
            key = (key ^ (column + 0.0).view(np.uint64)) * _MIX[0]
            key = (key ^ (key >> np.uint64(29))) * _MIX[1]
            key = (key ^ (key >> np.uint64(32))) * _MIX[2]
    _, first, place = np.unique(key, return_index=True, return_inverse=True)
    if len(first) > _WORTH * shape[0]:
        return None
    some = replace(share, **{f.name: _rows(getattr(share, f.name), first) for f in fields(share)})
    own = [np.asarray(getattr(some, f.name), float) for f in fields(share) if f.name != "groups"]
    equal = all(c.size == 1 or np.array_equal(o[place], c) for c, o in zip(columns, own, strict=True))
    return (some, place) if equal else None


def _rows(values: Any, index: Any) -> Any:
    values = np.asarray(values)
    return values if values.size == 1 else values[index]


@dataclass(frozen=True, slots=True)
class Rank:
    """The chip, the engine and the model that kernels run with."""

    chip: Chip
    stack: ServingStack
    serving: Serving
    vector_passes: Any  # of element-wise kernels, by what the pass holds

    def linear(self, number_format: str, rows: Any, *shapes: tuple[Any, Any]) -> Work:
        """Linear layers of `rows` tokens: (outputs, inputs) each, with the quantisation of their inputs."""
        cast = FORMATS[number_format].cast_bytes
        done = NOTHING
        for outputs, inputs in shapes:
            done = done + matmul(self.chip, number_format, rows, outputs, inputs)
            if cast:
                done = done + vector(self.chip, cast * rows * inputs, 0.0)
        return done.slower(1.0 / self.stack.matmul_speed)

    def vector(self, moved_bytes: Any, launches: float) -> Work:
        """Element-wise kernels."""
        return vector(self.chip, moved_bytes * self.vector_passes, launches * self.vector_passes)


def rank_of(chip: Chip, stack: ServingStack, serving: Serving, share: Share) -> Rank:
    """What the kernels of these shares run with."""
    fused = np.where(share.prompt_tokens > 0, stack.prefill_vector_passes, stack.vector_passes)
    return Rank(chip, stack, serving, fused)


@dataclass(frozen=True, slots=True)
class Layer:
    """Work and traffic of one layer on one rank, or of several together."""

    linear: Work = NOTHING
    attention: Work = NOTHING
    experts: Work = NOTHING
    vector: Work = NOTHING
    tensor: Traffic = SILENCE
    context: Traffic = SILENCE
    exchange: Traffic = SILENCE

    def __add__(self, other: Layer) -> Layer:
        return Layer(*(getattr(self, name) + getattr(other, name) for name in _FIELDS))

    def times(self, factor: Any) -> Layer:
        """So many of them."""
        return Layer(*(getattr(self, name).times(factor) for name in _FIELDS))

    @property
    def works(self) -> Work:
        """All of its work."""
        return self.linear + self.attention + self.experts + self.vector

    @property
    def traffic(self) -> Traffic:
        """All of its traffic."""
        return self.tensor + self.context + self.exchange


_FIELDS = tuple(Layer.__dataclass_fields__)


_Cost = TypeVar("_Cost", Work, Traffic)


def when(condition: Any, cost: Callable[[], _Cost], nothing: _Cost) -> _Cost:
    """The cost where the condition holds, nothing elsewhere; not computed where it holds nowhere."""
    return cost().times(np.where(condition, 1.0, 0.0)) if np.any(condition) else nothing


def streams(rank: Rank, tokens: Any) -> Work:
    """Mixing of several residual streams before and after half a layer (hyper-connections, arXiv:2409.19606)."""
    model = rank.serving.architecture
    if model.residual_streams == 1:
        return NOTHING
    return rank.vector(4.0 * model.residual_streams * tokens * model.hidden, 2)


def joined(system: System, rank: Rank, share: Share, group: Any) -> Traffic:
    """The all-reduce behind a row-parallel layer, or what a two-dimensional layout exchanges instead of it.

    Weight-stationary in two dimensions on n ranks, a feed-forward four times as wide as the model gathers and scatters
    activations on either side of its two matmuls, 8 T h / sqrt(n) elements in all, over half and twice sqrt(n) ranks.
    Source: Pope et al., arXiv:2211.05102, section 3.2.2.
    """
    stack, hidden = rank.stack, rank.serving.architecture.hidden
    partial = 2.0 * share.tokens * hidden
    if stack.tensor_layout == "weight_stationary_2d":
        narrow = np.maximum(np.sqrt(group) / 2.0, 1.0)
        wide = group / narrow
        each = 2.0 * partial / np.maximum(np.sqrt(group), 1.0)
        done = SILENCE
        for side, apart in ((wide, 1), (narrow, wide)):
            done = done + all_gather(system, each, side, apart, share.block)
            done = done + reduce_scatter(system, each, side, apart, share.block)
    else:
        done = all_reduce(system, partial, group, 1, share.block)
    speed = np.where(share.prompt_tokens > 0, stack.prefill_collective_speed, stack.collective_speed)
    return Traffic(done.seconds * (1.0 - stack.tensor_overlap) / speed, done.link_bytes)
