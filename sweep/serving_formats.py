"""Number formats of a published serving run: from the texts that sources print to the formats of the model.

A source says what it quantised in words: "nvfp4 (MoE), bf16 attention projections", "mxfp8 (linear) / mxfp4 (MoE)",
"W8A8", or nothing. The rules here read these texts; what they leave open follows from how checkpoints in a format are
made, and is reported.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from model.architecture import Architecture
from model.chip import Chip
from sweep.published import InexpressibleError

# Names that sources use -> width class; the longer names first.
_NAMES = {"nvfp4": "nvfp4", "mxfp4": "mxfp4", "mxfp8": "mxfp8", "hif8": "mxfp8", "w8a8": "int8", "w4a8": "int4",
          "w4a16": "int4", "int8": "int8", "int4": "int4", "fp8": "fp8", "fp4": "nvfp4", "bf16": "bf16",
          "fp16": "bf16", "float16": "bf16", "bfloat16": "bf16"}  # fmt: skip
_NAMED = re.compile("|".join(_NAMES), re.I)

# Weights in a narrow format whose activations are wider: (weights, activations) -> format of the model.
_WIDENED = {
    ("mxfp4", "mxfp8"): "mxfp4-mxfp8",
    ("mxfp4", "fp8"): "mxfp4-mxfp8",
    ("nvfp4", "fp8"): "mxfp4-mxfp8",
    ("nvfp4", "mxfp8"): "mxfp4-mxfp8",
    ("mxfp4", "bf16"): "mxfp4-bf16",
    ("nvfp4", "bf16"): "mxfp4-bf16",
    ("int4", "fp8"): "int4-fp8",
    ("int4", "mxfp8"): "int4-fp8",
    ("int4", "int8"): "int4-int8",
    ("int4", "bf16"): "int4-bf16",
    ("int8", "bf16"): "int8-bf16",
    ("fp8", "bf16"): "fp8-bf16",
    ("mxfp8", "bf16"): "fp8-bf16",
}
# What a chip without the matrix rate of a format runs instead, the first that it can.
_INSTEAD = {
    "nvfp4": ("mxfp4-bf16",),
    "mxfp4": ("mxfp4-mxfp8", "mxfp4-bf16"),
    "mxfp4-mxfp8": ("mxfp4-bf16",),
    "fp8": ("fp8-bf16",),
    "mxfp8": ("fp8-bf16",),
    "int8": ("int8-bf16",),
    "int4-fp8": ("int4-bf16",),
    "int4-int8": ("int4-bf16",),
}
_FOUR_BITS = ("nvfp4", "mxfp4")
# Checkpoints published in one format only, whose other weights stay in 16 bits.
_NATIVE = ((re.compile(r"gpt-oss", re.I), "mxfp4"), (re.compile(r"kimi-k2(-thinking|\.5)", re.I), "int4"))


@dataclass(frozen=True, slots=True)
class Precision:
    """Formats of a served model, and what of them the source leaves open."""

    weights: str
    experts: str
    projections: str  # around attention
    attention_core: str
    kv_bytes: float
    chosen: tuple[str, ...] = ()


def _named(text: str) -> list[tuple[str, str]]:
    """Formats of a text in order, each with the words that follow it."""
    found = list(_NAMED.finditer(text))
    ends = [*(one.start() for one in found[1:]), len(text)][: len(found)]
    return [(_NAMES[one.group().lower()], text[one.end() : end].lower()) for one, end in zip(found, ends, strict=True)]


def _first(text: Any) -> str | None:
    named = _named(str(text or ""))
    return named[0][0] if named else None


def _paired(weights: str, activations: str | None) -> str:
    """The format of matmuls with these weights and activations; alike where nothing else is said."""
    alike = "int4-bf16" if weights == "int4" else weights
    return _WIDENED.get((weights, str(activations)), alike)


def runnable(chip: Chip, form: str) -> str:
    """The format, or what the chip runs instead of it."""
    for one in (form, *_INSTEAD.get(form, ())):
        if chip.supports(one):
            return one
    raise InexpressibleError(f"{chip.name} does not compute in {form}")


def precision(case: Mapping[str, Any], model: Architecture, chip: Chip) -> Precision:
    """Number formats of a case on a chip."""
    said = case.get("precision") or {}
    text = str(said.get("weights") or "").split("(checkpoint")[0]
    named = _named(text)
    chosen: list[str] = []
    if not named:
        named = [(_of_checkpoint(case) or "bf16", "")]
        chosen.append(f"weights={named[0][0]}")
    activations = _first(said.get("activations"))
    if re.search("w[48]a8", text, re.I):
        activations = activations or "int8"
    elif "w4a16" in text.lower():
        activations = "bf16"
    weights, experts, projections = _roles(named, model, _of_checkpoint(case))
    if labelled(case, "with FP8 KV") and not said.get("kv"):
        said = {**said, "kv": "fp8"}
    core, kv_bytes, open_cache = _cache(said, model, (weights, experts), chip)
    if open_cache:
        chosen.append(f"kv={8 * kv_bytes:.0f} bits")
    matched = [
        one if one == "bf16" else runnable(chip, _paired(one, _suited(one, activations, chip)))
        for one in (weights, experts, projections)
    ]
    return Precision(matched[0], matched[1], matched[2], core, kv_bytes, tuple(chosen))


def _of_checkpoint(case: Mapping[str, Any]) -> str | None:
    return next((form for name, form in _NATIVE if name.search(str(case.get("model")))), None)


def _suited(weights: str, activations: str | None, chip: Chip) -> str | None:
    """Activations that go with these weights: those stated, or of the engines' kernels for native 4-bit weights."""
    if weights == "mxfp4" and activations in (None, "nvfp4", "mxfp4"):
        return "mxfp8" if chip.supports("nvfp4") else "bf16"
    return activations


