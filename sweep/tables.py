"""Tables for the terminal: few columns, one precision, a ratio where designs are compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from model import units
from sweep import serving_answer
from sweep.answer import Row, band_text, layout_text
from sweep.columns import QUANTITIES
from sweep.designs import dimension_of

if TYPE_CHECKING:
    from rich.table import Table


_NEAREST = 3  # numbers told of a pair of designs


def answer_table(rows: Sequence[Row], wide: bool = False) -> Iterator[Table]:
    """One table a model and number format, or a model and target that it is served at: designs by size."""
    if "phase" in rows[0]:
        yield from serving_answer.answer_table(rows, wide)
        return
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["model"], row["number_format"]), []).append(row)
    for (model, number_format), group in groups.items():
        yield _table(f"{model}, {number_format}", group, wide)
        trained = [row for row in group if row.get("training_tokens")]
        if trained:
            yield _totals(f"{model}, {number_format}: the whole training", trained)


def _totals(title: str, rows: Sequence[Row]) -> Table:
    """Days, energy and money of a training, and what share of its time counts."""
    headings = ("chips", "days", "goodput", "MWh", "USD", "USD/chip-hour", "tokens")
    table = _empty(title, [("design", "left"), *((name, "right") for name in headings)])
    previous = None
    for row in rows:
        label = label_of(row)
        usd, hour = row["training_usd"], row["usd_per_chip_hour"]
        if label != previous and previous is not None:
            table.add_section()
        table.add_row(
            label if label != previous else "", f"{row['chips']:,}", f"{row['training_days']:,.1f}",
            f"{row['goodput']:.1%}", f"{row['training_mwh']:,.0f}", "" if usd is None else units.show(usd, "USD"),
            "" if hour is None else f"{hour:.2f}", units.show(row["training_tokens"] / 1e12, "") + " T",
        )  # fmt: skip
        previous = label
    return table


def _compares(rows: Sequence[Row]) -> bool:
    """Whether several designs stand beside each other, so that chips for an equal throughput say something."""
    return len({row["design"] for row in rows if "chips_equal_throughput_text" in row}) > 1


def label_of(row: Row) -> str:
    """A design as tables name it; what rests on rumour says so."""
    return f"{row['design']} (rumour)" if row["scenario"] else str(row["design"])


def _empty(title: str, headings: Sequence[tuple[str, str]]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name, justify in headings:
        table.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    return table


def _table(title: str, rows: Sequence[Row], wide: bool) -> Table:
    bands = any("tokens_per_s_p10" in row for row in rows)
    equal = _compares(rows)
    sampled = any("sampled_gap" in row for row in rows)
    batches = len({row["gbs"] for row in rows}) > 1
    changed = batches or len({(row["design"], row["changes"]) for row in rows}) > len({row["design"] for row in rows})
    table = _empty(title, _headings(bands, equal, sampled, wide, changed))
    previous = None
    for row in rows:
        label = label_of(row)
        cells = [label if label != previous else "", f"{row['chips']:,}", units.show(row["tokens_per_s"], "token/s")]
        cells += [band_text(row)] if bands else []
        cells += [f"{row['mfu']:.1%}", units.show(row["power_w"], "W"), _joules(row), _dollars(row)]
        cells += [row.get("chips_equal_throughput_text", "")] if equal else []
        cells += [_gap(row)] if sampled else []
        cells += [str(row["bound_by"]), units.show(row["hbm_used_bytes"], "byte"), f"#{row['row']}"] if wide else []
        cells += [_changes(row, batches)] if changed else []
        cells.append(layout_text(row))
        if label != previous and previous is not None:
            table.add_section()
        previous = label
        table.add_row(*cells)
    return table


def _headings(bands: bool, equal: bool, sampled: bool, wide: bool, changed: bool) -> list[tuple[str, str]]:
    headings = [("design", "left"), ("chips", "right"), ("tokens/s", "right")]
    headings += [("10 to 90 %", "right")] if bands else []
    headings += [("MFU", "right"), ("power", "right"), ("J/token", "right"), ("USD/Mtoken", "right")]
    headings += [("equal", "right")] if equal else []
    headings += [("sampling lost", "right")] if sampled else []
    headings += [("largest part", "left"), ("HBM", "right"), ("row", "right")] if wide else []
    headings += [("changed", "left")] if changed else []
    return [*headings, ("layout", "left")]


def _changes(row: Row, batches: bool) -> str:
    """What sets a row's machine and batch apart from the catalogue's and the other rows'."""
    texts = [f"batch {row['gbs']:,}"] if batches else []
    for text in filter(None, row["changes"].split(";")):
        path, _, value = text.rpartition("=")
        texts.append(f"{path} {units.show(float(value), dimension_of(path).unit)}")
    return ", ".join(texts)


