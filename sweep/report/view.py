"""What one comparison of a run shows: its rows, their texts, and how its designs are told apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from model import units
from sweep import serving_answer
from sweep.answer import layout_text
from sweep.columns import QUANTITIES, Quantity, describe
from sweep.page import COLOURS, SYMBOLS, Notes, plain
from sweep.report.scan import Pair, Seen
from sweep.study import Study

Row = Mapping[str, Any]

_COLOURS = (*COLOURS, "ink")
# A star is for baselines.
_SYMBOLS = tuple(one for one in SYMBOLS if one not in ("star", "hexagram"))
_ASKED = ("target_", "load_")  # 0 where nothing is asked for
_PARTS = ("time", "memory", "energy", "violation")
_SHORT = {
    "tokens_per_s": "tokens per second", "tokens_per_s_per_chip": "tokens per second per chip",
    "tokens_per_s_per_user": "tokens per second per user", "energy_per_token_j": "energy per token",
    "power_w": "power", "hbm_used_bytes": "memory of the fullest rank", "step_time_s": "time of a step", "mfu": "MFU",
    "usd_per_million_tokens": "cost of a million tokens", "tokens_per_s_per_watt": "tokens per joule",
    "ttft_s": "time to first token", "tpot_s": "time per output token",
}  # fmt: skip
_HEADINGS = {
    "tokens_per_s": "tokens/s", "tokens_per_s_per_chip": "tokens/s a chip", "tokens_per_s_per_user": "tokens/s a user",
    "energy_per_token_j": "J/token", "usd_per_million_tokens": "USD/Mtoken", "tpot_s": "TPOT", "ttft_s": "TTFT",
}  # fmt: skip


@dataclass(frozen=True)
class View:
    """One comparison: designs that do the same work.

    Attributes
    ----------
    rows
        Place in the data set -> the whole row, of every row that is drawn.
    answer
        Rows of the answer that belong here.
    pairs
        Axes of its charts.
    commands
        What goes on from a row, with {row} for its place.
    labels
        All designs of the study, in its order: a design looks the same in every comparison.
    """

    title: str
    study: Study
    seen: Seen
    rows: Mapping[int, Row]
    answer: Sequence[Row]
    pairs: Sequence[Pair]
    commands: str
    labels: Sequence[str]

    @property
    def objective(self) -> Quantity:
        """The first quantity that the study decides by."""
        return QUANTITIES[self.study.decides_by[0]]

    @property
    def designs(self) -> list[str]:
        """Labels of the designs that have rows here, in the study's order."""
        return [label for label in self.labels if label in self.seen.designs]

    def colour(self, label: str) -> str:
        """Colour of a design."""
        return _COLOURS[self.labels.index(label) % len(_COLOURS)]

    def symbol(self, label: str) -> str:
        """Mark of a design."""
        return _SYMBOLS[self.labels.index(label) % len(_SYMBOLS)]

    def drawn(self, places: Sequence[int]) -> list[int]:
        """Those of some places whose rows are known."""
        return [place for place in places if place in self.rows]

    @cached_property
    def places(self) -> Mapping[int, int]:
        """Place in the data set -> number of its note."""
        return {place: number for number, place in enumerate(sorted(self.rows))}

    @cached_property
    def notes(self) -> Notes:
        """The text of every row that is drawn."""
        places = sorted(self.rows)
        texts = tuple(row_text(self.rows[place], place) for place in places)
        fields: list[dict[str, str | int]] = [{"row": one} for one in places]
        return Notes(texts, fields, self.commands)

    def best(self, label: str) -> list[Row]:
        """The best rows of a design, the best first, each with its place under "row"."""
        return [{**self.rows[place], "row": place} for place in self.drawn(self.seen.designs[label].best)]

    @cached_property
    def leaders(self) -> list[Row]:
        """Of each design the best row at its largest size, the best design first."""
        found: dict[str, Row] = {}
        for row in sorted(self.answer, key=lambda row: int(row["chips"])):
            old = found.get(row["design"])
            if old is None or row["chips"] > old["chips"] or self.value(row) < self.value(old):
                found[row["design"]] = row
        return sorted(found.values(), key=self.value)

    def value(self, row: Row) -> float:
        """The objective of a row, smaller being better."""
        value = row[self.objective.name]
        return float("inf") if value is None else self.objective.sign * float(value)

    def is_baseline(self, row: Row) -> bool:
        """Whether a row is what others are compared with: of the reference design, or what stands beside trials."""
        outer = self.study.outer
        if outer is None:
            return bool(row["design"] == self.study.reference)
        return not outer.varies(row["design"]) or 0 <= row["trial"] < len(outer.baselines)


