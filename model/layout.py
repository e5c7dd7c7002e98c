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
)
SCHEDULES = ("1f1b", "gpipe", "interleaved", "zb-h1", "zb-h2", "zb-v", "dualpipe")
CONTEXT_EXCHANGES = ("ring", "all_to_all")
RANK_ORDERS = ("tp-cp-dp-pp", "tp-cp-pp-dp")


def recompute_code(modules: Iterable[str]) -> int:
    """Bit mask of the named recompute modules; "none" is 0. Raises KeyError-like ValueError for an unknown one."""
    code = 0
    for module in modules:
        if module == "none":
            continue
        if module not in RECOMPUTE_MODULES:
            raise ValueError(f"unknown recompute module {module!r}; known: none, {', '.join(RECOMPUTE_MODULES)}")
        code |= 1 << RECOMPUTE_MODULES.index(module)
    return code


def recompute_names(code: int) -> str:
    """Text of a recompute mask, as in "core_attention+norm"; 0 is "none"."""
    names = [name for bit, name in enumerate(RECOMPUTE_MODULES) if code >> bit & 1]
    return "+".join(names) or "none"


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
}
