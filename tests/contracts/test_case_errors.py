"""Measured cases with anything in any field: a prediction or a reason, never a traceback."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweep.prediction import as_json
from sweep.validation import predict

CASES = [
    json.loads(line)
    for line in (Path(__file__).parents[1] / "published" / "training_cases.jsonl").read_text("utf-8").splitlines()
]
ODD: list[Any] = [
    None, 0, -1, 1, 3, 1.5, 2.0, 1e30, 10**20, "", "8", "auto", True, False, [], {}, [1], {"a": 1},
    float("nan"), float("inf"),
]  # fmt: skip


def paths(record: dict[str, Any], above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every field of a case, those inside of others too."""
    inside = [path for key, value in record.items() if isinstance(value, dict) for path in paths(value, (*above, key))]
    return [(*above, key) for key in record] + inside


def put(case: dict[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    """A copy of the case with one field replaced."""
    changed = copy.deepcopy(case)
    record = changed
    for key in path[:-1]:
        record = record[key]
    record[path[-1]] = value
    return changed


@settings(max_examples=300)
@given(st.data())
def test_an_odd_field_gives_a_prediction_or_a_reason(data: st.DataObject) -> None:
    """Whatever a field holds, each row has a finite prediction with its error, or says why there is none."""
    case = data.draw(st.sampled_from(CASES))
    path = data.draw(st.sampled_from(paths(case)))
    found = predict(put(case, path, data.draw(st.sampled_from(ODD))))
    json.dumps(as_json(found), allow_nan=False)
    for one in found:
        assert one.reason if one.predicted is None else one.predicted > 0 and one.error is not None


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        (("arch", "layers"), [1], "arch.layers is [1]"),
        (("arch", "hidden"), "4096", "arch.hidden is '4096', value error, must be a number"),
        (("target",), -1, "target is -1"),
        (("tp",), 10**20, "tp is 100000000000000000000, not a positive whole number"),
        (("software",), "megatron", "software is 'megatron'"),
    ],
)
def test_the_reason_names_the_field(path: tuple[str, ...], value: Any, told: str) -> None:
    """The field at fault and its value."""
    (found,) = predict(put(CASES[0], path, value))
    assert found.reason is not None and told in found.reason
