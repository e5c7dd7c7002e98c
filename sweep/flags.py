"""What the flags and recipe settings of a published run change in its software stack.

One table of rules for all cases: a flag switches a field of model.stack.Stack to what the flag does. Sources: the
frameworks' own documentation of each flag (Megatron-LM arguments.py, Megatron-Bridge perf recipes, MindSpeed features).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from model.stack import Stack


@dataclass(frozen=True, slots=True)
class FlagRule:
    """A condition on a case and the fields that it sets (or scales)."""

    name: str
    applies: Callable[[Mapping[str, Any]], bool]
    change: Callable[[Stack], Stack]


def _flags(case: Mapping[str, Any]) -> str:
    return " ".join(str(flag) for flag in case.get("flags") or []).lower()


def _recipe(case: Mapping[str, Any], key: str) -> Any:
    return ((case.get("extra") or {}).get("recipe_config") or {}).get(key)


def _graphs(case: Mapping[str, Any]) -> str:
    """How the step is launched: "full" CUDA graphs, "partial", "none", or "" where nothing is said."""
    kind, scope = _recipe(case, "cuda_graph_impl"), str(_recipe(case, "cuda_graph_scope") or "")
    if kind == "full_iteration" or "full_iteration" in scope:
        return "full"
    if kind == "none":
        return "none"
    if kind:
        return "partial"
    return ""


PARTIAL_GRAPH_LAUNCH = 0.65  # host time left per mixture layer when attention and router are captured
RULES: tuple[FlagRule, ...] = (
    FlagRule(
        "full-iteration graphs",
        lambda case: _graphs(case) == "full",
        lambda s: replace(s, host_layer_s=0.0, host_moe_layer_s=0.0, moe_sync_s=0.0),
    ),
    FlagRule(
        "partial graphs",
        lambda case: _graphs(case) == "partial",
        lambda s: replace(
            s,
            host_layer_s=0.0,
            host_moe_layer_s=PARTIAL_GRAPH_LAUNCH * s.host_moe_layer_s,
            moe_sync_s=0.4 * s.moe_sync_s,
        ),
    ),
    FlagRule(
        "expert all-to-all overlap",
        lambda case: bool(_recipe(case, "moe_a2a_overlap")),
        lambda s: replace(s, expert_overlap=0.7),
    ),
    FlagRule(
        "fused dispatcher",
        lambda case: _recipe(case, "moe_flex_dispatcher_backend") in ("deepep", "hybridep"),
        lambda s: replace(s, dispatch="per_node", permute_passes=0.75, moe_sync_s=0.25 * s.moe_sync_s),
    ),
    FlagRule(
        "tensor-parallel overlap",
        lambda case: "tp comm overlap" in _flags(case) or "use-mc2" in _flags(case),
        lambda s: replace(s, tensor_overlap=max(s.tensor_overlap, 0.6)),
    ),
    FlagRule(
        "gradient overlap",
        lambda case: "overlap grad reduce" in _flags(case) or "overlap-grad-reduce" in _flags(case),
        lambda s: replace(s, gradient_overlap=max(s.gradient_overlap, 0.8)),
    ),
    FlagRule(
        "CUDA graphs of a submission",
        lambda case: "cuda graphs" in _flags(case),
        lambda s: replace(s, host_layer_s=0.0, host_moe_layer_s=0.0),
    ),
    FlagRule(
        "fused loss",
        lambda case: "ce fusion" in _flags(case),
        lambda s: replace(s, loss_bytes_per_logit=18.0),
    ),
)


def applied(stack: Stack, case: Mapping[str, Any]) -> tuple[Stack, tuple[str, ...]]:
    """The stack with every rule that applies to the case, and the names of those rules."""
    names = []
    for rule in RULES:
        if rule.applies(case):
            stack = rule.change(stack)
            names.append(rule.name)
    return stack, tuple(names)
