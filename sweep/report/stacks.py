"""Where the time of the best layouts goes, and their memory: parts that add up to the whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from model import units
from sweep.page import Chart, part_colour, plain
from sweep.report.axes import figure, hatching
from sweep.report.view import Row, View, bar_label, row_layout

_RUNNERS_UP = 3
_MOST = 9
_PATTERNS = ("", "/", "\\", "x", "-", "|", "+", ".")
_LABELLED = 0.1  # share of the longest bar that a part's name fits into


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


def time_chart(view: View) -> Chart | None:
    """Seconds of a step by what they are spent on."""
    rows = rows_of(view)
    if not rows:
        return None
    serving = "phase" in rows[0]
    what = "a pass" if serving else "a step"
    meaning = (
        f"Time of {what} on the critical path of the best layout of each design at its largest size, the best first, "
        "then the next best layouts of the best design. What is hidden behind compute takes no time here. Steps of "
        "unequal sizes do not do equal work: compare shares."
    )
    formula = "bar = sum of parts = time of a pass" if serving else "bar = sum of parts = step_time_s"
    return _chart(view, rows, "time", "s", meaning, formula, f"time of {what} (s)")


def memory_chart(view: View) -> Chart | None:
    """Bytes of the fullest rank by what holds them."""
    rows = rows_of(view)
    if not rows:
        return None
    meaning = (
        "Memory in use on the fullest rank of the same layouts. The line across a bar is what a rank has: a layout fits "
        "if its bar ends before it."
    )
    return _chart(view, rows, "memory", "bytes", meaning, "bar = sum of parts = hbm_used_bytes", "memory (byte)")


def _chart(view: View, rows: Sequence[Row], kind: str, suffix: str, meaning: str, formula: str, title: str) -> Chart:
    names = [name for name in rows[0] if name.startswith(f"{kind}_") and name.endswith(f"_{suffix}")]
    names = [name for name in names if any(row.get(name) for row in rows)]
    labels = [f"{bar_label(row)}" for row in rows]
    places = list(range(len(rows)))
    used: dict[str, int] = {}
    traces: list[Any] = []
    unit = "byte" if kind == "memory" else "s"
    totals = [sum(row[name] or 0.0 for name in names) for row in rows]
    longest = max(totals, default=0.0)
    for number, name in enumerate(names):
        word = name.removeprefix(f"{kind}_").removesuffix(f"_{suffix}").replace("_", " ")
        colour = part_colour(word, number)
        pattern = _PATTERNS[used.get(colour, 0) % len(_PATTERNS)]
        used[colour] = used.get(colour, 0) + 1
        values = [row[name] or 0.0 for row in rows]
        shares = [value / total if total else 0.0 for value, total in zip(values, totals, strict=True)]
        traces.append({
            "type": "bar", "orientation": "h", "name": word, "y": places, "x": values,
            "marker": {"color": colour, "pattern": hatching(pattern), "line": {"width": 0}},
            "text": [word if value >= _LABELLED * longest else "" for value in values], "textposition": "inside",
            "insidetextanchor": "middle", "textangle": 0, "constraintext": "none",
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
        "bargap": 0.35,
        "xaxis": {"title": {"text": plain(title)}, "tickformat": "~s", "rangemode": "tozero"},
        "yaxis": {
            "tickvals": places,
            "ticktext": labels,
            "autorange": "reversed",
            "showgrid": False,
            "zeroline": False,
        },
        "legend": {"traceorder": "normal"},
    }
    if kind == "memory":
        layout["shapes"] = list(_capacities(rows))
    return Chart(figure(traces, layout), meaning, formula, f"Stacked {kind}, {view.title}", 150 + 62 * len(rows))


def _capacities(rows: Sequence[Row]) -> Any:
    """A line across each bar where the memory of a rank ends."""
    for place, row in enumerate(rows):
        excess = row.get("violation_hbm_bytes")
        if excess is not None:
            end = row["hbm_used_bytes"] - excess
            yield {"type": "line", "x0": end, "x1": end, "y0": place - 0.45, "y1": place + 0.45, "line": {"width": 3}}
