"""A parallel layout: how one model's step is laid over the ranks. One record, or a million.

Every field is an array (or a scalar) and all fields broadcast against each other: one layout, a flat list, and an
open mesh where each axis has its own dimension go through the same functions and give the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

# What a layer may recompute in the backward pass, one bit each; "full" keeps only the layer's input.
RECOMPUTE_MODULES = (
    "full",
    "core_attention",
    "norm",
    "mla_up_projection",
    "activation",  # of the dense feed-forward or of the experts
    "feed_forward",  # the whole dense feed-forward
    "experts",  # the routed experts with their permutes
    "shared_experts",
    "query_key_value",  # the projections ahead of attention
    "attention_output",  # and the one behind it
)
# What a layout may switch off of its software stack's overlaps of traffic with compute, one bit each.
OVERLAPS = ("tensor", "expert", "data")
# What a layout may keep in the host's memory, one bit each.
OFFLOADS = ("optimizer", "activations")
SCHEDULES = ("1f1b", "gpipe", "interleaved", "zb-h1", "zb-h2", "zb-v", "dualpipe")
CONTEXT_EXCHANGES = ("ring", "all_to_all")
RANK_ORDERS = ("tp-cp-dp-pp", "tp-cp-pp-dp")


def mask_of(words: Iterable[str], known: tuple[str, ...], what: str) -> int:
    """Bit mask of the named ones of `known`; "none" is 0. Raises ValueError for an unknown name."""
    mask = 0
    for word in words:
        if word == "none":
            continue
        if word not in known:
            raise ValueError(f"unknown {what} {word!r}; known: none, {', '.join(known)}")
        mask |= 1 << known.index(word)
    return mask


def mask_text(mask: int, known: tuple[str, ...]) -> str:
    """Text of a bit mask, as in "core_attention+norm"; 0 is "none"."""
    return "+".join(name for bit, name in enumerate(known) if mask >> bit & 1) or "none"


def has(mask: Any, name: str, known: tuple[str, ...]) -> Any:
    """Where a mask names one of `known`."""
    return (np.asarray(mask) >> known.index(name)) & 1 == 1


def recompute_code(modules: Iterable[str]) -> int:
    """Bit mask of the named recompute modules; "none" is 0. Raises ValueError for an unknown one."""
    return mask_of(modules, RECOMPUTE_MODULES, "recompute module")


def recompute_names(code: int) -> str:
    """Text of a recompute mask, as in "core_attention+norm"; 0 is "none"."""
    return mask_text(code, RECOMPUTE_MODULES)


@dataclass(frozen=True, slots=True)
class Layout:
    """Degrees of parallelism and per-layout options; integers or integer arrays that broadcast together.

    ranks = tensor x context x pipeline x data; expert groups are laid over tensor x context x data.
    """

    tensor_parallel: Any = 1
    context_parallel: Any = 1
    pipeline_parallel: Any = 1
    virtual_stages: Any = 1  # model chunks per pipeline stage
    data_parallel: Any = 1
    expert_parallel: Any = 1
    expert_tensor_parallel: Any = 1
    micro_batch: Any = 1  # sequences
    global_batch: Any = 1  # sequences
    sequence_parallel: Any = 0  # 0 or 1
    recompute: Any = 0  # bit mask of RECOMPUTE_MODULES
    zero_stage: Any = 1  # 0 to 3; 3 with one pipeline stage is FSDP
    schedule: Any = 0  # index into SCHEDULES
    context_exchange: Any = 0  # index into CONTEXT_EXCHANGES
    rank_order: Any = 0  # index into RANK_ORDERS, innermost first
    overlap_off: Any = 0  # bit mask of OVERLAPS that the software stack offers and this layout does without
    offload: Any = 0  # bit mask of OFFLOADS

    @property
    def ranks(self) -> Array:
        """Ranks that the layout occupies."""
        return np.asarray(
            np.asarray(self.tensor_parallel) * self.context_parallel * self.pipeline_parallel * self.data_parallel
        )

    @property
    def microbatches(self) -> Array:
        """Microbatches that a pipeline works through in one step."""
        return np.asarray(np.asarray(self.global_batch) / (np.asarray(self.micro_batch) * self.data_parallel))

    @property
    def expert_data_parallel(self) -> Array:
        """Replicas of each expert shard."""
        inside = np.asarray(self.tensor_parallel) * self.context_parallel * self.data_parallel
        return np.asarray(inside / (np.asarray(self.expert_parallel) * self.expert_tensor_parallel))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape that all fields broadcast to."""
        return np.broadcast_shapes(*(np.shape(getattr(self, f.name)) for f in fields(self)))

    def flat(self) -> Layout:
        """Every field as a one-dimensional integer array of equal length."""
        shape = self.shape
        return self.map(lambda a: np.ascontiguousarray(np.broadcast_to(a, shape)).reshape(-1))

    def map(self, change: Callable[[Array], Any]) -> Layout:
        """A layout with `change` applied to each field's array."""
        return Layout(**{f.name: change(np.asarray(getattr(self, f.name))) for f in fields(self)})

    def take(self, index: Any) -> Layout:
        """The rows `index` of a flat layout."""
        return self.map(lambda a: a[index])

    def columns(self) -> dict[str, Array]:
        """Short column name -> array, as in the data set."""
        return {SHORT[f.name]: np.asarray(getattr(self, f.name)) for f in fields(self)}

    def with_(self, **changes: Any) -> Layout:
        """A copy with some fields replaced."""
        return replace(self, **changes)


SHORT: Mapping[str, str] = {
    "tensor_parallel": "tp",
    "context_parallel": "cp",
    "pipeline_parallel": "pp",
    "virtual_stages": "vp",
    "data_parallel": "dp",
    "expert_parallel": "ep",
    "expert_tensor_parallel": "etp",
    "micro_batch": "mbs",
    "global_batch": "gbs",
    "sequence_parallel": "sp",
    "recompute": "recompute",
    "zero_stage": "zero",
    "schedule": "schedule",
    "context_exchange": "cp_exchange",
    "rank_order": "rank_order",
    "overlap_off": "overlap_off",
    "offload": "offload",
}
