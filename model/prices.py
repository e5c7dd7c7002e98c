"""The prices that hold for a machine: what model/money.py reckons with."""

from __future__ import annotations

from dataclasses import dataclass

YEAR_S = 31557600.0


@dataclass(frozen=True, slots=True)
class Prices:
    """A price basis, resolved for one machine. What is not bought costs nothing."""

    name: str
    electricity_usd_per_j: float = 0.0  # at the meter of the building
    facility_usd_per_w_s: float = 0.0  # a second, for each watt that the machine may draw at its plug
    annual_interest: float = 0.0
    lifetime_s: float = 4.0 * YEAR_S  # over which it is paid back
    utilisation: float = 1.0  # share of hours in use
    annual_maintenance: float = 0.0  # repairs and staff, of the price and a year
    paid_fraction: float = 1.0  # of every price below and of the parts'
    package_usd: float | None = None  # a chip package; None: made of its silicon and the margin
    gross_margin: float = 0.0  # of that: share of the price that is not cost
    integration_usd: float = 0.0  # a unit's listed price less its parts; negative where it is sold below them
    integration_fraction: float = 0.0  # of chips and parts, beside that: where no price of the unit is listed
    rent_usd_per_s: float | None = None  # of a package; then nothing else is paid
