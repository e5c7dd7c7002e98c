"""Predicted step times and memory against published measurements: one parameter set per chip and per stack."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from sweep.prediction import Prediction, summarise
from sweep.validation import predict, read_cases

CASES = Path(__file__).parent / "training_cases.jsonl"


@cache
def predictions() -> tuple[Prediction, ...]:
    """Every prediction of the shipped cases."""
    return tuple(one for case in read_cases([CASES]) for one in predict(case))


def errors(group: str, quantity: str = "step_time_s", ids: str = "") -> list[float]:
    """Absolute errors of the groups whose name holds every word of `group`, of ids that begin with `ids`."""
    words = group.split()
    return [
        abs(one.error)
        for one in predictions()
        if one.error is not None
        and one.quantity == quantity
        and one.id.startswith(ids)
        and all(word in one.group.split() for word in words)
    ]


@pytest.mark.parametrize(
    ("group", "ids", "cases", "bound"),
    [
        ("megatron-lm 2021 a100_80", "", 9, 0.04),  # Narayanan et al., arXiv:2104.04473
        ("megatron-lm 2022 a100_80", "korthikanti22", 8, 0.03),  # arXiv:2205.05198, table 5
        ("megatron-lm h100_sxm bf16", "", 9, 0.05),
        ("megatron-core b200 bf16 dense", "simumax", 31, 0.03),
        ("megatron-core b200 bf16", "simumax", 43, 0.04),
        ("megatron-bridge fp8 dense", "", 55, 0.06),
        ("nemo fp8 dense", "", 90, 0.06),
        ("megatron-bridge MoE", "", 90, 0.12),
        ("mlperf h100_sxm fp8", "", 21, 0.06),
        ("mindspeed ascend_910b3 bf16 dense", "", 20, 0.12),
    ],
)
def test_mean_step_time_error_of_a_group(group: str, ids: str, cases: int, bound: float) -> None:
    """The mean absolute error of a group's step times stays within its bound, over no fewer cases than were shipped."""
    found = errors(group, ids=ids)
    assert len(found) >= cases
    assert sum(found) / len(found) <= bound


def test_fp8_dense_training_of_nemo_and_megatron_bridge() -> None:
    """Dense fp8 and mxfp8 runs of NeMo and Megatron-Bridge on H100, B200, GB200 and GB300 are within 6 % on average."""
    found = errors("nemo fp8 dense") + errors("megatron-bridge fp8 dense")
    assert len(found) >= 150
    assert sum(found) / len(found) <= 0.06


def test_memory_of_the_measured_b200_runs() -> None:
    """Predicted memory of the 43 B200 runs is within 5 % of the allocated peak on average, and 10 % in every run."""
    found = errors("megatron-core b200", "memory_bytes", "simumax")
    assert len(found) == 43
    assert sum(found) / len(found) <= 0.05
    assert max(found) <= 0.10


def test_the_model_beats_plain_peaks_and_the_best_single_mfu() -> None:
    """On the same cases: a fourth of the error of one constant for all, a tenth of that of plain peaks."""
    steps = next(one for one in summarise(predictions()) if (one.group, one.quantity) == ("all", "step_time_s"))
    assert steps.constant is not None
    assert steps.roofline is not None
    assert 4 * steps.mean_absolute_error < steps.constant < steps.roofline
    assert 10 * steps.mean_absolute_error < steps.roofline


def test_every_case_is_predicted_or_has_a_reason() -> None:
    """No case is dropped in silence."""
    assert {one.id for one in predictions()} == {str(case["id"]) for case in read_cases([CASES])}
    assert all((one.predicted is None) == (one.reason is not None) for one in predictions())


def test_what_a_source_leaves_open_is_named() -> None:
    """A prediction that had to choose a micro-batch, model chunks or recomputation says so."""
    by_id = {one.id: one for one in predictions() if one.quantity == "step_time_s"}
    chosen = by_id["narayanan21-310.1b-1920"].chosen
    assert chosen is not None
    assert "micro_batch=1" in chosen
    assert "vp=" in chosen  # the source does not say how many chunks; the repository's script has two
    assert by_id["korthikanti22-175b-64-full"].chosen is None
