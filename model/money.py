"""What a machine costs to buy and to run, from its parts.

Whoever owns a machine pays back its price with interest as an annuity, keeps it running, and pays for the energy that
it draws and for the building that can supply its peak; whoever rents pays by the hour. Hours in which the machine
earns nothing are paid for by those in which it does: the owner's spending is divided by the share of hours in use.
Source of the form: L. A. Barroso, U. Hölzle, P. Ranganathan, The Datacenter as a Computer, 3rd ed. (2018), ch. 6.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from model.chip import Chip
from model.cost import Parts, mapped
from model.layout import Array
from model.power import rated_power
from model.prices import YEAR_S, Prices
from model.silicon import package_cost
from model.system import System

HOUR_S = 3600.0
_NO_INTEREST = 1e-12  # a year: below it the formula divides rounding errors


@dataclass(frozen=True, slots=True)
class CapitalParts(Parts):
    """USD of buying packages with everything that belongs to them."""

    chips: Any
    hosts: Any  # CPUs with their memory
    boards: Any
    switches: Any
    optics: Any
    cables: Any
    nics: Any
    storage: Any
    racks: Any
    integration: Any  # what the price leaves over: assembly, software, margin; may be negative


@dataclass(frozen=True, slots=True)
class SpendingParts(Parts):
    """USD a second of having the packages in use."""

    depreciation: Any  # the price over the lifetime
    interest: Any  # what the annuity is more than that
    maintenance: Any  # repairs and staff
    electricity: Any
    facility: Any  # building, cooling plant, supply
    rent: Any


def _prices(system: System) -> Prices:
    if system.prices is None:
        raise ValueError(f"machine {system.name!r} has no prices: name a price basis")
    return system.prices


def package_usd(chip: Chip, prices: Prices) -> Array:
    """USD of one chip package: its listed price, or what its silicon costs with the maker's margin.

    Raises ValueError where neither is known.
    """
    if prices.package_usd is not None:
        return np.asarray(prices.package_usd, float)
    if chip.silicon is None:
        raise ValueError(f"chip {chip.name!r} has neither a price nor a table of its silicon")
    made = package_cost(chip.silicon, chip.hbm_bytes * chip.ranks_per_package)
    return np.asarray(made.total / (1.0 - prices.gross_margin))


def packages_bought(system: System, packages: Any) -> Array:
    """Packages that are paid for: those at work, and those of their units that stand idle."""
    spare = sum(part.count / part.per_packages for part in system.parts if part.group == "chip")
    return np.asarray(np.multiply(packages, 1.0 + spare))


def capital(system: System, packages: Any) -> CapitalParts:
    """USD of buying `packages` packages and their share of everything else; a rented machine costs nothing to buy.

    Parts are shares: units are not rounded up.

    Parameters
    ----------
    packages : packages at work, any shape; the parts broadcast with it.

    Raises ValueError where the machine has no prices, or a chip neither price nor silicon.
    """
    prices = _prices(system)
    number = np.asarray(packages, float)
    if prices.rent_usd_per_s is not None:
        none = np.zeros(number.shape)
        return CapitalParts(none, none, none, none, none, none, none, none, none, none)

    def of(group: str) -> Any:
        return number * sum(
            part.count * part.price_usd / part.per_packages for part in system.parts if part.group == group
        )

    chips = packages_bought(system, number) * package_usd(system.chip, prices)
    groups = ("host", "board", "switch", "optics", "cable", "nic", "storage", "rack")
    hosts, boards, switches, optics, cables, nics, storage, racks = (of(group) for group in groups)
    none = np.zeros(number.shape)
    parts = CapitalParts(chips, hosts, boards, switches, optics, cables, nics, storage, racks, none)
    left = prices.integration_usd * number / system.unit_packages + prices.integration_fraction * parts.total
    paid: CapitalParts = mapped(replace(parts, integration=left), lambda usd: usd * prices.paid_fraction)
    return paid


def integration_of(system: System, unit_usd: Any) -> Array:
    """USD that a unit's listed price leaves over when its chips and the parts sold with it are taken off.

    Parameters
    ----------
    system : with prices, whose integration is left out here.

    Raises ValueError as `capital`.
    """
    alone = replace(_prices(system), integration_usd=0.0, integration_fraction=0.0, paid_fraction=1.0)
    sold = tuple(part for part in system.parts if not part.outside)
    return np.asarray(unit_usd - capital(replace(system, parts=sold, prices=alone), system.unit_packages).total)


def capital_recovery(annual_interest: Any, years: Any) -> Array:
    """Share of a price to be paid each year so that it is paid back with interest: r / (1 - (1 + r)^-n)."""
    interest, years = np.broadcast_arrays(np.asarray(annual_interest, float), np.asarray(years, float))
    bears = interest > _NO_INTEREST
    lost = -np.expm1(-years * np.log1p(np.where(bears, interest, 1.0)))
    return np.asarray(np.where(bears, interest / lost, 1.0 / years))


def spending(system: System, packages: Any, power_w: Any, peak_w: Any = None) -> SpendingParts:
    """USD a second that packages cost while they are in use.

    Parameters
    ----------
    packages : packages at work, any shape.
    power_w : mean watts at the meter of the building, broadcasts with `packages`.
    peak_w : watts that the building provides at the machine's plug; None: its rating.

    Raises ValueError as `capital`.
    """
    prices = _prices(system)
    number, mean_w = np.asarray(packages, float), np.asarray(power_w, float)  # a million layouts of one size: one price
    none = np.zeros(np.broadcast_shapes(number.shape, mean_w.shape))
    if prices.rent_usd_per_s is not None:
        rent = packages_bought(system, number) * prices.rent_usd_per_s / prices.utilisation
        return SpendingParts(none, none, none, none, none, rent)
    price = capital(system, number).total
    years = np.asarray(prices.lifetime_s) / YEAR_S
    straight = price / years
    annuity = price * capital_recovery(prices.annual_interest, years)
    held_s = YEAR_S * np.asarray(prices.utilisation)  # seconds of a year that pay for it
    provided = rated_power(system, number).machine if peak_w is None else np.asarray(peak_w, float)
    return SpendingParts(
        depreciation=straight / held_s,
        interest=(annuity - straight) / held_s,
        maintenance=price * prices.annual_maintenance / held_s,
        electricity=mean_w * prices.electricity_usd_per_j,
        facility=provided * prices.facility_usd_per_w_s / prices.utilisation,
        rent=none,
    )


def per_chip_hour(spent: SpendingParts, packages: Any) -> Array:
    """USD of an hour of one package at work."""
    return np.asarray(spent.total * HOUR_S / np.asarray(packages, float))


def per_million_tokens(spent: SpendingParts, tokens_per_s: Any, availability: Any = 1.0) -> Array:
    """USD of a million tokens; without end where none come.

    Parameters
    ----------
    tokens_per_s : of all packages together, while nothing fails.
    availability : share of the time in which they come.
    """
    rate = np.multiply(tokens_per_s, availability)
    with np.errstate(divide="ignore"):
        return np.asarray(1e6 * np.divide(spent.total, rate))
