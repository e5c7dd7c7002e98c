"""The best that two degrees of parallelism allow, over everything else that may be chosen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from model import units
from sweep.cases import Case, Question, records
from sweep.degrees import Cell, best_of_each
from sweep.page import Chart, plain
from sweep.report.axes import figure
from sweep.report.view import View, axis_title, name_of

# Layouts of a case that are evaluated for a picture: half a second.
MOST_LAYOUTS = 3_000_000
_LETTERS = {"hbm_bytes": "M"}
_SCALE = "Cividis"  # even in brightness, and the same to those who do not see red or green


def chart(view: View, cases: Iterable[Case], question: Question, layouts: Mapping[int, int]) -> Chart | str:
    """TP x PP, or TP x EP, of the best design at its largest size; a sentence where there is nothing to draw.

    Parameters
    ----------
    cases
        Of the study. Where the run kept but the best rows, that of the design's largest size that is not too large is
        evaluated.
    layouts
        Number of the legal layouts of each case.
    """
    if not view.leaders:
        return "No layout is feasible here."
    leader = view.leaders[0]
    by_index = {} if view.study.search.rows in ("feasible", "all") else {case.index: case for case in cases}
    sizes = sorted(
        (row for row in view.answer if row["design"] == leader["design"]), key=lambda row: -int(row["chips"])
    )
    small = [row for row in sizes if "phase" not in row and layouts.get(row["case"], 0) <= MOST_LAYOUTS]
    row = next((row for row in small if row["case"] in by_index and by_index[row["case"]].method == "exact"), None)
    if row is not None:
        leader = row
        case = by_index[row["case"]]
        cells = best_of_each(question, records(question, case), view.objective.name, [("tp", "pp"), ("tp", "ep")])
        found = {second: cells["tp", second] for second in ("pp", "ep")}
        basis = f"not legal. All {layouts[case.index]:,} legal layouts of this size are evaluated for the picture."
    else:
        kept = view.seen.designs[leader["design"]].grid
        found = {one: _of_rows(view, kept.get((leader["chips"], "tp", one), {})) for one in ("pp", "ep")}
        basis = f"not legal, or not among the {view.seen.rows:,} rows that the run kept, which this picture is of."
    second = max(("pp", "ep"), key=lambda name: len(found[name]))
    if len(found[second]) < 2:
        return (
            f"The run kept too few layouts of {leader['design']} to tell one degree from another. "
            'With rows = "feasible" under [search] it keeps them all.'
        )
    return _chart(view, leader, second, found[second], basis)


def _of_rows(view: View, cells: Mapping[tuple[int, int], tuple[float, int] | None]) -> dict[tuple[int, int], Cell]:
    """Cells of the rows that the run kept."""
    sign = view.objective.sign
    return {
        pair: Cell(-1, float("nan"), 1.0, "limit") if best is None else Cell(best[1], sign * best[0], 0.0, "")
        for pair, best in cells.items()
    }


def _chart(
    view: View, leader: Mapping[str, Any], second: str, cells: Mapping[tuple[int, int], Cell], basis: str
) -> Chart:
    across, down = (sorted({pair[at] for pair in cells}) for at in (0, 1))
    feasible = {pair: cell for pair, cell in cells.items() if cell.excess == 0}
    values: list[list[float | None]] = []
    texts: list[list[str]] = []
    told: list[list[str]] = []
    unit = view.objective.dimension.unit
    top = max if view.objective.better == "more" else min
    best = top((cell.value for cell in feasible.values()), default=0.0)
    for row in down:
        pairs = [(column, row) for column in across]
        values.append([feasible[pair].value if pair in feasible else None for pair in pairs])
        texts.append([_text(cells.get(pair), best) for pair in pairs])
        told.append([_told(pair, second, cells.get(pair), view.objective.name, unit) for pair in pairs])
    ticks = {"type": "category", "showgrid": False, "zeroline": False}
    trace = {
        "type": "heatmap", "x": [str(one) for one in across], "y": [str(one) for one in down], "z": values,
        "text": texts, "texttemplate": "%{text}", "customdata": told, "hovertext": told, "hoverinfo": "text",
        "hoverongaps": True, "colorscale": _SCALE, "reversescale": view.objective.better == "less",
        "xgap": 2, "ygap": 2,
        "colorbar": {
            "thickness": 14, "tickformat": "~s", "title": {"text": axis_title(view.objective.name), "side": "right"},
        },
    }  # fmt: skip
    layout = {
        "xaxis": {"title": {"text": "tensor parallelism (TP)"}, **ticks},
        "yaxis": {"title": {"text": _NAMES[second]}, **ticks},
        "annotations": list(_reasons(across, down, cells)),
        "plot_bgcolor": "rgba(128,128,128,0.08)",
    }
    meaning = (
        f"{leader['design']} on {leader['chips']:,} chips: the best {name_of(view.objective.name)} for each pair of "
        f"degrees, over everything else that may be chosen; each number is the share of the best of all. "
        f"{_legend(cells)}"
        f"Empty: {basis}"
    )
    formula = f"cell = best {view.objective.name} over all other axes at (tp, {second})"
    height = 190 + 44 * len(down)
    return Chart(figure([trace], layout), meaning, formula, f"TP by {second.upper()}, {view.title}", min(height, 700))


_NAMES = {"pp": "pipeline stages (PP)", "ep": "expert parallelism (EP)"}


def _text(cell: Cell | None, best: float) -> str:
    if cell is None or cell.excess > 0 or not best:
        return ""
    share = cell.value / best
    return "&lt;1%" if 0.0 < share < 0.005 else f"{share:.0%}"


def _told(pair: tuple[int, int], second: str, cell: Cell | None, name: str, unit: str) -> str:
    head = f"tp{pair[0]} {second}{pair[1]}"
    if cell is None:
        return f"{head}: not legal"
    if cell.excess > 0:
        over = f", the nearest by {cell.excess:.1%} of the limit" if cell.layout >= 0 else ""
        return f"{head}: no feasible layout, breaks {plain(cell.broken.replace('_', ' '))}{over}"
    return f"{head}: {name} {units.show(cell.value, unit)}"


def _letter(cell: Cell) -> str:
    return _LETTERS.get(cell.broken, "L")


def _reasons(across: Sequence[int], down: Sequence[int], cells: Mapping[tuple[int, int], Cell]) -> Any:
    """A letter where nothing is feasible: what is broken."""
    for pair, cell in cells.items():
        if cell.excess > 0:
            yield {
                "x": across.index(pair[0]), "y": down.index(pair[1]), "text": _letter(cell), "showarrow": False,
                "xref": "x", "yref": "y", "opacity": 0.7,
            }  # fmt: skip


def _legend(cells: Mapping[tuple[int, int], Cell]) -> str:
    letters = {_letter(cell) for cell in cells.values() if cell.excess > 0}
    told = {"M": "M: no layout fits into memory. ", "L": "L: every layout breaks a limit. "}
    return "".join(told[one] for one in sorted(letters))
