"""What the layouts of a study may vary over, and what their legality depends on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from model.architecture import Architecture
from model.layout import OVERLAPS, SCHEDULES, Array, recompute_code

Degreed = Mapping[str, Array]  # degree -> value of each row
_1F1B, _INTERLEAVED = SCHEDULES.index("1f1b"), SCHEDULES.index("interleaved")


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
    overlap_off: tuple[int, ...] = (0,)
    offload: tuple[int, ...] = (0,)


@dataclass(frozen=True, slots=True)
class InstanceAxes:
    """What a study lets the instances vary over. The defaults are the axes of a study that narrows nothing."""

    tensor_parallel: Degrees = Degrees(high=64)
    pipeline_parallel: Degrees = Degrees(high=8)
    context_parallel: Degrees = Degrees(high=8)
    data_parallel: Degrees = Degrees()
    expert_parallel: Degrees = Degrees()
    expert_tensor_parallel: Degrees = Degrees(high=8)
    micro_batches: tuple[int, ...] = (1, 2)
    draft_tokens: tuple[int, ...] = (0, 1)
    chunk: tuple[int, ...] = (0,)  # 0: the engine's
    batch: tuple[int, ...] = ()  # sequences of an attention group; none: the best that the targets allow
    deployment: tuple[int, ...] = (0,)  # 0: prompts in the same instances, 1: in their own


@dataclass(frozen=True, slots=True)
class Problem:
    """What the legality of a layout depends on."""

    architecture: Architecture
    sequence: int
    ranks: int
    global_batch: int  # sequences
    selective: tuple[str, ...] = ("core_attention",)  # the modules that "selective" recomputes in this software stack
    overlaps: tuple[str, ...] = OVERLAPS  # that the software stack offers
    host: bool = False  # whether there is a host to offload to

    def recompute_codes(self, axes: Axes) -> tuple[int, ...]:
        """Bit masks of the study's recompute choices, each once, in the study's order.

        Modules that the model does not have are left out; with everything recomputed no other module matters.
        """
        shape = self.architecture
        lacking = [] if shape.latent is not None else ["mla_up_projection"]
        if shape.experts is None:
            lacking += ["experts", "shared_experts"]
        elif not shape.experts.shared_width:
            lacking.append("shared_experts")
        known, full = ~recompute_code(lacking), recompute_code(["full"])
        codes = [recompute_code(self.selective if m == ("selective",) else m) & known for m in axes.recompute]
        return tuple(dict.fromkeys(full if code & full else code for code in codes))
