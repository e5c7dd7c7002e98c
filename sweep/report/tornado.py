"""What a result rests on: the numbers that move it most."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sweep.certainty import contender
from sweep.designs import Design, design_of_row
from sweep.page import COLOURS, Chart, Table, plain
from sweep.report.axes import figure, hatching, over_bars
from sweep.report.view import Row, View, name_of, shortened
from sweep.uncertainty.sensitivity import Influence, influences, share_on

_BARS = 12
_LOOKS = {  # kind of source -> colour and hatching
    "datasheet": (COLOURS[6], ""), "measured": (COLOURS[2], ""), "derived": (COLOURS[4], ""),
    "estimated": (COLOURS[1], "/"), "rumour": (COLOURS[3], "x"), "placeholder": (COLOURS[5], "."),
    "model": (COLOURS[0], ""),
}  # fmt: skip
_WORST_FIRST = ("placeholder", "rumour", "estimated", "model", "derived", "measured", "datasheet")
_KNOWN_NO_BETTER = frozenset({"rumour", "placeholder", "estimated"})


@dataclass(frozen=True, slots=True)
class Rests:
    """What the objective of one row rests on, the most first."""

    row: Row
    influences: tuple[Influence, ...]

    @property
    def guessed(self) -> float:
        """Share of the variance that rests on estimates, rumours and placeholders."""
        return share_on(self.influences, _KNOWN_NO_BETTER)


def rests_of(view: View, row: Row, designs: Mapping[str, Design]) -> Rests | None:
    """What a row's objective rests on; None where it has no logarithm, as a price of 0."""
    design = designs[row["design"]]
    if row["trial"] >= 0:
        design = design_of_row(row, design.extra)
    try:
        one = contender(design, [row], view.objective.name)
        return Rests(row, influences(one, view.objective.name, 0))
    except ValueError:
        return None


def kind_of(origins: frozenset[str] | Sequence[str]) -> str:
    """The least sure of the kinds of a column's sources."""
    return next((kind for kind in _WORST_FIRST if kind in origins), "derived")


def chart(view: View, rests: Rests) -> Chart | str:
    """Bars to both sides: what one standard deviation of each number does to the result."""
    found = [one for one in rests.influences if abs(one.effect) > 1e-4][:_BARS]
    if not found:
        return f"No uncertain number moves the {name_of(view.objective.name)} of this design."
    labels = [plain(shortened(_name(one), 60)) for one in found]
    traces: list[Any] = []
    for kind in _WORST_FIRST:
        own = [at for at, one in enumerate(found) if kind_of(one.origins) == kind]
        if own:
            traces += _bars(kind, own, found, traces == [])
    meaning = (
        f"{rests.row['design']} on {rests.row['chips']:,} chips: change of its {name_of(view.objective.name)} if one "
        "number of the catalogue, or the error of the model, is a standard deviation higher (solid) or lower (pale), "
        f"and all else stays. {rests.guessed:.0%} of the variance rests on estimates, rumours and assumptions."
    )
    layout: dict[str, Any] = {
        "barmode": "overlay",
        "xaxis": {"title": {"text": f"change of {name_of(view.objective.name)}"}, "tickformat": "+.0%",
                  "zeroline": True,
                  "zerolinewidth": 2},
        **over_bars(labels),
    }  # fmt: skip
    formula = "exp(effect) - 1, effect = d log(result) / d log(number) x standard deviation of log(number)"
    return Chart(figure(traces, layout), meaning, formula, f"Tornado, {view.title}", 150 + 44 * len(found))


def _name(one: Influence) -> str:
    """What moves the result: a number of the catalogue, or how far the model errs for some software or chip."""
    return f"error of the {one.column.text}" if "model" in one.origins else one.column.text


def _bars(kind: str, places: Sequence[int], found: Sequence[Influence], first: bool) -> list[Any]:
    colour, pattern = _LOOKS[kind]
    traces = []
    for sign in (1.0, -1.0):
        values = [math.exp(sign * found[at].effect) - 1.0 for at in places]
        traces.append({
            "type": "bar", "orientation": "h", "x": values, "name": kind,
            "y": [at + 0.2 for at in places], "width": 0.45,
            "legendgroup": kind, "showlegend": sign > 0, "opacity": 1.0 if sign > 0 else 0.55,
            "marker": {"color": colour, "pattern": hatching(pattern)},
            "hovertemplate": [
                f"{plain(_name(found[at]))}<br>{kind}, a standard deviation {'higher' if sign > 0 else 'lower'}: "
                f"{value:+.1%}<br>elasticity {found[at].elasticity:+.2f}<extra></extra>"
                for at, value in zip(places, values, strict=True)
            ],
        })  # fmt: skip
    return traces


def variance_table(compared: Mapping[str, Any]) -> Table | None:
    """Sobol' indices of one comparison, where the study asked for uncertainty."""
    rows = [
        [design, one["number"], ", ".join(one["kinds"]), f"{one['elasticity']:+.2f}",
         *("" if one[name] is None else f"{one[name]:.0%}" for name in ("first_order", "total"))]
        for design, numbers in compared["rests_on"].items() for one in numbers
    ]  # fmt: skip
    names = ("design", "number", "kind", "elasticity", "alone", "with others")
    title = f"Shares of the variance over whole ranges: {compared['title']}, {compared['quantity']}"
    return Table(names, rows, folded=title) if rows else None
