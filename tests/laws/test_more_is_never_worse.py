"""A better machine is never slower: every peak, bandwidth, capacity, latency and power cap, one at a time."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.step import training_step
from model.system import System
from tests.laws.strategies import Case, at_most, cases, with_chip, with_tiers

Better = Callable[[System, float], System]


def _peak(name: str) -> Better:
    def better(system: System, factor: float) -> System:
        peaks = system.chip.peak_flops
        return with_chip(system, peak_flops={**peaks, name: peaks[name] * factor} if name in peaks else peaks)

    return better


BETTER: dict[str, Better] = {
    "bf16 peak": _peak("bf16"),
    "fp8 peak": _peak("fp8"),
    "fp4 peak": _peak("fp4"),
    "int8 peak": _peak("int8"),
    "HBM bandwidth": lambda system, factor: with_chip(system, hbm_bandwidth=system.chip.hbm_bandwidth * factor),
    "scale-up bandwidth": lambda system, factor: with_tiers(system, 0, bandwidth=factor),
    "scale-out bandwidth": lambda system, factor: with_tiers(system, -1, bandwidth=factor),
    "bandwidth of all tiers": lambda system, factor: with_tiers(system, None, bandwidth=factor),
    "latency": lambda system, factor: with_tiers(system, None, latency_s=1 / factor),
    "latency of a step": lambda system, factor: with_tiers(system, None, latency_step_s=1 / factor),
    "slow start": lambda system, factor: with_tiers(system, None, ramp_s=1 / factor),
    "oversubscription": lambda system, factor: with_tiers(system, None, oversubscription=1 / factor),
}


@pytest.mark.parametrize("what", BETTER)
@settings(max_examples=40)
@given(case=cases(), factor=st.floats(1.0, 4.0))
def test_a_better_machine_is_never_slower(what: str, case: Case, factor: float) -> None:
    """More of one resource, all else equal, leaves no layout's step longer than before."""
    before = training_step(case.system, case.stack, case.training, case.layout).step_time
    better = BETTER[what](case.system, factor)
    after = training_step(better, case.stack, case.training, case.layout).step_time
    at_most(case, after, before, f"step with {factor:.3g} x {what}, and before")


@settings(max_examples=30)
@given(case=cases(), factor=st.floats(1.0, 4.0))
def test_more_memory_never_makes_a_layout_infeasible(case: Case, factor: float) -> None:
    """A layout that fits keeps fitting in a larger HBM, and its step takes the same time."""
    before = training_step(case.system, case.stack, case.training, case.layout)
    larger = with_chip(case.system, hbm_bytes=case.system.chip.hbm_bytes * factor)
    after = training_step(larger, case.stack, case.training, case.layout)
    assert np.all(after.feasible | ~before.feasible)
    assert np.array_equal(after.step_time, before.step_time)


@settings(max_examples=40)
@given(case=cases(), shares=st.tuples(st.floats(0.05, 1.5), st.floats(0.05, 1.5)))
def test_a_higher_power_cap_never_slows(case: Case, shares: tuple[float, float]) -> None:
    """Of two caps on the board's power, the higher one leaves no step longer."""
    power = case.system.chip.power
    low, high = (power.idle_w + share * (power.board_w - power.idle_w) for share in sorted(shares))
    slow = training_step(with_chip(case.system, power_cap_w=low), case.stack, case.training, case.layout)
    fast = training_step(with_chip(case.system, power_cap_w=high), case.stack, case.training, case.layout)
    at_most(case, fast.step_time, slow.step_time, f"step at {high:.4g} W and at {low:.4g} W")


@settings(max_examples=20)
@given(case=cases())
def test_a_cap_at_the_rating_changes_nothing(case: Case) -> None:
    """Capping the board at its own rating gives the step of an uncapped board."""
    own = training_step(case.system, case.stack, case.training, case.layout)
    capped_system = with_chip(case.system, power_cap_w=case.system.chip.power.board_w)
    capped = training_step(capped_system, case.stack, case.training, case.layout)
    at_most(case, own.step_time, capped.step_time, "step without a cap and at the rating")
    at_most(case, capped.step_time, own.step_time, "step at the rating and without a cap")
