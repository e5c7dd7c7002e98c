"""A page as text: the template, the style and the scripts of this package, with the sections filled in."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from hashlib import sha256
from importlib.resources import files
from typing import Any

from sweep.page.blocks import Chart, Notes, Section

# Traces that draw by WebGL, whose library builds its functions at run time.
_BUILT_AT_RUN_TIME = ("gl", "parcoords", "3d", "splom", "surface", "cone", "streamtube", "volume")


def page(title: str, sections: Sequence[Section], subtitle: str = "", footer: str = "") -> str:
    """The HTML of a page; plotly's JavaScript is in it once if any section holds a chart.

    The page's policy (Content-Security-Policy) lets no request leave it and runs its own scripts alone, each known by
    its SHA-256.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    figures: list[str] = []
    notes: list[Notes] = []
    made_late = False

    def embedded(chart: Chart) -> str:
        nonlocal made_late
        figure = _figure(chart)
        made_late |= any(word in str(trace.get("type")) for trace in figure["data"] for word in _BUILT_AT_RUN_TIME)
        figures.append(_as_script_data(figure))
        return f"chart-{len(figures)}"

    def noted(chart: Chart) -> str:
        if chart.notes is None:
            return ""
        if not any(one is chart.notes for one in notes):
            notes.append(chart.notes)
        return f"notes-{next(at for at, one in enumerate(notes, 1) if one is chart.notes)}"

    environment = Environment(
        loader=PackageLoader("sweep.page", "template"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"embedded": embedded, "noted": noted}
    named = [(f"part-{at}", section) for at, section in enumerate(sections, 1)]
    body = environment.get_template("body.html").render(sections=named)
    scripts = [_read("page.js")]
    if figures:
        scripts = [_plotly(), _read("charts.js"), *scripts]
    return environment.get_template("page.html").render(
        title=title, subtitle=subtitle, footer=footer, sections=named, body=body, figures=figures, scripts=scripts,
        notes=[_as_script_data(asdict(one)) for one in notes], style=_read("style.css"),
        policy=_policy(scripts, made_late),
    )  # fmt: skip


def _read(name: str) -> str:
    return files("sweep.page").joinpath("template", name).read_text(encoding="utf-8")


def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    text: str = get_plotlyjs()
    return text.replace("</script", r"<\/script").replace("<!--", r"<\!--")


def _policy(scripts: Sequence[str], made_late: bool) -> str:
    hashes = " ".join(f"'sha256-{b64encode(sha256(one.encode()).digest()).decode()}'" for one in scripts)
    late = " 'unsafe-eval'" if made_late else ""
    return (
        f"default-src 'none'; script-src {hashes}{late}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def _figure(chart: Chart) -> dict[str, Any]:
    """Data and layout of a chart, without the colours and sizes that the page sets."""
    figure = chart.figure
    content = dict(figure) if isinstance(figure, Mapping) else json.loads(figure.to_json())
    layout = {key: value for key, value in (content.get("layout") or {}).items() if key != "template"}
    return {"data": list(content.get("data") or ()), "layout": layout}


def _as_script_data(value: Any) -> str:
    """JSON that a script element can hold: no character in it opens or closes anything."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", r"\u003c").replace(">", r"\u003e").replace("&", r"\u0026")
