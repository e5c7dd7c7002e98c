"""What a step or a served cluster comes to over weeks: money, failures, tokens that count.

Every function takes a cost (of a training step, or of what a cluster serves) and gives an array of its shape; what
rests on prices is not a number (NaN) where the machine has none.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from model import money, reliability
from model.cost import StepCost
from model.layout import Array
from model.system import System

_UNKNOWN = np.asarray(np.nan)


class Costed(Protocol):
    """What money and failures follow from."""

    @property
    def system(self) -> System:
        """The machine."""

    @property
    def packages(self) -> Any:
        """Chip packages."""

    @property
    def power(self) -> Any:
        """Mean watts at the meter."""

    @property
    def tokens_per_second(self) -> Any:
        """Of the whole cluster, while nothing fails."""


def with_spares(system: System, packages: Any) -> Any:
    """Packages that stand in the hall: those of the job, and those that stand by, switched off, for its failures.

    Who rents takes the spares of the one who lets.
    """
    rented = system.prices is not None and system.prices.rent_usd_per_s is not None
    if system.operation is None or rented:
        return packages
    return np.multiply(packages, 1.0 + system.operation.spare_share)


def capital_of(system: System, packages: Any) -> Array:
    """US dollars that so many packages, and their spares, cost with all that belongs to them."""
    if system.prices is None:
        return _UNKNOWN
    return np.asarray(money.capital(system, with_spares(system, packages)).total)


def spending(system: System, packages: Any, power_w: Any) -> money.SpendingParts:
    """US dollars per second, by what they are for, of packages that draw so many watts at the meter, and their spares.

    Raises ValueError where the machine has no prices.
    """
    return money.spending(system, with_spares(system, packages), power_w)


def spending_of(system: System, packages: Any, power_w: Any) -> Array:
    """US dollars per second of a machine that draws so many watts at the meter."""
    return _UNKNOWN if system.prices is None else np.asarray(spending(system, packages, power_w).total)


def _of_all(cost: Costed, value: Array) -> Array:
    """A value of the machine for every layout, where its numbers are arrays too."""
    return np.asarray(np.broadcast_arrays(value, cost.power)[0])


def capital_usd(cost: Costed) -> Array:
    """US dollars that the machine costs."""
    return _of_all(cost, capital_of(cost.system, cost.packages))


def usd_per_chip_hour(cost: Costed) -> Array:
    """US dollars of a chip package for an hour."""
    if cost.system.prices is None:
        return _UNKNOWN
    return money.per_chip_hour(spending(cost.system, cost.packages, cost.power), cost.packages)


def usd_per_million_tokens(cost: Costed, useful: Any = None) -> Array:
    """US dollars of a million tokens that count, without end where none do; `useful`: their rate, where it is known."""
    if cost.system.prices is None:
        return _UNKNOWN
    rate = useful_tokens_per_second(cost) if useful is None else useful
    with np.errstate(divide="ignore"):
        return money.per_million_tokens(spending(cost.system, cost.packages, cost.power), rate)


def racks_of(system: System, packages: Any) -> Array:
    """Racks of so many packages, shares of one counted."""
    if system.racks is None:
        return _UNKNOWN
    return np.asarray(with_spares(system, packages) / system.unit_packages * system.racks.racks)


def racks(cost: Costed) -> Array:
    """Racks that the machine stands in."""
    return _of_all(cost, racks_of(cost.system, cost.packages))


def floor_m2(cost: Costed) -> Array:
    """Square metres of floor, aisles shared."""
    standing = cost.system.racks
    return racks(cost) * (np.nan if standing is None else standing.rack_floor_m2)


# ------------------------------------------------------------------------------------------------ over weeks
def availability(cost: Costed) -> reliability.Availability:
    """Where the weeks of a training go; the cluster that serves loses the requests in flight, which are few seconds."""
    if not isinstance(cost, StepCost):
        one = np.ones(np.shape(cost.power))
        return reliability.Availability(one, *(np.zeros(one.shape) for _ in range(5)))
    return reliability.availability(cost.system, cost.packages, cost.saved_bytes, step_s=cost.step_time)


def goodput(cost: Costed) -> Array:
    """Share of the time that does useful work."""
    return availability(cost).goodput


def useful_tokens_per_second(cost: Costed) -> Array:
    """Tokens/s of the whole cluster over weeks."""
    return reliability.useful_rate(cost.tokens_per_second, goodput(cost))


def over_weeks(cost: Costed) -> dict[str, Array]:
    """What rests on failures, by the name of its quantity: each share is reckoned once for all of them."""
    share = goodput(cost)
    useful = reliability.useful_rate(cost.tokens_per_second, share)
    return {
        "goodput": share,
        "useful_tokens_per_s": useful,
        "usd_per_million_tokens": usd_per_million_tokens(cost, useful),
    }


def mean_time_between_failures(cost: Costed) -> Array:
    """Seconds between failures that stop the job."""
    return reliability.mtbf(cost.system, cost.packages)
