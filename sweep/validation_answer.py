"""What `sweep validate --json` prints: predictions, errors by group, order of layouts, and what fits in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sweep.memory_cases import checked
from sweep.prediction import Prediction, summarise
from sweep.ranking import rankings, summed


def as_json(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """The object that is printed; docs/validation-cases.md describes it."""
    found, mixed = rankings(predictions), summed(rankings(predictions, same_release=False))
    total = summed(found)
    return {
        "cases": [asdict(one) for one in predictions],
        "groups": [asdict(one) for one in summarise(predictions)],
        "ranking": {
            "same_release": asdict(total) if total else None,
            "any_release": asdict(mixed) if mixed else None,
            "groups": [asdict(one) for one in found],
        },
        "memory": asdict(checked(predictions)),
    }
