"""Parallel coordinates: what good layouts have in common."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from sweep.columns import SETS
from sweep.page import Chart, plain
from sweep.report.axes import figure
from sweep.report.view import Row, View, axis_title, heading, name_of, shortened

_AXES = 7  # beside the objective
_MOST = 1500


def chart(view: View) -> Chart | str:
    """Lines through what varies, coloured by the objective; a sentence where too little varies."""
    rows = [row for row in view.rows.values() if row["feasible"] and row.get(view.objective.name) is not None][:_MOST]
    names = _varying(view, rows)
    if len(rows) < 3 or not names:
        return 'The run kept too few layouts to see what good ones have in common: rows = "top:50" keeps more.'
    name = view.objective.name
    values = [float(row[name]) for row in rows]
    title = axis_title(name)
    dimensions = [_dimension(one, rows) for one in names]
    # no logarithms: their ticks would have to be named, and a brush snaps to named ticks
    dimensions.append({"label": plain(heading(name)), "values": values, "tickformat": "~s"})
    trace = {
        "type": "parcoords", "dimensions": dimensions,
        "line": {
            "color": _spread(values), "colorscale": "Cividis", "reversescale": view.objective.better == "less",
        },
        "labelside": "top", "rangefont": {"size": 1, "color": "rgba(0,0,0,0)"},
        "unselected": {"line": {"opacity": 0.08}},
    }  # fmt: skip
    meaning = (
        f"A line is a layout, one of {len(rows):,} of the rows kept; its colour is the {name_of(name)}, as on the last "
        "axis. Only what varies has an axis. Drag along an axis to keep the lines that pass there, drag a name to "
        "move its axis."
    )
    left = 16 + 8 * max((len(text) for text in dimensions[0].get("ticktext", ())), default=4)
    formula = f"last axis = {title}"
    return Chart(figure([trace], {"margin": {"t": 84, "l": left, "r": 72, "b": 30}}), meaning, formula,
                 f"Parallel coordinates, {view.title}", 460)  # fmt: skip


def _spread(values: Sequence[float]) -> list[float]:
    """What colours follow: logarithms where values lie far apart."""
    far = min(values) > 0 and max(values) > 30 * min(values)
    return [math.log10(value) for value in values] if far else list(values)


def _varying(view: View, rows: Sequence[Row]) -> list[str]:
    """Columns with more than one value, of the layout before others; those with a few values tell the most."""
    known = ["design", "chips", *SETS[view.study.phase].layout, "number_format"]
    known = [name for name in known if name in (rows[0] if rows else ())]
    counts = {name: len({row[name] for row in rows}) for name in known}
    found = [name for name in known if counts[name] > 1]
    twins: list[str] = []
    for name in found:  # of two that vary together one is enough
        if not any(_same(rows, name, other) for other in twins):
            twins.append(name)
    return twins[:_AXES]


def _same(rows: Sequence[Row], one: str, other: str) -> bool:
    pairs = {(row[one], row[other]) for row in rows}
    return len(pairs) == len({first for first, _ in pairs}) == len({second for _, second in pairs})


def _dimension(name: str, rows: Sequence[Row]) -> dict[str, Any]:
    values = [row[name] for row in rows]
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        ticks = sorted(set(values))
        if len(ticks) <= 24:  # powers of two mostly: at even distances
            return {"label": plain(name), "values": [ticks.index(value) for value in values],
                    "tickvals": list(range(len(ticks))), "ticktext": [f"{tick:,}" for tick in ticks]}  # fmt: skip
        return {"label": plain(name), "values": [float(value) for value in values]}
    words = list(dict.fromkeys(str(value) for value in values))
    return {
        "label": plain(name), "values": [words.index(str(value)) for value in values],
        "tickvals": list(range(len(words))), "ticktext": [plain(shortened(word, 18)) or "none" for word in words],
    }  # fmt: skip
