"""Measured operators: the catalogue holds what the fits give, and the fits are as good as the documentation says."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from sweep import calibration, catalogue, cli
from sweep.calibration_plan import ASSUMED, FITS, Constant, Fit
from sweep.operators import predict
from sweep.prediction import Prediction, summarise
from sweep.validation_answer import as_json

# Mean absolute errors that were reached, in percent, with a little room: a change that passes them is a loss.
BOUNDS: Mapping[str, float] = {
    "all": 15.5,
    "attention decode, h800": 7.0,
    "attention decode, h20": 13.0,
    "latent attention decode, h800": 6.5,
    "latent attention decode, ascend_910c_die": 1.0,
    "grouped matmul fp8 decode, h800": 10.0,
    "grouped matmul fp8 prefill, h800": 5.5,
    "grouped matmul int8, ascend_910c_die": 2.5,
    "matmul fp8, h20": 5.5,
    "dispatch, low-latency, ascend_910c_die": 5.0,
    "combine, low-latency, ascend_910c_die": 5.0,
    "dispatch, bulk, h100_sxm": 5.0,
    "combine, bulk, h100_sxm": 8.0,
}
ROW = {
    "id": "one", "group": "deepep", "kind": "deepep_low_latency", "chip_key": "h100",
    "params": {"ranks": 8, "tokens_per_rank": 64, "hidden": 7168, "topk": 8},
    "measured": {"dispatch_us": 24.574, "combine_us": 39.725},
}  # fmt: skip


@pytest.fixture(scope="module")
def values() -> dict[Constant, float]:
    return calibration.fit_all()


@pytest.fixture(scope="module")
def predictions() -> list[Prediction]:
    return predict(calibration.rows())


def test_the_catalogue_holds_the_fitted_constants(values: dict[Constant, float]) -> None:
    """The committed data give the committed constants: the fit can be repeated."""
    assert calibration.stale(values) == []


def test_a_constant_that_was_changed_is_found(values: dict[Constant, float], monkeypatch: pytest.MonkeyPatch) -> None:
    """A constant that is neither the fitted one nor as good is named with its file, its value and the remedy."""
    changed = FITS[0].constants[0]
    catalogue_holds = calibration.held_value

    def held_value(one: Constant) -> float | None:
        return 0.8 * values[one] if one == changed else catalogue_holds(one)

    monkeypatch.setattr(calibration, "held_value", held_value)
    (found,) = calibration.stale(values)
    assert f"{changed.kind}/{changed.entry}.toml: {changed.table}.{changed.name} is" in found
    assert "make calibrate" in found


@pytest.mark.parametrize("fit", FITS, ids=lambda fit: f"{fit.chip} {fit.kinds[0]}")
def test_a_fit_is_a_minimum(fit: Fit, values: dict[Constant, float]) -> None:
    """Moving any constant of a fit by a quarter, inside its range, fits no better."""
    best = calibration.loss(fit, values)
    for one in fit.constants:
        for factor in (0.75, 1.25):
            moved = min(max(values[one] * factor, one.low), one.high)
            assert calibration.loss(fit, {**values, one: moved}) >= best * 0.99, one.name


def test_what_is_written_is_what_is_read(values: dict[Constant, float]) -> None:
    """Writing the constants into files that hold them changes nothing."""
    for file, of_file in calibration.by_file(calibration.entries(calibration.held(values))).items():
        text = file.read_text(encoding="utf-8")
        assert calibration.written(text, of_file) == text


def test_assumed_constants_are_marked(values: dict[Constant, float]) -> None:
    """Constants taken over from another machine are estimates, and say which."""
    del values
    for one in ASSUMED:
        found = catalogue.entry(one.kind, one.entry)
        start = "tiers." if one.kind == "systems" else ""
        kinds = {
            found.quantities[f"{start}{one.table}.{name}".replace("..", ".").lstrip(".")].kind for name in one.names
        }
        assert "estimated" in kinds


@pytest.mark.parametrize("group", BOUNDS)
def test_errors_stay_where_they_are(group: str, predictions: list[Prediction]) -> None:
    """Mean absolute error of a kind of operator on a chip, over all of its measured rows."""
    errors = [abs(one.error) for one in predictions if one.error is not None and group in ("all", one.group)]
    assert errors
    assert 100.0 * sum(errors) / len(errors) <= BOUNDS[group]


def test_both_ways_of_a_row_are_predicted() -> None:
    """Dispatch and combine of one row are two predictions, in the form that cases have."""
    found = as_json(predict([ROW]))
    assert [one["quantity"] for one in found["cases"]] == ["dispatch_s", "combine_s"]
    assert {one["group"] for one in found["groups"]} == {
        "dispatch, low-latency, h100_sxm", "combine, low-latency, h100_sxm", "all",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"kind": "hardware_spec"}, "a specification, not a measurement"),
        ({"kind": "gdn_decode"}, "gated linear attention is not modelled"),
        ({"kind": "sorting"}, "operator 'sorting' is not modelled"),
        ({"chip_key": "other"}, "the source does not say which chip"),
        ({"chip_key": "abacus"}, "chip 'abacus' is unknown"),
        ({"params": {"ranks": 8, "tokens_per_rank": 1, "topk": 8}}, "'hidden' is not given"),
        ({"params": None}, "a parameter has another form than the operator's others"),
        ({"measured": {"dispatch_us": -1.0, "combine_us": 2.0}}, "the measured time is no positive number"),
    ],
)
def test_what_cannot_be_predicted_has_a_reason(change: dict[str, Any], reason: str) -> None:
    """A row outside of the model, or unreadable, is listed with the reason and stops nothing."""
    (one, *rest) = predict([{**ROW, **change}, ROW])
    assert one.predicted is None
    assert one.reason == reason
    assert all(other.error is not None for other in rest)


def test_every_group_has_its_statistics(predictions: list[Prediction]) -> None:
    """Groups are kinds of operators on chips, and together they are all that was predicted."""
    groups = [one for one in summarise(predictions) if one.group != "all"]
    assert sum(one.n for one in groups) == sum(one.error is not None for one in predictions)
    assert all("," in one.group for one in groups)


def test_the_command_validates_operators(tmp_path: Any, capsys: Any) -> None:
    """`sweep validate --operators FILE --json` prints cases and groups."""
    file = tmp_path / "operators.jsonl"
    file.write_text(json.dumps(ROW) + "\n", encoding="utf-8")
    with pytest.raises(SystemExit) as done:
        cli.main(["validate", "--operators", str(file), "--json"])
    assert done.value.code in (0, None)
    assert len(json.loads(capsys.readouterr().out)["cases"]) == 2
