"""Tables for the terminal: few columns, one precision, a ratio where designs are compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from model import units
from sweep import serving_answer
from sweep.answer import Row, band_text, layout_text
from sweep.columns import QUANTITIES, SETS
from sweep.designs import dimension_of
from sweep.work import TARGETS

if TYPE_CHECKING:
    from rich.table import Table


FIRST_VIEW = 7  # columns
_NEAREST = 3  # numbers told of a pair of designs


def answer_table(rows: Sequence[Row], wide: bool = False) -> Iterator[Table]:
    """One table a model and number format, or a model and target that it is served at: designs by size."""
    if "phase" in rows[0]:
        for title, group in serving_answer.grouped(rows).items():
            yield _served(title, group, wide)
        return
    trained_on: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        trained_on.setdefault((row["model"], row["number_format"]), []).append(row)
    for (model, number_format), own in trained_on.items():
        yield _table(f"{model}, {number_format}", own, wide)
        trained = [row for row in own if row.get("training_tokens")]
        if trained:
            yield _totals(f"{model}, {number_format}: the whole training", trained, wide)


def _served(title: str, rows: Sequence[Mapping[str, Any]], wide: bool) -> Table:
    """Clusters that serve one load or fill so many chips, by size."""
    shown = fitting(list(_served_columns(rows, wide)), wide)
    table = _empty(title, [(one.heading, one.justify) for one in shown])
    add_rows(table, shown, rows)
    return table


def _served_columns(rows: Sequence[Mapping[str, Any]], wide: bool) -> Iterator[Shown]:
    loaded = any(row["load_tokens_per_s"] for row in rows)
    formats = len({row["number_format"] for row in rows}) > 1
    known = SETS[rows[0]["phase"]].quantities

    def dollars(row: Row) -> str:
        cost = row["usd_per_million_tokens"]
        return "" if cost is None else f"{cost:.3g}"

    def latency(name: str) -> Callable[[Row], str]:
        return lambda row: units.show(row[name], "s")

    yield Shown("design", 0, label_of, "left")
    yield Shown("format", 4 if formats else 12, lambda row: str(row["number_format"]), "left")
    yield Shown("chips", 11 if loaded else 1, lambda row: f"{row['chips']:,}")
    if loaded:
        yield Shown("used", 1, lambda row: f"{row['chips_used']:,.0f}")
    yield Shown("tokens/s", 9 if formats and not loaded else 2, lambda row: units.show(row["tokens_per_s"], "token/s"))
    yield Shown("a chip", 8 if loaded else 3, lambda row: f"{row['tokens_per_s_per_chip']:,.0f}")
    by_chip = formats and not loaded  # whichever rate is shown first, the band is its
    banded = "tokens_per_s_per_chip" if by_chip else "tokens_per_s"
    if any(f"{banded}_p10" in row for row in rows):
        yield Shown("10 to 90 %", 5, lambda row: band_text(row, banded))
    for place, name in enumerate(name for name in TARGETS if name in known and (wide or "p99" not in name)):
        yield Shown(serving_answer.latency_name(name), 5 + place, latency(name))
    yield Shown("power", 13, lambda row: units.show(row["power_w"], "W"))
    yield Shown("J/token", 10, _joules)
    yield Shown("USD/Mtoken", 7, dollars)
    yield Shown("largest part", 20, lambda row: str(row["bound_by"]), "left")
    yield Shown("HBM", 21, lambda row: units.show(row["hbm_used_bytes"], "byte"))
    yield Shown("row", 22, lambda row: f"#{row['row']}")
    yield Shown("layout", 1, serving_answer.layout_text, "left")


def _totals(title: str, rows: Sequence[Row], wide: bool) -> Table:
    """Days, energy and money of a training, and what share of its time counts."""

    def dollars(row: Row) -> str:
        return "" if row["training_usd"] is None else units.show(row["training_usd"], "USD")

    def an_hour(row: Row) -> str:
        return "" if row["usd_per_chip_hour"] is None else f"{row['usd_per_chip_hour']:.2f}"

    columns = [
        Shown("design", 0, label_of, "left"),
        Shown("chips", 1, lambda row: f"{row['chips']:,}"),
        Shown("days", 2, lambda row: f"{row['training_days']:,.1f}"),
        Shown("goodput", 5, lambda row: f"{row['goodput']:.1%}"),
        Shown("MWh", 4, lambda row: f"{row['training_mwh']:,.0f}"),
        Shown("USD", 3, dollars),
        Shown("USD/chip-hour", 7, an_hour),
        Shown("tokens", 6, lambda row: units.show(row["training_tokens"] / 1e12, "") + " T"),
    ]
    shown = fitting(columns, wide)
    table = _empty(title, [(one.heading, one.justify) for one in shown])
    add_rows(table, shown, rows)
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
    batches = len({row["gbs"] for row in rows}) > 1
    changed = batches or len({(row["design"], row["changes"]) for row in rows}) > len({row["design"] for row in rows})
    shown = fitting(list(_columns(rows, changed, batches)), wide)
    table = _empty(title, [(one.heading, one.justify) for one in shown])
    add_rows(table, shown, rows)
    return table


@dataclass(frozen=True, slots=True)
class Shown:
    """A column of an answer: what stands in it, and how soon it gives way; the smallest rank stays."""

    heading: str
    rank: int
    cell: Callable[[Any], str]
    justify: Literal["left", "right"] = "right"


def fitting(columns: Sequence[Shown], wide: bool) -> list[Shown]:
    """The columns of a first view, in their order: those of the lowest ranks; of a wide one all."""
    kept = sorted(columns, key=lambda one: one.rank)[: len(columns) if wide else FIRST_VIEW]
    return [one for one in columns if one in kept]


def add_rows(table: Table, shown: Sequence[Shown], rows: Sequence[Mapping[str, Any]]) -> None:
    """Fill a table whose first column is the design, which is named once for all its rows."""
    previous = None
    for row in rows:
        first, *rest = (one.cell(row) for one in shown)
        if first != previous and previous is not None:
            table.add_section()
        table.add_row(first if first != previous else "", *rest)
        previous = first


def _columns(rows: Sequence[Row], changed: bool, batches: bool) -> Iterator[Shown]:
    """Every column that the rows have something for."""
    yield Shown("design", 0, label_of, "left")
    yield Shown("chips", 1, lambda row: f"{row['chips']:,}")
    yield Shown("tokens/s", 2, lambda row: units.show(row["tokens_per_s"], "token/s"))
    if any("tokens_per_s_p10" in row for row in rows):
        yield Shown("10 to 90 %", 5, band_text)
    yield Shown("MFU", 9, lambda row: f"{row['mfu']:.1%}")
    yield Shown("power", 10, lambda row: units.show(row["power_w"], "W"))
    yield Shown("J/token", 7, _joules)
    yield Shown("USD/Mtoken", 8, _dollars)
    if _compares(rows):
        yield Shown("equal", 6, lambda row: row.get("chips_equal_throughput_text", ""))
    if any("sampled_gap" in row for row in rows):
        yield Shown("sampling lost", 4, _gap)
    yield Shown("largest part", 20, lambda row: str(row["bound_by"]), "left")
    yield Shown("HBM", 21, lambda row: units.show(row["hbm_used_bytes"], "byte"))
    yield Shown("row", 22, lambda row: f"#{row['row']}")
    if changed:
        yield Shown("changed", 4, lambda row: _changes(row, batches), "left")
    yield Shown("layout", 3, layout_text, "left")


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
def certainty_tables(compared: Sequence[Mapping[str, Any]], wide: bool = False) -> Iterator[Table]:
    """Bands of each comparison, what its results rest on, and where designs would change places."""
    for one in compared:
        unit = QUANTITIES[one["quantity"]].dimension.unit
        yield _bands_table(one, unit, wide)
        if one["rests_on"]:
            yield _rests_table(one)
        if one["overtaking"]:
            yield _overtaking_table(one)


def _bands_table(one: Mapping[str, Any], unit: str, wide: bool) -> Table:
    def value(name: str) -> Callable[[Row], str]:
        return lambda row: "" if row[name] is None else units.show(row[name], unit)

    def share(name: str) -> Callable[[Row], str]:
        return lambda row: "" if row[name] is None else f"{row[name]:.0%}"

    columns = [
        Shown("design", 0, label_of, "left"),
        Shown("as catalogued", 1, value("nominal")),
        Shown("10 %", 2, value("p10")),
        Shown("median", 6, value("p50")),
        Shown("90 %", 3, value("p90")),
        Shown("best", 4, share("best")),
        Shown("near best", 7, share("near_best")),
        Shown("on rumour", 5, share("rumoured_share")),
    ]
    shown = fitting(columns, wide)
    title = f"{one['title']}: {one['quantity']}, {one['points']:,} draws"
    table = _empty(title, [(column.heading, column.justify) for column in shown])
    for row in one["standings"]:
        table.add_row(*(column.cell(row) for column in shown))
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
