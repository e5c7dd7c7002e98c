"""The smallest clusters that carry a load, on one machine or on several: in words, the cheapest first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from model.units import show
from sweep.answer import Row, band_text
from sweep.asking import Answered
from sweep.designs import machine
from sweep.part_meanings import TIME
from sweep.serving_answer import latency_name, layout_text, targets_of
from sweep.study import Study

if TYPE_CHECKING:
    from rich.table import Table

_BESIDE = 2  # machines that the first line names beside the cheapest
_SHOWN = ("ttft_s", "tpot_s")


def cheapest_first(answered: Answered) -> Answered:
    """The same answer with `usd_per_hour` in every row, what the chips at work cost; rows in its order.

    A machine without prices comes last, its `usd_per_hour` null.
    """
    rows: list[Row] = [row | {"usd_per_hour": _dollars(row)} for row in answered.answer.rows]
    rows.sort(key=lambda row: (row["usd_per_hour"] is None, row["usd_per_hour"] or 0.0))
    return replace(answered, answer=replace(answered.answer, rows=rows))


def _dollars(row: Row) -> float | None:
    hour = row["usd_per_chip_hour"]
    return None if hour is None else float(hour * row["chips_used"])


def lines(answered: Answered) -> list[str]:
    """The answer in words: which machine is cheapest, what its cluster is made of, why it is not smaller."""
    rows = answered.answer.rows
    first = [] if len(answered.study.designs) == 1 or not rows else [_order(rows)]
    return [*first, *(_why(answered.study, rows[0]) if rows else [])]


def _order(rows: Sequence[Row]) -> str:
    """The first line where several machines are asked about: the cheapest, and what the next cost more."""
    best, *others = rows
    told = []
    for row in others[:_BESIDE]:
        hour = row["usd_per_hour"]
        more = "" if hour is None or not best["usd_per_hour"] else f" ({hour / best['usd_per_hour']:.2f} x)"
        told.append(f"{row['design']} {_hour(row)}{more}")
    next_ones = f"; then {', '.join(told)}" if told else ""
    return f"Cheapest: {best['chips_used']:,.0f} chips of {best['design']}, {_hour(best)}{next_ones}"


def _hour(row: Row) -> str:
    return "no prices" if row["usd_per_hour"] is None else f"{row['usd_per_hour']:,.1f} USD an hour"


def _why(study: Study, row: Row) -> list[str]:
    """What a smallest cluster is made of, and what keeps it from being smaller."""
    design = next(one for one in study.designs if one.label == row["design"])
    unit = machine(design).unit_packages
    used, spare = int(row["chips_used"]), row["tokens_per_s"] / row["load_tokens_per_s"] - 1.0
    units = -(-used // unit)
    band = f"; 10 to 90 %: {band_text(row, 'chips_used')} chips" if "chips_used_p10" in row else ""
    return [
        f"{used:,} chips of {row['system']} ({units:,} x {unit}) serve "
        f"{show(row['load_tokens_per_s'], 'token/s')} ({show(row['requests_per_s'] / (1.0 + spare), 'request/s')})"
        f" with {spare:.0%} to spare{band}",
        f"{row['deployment']}: {layout_text(row)}",
        f"TTFT {show(row['ttft_s'], 's')} (99 %: {show(row['ttft_p99_s'], 's')}), TPOT {show(row['tpot_s'], 's')} "
        f"(99 %: {show(row['tpot_p99_s'], 's')}); targets: {', '.join(targets_of(row))}",
        f"Why not fewer: the largest part of a pass goes into {TIME[row['bound_by']]}; a rank "
        f"uses {show(row['hbm_used_bytes'], 'byte')} of HBM; every smaller cluster of whole instances breaks a target, "
        "the load or the memory",
    ]


def tables(rows: Sequence[Row]) -> Iterator[Table]:
    """The machines by what the chips at work cost in an hour."""
    from rich import box
    from rich.table import Table

    headings = ("system", "chips", "USD/hour", "USD/Mtoken", *(latency_name(name) for name in _SHOWN), "power")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in headings:
        table.add_column(name, justify="left" if name == "system" else "right", no_wrap=True)
    for row in rows:
        cells: list[Any] = [f"{row['design']} (rumour)" if row["scenario"] else row["design"]]
        cells += [f"{row['chips_used']:,.0f}"]
        prices = (row["usd_per_hour"], row["usd_per_million_tokens"])
        cells += ["" if value is None else f"{value:.3g}" for value in prices]
        cells += [show(row[name], "s") for name in _SHOWN] + [show(row["power_w"], "W")]
        table.add_row(*cells)
    yield table


def remarks(answered: Answered) -> list[str]:
    """What the dollars are of, where machines are compared by them, and which machines cannot carry the load."""
    if len(answered.study.designs) == 1:
        return []
    told = ["Dollars are those of the chips at work, part of a unit at its share of the unit's price (docs/money.md)."]
    return told + [f"{row['design']} does not: {row['reason']}" for row in answered.answer.failed]
