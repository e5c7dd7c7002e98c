"""Published memory: peaks that sources print, runs that ran out, and what the model says of both."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

import pytest

from sweep.memory_cases import checked, measured_memory, ran_out_of_memory
from sweep.validation import predict
from tests.published.test_training_steps import CASES, predictions

GIB, MIB = 2.0**30, 2.0**20


@pytest.fixture
def case() -> dict[str, Any]:
    """A shipped run with a printed peak."""
    lines = CASES.read_text(encoding="utf-8").splitlines()
    found: dict[str, Any] = next(
        one for one in map(json.loads, lines) if (one.get("extra") or {}).get("real_alloc_gib")
    )
    return found


@pytest.mark.parametrize(
    ("where", "fields", "expected"),
    [
        ("extra", {"real_alloc_gib": 60.0}, 60 * GIB),
        ("extra", {"max_memory_gb": 16.26}, 16.26 * GIB),
        ("extra", {"peak_mem_mib": 1000}, 1000 * MIB),
        ("extra", {"memory_mb": 52777}, 52777 * MIB),
        ("measured", {"peak_memory_allocated_gb": 40}, 40 * GIB),
        ("measured", {"peak_gpu_memory_bytes": 4e10}, 4e10),
        ("extra", {"memory_gb": None}, None),
        ("extra", {"memory_gb": -3}, None),
        ("extra", {"memory_gb": True}, None),
        ("extra", {"memory_bandwidth_gb": 3000}, None),
        ("extra", {"host_memory_gb": 900}, None),
    ],
)
def test_printed_peaks_are_read(where: str, fields: dict[str, Any], expected: float | None) -> None:
    """Names that frameworks print peaks under are known with their units; other memory is not a peak."""
    found = measured_memory({where: fields})
    assert found == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    "said",
    [{"out_of_memory": True}, {"extra": {"oom": True}}, {"measured": {"tflops_per_chip": "OOM"}},
     {"target": {"step_time_s": "out of memory"}}, {"status": "CUDA out of memory"}, {"extra": {"result": "oom"}}],
    ids=str,
)  # fmt: skip
def test_a_run_that_ran_out_is_checked_for_that(case: dict[str, Any], said: dict[str, Any]) -> None:
    """It has no step time to compare, but a memory that does or does not fit; the case stays readable."""
    assert not ran_out_of_memory(case)
    failed = {key: value for key, value in deepcopy(case).items() if key != "measured"}
    failed = {**failed, **said, "extra": {**(said.get("extra") or {})}, "target": said.get("target") or {}}
    found = predict(failed)
    assert [one.quantity for one in found if one.predicted is not None] == ["memory_bytes"]
    assert all(one.ran is False for one in found)
    check = checked(found)
    assert (check.ran, check.ran_out) == (0, 1)
    larger = {**failed, "micro_batch": 64, "global_batch": 64 * int(case["global_batch"]), "recompute": "none"}
    assert checked(predict(larger)).right == 1.0


def test_a_memory_without_a_step_time_is_predicted(case: dict[str, Any]) -> None:
    """A source that prints a peak and no time has the time listed with its reason and the memory compared."""
    silent = {**case, "target": {}, "measured": {}}
    step, memory = predict(silent)
    assert step.reason
    assert (memory.quantity, memory.reason) == ("memory_bytes", None)
    assert abs(memory.error or 1.0) < 0.1


def test_parts_of_memory_add_up() -> None:
    """Bytes by cause are those of the fullest rank, of every shipped run."""
    known = [one for one in predictions() if one.quantity == "memory_bytes" and one.predicted]
    assert known
    for one in known:
        assert sum((one.memory_parts or {}).values()) == pytest.approx(one.predicted)


def test_runs_that_were_published_fit() -> None:
    """At least 90 of 100 runs that were measured are predicted to fit; each that is not can be listed."""
    check = checked(predictions())
    assert check.ran >= 500
    assert check.right is not None
    assert check.right >= 0.9
    assert set(check.ran_but_not_predicted) <= {one.id for one in predictions()}
