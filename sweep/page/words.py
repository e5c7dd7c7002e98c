"""Numbers and foreign text as a page shows them."""

from __future__ import annotations

from typing import Any


def plain(text: Any) -> str:
    """Text for a label of a chart, shown as it is.

    Plotly reads tags and entities in labels, so that both are escaped; a line break stays one.
    """
    escaped = str(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return escaped.replace("\n", "<br>")


_STEPS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"))


def quantity_text(value: float, unit: str) -> str:
    """Three digits with the prefix that suits, as in "12.3 ms"."""
    size = abs(value)
    if not 0.0 < size < float("inf"):
        return f"{value:g} {unit}".rstrip()
    scale, prefix = next((step for step in _STEPS if size >= step[0]), _STEPS[-1])
    if unit == "s" and scale > 1.0:
        scale, prefix = 1.0, ""
    return f"{value / scale:.3g} {prefix}{unit}" if size < 1e15 else f"{value:.3g} {unit}"
