"""`sweep explain`: one layout taken apart."""

from __future__ import annotations

import json as json_text
import sys
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

if TYPE_CHECKING:
    from sweep.explanation import Explanation
    from sweep.serving_explanation import ServedExplanation


def explain(
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
    json: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Take one layout apart: seconds, bytes and joules by part, what bounds the step, and what it violates.

    Parameters
    ----------
    row
        A row of a run, as RUN#ROW (RUN is a path or a URL), with the row's number in the answer or the data set; RUN
        alone is its best row.
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
    json
        Print one JSON object.
    """
    from sweep.answer import told
    from sweep.chosen import chosen_row
    from sweep.explanation import explain_layout

    if row is not None:
        explanation: Explanation | ServedExplanation = chosen_row(row, banded=True).found
    else:
        explanation = explain_layout(
            model=model, system=system, chips=chips, layout=layout, batch=batch, sequence=sequence,
            number_format=number_format, stack=stack,
        )  # fmt: skip
    if json:
        sys.stdout.write(json_text.dumps(told(explanation.as_json()), allow_nan=False) + "\n")
        return
    _show(explanation)


def _show(explanation: Explanation | ServedExplanation) -> None:
    from sweep.commands.terminal import console as opened
    from sweep.shares import tree_of

    console = opened(120)
    console.print(explanation.headline())
    for title, unit, parts in explanation.tables():
        console.print(tree_of(title, unit, parts, explanation.sources() if title.startswith("time") else None))
    for line in explanation.remarks():
        console.print(line)