# ------------------------------------------------------------------------------------------------------- in words
def name_of(quantity: str) -> str:
    """A quantity in a few words."""
    return _SHORT.get(quantity, quantity.rpartition("_")[0].replace("_", " ") or quantity)


def heading(quantity: str) -> str:
    """A quantity over the column of a table."""
    return _HEADINGS.get(quantity, name_of(quantity))


def axis_title(quantity: str) -> str:
    """A quantity with its unit."""
    unit = QUANTITIES[quantity].dimension.unit
    return f"{name_of(quantity)} ({unit})" if unit else name_of(quantity)


def row_layout(row: Row) -> str:
    """A row's layout in one line."""
    return serving_answer.layout_text(row) if "phase" in row else layout_text(dict(row))


def bar_label(row: Row) -> str:
    """A row above a bar: its design and size, and its layout."""
    rumour = " (rumour)" if row["scenario"] else ""
    head = f"{shortened(row['design'])}{rumour} {row['chips']:,}"
    return f"<b>{plain(head)}</b>  {plain(shortened(row_layout(row), max(12, 58 - len(head))))}"


def shortened(text: str, most: int = 28) -> str:
    """A name that leaves room for the rest."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def row_text(row: Row, place: int) -> str:
    """Every attribute of a row: first what people ask for, then all columns by what they are about."""
    head = [f"row #{place}: {row['design']}, {row['chips']:,} chips" + ("" if row["feasible"] else ", INFEASIBLE")]
    head.append(row_layout(row))
    sections: dict[str, list[str]] = {"": [], **{part: [] for part in _PARTS}}
    for name, value in row.items():
        if value is None or value == "" or name in ("row", "design") or (value == 0 and name.startswith(_ASKED)):
            continue
        kind = name.partition("_")[0]
        part = kind if kind in _PARTS and name not in QUANTITIES else ""
        unit = describe(name)[0] or ("byte" if name == "violation_hbm_bytes" else "")
        if part in ("time", "memory", "energy"):
            if value:
                sections[part].append(f"{_inside(name)} {shown(value, unit)}")
        elif part == "violation":
            if value > 0:
                sections[part].append(f"{_inside(name, units=True)} over by {shown(value, unit)}")
        else:
            sections[""].append(f"{name} {shown(value, unit)}")
    lines = [*head, *_wrapped("", sections[""])]
    for part in _PARTS:
        lines += _wrapped(f"{'broken' if part == 'violation' else part}: ", sections[part])
    return "\n".join(lines)


def _inside(name: str, units: bool = False) -> str:
    middle = name.partition("_")[2]
    return middle.removeprefix("limit_") if units else middle.rpartition("_")[0].replace("_", " ")


def shown(value: Any, unit: str) -> str:
    """A value of a row for people."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and not unit:
        return f"{value:,}"
    if isinstance(value, float) and not unit and 1e3 <= abs(value) < 1e15:
        return f"{value:,.0f}"
    if isinstance(value, int | float):
        return units.show(float(value), unit)
    return str(value)


def _wrapped(head: str, words: Sequence[str], width: int = 96) -> Iterator[str]:
    """Words in lines of a bounded width."""
    line = head
    for number, word in enumerate(words):
        more = word + (" · " if number < len(words) - 1 else "")
        if len(line) + len(more) > width and line.strip():
            yield line.rstrip()
            line = "    " if head else ""
        line += more
    if words:
        yield line
