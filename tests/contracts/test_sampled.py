"""Layouts that Optuna proposes: each legal and tried once, by every sampler, whatever interrupts it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest

from sweep import sampled
from sweep.errors import InputError
from sweep.running import Finished, run_study
from sweep.samplers import SAMPLERS
from sweep.study import parse
from sweep.study_schema import SamplerName

STUDY = """
name = "sampled"
question = "Which layout?"
chips = {chips}
[[workloads]]
model = "llama-3-8b"
sequence = "8192 token"
batch = 64
[[designs]]
system = "dgx-h100"
[layout]
recompute = ["none", "full"]
context_parallel = [1, 2]
[search]
method = "{method}"
trials = {trials}
generation = 8
"""


def study(search: str = "", method: str = "optuna", trials: int = 40, chips: str = "[16]") -> str:
    return STUDY.format(method=method, trials=trials, chips=chips) + search


def trials_of(found: Finished, case: int = 0) -> list[dict[str, Any]]:
    text = (Path(str(found.path)) / "trials" / f"case-{case:06d}.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def interrupted_after(calls: int, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Stop the evaluation of layouts once, after so many generations; call what is returned to undo it."""
    real, made = sampled.rows_of, []

    def evaluate(*arguments: Any) -> Any:
        made.append(arguments)
        if len(made) > calls:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(sampled, "rows_of", evaluate)
    return lambda: monkeypatch.setattr(sampled, "rows_of", real)


