"""How far predictions of the software and chips of a run were from published measurements."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from sweep.page import COLOURS, Block, Chart, Choice, Table, Text, plain
from sweep.report.axes import figure, over_bars
from sweep.report.view import name_of
from sweep.residuals import Residual
from sweep.single_answer import error_of
from sweep.study import Study


def blocks(study: Study, models: Sequence[str], quantities: Sequence[str]) -> list[Block]:
    """The error of each design, model and quantity that was ever compared with measurements."""
    rows: list[list[Any]] = []
    bars: dict[str, list[tuple[str, Residual]]] = {}
    for design in study.designs:
        for model in models:
            for quantity in quantities:
                found = error_of(design, model, quantity, study.phase != "training")
                if found is None:
                    continue
                low, high = found.band(1.0)
                bars.setdefault(name_of(quantity), []).append((f"{design.label}, {model}", found))
                rows.append([
                    design.label, model, name_of(quantity), f"{math.exp(found.log_bias) - 1.0:+.0%}",
                    f"{low:.2f} to {high:.2f}", found.basis,
                ])  # fmt: skip
    if not rows:
        return [Text("Nothing that was measured says how far predictions of this software are off.")]
    columns = ("design", "model", "quantity", "bias", "measured / predicted", "rests on")
    text = (
        "Every prediction errs. These are the errors of the same software and kind of model on published runs: the "
        "bias is the median of predicted over measured, less one; eight of ten measurements are expected to lie in "
        "the range times the prediction. Where nothing of the software was measured, the spread over other software "
        "stands in."
    )
    charts = Choice("Of the", [(name, [_chart(name, found)]) for name, found in bars.items()])
    return [Text(text), charts, Table(columns, rows, folded="The same in numbers, and what they rest on")]


def _chart(quantity: str, bars: Sequence[tuple[str, Residual]]) -> Chart:
    places = list(range(len(bars)))
    middles = [math.exp(-one.log_bias) for _, one in bars]
    bands = [one.band(1.0) for _, one in bars]
    trace = {
        "type": "scatter", "mode": "markers", "x": middles, "y": [place + 0.2 for place in places],
        "marker": {"size": 11, "color": COLOURS[0],
                   "symbol": ["circle" if one.n else "circle-open" for _, one in bars]},
        "error_x": {
            "type": "data", "symmetric": False, "color": COLOURS[0], "thickness": 2.5, "width": 7,
            "array": [high - middle for (_, high), middle in zip(bands, middles, strict=True)],
            "arrayminus": [middle - low for (low, _), middle in zip(bands, middles, strict=True)],
        },
        "customdata": [f"{label}\n{one.basis}" for label, one in bars],
        "hovertemplate": [
            f"{plain(label)}<br>median {middle:.2f}, {low:.2f} to {high:.2f}<br>{plain(one.basis)}<extra></extra>"
            for (label, one), middle, (low, high) in zip(bars, middles, bands, strict=True)
        ],
    }  # fmt: skip
    layout = {
        "xaxis": {"title": {"text": f"measured / predicted {quantity}"}},
        **over_bars([plain(label) for label, _ in bars]),
        "shapes": [{"type": "line", "x0": 1, "x1": 1, "yref": "paper", "y0": 0, "y1": 1, "line": {"dash": "dot"}}],
        "showlegend": False,
    }
    meaning = (
        "Measured over predicted, of the software and kind of model that each design runs: the mark is the median, the "
        "bar reaches from 10 to 90 % of the runs. Right of the line runs take longer, or yield more, than predicted. "
        "Hollow: nothing of this software was measured."
    )
    formula = "residual = log(predicted / measured), fitted by software, kind and chip"
    name, height = f"Error of predictions against measurements, {quantity}", 120 + 44 * len(bars)
    return Chart(figure([trace], layout), meaning, formula, name, height)
