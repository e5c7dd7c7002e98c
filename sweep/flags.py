"""What the flags and recipe settings of a published run change in its software stack.

One table of rules for all cases: a flag switches a field of model.stack.Stack to what the flag does, by the numbers of
`sweep.recipes`. Sources: the frameworks' own documentation of each flag (Megatron-LM arguments.py, Megatron-Bridge perf
recipes, MindSpeed features).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from model.stack import Dispatch, Stack
from sweep.recipes import Recipes, dropping, recipes, settings
from sweep.rematerialisation import offloaded_share


@dataclass(frozen=True, slots=True)
class FlagRule:
    """A condition on a case and the fields that it sets (or scales)."""

    name: str
    applies: Callable[[Mapping[str, Any]], bool]
    change: Callable[[Stack, Recipes], Stack]


def _flags(case: Mapping[str, Any]) -> str:
    return " ".join(str(flag) for flag in case.get("flags") or []).lower()


def _recipe(case: Mapping[str, Any], key: str) -> Any:
    return settings(case).get(key)


def _unfused(case: Mapping[str, Any]) -> bool:
    """Whether a table that tells Transformer Engine apart says that a run of Pax went without: XLA's own attention."""
    named = " ".join((*map(str, case.get("flags") or []), str(case.get("precision") or ""))).lower()
    engine = "transformerengine" in named or "transformer engine" in named or re.search(r"\bte\b|cudnn", named)
    return "pax" in named and bool(case.get("precision")) and not engine


def _graphs(case: Mapping[str, Any]) -> str:
    """How the step is launched: "full" CUDA graphs, "partial", "none", or "" where nothing is said."""
    kind, scope = _recipe(case, "cuda_graph_impl"), str(_recipe(case, "cuda_graph_scope") or "")
    if kind == "full_iteration" or "full_iteration" in scope:
        return "full"
    if kind and kind != "none":
        return "partial"
    return "none" if settings(case) else ""


def _fuses_experts(case: Mapping[str, Any]) -> bool:
    """Whether Transformer Engine's operation fuser runs the experts: its kernels take mxfp8 alone.

    Where a recipe does not say, by what the recipes of 26.06 share: it comes with full-iteration graphs of a mixture.
    """
    if case.get("number_format") != "mxfp8" or not (case.get("arch") or {}).get("moe"):
        return False
    said = _recipe(case, "use_transformer_engine_op_fuser")
    return _graphs(case) == "full" if said is None else bool(said)


def _launched(stack: Stack, mixture_s: float, sync_s: float) -> Stack:
    return replace(stack, host_moe_layer_s=mixture_s, moe_sync_s=sync_s)


def _dispatcher(case: Mapping[str, Any]) -> str:
    """Expert dispatcher of the recipe: "deepep", "hybridep", "alltoall", or "" where no recipe is known."""
    backend = _recipe(case, "moe_flex_dispatcher_backend")
    if backend:
        return str(backend)
    return "alltoall" if settings(case) else ""


def _dispatched(label: str, backend: str, dispatch: Dispatch, passes: Callable[[Recipes], float]) -> FlagRule:
    return FlagRule(
        f"{label} dispatcher",
        lambda case: _dispatcher(case) == backend,
        lambda s, r: replace(s, dispatch=dispatch, permute_passes=passes(r)),
    )


# Matmuls in pieces beside their traffic: of Transformer Engine, of MindSpeed, of PyTorch.
_PIPELINED_MATMULS = ("tp comm overlap", "use-mc2", "use-ascend-mc2", "async tp", "async-tp", "async_tp", "asynctp")
_GATHER_FLAGS = ("overlap param gather", "overlap-param-gather")