@pytest.mark.parametrize("sampler", [name for name in get_args(SamplerName) if name != "gp"])
@pytest.mark.parametrize("several", [False, True], ids=["one", "several"])
def test_proposals_do_not_depend_on_interruptions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sampler: SamplerName, several: bool
) -> None:
    """Stopped in the middle of a generation and continued: the same trials, rows and copies, byte for byte."""
    if several and not SAMPLERS[sampler].several:
        pytest.skip(f"{sampler} takes one objective")
    for package in SAMPLERS[sampler].needs:
        pytest.importorskip(package)
    front = 'rows = "pareto"\npareto = ["tokens_per_s", "hbm_used_bytes"]\n' if several else ""
    one = parse(study(f'sampler = "{sampler}"\nbaselines = ["tp=8,mbs=1", "tp=4,pp=2"]\n{front}'))
    whole = run_study(one, tmp_path / "whole", workers=0)
    undo = interrupted_after(3, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        run_study(one, tmp_path / "stopped", workers=0)
    undo()
    resumed = run_study(one, tmp_path / "stopped", workers=0)
    assert trials_of(resumed) == trials_of(whole)
    assert resumed.digest == whole.digest
    assert resumed.answer == whole.answer


def test_every_trial_is_another_legal_layout(tmp_path: Path) -> None:
    """No layout is tried twice, baselines come first, and what a trial says is what the cost model says."""
    found = run_study(parse(study('baselines = ["tp=8,mbs=1"]\nrows = "all"\n')), tmp_path, workers=0)
    trials = trials_of(found)
    assert [trial["trial"] for trial in trials] == list(range(40))
    assert len({trial["layout_id"] for trial in trials}) == 40
    assert [trial["source"] for trial in trials[:2]] == ["baseline", "sampler"]
    assert {trial["source"] for trial in trials} == {"baseline", "sampler", "neighbour"}
    assert (trials[0]["params"]["tp"], trials[0]["params"]["pp"]) == (8, 1)
    import pyarrow.dataset as ds

    rows = {row["layout_id"]: row for row in ds.dataset(str(found.path / "designs")).to_table().to_pylist()}
    assert set(rows) == {trial["layout_id"] for trial in trials}
    best = None
    for trial in trials:
        row = rows[trial["layout_id"]]
        assert trial["values"] == [row["tokens_per_s"]]
        assert trial["feasible"] == row["feasible"] == all(x <= 0 for x in trial["constraints"].values())
        assert {name: trial["params"][name] for name in ("tp", "cp", "pp", "mbs", "zero", "recompute")} == {
            name: row[name] for name in ("tp", "cp", "pp", "mbs", "zero", "recompute")
        }
        best = max(best or 0.0, row["tokens_per_s"]) if trial["feasible"] else best
        assert trial["best"] == best


def test_brute_force_tries_all_in_order(tmp_path: Path) -> None:
    """With trials enough it finds what the exact search finds, and ends with the last layout."""
    text = study('sampler = "brute_force"\nbaselines = ["tp=4"]\n', "both", 10**6, "[4]")
    text = text.replace("generation = 8", "generation = 100")
    text = text.replace("context_parallel = [1, 2]", "context_parallel = 1\nmicro_batch = 1")
    found = run_study(parse(text), tmp_path, workers=0)
    (row,) = found.answer.rows
    numbers = [trial["layout_id"] for trial in trials_of(found, 1)]
    assert sorted(numbers) == list(range(len(numbers)))
    assert numbers[1:] == sorted(numbers[1:])
    assert row["sampled_gap"] == 0.0
    assert row["sampled_trials"] == len(numbers) == row["proof"]["layouts"]


def test_the_answer_says_how_soon_sampling_was_near(tmp_path: Path) -> None:
    """Trials until within 1 % of the exact best are those of the log; null where it never was."""
    found = run_study(parse(study(method="both", trials=200)), tmp_path / "many", workers=0)
    (row,) = found.answer.rows
    near = [trial["trial"] + 1 for trial in trials_of(found, 1) if (trial["best"] or 0) >= 0.99 * row["tokens_per_s"]]
    assert near
    assert row["sampled_trials_to_1pct"] == near[0]
    assert row["sampled_trials"] == 200
    few = run_study(parse(study('sampler = "brute_force"', method="both", trials=1)), tmp_path / "few", workers=0)
    assert few.answer.rows[0]["sampled_trials_to_1pct"] is None


def test_a_baseline_is_left_out_where_it_is_not_legal(tmp_path: Path) -> None:
    """It is said for which cases; where it is legal nowhere the study is refused before anything is computed."""
    text = study('baselines = ["tp=8,pp=4"]', chips="[16, 32]", trials=9)
    found = run_study(parse(text), tmp_path / "some", workers=0)
    assert any("tp=8,pp=4" in note and " 16" in note and " 32" not in note for note in found.notes)
    assert [trials_of(found, case)[0]["source"] for case in (0, 1)] == ["sampler", "baseline"]
    with pytest.raises(InputError, match="among the legal layouts of no case"):
        run_study(parse(study('baselines = ["tp=7"]')), tmp_path / "none", workers=0)
    assert not (tmp_path / "none").exists()


def test_a_missing_package_is_told_before_anything_is_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No run folder is made for a sampler that cannot be used."""
    from sweep import samplers

    monkeypatch.setattr(samplers, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r'pip install "matrixsweep\[cma\]"'):
        run_study(parse(study('sampler = "cma_es"')), tmp_path / "runs", workers=0)
    assert not (tmp_path / "runs").exists()


OUTER = """
name = "outer"
question = "Which machine?"
[[workloads]]
model = "llama-3-8b"
sequence = "8192 token"
batch = 64
[[designs]]
system = "dgx-h100"
[layout]
tensor_parallel = [4, 8]
context_parallel = 1
recompute = "none"
[outer]
trials = {trials}
generation = 4
sampler = "{sampler}"
{more}
[outer.variables]
chips = [8, 16]
batch = [32, 64, 128]
"""


def test_brute_force_goes_through_all_machines(tmp_path: Path) -> None:
    """Baselines, then every combination of the lists, and no more than there are."""
    more = "baselines = [{ chips = 16, batch = 128 }]"
    found = run_study(parse(OUTER.format(trials=50, sampler="brute_force", more=more)), tmp_path, workers=0)
    lines = [json.loads(line) for line in (tmp_path / found.path.name / "manifest.jsonl").read_text().splitlines()]
    tried = [
        (trial["source"], trial["params"]["chips"], trial["params"]["batch"])
        for line in lines
        if line.get("done") == "generation"
        for trial in line["trials"]
    ]
    every = [("order", chips, batch) for chips in (8, 16) for batch in (32, 64, 128)]
    assert tried == [("baseline", 16, 128), *every]


def test_a_strategy_over_numbers_takes_lists_as_numbers(tmp_path: Path) -> None:
    """CMA-ES proposes among the choices of lists, and the rest of a study is as ever."""
    pytest.importorskip("cmaes")
    found = run_study(parse(OUTER.format(trials=12, sampler="cma_es", more="")), tmp_path, workers=0)
    assert found.answer.rows[0]["chips"] in (8, 16)
