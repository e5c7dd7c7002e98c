"""Colours and marks of every chart: told apart without colour vision, on light and on dark ground.

The colours are those of Okabe and Ito, "Color Universal Design" (2008), less black and yellow, which vanish on one of
the grounds. A series has a mark of its own as well, so that nothing is told by colour alone.
"""

from __future__ import annotations

from collections.abc import Mapping

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#8C8C8C")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "cross", "star", "triangle-down", "pentagon", "hexagram")

# What takes time, by the word that a part's name begins with: the same colour on every page.
PART_COLOURS: Mapping[str, str] = {
    "compute": "#0072B2",
    "matmul": "#0072B2",
    "attention": "#56B4E9",
    "vector": "#009E73",
    "memory": "#009E73",
    "hbm": "#009E73",
    "tensor": "#E69F00",
    "expert": "#D55E00",
    "data": "#CC79A7",
    "pipeline": "#8C8C8C",
    "bubble": "#8C8C8C",
    "idle": "#8C8C8C",
}


def part_colour(name: str, at: int = 0) -> str:
    """The colour of a part of time, memory or energy; the `at`-th of the palette where its name begins with no word."""
    for word, colour in PART_COLOURS.items():
        if name.startswith(word):
            return colour
    return COLOURS[at % len(COLOURS)]
