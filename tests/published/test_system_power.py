"""The power parts of a system sum to the power that is published or measured for it."""

import pytest

from model.system import System
from sweep import catalogue

# Counts of parts are published, watts of most parts are estimates: the sum shows that the bookkeeping closes.
WITHIN = 0.10


def full_load_w(system: System) -> float:
    """Watts of one unit at its meter with every chip at its board power."""
    chips = system.chip.power.board_w * system.chip.ranks_per_package * system.unit_packages
    beside = sum(part.count * part.watts / part.per_packages for part in system.parts) * system.unit_packages
    facility = system.facility
    return (chips + beside) / facility.conversion_efficiency * (1 + facility.cooling_fraction)


@pytest.mark.parametrize(
    ("name", "published_w"),
    [
        ("cloudmatrix-384", 559e3),  # SemiAnalysis, 2025-04-16
        ("gb200-nvl72", 145e3),  # SemiAnalysis, 2025-04-16, with the rack's share of scale-out
        ("vr-nvl72", 190e3),  # SemiAnalysis, 2026-02-25
        ("dgx-h100", 7953),  # MLPerf Training v4.1 power logs, air-cooled
        ("dgx-b200", 10496),  # MLPerf Inference v5.1 power logs, air-cooled
        ("atlas-800t-a2", 5600),  # rating, not re-checked
        ("tpu-v7x-pod", 10e6),  # Hot Chips 2025
    ],
)
def test_the_parts_sum_to_the_published_power(name: str, published_w: float) -> None:
    """A system's chips and parts, through conversion and cooling, draw what is published for it."""
    assert full_load_w(catalogue.system(name)) == pytest.approx(published_w, rel=WITHIN)


def test_two_thirds_of_the_cloudmatrix_load_are_chips() -> None:
    """CloudMatrix 384 spends 473.8 kW before conversion, 66 % in its chips and about 10 % in its optics."""
    system = catalogue.system("cloudmatrix-384")
    load_w = {part.name: part.count * part.watts for part in system.parts}
    chips_w = system.chip.power.board_w * 2 * 384
    total_w = chips_w + sum(load_w.values())
    assert total_w == pytest.approx(473.8e3, rel=0.01)
    assert chips_w / total_w == pytest.approx(0.66, abs=0.01)
    assert load_w["400G LPO module"] / total_w == pytest.approx(0.095, abs=0.005)


@pytest.mark.parametrize("name", catalogue.names("systems"))
def test_the_power_corners_enclose_the_nominal_power(name: str) -> None:
    """The low and the high end of the power numbers lie around the nominal power."""
    low, nominal, high = (full_load_w(catalogue.system(name, at)) for at in ("power_low", "nominal", "power_high"))
    assert low < nominal < high
