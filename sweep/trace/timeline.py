"""The timeline of what a command is about: of a training step, or of the passes of instances."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweep.explanation import Explanation

if TYPE_CHECKING:
    from sweep.chosen import Chosen
    from sweep.serving_explanation import ServedExplanation
    from sweep.trace.lanes import Trace


def timeline_of(found: Explanation | ServedExplanation) -> Trace:
    """The timeline of a layout."""
    if isinstance(found, Explanation):
        from sweep.trace.training import trace_of_step

        return trace_of_step(found)
    from sweep.trace.serving import trace_of_passes

    return trace_of_passes(found)


def written(chosen: Chosen, file: Path) -> dict[str, Any]:
    """Write a timeline to a file, and say what is in it."""
    made = timeline_of(chosen.found)
    file.write_text(made.text(), encoding="utf-8")
    return {
        **made.facts,
        "file": str(file),
        "slices": len(made.slices),
        "stages": len(made.groups),
        "end_s": made.end_s,
        "from": chosen.origin,
    }
