"""Published prices, bills of material and hours: what the money of the model comes to beside them."""

import pytest

from model.money import capital, per_chip_hour, spending
from model.power import rated_power
from model.silicon import dies_per_wafer, good_die_usd, package_cost, sold_yield
from model.system import System
from sweep import catalogue


def hour_usd(system: System) -> float:
    """USD of a package-hour with everything at its rating, in the building of the catalogue."""
    return float(per_chip_hour(spending(system, 1, rated_power(system, 1).total), 1))


def package_cost_usd(chip_name: str) -> float:
    """USD of making a package."""
    chip = catalogue.chip(chip_name)
    assert chip.silicon is not None
    return float(package_cost(chip.silicon, chip.hbm_bytes * chip.ranks_per_package).total)


# ----------------------------------------------------------------------------------------------------- an hour
def test_deepseek_v3_costs_what_its_authors_say() -> None:
    """2.788 million H800-hours at 2 USD are 5.576 million USD (arXiv:2412.19437, table 1)."""
    system = catalogue.system("dgx-h800", prices="rental")
    seconds = 2.788e6 / 2048 * 3600
    assert float(spending(system, 2048, 0.0).total) * seconds == pytest.approx(5.576e6)


# InferenceX, 2026-04: cost of a GPU-hour to a hyperscaler and to a neocloud; error of the model under one set of terms
# each. GB300 is 1.2 x GB200 there.
TCO = [
    ("dgx-h100", 1.30, 1.69, 0.03, -0.03),
    ("dgx-h200", 1.41, 1.74, 0.07, 0.08),
    ("dgx-b200", 1.95, 2.34, 0.02, 0.05),
    ("gb200-nvl72", 2.21, 2.75, -0.14, -0.16),
    ("gb300-nvl72", 2.65, 3.30, -0.19, -0.21),
    ("mi300x-node", 1.12, 1.40, -0.11, -0.14),
    ("mi325x-node", 1.28, 1.59, -0.07, -0.10),
    ("mi355x-node", 1.48, 1.90, 0.03, -0.03),
]


@pytest.mark.parametrize(("name", "hyperscaler", "neocloud", "error", "error_neocloud"), TCO)
def test_an_owned_hour(name: str, hyperscaler: float, neocloud: float, error: float, error_neocloud: float) -> None:
    """One set of terms for all chips gives the published cost of an hour within -21 % and +8 %."""
    assert hour_usd(catalogue.system(name, prices="us")) / hyperscaler - 1 == pytest.approx(error, abs=0.02)
    own = hour_usd(catalogue.system(name, prices="us-neocloud")) / neocloud - 1
    assert own == pytest.approx(error_neocloud, abs=0.02)


def test_an_hour_of_the_cloudmatrix() -> None:
    """21.4 kUSD of it over 4 years at 10 %, 1.457 kW at 0.056 USD/kWh and 60 USD/kW-month: 0.99 USD an NPU-hour."""
    system = catalogue.system("cloudmatrix-384", prices="china-subsidised")
    spent = spending(system, 384, 559.378e3 * 1.15, 559.378e3)
    assert per_chip_hour(spent, 384) == pytest.approx(0.99, rel=0.02)
    assert hour_usd(system) == pytest.approx(0.99, rel=0.03)


# ---------------------------------------------------------------------------------------------------- silicon
def test_a_good_910b_die() -> None:
    """At SMIC 76 to 78 dies of a wafer, 0.30 of them sold, at about 620 USD each; those of a 910C are dearer."""
    silicon = catalogue.chip("ascend-910b3").silicon
    assert silicon is not None
    (die,) = silicon.dies
    assert 76 <= dies_per_wafer(die.area_m2) <= 78
    assert sold_yield(die) == pytest.approx(0.30, abs=0.005)
    assert good_die_usd(die) == pytest.approx(620, rel=0.02)
    better = catalogue.chip("ascend-910c").silicon
    assert better is not None
    assert good_die_usd(die) < good_die_usd(better.dies[0]) < 1150


