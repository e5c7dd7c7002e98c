"""Everything that moves: study files, search, workers, results and the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from pandas import DataFrame

__all__ = ["load"]


def load(*runs: str | Path) -> DataFrame:
    """All rows of one or more runs as one table.

    Parameters
    ----------
    runs
        Run folders, or patterns of them such as "runs/*": paths or URLs.

    Returns
    -------
    DataFrame
        The columns of the data set (docs/results.md), and `run`, the folder's name.

    Raises
    ------
    InputError
        Where a pattern matches no run, or a part cannot be read.
    """
    from sweep import store

    return store.load(*runs)
