"""The console that commands print their tables on."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def console(piped_width: int, folds: bool = False) -> Console:
    """Standard output: as wide as the terminal, or `piped_width` columns in a pipe, where lines are folded if asked.

    Text is shown as it is: names and ids come from elsewhere, and what stands in brackets in them is no markup.
    """
    from rich.console import Console

    terminal = sys.stdout.isatty()
    return Console(
        file=sys.stdout, width=None if terminal else piped_width, soft_wrap=not (terminal or folds), markup=False,
        highlight=False,
    )  # fmt: skip
