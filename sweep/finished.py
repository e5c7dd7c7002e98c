"""What is told of a run that has ended: its object, its page, and why nothing is feasible where that is so."""

from __future__ import annotations

from typing import Any

from sweep.answer import told
from sweep.relaxations import WhyNot, why_nothing
from sweep.running import Finished
from sweep.study import Study


def page_of(study: Study, finished: Finished) -> str:
    """Write the report, unless this very run has one already, and say where it is."""
    from sweep.report import FILE, write_finished

    page = finished.path / FILE
    if finished.fresh or not page.exists():
        write_finished(study, finished)
    return str(page)


def why_of(study: Study, finished: Finished) -> WhyNot | None:
    """Why nothing is feasible; None where something is, or some of it failed."""
    return None if finished.answer.rows or finished.failed else why_nothing(study, finished.answer.failed)


def as_object(finished: Finished, page: str | None = None, why: WhyNot | None = None) -> dict[str, Any]:
    """What --json prints."""
    found: dict[str, Any] = told({
        "run": str(finished.path),
        "digest": finished.digest,
        "answer": finished.answer.rows,
        "infeasible": finished.answer.failed,
        "failed": list(finished.failed),
        "uncertainty": list(finished.certainty),
        "notes": [*finished.notes, *finished.answer.remarks],
        "report": page,
        "why_not": None if why is None else why.as_json(),
    })  # fmt: skip
    return found
