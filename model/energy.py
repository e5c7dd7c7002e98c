"""Energy of a step by part, from the chips' work up to the building's meter.

Chips: idle power over the whole step, plus joules per FLOP, per HBM byte and per link byte; the mean of a chip is held
to its board power by the sustained clock, so the dynamic part is clipped there. Everything beside the chips draws its
rated watts for the length of the step. Conversion losses and cooling multiply the sum. Coefficients: catalogue.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from model.cost import EnergyParts
from model.system import System

_NETWORK = ("switch", "optics", "nic")


def _watts_per_package(system: System, network: bool) -> float:
    return sum(
        part.count * part.watts / part.per_packages for part in system.parts if (part.group in _NETWORK) is network
    )


def energy(
    system: System, seconds: Any, ranks: Any, matrix_joules: Any, hbm_bytes: Any, link_bytes: Any
) -> EnergyParts:
    """Joules of one step of the whole cluster.

    Parameters
    ----------
    matrix_joules, hbm_bytes, link_bytes : of all ranks together in one step
    """
    power = system.chip.power
    cap = system.chip.power_cap_w or power.board_w
    idle = power.idle_w * ranks * seconds
    hbm = hbm_bytes * power.joule_per_hbm_byte
    link = link_bytes * power.joule_per_link_byte
    dynamic = matrix_joules + hbm + link
    held = np.minimum(1.0, (cap - power.idle_w) * ranks * seconds / np.maximum(dynamic, 1e-30))
    packages = ranks * system.packages_per_rank
    host = _watts_per_package(system, network=False) * packages * seconds
    network = _watts_per_package(system, network=True) * packages * seconds
    load = dynamic * held + idle + host + network
    drawn = load / system.facility.conversion_efficiency
    overhead = (1.0 + system.facility.cooling_fraction) * system.facility.pue - 1.0
    return EnergyParts(
        matrix=matrix_joules * held,
        hbm=hbm * held,
        link=link * held,
        idle=idle,
        host=host,
        network=network,
        conversion=drawn - load,
        cooling=drawn * overhead,
    )
