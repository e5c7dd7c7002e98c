"""Energy of a step, from the chips' work up to the building's meter.

A chip draws its idle power over the whole step, and joules per FLOP, per HBM byte and per link byte for its work. The
work falls in three phases: kernels, communication that no kernel hides, the optimizer; in each of them the sustained
clock holds the chip to its cap. Bytes sent are spread evenly over kernels and exposed communication. Everything beside
the chips draws its rated watts for the length of the step. Conversion losses and cooling multiply the sum.
Coefficients: catalogue. model/power.py says what is drawn in which phase.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from model.cost import EnergyParts
from model.layout import Array
from model.system import System

_NETWORK = ("switch", "optics", "nic", "cable")
_TINY = 1e-30


def _watts_per_package(system: System, network: bool) -> Any:
    return sum(
        part.count * part.watts / part.per_packages for part in system.parts if (part.group in _NETWORK) is network
    )


@dataclass(frozen=True, slots=True)
class Energy:
    """Joules of one step of the whole cluster. The total is a few passes over the layouts; its parts are many.

    A million layouts are judged by their totals, and only those that are kept need `split`. Seconds of phases are those
    of the mean rank: a stage of a pipeline that has less to do than the slowest waits for it.
    """

    system: System
    seconds: Any  # of the step
    ranks: Any
    matrix_joules: Any  # of the work on all microbatches by all ranks, at the clock of the rating
    hbm_joules: Any  # of theirs too
    link_joules: Any  # of the traffic of tensor, context and expert parallelism
    work_s: Any = 0.0  # that the mean rank's kernels run
    exchange_s: Any = 0.0  # that it waits for communication
    update_hbm_joules: Any = 0.0  # once a step: of the optimizer
    update_link_joules: Any = 0.0  # and of data-parallel traffic
    update_s: Any = 0.0  # of the optimizer

    @property
    def matrix(self) -> Any:
        """Joules of the FLOPs at the clock that the cap leaves."""
        return self.matrix_joules * self.system.chip.thrift

    @property
    def room(self) -> Any:
        """Watts that the caps leave for work."""
        power = self.system.chip.power
        cap = self.system.chip.power_cap_w
        return ((power.board_w if cap is None else cap) - power.idle_w) * self.ranks

    @property
    def beside(self) -> Any:
        """Watts of everything beside the chips."""
        watts = _watts_per_package(self.system, network=False) + _watts_per_package(self.system, network=True)
        return watts * self.system.packages_per_rank * self.ranks

    @property
    def standing(self) -> Any:
        """Watts that all equipment draws whatever the work: chips at rest, hosts, network."""
        return self.system.chip.power.idle_w * self.ranks + self.beside

    @property
    def meter(self) -> Any:
        """Joules at the building's meter for one of the load."""
        facility = self.system.facility
        return (1.0 + facility.cooling_fraction) * facility.pue / facility.conversion_efficiency

    @property
    def phases(self) -> tuple[Any, Any, Any]:
        """Joules of the chips' work under the cap: while kernels run, while communication is waited for, to update."""
        sent = self.link_joules + self.update_link_joules
        beside_kernels = sent * (self.work_s / np.maximum(self.work_s + self.exchange_s, _TINY))
        kernels = self.matrix + self.hbm_joules + beside_kernels
        room = self.room
        return (
            np.minimum(kernels, room * self.work_s),
            np.minimum(sent - beside_kernels, room * self.exchange_s),
            np.minimum(self.update_hbm_joules, room * self.update_s),
        )

    @property
    def total(self) -> Array:
        """Joules at the building's meter."""
        kernels, exchange, update = self.phases
        return np.asarray((kernels + exchange + update + self.standing * self.seconds) * self.meter)

    @property
    def split(self) -> EnergyParts:
        """The parts of the total."""
        system, packages = self.system, self.ranks * self.system.packages_per_rank
        kernels, exchange, update = self.phases
        sent = self.link_joules + self.update_link_joules
        beside_kernels = sent * (self.work_s / np.maximum(self.work_s + self.exchange_s, _TINY))
        held = kernels / np.maximum(self.matrix + self.hbm_joules + beside_kernels, _TINY)
        idle = system.chip.power.idle_w * self.ranks * self.seconds
        host = _watts_per_package(system, network=False) * packages * self.seconds
        network = _watts_per_package(system, network=True) * packages * self.seconds
        load = kernels + exchange + update + idle + host + network
        drawn = load / system.facility.conversion_efficiency
        overhead = (1.0 + system.facility.cooling_fraction) * system.facility.pue - 1.0
        return EnergyParts(
            matrix=self.matrix * held,
            hbm=self.hbm_joules * held + update,
            link=beside_kernels * held + exchange,
            idle=idle,
            host=host,
            network=network,
            conversion=drawn - load,
            cooling=drawn * overhead,
        )

    def parts(self) -> dict[str, Array]:
        """Part name -> array."""
        return self.split.parts()
