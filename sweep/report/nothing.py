"""Why nothing fits: which rule keeps each case from a feasible layout, and what came nearest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

from sweep.page import COLOURS, Block, Chart, Table, Text, plain
from sweep.relaxations import Near, why_nothing
from sweep.report.axes import figure, hatching, over_bars
from sweep.study import Study

Failure = Mapping[str, Any]
_LOOKS = (
    (COLOURS[3], "x"),
    (COLOURS[1], "/"),
    (COLOURS[4], ""),
    (COLOURS[5], "."),
    (COLOURS[2], "-"),
    (COLOURS[0], "|"),
)


def blocks(study: Study, failed: Sequence[Failure]) -> list[Block]:
    """What keeps cases from being feasible, what came nearest, and what would free most.

    Parameters
    ----------
    failed
        Cases of the study without a feasible layout, as the answer has them.
    """
    found: list[Block] = [Text(_summary(failed), strong=True)]
    if any(one.get("broken") for one in failed):
        found.append(_chart(failed))
    why = why_nothing(study, failed)
    near: list[list[Any]] = [
        [one.design, one.work, f"{one.chips:,}", one.layout, _breaks(one), one.bound_by] for one in why.nearest
    ]
    found.append(
        Table(
            ("design", "work", "chips", "layout", "breaks", "bound by"),
            near,
            "The nearest layouts: their violations are the smallest shares of their limits",
        )
    )
    freed: list[list[Any]] = [[one.to, f"{'' if one.exact else 'at least '}{one.frees:,}"] for one in why.relaxations]
    found.append(Table(("what would make layouts feasible", "how many"), freed, "What would free most comes first"))
    rows = [[one.get("design", ""), one.get("work", ""), one.get("chips", f"case {one.get('case')}"), one["reason"]]
            for one in failed]  # fmt: skip
    found.append(Table(("design", "work", "chips", "why not"), rows, folded=f"All {len(rows):,} cases"))
    return [one for one in found if not isinstance(one, Table) or one.rows]


def _breaks(one: Near) -> str:
    """What a layout breaks, in words."""
    return "; ".join(f"{_rule(name)}: {text}" for name, text in one.breaks.items())


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
    return "the memory of a rank" if name == "hbm_bytes" else name.removeprefix("limit_").replace("_", " ")


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
