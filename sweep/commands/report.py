"""`sweep report`: the page of a run."""

from __future__ import annotations

import json
import sys
from typing import Annotated

from cyclopts import Parameter


def report(run: str, *, as_json: Annotated[bool, Parameter(name="--json", negative="")] = False) -> None:
    """Write the report of a run, finished or not: one HTML file that opens offline, and tell where it is.

    Every `sweep run` ends with it; this writes it anew.

    Parameters
    ----------
    run
        The folder of a run: a path or a URL.
    as_json
        Print one JSON object: report.
    """
    from sweep.report import write

    written = str(write(run))
    sys.stdout.write(f"{json.dumps({'report': written}) if as_json else written}\n")
