"""The front: designs and layouts that none other beats in both of two quantities, and all that is behind it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from sweep.columns import QUANTITIES
from sweep.keep import front
from sweep.page import Chart, plain
from sweep.report.axes import axis, direction, figure
from sweep.report.scan import Pair
from sweep.report.view import View, name_of
from sweep.study import Study

_TRAINING: tuple[Pair, ...] = (
    ("tokens_per_s", "power_w"),
    ("tokens_per_s_per_chip", "energy_per_token_j"),
    ("tokens_per_s_per_chip", "usd_per_million_tokens"),
    ("tokens_per_s_per_chip", "hbm_used_bytes"),
)
_SERVING: tuple[Pair, ...] = (
    ("tokens_per_s_per_chip", "tokens_per_s_per_user"),
    ("tokens_per_s_per_chip", "energy_per_token_j"),
    ("tokens_per_s_per_chip", "usd_per_million_tokens"),
)
_PREFILL: tuple[Pair, ...] = (("tokens_per_s_per_chip", "ttft_s"), *_SERVING[1:])
_MOST = 4
_RINGS = 16  # more would hide what they mark


def pairs_of(study: Study) -> tuple[Pair, ...]:
    """Vertical and horizontal axis of each front: what the study asks for first, then what people ask for."""
    if study.outer is not None and len(study.outer.objectives) > 1:
        own = study.outer.objectives
    else:
        own = study.search.pareto if study.search.rows == "pareto" else ()
    usual = {"training": _TRAINING, "prefill": _PREFILL}.get(study.phase, _SERVING)
    found = [own[:2]] if len(own) > 1 else []
    found += [pair for pair in usual if not any(set(pair) == set(one) for one in found)]
    return tuple((one[0], one[1]) for one in found[:_MOST])


def chart(view: View, pair: Pair) -> Chart | None:
    """The front of one comparison over two quantities; None where no row has both."""
    vertical, horizontal = pair
    traces = list(_traces(view, pair))
    if not any(trace["x"] for trace in traces):
        return None
    every = [view.rows[place] for place in view.rows]
    layout = {
        "xaxis": axis(horizontal, (row.get(horizontal) for row in every)),
        "yaxis": axis(vertical, (row.get(vertical) for row in every)),
        "hovermode": "closest",
    }
    return Chart(
        figure(traces, layout), _meaning(view, pair), _formula(pair),
        f"Front of {name_of(vertical)} against {name_of(horizontal)}, {view.title}", 520, notes=view.notes,
    )  # fmt: skip


def _traces(view: View, pair: Pair) -> Iterator[dict[str, Any]]:
    for label in view.designs:
        yield _points(
            view, pair, view.seen.designs[label].feasible, view.colour(label), view.symbol(label), size=6, opacity=0.3
        )
    first = True
    for label in view.designs:
        trace = _points(
            view,
            pair,
            view.seen.designs[label].infeasible,
            view.colour(label),
            f"{view.symbol(label)}-open",
            size=7,
            opacity=0.6,
        )
        trace |= {"name": "infeasible", "legendgroup": "infeasible", "showlegend": first and bool(trace["x"])}
        first &= not trace["x"]
        yield trace
    for label in view.designs:
        places = view.seen.designs[label].fronts.get(pair, [])
        trace = _points(view, pair, places, view.colour(label), view.symbol(label), size=10)
        line = {"color": view.colour(label), "width": 2}
        yield trace | {"mode": "lines+markers", "line": line, "name": plain(view.marked(label)), "showlegend": True}
    yield _front_of_all(view, pair)
    yield _baselines(view, pair)


def _points(
    view: View, pair: Pair, places: Sequence[int], colour: str, symbol: str, size: int, opacity: float = 1.0
) -> dict[str, Any]:
    vertical, horizontal = pair
    rows = [(place, view.rows[place]) for place in view.drawn(places)]
    rows = [(place, row) for place, row in rows if row.get(vertical) is not None and row.get(horizontal) is not None]
    return {
        "type": "scatter", "mode": "markers", "x": [row[horizontal] for _, row in rows],
        "y": [row[vertical] for _, row in rows], "customdata": [view.places[place] for place, _ in rows],
        "marker": {"color": colour, "symbol": symbol, "size": size, "opacity": opacity}, "showlegend": False,
    }  # fmt: skip


def _front_of_all(view: View, pair: Pair) -> dict[str, Any]:
    """The rows that no row of any design beats, ringed and joined."""
    places = [place for one in view.seen.designs.values() for place in view.drawn(one.fronts.get(pair, []))]
    places = [place for place in places if all(view.rows[place].get(name) is not None for name in pair)]
    if places:
        values = [[QUANTITIES[name].sign * view.rows[place][name] for name in pair] for place in places]
        chosen = [places[at] for at in front(np.asarray(values), np.asarray(places))]
        chosen.sort(key=lambda place: float(view.rows[place][pair[1]]))
    else:
        chosen = []
    trace = _points(view, pair, chosen, "ink", "circle-open", size=16)
    trace["marker"]["line"] = {"width": 1.5, "color": "ink"}
    few = len(chosen) <= _RINGS
    shape = {
        "mode": "lines+markers" if few else "lines",
        "line": {"color": "ink", "width": 1 if few else 2, "dash": "dot"},
    }
    return trace | shape | {"name": "front of all designs", "showlegend": len(view.designs) > 1}


def _baselines(view: View, pair: Pair) -> dict[str, Any]:
    places = [int(row["row"]) for row in view.answer if view.is_baseline(row)]
    if view.study.outer is not None:
        places += [place for place, row in view.rows.items() if view.is_baseline(row)]
    trace = _points(view, pair, list(dict.fromkeys(places)), "ink", "star", size=13)
    trace["marker"]["line"] = {"width": 1.5, "color": "#FFFFFF"}
    return trace | {"name": "baseline", "showlegend": bool(trace["x"])}


def _meaning(view: View, pair: Pair) -> str:
    vertical, horizontal = pair
    better = f"Better is {direction(vertical)} {name_of(vertical)} and {direction(horizontal)} {name_of(horizontal)}."
    seen = view.seen
    faint, hollow = (
        sum(len(getattr(one, kind)) for one in seen.designs.values()) for kind in ("feasible", "infeasible")
    )
    lost = seen.rows - seen.feasible
    counts = f"{seen.feasible:,} feasible rows"
    counts += f", of which {faint:,} are drawn" if faint < seen.feasible else ""
    counts += f"; {lost:,} infeasible, {hollow:,} drawn" if lost else ""
    hollowed = " Hollow: breaks a limit." if lost else ""
    star = f" Star: the reference, {view.study.reference}." if view.study.reference else ""
    if view.study.outer is not None:
        star = " Star: what is not varied, or was tried first by hand."
    return (
        f"{better} A line joins what nothing of the same design beats in both, dots what nothing of any design "
        f"does. Faint: beaten.{hollowed}{star} The run kept {counts}. Point at a mark for every attribute; click or "
        "tap for its row and commands."
    )


def _formula(pair: Pair) -> str:
    terms = [f"{name} ({QUANTITIES[name].dimension.unit or 'a share'}): {QUANTITIES[name].meaning}" for name in pair]
    return "; ".join(terms)