# siliconanalysts.com, 2026: bills of material, USD. Parts of H100, B200 and MI300X are their own in the catalogue, the
# rest follows. Its MI325X costs less than its MI300X, of which it is a copy with a third more memory.
@pytest.mark.parametrize(
    ("chips", "published", "error"),
    [
        ({"h100": 1}, 3320, -0.05),
        ({"h200": 1}, 4250, 0.00),
        ({"b200": 1}, 6400, -0.05),
        ({"gb200": 2}, 13500, -0.10),  # without the CPU of the superchip
        ({"mi300x": 1}, 5300, 0.02),
        ({"mi325x": 1}, 3800, 0.70),
        ({"mi355x": 1}, 8000, -0.06),
    ],
)
def test_bills_of_material(chips: dict[str, int], published: float, error: float) -> None:
    """Dies, memory, packaging and module come to the published bills within 10 %, MI325X apart."""
    made = sum(number * package_cost_usd(name) for name, number in chips.items())
    assert made / published - 1 == pytest.approx(error, abs=0.02)


# USD of a package as sold: Morgan Stanley 2025 (910B, 910C), list prices of the catalogue.
@pytest.mark.parametrize(
    ("system", "chip", "sold", "within"),
    [
        ("atlas-800t-a2", "ascend-910b3", 6900, 0.10),
        ("cloudmatrix-384", "ascend-910c", 15200, 0.10),
        ("dgx-h100", "h100", 27500, 0.25),
        ("dgx-h200", "h200", 32000, 0.15),
        ("dgx-b200", "b200", 37500, 0.15),
        ("gb200-nvl72", "gb200", 35000, 0.20),
        ("mi300x-node", "mi300x", 14000, 0.15),
        ("mi355x-node", "mi355x", 25000, 0.15),
    ],
)
def test_prices_from_silicon(system: str, chip: str, sold: float, within: float) -> None:
    """One margin a maker turns silicon into prices."""
    machine = catalogue.system(system, prices="silicon")
    assert machine.chip.name == chip
    assert float(capital(machine, 1).chips) == pytest.approx(sold, rel=within)


# --------------------------------------------------------------------------------------------------- machines
@pytest.mark.parametrize(
    ("name", "basis", "published", "network", "gap"),
    [
        ("cloudmatrix-384", "china-subsidised", 8.2e6, 4672, 0.03),  # FT 2025-04-30; SemiAnalysis 2025-04-16
        ("gb200-nvl72", "list", 3.5e6, 4075, 0.12),  # Morgan Stanley 2026-05; SemiAnalysis 2025-04-16
    ],
)
def test_the_parts_of_a_machine_close_its_price(
    name: str, basis: str, published: float, network: float, gap: float
) -> None:
    """Chips at their own price, network as published: what is left over of the listed price is small and named."""
    system = catalogue.system(name, prices=basis)
    parts = capital(system, system.unit_packages)
    apart = sum(p.count * p.price_usd / p.per_packages for p in system.parts if p.outside) * system.unit_packages
    assert float(parts.total) - apart == pytest.approx(published)
    assert abs(float(parts.integration)) < gap * published
    own = (
        parts.switches
        + parts.optics
        + parts.cables
        + sum(
            p.count * p.price_usd / p.per_packages * system.unit_packages for p in system.parts if p.name == "RoCE port"
        )
    )
    assert own / system.unit_packages == pytest.approx(network, rel=0.01)


def test_the_cloudmatrix_costs_as_much_from_silicon_as_it_is_sold_for() -> None:
    """One rule for all chips prices the CloudMatrix 384 within 15 % and the NVL72 within 20 % of their lists."""
    for name, published, within in (("cloudmatrix-384", 8.2e6, 0.15), ("gb200-nvl72", 3.5e6, 0.20)):
        system = catalogue.system(name, prices="silicon")
        assert float(capital(system, system.unit_packages).total) == pytest.approx(published, rel=within)
