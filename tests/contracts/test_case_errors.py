"""Measured cases with anything in any field: a prediction or a reason, never a traceback."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweep.cli import main
from sweep.validation import predict
from sweep.validation_answer import as_json

PUBLISHED = Path(__file__).parents[1] / "published"


def shipped(name: str) -> list[dict[str, Any]]:
    """Cases of a file beside the tests of published runs."""
    return [json.loads(line) for line in (PUBLISHED / name).read_text("utf-8").splitlines()]


CASES = shipped("training_cases.jsonl")
SERVED = shipped("serving_cases.jsonl")
ODD: list[Any] = [
    None, 0, -1, 1, 3, 1.5, 2.0, 1e30, 10**20, 1e-30, "", "8", "auto", "1 or 3", "fp4", True, False, [], {}, [1],
    {"a": 1}, float("nan"), float("inf"),
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
    case = data.draw(st.sampled_from(CASES) | st.sampled_from(SERVED))
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
        (("arch", "heads"), 10**6, "arch.head_dim is not stated, and 1000000 heads do not divide arch.hidden"),
    ],
)
def test_the_reason_names_the_field(path: tuple[str, ...], value: Any, told: str) -> None:
    """The field at fault and its value."""
    (found,) = predict(put(CASES[0], path, value))
    assert found.reason is not None and told in found.reason


def test_brackets_in_names_are_shown_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An id or a framework may hold what a terminal's markup would take for a tag."""
    case = put(put(CASES[0], ("id",), "run [/b] 7"), ("software", "framework"), "mega[red]tron")
    cases = tmp_path / "cases.jsonl"
    cases.write_text(json.dumps(case), encoding="utf-8")
    with pytest.raises(SystemExit) as ended:
        main(["validate", str(cases), "--all"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert "run [/b] 7" in said and "mega[red]tron" in said


DECODING = next(case for case in SERVED if case["id"] == "cm384-decode-slo-50ms-4k-256")


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        (("phase",), "training", "phase is 'training', not one of prefill, decode, end_to_end"),
        (("num_chips",), "160", "num_chips is '160', value error, must be a number"),
        (("num_chips",), None, "num_chips is not stated"),
        (("input_len",), -4096, "input_len is -4096"),
        (("kv_len",), [4096], "kv_len is [4096]"),
        (("batch", "global"), float("nan"), "batch.global is nan"),
        (("batch",), 96, "batch is 96"),
        (("tp",), 0, "tp is 0"),
        (("dp",), 7, "7 attention groups do not divide the 320 ranks"),
        (("tp",), 3, "tp 3 x 320 attention groups x pp 1 are not 320 ranks"),
        (("ep",), 321, "ep = 321 does not divide the 320 ranks"),
        (("attention_dp",), "all of them", "attention_dp is 'all of them', which is not understood"),
        (("features", "mtp"), "1 or 3", "features.mtp is '1 or 3', not a number"),
        (("features", "mtp_accept"), 1.7, "2.7 tokens a step do not come of 1 drafted ones"),
        (("features", "speculative"), "suffix decoding", "without the number of tokens drafted"),
        (("chip",), "h9000", "chip 'h9000' is not in the catalogue"),
        (("arch", "linear_attention"), {"every": 4}, "linear attention is not modelled"),
        (("arch", "moe", "experts_per_token"), 300, "300 of 256 experts for a token is not a mixture"),
        (("target",), {"tpot_s": -1}, "target.tpot_s is -1"),
        (("target",), {}, "no quantity is measured that the model predicts"),
    ],
)
def test_a_serving_case_that_cannot_be_asked_says_why(path: tuple[str, ...], value: Any, told: str) -> None:
    """One reason for each quantity, with the field and its value."""
    changed = put(DECODING, path, value)
    if path == ("dp",):
        changed["attention_dp"] = None
    found = predict(changed)
    assert found
    for one in found:
        assert one.predicted is None and one.reason is not None and told in one.reason
