"""Charts of the page of `sweep validate`, as plain figures: predicted against measured, residuals, bands, misses.

Labels pass `plain`; the text of each point stands once in the page's notes, and points hold its number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sweep.page import COLOURS, SYMBOLS, Chart, Notes, part_colour, plain, quantity_text
from sweep.prediction import Prediction

Row = tuple[int, Prediction]  # a prediction that has an error, and the number of its note

UNITS: Mapping[str, str] = {
    "memory_bytes": "B", "tokens_per_s_per_chip": "tokens/s", "power_w": "W", "idle_w": "W", "peak_power_w": "W",
    "energy_j": "J", "energy_per_token_j": "J", "energy_per_flop_j": "J",
}  # fmt: skip
_SERIES = len(COLOURS) - 1  # with a colour of their own; what is left shares one
_LINES = ((0.1, "dash"), (0.2, "dot"))
_WIDEST = 1.5  # residuals beyond it stand at the edge of a chart
_CATEGORIES = 28
_SIZES = ((8, "1 to 8"), (64, "9 to 64"), (512, "65 to 512"), (4096, "513 to 4,096"), (float("inf"), "over 4,096"))
_LENGTHS = (
    (2048, "to 2,048"), (4096, "to 4,096"), (8192, "to 8,192"), (32768, "to 32,768"), (float("inf"), "over 32,768"),
)  # fmt: skip


def unit_of(quantity: str) -> str:
    """The unit of a quantity, as charts and tables show it."""
    return UNITS.get(quantity, "s" if quantity.endswith("_s") else "")


def words_of(quantity: str) -> str:
    """A quantity in words, as in "step time"."""
    return quantity.removesuffix("_s").removesuffix("_bytes").replace("_", " ")


def value_text(value: float | None, quantity: str) -> str:
    """A value with its unit; empty where there is none."""
    return "" if value is None else quantity_text(value, unit_of(quantity))


def percent(value: float | None) -> str:
    """A signed error, as in "+4.2 %"."""
    return "" if value is None else f"{100 * value:+.1f} %"


def said_of(one: Prediction, key: str) -> str:
    """What a case states, as text."""
    value = (one.stated or {}).get(key)
    return f"{value:g}" if isinstance(value, float) else "" if value is None else str(value)


# ------------------------------------------------------------------------------------------------------------- notes
def note_of(one: Prediction) -> str:
    """All that is known of a prediction, a line each."""
    band = "" if one.low is None else f"{value_text(one.low, one.quantity)} to {value_text(one.high, one.quantity)}"
    outside = " (the measured lies outside)" if one.covered is False else ""
    model = " ".join(filter(None, (said_of(one, "model"), said_of(one, "task"))))
    framework = " ".join(filter(None, (said_of(one, key) for key in ("framework", "release"))))
    lines = {
        "": one.id,
        "predicted": f"{value_text(one.predicted, one.quantity)}, measured {value_text(one.measured, one.quantity)}: "
        f"{percent(one.error)}",
        "band of 80 %": band and band + outside,
        "model": model,
        "ran on": " x ".join(filter(None, (said_of(one, "chips"), one.chip or ""))),
        "framework": framework,
        "layout": said_of(one, "layout"),
        "sequence, batch, format": ", ".join(
            filter(None, (said_of(one, key) for key in ("sequence", "batch", "number_format")))
        ),
        "grade": one.grade or "",
        "stack": ", ".join(filter(None, (one.stack or "", one.stack_why or ""))),
        "chosen by the model": one.chosen or "",
        "rules": ", ".join(one.rules),
        "parts": parts_text(one),
    }  # fmt: skip
    return "\n".join(f"{name}: {text}" if name else text for name, text in lines.items() if text)


def parts_text(one: Prediction, most: int = 6) -> str:
    """The largest parts of a prediction with their shares, as in "compute 61 %"."""
    parts = {name: value for name, value in (one.parts or {}).items() if value > 0.0}
    total = sum(parts.values())
    largest = sorted(parts.items(), key=lambda item: -item[1])[:most]
    return ", ".join(f"{name} {100 * value / total:.0f} %" for name, value in largest if value >= 0.005 * total)


# ---------------------------------------------------------------------------------------------- predicted, measured
def predicted_against_measured(rows: Sequence[Row], notes: Notes) -> Chart:
    """Every prediction of a quantity on logarithmic axes, with the lines of equality and of 10 and 20 %."""
    quantity, unit = rows[0][1].quantity, unit_of(rows[0][1].quantity)
    positive = [(at, one) for at, one in rows if (one.measured or 0) > 0 and (one.predicted or 0) > 0]
    ends = [value for _, one in positive for value in (one.measured or 1.0, one.predicted or 1.0)] or [1.0]
    low, high = min(ends) / 1.3, max(ends) * 1.3
    data: list[dict[str, Any]] = [_line(low, high, 1.0, "solid", "equal")]
    for off, dash in _LINES:
        data.append(_line(low, high, 1.0 + off, dash, f"± {100 * off:.0f} %"))
        data.append(_line(low, high, 1.0 - off, dash, ""))
    by_framework = _grouped(positive, lambda one: said_of(one, "framework") or "not stated")
    named = sorted(by_framework, key=lambda name: -len(by_framework[name]))
    if len(named) > _SERIES + 1:
        by_framework["others"] = [row for name in named[_SERIES:] for row in by_framework[name]]
        named = [*named[:_SERIES], "others"]
    for at, name in enumerate(named):
        members = by_framework[name]
        data.append({
            "type": "scatter", "mode": "markers", "name": plain(f"{name} ({len(members)})"),
            "x": [one.measured for _, one in members], "y": [one.predicted for _, one in members],
            "customdata": [number for number, _ in members],
            "marker": {"color": COLOURS[at], "symbol": SYMBOLS[at], "size": 9, "opacity": 0.8},
        })  # fmt: skip
    axis = {"type": "log", "exponentformat": "SI", "dtick": 1 if high / low > 30 else "D2"}
    layout = {
        "xaxis": {**axis, "title": {"text": f"measured{', ' + unit if unit else ''}"}},
        "yaxis": {**axis, "title": {"text": f"predicted{', ' + unit if unit else ''}"}},
        "hovermode": "closest",
    }
    meaning = (
        f"{words_of(quantity).capitalize()}: each mark is a measured run. On the solid line both agree; between the "
        "dashed lines they do so within 10 %, between the dotted ones within 20 %. Marks above the line are "
        "predicted too large."
    )
    return Chart({"data": data, "layout": layout}, meaning, "error = predicted / measured - 1", height=620, notes=notes)


def _line(low: float, high: float, factor: float, dash: str, name: str) -> dict[str, Any]:
    return {
        "type": "scatter", "mode": "lines", "x": [low, high], "y": [factor * low, factor * high], "name": name,
        "showlegend": bool(name), "hoverinfo": "skip",
        "line": {"color": "ink", "dash": dash, "width": 1.5 if dash == "solid" else 1},
    }  # fmt: skip


# ---------------------------------------------------------------------------------------------------------- residuals
def _binned(key: str, bins: Sequence[tuple[float, str]]) -> Callable[[Prediction], str]:
    def label(one: Prediction) -> str:
        value = (one.stated or {}).get(key)
        if not isinstance(value, int | float):
            return "not stated"
        return next(name for most, name in bins if value <= most)

    return label


def _told(key: str) -> Callable[[Prediction], str]:
    return lambda one: said_of(one, key) or "not stated"


# what residuals are shown by -> of a prediction, its category; sizes keep their order
DIMENSIONS: Mapping[str, Callable[[Prediction], str]] = {
    "chip": lambda one: one.chip or "not stated",
    "framework": _told("framework"),
    "stack taken": lambda one: one.stack or "none",
    "size (chips)": _binned("chips", _SIZES),
    "model family": _told("family"),
    "sequence (tokens)": _binned("sequence", _LENGTHS),
    "number format": _told("number_format"),
    "year": _told("year"),
    "kind of model": lambda one: one.kind or "not stated",
}
_ORDERED = {name: at for at, (_, name) in enumerate((*_SIZES, *_LENGTHS))}


def residuals_by(name: str, rows: Sequence[Row], notes: Notes) -> Chart:
    """Errors by a property of the runs: every run a mark, and a box from the lower to the upper quartile."""
    groups = _grouped(rows, DIMENSIONS[name])
    kept = sorted(groups, key=lambda label: -len(groups[label]))[:_CATEGORIES]
    kept.sort(key=lambda label: (_ORDERED.get(label, 99), label == "not stated", label), reverse=True)
    shown = [(label, at, one) for label in kept for at, one in groups[label]]
    labels = {label: plain(f"{label[:32]}  ({len(groups[label])})") for label in kept}
    trace = {
        "type": "box", "orientation": "h", "boxpoints": "all", "jitter": 0.7, "pointpos": 0, "hoveron": "points",
        "x": [100 * min(max(one.error or 0.0, -_WIDEST), _WIDEST) for _, _, one in shown],
        "y": [labels[label] for label, _, _ in shown], "customdata": [at for _, at, _ in shown],
        "marker": {"color": COLOURS[0], "size": 6, "opacity": 0.55, "symbol": "circle"},
        "line": {"color": "ink", "width": 1.2}, "fillcolor": "rgba(0,0,0,0)", "showlegend": False,
    }  # fmt: skip
    lines = [
        {"type": "line", "x0": at, "x1": at, "y0": 0, "y1": 1, "yref": "paper", "layer": "below",
         "line": {"width": 2 if at == 0 else 1, "dash": "solid" if at == 0 else "dash" if abs(at) == 10 else "dot"}}
        for at in (-20, -10, 0, 10, 20)
    ]  # fmt: skip
    layout = {
        "xaxis": {"title": {"text": "error, %"}, "ticksuffix": " %"},
        "yaxis": {"type": "category", "categoryorder": "array", "categoryarray": [labels[label] for label in kept]},
        "shapes": lines, "hovermode": "closest",
    }  # fmt: skip
    left = len(groups) - len(kept)
    meaning = (
        f"Errors by {name}, with the number of runs. A box holds the middle half of them, its line is their median. "
        "Right of the middle the model is too large."
    )
    meaning += f" Errors beyond {100 * _WIDEST:.0f} % stand at the edge." * any(
        abs(one.error or 0.0) > _WIDEST for _, _, one in shown
    )
    meaning += f" {left} smaller groups are left out." if left else ""
    figure = {"data": [trace], "layout": layout}
    return Chart(figure, meaning, name=f"Errors by {name}", height=130 + 42 * len(kept), notes=notes)


# -------------------------------------------------------------------------------------------------------------- bands
def coverage(rows: Sequence[Row], least: int = 3) -> Chart | None:
    """Share of measured values that lie in their bands, by software; None where too few have bands."""
    banded = [row for row in rows if row[1].covered is not None and row[1].grade != "C"]
    groups = {name: members for name, members in _grouped(banded, _software).items() if len(members) >= least}
    if not groups:
        return None
    kept = sorted(groups, key=lambda name: sum(bool(one.covered) for _, one in groups[name]) / len(groups[name]))[::-1]
    shares = [100 * sum(bool(one.covered) for _, one in groups[name]) / len(groups[name]) for name in kept]
    trace = {
        "type": "bar", "orientation": "h", "x": shares, "y": [plain(name) for name in kept], "hoverinfo": "skip",
        "text": [f"{share:.0f} % of {len(groups[name])}" for share, name in zip(shares, kept, strict=True)],
        "textposition": "inside", "insidetextanchor": "start", "marker": {"color": COLOURS[4]}, "showlegend": False,
        "insidetextfont": {"color": "#000"},
    }  # fmt: skip
    line = {"type": "line", "x0": 80, "x1": 80, "y0": 0, "y1": 1, "yref": "paper", "line": {"width": 2, "dash": "dash"}}
    layout = {
        "xaxis": {"title": {"text": "measured values inside of their band, %"}, "range": [0, 105]},
        "yaxis": {"type": "category"}, "shapes": [line],
    }  # fmt: skip
    meaning = (
        "Of ten measurements one is expected below its band and one above: 80 % inside (dashed line). Bands that hold "
        "less are too tight, bands that hold more too loose. Small groups scatter."
    )
    figure = {"data": [trace], "layout": layout}
    return Chart(figure, meaning, "10 % below, 80 % inside, 10 % above", height=130 + 30 * len(kept))


def _software(one: Prediction) -> str:
    return " ".join(filter(None, (one.stack or "none", one.kind or "")))


# ------------------------------------------------------------------------------------------------------------- misses
def ratio_of_times(one: Prediction) -> float:
    """Predicted over measured as times, so that a rate predicted too high is a time too short."""
    ratio = 1.0 + (one.error or 0.0)
    return 1.0 / ratio if "tokens_per_s" in one.quantity and ratio > 0.0 else ratio


def parts_of_misses(rows: Sequence[Row], notes: Notes) -> Chart | None:
    """Parts of the predicted time of the worst misses, in units of the measured time; None where no parts are known."""
    known = [(at, one) for at, one in rows if one.parts and sum(one.parts.values()) > 0.0 and _is_time(one)][::-1]
    if not known:
        return None
    totals: dict[str, float] = {}
    for _, one in known:
        for part, value in (one.parts or {}).items():
            totals[part] = totals.get(part, 0.0) + max(value, 0.0) / sum((one.parts or {}).values())
    ordered = [part for part in sorted(totals, key=lambda part: -totals[part]) if totals[part] > 0.0]
    labels = _distinct([one.id for _, one in known])
    patterns = ("", "/", "x", ".", "\\", "+", "-", "|")
    data = []
    for at, part in enumerate(ordered):
        data.append({
            "type": "bar", "orientation": "h", "name": plain(part.replace("_", " ")), "y": labels,
            "x": [ratio_of_times(one) * max((one.parts or {}).get(part, 0.0), 0.0) / sum((one.parts or {}).values())
                  for _, one in known],
            "customdata": [number for number, _ in known],
            "marker": {"color": part_colour(part, at), "pattern": {"shape": patterns[at % len(patterns)]}},
        })  # fmt: skip
    line = {"type": "line", "x0": 1, "x1": 1, "y0": 0, "y1": 1, "yref": "paper", "line": {"width": 2}}
    layout = {
        "barmode": "stack", "shapes": [line], "hovermode": "closest",
        "xaxis": {"title": {"text": "predicted time over measured time"}}, "yaxis": {"type": "category"},
    }  # fmt: skip
    meaning = (
        "The runs that the model misses most, and where it sees their time go. A bar that ends left of the line is "
        "predicted too fast: something takes time that the model does not see, or sees too little of."
    )
    return Chart({"data": data, "layout": layout}, meaning, height=170 + 30 * len(known), notes=notes)


def _is_time(one: Prediction) -> bool:
    return one.quantity.endswith("_s") or "tokens_per_s" in one.quantity


def _distinct(names: Sequence[str]) -> list[str]:
    """Names shortened for an axis and told apart where two are alike."""
    found: list[str] = []
    for name in names:
        short = name if len(name) <= 44 else f"{name[:30]}...{name[-11:]}"
        while short in found:
            short += " "
        found.append(short)
    return [plain(name) for name in found]


def _grouped(rows: Sequence[Row], key: Callable[[Prediction], str]) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row[1]), []).append(row)
    return groups
