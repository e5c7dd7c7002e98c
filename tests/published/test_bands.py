"""The 10 to 90 % bands of predictions against published runs: about 80 % lie inside."""

from __future__ import annotations

import tomllib
from functools import cache

import pytest

from sweep.prediction import HELD, REMARKED, Prediction, summarise
from sweep.residual_fit import coverage, fitted_numbers, rows_of, total
from sweep.residuals import DATA
from tests.published import test_serving_runs, test_training_steps

LEFT_OUT = 0.95  # some frameworks are unlike all others, and bands are as wide for each


@cache
def predictions() -> tuple[Prediction, ...]:
    """Every prediction of the shipped cases, training and serving."""
    return (*test_training_steps.predictions(), *test_serving_runs.predictions())


def test_every_prediction_of_a_known_quantity_has_a_band() -> None:
    """What is predicted has a low and a high end about a median, and says whether it holds the measured value."""
    found = [one for one in predictions() if one.predicted is not None]
    assert len(found) >= 2_100
    for one in found:
        assert one.low is not None and one.high is not None and one.measured is not None
        assert 0.0 < one.low < one.high
        assert one.covered == (one.low <= one.measured <= one.high)


@pytest.mark.parametrize(
    "quantity", ["step_time_s", "tpot_s", "tokens_per_s_per_chip", "total_time_s", "latency_s", "ttft_s"]
)
def test_bands_hold_about_four_of_five(quantity: str) -> None:
    """Over all rows of grade A and B of a quantity 70 to 90 % lie in their bands."""
    found = next(one for one in summarise(predictions()) if one.group == "all" and one.quantity == quantity)
    assert found.n >= 190
    assert found.coverage is not None
    assert HELD[0] <= found.coverage <= HELD[1]


def test_no_large_group_has_bands_that_are_too_tight() -> None:
    """Of the groups of ten rows and more none holds less than 70 %, and three of four hold no more than 90 %."""
    found = [one for one in summarise(predictions()) if one.coverage is not None and one.n >= REMARKED]
    assert len(found) >= 50
    assert not [one.remark for one in found if one.remark and "tight" in one.remark]
    assert sum(one.remark is None for one in found) >= 0.75 * len(found)


def test_bands_of_software_that_was_left_out_hold_about_four_of_five() -> None:
    """Fitted again without a framework, bands hold 70 to 95 % of that framework's rows."""
    of_rows, of_software = total(coverage(rows_of(predictions()), 1.0))["framework_out"]
    assert HELD[0] <= of_rows <= LEFT_OUT
    assert HELD[0] <= of_software <= LEFT_OUT


def test_there_are_more_rows_than_fitted_numbers() -> None:
    """The file says how many numbers stand on how many rows: a number has six rows and more."""
    of = tomllib.loads(DATA.read_text(encoding="utf-8"))
    assert of["fitted"]["numbers"] == fitted_numbers(of)
    assert of["fitted"]["rows"] == sum(one["rows"] for one in of["unseen"])
    assert of["fitted"]["rows"] >= 6 * of["fitted"]["numbers"]
