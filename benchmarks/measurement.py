"""One measured figure, and the line that it is printed as."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Measurement:
    """A figure beside the one that it is judged by: a target, or the same work done the plain way."""

    name: str
    value: float | None
    unit: str
    reference: float | None = None
    reason: str = ""  # why there is no value

    def line(self) -> str:
        """One JSON object; the ratio is value over reference."""
        known = self.value is not None and self.reference
        record = {
            "name": self.name,
            "value": _rounded(self.value),
            "unit": self.unit,
            "reference": _rounded(self.reference),
            "ratio": _rounded(self.value / self.reference if known else None),  # type: ignore[operator]
        }
        return json.dumps(record | ({"reason": self.reason} if self.reason else {}))


Benchmark = Callable[[], Iterator[Measurement]]


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")
