"""What a page is made of: sections, and in them texts, facts, tables, charts and code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
class Notes:
    """What is told of the points of charts that share them: a text each, and commands that go on from there.

    A point whose `customdata` is a number has the text of that place: whole where the pointer is, and with the commands
    under the chart when it is clicked or tapped. Texts and commands are shown as they are, and must not be escaped.
    """

    texts: Sequence[str]
    fields: Sequence[Mapping[str, str | int]] = ()  # of each point
    commands: str = ""  # a line each; {row}, say, stands for the point's field of that name


@dataclass(frozen=True, slots=True)
class Chart:
    """A plotly figure with what it means.

    Labels in it that come from elsewhere must have passed `plain`. The `customdata` of a point, a text, is shown under
    the chart when the point is clicked or tapped; that text is shown as it is, and must not be escaped. With `notes` it
    is a number instead.
    """

    figure: Any  # of plotly, or the same as a mapping of "data" and "layout"
    meaning: str  # under the chart: what it shows and how to read it
    formula: str = ""
    name: str = ""  # for those who do not see it; the meaning where empty
    height: int = 440  # pixels; a little less on a phone
    folded: str = ""
    notes: Notes | None = None
    kind: ClassVar[str] = "chart"


@dataclass(frozen=True, slots=True)
class Side:
    """Blocks beside each other where there is room, one under the other where there is none."""

    blocks: Sequence[Block]
    kind: ClassVar[str] = "side"


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several sets of blocks, picked from a list; one set alone has no list.

    Lists of the same label go together: what is picked in one is picked in all that offer it.
    """

    label: str
    options: Sequence[tuple[str, Sequence[Block]]]
    kind: ClassVar[str] = "choice"


Block = Text | Facts | Table | Code | Chart | Side | Choice


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
