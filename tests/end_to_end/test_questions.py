"""`sweep try`, `sweep size`, and `run`, `plan` and `explain` of a study of serving, as a user calls them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from model import units
from sweep.cli import main

DECODE = [
    "try",
    "--model",
    "deepseek-v2",
    "--system",
    "dgx-h200",
    "--chips",
    "16",
    "--phase",
    "decode",
    "--tpot",
    "40 ms",
]
SIZE = ["size", "--model", "llama-3.1-70b", "--system", "dgx-h100", "--load", "5000 tokens/s", "--input", "2048",
        "--output", "512", "--ttft", "1 s", "--tpot", "40 ms"]  # fmt: skip


def swept(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code and output of a command."""
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    told = capsys.readouterr()
    return int(ended.value.code or 0), told.out, told.err


def asked(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """What a command prints as JSON."""
    code, out, err = swept(capsys, *arguments, "--json")
    assert code == 0, err
    found: dict[str, Any] = json.loads(out)
    return found


@pytest.mark.parametrize(
    "question", [DECODE, ["try", "--model", "llama-3-8b", "--system", "hgx-h20", "--chips", "8", "--batch", "64"]]
)
def test_the_study_that_is_printed_repeats_the_answer(
    question: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The TOML below the answer, run as a study, has the same answer."""
    found = asked(capsys, *question)
    (tmp_path / "again.toml").write_text(found["study"])
    run = asked(capsys, "run", str(tmp_path / "again.toml"), "--out", str(tmp_path), "--workers", "0")
    (first,), (second,) = found["answer"], run["answer"]
    assert {name: first[name] for name in first} == {name: second[name] for name in first}


def test_the_answer_comes_first_and_the_study_last(capsys: pytest.CaptureFixture[str]) -> None:
    """People read what was asked for in the first line."""
    code, out, _ = swept(capsys, *DECODE)
    assert code == 0
    assert "TPOT 40 ms" in out.splitlines()[0]
    assert "token/s" in out.splitlines()[0]
    assert out.rstrip().endswith('tpot = "<= 40 ms"')


def test_degrees_are_held(capsys: pytest.CaptureFixture[str]) -> None:
    """Degrees that are given are the answer's; the rest is searched, and can only be worse than all free."""
    (free,) = asked(capsys, *DECODE)["answer"]
    (held,) = asked(capsys, *DECODE, "--layout", "tp=4,ep=8,batch=6")["answer"]
    assert (held["tp"], held["ep"], held["batch"]) == (4, 8, 6 * held["dp"])
    assert held["tokens_per_s"] <= free["tokens_per_s"]
    code, _, err = swept(capsys, *DECODE, "--layout", "tpp=4")
    assert code == 2
    assert "did you mean 'tp'" in err


def test_the_smallest_cluster_carries_the_load_and_no_smaller_one_does(capsys: pytest.CaptureFixture[str]) -> None:
    """The cluster meets load and targets; with fewer chips on offer there is no answer."""
    (row,) = asked(capsys, *SIZE)["answer"]
    assert row["tokens_per_s"] >= 5000
    assert row["ttft_s"] <= 1.0
    assert row["tpot_s"] <= 0.04
    assert row["chips_used"] <= 16
    (tight,) = asked(capsys, *SIZE, "--chips", str(int(row["chips_used"]) + 1))["answer"]
    assert tight["chips_used"] == row["chips_used"]
    twice = [*SIZE[:6], "10000 tokens/s", *SIZE[7:]]
    (more,) = asked(capsys, *twice)["answer"]
    assert row["chips_used"] < more["chips_used"] <= 2 * row["chips_used"]
    code, _, err = swept(capsys, *twice, "--chips", "8")
    assert code == 3
    assert "no feasible layout" in err


def test_the_size_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    """First the chips, then the instances and the latencies, then what bounds them."""
    code, out, _ = swept(capsys, *SIZE, "--deployment", "colocated")
    first, instances, latencies, why = out.splitlines()[:4]
    assert code == 0
    assert first.split()[1:4] == ["chips", "of", "dgx-h100"]
    assert instances.startswith("colocated: ")
    assert "TTFT" in latencies
    assert why.startswith("Why not fewer")


def test_of_several_machines_the_cheapest_comes_first(capsys: pytest.CaptureFixture[str]) -> None:
    """Each machine has the cluster that it has alone, in order of dollars; a wrong name is told for each."""
    narrow = ["--chips", "48", "--deployment", "colocated", "--set", "layout.pipeline_parallel=1"]
    several = [*SIZE, "--system", "hgx-h20", *narrow]
    rows = asked(capsys, *several)["answer"]
    assert {row["system"] for row in rows} == {"dgx-h100", "hgx-h20"}
    assert [row["usd_per_hour"] for row in rows] == sorted(row["chips_used"] * row["usd_per_chip_hour"] for row in rows)
    for row in rows:
        (alone,) = asked(capsys, *SIZE[:4], row["system"], *SIZE[5:], *narrow)["answer"]
        assert {name: row[name] for name in alone} | {"case": 0} == alone
    code, out, _ = swept(capsys, *several)
    assert code == 0
    assert out.startswith(f"Cheapest: {rows[0]['chips_used']:,.0f} chips of {rows[0]['system']}, ")
    code, _, err = swept(capsys, *several, "--system", "hgx-h2", "--system", "dgx-h1")
    assert code == 2
    assert err.count("--system") == 2


def test_mistakes_are_told_by_their_options(capsys: pytest.CaptureFixture[str]) -> None:
    """All at once, with exit code 2 and no traceback."""
    code, _, err = swept(
        capsys, "try", "--model", "deepseek-v22", "--system", "dgx-h20", "--chips", "8", "--phase", "decode",
        "--tpot", "50",
    )  # fmt: skip
    assert code == 2
    assert {line.split()[0] for line in err.splitlines()[1:]} == {"--model", "--system", "--tpot"}
    code, _, err = swept(capsys, "size", "--model", "deepseek-v2", "--system", "dgx-h200")
    assert code == 2
    assert "--load" in err


STUDY = """
question = "together or apart?"
phase = "serving"
chips = [8]
[[workloads]]
model = "llama-3-8b"
[traffic]
input_tokens = "1024 token"
output_tokens = "256 token"
[targets]
ttft = "<= 2 s"
tpot = ["<= 20 ms", "<= 0.01 ms"]
[[designs]]
system = "dgx-h100"
[layout]
deployment = DEPLOYMENT
"""


@pytest.mark.parametrize("deployment", ["colocated", "disaggregated"])
def test_a_row_of_serving_is_taken_apart(deployment: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The parts of a pass add up, targets that nothing meets are told, and the plan names the axes."""
    file = tmp_path / "serve.toml"
    file.write_text(STUDY.replace("DEPLOYMENT", json.dumps(deployment)))
    found = asked(capsys, "run", str(file), "--out", str(tmp_path), "--workers", "0")
    (row,) = found["answer"]
    assert row["deployment"] == deployment
    assert "limit tpot s" in found["infeasible"][0]["reason"]
    told = asked(capsys, "explain", f"{found['run']}#{row['row']}")
    phases = {"prefill", "decode"} if deployment == "disaggregated" else {"serving"}
    assert set(told["time_s"]) == phases
    for name in phases:
        assert sum(told["memory_bytes"][name].values()) <= 80e9
        assert told["bound_by"][name] == max(told["time_s"][name], key=told["time_s"][name].get)
    own = told["memory_bytes"]["decode" if deployment == "disaggregated" else "serving"]
    assert sum(own.values()) == pytest.approx(row["hbm_used_bytes"], rel=1e-12)
    code, out, _ = swept(capsys, "explain", f"{found['run']}#{row['row']}")
    assert code == 0
    assert "bound:" in out
    code, out, _ = swept(capsys, "plan", str(file), "--workers", "1")
    assert code == 0
    assert "tp x cp x pp is at most the ranks" in out


def test_a_front_is_told_at_speeds_in_between(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The line of a design has the best rate of the rows that are at least as fast for a user."""
    import sweep

    file = tmp_path / "front.toml"
    text = STUDY.replace("deployment = DEPLOYMENT", "batch = [1, 4, 16, 64]").replace('"serving"', '"decode"')
    text = text.replace('ttft = "<= 2 s"\n', "").replace('["<= 20 ms", "<= 0.01 ms"]', '"<= 50 ms"')
    names = ["tokens_per_s_per_chip", "tokens_per_s_per_user"]
    file.write_text(text + f'[search]\nrows = "pareto"\npareto = {json.dumps(names)}\n')
    code, out, err = swept(capsys, "run", str(file), "--out", str(tmp_path), "--workers", "0")
    assert code == 0, err
    rows = sweep.load(str(next(tmp_path.glob("front-*"))))
    told = next(line for line in out.splitlines() if line.startswith("  dgx-h100 bf16: "))
    best = rows[rows["tokens_per_s_per_user"] >= 100]["tokens_per_s_per_chip"].max()
    assert f"100: {units.show(best, 'token/s')}" in told
    assert f"fastest {units.show(rows['tokens_per_s_per_user'].max(), 'token/s')}" in told
