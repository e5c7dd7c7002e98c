"""How often a job is stopped, and what share of its time does useful work."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Operation:
    """How a cluster is run: rates of failure, and what a failure costs."""

    chip_failure_rate: float  # of one package, per second: failures that stop a job
