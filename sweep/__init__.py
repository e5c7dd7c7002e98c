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
        Run folders, or patterns of them such as "runs/*".

    Returns
    -------
    DataFrame
        The columns of the data set (docs/results.md), and `run`, the folder's name.

    Raises
    ------
    InputError
        Where a pattern matches no run.
    """
    from pathlib import Path

    import pandas
    import pyarrow.parquet as pq

    from sweep.errors import problem
    from sweep.store import find_run, parts_of

    tables = []
    for pattern in runs:
        path = Path(pattern)
        folders = sorted(Path(path.anchor or ".").glob(str(path.relative_to(path.anchor))))
        if not folders:
            raise problem("load", str(pattern), "matches no run", None, "give folders such as runs/<study>-<hash>")
        for folder in folders:
            run = find_run(folder)
            tables += [pq.read_table(part).to_pandas().assign(run=run.name) for part in parts_of(run)]
    return pandas.concat(tables, ignore_index=True) if tables else pandas.DataFrame()
