"""Predicted serving latencies and rates against published measurements: one parameter set per chip and per engine."""

from __future__ import annotations

from functools import cache
from math import log1p
from pathlib import Path

import pytest

from sweep.prediction import Prediction, summarise
from sweep.validation import predict, read_cases

CASES = Path(__file__).parent / "serving_cases.jsonl"


@cache
def predictions() -> tuple[Prediction, ...]:
    """Every prediction of the collection."""
    return tuple(one for case in read_cases([CASES]) for one in predict(case))


def found(source: str, quantities: str, grades: str) -> list[Prediction]:
    """Predictions of a source for some quantities and grades."""
    return [
        one
        for one in predictions()
        if one.error is not None
        and one.grade in tuple(grades)
        and one.group.split()[0] == source
        and one.quantity in quantities.split()
    ]


RATES = "tpot_s tokens_per_s_per_chip layer_s"
TIMES = "total_time_s ttft_s step_time_s"


@pytest.mark.parametrize(
    ("source", "quantities", "grades", "rows", "bound"),
    [
        ("cloudmatrix384", RATES, "AB", 16, 0.08),  # arXiv:2506.12708, tables 2 to 4
        ("cann-recipes", RATES, "A", 72, 0.09),
        ("deepseek", RATES, "AB", 3, 0.12),  # profile-data
        ("sglang", RATES, "AB", 14, 0.13),  # LMSYS, 96 H100
        ("sglang-ant", RATES, "AB", 9, 0.10),
        ("trtllm-dsr1", RATES, "AB", 12, 0.11),
        ("trtllm-static", TIMES, "A", 38, 0.12),  # v0.5 and v0.6.1
        ("trtllm-perf-overview", RATES, "B", 85, 0.08),
        ("palm-tpuv4", TIMES, "A", 92, 0.08),  # arXiv:2211.05102
        ("amd-vllm", TIMES, "A", 16, 0.07),
        ("dstack", TIMES, "A", 45, 0.10),
        ("vllm-ascend", RATES, "B", 32, 0.08),
        ("aic-silicon", "tpot_s", "A", 163, 0.11),
        ("aic-silicon", "tpot_s", "B", 145, 0.13),
        ("aic-silicon", "latency_s", "A", 163, 0.10),
        ("aic-silicon", "latency_s", "B", 145, 0.13),
        ("aic-silicon", "ttft_s", "AB", 308, 0.33),
    ],
)
def test_mean_error_of_a_source(source: str, quantities: str, grades: str, rows: int, bound: float) -> None:
    """The mean absolute error stays within its bound, over no fewer predictions than the collection gives."""
    errors = [abs(one.error or 0.0) for one in found(source, quantities, grades)]
    assert len(errors) >= rows
    assert sum(errors) / len(errors) <= bound


def test_the_model_is_closer_than_peaks_alone() -> None:
    """On each source the predictions are nearer than the naive bound by a factor, in logarithms of the ratios."""
    for source in {one.group.split()[0] for one in predictions() if one.error is not None}:
        rows = [one for one in predictions() if one.group.split()[0] == source and one.roofline_error is not None]
        own = sum(abs(log1p(one.error or 0.0)) for one in rows)
        assert own < 0.6 * sum(abs(log1p(one.roofline_error or 0.0)) for one in rows), source


def test_every_case_is_predicted_or_has_a_reason() -> None:
    """No case is dropped in silence, and hardly one whose layout, chip and lengths are known cannot be asked."""
    assert {one.id for one in predictions()} == {str(case["id"]) for case in read_cases([CASES])}
    assert all((one.predicted is None) == (one.reason is not None) for one in predictions())
    graded = {grade: [one for one in predictions() if one.grade == grade] for grade in "AB"}
    unasked = {grade: sum(one.reason is not None for one in rows) / len(rows) for grade, rows in graded.items()}
    assert unasked["A"] < 0.05
    assert unasked["B"] < 0.20


def test_sums_hold_the_naive_bound() -> None:
    """Each group of serving runs has the error of the naive bound beside its own."""
    assert all(one.roofline is not None for one in summarise(predictions()))
