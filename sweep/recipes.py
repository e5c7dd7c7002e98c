"""The recipe of a published run, and how much its settings change: sweep/catalogue_data/recipes.toml as a record.

The numbers are fitted or counted like those of a software stack, one set for all runs; each has its source in the file.
`sweep/flags.py` says which setting switches what. Where a run's recipe is not known, the settings are those that the
recipes of its framework share on its kind of machine.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

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
    hybrid_shard_ranks: float  # ranks that hold one copy of the weights in hybrid sharding
    static_buffers_overlap: float  # share of compute that hides ZeRO-3 traffic into buffers that are allocated once


@cache
def recipes() -> Recipes:
    """The numbers of the file. Raises InputError with every problem of it."""
    from sweep.catalogue_schema import read  # pydantic is slow to import

    _, quantities = read("recipes", tomllib.loads(DATA.read_text(encoding="utf-8")), DATA.name)
    return Recipes(**{name: found.value for name, found in quantities.items()})


def settings(case: Mapping[str, Any]) -> Mapping[str, Any]:
    """Settings of the recipe that goes with a case; where it is not known, what its framework's recipes share."""
    return (case.get("extra") or {}).get("recipe_config") or _usual(case)


def dropping(case: Mapping[str, Any]) -> bool:
    """Whether experts have a fixed capacity, and drop the tokens beyond it."""
    flags = " ".join(str(flag) for flag in case.get("flags") or []).lower()
    return "tokendrop" in flags or "token-drop" in flags


_PARTIAL = {"cuda_graph_impl": "transformer_engine", "cuda_graph_scope": ["moe_router", "moe_preprocess"]}


def _usual(case: Mapping[str, Any]) -> dict[str, Any]:
    """What the performance recipes of Megatron-Bridge for mixtures share on a kind of machine.

    On Hopper nothing is captured in CUDA graphs, and expert traffic overlaps where the pipeline interleaves. Racks take
    HybridEP and graphs of a part of the layer. Nodes of Blackwell take the all-to-all in 2025 and HybridEP from 2026
    on, and graphs without a pipeline. A fixed expert capacity needs the all-to-all, without overlap. Latent attention
    recomputes its up-projections, on Hopper also the dense feed-forward. Source: scripts/performance of
    github.com/NVIDIA-NeMo/Megatron-Bridge: run_script.py at v0.1.0rc4, workload_base_configs.py at v0.2.0 and v0.3.0.
    """
    software, arch = case.get("software") or {}, case.get("arch") or {}
    if software.get("framework") != "megatron-bridge" or not arch.get("moe"):
        return {}
    chip, recent = str(case.get("chip")), str(software.get("release") or "").startswith("26")
    hopper, rack, latent = chip.startswith("h"), chip.startswith("gb"), bool(arch.get("mla"))
    staged, fixed = (case.get("pp") or 1) > 1, dropping(case)
    found: dict[str, Any] = {"cuda_graph_impl": "none"} if hopper or (staged and not rack) or fixed else dict(_PARTIAL)
    interleaves = staged and (case.get("vp") or 1) > 1
    found["moe_a2a_overlap"] = interleaves and not fixed and (hopper or not (rack or recent))
    if not fixed and (rack or recent or (hopper and latent)):
        found["moe_flex_dispatcher_backend"] = "deepep" if hopper else "hybridep"
    if latent:
        found["recompute_modules"] = ["mla_up_proj", "mlp"] if hopper else ["mla_up_proj"]
    return found
