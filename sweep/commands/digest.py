"""`sweep digest`: a hash of a run's rows."""

from __future__ import annotations

import sys

from sweep import store


def digest(run: str) -> None:
    """Print the hash of a run's rows: equal for equal results, however many workers and interruptions.

    Parameters
    ----------
    run
        The folder of a run: a path or a URL.
    """
    sys.stdout.write(store.digest(store.find_run(run)) + "\n")
