"""The parts of a machine's rated power, held against what is published for it: the gap is named, not spread."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from model.power import PowerParts, rated_power, within
from sweep import catalogue


@dataclass(frozen=True, slots=True)
class Closing:
    """One unit of a machine at the boundary that its published power has."""

    boundary: str
    parts: PowerParts
    published_w: float
    source: str

    @property
    def rated_w(self) -> float:
        """Watts of all parts, losses and cooling."""
        return float(self.parts.total)

    @property
    def gap_w(self) -> float:
        """Published watts that no part accounts for; negative where the parts come to more."""
        return self.published_w - self.rated_w

    def lines(self) -> list[str]:
        """Part, kilowatts and share of the sum, as a table for people."""
        shown = {name: float(watts) for name, watts in self.parts.parts().items() if float(watts) > 0.0}
        rows = [f"{name:<12}{watts / 1e3:9.2f} kW {watts / self.rated_w:7.1%}" for name, watts in shown.items()]
        gap = f"{'gap':<12}{self.gap_w / 1e3:9.2f} kW {self.gap_w / self.published_w:7.1%} of the published"
        return [
            *rows,
            f"{'sum':<12}{self.rated_w / 1e3:9.2f} kW",
            f"{'published':<12}{self.published_w / 1e3:9.2f} kW",
            gap,
        ]


def closing(system: str, extra: Path | None = None) -> Closing | None:
    """How the parts of a unit close with its published power; None where none is published."""
    found = catalogue.entry("systems", system, extra)
    published = found.quantities.get("published.power_w")
    if published is None:
        return None
    boundary = found.facts.get("published.boundary", "system")
    machine = catalogue.system(system, extra=extra)
    parts = rated_power(within(machine, boundary), machine.unit_packages)
    return Closing(boundary, parts, float(published.value), published.source)
