"""What the flags and recipe settings of a published run change in its software stack.

One table of rules for all cases: a flag switches a field of model.stack.Stack to what the flag does, by the numbers of
`sweep.recipes`. Sources: the frameworks' own documentation of each flag (Megatron-LM arguments.py, Megatron-Bridge perf
recipes, MindSpeed features).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from model.stack import Dispatch, Stack
from sweep.recipes import Recipes, recipes


@dataclass(frozen=True, slots=True)
class FlagRule:
    """A condition on a case and the fields that it sets (or scales)."""

    name: str
    applies: Callable[[Mapping[str, Any]], bool]
    change: Callable[[Stack, Recipes], Stack]


def _flags(case: Mapping[str, Any]) -> str:
    return " ".join(str(flag) for flag in case.get("flags") or []).lower()


def _recipe(case: Mapping[str, Any], key: str) -> Any:
    return ((case.get("extra") or {}).get("recipe_config") or {}).get(key)


def _graphs(case: Mapping[str, Any]) -> str:
    """How the step is launched: "full" CUDA graphs, "partial", "none", or "" where nothing is said."""
    kind, scope = _recipe(case, "cuda_graph_impl"), str(_recipe(case, "cuda_graph_scope") or "")
    if kind == "full_iteration" or "full_iteration" in scope:
        return "full"
    if kind and kind != "none":
        return "partial"
    return "none" if (case.get("extra") or {}).get("recipe_config") else ""


def _launched(stack: Stack, mixture_s: float, sync_s: float) -> Stack:
    return replace(stack, host_moe_layer_s=mixture_s, moe_sync_s=sync_s)


def _dispatcher(case: Mapping[str, Any]) -> str:
    """Expert dispatcher of the recipe: "deepep", "hybridep", "alltoall", or "" where no recipe is known."""
    backend = _recipe(case, "moe_flex_dispatcher_backend")
    if backend:
        return str(backend)
    return "alltoall" if (case.get("extra") or {}).get("recipe_config") else ""


def _dispatched(label: str, backend: str, dispatch: Dispatch, passes: Callable[[Recipes], float]) -> FlagRule:
    return FlagRule(
        f"{label} dispatcher",
        lambda case: _dispatcher(case) == backend,
        lambda s, r: replace(s, dispatch=dispatch, permute_passes=passes(r)),
    )


RULES: tuple[FlagRule, ...] = (
    FlagRule(
        "eager launches",
        lambda case: _graphs(case) == "none",
        lambda s, r: _launched(s, r.eager_mixture_s, r.eager_sync_s),
    ),
    FlagRule(
        "token drop",  # fixed expert capacity: no counts to wait for, fewer kernels
        lambda case: "tokendrop" in _flags(case) or "token-drop" in _flags(case),
        lambda s, r: replace(s, host_moe_layer_s=r.dropping_mixture_s, moe_sync_s=0.0),
    ),
    FlagRule(
        "partial graphs",
        lambda case: _graphs(case) == "partial",
        lambda s, r: _launched(s, r.partial_mixture_s, r.partial_sync_s),
    ),
    FlagRule("full-iteration graphs", lambda case: _graphs(case) == "full", lambda s, _: _launched(s, 0.0, 0.0)),
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
        lambda case: "tp comm overlap" in _flags(case) or "use-mc2" in _flags(case),
        lambda s, r: replace(s, tensor_overlap=max(s.tensor_overlap, r.tensor_overlap)),
    ),
    FlagRule(
        "gradient overlap",
        lambda case: "overlap grad reduce" in _flags(case) or "overlap-grad-reduce" in _flags(case),
        lambda s, r: replace(s, gradient_overlap=max(s.gradient_overlap, r.gradient_overlap)),
    ),
    FlagRule(
        "CUDA graphs of a submission",
        lambda case: "cuda graphs" in _flags(case),
        lambda s, _: replace(s, host_layer_s=0.0, host_moe_layer_s=0.0),
    ),
    FlagRule(
        "fused loss",
        lambda case: "ce fusion" in _flags(case),
        lambda s, r: replace(s, loss_bytes_per_logit=r.fused_loss_bytes_per_logit),
    ),
)


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
    return stack, tuple(names)