RULES: tuple[FlagRule, ...] = (
    FlagRule(
        "eager launches",
        lambda case: _graphs(case) == "none",
        lambda s, r: _launched(s, r.eager_mixture_s, r.eager_sync_s),
    ),
    FlagRule(
        "partial graphs",
        lambda case: _graphs(case) == "partial",
        lambda s, r: _launched(s, r.partial_mixture_s, r.partial_sync_s),
    ),
    FlagRule(
        "fused expert matmuls",
        _fuses_experts,
        lambda s, _: replace(s, expert_epilogue="matmul"),
    ),
    FlagRule("full-iteration graphs", lambda case: _graphs(case) == "full", lambda s, _: _launched(s, 0.0, 0.0)),
    FlagRule(
        "token drop",  # fixed expert capacity: no counts to wait for, fewer kernels
        dropping,
        lambda s, r: replace(s, host_moe_layer_s=r.dropping_mixture_s, moe_sync_s=0.0),
    ),
    FlagRule(
        "expert all-to-all overlap",
        lambda case: _recipe(case, "moe_a2a_overlap") is True,
        lambda s, r: replace(s, expert_overlap=r.expert_overlap),
    ),
    FlagRule(
        "no expert overlap",
        lambda case: _recipe(case, "moe_a2a_overlap") is False,
        lambda s, _: replace(s, expert_overlap=0.0),
    ),
    _dispatched("all-to-all", "alltoall", "all_to_all", lambda r: r.all_to_all_passes),
    _dispatched("DeepEP", "deepep", "per_node", lambda r: r.deep_ep_passes),
    _dispatched("HybridEP", "hybridep", "per_node", lambda r: r.hybrid_ep_passes),
    FlagRule(
        "tensor-parallel overlap",
        lambda case: any(word in _flags(case) for word in _PIPELINED_MATMULS),
        lambda s, r: replace(s, tensor_overlap=np.maximum(s.tensor_overlap, r.tensor_overlap)),
    ),
    FlagRule(
        "gradient overlap",
        lambda case: "overlap grad reduce" in _flags(case) or "overlap-grad-reduce" in _flags(case),
        lambda s, r: replace(s, gradient_overlap=np.maximum(s.gradient_overlap, r.gradient_overlap)),
    ),
    FlagRule(
        "hybrid shards",  # PyTorch's HYBRID_SHARD: sharded inside a node, replicated across
        lambda case: str(case.get("fsdp")).lower() in ("hsdp", "hybrid_shard") or "hsdp" in _flags(case).split(),
        lambda s, r: replace(s, shard_ranks=int(r.hybrid_shard_ranks)),
    ),
    FlagRule(
        "YaFSDP",  # gathers into buffers that are allocated once: traffic never waits for memory to be freed
        lambda case: "yafsdp" in _flags(case).split(),
        lambda s, r: replace(s, fsdp_overlap=np.maximum(s.fsdp_overlap, r.static_buffers_overlap)),
    ),
    FlagRule(
        "gather overlap",
        lambda case: any(word in _flags(case) for word in _GATHER_FLAGS),
        lambda s, r: replace(s, gather_overlap=True),
    ),
    FlagRule(
        "CUDA graphs of a submission",
        lambda case: "cuda graphs" in _flags(case),
        lambda s, _: replace(s, host_layer_s=0.0, host_moe_layer_s=0.0),
    ),
    FlagRule("fused norm", lambda case: "use-fused-rmsnorm" in _flags(case), lambda s, r: replace(s, fused_norm=True)),
    FlagRule(
        "fused activation",
        lambda case: "use-fused-swiglu" in _flags(case),
        lambda s, r: replace(s, fused_activation=True),
    ),
    FlagRule(
        "fused rotary", lambda case: "use-fused-rotary" in _flags(case), lambda s, r: replace(s, fused_rotary=True)
    ),
    FlagRule(
        "XLA attention",  # its scores are products, which the policy keeps
        _unfused,
        lambda s, _: replace(s, fused_attention=False, selective_recompute=("norm", "activation")),
    ),
    FlagRule(
        "fused loss",
        lambda case: "ce fusion" in _flags(case),
        lambda s, r: replace(s, loss_bytes_per_logit=r.fused_loss_bytes_per_logit),
    ),
)


_LAYERS = re.compile(r"activation checkpointing on (\d+) layers")


def recomputed_share(stack: Stack, case: Mapping[str, Any]) -> float | None:
    """Share of the layers that a case recomputes as a whole, or None where that is not said.

    A flag states their number; or the source prints utilisation with and without recomputed FLOPs, of which a forward
    is a third of a step, where "selective" means some of the layers.
    """
    said, layers = _LAYERS.search(_flags(case)), (case.get("arch") or {}).get("layers")
    if said and layers:
        return min(float(said.group(1)) / float(layers), 1.0)
    measured = case.get("measured") or {}
    with_again, without = measured.get("hfu"), measured.get("mfu")
    if case.get("recompute") == "selective" and stack.selective_recompute == ("full",) and with_again and without:
        return min(max(3.0 * (float(with_again) / float(without) - 1.0), 0.0), 1.0)
    return None


def applied(stack: Stack, case: Mapping[str, Any], sizes: Recipes | None = None) -> tuple[Stack, tuple[str, ...]]:
    """The stack with every rule that applies to the case, and the names of those rules.

    `sizes` are the numbers that the rules set; None: those of the catalogue.
    """
    sizes = sizes or recipes()
    names = []
    for rule in RULES:
        if rule.applies(case):
            stack = rule.change(stack, sizes)
            names.append(rule.name)
    share = recomputed_share(stack, case)
    if share is not None:
        stack = replace(stack, recompute_share=share)
        names.append(f"{share:.0%} of the layers recompute")
    away = offloaded_share(case)
    if away:
        stack = replace(stack, offload_share=away)
        names.append(f"activations of {away:.0%} of the layers in the host's memory")
    return stack, tuple(names)
