"""How much the settings of a published run's recipe change: sweep/catalogue_data/recipes.toml as a record.

The numbers are fitted or counted like those of a software stack, one set for all runs; each has its source in the file.
`sweep/flags.py` says which setting switches what.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache

from sweep import catalogue

DATA = catalogue.DATA / "recipes.toml"


@dataclass(frozen=True, slots=True)
class Recipes:
    """Sizes of what recipes switch on and off. Seconds are of one mixture layer and microbatch."""

    eager_mixture_s: float  # launch floor without CUDA graphs, forward and backward
    eager_sync_s: float  # copy of the dispatcher's counts to the host, without CUDA graphs
    partial_mixture_s: float  # the same two where graphs capture a part of the layer
    partial_sync_s: float
    dropping_mixture_s: float  # launch floor with a fixed capacity of experts
    all_to_all_passes: float  # reads and writes of the routed rows by permutes around an all-to-all
    deep_ep_passes: float  # around DeepEP
    hybrid_ep_passes: float  # around HybridEP, which permutes while it sends
    expert_overlap: float  # share of dispatch and combine that hides behind another microbatch
    tensor_overlap: float  # share of the exposed tensor-parallel traffic that hides behind pipelined matmuls
    gradient_overlap: float  # share of a backward and forward that hides data-parallel traffic
    fused_loss_bytes_per_logit: float


@cache
def recipes() -> Recipes:
    """The numbers of the file. Raises InputError with every problem of it."""
    from sweep.catalogue_schema import read  # pydantic is slow to import

    _, quantities = read("recipes", tomllib.loads(DATA.read_text(encoding="utf-8")), DATA.name)
    return Recipes(**{name: found.value for name, found in quantities.items()})
