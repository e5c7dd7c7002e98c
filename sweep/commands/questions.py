"""`sweep try` and `sweep size`: one question without a study file."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

if TYPE_CHECKING:
    from sweep.asking import Answered

Flag = Annotated[bool, Parameter(name="--json", negative="")]
Phase = Literal["training", "prefill", "decode", "serving"]
_OPTIONS = {
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


def try_(
    *,
    model: str,
    system: str,
    chips: int,
    phase: Phase = "training",
    sequence: str = "4096",
    batch: int = 1024,
    input: str = "4096",
    output: str = "1024",
    ttft: str | None = None,
    tpot: str | None = None,
    ttft_p99: str | None = None,
    tpot_p99: str | None = None,
    number_format: Annotated[str | None, Parameter(name="--format")] = None,
    kv_format: str | None = None,
    stack: str | None = None,
    engine: str | None = None,
    layout: str | None = None,
    objective: str | None = None,
    top: int = 1,
    as_json: Flag = False,
) -> int:
    """Answer one question without a file, and print the study that would repeat it.

    Parameters
    ----------
    model, system
        Names in the catalogue.
    chips
        Chip packages.
    phase
        Training, or which part of serving.
    sequence, batch
        Of training: tokens of a sequence, and sequences of a step.
    input, output
        Of serving: mean tokens of a prompt and of an answer.
    ttft, tpot, ttft_p99, tpot_p99
        Of serving: most that the time to first token and the time per output token may be in the mean, and for 99 %,
        as in "50 ms".
    number_format
        Of the matmuls: of training bf16 unless given, of serving the narrowest usual one that the chip runs.
    kv_format
        Of serving: of the cache of keys and values.
    stack, engine
        Software of training, of serving; by default the system's.
    layout
        Degrees to hold, as in "tp=8,pp=2"; the others are searched.
    objective
        What is best, as in tokens_per_s or energy_per_token_j.
    top
        How many of the best layouts to find; the first is printed.
    as_json
        Print one JSON object: answer, infeasible, notes, study.
    """
    from sweep.asking import ask, held, served_in, toml, with_unit

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
        tables = _served(model, system, (input, output), number_format or served_in(system), kv_format, engine)
        tables["targets"] = _targets(ttft, tpot, ttft_p99, tpot_p99)
        tables["search"] = search
        if phase == "serving":
            degrees = {"deployment": ["colocated", "disaggregated"], **degrees}
    tables["layout"] = degrees
    text = toml(tables, {"question": question, "phase": phase, "chips": [chips]})
    return _tell(ask(text, "sweep try", _OPTIONS), text, as_json, [])


def size(
    *,
    model: str,
    system: str,
    load: str | None = None,
    rate: str | None = None,
    input: str = "4096",
    output: str = "1024",
    ttft: str | None = None,
    tpot: str | None = None,
    ttft_p99: str | None = None,
    tpot_p99: str | None = None,
    chips: int = 512,
    deployment: Literal["colocated", "disaggregated", "either"] = "either",
    number_format: Annotated[str | None, Parameter(name="--format")] = None,
    kv_format: str | None = None,
    engine: str | None = None,
    as_json: Flag = False,
) -> int:
    """Find the smallest cluster that serves a load within latency targets: whole instances, together or apart.

    Parameters
    ----------
    model, system
        Names in the catalogue.
    load
        Output tokens a second, as in "5000 tokens/s".
    rate
        Requests a second instead, as in "20 requests/s".
    input, output
        Mean tokens of a prompt and of an answer.
    ttft, tpot, ttft_p99, tpot_p99
        Most that the time to first token and the time per output token may be in the mean, and for 99 %, as in "2 s"
        and "50 ms".
    chips
        Chip packages at most.
    deployment
        Prompts in the instances that decode, in instances of their own, or whichever takes fewer chips.
    number_format
        Of the weights: the narrowest usual one that the chip runs unless given.
    kv_format
        Of the cache of keys and values.
    engine
        Serving engine; by default the system's.
    as_json
        Print one JSON object: answer, infeasible, notes, study.
    """
    from sweep.asking import ask, served_in, toml, with_unit
    from sweep.errors import problem

    if (load is None) == (rate is None):
        raise problem("sweep size", "--load, --rate", "needs one of them", None, 'as in --load "5000 tokens/s"')
    tables = _served(model, system, (input, output), number_format or served_in(system), kv_format, engine)
    tables["targets"] = _targets(ttft, tpot, ttft_p99, tpot_p99)
    tables["traffic"] |= {"load": with_unit(load, "token/s"), "rate": with_unit(rate, "request/s")}
    tables["layout"] = {"deployment": ["colocated", "disaggregated"] if deployment == "either" else deployment}
    tables["search"] = {"objective": "chips_used"}
    asked = f"How few chips of {system} serve {model} at {load or rate}?"
    text = toml(tables, {"question": asked, "phase": "serving", "chips": [chips]})
    answered = ask(text, "sweep size", _OPTIONS)
    return _tell(answered, text, as_json, _why(answered))


def _served(
    model: str, system: str, lengths: tuple[str, str], number_format: str, kv_format: str | None, engine: str | None
) -> dict[str, Any]:
    """Tables of a study of serving."""
    from sweep.asking import with_unit

    asked, answered = (with_unit(length, "token") for length in lengths)
    return {
        "workloads": {"model": model},
        "designs": {"system": system, "engine": engine},
        "traffic": {"input_tokens": asked, "output_tokens": answered},
        "serving": {"weight_format": number_format, "kv_format": kv_format},
    }


def _targets(ttft: str | None, tpot: str | None, ttft_p99: str | None, tpot_p99: str | None) -> dict[str, Any]:
    """The table of targets."""
    from sweep.asking import at_most

    given = {"ttft": ttft, "tpot": tpot, "ttft_p99": ttft_p99, "tpot_p99": tpot_p99}
    return {name: at_most(limit) for name, limit in given.items()}


def _why(answered: Answered) -> list[str]:
    """What the smallest cluster is made of, and what keeps it from being smaller."""
    from model.units import show
    from sweep.answer import band_text
    from sweep.designs import machine
    from sweep.serving_answer import layout_text, targets_of

    lines = []
    for row in answered.answer.rows:
        unit = machine(answered.study.designs[0]).unit_packages
        used, spare = int(row["chips_used"]), row["tokens_per_s"] / row["load_tokens_per_s"] - 1.0
        units = -(-used // unit)
        band = f"; 10 to 90 %: {band_text(row, 'chips_used')} chips" if "chips_used_p10" in row else ""
        lines += [
            f"{used:,} chips of {row['system']} ({units:,} x {unit}) serve "
            f"{show(row['load_tokens_per_s'], 'token/s')} ({show(row['requests_per_s'] / (1.0 + spare), 'request/s')})"
            f" with {spare:.0%} to spare{band}",
            f"{row['deployment']}: {layout_text(row)}",
            f"TTFT {show(row['ttft_s'], 's')} (99 %: {show(row['ttft_p99_s'], 's')}), TPOT {show(row['tpot_s'], 's')} "
            f"(99 %: {show(row['tpot_p99_s'], 's')}); targets: {', '.join(targets_of(row))}",
            f"Why not fewer: the largest part of a pass is {row['bound_by']}; a rank uses "
            f"{show(row['hbm_used_bytes'], 'byte')} of HBM; every smaller cluster of whole instances breaks a target, "
            "the load or the memory",
        ]
    return lines


def _tell(answered: Answered, text: str, as_json: bool, first: list[str]) -> int:
    """Print the answer first, then what it rests on, then the study that repeats it."""
    from sweep.answer import told
    from sweep.errors import NothingFeasible

    found = answered.answer
    if as_json:
        said = {
            "answer": found.rows,
            "infeasible": found.failed,
            "notes": [*answered.notes, *found.remarks],
            "study": text,
        }
        sys.stdout.write(json.dumps(told(said), allow_nan=False) + "\n")
    elif found.rows:
        _show(answered, text, first)
    if not found.rows:
        reasons = "\n".join(
            f"  {row['design']}, {row['work']}, {row['chips']} chips: {row['reason']}" for row in found.failed
        )
        raise NothingFeasible("\n".join(["no feasible layout", *filter(None, (reasons, *answered.notes))]))
    return 0


def _show(answered: Answered, text: str, first: list[str]) -> None:
    from rich.console import Console

    from sweep.tables import answer_table

    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 200, highlight=False,
                      soft_wrap=not sys.stdout.isatty())  # fmt: skip
    for line in first or answered.lines:
        console.print(line, markup=False)
    for table in answer_table(answered.answer.rows):
        console.print(table)
    for line in (*answered.notes, *answered.answer.remarks):
        console.print(line, markup=False)
    console.print("\nThe study that repeats it (sweep run FILE.toml):\n", markup=False)
    sys.stdout.write(text)