def _joules(row: Row) -> str:
    return f"{row['energy_per_token_j']:.3g}"


def _dollars(row: Row) -> str:
    cost = row["usd_per_million_tokens"]
    return "" if cost is None else f"{cost:.3g}"


def _gap(row: Row) -> str:
    gap: Any = row.get("sampled_gap")
    if gap is None:
        return "all" if "sampled" in row else ""
    near = row["sampled_trials_to_1pct"]
    return f"{gap:.1%}" + (f", near at {near:,}" if near else "")


# ------------------------------------------------------------------------------------------------ how sure it is
def certainty_tables(compared: Sequence[Mapping[str, Any]]) -> Iterator[Table]:
    """Bands of each comparison, what its results rest on, and where designs would change places."""
    for one in compared:
        unit = QUANTITIES[one["quantity"]].dimension.unit
        yield _bands_table(one, unit)
        if one["rests_on"]:
            yield _rests_table(one)
        if one["overtaking"]:
            yield _overtaking_table(one)


def _bands_table(one: Mapping[str, Any], unit: str) -> Table:
    columns = ("as catalogued", "10 %", "median", "90 %", "best", "near best", "on rumour")
    table = _empty(
        f"{one['title']}: {one['quantity']}, {one['points']:,} draws",
        [("design", "left"), *((name, "right") for name in columns)],
    )
    for row in one["standings"]:
        values = ["" if row[name] is None else units.show(row[name], unit) for name in ("nominal", "p10", "p50", "p90")]
        shares = ["" if row[name] is None else f"{row[name]:.0%}" for name in ("best", "near_best", "rumoured_share")]
        table.add_row(label_of(row), *values, *shares)
    return table


def _rests_table(one: Mapping[str, Any]) -> Table:
    headings = [("design", "left"), ("rests on", "left"), ("kind", "left"),
                ("elasticity", "right"), ("alone", "right"), ("with others", "right")]  # fmt: skip
    table = _empty(f"{one['title']}: what {one['quantity']} rests on", headings)
    for design, numbers in one["rests_on"].items():
        for place, number in enumerate(numbers):
            shares = ["" if number[name] is None else f"{number[name]:.0%}" for name in ("first_order", "total")]
            cells = (number["number"], ", ".join(number["kinds"]), f"{number['elasticity']:+.2f}", *shares)
            table.add_row("" if place else design, *cells)
        table.add_section()
    return table


def _overtaking_table(one: Mapping[str, Any]) -> Table:
    """The nearest places; the rest stands in the run's uncertainty.json."""
    headings = [("design", "left"), ("overtakes", "left"), ("if", "left"), ("were", "right"), ("instead of", "right"),
                ("that is beyond", "right")]  # fmt: skip
    table = _empty(f"{one['title']}: what would have to be true", headings)
    told: dict[tuple[str, str], int] = {}
    for row in one["overtaking"]:
        pair = (row["design"], row["overtakes"])
        told[pair] = told.get(pair, 0) + 1
        if told[pair] <= _NEAREST:
            values = [
                units.show(row[name], row["unit"]) if row["unit"] else f"{row[name]:.3g}" for name in ("value", "now")
            ]
            table.add_row(*pair, row["number"], *values, f"{row['probability']:.0%}")
    return table