def _roles(named: list[tuple[str, str]], model: Architecture, native: str | None) -> tuple[str, str, str]:
    """Formats of dense weights, experts and attention's projections, from the words beside each name."""
    first, words = named[0]
    by_role = {"dense": first, "experts": first, "attention": first}
    only_experts = "moe" in words and len(named) == 1
    if native is not None and first in (*_FOUR_BITS, "int4"):
        by_role = {"dense": "bf16", "experts": native if first != "nvfp4" or native == "mxfp4" else first,
                   "attention": "bf16"}  # fmt: skip
    elif only_experts or ("moe" in words and "linear" not in words):
        wider = {"int4": "int8"}.get(first, "bf16")
        by_role = {"dense": wider, "experts": first, "attention": wider}
    elif first in _FOUR_BITS and model.experts is not None:
        by_role["attention"] = "bf16"  # 4-bit checkpoints of mixtures leave the projections of attention alone
    for form, beside in named[1:]:
        role = "experts" if "moe" in beside else "attention" if "attention" in beside else None
        if role:
            by_role[role] = form
    return by_role["dense"], by_role["experts"], by_role["attention"]


_MEANING = re.compile(r"\b(\w+) = ([^,;]+)")


def labelled(case: Mapping[str, Any], meaning: str) -> bool:
    """Whether a label in the section of a case means so by its notes, as in "amd = ... with FP8 KV"."""
    words = re.findall(r"\w+", str(case.get("table_or_section") or ""))
    return any(label in words and meaning in text for label, text in _MEANING.findall(str(case.get("notes") or "")))


def _cache(
    said: Mapping[str, Any], model: Architecture, formats: tuple[str, str], chip: Chip
) -> tuple[str, float, bool]:
    """Format that attention multiplies in, bytes of an element of the cache, and whether the source left it open."""
    text = str(said.get("kv") or "")
    named = _first(text)
    if named is None:
        # 4-bit checkpoints come with scales for a cache of 8 bits, and kernels of sparse attention read one of 8 bits
        eight = "nvfp4" in formats or model.sparse is not None
        return "bf16", 1.0 if eight else 2.0, True
    # kernels of chips with 4-bit matrix engines multiply a cache of fp8 as it is
    whole = named == "fp8" and ("fa3-fp8" in text or chip.supports("nvfp4"))
    return ("fp8" if whole else "bf16"), 2.0 if named == "bf16" else 1.0, False
