"""`sweep try` and `sweep size`: one question without a study file."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

if TYPE_CHECKING:
    from sweep.asking import Answered

Flag = Annotated[bool, Parameter(name="--json", negative="")]
Changes = Annotated[list[str] | None, Parameter(name="--set", negative="")]
Phase = Literal["training", "prefill", "decode", "serving"]


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
    overrides: Changes = None,
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
    overrides
        Anything else of the study, as path=value; see sweep run. It may be given several times.
    as_json
        Print one JSON object: answer, infeasible, notes, study, why_not.
    """
    from sweep.questions import how_fast

    text = how_fast(
        model=model, system=system, chips=chips, phase=phase, sequence=sequence, batch=batch, input=input,
        output=output, number_format=number_format, kv_format=kv_format, stack=stack, engine=engine, layout=layout,
        objective=objective, top=top, ttft=ttft, tpot=tpot, ttft_p99=ttft_p99, tpot_p99=tpot_p99,
    )  # fmt: skip
    return _tell("sweep try", text, overrides or [], as_json)


def size(
    *,
    model: str,
    system: Annotated[list[str], Parameter(negative="")],
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
    overrides: Changes = None,
    as_json: Flag = False,
) -> int:
    """Find the smallest cluster that serves a load within latency targets: whole instances, together or apart.

    Of several systems, the one whose smallest cluster costs the least.

    Parameters
    ----------
    model, system
        Names in the catalogue; --system may be given several times.
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
        Chip packages at most, of each system.
    deployment
        Prompts in the instances that decode, in instances of their own, or whichever takes fewer chips.
    number_format
        Of the weights: the narrowest usual one that the chip runs unless given.
    kv_format
        Of the cache of keys and values.
    engine
        Serving engine; by default the system's.
    overrides
        Anything else of the study, as path=value; see sweep run. It may be given several times.
    as_json
        Print one JSON object: answer (with usd_per_hour, the cheapest first), infeasible, notes, study, why_not.
    """
    from sweep.questions import how_small

    text = how_small(
        model=model, system=system, load=load, rate=rate, input=input, output=output, chips=chips,
        deployment=deployment, number_format=number_format, kv_format=kv_format, engine=engine, ttft=ttft, tpot=tpot,
        ttft_p99=ttft_p99, tpot_p99=tpot_p99,
    )  # fmt: skip
    return _tell("sweep size", text, overrides or [], as_json)


def _tell(command: str, text: str, overrides: list[str], as_json: bool) -> int:
    """Print the answer first, then what it rests on, then the study that repeats it."""
    from sweep.asking import ask
    from sweep.errors import NothingFeasible
    from sweep.questions import options_of
    from sweep.sizing import cheapest_first

    answered = ask(text, command, options_of(text), overrides)
    sized = command == "sweep size"
    if sized:
        answered = cheapest_first(answered)
    if as_json:
        sys.stdout.write(json.dumps(answered.as_json(), allow_nan=False) + "\n")
    elif answered.answer.rows:
        _show(answered, sized)
    if answered.why_not is not None:
        raise NothingFeasible("\n".join([*answered.why_not.lines(), *answered.notes]))
    return 0


def _show(answered: Answered, sized: bool) -> None:
    from sweep import single_answer, sizing
    from sweep.commands.terminal import console as opened
    from sweep.tables import answer_table

    console = opened(200)
    rows = answered.answer.rows
    told = sizing.lines(answered) if sized else [*answered.lines, *single_answer.lines(answered)]
    for line in told:
        console.print(line)
    for table in sizing.tables(rows) if sized and len(answered.study.designs) > 1 else answer_table(rows):
        console.print(table)
    for line in (*(sizing.remarks(answered) if sized else ()), *answered.notes, *answered.answer.remarks):
        console.print(line)
    console.print("\nThe study that repeats it (sweep run FILE.toml):\n")
    sys.stdout.write(answered.study.text)
