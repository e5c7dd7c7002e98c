"""What a machine costs to buy and to run, from its parts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Prices:
    """A price basis, resolved for one machine."""

    name: str
    package_usd: float  # one chip package
    electricity_usd_per_j: float
