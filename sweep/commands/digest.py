"""`sweep digest`: a hash of a run's rows."""

from __future__ import annotations

import sys
from pathlib import Path

from sweep import store


def digest(run: Path) -> None:
    """Print the hash of a run's rows: equal for equal results, however many workers and interruptions.

    Parameters
    ----------
    run
        The folder of a run.
    """
    sys.stdout.write(store.digest(store.find_run(run)) + "\n")
