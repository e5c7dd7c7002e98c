"""What the axes of charts have in common."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sweep.columns import QUANTITIES
from sweep.report.view import axis_title, name_of

_INK = "rgba(0,0,0,0.55)"
_SHORT_UNITS = {"W": "W", "J": "J", "s": "s", "byte": "B"}  # as they stand behind a number
_MANY_TIMES = 30.0  # ends of an axis so far apart are drawn in logarithms


def axis(quantity: str, values: Iterable[float | None], title: str | None = None) -> dict[str, Any]:
    """The axis of a quantity; in logarithms where its values lie far apart."""
    known = [float(value) for value in values if value is not None and math.isfinite(value) and value > 0]
    far = bool(known) and max(known) > _MANY_TIMES * min(known)
    found: dict[str, Any] = {"title": {"text": title or axis_title(quantity)}, "type": "log" if far else "linear"}
    unit = "" if title else QUANTITIES[quantity].dimension.unit
    if unit in _SHORT_UNITS and not far:  # in logarithms only some ticks would have it
        found |= short_ticks(_SHORT_UNITS[unit]) | {"title": {"text": name_of(quantity)}}
    if far:
        found["dtick"] = 1 if max(known) > 1e3 * min(known) else "D2"
    if known and max(known) >= 1e3:
        found["tickformat"] = "~s"
    if not far:
        found["rangemode"] = "tozero"
    return found


def short_ticks(unit: str) -> dict[str, str]:
    """Ticks of an axis with the prefix and the unit in them, as in "20 MW"."""
    return {"tickformat": "~s", "ticksuffix": unit}


def direction(quantity: str) -> str:
    """Which way is better, in a word."""
    return "more" if QUANTITIES[quantity].better == "more" else "less"


def over_bars(labels: Sequence[str], half: float = 0.5) -> dict[str, Any]:
    """Part of a layout: a label over each bar, at 0, 1, ... downwards, where a phone has room for it."""
    return {
        "yaxis": {
            "range": [len(labels) - 0.5, -0.5], "showticklabels": False, "ticks": "", "showgrid": False,
            "zeroline": False,
        },
        "annotations": [
            {"x": 0, "xref": "paper", "xanchor": "left", "y": place - half, "yref": "y", "yanchor": "top",
             "text": label, "showarrow": False, "align": "left"}
            for place, label in enumerate(labels)
        ],
    }  # fmt: skip


def hatching(shape: str) -> dict[str, Any]:
    """Hatching over a colour, so that bars are told apart without it; none where the shape is empty."""
    look = {"fillmode": "overlay", "fgcolor": _INK, "fgopacity": 1, "size": 7, "solidity": 0.2}
    return {"shape": shape, **look}


def figure(data: Sequence[Mapping[str, Any]], layout: Mapping[str, Any]) -> dict[str, Any]:
    """A figure of plotly."""
    return {"data": list(data), "layout": dict(layout)}
