"""What a unit of a machine comes to by part, in watts and in dollars: what is published leaves a gap that is named."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from model.cost import Parts
from model.money import CapitalParts, capital
from model.power import PowerParts, rated_power, within
from sweep import catalogue
from sweep.designs import DEFAULT_PRICES


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
        gap = f"{'gap':<12}{self.gap_w / 1e3:12,.2f} kW {self.gap_w / self.published_w:7.1%} of the published"
        return [
            *_table(self.parts, 1e3, "kW"),
            f"{'published':<12}{self.published_w / 1e3:12,.2f} kW",
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


def unit_power(system: str) -> PowerParts:
    """Watts of one unit of a machine at its own plugs."""
    machine = catalogue.system(system)
    return rated_power(within(machine, "system"), machine.unit_packages)


def unit_capital(system: str) -> CapitalParts:
    """US dollars of one unit of a machine at list prices."""
    machine = catalogue.system(system, prices=DEFAULT_PRICES)
    return capital(machine, machine.unit_packages)


def rated(system: str) -> list[str]:
    """Part, kilowatts and share of the sum of a machine of which no total is published."""
    return _table(unit_power(system), 1e3, "kW")


def bill(system: str) -> list[str]:
    """Part, thousands of US dollars and share of the price; what a listed price leaves over is its integration."""
    return _table(unit_capital(system), 1e3, "kUSD")


def _table(parts: Parts, scale: float, unit: str) -> list[str]:
    total = float(parts.total)
    shown = {name: float(value) for name, value in parts.parts().items() if float(value)}
    rows = [f"{name:<12}{value / scale:12,.2f} {unit} {value / total:7.1%}" for name, value in shown.items()]
    return [*rows, f"{'sum':<12}{total / scale:12,.2f} {unit}"]
