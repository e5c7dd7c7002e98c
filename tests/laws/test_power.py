"""Power over the phases of a step: it integrates to the energy, stays under the cap, and falls with it."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.power import BOUNDARIES, COOLING, peak_power, phases, rated_power, within
from model.serving.rates import decode_cost, prefill_cost, serving_cost
from model.step import training_step
from model.system import System
from sweep import catalogue
from tests.laws.strategies import Case, at_most, cases, with_chip
from tests.laws.test_serving import Served, served

SYSTEMS = catalogue.names("systems")
shares = st.floats(0.05, 1.5)


def capped(system: System, share: float) -> System:
    """The machine with its boards capped at a share of the way from rest to their rating."""
    power = system.chip.power
    return with_chip(system, power_cap_w=power.idle_w + share * (power.board_w - power.idle_w))


def cap_of(system: System) -> float:
    """Watts that a rank may draw."""
    return system.chip.power_cap_w or system.chip.power.board_w


@settings(max_examples=60)
@given(case=cases(), share=shares)
def test_phases_of_a_step_make_up_its_time_and_its_energy(case: Case, share: float) -> None:
    """Seconds of the phases add up to the step; watts over seconds add up to its joules, and to those of its parts."""
    cost = training_step(capped(case.system, share), case.stack, case.training, case.layout)
    found = phases(cost).phases().values()
    np.testing.assert_allclose(sum(np.asarray(one.seconds) for one in found), cost.step_time, rtol=1e-9)
    np.testing.assert_allclose(sum(one.joules for one in found), cost.energy.total, rtol=1e-9)
    np.testing.assert_allclose(cost.energy.split.total, cost.energy.total, rtol=1e-9)


@settings(max_examples=30)
@given(case=served(), share=shares)
def test_phases_of_a_pass_make_up_its_time_and_its_energy(case: Served, share: float) -> None:
    """The same of instances that serve: prompts alone, decoding alone, and both together."""
    system = capped(case.system, share)
    for kind in (prefill_cost, decode_cost, serving_cost):
        with np.errstate(all="ignore"):
            cost = kind(system, case.stack, case.serving, case.instance)
        found = phases(cost).phases().values()
        seconds = sum(np.asarray(one.seconds) for one in found)
        np.testing.assert_allclose(seconds, np.broadcast_to(cost.step_time, seconds.shape), rtol=1e-6)
        np.testing.assert_allclose(sum(one.joules for one in found), cost.energy.total, rtol=1e-6)


@settings(max_examples=60)
@given(case=cases(), share=shares)
def test_no_phase_draws_less_than_rest_or_more_than_the_cap(case: Case, share: float) -> None:
    """In every phase a rank lies between its idle power and the cap in force."""
    system = capped(case.system, share)
    cost = training_step(system, case.stack, case.training, case.layout)
    for name, one in phases(cost).phases().items():
        at_most(case, np.full_like(cost.step_time, system.chip.power.idle_w), one.rank_w, f"rest and {name}")
        at_most(case, one.rank_w, np.full_like(cost.step_time, cap_of(system)), f"{name} and the cap")


@settings(max_examples=60)
@given(case=cases(), share=shares)
def test_the_peak_lies_between_the_mean_and_the_rating(case: Case, share: float) -> None:
    """A step's hottest phase draws no less than its mean, and no more than the machine is rated for at that cap."""
    system = capped(case.system, share)
    cost = training_step(system, case.stack, case.training, case.layout)
    peak = peak_power(cost)
    at_most(case, cost.power, peak, "mean and peak watts")
    rating = np.broadcast_to(rated_power(system, cost.packages).total, np.shape(cost.step_time))
    at_most(case, peak, rating, "peak watts and the rating")


@settings(max_examples=60)
@given(case=cases(), two=st.tuples(shares, shares))
def test_a_lower_cap_never_raises_power_and_never_shortens(case: Case, two: tuple[float, float]) -> None:
    """Of two caps, under the lower one mean and peak power are no higher, the step no shorter, FLOPs no dearer."""
    low, high = (
        training_step(capped(case.system, share), case.stack, case.training, case.layout) for share in sorted(two)
    )
    at_most(case, low.power, high.power, "mean watts at the lower and the higher cap")
    at_most(case, peak_power(low), peak_power(high), "peak watts at the lower and the higher cap")
    at_most(case, high.step_time, low.step_time, "step at the higher and the lower cap")
    at_most(case, low.energy.matrix, high.energy.matrix, "joules of FLOPs at the lower and the higher cap")


@pytest.mark.parametrize("exponent", [1 / 3, 0.5, 1.0])
def test_power_above_rest_goes_with_the_cap_where_only_the_clock_counts(exponent: float) -> None:
    """Speed times joules per FLOP is the cap's share of the power above rest, whatever the chip's exponent."""
    chip = catalogue.chip("h100")
    chip = replace(chip, power=replace(chip.power, clock_exponent=exponent))
    power = chip.power
    for share in (0.2, 0.5, 0.9):
        slow = replace(chip, power_cap_w=power.idle_w + share * (power.board_w - power.idle_w))
        assert slow.clock("fp8") / chip.clock("fp8") * slow.thrift == pytest.approx(share)


@pytest.mark.parametrize("name", SYSTEMS)
def test_rated_parts_are_those_of_the_machine(name: str) -> None:
    """Chips and groups of parts make up the load; losses, cooling and the building multiply it; packages scale it."""
    system = catalogue.system(name)
    rated, facility = rated_power(system, system.unit_packages), system.facility
    chips = system.chip.power.board_w * system.chip.ranks_per_package * system.unit_packages
    beside = sum(part.count * part.watts / part.per_packages for part in system.parts) * system.unit_packages
    assert rated.load == pytest.approx(chips + beside)
    drawn = rated.load / facility.conversion_efficiency
    assert rated.machine == pytest.approx(drawn * (1 + facility.cooling_fraction))
    assert rated.total == pytest.approx(rated.machine * facility.pue)
    one, three = rated_power(system, np.array([1, 3])).total
    assert three == pytest.approx(3 * one)


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_wider_boundary_never_draws_less(name: str) -> None:
    """Chips, unit, system and facility hold one another; and a node in a tank draws less than one with fans."""
    system = catalogue.system(name)
    watts = [float(rated_power(within(system, one), system.unit_packages).total) for one in BOUNDARIES]
    assert watts == sorted(watts)
    cooled = {one: float(rated_power(within(system, "node", one), 8).total) for one in COOLING}
    assert cooled["immersion"] < cooled["liquid"] < cooled["air"]
