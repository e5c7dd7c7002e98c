"""What a run recomputes and what it keeps in the host's memory, from the names and lists of its policies.

A policy names the tensors of a layer that are kept, on the chip or in the host's memory; all others are computed again
by the backward pass. Source: AI-Hypercomputer/maxtext, layers/decoders.py (get_remat_policy) and configs/base.yml,
where under the policy "custom" each tensor that is not listed is "remat". Megatron-Core moves the activations of a
number of layers: transformer_config.py (cpu_offloading_num_layers).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from sweep.recipes import settings

_PROJECTIONS = frozenset({"query_proj", "key_proj", "value_proj"})
_DOTS = _PROJECTIONS | {"out_proj", "mlpwi", "mlpwo"}
# What each policy keeps. "minimal" names what is recomputed: next to nothing.
_KEPT: Mapping[str, frozenset[str]] = {
    "none": _DOTS | {"context", "elementwise"},
    "minimal": _DOTS,
    "minimal_offloaded": _DOTS,
    "minimal_flash": _DOTS | {"context"},
    "minimal_with_context": _DOTS | {"context"},
    "save_dot_except_logits": _DOTS,
    "save_dot_except_logits_ffn1": _DOTS - {"mlpwi"},
    "save_dot_except_mlpwi": _DOTS - {"mlpwi"},
    "save_dot_except_mlp": _DOTS - {"mlpwi", "mlpwo"},
    "save_dot_with_context_except_mlp": _DOTS - {"mlpwi", "mlpwo"} | {"context"},
    "save_qkv_proj": _PROJECTIONS,
    "qkv_proj_offloaded": _PROJECTIONS,
    "save_out_proj": frozenset({"out_proj"}),
    "full": frozenset(),
}
_IN_THE_HOST = ("minimal_offloaded", "qkv_proj_offloaded")  # policies whose tensors all leave the chip
_NAMED = re.compile(r"\b(?:remat(?:_policy)?)[ =:]+([a-z][a-z0-9_]*)", re.I)
_AWAY = ("offload", "offloaded")
_PLACES = ("device", *_AWAY)
_OFFLOADED = re.compile(r"\b([a-z_]+?)(?: is)? offloaded to (?:the )?host", re.I)
_LAYERS = re.compile(r"\bcpu[ _-]offload(?:ing)?(?:[ _-]num[ _-]layers)?[ =:]+(\d+)", re.I)


def _texts(case: Mapping[str, Any]) -> Iterator[str]:
    """Where a case may name its policy, the most explicit first."""
    extra = case.get("extra") or {}
    for named in (extra.get("tuning_params") or {}, extra):
        if named.get("remat_policy"):
            yield f"remat_policy={named['remat_policy']}"
    yield from map(str, case.get("flags") or [])
    yield str(case.get("notes") or "")


def _listed(case: Mapping[str, Any]) -> set[str]:
    """Tensors that a custom policy is said to keep on the chip or in the host's memory."""
    tuned = (case.get("extra") or {}).get("tuning_params") or {}
    kept = {str(name) for name, place in tuned.items() if str(place) in _PLACES}
    for flag in case.get("flags") or []:
        kept.update(_OFFLOADED.findall(str(flag)))
    return kept


def _modules(kept: Iterable[str]) -> tuple[str, ...]:
    """The modules of a layer that are recomputed where these tensors are kept."""
    held = set(kept)
    if "qkv_proj" in held:
        held |= _PROJECTIONS
    if held & {"mlpwi_0", "mlpwi_1"} == {"mlpwi_0", "mlpwi_1"}:
        held.add("mlpwi")
    if not held & (_DOTS | {"context"}):
        return ("full",)
    needs = {
        "query_key_value": held >= _PROJECTIONS,
        "core_attention": "context" in held,
        "attention_output": "out_proj" in held,
        "feed_forward": "mlpwi" in held,
        "shared_experts": "mlpwi" in held,
        "experts": "mlpwi" in held,
        "norm": "elementwise" in held,
        "activation": "elementwise" in held,
    }
    return tuple(module for module, is_kept in needs.items() if not is_kept)


def recomputed(case: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The modules that a case's policy recomputes; None where it names no policy that is known.

    A custom policy keeps what the case lists. Where it lists nothing, nothing is known.
    """
    for text in _texts(case):
        found = _NAMED.search(text)
        if found is None:
            continue
        policy = found.group(1).lower()
        if policy in _KEPT:
            return _modules(_KEPT[policy])
        if policy == "custom":
            kept = _listed(case)
            return _modules(kept) if kept else None
    kept = _listed(case)
    return _modules(kept) if kept else None


def offloaded_share(case: Mapping[str, Any]) -> float:
    """Share of the layers whose kept activations lie in the host's memory; 0 where a case does not say so.

    A list that keeps some tensors on the chip and some in the host's memory counts as the chip's: what each takes
    depends on the model.
    """
    layers = (case.get("arch") or {}).get("layers")
    moved = settings(case).get("cpu_offloading_num_layers")
    for flag in case.get("flags") or []:
        said = _LAYERS.search(str(flag))
        moved = moved or (int(said.group(1)) if said else None)
    if moved and layers:
        return min(float(moved) / float(layers), 1.0)
    for text in _texts(case):
        found = _NAMED.search(text)
        if found and found.group(1).lower() in _IN_THE_HOST:
            return 1.0
    tuned = (case.get("extra") or {}).get("tuning_params") or {}
    stays = any(str(place) == "device" for place in tuned.values())
    return 1.0 if _listed(case) and not stays else 0.0
