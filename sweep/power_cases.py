"""Cases of measured power: what a case says, and what is known of rows that are a bare figure.

A row with an `id`, a `category` and a `figure` is matched by its `id` with the scenarios of sweep/power_cases.toml,
which say how it was measured. Everything else is in the form of docs/power.md.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from model.architecture import Architecture
from model.power import BOUNDARIES, COOLING
from sweep import catalogue
from sweep.chip_names import CHIP_SYSTEMS
from sweep.errors import nearest
from sweep.published import InexpressibleError

SCENARIOS = Path(__file__).parent / "power_cases.toml"
STATES = ("training", "serving", "matmul", "idle", "rated")
_POWERS = ("power_w", "idle_w", "peak_power_w", "energy_j", "energy_per_token_j")
_NOT_POWER = {"cost": "a price", "facility": "a price of electricity or a property of buildings"}


def is_power(case: Mapping[str, Any]) -> bool:
    """Whether a case is of power: it says so, measures watts or joules, or is a bare figure with a category."""
    measured = case.get("measured")
    watts = isinstance(measured, dict) and any(key in measured for key in _POWERS)
    return case.get("kind") == "power" or watts or ("figure" in case and "category" in case)


def read_power_case(case: Mapping[str, Any]) -> dict[str, Any]:
    """The case in its types, its words known, and in `assumed` what it left open.

    Raises
    ------
    ValueError
        Naming the field at fault.
    InexpressibleError
        With the reason why a bare figure cannot be asked.
    """
    from sweep.case_schema import read_power  # pydantic is slow to import

    found = _filled(read_power(_scenario(case) if "figure" in case else case))
    words = {"boundary": BOUNDARIES, "state": STATES, "cooling": tuple(COOLING)}
    for field, known in words.items():
        if field in found and found[field] not in known:
            raise ValueError(f"{field} is {found[field]!r}, not one of {', '.join(known)}")
    if not found.get("measured"):
        raise ValueError("measured is not stated")
    for field, names in (("chip", tuple(CHIP_SYSTEMS)), ("system", tuple(catalogue.names("systems")))):
        if field in found and found[field] not in names:
            raise ValueError(f"{field} {found[field]!r} is not in the catalogue; {nearest(found[field], names)}")
    if "chip" not in found and "system" not in found:
        raise ValueError("neither chip nor system is stated")
    return found


# ------------------------------------------------------------------------------------------------ bare figures
@cache
def _scenarios() -> tuple[dict[str, Any], dict[str, Any]]:
    """Scenarios by name, and rows by id: which scenario and quantity they measure, or why they cannot be asked."""
    raw = tomllib.loads(SCENARIOS.read_text(encoding="utf-8"))
    return raw["scenarios"], raw["rows"]


def _scenario(row: Mapping[str, Any]) -> dict[str, Any]:
    """A bare figure as a case."""
    figure = row["figure"] if isinstance(row["figure"], dict) else {}
    category = str(row.get("category"))
    if category in _NOT_POWER:
        raise InexpressibleError(f"{_NOT_POWER[category]}, not a measured power")
    if figure.get("confidence") != "measured":
        raise InexpressibleError(f"not a measurement: its confidence is {figure.get('confidence')!r}")
    scenarios, rows = _scenarios()
    known = rows.get(str(row.get("id")))
    if known is None:
        raise InexpressibleError("no scenario says how it was measured: give it as a case (docs/power.md)")
    if "reason" in known:
        raise InexpressibleError(known["reason"])
    base = {key: value for key, value in scenarios[known["scenario"]].items() if key != "source"}
    own = {key: value for key, value in known.items() if key not in ("scenario", "quantity")}
    return {"id": row["id"], **base, **own, "measured": {known["quantity"]: figure.get("value")}}


# ------------------------------------------------------------------------------------------------ what is left open
def _filled(case: dict[str, Any]) -> dict[str, Any]:
    """The case with other names of its fields resolved, and what it leaves open."""
    assumed = []
    machine = case.get("machine")
    if machine is not None:
        case = {**case, "chip" if machine in CHIP_SYSTEMS else "system": machine}
    if "chip" not in case and case.get("system"):
        own = (case["system"], None)
        sold = [name for name, sold in CHIP_SYSTEMS.items() if sold == own and not name.endswith("_die")]
        case = {**case, "chip": sold[0]} if sold else case
    run = {**(case.get("run") or {}), **(case.get("workload") or {}), **(case.get("layout") or {})}
    if run:
        case = {**case, "run": _with_architecture(run)}
    if "state" not in case:
        state = "idle" if not run else "serving" if "phase" in run else "training"
        case, assumed = {**case, "state": state}, [f"state={state}"]
    if "boundary" not in case:
        case = {**case, "boundary": "node"}
        assumed.append("boundary=node")
    return {**case, "assumed": assumed}


def _with_architecture(run: dict[str, Any]) -> dict[str, Any]:
    """The run with the shapes of a model that the catalogue knows by its name, where it gives none."""
    name = str(run.get("model"))
    if run.get("arch") or name not in catalogue.names("models"):
        return run
    return {**run, "arch": shapes(catalogue.architecture(name))}


def shapes(model: Architecture) -> dict[str, Any]:
    """An architecture as cases write it."""
    found: dict[str, Any] = {
        "layers": model.layers, "hidden": model.hidden, "heads": model.heads, "kv_heads": model.key_value_heads,
        "head_dim": model.head_size, "ffn_hidden": model.feed_forward, "vocab": model.vocabulary,
        "gated_mlp": model.gated, "tied_embeddings": model.tied_embeddings, "mtp_layers": model.mtp_layers,
    }  # fmt: skip
    if model.window:
        found["sliding_window"] = model.window
        found["full_attention_every_n_layers"] = model.full_attention_every
    if model.latent:
        one = model.latent
        found["mla"] = {
            "q_lora_rank": one.query_rank, "kv_lora_rank": one.key_value_rank, "qk_nope_head_dim": one.nope_head,
            "qk_rope_head_dim": one.rope_head, "v_head_dim": one.value_head,
        }  # fmt: skip
    if model.experts:
        mix = model.experts
        found["moe"] = {
            "experts": mix.experts, "experts_per_token": mix.per_token, "moe_ffn_hidden": mix.hidden,
            "shared_experts": mix.shared, "shared_ffn_hidden": mix.shared_hidden, "dense_layers": mix.dense_layers,
            "moe_every_n_layers": mix.every,
        }  # fmt: skip
    if model.sparse and not model.sparse.window:
        found["dsa"] = {
            "index_topk": model.sparse.keys, "index_n_heads": model.sparse.index_heads,
            "index_head_dim": model.sparse.index_head,
        }  # fmt: skip
    return found
