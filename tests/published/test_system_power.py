"""The power parts of a system sum to the power that is published or measured for it."""

import pytest

from model.power import rated_power, within
from model.system import System
from sweep import catalogue
from sweep.unit_parts import closing

# Counts of parts are published, watts of most parts are estimates: the sum shows that the bookkeeping closes.
WITHIN = 0.10
# Ratings of the supply, or numbers that were not checked again: above what the parts come to.
RATINGS = {"dgx-a100", "hgx-b300", "mi300x-node", "atlas-950-superpod"}


def full_load_w(system: System) -> float:
    """Watts of one unit at its plugs with every chip at its board power."""
    return float(rated_power(system, system.unit_packages).machine)


@pytest.mark.parametrize("name", [name for name in catalogue.names("systems") if closing(name) is not None])
def test_the_parts_sum_to_the_published_power(name: str) -> None:
    """A system's chips and parts, through conversion and cooling, draw what is published at its boundary."""
    found = closing(name)
    assert found is not None
    if name in RATINGS:
        assert 0.0 < found.gap_w < 0.25 * found.published_w
    else:
        assert found.rated_w == pytest.approx(found.published_w, rel=WITHIN)


def test_the_gap_is_named() -> None:
    """What the parts leave open of the published power stands in the table, and closes it."""
    found = closing("gb200-nvl72")
    assert found is not None
    assert found.rated_w + found.gap_w == pytest.approx(145e3)
    assert any(line.startswith("gap") and "8.09 kW" in line for line in found.lines())


def test_a_rack_alone_draws_less_than_with_its_share_of_the_hall() -> None:
    """GB200 NVL72 without its share of scale-out and storage: 120 to 132 kW are reported for the rack."""
    rack = within(catalogue.system("gb200-nvl72"), "node")
    assert 120e3 <= full_load_w(rack) <= 132e3


def test_two_thirds_of_the_cloudmatrix_load_are_chips() -> None:
    """CloudMatrix 384 spends 473.8 kW before conversion, 66 % in its chips and about 10 % in its optics."""
    found = closing("cloudmatrix-384")
    assert found is not None
    parts = found.parts
    assert float(parts.load) == pytest.approx(473.8e3, rel=0.01)
    assert float(parts.chips / parts.load) == pytest.approx(0.66, abs=0.01)
    assert float(parts.optics / parts.load) == pytest.approx(0.095, abs=0.005)


@pytest.mark.parametrize("name", catalogue.names("systems"))
def test_the_power_corners_enclose_the_nominal_power(name: str) -> None:
    """The low and the high end of the power numbers lie around the nominal power."""
    low, nominal, high = (full_load_w(catalogue.system(name, at)) for at in ("power_low", "nominal", "power_high"))
    assert low < nominal < high


@pytest.mark.parametrize("name", catalogue.names("systems"))
def test_every_system_stands_on_a_floor(name: str) -> None:
    """Racks and the floor of each are stated, and no rack is fed more than 200 kW nor less than 10."""
    system = catalogue.system(name)
    assert system.racks is not None
    assert 1.0 <= system.racks.rack_floor_m2 <= 12.0
    assert 10e3 <= full_load_w(within(system, "node")) / system.racks.racks <= 200e3
