"""A cost is its parts: they are finite, none is negative, and their sum is the total that is reported."""

import math

import numpy as np
from hypothesis import given, settings

from model.cost import StepCost
from model.step import training_step
from tests.laws.strategies import ROWS, Case, at_most, cases


def _records(cost: StepCost) -> dict[str, tuple[dict[str, np.ndarray], np.ndarray]]:
    return {
        "time": (cost.time.parts(), cost.time.total),
        "memory": (cost.memory.parts(), cost.memory.total),
        "energy": (cost.energy.parts(), cost.energy.total),
    }


@settings(max_examples=80)
@given(case=cases())
def test_totals_are_sums_of_parts(case: Case) -> None:
    """Time, memory and energy are the sums of their parts, within rounding, and the step's time is time's total."""
    cost = training_step(case.system, case.stack, case.training, case.layout)
    for name, (parts, total) in _records(cost).items():
        rows = [np.broadcast_to(part, case.layout.shape) for part in parts.values()]
        exact = np.array([math.fsum(row) for row in zip(*rows, strict=True)])
        at_most(case, exact, total, f"parts and total of {name}", 1e-12)
        at_most(case, total, exact, f"total and parts of {name}", 1e-12)
    assert np.array_equal(cost.step_time, cost.time.total)


@settings(max_examples=80)
@given(case=cases())
def test_no_part_is_negative_or_infinite(case: Case) -> None:
    """Every part of time, memory and energy is a finite number, and below zero by no more than rounding."""
    cost = training_step(case.system, case.stack, case.training, case.layout)
    for name, (parts, total) in _records(cost).items():
        for part, values in parts.items():
            assert np.isfinite(values).all(), f"{name}.{part} of {case!r}"
            at_most(case, -1e-12 * total, values, f"0 and {name}.{part}", 0.0)


@settings(max_examples=30)
@given(case=cases())
def test_a_layout_has_one_number_of_everything(case: Case) -> None:
    """Every quantity broadcasts to the shape of the layouts, neither more nor less."""
    cost = training_step(case.system, case.stack, case.training, case.layout)
    shape = case.layout.shape
    assert 0 < shape[0] <= ROWS
    assert cost.step_time.shape == cost.energy.total.shape == cost.memory.total.shape == cost.feasible.shape == shape
    assert np.isfinite(cost.tokens_per_second).all()
    assert np.isfinite(cost.power).all()
    assert np.isfinite(cost.energy_per_token).all()
    assert (cost.model_flops_utilisation > 0).all()
