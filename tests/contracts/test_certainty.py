"""How sure the answer of a study is: its bands and comparisons, for people and for programs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sweep import residuals
from sweep.errors import InputError
from sweep.finished import as_object
from sweep.running import Finished, prepare, run_study
from sweep.study import parse
from sweep.tables import certainty_tables

TRAINED = """
name = "sure"
question = "q"
chips = [384]
corners = false
[[workloads]]
model = "llama-3.1-8b"
sequence = "4096 token"
batch = 768
[[designs]]
label = "910C"
system = "cloudmatrix-384"
[[designs]]
label = "920"
system = "atlas-920-supernode"
[layout]
tensor_parallel = [2]
context_parallel = 1
[search]
rows = "top:3"
[uncertainty]
points = 32
layouts = 3
sensitivities = 2
quantities = ["tokens_per_s", "usd_per_million_tokens"]
"""
SERVED = """
name = "sure"
question = "q"
phase = "decode"
chips = [384]
corners = false
[[workloads]]
model = "llama-3.1-8b"
[traffic]
input_tokens = "1024 token"
output_tokens = "256 token"
load = "100 ktoken/s"
[targets]
tpot = "<= 50 ms"
[[designs]]
label = "920"
system = "atlas-920-supernode"
[layout]
tensor_parallel = [2]
[search]
objective = "chips_used"
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A study of two designs, one of them a rumour."""
    return run_study(parse(TRAINED), tmp_path_factory.mktemp("runs"), workers=0)


def test_a_comparison_is_told_and_kept(trained: Finished) -> None:
    """Each quantity has the designs' bands in order, probabilities that add up, and is what the folder keeps."""
    told = json.loads(json.dumps(as_object(trained), allow_nan=False))["uncertainty"]
    assert json.loads((Path(trained.path) / "uncertainty.json").read_text()) == told
    assert [one["quantity"] for one in told] == ["tokens_per_s", "usd_per_million_tokens"]
    for one in told:
        assert [row["design"] for row in one["standings"]] == ["910C", "920"]
        assert sum(row["best"] for row in one["standings"]) == pytest.approx(1.0)
        assert all(row["p10"] <= row["p50"] <= row["p90"] for row in one["standings"])
        assert all(len(rests) == 2 for rests in one["rests_on"].values())
    assert len(list(certainty_tables(told))) >= 4
    known, rumoured = (row["rumoured_share"] for row in told[0]["standings"])
    assert known == 0.0 < 0.2 < rumoured


def test_only_what_is_rumoured_has_a_band_in_every_answer(trained: Finished) -> None:
    """A machine that is sold has a number; one that is a rumour a band about it and the share that is rumoured."""
    sold, rumoured = trained.answer.rows
    assert "tokens_per_s_p10" not in sold
    assert rumoured["tokens_per_s_p10"] < rumoured["tokens_per_s_p90"]
    assert 0.0 < rumoured["tokens_per_s_rumoured_share"] <= 1.0


def test_again_it_is_the_same(trained: Finished, tmp_path: Path) -> None:
    """The same study has the same draws, digit by digit, with the folder and without."""
    again = run_study(parse(TRAINED), Path(trained.path).parent, workers=0)
    anew = run_study(parse(TRAINED), tmp_path, workers=0)
    assert json.dumps(again.certainty) == json.dumps(anew.certainty) == json.dumps(trained.certainty)


def test_other_residuals_are_another_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept of a run's certainty rests on the residuals, so that new ones leave it behind."""
    before, *_ = prepare(parse(TRAINED), tmp_path)
    other = tmp_path / "residuals.toml"
    other.write_text(residuals.DATA.read_text() + "# fitted anew\n")
    monkeypatch.setattr(residuals, "DATA", other)
    after, *_ = prepare(parse(TRAINED), tmp_path)
    assert str(after.path) != str(before.path)


def test_chips_that_carry_a_load_have_the_band_of_what_their_instances_do(tmp_path: Path) -> None:
    """As instances do less, more of them carry it; designs are not compared in them, as they are the cluster's."""
    finished = run_study(parse(SERVED), tmp_path, workers=0)
    (row,) = finished.answer.rows
    assert 0 < row["chips_used_p10"] < row["chips_used_p90"]
    assert row["tokens_per_s_p10"] < row["tokens_per_s_p90"]
    with pytest.raises(InputError, match=r"uncertainty\.quantities"):
        parse(f'{SERVED}[uncertainty]\npoints = 16\nquantities = ["chips_used"]')
