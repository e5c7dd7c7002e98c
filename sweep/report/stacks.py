"""Where the time of the best layouts goes, and their memory: parts that add up to the whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from model import units
from sweep.page import Block, Chart, Choice, part_colour, plain
from sweep.part_meanings import OF
from sweep.report.axes import figure, hatching, over_bars, short_ticks
from sweep.report.view import Row, View, bar_label, row_layout

_RUNNERS_UP = 3
_MOST = 9
_PATTERNS = ("", "/", "\\", "x", "-", "|", "+", ".")


def rows_of(view: View) -> list[Row]:
    """The best layout of each design at its largest size, then the next best layouts of the best design there."""
    chosen = list(view.leaders[: _MOST - _RUNNERS_UP])
    if not chosen:
        return []
    first = chosen[0]
    near = [row for row in view.best(first["design"]) if row["chips"] == first["chips"]]
    told = {row_layout(first)}
    for row in near:  # layouts that read the same differ in details
        if len(told) <= _RUNNERS_UP and row_layout(row) not in told:
            told.add(row_layout(row))
            chosen.append(row)
    return chosen


def time_charts(view: View) -> list[Block]:
    """Time by what it is spent on: of a step, and for equal work."""
    rows = rows_of(view)
    if not rows:
        return []
    what = "a pass" if "phase" in rows[0] else "a step"
    head = (
        "The best layout of each design at its largest size, the best first, then the next best layouts of the best "
        "design. Parts are on the critical path: what is hidden behind compute takes no time here."
    )
    whole = f"sum of parts = {'time of a pass' if 'phase' in rows[0] else 'step_time_s'}"
    equal = [{**row, **_for_equal_work(row)} for row in rows]
    options = [
        (f"seconds of {what}", _chart(view, rows, "time", "s", head, f"bar = {whole}", f"time of {what}")),
        ("chip-seconds of a million tokens", _chart(
            view, equal, "time", "s", f"{head} Scaled to equal work: half as long is twice the tokens of a chip.",
            f"bar = 1e6 / tokens_per_s_per_chip, divided as {whole}", "chip-seconds of a million tokens",
        )),
    ]  # fmt: skip
    return [Choice("In", [(name, [chart]) for name, chart in options])]


def _for_equal_work(row: Row) -> dict[str, float]:
    """The parts of a row's time, scaled to what a chip takes for a million tokens."""
    parts = {name: value for name, value in row.items() if name.startswith("time_") and name.endswith("_s") and value}
    scale = 1e6 / row["tokens_per_s_per_chip"] / sum(parts.values())
    return {name: value * scale for name, value in parts.items()}


def memory_chart(view: View) -> Chart | None:
    """Bytes of the fullest rank by what holds them."""
    rows = rows_of(view)
    if not rows:
        return None
    meaning = (
        "Memory in use on the fullest rank of the same layouts. The line across a bar is what a rank has: a layout "
        "fits if its bar ends before it."
    )
    return _chart(view, rows, "memory", "bytes", meaning, "bar = sum of parts = hbm_used_bytes", "memory")


def _chart(view: View, rows: Sequence[Row], kind: str, suffix: str, meaning: str, formula: str, title: str) -> Chart:
    names = [name for name in rows[0] if name.startswith(f"{kind}_") and name.endswith(f"_{suffix}")]
    names = [name for name in names if any(row.get(name) for row in rows)]
    places = list(range(len(rows)))
    used: dict[str, int] = {}
    traces: list[Any] = []
    unit = "byte" if kind == "memory" else "s"
    totals = [sum(row[name] or 0.0 for name in names) for row in rows]
    for number, name in enumerate(names):
        word = _word(name)
        colour = part_colour(word, number)
        pattern = _PATTERNS[used.get(colour, 0) % len(_PATTERNS)]
        used[colour] = used.get(colour, 0) + 1
        values = [row[name] or 0.0 for row in rows]
        shares = [value / total if total else 0.0 for value, total in zip(values, totals, strict=True)]
        traces.append({
            "type": "bar", "orientation": "h", "name": word, "x": values,
            "y": [place + 0.2 for place in places], "width": 0.5,
            "marker": {"color": colour, "pattern": hatching(pattern), "line": {"width": 0}},
            "text": [word] * len(rows), "textposition": "inside",
            "insidetextanchor": "middle", "textangle": 0, "constraintext": "inside",
            "customdata": [
                f"{row['design']}, {row['chips']:,} chips, row #{row['row']}\n{word}: {units.show(value, unit)}, "
                f"{share:.1%} of {units.show(total, unit)}"
                for row, value, share, total in zip(rows, values, shares, totals, strict=True)
            ],
            "hovertemplate": [
                f"{word}: {units.show(value, unit)}, {share:.1%} of {units.show(total, unit)}<extra></extra>"
                for value, share, total in zip(values, shares, totals, strict=True)
            ],
        })  # fmt: skip
    layout: dict[str, Any] = {
        "barmode": "stack",
        "uniformtext": {"minsize": 10, "mode": "hide"},
        "xaxis": {
            "title": {"text": plain(title)},
            "rangemode": "tozero",
            **short_ticks("B" if kind == "memory" else "s"),
        },
        "legend": {"traceorder": "normal"},
        **over_bars([bar_label(row) for row in rows]),
    }
    if kind == "memory":
        layout["shapes"] = list(_capacities(rows))
    parts = "; ".join(f"{_word(name)}: {OF[kind][_part(name)]}" for name in names)
    return Chart(
        figure(traces, layout),
        f"{meaning} {parts[0].upper()}{parts[1:]}.", formula,
        f"Stacked {kind}, {view.title}", 130 + 58 * len(rows),
    )  # fmt: skip


def _part(column: str) -> str:
    """The part of time or memory that a column holds."""
    return column.partition("_")[2].rpartition("_")[0]


def _word(column: str) -> str:
    return _part(column).replace("_", " ")


def _capacities(rows: Sequence[Row]) -> Any:
    """A line across each bar where the memory of a rank ends."""
    for place, row in enumerate(rows):
        excess = row.get("violation_hbm_bytes")
        if excess is not None:
            end = row["hbm_used_bytes"] - excess
            yield {"type": "line", "x0": end, "x1": end, "y0": place - 0.1, "y1": place + 0.5, "line": {"width": 3}}
