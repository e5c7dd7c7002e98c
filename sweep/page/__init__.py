"""Pages of results: one HTML file that holds everything it shows, opens offline and asks nothing of any other machine.

    page("Title", [Section("Part", [Text("..."), Chart(figure, "what it shows"), Table(columns, rows)])])

Text is shown as text wherever it comes from: the template escapes it, `plain` does for the labels of charts, and the
page's own policy runs no script but the two that belong to it.
"""

from sweep.page.blocks import Block, Chart, Choice, Code, Fact, Facts, Notes, Section, Side, Table, Text
from sweep.page.page import page
from sweep.page.palette import COLOURS, PART_COLOURS, SYMBOLS, part_colour
from sweep.page.words import plain, quantity_text

__all__ = [
    "COLOURS", "PART_COLOURS", "SYMBOLS", "Block", "Chart", "Choice", "Code", "Fact", "Facts", "Notes", "Section",
    "Side", "Table", "Text", "page", "part_colour", "plain", "quantity_text",
]  # fmt: skip
