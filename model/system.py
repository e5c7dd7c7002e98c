"""A machine: chips joined by tiers of fabric, fed through power parts.

A cluster is an ordered list of tiers, innermost first. Tier j joins `ranks` ranks without leaving it; the last tier
has no bound. Bandwidth is per rank and direction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from model.chip import Chip
from model.prices import Prices
from model.reliability import Operation

Collective = Literal["all_reduce", "all_gather", "reduce_scatter", "all_to_all", "point_to_point"]
Topology = Literal["switch", "full_mesh", "torus"]


@dataclass(frozen=True, slots=True)
class Tier:
    """One tier of the fabric and what collectives reach on it (model/collective.py)."""

    name: str
    topology: Topology
    ranks: int  # reachable without leaving the tier
    bandwidth: float  # peak bytes/s per rank, one direction
    efficiency: Mapping[Collective, float]  # achieved fraction of `bandwidth` for large messages
    latency_s: float  # of one collective
    latency_step_s: float  # of each further rank (ring) or doubling (scale-out)
    ramp_s: float = 0.0  # extra time of the slow start, reached over messages of about 4 MB
    pair_loss: float = 0.0  # efficiency lost by a group of two, falls as 1/group
    oversubscription: float = 1.0
    congestion: float = 0.0  # efficiency lost per doubling of the inner domains that take part
    shape: tuple[int, ...] = ()  # torus or mesh: ranks along each dimension
    medium: str = "copper"  # for energy: copper, optics
    # of inference engines' own kernels (model/serving/collectives.py); 0: derived from the above
    small_latency_s: float = 0.0  # of an all-reduce of small messages, in one exchange
    small_step_s: float = 0.0  # of each further rank of it
    small_fraction: float = 0.0  # of the bandwidth that it reaches; the same below
    exchange_latency_s: float = 0.0  # of a low-latency dispatch or combine
    exchange_step_s: float = 0.0  # of each doubling of its ranks
    exchange_congestion: float = 0.0  # slow-down of its rows with each doubling of its ranks
    exchange_row_s: float = 0.0  # least time of a row that it sends
    exchange_fraction: float = 0.0
    bulk_latency_s: float = 0.0  # of a dispatch or combine that sends one copy to each rank or domain
    bulk_fraction: float = 0.0
    bulk_congestion: float = 0.0  # slow-down of it with each doubling of its ranks


@dataclass(frozen=True, slots=True)
class Host:
    """A rank's share of the host that it is plugged into: where optimizer state and activations may be kept."""

    link_bandwidth: float  # peak bytes/s between the rank and its host, one direction
    memory_bandwidth: float  # peak bytes/s
    memory_bytes: float
    achieved_fraction: float  # of both bandwidths


Group = Literal["chip", "host", "switch", "optics", "cable", "nic", "board", "storage", "rack"]


@dataclass(frozen=True, slots=True)
class Part:
    """Equipment beside the chips: `count` pieces for every `per_packages` packages."""

    name: str
    group: Group
    count: float
    watts: float
    per_packages: float
    outside: bool = False  # of the unit that is bought: its share of the network and of storage of the hall
    price_usd: float = 0.0  # of a piece; a piece of group "chip" is a package and costs what one does
    failure_rate: float = 0.0  # of a piece, per second: failures that stop a job


@dataclass(frozen=True, slots=True)
class Facility:
    """From the plug of a part to the meter of the building."""

    conversion_efficiency: float  # power supplies, bus bars, regulators
    cooling_fraction: float  # fans and pumps inside the system, of its load
    pue: float  # power usage effectiveness of the building


@dataclass(frozen=True, slots=True)
class Racks:
    """Where a unit stands."""

    racks: float  # of one unit of the machine; a share of one where several units stand in it
    rack_floor_m2: float  # floor of a rack with its share of the aisles


@dataclass(frozen=True, slots=True)
class System:
    """A machine that can be bought in units of `unit_packages` packages."""

    name: str
    chip: Chip
    tiers: tuple[Tier, ...]
    parts: tuple[Part, ...]
    facility: Facility
    unit_packages: int  # packages of one node or supernode
    host: Host | None = None  # unknown: nothing can be offloaded
    racks: Racks | None = None  # unknown: no floor is counted
    prices: Prices | None = None  # unknown: nothing is priced
    operation: Operation | None = None  # unknown: nothing fails
    fault_domain_packages: int = 0  # that one failure takes out until it is repaired; 0: those of a unit
    spare_packages: int = 0  # idle in every unit, which stand in for its failed ones
    notes: Mapping[str, str] = field(default_factory=dict)

    @property
    def packages_per_rank(self) -> float:
        """Packages that one rank stands for."""
        return 1.0 / self.chip.ranks_per_package


def partly_used(system: System, tier: str, ranks: int) -> System:
    """The machine with only `ranks` of a tier's ranks at work, so that groups fit: 64 of a rack of 72, say.

    The equipment of a unit serves fewer packages. The chips left over draw their idle power, and stand in for those of
    the unit that fail.

    Raises ValueError where the tier is not a switch of that many ranks, or a unit would be left with a part of a
    package.
    """
    whole = next((one for one in system.tiers[:-1] if one.name == tier), None)
    if whole is None or whole.topology != "switch" or not 1 <= ranks <= whole.ranks:
        known = ", ".join(f"{one.name} ({one.ranks})" for one in system.tiers[:-1] if one.topology == "switch")
        raise ValueError(f"{ranks} ranks of {tier!r} cannot be in use alone; switched tiers and their ranks: {known}")
    share = ranks / whole.ranks
    used = round(system.unit_packages * share)
    if abs(used - system.unit_packages * share) > 1e-9 or not used:
        raise ValueError(
            f"{ranks} of {whole.ranks} ranks are no whole number of a unit's {system.unit_packages} packages"
        )
    idle_w = system.chip.power.idle_w * system.chip.ranks_per_package
    spare = Part("spare chips, idle", "chip", system.unit_packages - used, idle_w, used)
    return replace(
        system,
        tiers=tuple(replace(one, ranks=ranks) if one.name == tier else one for one in system.tiers),
        parts=(*(replace(part, per_packages=part.per_packages * share) for part in system.parts), spare),
        unit_packages=used,
        spare_packages=system.spare_packages + system.unit_packages - used,
    )


def sliced(system: System, ranks: int) -> System:
    """The machine whose torus is a slice of `ranks`: axes of powers of two, as even as they come, the longest last.

    A number that is no such product, or as large as the torus, leaves the machine as it is. Source: the topologies that
    Google Cloud offers of TPU v4, v5p (4 x 4 x 8, 8 x 8 x 8) and v6e (4 x 8, 8 x 8).
    """
    torus = system.tiers[0]
    axes = len(torus.shape)
    if not axes or not 1 < ranks < torus.ranks:
        return system
    doublings = ranks.bit_length() - 1
    odd = ranks / 2.0**doublings
    shape = [2 ** ((doublings + axis) // axes) for axis in range(axes)]
    if odd > 1.0:
        shape[-1] = int(shape[-1] * odd)
    if int(np.prod(shape)) != ranks:
        return system
    return replace(system, tiers=(replace(torus, ranks=ranks, shape=tuple(shape)), *system.tiers[1:]))
