"""Questions without a study file, as studies: how fast a machine is at something, and how small a cluster can be."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

from sweep.asking import at_most, held, served_in, toml, with_unit
from sweep.errors import InputError, Problem, problem

Phase = Literal["training", "prefill", "decode", "serving"]
# Key of a study -> the option that it comes from.
OPTIONS = {
    "workloads[0].model": "--model",
    "workloads[0].sequence": "--sequence",
    "workloads[0].batch": "--batch",
    "workloads[0].number_format": "--format",
    "designs[0].system": "--system",
    "designs[0].engine": "--engine",
    "designs[0].stack": "--stack",
    "chips[0]": "--chips",
    "traffic.input_tokens": "--input",
    "traffic.output_tokens": "--output",
    "traffic.rate": "--rate",
    "traffic.load": "--load",
    "targets.ttft": "--ttft",
    "targets.tpot": "--tpot",
    "targets.ttft_p99": "--ttft-p99",
    "targets.tpot_p99": "--tpot-p99",
    "serving.weight_format": "--format",
    "serving.kv_format": "--kv-format",
    "search.objective": "--objective",
}
_LISTED = re.compile(r"^\[\[designs\]\]$", re.M)
_TARGETS = ("ttft", "tpot", "ttft_p99", "tpot_p99")


def options_of(text: str) -> dict[str, str]:
    """Key of a question's study -> the option that it comes from, for every machine in it."""
    numbers = range(1, len(_LISTED.findall(text)))
    own = {key: option for key, option in OPTIONS.items() if key.startswith("designs[0]")}
    first = {"designs[0].number_format": "--format"}
    return OPTIONS | first | {key.replace("[0]", f"[{i}]"): own[key] for i in numbers for key in own}


def how_fast(
    *,
    model: str,
    system: str,
    chips: int,
    phase: Phase = "training",
    sequence: str = "4096",
    batch: int = 1024,
    input: str = "4096",
    output: str = "1024",
    number_format: str | None = None,
    kv_format: str | None = None,
    stack: str | None = None,
    engine: str | None = None,
    layout: str | None = None,
    objective: str | None = None,
    top: int = 1,
    **targets: str | None,
) -> str:
    """The study of `sweep try`, whose options these are. Raises InputError with what is wrong with the layout."""
    degrees = held(layout, training=phase == "training")
    search = {"objective": objective, "rows": f"top:{top}" if top > 1 else None}
    if phase == "training":
        question = f"How fast does {system} train {model} on {chips} chips?"
        tables: dict[str, Any] = {
            "workloads": {"model": model, "sequence": with_unit(sequence, "token"), "batch": batch,
                          "number_format": number_format},
            "designs": {"system": system, "stack": stack or engine},
            "search": search,
        }  # fmt: skip
    else:
        question = f"How fast does {system} serve {model} on {chips} chips ({phase})?"
        tables = _served(model, system, (input, output), number_format, kv_format, engine)
        tables["targets"] = _targets(targets)
        tables["search"] = search
        if phase == "serving":
            degrees = {"deployment": ["colocated", "disaggregated"], **degrees}
    tables["layout"] = degrees
    return toml(tables, {"question": question, "phase": phase, "chips": [chips]})


def how_small(
    *,
    model: str,
    system: str | Sequence[str],
    load: str | None = None,
    rate: str | None = None,
    input: str = "4096",
    output: str = "1024",
    chips: int = 512,
    deployment: Literal["colocated", "disaggregated", "either"] = "either",
    number_format: str | None = None,
    kv_format: str | None = None,
    engine: str | None = None,
    **targets: str | None,
) -> str:
    """The study of `sweep size`, whose options these are. Raises InputError where there is no load."""
    if (load is None) == (rate is None):
        raise problem("sweep size", "--load, --rate", "needs one of them", None, 'as in --load "5000 tokens/s"')
    systems = [system] if isinstance(system, str) else list(dict.fromkeys(system))
    if not systems:
        raise problem("sweep size", "--system", "needs a machine", None, "sweep list systems names them")
    tables = _served(model, systems[0], (input, output), number_format, kv_format, engine)
    if len(systems) > 1:
        tables["designs"] = [
            {"system": one, "engine": engine, "number_format": number_format or served_in(one)} for one in systems
        ]
        del tables["serving"]["weight_format"]
    tables["targets"] = _targets(targets)
    tables["traffic"] |= {"load": with_unit(load, "token/s"), "rate": with_unit(rate, "request/s")}
    tables["layout"] = {"deployment": ["colocated", "disaggregated"] if deployment == "either" else deployment}
    tables["search"] = {"objective": "chips_used"}
    asked = f"How few chips of {' or '.join(systems)} serve {model} at {load or rate}?"
    return toml(tables, {"question": asked, "phase": "serving", "chips": [chips]})


def _served(
    model: str, system: str, lengths: tuple[str, str], number_format: str | None, kv_format: str | None,
    engine: str | None,
) -> dict[str, Any]:  # fmt: skip
    """Tables of a study of serving."""
    asked, answered = (with_unit(length, "token") for length in lengths)
    return {
        "workloads": {"model": model},
        "designs": {"system": system, "engine": engine},
        "traffic": {"input_tokens": asked, "output_tokens": answered},
        "serving": {"weight_format": number_format or served_in(system), "kv_format": kv_format},
    }


def _targets(given: dict[str, str | None]) -> dict[str, str | None]:
    """The table of targets. Raises InputError for a name that is none."""
    unknown = [Problem("question", name, "no option of a question", None) for name in given if name not in _TARGETS]
    if unknown:
        raise InputError(unknown)
    return {name: at_most(limit) for name, limit in given.items()}
