"""`sweep digest`: a hash of a run's rows."""

from __future__ import annotations

import json
import sys
from typing import Annotated

from cyclopts import Parameter

from sweep import store


def digest(run: str, *, as_json: Annotated[bool, Parameter(name="--json", negative="")] = False) -> None:
    """Print the hash of a run's rows: equal for equal results, however many workers and interruptions.

    Parameters
    ----------
    run
        The folder of a run: a path or a URL.
    as_json
        Print one JSON object: run, digest.
    """
    found = store.find_run(run)
    hashed = store.digest(found)
    sys.stdout.write(json.dumps({"run": str(found), "digest": hashed}) if as_json else hashed)
    sys.stdout.write("\n")
