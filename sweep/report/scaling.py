"""What a design does as it grows: throughput, power and energy against the size of the cluster."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from sweep.page import Chart, plain
from sweep.report.axes import axis, figure
from sweep.report.view import Row, View, name_of, shortened

QUANTITIES_SHOWN = ("tokens_per_s", "power_w", "energy_per_token_j")
_MEANINGS = {
    "tokens_per_s": "Tokens per second of the whole cluster, the best layout at each size. Scaling is perfect where "
    "twice the chips bring twice the tokens.",
    "power_w": "Mean power of the whole cluster at the building's meter.",
    "energy_per_token_j": "Joules of a token: power over throughput. A line that rises says that growing wastes.",
}
_FORMULAS = {
    "tokens_per_s": "tokens_per_s = tokens of a step / step_time_s",
    "power_w": "power_w = joules of a step / step_time_s",
    "energy_per_token_j": "energy_per_token_j = power_w / tokens_per_s",
}

_SERVED = {
    "tokens_per_s": "tokens_per_s = instances x tokens per second of an instance",
    "power_w": "power_w = watts of the instances at work and of the chips that idle",
    "energy_per_token_j": "energy_per_token_j = power_w / tokens_per_s",
}


def charts(view: View) -> list[Chart]:
    """One chart for each quantity."""
    return [_chart(view, name) for name in QUANTITIES_SHOWN] if view.answer else []


def _chart(view: View, quantity: str) -> Chart:
    if len(view.answer) == len({row["design"] for row in view.answer}):
        return _bars(view, quantity)
    traces = []
    for label in view.designs:
        rows = sorted((row for row in view.answer if row["design"] == label), key=lambda row: int(row["chips"]))
        if rows:
            traces.append(_trace(view, label, rows, quantity))
    sizes = [row["chips"] for row in view.answer]
    layout: dict[str, Any] = {
        "xaxis": axis("", sizes, "chips") | {"tickformat": ","},
        "yaxis": axis(quantity, (row.get(quantity) for row in view.answer)),
        "hovermode": "closest",
    }
    if layout["xaxis"]["type"] == "log":
        layout["xaxis"] |= {"tickvals": sorted(set(sizes)), "dtick": None} if len(set(sizes)) <= 8 else {}
    meaning = _MEANINGS[quantity]
    if view.study.phase != "training" and quantity == "tokens_per_s":
        meaning = "Tokens per second of the whole cluster, the best instances at each size."
    meaning += _banded(view.answer, quantity)
    height = 350 + 22 * len(traces)  # of which the names of the designs take some
    name = f"{name_of(quantity)}, {view.title}"
    return Chart(figure(traces, layout), meaning, _formula(view, quantity), name, height, notes=view.notes)


def _bars(view: View, quantity: str) -> Chart:
    """Designs of one size each, side by side."""
    rows = [row for label in view.designs for row in view.answer if row["design"] == label]
    labels = [f"{plain(shortened(view.marked(row['design'])))} {row['chips']:,}" for row in rows]
    trace: dict[str, Any] = {
        "type": "bar", "orientation": "h", "y": labels, "x": [row.get(quantity) for row in rows],
        "marker": {"color": [view.colour(row["design"]) for row in rows]},
        "customdata": [view.places[row["row"]] for row in rows],
    }  # fmt: skip
    ends = _error(rows, quantity, "ink")
    layout = {
        "xaxis": {"tickformat": "~s"} | axis(quantity, ()), "yaxis": {"autorange": "reversed", "showgrid": False},
        "showlegend": False,
    }  # fmt: skip
    meaning = f"{_MEANINGS[quantity].partition('. ')[0].rstrip('.')}. Each design has one size, beside its name."
    return Chart(figure([trace | ends], layout), meaning + _banded(rows, quantity), _formula(view, quantity),
                 f"{name_of(quantity)}, {view.title}", 130 + 34 * len(rows), notes=view.notes)  # fmt: skip


def _banded(rows: Sequence[Row], quantity: str) -> str:
    if all(row.get(f"{quantity}_p10") is None for row in rows):
        return ""
    return " Thin lines: 10 to 90 % of what is likely, where the machine rests on rumour."


def _formula(view: View, quantity: str) -> str:
    return _FORMULAS[quantity] if view.study.phase == "training" else _SERVED[quantity]


def _trace(view: View, label: str, rows: Sequence[Row], quantity: str) -> dict[str, Any]:
    known = [row for row in rows if row.get(quantity) is not None]
    trace: dict[str, Any] = {
        "type": "scatter", "mode": "lines+markers", "name": plain(view.marked(label)),
        "x": [row["chips"] for row in known], "y": [row[quantity] for row in known],
        "line": {"color": view.colour(label), "width": 2},
        "marker": {"symbol": view.symbol(label), "size": 10, "color": view.colour(label)},
        "customdata": [view.places[row["row"]] for row in known],
    }  # fmt: skip
    return trace | _error(known, quantity, view.colour(label))


def _error(rows: Sequence[Row], quantity: str, colour: str) -> dict[str, Any]:
    """Lines from the 10 to the 90 % point, where rows have them: along the axis that the quantity is on."""
    low, high = ([row.get(f"{quantity}_{end}") for row in rows] for end in ("p10", "p90"))
    if all(one is None for one in low):
        return {}
    drawn = {
        "type": "data", "symmetric": False, "color": colour, "thickness": 2, "width": 0,
        "array": _ends(high, rows, quantity, 1.0), "arrayminus": _ends(low, rows, quantity, -1.0),
    }  # fmt: skip
    return {"error_x" if colour == "ink" else "error_y": drawn}


def _ends(ends: Sequence[float | None], rows: Sequence[Row], quantity: str, sign: float) -> list[float | None]:
    pairs = zip(ends, rows, strict=True)
    return [max(0.0, sign * (end - row[quantity])) if end is not None and math.isfinite(end) else None
            for end, row in pairs]  # fmt: skip
