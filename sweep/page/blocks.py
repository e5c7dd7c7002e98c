"""What a page is made of: sections, and in them texts, facts, tables, charts and code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph; `strong` for the answer that a page begins with."""

    text: str
    strong: bool = False
    kind: ClassVar[str] = "text"


@dataclass(frozen=True, slots=True)
class Fact:
    """One number or word under its name, with a line of explanation."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """A row of facts, each large enough to be read from afar."""

    facts: Sequence[Fact]
    kind: ClassVar[str] = "facts"


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text or numbers, which are shown as they are; columns that hold only numbers stand to the right.

    With `folded`, the table is closed under that title until it is opened.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    caption: str = ""
    folded: str = ""
    kind: ClassVar[str] = "table"

    @property
    def numeric(self) -> list[bool]:
        """Of each column, whether it holds numbers alone."""
        return [all(_is_number(row[at]) for row in self.rows) for at in range(len(self.columns))]


@dataclass(frozen=True, slots=True)
class Code:
    """Text in a fixed width, as a file; folded under a title where one is given."""

    text: str
    folded: str = ""
    kind: ClassVar[str] = "code"


@dataclass(frozen=True, slots=True)
class Chart:
    """A plotly figure with what it means.

    Labels in it that come from elsewhere must have passed `plain`. The `customdata` of a point, a text, is shown under
    the chart when the point is clicked or tapped; that text is shown as it is, and must not be escaped.
    """

    figure: Any  # of plotly, or the same as a mapping of "data" and "layout"
    meaning: str  # under the chart: what it shows and how to read it
    formula: str = ""
    name: str = ""  # for those who do not see it; the meaning where empty
    height: int = 440  # pixels; a little less on a phone
    folded: str = ""
    kind: ClassVar[str] = "chart"


Block = Text | Facts | Table | Code | Chart


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a page under a heading."""

    title: str
    blocks: Sequence[Block]


def _is_number(value: Any) -> bool:
    if isinstance(value, int | float):
        return True
    text = str(value).strip()
    return not text or (text.lstrip("+-<>~$")[:1].isdigit() and len(text) <= 24 and len(text.split()) <= 2)
