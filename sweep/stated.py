"""What a case states of its run, in the words that predictions are grouped, ranked and shown by.

Read from cases as they are, readable or not: whatever is not text or a finite number is left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sweep.power_cases import is_power

_DEGREES = ("tp", "pp", "vp", "cp", "dp", "ep", "etp")
_REST_OF_LAYOUT = ("micro_batch", "zero_stage", "recompute", "schedule", "sequence_parallel", "attention_dp")
_LONGEST = 120
_FAMILY = re.compile(r"[a-z]+(?:-oss)?")
_MAKER = re.compile(r"[a-z0-9_-]*[a-z]/(?=[a-z])")  # of a repository, as in "meta-llama/"; not the V3 of "V3/R1"
_VENDORS = ("meta-", "mistralai-", "google-", "openai-", "nvidia-")


def stated(case: Mapping[str, Any]) -> dict[str, str | float]:
    """Software, machine, model, sizes, layout and settings of a case by name; what it does not say is left out."""
    run = case.get("run") if is_power(case) else None
    if isinstance(run, dict):
        case = {**run, **{key: case[key] for key in ("chip", "num_chips") if key in case}}
    software, arch, precision = _part(case, "software"), _part(case, "arch"), _part(case, "precision")
    batch = _part(case, "batch")
    found = {
        "framework": _text(software.get("framework")),
        "release": _text(software.get("release") or software.get("version")),
        "year": _number(software.get("year")),
        "chip": _text(case.get("chip") or case.get("machine")),
        "chips": _number(case.get("num_chips")),
        "model": _text(case.get("model")),
        "family": family_of(case.get("model")),
        "layers": _number(arch.get("layers")),
        "hidden": _number(arch.get("hidden")),
        "heads": _number(arch.get("heads")),
        "sequence": _first(_number(case.get(key)) for key in ("seq_len", "input_len", "kv_len")),
        "output": _number(case.get("output_len")),
        "batch": _first(
            _number(one)
            for one in (case.get("global_batch"), case.get("concurrency"), batch.get("global"), batch.get("per_chip"))
        ),
        "number_format": _text(case.get("number_format") or precision.get("weights")),
        "task": _text(case.get("task") or case.get("phase")),
        "layout": layout_text(case) or None,
        "settings": _settings(case),
    }  # fmt: skip
    return {key: value for key, value in found.items() if value is not None}


def layout_text(case: Mapping[str, Any]) -> str:
    """The layout as a case states it, as in "tp 2 pp 4 micro_batch 1"; empty where it states none."""
    parts = []
    for key in (*_DEGREES, *_REST_OF_LAYOUT):
        value = _text(case.get(key))
        if value not in (None, "", "1") or (value == "1" and key == "micro_batch"):  # a degree of 1 splits nothing
            parts.append(f"{key} {value}")
    if case.get("fsdp"):
        parts.append("fsdp")  # the text names the software rather than the layout
    return " ".join(parts)


def family_of(model: Any) -> str | None:
    """The family of a model by its name: the letters that it begins with, without a maker's name before them."""
    name = str(model or "").lower()
    maker = _MAKER.match(name)
    name = name[maker.end() :] if maker else name
    for vendor in _VENDORS:
        name = name.removeprefix(vendor)
    found = _FAMILY.match(name)
    return found.group() if found else None


def _settings(case: Mapping[str, Any]) -> str | None:
    """What else of a run was set, in one text: flags, features and the recipe."""
    said = [case.get("flags"), case.get("features"), _part(case, "extra").get("recipe_config")]
    return "; ".join(str(one) for one in said if one) or None


def _part(case: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = case.get(key)
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, dict | list):
        return None
    return str(value)[:_LONGEST]


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e15:
        return None
    return value


def _first(values: Any) -> float | None:
    return next((one for one in values if one is not None), None)
