"""No layout beats the machine: the step takes at least what its FLOPs and its weights take at the fastest rate."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from model.bounds import roofline_seconds
from model.chip import FORMATS
from model.layout import SCHEDULES
from model.step import training_step
from tests.laws.strategies import Case, at_most, cases


@settings(max_examples=150)
@given(case=cases())
def test_no_step_is_shorter_than_the_roofline(case: Case) -> None:
    """Whatever the schedule and the overlap, a step takes at least the roofline bound that the search prunes with."""
    cost = training_step(case.system, case.stack, case.training, case.layout)
    at_most(case, roofline_seconds(case.system, case.training, case.layout), cost.step_time, "roofline and step")


@settings(max_examples=50)
@given(case=cases())
def test_no_step_computes_faster_than_the_peak(case: Case) -> None:
    """Model FLOPs over the step's time stay below what the ranks can do at the peak of their fastest format in use."""
    cost = training_step(case.system, case.stack, case.training, case.layout)
    peaks = case.system.chip.peak_flops
    peak = max(peaks[FORMATS[case.training.number_format].peak], peaks["bf16"])
    at_most(case, cost.model_flops / (case.layout.ranks * peak), cost.step_time, "FLOPs at peak and step")


@settings(max_examples=5)
@given(some=st.lists(cases(), min_size=6, max_size=6))
def test_every_schedule_is_drawn(some: list[Case]) -> None:
    """The random layouts of a few cases hold all schedules, so that the laws are laws of all of them."""
    drawn = np.concatenate([np.unique(case.layout.schedule) for case in some])
    assert set(drawn) == set(range(len(SCHEDULES)))
