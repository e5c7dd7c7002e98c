"""`--set path=value`: what it changes, what it refuses, and that a run keeps the study as changed."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep.cli import main
from sweep.errors import InputError
from sweep.overrides import paths, value_of, with_overrides
from sweep.serving_schema import ServingStudyTable
from sweep.study import parse
from sweep.study_schema import StudyTable
from sweep.toml_text import toml_text
from sweep.verbs import study_of

ROOT = Path(__file__).resolve().parents[2]
STUDY = """# Two machines.
question = "Which, and how fast?"
chips = [8]
[[workloads]]
model = "llama-3-8b"
sequence = "4096 token"
batch = 64
[[designs]]
label = "a"
system = "dgx-h100"
[[designs]]
label = "b.2"
system = "hgx-h20"
"""


def changed(*overrides: str, text: str = STUDY) -> dict[str, Any]:
    """The tables of a study with overrides."""
    return tomllib.loads(with_overrides(text, overrides))


@pytest.mark.parametrize(
    ("override", "at", "value"),
    [
        ("chips=16,32", ("chips",), [16, 32]),
        ("chips=16", ("chips",), [16]),
        ("search.objective=mfu", ("search", "objective"), "mfu"),
        ("question=Or, is it?", ("question",), "Or, is it?"),
        ("constraints.power_w=<= 20 kW", ("constraints", "power_w"), "<= 20 kW"),
        ("constraints.power_w<=20 kW", ("constraints", "power_w"), "<= 20 kW"),
        ("workloads.batch=16 Mtoken", ("workloads", 0, "batch"), "16 Mtoken"),
        ("workloads[0].number_format=bf16,fp8", ("workloads", 0, "number_format"), ["bf16", "fp8"]),
        ("designs[1].chips=16", ("designs", 1, "chips"), [16]),
        ("designs[b.2].chips=16", ("designs", 1, "chips"), [16]),
        ("designs.power_cap=500 W", ("designs", 1, "power_cap"), "500 W"),
        ("designs[a].change.chip.hbm_bandwidth=4 TB/s", ("designs", 0, "change", "chip.hbm_bandwidth"), "4 TB/s"),
        ("layout.tensor_parallel={ max = 4 }", ("layout", "tensor_parallel"), {"max": 4}),
        ("corners=true", ("corners",), True),
        ("outer.variables.chips=8,16", ("outer", "variables", "chips"), [8, 16]),
        ("outer.variables.chips.low=8", ("outer", "variables", "chips", "low"), 8),
        ("search.baselines=tp=8,pp=1", ("search", "baselines"), ["tp=8,pp=1"]),
    ],
)
def test_a_path_sets_its_key(override: str, at: tuple[Any, ...], value: Any) -> None:
    """Dotted paths, places and labels in lists, names with dots, texts without quotes, values with commas."""
    found: Any = changed(override)
    for step in at:
        found = found[step]
    assert found == value


def test_all_tables_of_a_list_are_meant_unless_one_is_named() -> None:
    """Without brackets every design changes; the last override wins."""
    found = changed("designs.chips=16", "designs[a].chips=32")
    assert [one["chips"] for one in found["designs"]] == [[32], [16]]


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("objective=mfu", "did you mean 'search.objective'"),
        ("serch.objectiv=mfu", "did you mean 'search.objective'"),
        ("designs[c].chips=8", "no design of this place or label"),
        ("designs[7].chips=8", "no design of this place or label"),
        ("chips", "needs a value"),
        ("chips.low=3", "is a value"),
        ("chips[0]=3", "is no list of tables"),
        ("workloads=3", "is a table"),
        ("search=3", "is a table"),
        ("targets.tpot=<= 50 ms", "no key of a study"),  # of serving
    ],
)
def test_an_unknown_path_is_told_with_the_nearest(override: str, told: str) -> None:
    """All problems at once, each by its path."""
    with pytest.raises(InputError, match="--set") as failure:
        with_overrides(STUDY, [override, "nonsense=1"])
    assert told in str(failure.value)
    assert "nonsense" in str(failure.value)


def test_a_wrong_value_is_told_by_its_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Values are checked as those of the file are: unit, range, nearest name."""
    file = tmp_path / "study.toml"
    file.write_text(STUDY)
    with pytest.raises(SystemExit) as ended:
        main(["plan", str(file), "--set", "power=20", "--set", "search.objective=mfuu"])
    err = capsys.readouterr().err
    assert ended.value.code == 2
    assert "study.toml with --set" in err
    assert "as in '700 W'" in err
    assert "'mfu'" in err


def test_overrides_can_change_the_phase() -> None:
    """Keys of serving are known where the same command line makes the study one of serving."""
    text = '[[workloads]]\nmodel = "llama-3-8b"\n[[designs]]\nsystem = "dgx-h100"\n'
    found = changed("targets.tpot=<= 50 ms", "traffic.input_tokens=1 ktoken", "phase=decode", text=text)
    assert (found["phase"], found["targets"]["tpot"]) == ("decode", "<= 50 ms")


def test_every_key_of_a_study_has_a_path() -> None:
    """The paths that an unknown one is compared with are all there."""
    for form in (StudyTable, ServingStudyTable):
        known = set(paths(form))
        assert {"search.rows", "layout.tensor_parallel", "designs.change", "outer.variables"} <= known
        assert len(known) > 40


def test_a_run_keeps_the_study_as_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is stored, run as it is, is the same run with the same rows."""
    file = tmp_path / "study.toml"
    file.write_text(STUDY)

    def run(*arguments: str) -> dict[str, Any]:
        with pytest.raises(SystemExit) as ended:
            main(["run", *arguments, "--out", str(tmp_path), "--workers", "0", "--no-report", "--json"])
        assert not ended.value.code
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    first = run(str(file), "--set", "chips=16", "--set", "designs[a].change.chip.hbm_bandwidth=4 TB/s")
    assert {row["chips"] for row in first["answer"]} == {16}
    stored = Path(first["run"], "study.toml")
    assert "# --set chips=16" in stored.read_text()
    (tmp_path / "again").mkdir()
    again = tmp_path / "again" / "study.toml"
    again.write_text(stored.read_text())
    second = run(str(again))
    assert (second["run"], second["digest"]) == (first["run"], first["digest"])


def test_python_takes_values_as_they_are() -> None:
    """A dictionary of overrides is what the command line says in texts."""
    wanted = parse(with_overrides(STUDY, ["chips=16,32", "search.objective=mfu"]))
    found = study_of(STUDY, {"chips": [16, 32], "search.objective": "mfu"})
    assert found == wanted
    assert study_of(tomllib.loads(STUDY)) == parse(STUDY)


@pytest.mark.parametrize("file", sorted((ROOT / "studies").glob("*.toml")), ids=lambda file: file.stem)
def test_a_study_written_anew_is_the_same(file: Path) -> None:
    """Tables, lists of tables and texts of several lines survive."""
    raw = tomllib.loads(file.read_text())
    assert tomllib.loads(toml_text(raw)) == raw


plain = st.recursive(
    st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), plain, max_size=4))
def test_any_tables_survive_writing(tables: dict[str, Any]) -> None:
    """What is written reads back as it was, whatever its keys and texts hold."""
    assert tomllib.loads(toml_text(tables)) == tables


@given(st.text())
def test_any_text_is_a_value(text: str) -> None:
    """A value never breaks out of its key."""
    value_of(text.strip())
