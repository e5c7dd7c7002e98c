"""Why nothing fits: which rule keeps each case from a feasible layout, and what came nearest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np

from model import units
from sweep.answer import layout_text
from sweep.cases import Case, Question, records
from sweep.columns import QUANTITIES
from sweep.columns import plain as plain_value
from sweep.degrees import Cell, best_of_each
from sweep.page import COLOURS, Block, Chart, Table, Text, plain
from sweep.report.axes import figure, hatching, over_bars
from sweep.report.grid import MOST_LAYOUTS
from sweep.search import rows_of

Failure = Mapping[str, Any]
_LOOKS = (
    (COLOURS[3], "x"),
    (COLOURS[1], "/"),
    (COLOURS[4], ""),
    (COLOURS[5], "."),
    (COLOURS[2], "-"),
    (COLOURS[0], "|"),
)
_CASES = 12  # whose layouts are looked through for the nearest


def blocks(failed: Sequence[Failure], cases: Iterable[Case], question: Question | None) -> list[Block]:
    """What keeps cases from being feasible.

    Parameters
    ----------
    failed
        Cases without a feasible layout, as the answer has them.
    cases, question
        Of the study, to look for the nearest layouts; without a question none is looked for.
    """
    found: list[Block] = [Text(_summary(failed), strong=True)]
    if any(one.get("broken") for one in failed):
        found.append(_chart(failed))
    near = list(_nearest(failed, cases, question)) if question is not None else []
    if near:
        found += [
            Text(
                "The nearest layouts: of all legal ones those whose violations are the smallest shares of their limits."
            ),
            Table(("design", "work", "chips", "layout", "short of", "feasible if"), near),
        ]
    rows = [[one.get("design", ""), one.get("work", ""), one.get("chips", f"case {one.get('case')}"), one["reason"]]
            for one in failed]  # fmt: skip
    found.append(Table(("design", "work", "chips", "why not"), rows, folded=f"All {len(rows):,} cases"))
    return found


def _summary(failed: Sequence[Failure]) -> str:
    none_legal = sum(1 for one in failed if not one.get("layouts", 1))
    counts: dict[str, int] = {}
    for one in failed:
        for name, excess in one.get("nearest", {}).items():
            if excess > 0:  # no layout meets it
                counts[name] = counts.get(name, 0) + 1
    told = [f"{_rule(name)} in {count:,}" for name, count in sorted(counts.items(), key=lambda item: -item[1])]
    told += [f"no legal layout in {none_legal:,}"] if none_legal else []
    most = (
        f" No layout meets: {'; '.join(told)}." if told else " Each limit is met by some layout, all together by none."
    )
    return f"{len(failed):,} case{'s have' if len(failed) > 1 else ' has'} no feasible layout.{most}"


def _rule(name: str) -> str:
    return {"hbm_bytes": "the memory of a rank"}.get(name, name.removeprefix("limit_").replace("_", " "))


def _chart(failed: Sequence[Failure]) -> Chart:
    """Share of each case's layouts that break each rule."""
    own = [one for one in failed if one.get("layouts")]
    labels = [f"{plain(one['design'])}, {plain(one['work'])}, {one['chips']:,} chips" for one in own]
    names = list(dict.fromkeys(name for one in own for name, count in one["broken"].items() if count))
    traces: list[Any] = []
    for number, (name, (colour, pattern)) in enumerate(zip(names, cycle(_LOOKS), strict=False)):
        shares = [one["broken"].get(name, 0) / one["layouts"] for one in own]
        traces.append({
            "type": "bar", "orientation": "h", "name": plain(_rule(name)), "x": shares,
            "y": [place + (number + 0.5) * 0.62 / len(names) - 0.17 for place in range(len(own))],
            "width": 0.55 / len(names),
            "marker": {"color": colour, "pattern": hatching(pattern)},
            "hovertemplate": plain(_rule(name)) + ": broken by %{x:.1%} of the layouts<extra></extra>",
        })  # fmt: skip
    layout = {
        "barmode": "overlay",
        "xaxis": {"title": {"text": "share of the legal layouts"}, "tickformat": ".0%", "range": [0, 1.02]},
        **over_bars(labels),
        "showlegend": True,
    }
    meaning = "Share of the legal layouts of each case that break a rule. A bar of 100 % is a rule that none meets."
    return Chart(figure(traces, layout), meaning, "layouts that break the rule / legal layouts", "Broken rules",
                 120 + (28 + 18 * max(1, len(names))) * len(labels))  # fmt: skip


def _nearest(failed: Sequence[Failure], cases: Iterable[Case], question: Question | None) -> Iterator[list[Any]]:
    if question is None or question.phase != "training":
        return
    by_name = {(case.design.label, case.work.name, case.chips): case for case in cases if case.corner == "nominal"}
    for one in failed[:_CASES]:
        case = by_name.get((one.get("design", ""), one.get("work", ""), one.get("chips", 0)))
        if case is None or not 0 < one["layouts"] <= MOST_LAYOUTS:
            continue
        known = records(question, case)
        cells = best_of_each(question, known, question.search.objective, [("tp", "pp")])["tp", "pp"]
        cell: Cell = min(cells.values(), key=lambda cell: (cell.excess, cell.layout))
        found = rows_of(question, known, np.asarray([cell.layout]))
        row = {name: plain_value(name, values[0]) for name, values in found.items()}
        yield [case.design.label, case.work.name, f"{case.chips:,}", layout_text(row), *_short_of(question, row)]


def _short_of(question: Question, row: Mapping[str, Any]) -> tuple[str, str]:
    """What a row breaks and by how much, and the limits at which it would not."""
    over, if_ = [], []
    excess = row.get("violation_hbm_bytes") or 0.0
    if excess > 0:
        over.append(f"memory: {units.show(excess, 'byte')} over")
        if_.append(f"a rank had {row['hbm_used_bytes'] / (row['hbm_used_bytes'] - excess):.2f} x the memory")
    for name, sense, _ in question.constraints:
        excess = row.get(f"violation_limit_{name}") or 0.0
        if excess > 0:
            unit = QUANTITIES[name].dimension.unit
            over.append(f"{name}: {units.show(excess, unit)} {'over' if sense == '<=' else 'under'}")
            if_.append(f"{name} {sense} {units.show(row[name], unit)}")
    return ("; ".join(over), " and ".join(if_))
