"""Everything that moves: study files, search, workers, results and the command line.

Every verb of the command line is a function here, which gives what its `--json` prints: `sweep.run(study)`,
`sweep.plan`, `sweep.try_`, `sweep.size`, `sweep.explain`, `sweep.compare` and the others of `sweep.verbs`.
`sweep.load("runs/*")` gives the rows of runs as a DataFrame. What they need is imported as they are called.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from pandas import DataFrame

    from sweep.verbs import (
        compare,
        digest,
        explain,
        export,
        import_,
        list_,
        plan,
        run,
        schema,
        show,
        size,
        try_,
        validate,
        write_report,
        write_trace,
    )

__all__ = [
    "compare",
    "digest",
    "explain",
    "export",
    "import_",
    "list_",
    "load",
    "plan",
    "run",
    "schema",
    "show",
    "size",
    "try_",
    "validate",
    "write_report",
    "write_trace",
]


def __getattr__(name: str) -> Any:
    """A verb, imported when it is first asked for."""
    if name in __all__:
        return getattr(import_module("sweep.verbs"), name)
    raise AttributeError(f"module 'sweep' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]


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
