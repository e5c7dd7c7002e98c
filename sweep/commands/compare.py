"""`sweep compare`: designs side by side, only what differs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

if TYPE_CHECKING:
    from sweep.comparison import Comparison, Line

_SHOWN = 5  # designs of the first view
_SMALL = 0.005  # share of the whole below which a part is not shown


def compare(
    *designs: str,
    model: str | None = None,
    system: str | None = None,
    chips: int | None = None,
    layout: str | None = None,
    stack: str | None = None,
    phase: Literal["training", "prefill", "decode", "serving"] = "training",
    batch: int = 1024,
    sequence: int = 4096,
    number_format: Annotated[str | None, Parameter(name="--format")] = None,
    input: str = "4096",
    output: str = "1024",
    ttft: str | None = None,
    tpot: str | None = None,
    every: Annotated[bool, Parameter(name="--all", negative="")] = False,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Put designs side by side: only what differs, with ratios to the first; what is the same in one line below.

    Parameters
    ----------
    designs
        Two or more. Each a row of a run as RUN#ROW, RUN for its best row, or words in any order: a system, a model,
        software, a number of chips and a layout, as in "gb200-nvl72 1152 tp=8,pp=8". Without a layout the best one.
    model, system, chips, layout, stack
        What words leave out.
    phase
        Of designs in words: training, or which part of serving.
    batch, sequence
        Of training in words: sequences of a step, and tokens of a sequence.
    number_format
        Of designs in words: of the matmuls, of weights in serving.
    input, output
        Of serving in words: mean tokens of a prompt and of an answer.
    ttft, tpot
        Of serving in words: most that the time to first token and the time per output token may be.
    every
        Show all designs, and small parts too.
    as_json
        Print one JSON object: designs, differs, same.
    """
    from sweep.answer import told
    from sweep.comparison import Asked, compared

    asked = Asked(model, system, chips, layout, stack, phase, batch, sequence, number_format, input, output, ttft, tpot)
    found = compared(designs, asked)
    if as_json:
        sys.stdout.write(json.dumps(told(found.as_json()), allow_nan=False) + "\n")
    else:
        _show(found, every)


def _show(found: Comparison, every: bool) -> None:
    from sweep.commands.terminal import console as opened
    from sweep.comparison import letter

    console = opened(160)
    for line in found.headline():
        console.print(line)
    for place, (name, origin) in enumerate(zip(found.names, found.origins, strict=True)):
        console.print(f"{letter(place)}  {name}: {origin}" if name not in origin else f"{letter(place)}  {origin}",
                      style="dim")  # fmt: skip
    count = len(found.names) if every else min(len(found.names), _SHOWN)
    console.print(_table(found, count, every))
    if count < len(found.names):
        console.print(f"and {len(found.names) - count} more: --all")
    same = ", ".join(f"{line.name} {line.shown(0)}" for line in found.same if not _is_part(line.name))
    if same:
        console.print(f"Same: {same}", style="dim")


def _is_part(name: str) -> bool:
    return name.startswith(("time_s.", "memory_bytes."))


def _table(found: Comparison, count: int, every: bool) -> Any:
    """Two designs with a column of ratios and one of per cents; of more each value has its ratio behind it."""
    from rich import box
    from rich.table import Table

    from sweep.comparison import letter

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    pair = count == 2
    heads = ["A", "B", "B / A", "change"] if pair else [letter(place) for place in range(count)]
    table.add_column("what")
    for head in heads:
        table.add_column(head, justify="right", overflow="fold")
    previous = ""
    for line in _worth_showing(found.different, every):
        kind = line.name.partition(".")[0] if "." in line.name else ""
        if kind != previous and table.row_count:
            table.add_section()
        previous = kind
        table.add_row(line.name, *_cells(line, count, pair))
    return table


def _worth_showing(lines: Sequence[Line], every: bool) -> list[Line]:
    """Without parts that are next to nothing of the whole in every design."""
    largest: dict[str, float] = {}
    for line in lines:
        if _is_part(line.name):
            head = line.name.partition(".")[0]
            largest[head] = max(largest.get(head, 0.0), *(float(value or 0.0) for value in line.values))
    return [
        line for line in lines
        if every or not _is_part(line.name)
        or max(float(value or 0.0) for value in line.values) >= _SMALL * largest[line.name.partition(".")[0]]
    ]  # fmt: skip


def _cells(line: Line, count: int, pair: bool) -> list[str]:
    shown = [line.shown(place) for place in range(count)]
    if pair:
        ratio = line.ratios[1]
        return [*shown, "" if ratio is None else f"{ratio:.2f} x", "" if ratio is None else _change(ratio)]
    rest = [f"{text} ({ratio:.2f} x)" if ratio is not None else text
            for text, ratio in zip(shown[1:], line.ratios[1:count], strict=True)]  # fmt: skip
    return [shown[0], *rest]


def _change(ratio: float) -> str:
    """A ratio as a change in percent; one that rounds to nothing has no sign."""
    text = f"{ratio - 1.0:+.0%}"
    return "0%" if text in ("-0%", "+0%") else text
