"""Energy of a step, from the chips' work up to the building's meter.

Chips: idle power over the whole step, plus joules per FLOP, per HBM byte and per link byte; the mean of a chip is held
to its board power by the sustained clock, so the dynamic part is clipped there. Everything beside the chips draws its
rated watts for the length of the step. Conversion losses and cooling multiply the sum. Coefficients: catalogue.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from model.cost import EnergyParts
from model.layout import Array
from model.system import System

_NETWORK = ("switch", "optics", "nic")


def _watts_per_package(system: System, network: bool) -> float:
    return sum(
        part.count * part.watts / part.per_packages for part in system.parts if (part.group in _NETWORK) is network
    )


@dataclass(frozen=True, slots=True)
class Energy:
    """Joules of one step of the whole cluster. The total is a few passes over the layouts; its parts are many.

    A million layouts are judged by their totals, and only those that are kept need `split`.
    """

    system: System
    seconds: Any
    ranks: Any
    matrix_joules: Any  # of the work on all microbatches by all ranks, as the two below
    hbm_joules: Any
    link_joules: Any
    update_hbm_joules: Any = 0.0  # once a step: of the optimizer
    update_link_joules: Any = 0.0  # and of data-parallel traffic

    @property
    def dynamic(self) -> Any:
        """Joules of the work, were no cap in force."""
        work = self.matrix_joules + self.hbm_joules + self.link_joules
        return work + (self.update_hbm_joules + self.update_link_joules)

    @property
    def room(self) -> Any:
        """Watts that the caps leave for work."""
        power = self.system.chip.power
        cap = self.system.chip.power_cap_w
        return ((power.board_w if cap is None else cap) - power.idle_w) * self.ranks

    @property
    def standing(self) -> Any:
        """Watts that all equipment draws whatever the work: chips at rest, hosts, network."""
        beside = _watts_per_package(self.system, network=False) + _watts_per_package(self.system, network=True)
        return (self.system.chip.power.idle_w + beside * self.system.packages_per_rank) * self.ranks

    @property
    def meter(self) -> float:
        """Joules at the building's meter for one of the load."""
        facility = self.system.facility
        return (1.0 + facility.cooling_fraction) * facility.pue / facility.conversion_efficiency

    @property
    def total(self) -> Array:
        """Joules at the building's meter."""
        load = np.minimum(self.dynamic, self.room * self.seconds) + self.standing * self.seconds
        return np.asarray(load * self.meter)

    @property
    def split(self) -> EnergyParts:
        """The parts of the total."""
        system, packages = self.system, self.ranks * self.system.packages_per_rank
        held = np.minimum(1.0, self.room * self.seconds / np.maximum(self.dynamic, 1e-30))
        idle = system.chip.power.idle_w * self.ranks * self.seconds
        host = _watts_per_package(system, network=False) * packages * self.seconds
        network = _watts_per_package(system, network=True) * packages * self.seconds
        load = self.dynamic * held + idle + host + network
        drawn = load / system.facility.conversion_efficiency
        overhead = (1.0 + system.facility.cooling_fraction) * system.facility.pue - 1.0
        return EnergyParts(
            matrix=self.matrix_joules * held,
            hbm=(self.hbm_joules + self.update_hbm_joules) * held,
            link=(self.link_joules + self.update_link_joules) * held,
            idle=idle,
            host=host,
            network=network,
            conversion=drawn - load,
            cooling=drawn * overhead,
        )

    def parts(self) -> dict[str, Array]:
        """Part name -> array."""
        return self.split.parts()
