"""`sweep export`: the launch arguments of a layout for a training framework or a serving engine."""

from __future__ import annotations

import json as json_text
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

if TYPE_CHECKING:
    from sweep.chosen import Chosen
    from sweep.launch.arguments import Launch

Phase = Literal["training", "prefill", "decode", "serving"]
_OPTIONS = {"designs[0].engine": "--stack", "traffic.output_tokens": "--answer"}  # named otherwise than elsewhere


def export(
    row: str | None = None,
    *,
    to: str | None = None,
    model: str | None = None,
    system: str | None = None,
    chips: int | None = None,
    layout: str | None = None,
    phase: Phase = "training",
    batch: int = 1024,
    sequence: int = 4096,
    input: str = "4096",
    output_tokens: Annotated[str, Parameter(name="--answer")] = "1024",
    ttft: str | None = None,
    tpot: str | None = None,
    number_format: Annotated[str | None, Parameter(name="--format")] = None,
    kv_format: str | None = None,
    stack: str | None = None,
    output: Path | None = None,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Write the launch script of a layout: arguments that the framework documents, and what it cannot express.

    Parameters
    ----------
    row
        A row of a run as RUN#ROW, or RUN for its best row.
    to
        megatron-lm, megatron-bridge, mindspeed-llm, torchtitan; vllm, vllm-ascend, sglang, tensorrt-llm. Unless given,
        the one of the row's software.
    model, system
        Names in the catalogue.
    chips
        Number of chips (packages).
    layout
        Of training, as in "tp=8,pp=16,dp=64,mbs=1,recompute=none"; of serving, degrees to hold while the others are
        searched.
    phase
        Training, or which part of serving.
    batch, sequence
        Of training: sequences of a step, tokens of a sequence.
    input, output_tokens
        Of serving: mean tokens of a prompt and of an answer.
    ttft, tpot
        Of serving: most that the mean time to first token and per output token may be, as in "50 ms".
    number_format
        Of the matmuls: of training bf16 unless given, of serving the narrowest usual one that the chip runs.
    kv_format
        Of serving: of the cache of keys and values.
    stack
        Software of training or of serving; by default the system's.
    output
        File to write the script to; by default standard output.
    json
        Print one JSON object: framework, release, source, job, commands, not_expressed, remarks.
    """
    from sweep.launch.export import launch

    asked = (model, system, chips, layout)
    if row is None and phase == "training":
        chosen = _trained(*asked, batch, sequence, number_format, stack)
    elif row is None:
        chosen = _served(*asked, phase, (input, output_tokens), (ttft, tpot), number_format, kv_format, stack)
    else:
        from sweep.chosen import chosen_row

        chosen = chosen_row(row)
    _tell(launch(chosen.found, chosen.origin, to), output, json)


def _tell(made: Launch, output: Path | None, json: bool) -> None:
    """Write the script, and print it or the object."""
    if output is not None:
        output.write_text(made.script(), encoding="utf-8")
        output.chmod(0o755)
        for line in made.lacking:
            sys.stderr.write(f"{made.framework} cannot express: {line}\n")
    if json:
        sys.stdout.write(json_text.dumps(made.as_json(), allow_nan=False) + "\n")
    elif output is None:
        sys.stdout.write(made.script())


def _trained(
    model: str | None, system: str | None, chips: int | None, layout: str | None, batch: int, sequence: int,
    number_format: str | None, stack: str | None,
) -> Chosen:  # fmt: skip
    """A layout of training as it is given."""
    from sweep.chosen import chosen_layout

    return chosen_layout(
        command="sweep export", model=model, system=system, chips=chips, layout=layout, batch=batch,
        sequence=sequence, number_format=number_format or "bf16", stack=stack,
    )  # fmt: skip


def _served(
    model: str | None, system: str | None, chips: int | None, layout: str | None, phase: Phase,
    lengths: tuple[str, str], targets: tuple[str | None, str | None], number_format: str | None, kv_format: str | None,
    engine: str | None,
) -> Chosen:  # fmt: skip
    """The best instances of a question of serving."""
    from sweep.chosen import chosen_answer
    from sweep.errors import InputError, Problem
    from sweep.questions import OPTIONS, how_fast

    missing = [
        Problem("sweep export", f"--{name}", "is needed without a RUN", None, "give it")
        for name, value in (("model", model), ("system", system), ("chips", chips))
        if value is None
    ]
    if model is None or system is None or chips is None:
        raise InputError(missing)
    text = how_fast(
        model=model, system=system, chips=chips, phase=phase, input=lengths[0], output=lengths[1], layout=layout,
        number_format=number_format, kv_format=kv_format, engine=engine, ttft=targets[0], tpot=targets[1],
    )  # fmt: skip
    return chosen_answer(text, "sweep export", OPTIONS | _OPTIONS)
