"""`sweep trace`: a step as a timeline for Perfetto."""

from __future__ import annotations

import json as json_text
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def trace(
    row: str | None = None,
    *,
    model: str | None = None,
    system: str | None = None,
    chips: int | None = None,
    layout: str | None = None,
    batch: int = 1024,
    sequence: int = 4096,
    number_format: Annotated[str, Parameter(name="--format")] = "bf16",
    stack: str | None = None,
    output: Path | None = None,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Write a step as a timeline that ui.perfetto.dev opens: a lane for every resource of every pipeline stage.

    Parameters
    ----------
    row
        A row of a run as RUN#ROW, or RUN for its best row.
    model, system
        Names in the catalogue.
    chips
        Number of chips (packages).
    layout
        As in "tp=8,pp=16,dp=64,mbs=1,recompute=none"; what is left out is 1, and dp follows from the chips.
    batch
        Sequences of a step.
    sequence
        Tokens of a sequence.
    number_format
        Of the matmuls: bf16, fp8, mxfp8, nvfp4, int8.
    stack
        Software stack; by default the system's.
    output
        File to write the trace to; by default standard output.
    json
        With --output: print what is in the file as one JSON object. The trace itself is JSON either way.
    """
    from sweep.chosen import chosen_layout, chosen_row
    from sweep.trace.timeline import timeline_of, written

    if row is not None:
        chosen = chosen_row(row)
    else:
        chosen = chosen_layout(
            command="sweep trace", model=model, system=system, chips=chips, layout=layout, batch=batch,
            sequence=sequence, number_format=number_format, stack=stack,
        )  # fmt: skip
    if output is None:
        sys.stdout.write(timeline_of(chosen.found).text())
        return
    told = written(chosen, output)
    if json:
        sys.stdout.write(json_text.dumps(told, allow_nan=False) + "\n")
        return
    sys.stdout.write(
        f"{output}: {told['slices']:,} slices of {told['stages']} stages, {told['end_s']:.4g} s; {told['from']}\n"
        "Open it at ui.perfetto.dev (it stays on this machine) or in chrome://tracing.\n"
    )
