"""Every verb has a twin in Python, which gives what `--json` prints; the notebook of the docs runs."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import sweep
from sweep.cli import COMMANDS, main
from sweep.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
CASES = ROOT / "tests" / "published" / "training_cases.jsonl"
STUDY = """
question = "one machine"
chips = [8]
[[workloads]]
model = "llama-3-8b"
sequence = "4096 token"
batch = 64
[[designs]]
system = "dgx-h100"
"""
# Verb -> its twin; a dashboard serves until it is stopped, and has none.
TWINS = {
    **{verb: verb for verb in ("run", "plan", "size", "explain", "compare", "validate", "show", "export", "digest",
                               "schema")},
    "try": "try_", "list": "list_", "import": "import_", "report": "write_report", "trace": "write_trace",
}  # fmt: skip
ASKED: dict[str, Any] = {"model": "llama-3-8b", "system": "dgx-h100", "chips": 8, "batch": 64}
LAYOUT = {**ASKED, "layout": "tp=2"}
SIZED = {"model": "llama-3-8b", "system": "dgx-h100", "load": "5000 tokens/s", "tpot": "20 ms"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run."""
    return str(sweep.run(STUDY, out=tmp_path_factory.mktemp("verbs"), workers=0, report=False)["run"])


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    """What a command prints with --json."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--json"])
    told = capsys.readouterr()
    assert not ended.value.code, told.err
    return json.loads(told.out)


def options(given: dict[str, Any]) -> list[str]:
    """Options of the command line."""
    return [part for name, value in given.items() for part in (f"--{name}", str(value))]


def test_every_verb_has_a_twin() -> None:
    """All verbs but the dashboard; all are exported, documented, and found by name."""
    assert set(TWINS) == set(COMMANDS) - {"dashboard"}
    assert set(TWINS.values()) | {"load"} == set(sweep.__all__)
    for name in sweep.__all__:
        assert getattr(sweep, name).__doc__
        assert name in dir(sweep)
    with pytest.raises(AttributeError):
        _ = sweep.nothing  # type: ignore[attr-defined]


def test_studies(run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run and a plan, of a path, a text and a dictionary."""
    file = tmp_path / "study.toml"
    file.write_text(STUDY)
    told = printed(capsys, "run", str(file), "--out", str(tmp_path), "--workers", "0", "--no-report")
    assert sweep.run(file, out=tmp_path, workers=0, report=False) == told
    assert told["digest"] == sweep.digest(run)["digest"]
    changes = ("--set", "chips=16", "--set", "search.objective=mfu")
    plan = printed(capsys, "plan", str(file), "--workers", "1", *changes)
    again = sweep.plan(str(file), workers=1, overrides={"chips": 16, "search.objective": "mfu"})
    assert {**plan, "seconds": 0} == {**again, "seconds": 0}


def test_a_label_in_brackets_is_shown_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What a terminal's markup would take for a tag stays in the tables."""
    file = tmp_path / "s.toml"
    file.write_text(STUDY + 'label = "H100 [/b] [dim]"\n', encoding="utf-8")
    with pytest.raises(SystemExit) as ended:
        main(["run", str(file), "--out", str(tmp_path), "--workers", "0", "--no-report"])
    assert not ended.value.code
    assert "H100 [/b] [dim]" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "twin"),
    [
        (["try", *options(ASKED)], lambda: sweep.try_(**ASKED)),
        (["size", *options(SIZED)], lambda: sweep.size(**SIZED)),
        (["explain", *options(LAYOUT)], lambda: sweep.explain(**LAYOUT)),
        (["export", *options(LAYOUT), "--to", "megatron-lm"], lambda: sweep.export(to="megatron-lm", **LAYOUT)),
        (["validate", "cases.jsonl"], lambda: sweep.validate("cases.jsonl")),
        (["list", "chips"], lambda: sweep.list_("chips")),
        (["show", "h100"], lambda: sweep.show("h100")),
        (["schema", "chips"], lambda: sweep.schema("chips")),
    ],
    ids=lambda one: one[0] if isinstance(one, list) else "",
)
def test_questions(
    arguments: list[str], twin: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """What Python gives is what the command prints."""
    monkeypatch.chdir(tmp_path)
    Path("cases.jsonl").write_text("\n".join(CASES.read_text().splitlines()[:5]))
    assert twin() == printed(capsys, *arguments)


def test_rows(run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a run: its best row taken apart, its digest, its trace."""
    assert sweep.explain(run) == printed(capsys, "explain", run)
    assert sweep.explain(Path(run)) == sweep.explain(f"{run}#0")
    assert sweep.digest(run) == printed(capsys, "digest", run)
    trace = tmp_path / "trace.json"
    assert printed(capsys, "trace", run, "--output", str(trace)) == sweep.write_trace(trace, run)
    assert json.loads(trace.read_text())


def test_a_model_is_imported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A config.json as the command reads it."""
    config = {"model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
              "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 256}  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    told = printed(capsys, "import", str(tmp_path), "--as", "mine")
    assert sweep.import_(tmp_path, name="mine") == told


def test_a_page_is_written(run: str) -> None:
    """The report of a run, where plotly is installed."""
    pytest.importorskip("plotly")
    assert Path(sweep.write_report(run)["report"]).exists()


def test_mistakes_are_errors() -> None:
    """In Python, as on the command line, every problem is told at once."""
    with pytest.raises(InputError, match="workloads"):
        sweep.plan({"question": "what?"})
    with pytest.raises(InputError, match="no such file"):
        sweep.run("nowhere.toml")
    with pytest.raises(InputError, match="no schema of this name"):
        sweep.schema("chip")
    with pytest.raises(InputError, match="needs at least one file"):
        sweep.validate()


def test_importing_it_imports_nothing_heavy() -> None:
    """`import sweep` is instant: what a verb needs is imported as it is called."""
    code = "import sys, sweep; print(sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for heavy in ("numpy", "ray", "optuna", "pandas", "pyarrow", "pydantic", "cyclopts"):
        assert f"'{heavy}'" not in loaded


def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """docs/notebook.py, from its first cell to its last."""
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(ROOT / "docs" / "notebook.py"))
    out = capsys.readouterr().out
    assert "rests on estimates" in out
    assert "take " in out.splitlines()[-1]
