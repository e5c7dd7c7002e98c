"""How one instance of a served model is laid over ranks, and what it has in flight. One record, or a million."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from model.layout import Array


@dataclass(frozen=True, slots=True)
class Instance:
    """Degrees of parallelism of an instance and its working point; integers or arrays that broadcast together.

    A pipeline stage has tensor x context x data ranks. Attention runs on `data_parallel` groups of tensor x context
    ranks, each with its own requests (attention data parallelism); the experts of a layer are laid over all ranks of
    the stage, in groups of `expert_parallel`, the remaining ranks dividing each expert (expert tensor parallelism).
    With one attention group, all of its ranks hold all tokens, and experts are joined by an all-reduce; with more,
    tokens travel to their experts and back.
    """

    tensor_parallel: Any = 1
    pipeline_parallel: Any = 1
    context_parallel: Any = 1  # of prompts in prefill, of the cache in decode
    data_parallel: Any = 1  # attention groups
    expert_parallel: Any = 1
    micro_batches: Any = 1  # 2: half of the batch computes while the other half communicates
    draft_tokens: Any = 0  # tokens proposed a step by multi-token prediction or a draft model
    batch: Any = 1.0  # sequences in flight in the whole instance
    chunk: Any = 0  # prompt tokens of one pass of an attention group; 0: whole prompts

    @property
    def stage_ranks(self) -> Array:
        """Ranks of a pipeline stage."""
        return np.asarray(np.asarray(self.tensor_parallel) * self.context_parallel * self.data_parallel)

    @property
    def ranks(self) -> Array:
        """Ranks of the instance."""
        return np.asarray(self.stage_ranks * self.pipeline_parallel)

    @property
    def expert_tensor_parallel(self) -> Array:
        """Ranks that share an expert."""
        return np.asarray(self.stage_ranks / np.asarray(self.expert_parallel))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape that all fields broadcast to."""
        return np.broadcast_shapes(*(np.shape(getattr(self, f.name)) for f in fields(self)))

    def map(self, change: Callable[[Array], Any]) -> Instance:
        """An instance with `change` applied to each field's array."""
        return Instance(**{f.name: change(np.asarray(getattr(self, f.name))) for f in fields(self)})

    def flat(self) -> Instance:
        """Every field as a one-dimensional array of equal length."""
        shape = self.shape
        return self.map(lambda a: np.ascontiguousarray(np.broadcast_to(a, shape)).reshape(-1))

    def take(self, index: Any) -> Instance:
        """The rows `index` of a flat record."""
        return self.map(lambda a: a[index])

    def columns(self) -> dict[str, Array]:
        """Short column name -> array, as in the data set."""
        return {SHORT[f.name]: np.asarray(getattr(self, f.name)) for f in fields(self)}

    def with_(self, **changes: Any) -> Instance:
        """A copy with some fields replaced."""
        return replace(self, **changes)


SHORT: Mapping[str, str] = {
    "tensor_parallel": "tp",
    "pipeline_parallel": "pp",
    "context_parallel": "cp",
    "data_parallel": "dp",
    "expert_parallel": "ep",
    "micro_batches": "micro_batches",
    "draft_tokens": "mtp",
    "batch": "batch",
    "chunk": "chunk",
}
