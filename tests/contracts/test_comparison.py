"""`sweep compare`: only what differs, ratios to the first, what is the same in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import sweep
from sweep.cli import main
from sweep.commands.compare import _change
from sweep.errors import InputError

STUDY = """
question = "two machines"
chips = [8, 16]
[[workloads]]
model = "llama-3-8b"
sequence = "4096 token"
batch = 64
[[designs]]
system = "dgx-h100"
[[designs]]
system = "hgx-h20"
[layout]
recompute = "none"
zero_stage = 1
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run of two machines at two sizes."""
    found = sweep.run(STUDY, out=tmp_path_factory.mktemp("compare"), workers=0, report=False)
    return str(found["run"])


def swept(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code and output of a command."""
    with pytest.raises(SystemExit) as ended:
        main(["compare", *arguments])
    told = capsys.readouterr()
    return int(ended.value.code or 0), told.out, told.err


def test_only_what_differs_is_told(run: str) -> None:
    """Nothing stands on both sides; values are those of the rows; ratios are over the first."""
    rows = sweep.load(run)
    found = sweep.compare(f"{run}#0", f"{run}#1")
    differs = {one["name"]: one for one in found["differs"]}
    assert not set(differs) & set(found["same"])
    assert differs["tokens_per_s"]["values"] == pytest.approx(list(rows["tokens_per_s"][:2]), rel=1e-12)
    for one in found["differs"]:
        assert len(set(map(str, one["values"]))) > 1
        if one["ratios"][1] is not None:
            assert one["ratios"] == pytest.approx([1.0, one["values"][1] / one["values"][0]])
    assert found["same"]["model"] == "llama-3-8b"
    assert differs["chips"]["values"] == [8, 16]


def test_a_design_beside_itself_differs_in_nothing(run: str) -> None:
    """All is the same then."""
    found = sweep.compare(f"{run}#0", f"{run}#0")
    assert found["differs"] == []
    assert found["same"]["system"] == "dgx-h100"


def test_parts_add_up_to_the_step(run: str) -> None:
    """Parts of the time and of the memory stand side by side, and none is left out."""
    for design in sweep.compare(f"{run}#0", f"{run}#2")["designs"]:
        values = design["values"]
        seconds = sum(value for name, value in values.items() if name.startswith("time_s."))
        assert seconds == pytest.approx(values["step_time_s"], rel=1e-12)


def test_a_run_is_its_best_row(run: str) -> None:
    """RUN alone stands for the best row by the study's objective."""
    best = sweep.load(run)["tokens_per_s"].max()
    found = sweep.compare(run, f"{run}#0")
    assert found["designs"][0]["values"]["tokens_per_s"] == pytest.approx(best, rel=1e-12)
    assert "the best of the run" in found["designs"][0]["from"]


def test_words_name_a_design_in_any_order() -> None:
    """A layout in words is what explain takes apart; what words leave out comes from the options."""
    asked: dict[str, Any] = {"model": "llama-3-8b", "chips": 8, "batch": 64}
    found = sweep.compare("tp=2 dgx-h100", "dgx-h100 tp=2,pp=2 8 chips", **asked)
    for design, layout in zip(found["designs"], ("tp=2", "tp=2,pp=2"), strict=True):
        wanted = sweep.explain(system="dgx-h100", layout=layout, **asked)
        assert design["values"]["tokens_per_s"] == wanted["tokens_per_s"]


def test_without_a_layout_the_best_one_is_taken() -> None:
    """A system alone stands for its best layout, of training and of serving."""
    trained = sweep.compare("dgx-h100", "hgx-h20", model="llama-3-8b", chips=8, batch=64)
    best = sweep.try_(model="llama-3-8b", system="hgx-h20", chips=8, batch=64)["answer"][0]
    assert trained["designs"][1]["values"]["tokens_per_s"] == pytest.approx(best["tokens_per_s"], rel=1e-12)
    served = sweep.compare("dgx-h100", "dgx-h200", model="llama-3-8b", chips=8, phase="decode", tpot="20 ms")
    assert {"tpot_s", "system"} <= {one["name"] for one in served["differs"]}


def test_the_table_is_narrow_and_the_answer_comes_first(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Two designs: what, A, B, ratio, change. More: each with its ratio. What is the same: one line."""
    code, out, _ = swept(capsys, f"{run}#0", f"{run}#1")
    lines = out.splitlines()
    assert code == 0
    assert lines[0].startswith("B has ")
    assert lines[0].endswith(" of A")
    heading = next(line for line in lines if line.strip().startswith("what"))
    assert heading.split() == ["what", "A", "B", "B", "/", "A", "change"]
    assert sum(line.startswith("Same: ") for line in lines) == 1
    assert "model llama-3-8b" in next(line for line in lines if line.startswith("Same: "))
    code, out, _ = swept(capsys, *(f"{run}#{row}" for row in range(4)), f"{run}#0", f"{run}#1")
    heading = next(line for line in out.splitlines() if line.strip().startswith("what"))
    assert heading.split() == ["what", "A", "B", "C", "D", "E"]
    assert "and 1 more: --all" in out


def test_what_does_not_run_is_said_first(capsys: pytest.CaptureFixture[str]) -> None:
    """A layout that breaks a limit is compared, and told as such."""
    options = ("--model", "llama-3.1-405b", "--system", "dgx-h100", "--chips", "16")
    code, out, _ = swept(capsys, "tp=8", "tp=8,pp=2", *options)
    assert code == 0
    assert "A does NOT run" in out.splitlines()[0]


def test_json_is_what_python_gives(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One object: designs, differs, same."""
    code, out, _ = swept(capsys, f"{run}#0", f"{run}#3", "--json")
    assert code == 0
    assert json.loads(out) == sweep.compare(f"{run}#0", f"{run}#3")


def test_mistakes_are_told(run: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A word that names nothing, too few designs, a machine without a size: exit code 2, and the nearest names."""
    for arguments, told in (
        (("dgx-h10", "dgx-h200"), "did you mean 'dgx-h100'"),
        ((f"{run}#0",), "needs two designs"),
        (("dgx-h100", "dgx-h200"), "--model"),
        ((f"{tmp_path}/none#0", f"{run}#0"), "none"),
    ):
        code, _, err = swept(capsys, *arguments)
        assert code == 2, arguments
        assert told in err
    with pytest.raises(InputError):
        sweep.compare()


def test_a_change_that_rounds_to_nothing_has_no_sign() -> None:
    """Neither -0% nor +0%."""
    assert [_change(ratio) for ratio in (0.998, 1.0, 1.003, 0.99, 1.5)] == ["0%", "0%", "0%", "-1%", "+50%"]


def test_chips_that_are_no_whole_units_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    """A rack of 72 is not divided: what is compared says how many chips it is of."""
    code, out, _ = swept(capsys, "gb200-nvl72 100", "dgx-h100 104", "--model", "llama-3-8b", "--batch", "576")
    assert code == 0
    a, b = (line for line in out.splitlines() if line[:3] in ("A  ", "B  "))
    assert "100 chips are taken as 72, whole units of 72" in a
    assert "taken as" not in b
