"""Energy is power over time: chips between rest and their cap, everything else at its rating, losses on top."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.cost import StepCost
from model.step import training_step
from model.system import System, partly_used
from sweep import catalogue
from tests.laws.strategies import Case, at_most, cases, with_chip


def capped(system: System, share: float | None) -> System:
    """The machine with its boards capped at a share of the way from rest to their rating."""
    power = system.chip.power
    return (
        system
        if share is None
        else with_chip(system, power_cap_w=power.idle_w + share * (power.board_w - power.idle_w))
    )


def chip_watts(cost: StepCost, case: Case) -> np.ndarray:
    """Mean watts of one rank during a step, before conversion."""
    energy = cost.energy.split
    return (energy.matrix + energy.hbm + energy.link + energy.idle) / (cost.step_time * case.layout.ranks)


shares = st.one_of(st.none(), st.floats(0.05, 1.5))


@settings(max_examples=80)
@given(case=cases(), share=shares)
def test_power_lies_between_rest_and_the_cap(case: Case, share: float | None) -> None:
    """At the meter a step draws at least idle chips and parts, at most capped chips and parts, and the losses."""
    system = capped(case.system, share)
    cost = training_step(system, case.stack, case.training, case.layout)
    parts = sum(part.count * part.watts / part.per_packages for part in system.parts)
    facility = system.facility
    meter = (1 + facility.cooling_fraction) * facility.pue / facility.conversion_efficiency
    least, most = (
        (watts + parts * system.packages_per_rank) * case.layout.ranks * meter
        for watts in (system.chip.power.idle_w, system.chip.power_cap_w or system.chip.power.board_w)
    )
    at_most(case, least, cost.power, "watts at rest and in a step")
    at_most(case, cost.power, most, "watts in a step and at the cap")


@settings(max_examples=60)
@given(case=cases(), two=st.tuples(st.floats(0.05, 1.5), st.floats(0.05, 1.5)))
def test_a_lower_cap_never_raises_the_chips_power(case: Case, two: tuple[float, float]) -> None:
    """Of two caps, the lower one leaves no chip drawing more on average over a step."""
    costs = [training_step(capped(case.system, s), case.stack, case.training, case.layout) for s in sorted(two)]
    at_most(
        case, chip_watts(costs[0], case), chip_watts(costs[1], case), "chip's watts at the lower and the higher cap"
    )


@settings(max_examples=40)
@given(case=cases(), pue=st.floats(1.0, 2.0), cooling=st.floats(0.0, 0.3), conversion=st.floats(0.7, 1.0))
def test_losses_multiply_the_load(case: Case, pue: float, cooling: float, conversion: float) -> None:
    """At the meter stands the load, over the conversion's efficiency, times cooling, times the building's overhead."""
    building = replace(case.system.facility, pue=pue, cooling_fraction=cooling, conversion_efficiency=conversion)
    cost = training_step(replace(case.system, facility=building), case.stack, case.training, case.layout)
    energy = cost.energy.split
    load = energy.matrix + energy.hbm + energy.link + energy.idle + energy.host + energy.network
    np.testing.assert_allclose(energy.total, load / conversion * (1 + cooling) * pue, rtol=1e-9)


@settings(max_examples=40)
@given(case=cases())
def test_a_chip_at_rest_draws_for_the_whole_step(case: Case) -> None:
    """Idle energy is idle power times ranks times the step, as parts' energy is their rating times the step."""
    cost = training_step(case.system, case.stack, case.training, case.layout)
    ranks, seconds = case.layout.ranks, cost.step_time
    np.testing.assert_allclose(cost.energy.split.idle, case.system.chip.power.idle_w * ranks * seconds, rtol=1e-12)
    watts = sum(part.count * part.watts / part.per_packages for part in case.system.parts)
    parts = watts * case.system.packages_per_rank * ranks * seconds
    np.testing.assert_allclose(cost.energy.split.host + cost.energy.split.network, parts, rtol=1e-9)


@settings(max_examples=40)
@given(case=cases(few_microbatches=False))
def test_work_is_paid_for_whatever_the_layout(case: Case) -> None:
    """Uncapped chips spend at least the joules of the model's own FLOPs, at the cheapest format in use."""
    free = with_chip(case.system, power_cap_w=1e9)
    cost = training_step(free, case.stack, case.training, case.layout)
    cheapest = min(case.system.chip.power.joule_per_flop.values())
    at_most(
        case, cost.model_flops * cheapest, cost.energy.split.matrix, "joules of the model's FLOPs and of the step's"
    )


@pytest.mark.parametrize("ranks", [8, 36, 64, 72])
def test_racks_in_part_use_draw_what_they_hold(ranks: int) -> None:
    """Equipment of a rack counts whole however many of its chips work, and those left over draw their idle power."""
    rack = catalogue.system("gb200-nvl72")
    part = partly_used(rack, "nvlink", ranks)
    assert part.unit_packages == part.tiers[0].ranks == ranks

    def watts(system: System) -> float:
        return sum(one.count * one.watts / one.per_packages for one in system.parts) * system.unit_packages

    spare = rack.chip.power.idle_w * rack.chip.ranks_per_package * (72 - ranks)
    assert watts(part) == pytest.approx(watts(rack) + spare)


@pytest.mark.parametrize(("tier", "ranks"), [("nvlink", 0), ("nvlink", 73), ("nowhere", 8), ("scale-out", 8)])
def test_a_rack_cannot_use_what_it_lacks(tier: str, ranks: int) -> None:
    """A tier that is not a bounded switch, or more ranks than it has, is refused by name."""
    with pytest.raises(ValueError, match="nvlink \\(72\\)"):
        partly_used(catalogue.system("gb200-nvl72"), tier, ranks)
