r"""Power over the phases of a step, its peak, and what a machine as bought is rated at.

A rank is at work (kernels run), waits for communication that nothing hides, updates its weights, or waits (pipeline
bubble, host, transfers to the host's memory). Each phase has seconds and mean watts; over all of them they give the
energy of the step exactly:

.. math:: E = \sum_i t_i \, (N P_i + P_{beside}) \, \frac{(1 + f_{cool}) \, PUE}{\eta}

with N ranks at P_i watts. Within a phase the watts are its mean: kernels differ, and the hottest of them draw more for
milliseconds. The machine must be fed for the hottest phase, its building for all machines in it at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, Protocol, get_args

import numpy as np

from model.cost import Parts
from model.energy import Energy
from model.layout import Array
from model.system import Facility, System

Boundary = Literal["chip", "node", "system", "facility"]
BOUNDARIES: tuple[Boundary, ...] = get_args(Boundary)

# What a unit's own cooling takes of its load. Air: fans of a server, 0.08 to 0.15; liquid: pumps, and fans for what no
# cold plate covers, 0.03 to 0.07; immersion: nothing turns inside, the tank's pumps are the building's. Estimates.
COOLING: Mapping[str, float] = {"air": 0.1, "liquid": 0.04, "immersion": 0.0}


def within(system: System, boundary: Boundary, cooling: str | None = None) -> System:
    """The machine as a meter at a boundary sees it.

    "chip": the chips alone, at their own rails. "node": a unit as it is bought, at its plug, without its share of the
    network and storage of the hall. "system": all parts, at their plugs. "facility": with the building's overhead.

    Parameters
    ----------
    cooling
        One of `COOLING`; None: as the machine is sold.

    Raises
    ------
    KeyError
        For a cooling that is not known.
    """
    if boundary == "chip":
        return replace(system, parts=(), facility=Facility(1.0, 0.0, 1.0))
    facility = system.facility
    if cooling is not None:
        facility = replace(facility, cooling_fraction=COOLING[cooling])
    if boundary != "facility":
        facility = replace(facility, pue=1.0)
    parts = system.parts if boundary != "node" else tuple(part for part in system.parts if not part.outside)
    return replace(system, parts=parts, facility=facility)


class Drawing(Protocol):
    """What has a step and its energy: a training step, or an instance that serves."""

    @property
    def energy(self) -> Energy:
        """Energy of the step."""

    @property
    def step_time(self) -> Any:
        """Seconds of the step."""


@dataclass(frozen=True, slots=True)
class Phase:
    """One phase of a step, the mean over all ranks. Every field has the shape of what it depends on."""

    seconds: Any
    rank_w: Any  # mean watts of a rank's chip
    meter_w: Any  # of everything, at the building's meter

    @property
    def joules(self) -> Array:
        """Joules at the meter."""
        return np.asarray(self.meter_w * self.seconds)


@dataclass(frozen=True, slots=True)
class PowerPhases:
    """The phases of a step; their seconds add up to the step, their joules to its energy."""

    compute: Phase  # kernels
    communication: Phase  # tensor, context, expert, data, transfer: what nothing hides
    waiting: Phase  # bubble, host, offloads, fixed time, and faster stages for the slowest
    optimizer: Phase

    def phases(self) -> dict[str, Phase]:
        """Phase name -> phase."""
        return {one.name: getattr(self, one.name) for one in fields(self)}


def phases(cost: Drawing) -> PowerPhases:
    """Power over the phases of a step (or of a pass of an instance that serves)."""
    energy = cost.energy
    power = energy.system.chip.power
    kernels, exchange, update = energy.phases
    rest = energy.seconds - (energy.work_s + energy.exchange_s + energy.update_s)

    def phase(joules: Any, seconds: Any) -> Phase:
        drawn = joules / np.maximum(seconds, 1e-30)
        watts = (drawn + energy.standing) * energy.meter
        return Phase(seconds, power.idle_w + drawn / energy.ranks, watts)

    return PowerPhases(
        compute=phase(kernels, energy.work_s),
        communication=phase(exchange, energy.exchange_s),
        waiting=phase(0.0, np.maximum(rest, 0.0)),  # not -1e-16
        optimizer=phase(update, energy.update_s),
    )


def peak_power(cost: Drawing) -> Array:
    """Watts at the meter with all chips in their hottest phase at once, everything else at its rating."""
    found = list(phases(cost).phases().values())
    hottest: Any = 0.0
    for one in found:
        hottest = np.maximum(hottest, np.where(np.asarray(one.seconds) > 0.0, one.meter_w, 0.0))
    return np.asarray(hottest)


@dataclass(frozen=True, slots=True)
class PowerParts(Parts):
    """Watts of a machine with every chip at its cap and every part at its rating. The total is at the meter."""

    chips: Any
    host: Any
    board: Any
    switch: Any
    optics: Any
    cable: Any
    nic: Any
    storage: Any
    rack: Any
    conversion: Any  # lost in power supplies, bus bars and regulators
    cooling: Any  # fans and pumps inside the machine
    building: Any  # what the building adds: chillers, transformers, light

    @property
    def load(self) -> Array:
        """Watts of chips and parts alone."""
        return np.asarray(self.machine - self.conversion - self.cooling)

    @property
    def machine(self) -> Array:
        """Watts at the machine's own plugs, as its maker would print them: without the building."""
        return np.asarray(self.total - self.building)


def rated_power(system: System, packages: Any) -> PowerParts:
    """Watts of a machine of so many packages as it is bought: every chip at its cap, every part at its rating."""
    chip, facility = system.chip, system.facility
    packages = np.asarray(packages, float)

    def group(name: str) -> Any:
        watts = sum(part.count * part.watts / part.per_packages for part in system.parts if part.group == name)
        return watts * packages

    cap_w = chip.power.board_w if chip.power_cap_w is None else chip.power_cap_w
    chips = cap_w * chip.ranks_per_package * packages + group("chip")  # with those of a unit that stand idle
    names = ("host", "board", "switch", "optics", "cable", "nic", "storage", "rack")
    groups = {name: group(name) for name in names}
    load = chips + sum(groups.values())
    drawn = load / facility.conversion_efficiency
    cooled = drawn * (1.0 + facility.cooling_fraction)
    return PowerParts(
        chips=chips,
        **groups,
        conversion=drawn - load,
        cooling=drawn * facility.cooling_fraction,
        building=cooled * (facility.pue - 1.0),
    )
