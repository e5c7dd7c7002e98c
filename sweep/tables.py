"""Tables for the terminal: few columns, one precision, a ratio where designs are compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from model import units
from sweep import serving_answer
from sweep.answer import Row, layout_text
from sweep.designs import dimension_of

if TYPE_CHECKING:
    from rich.table import Table


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


def _table(title: str, rows: Sequence[Row], wide: bool) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    bands = any("tokens_per_s_low" in row for row in rows)
    equal = any("chips_equal_throughput_text" in row for row in rows)
    sampled = any("sampled_gap" in row for row in rows)
    batches = len({row["gbs"] for row in rows}) > 1
    changed = batches or any(row["changes"] for row in rows)
    for name, justify in _headings(bands, equal, sampled, wide, changed):
        table.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    previous = None
    for row in rows:
        label = f"{row['design']} (rumour)" if row["scenario"] else row["design"]
        cells = [label if label != previous else "", f"{row['chips']:,}", units.show(row["tokens_per_s"], "token/s")]
        cells += [_band(row)] if bands else []
        cells += [f"{row['mfu']:.1%}", units.show(row["power_w"], "W"), _joules(row)]
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
    headings += [("low to high", "right")] if bands else []
    headings += [("MFU", "right"), ("power", "right"), ("J/token", "right")]
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


def _band(row: Row) -> str:
    if "tokens_per_s_low" not in row:
        return ""
    ends = [row["tokens_per_s_low"], row["tokens_per_s_high"]]
    return " to ".join("none" if end is None else units.show(end, "token/s").removesuffix("token/s") for end in ends)


def _joules(row: Row) -> str:
    return f"{row['energy_per_token_j']:.3g}"


def _gap(row: Row) -> str:
    gap: Any = row.get("sampled_gap")
    if gap is None:
        return "all" if "sampled" in row else ""
    near = row["sampled_trials_to_1pct"]
    return f"{gap:.1%}" + (f", near at {near:,}" if near else "")
