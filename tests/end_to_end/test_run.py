"""A study from its file to its answer, through the command line as a user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest

STUDY = """
name = "small"
question = "Which of two machines trains a small model faster?"
chips = [32, 64]
reference = "H20"
[[workloads]]
model = "llama-3-8b"
sequence = "8192 token"
batch = 128
[[designs]]
label = "H20"
system = "hgx-h20"
[[designs]]
label = "GB200"
system = "gb200-nvl72"
[layout]
tensor_parallel = [1, 2, 4, 8]
context_parallel = [1, 2]
virtual_stages = { max = 4 }
"""
OUTER = """
[outer]
trials = 6
generation = 3
sampler = "tpe"
objectives = ["tokens_per_s", "power_w"]
variables = { chips = { low = 8, high = 64 }, "chip.hbm_bandwidth" = { low = "3 TB/s", high = "6 TB/s" } }
"""


def sweep(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sweep.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TMPDIR": "/tmp"},
    )


def run(tmp_path: Path, text: str = STUDY, workers: int = 0) -> dict[str, Any]:
    """Run a study in this machine's processes and read its JSON."""
    file = tmp_path / "study.toml"
    file.write_text(text)
    done = sweep("run", file, "--out", tmp_path / "runs", "--workers", workers, "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_run_answers_and_leaves_a_data_set(tmp_path: Path) -> None:
    """The answer has the best of each design and size; the folder holds the study, the catalogue and the rows."""
    found = run(tmp_path)
    folder = Path(found["run"])
    assert [(row["design"], row["chips"]) for row in found["answer"]] == [("H20", 32), ("H20", 64), ("GB200", 72)]
    assert (folder / "study.toml").read_text() == STUDY
    assert (folder / "catalogue" / "systems" / "hgx-h20.toml").exists()
    assert (folder / "catalogue" / "models" / "llama-3-8b.toml").exists()
    assert any("GB200: 32 chips are taken as 72" in note for note in found["notes"])
    rows = duckdb.sql(
        f"SELECT design, chips, tokens_per_s, step_time_s, bound_by FROM '{folder}/designs/*.parquet' ORDER BY ALL"
    ).fetchall()
    assert sorted((r["design"], r["chips"], r["tokens_per_s"], r["step_time_s"], r["bound_by"])
                  for r in found["answer"]) == rows  # fmt: skip


def test_every_column_says_its_unit_and_meaning(tmp_path: Path) -> None:
    """Fields carry unit and meaning, and the file carries study, seed and versions, but no time and no host."""
    found = run(tmp_path)
    schema = pq.read_schema(next((Path(found["run"]) / "designs").glob("*.parquet")))
    for field in schema:
        assert field.metadata[b"meaning"], field.name
        assert b"unit" in field.metadata
    units = {name: schema.field(name).metadata[b"unit"] for name in ("step_time_s", "power_w", "memory_weights_bytes")}
    assert units == {"step_time_s": b"s", "power_w": b"W", "memory_weights_bytes": b"byte"}
    assert schema.metadata[b"study"] == b"small"
    assert {b"seed", b"commit", b"code", b"catalogue", b"versions", b"study_file"} <= set(schema.metadata)
    parts = [name for name in schema.names if name.startswith("time_")]
    table = pq.read_table(next((Path(found["run"]) / "designs").glob("*.parquet"))).to_pylist()
    assert sum(table[0][name] for name in parts) == pytest.approx(table[0]["step_time_s"], rel=1e-12)


def test_a_finished_run_is_not_computed_again(tmp_path: Path) -> None:
    """The second command reads the answer back, and changes no file of the data set."""
    first = run(tmp_path)
    parts = {part: part.stat().st_mtime_ns for part in (Path(first["run"]) / "designs").iterdir()}
    second = run(tmp_path)
    assert second == first
    assert {part: part.stat().st_mtime_ns for part in (Path(first["run"]) / "designs").iterdir()} == parts


def test_the_digest_is_of_the_rows(tmp_path: Path) -> None:
    """`sweep digest` prints what the run printed; other rows give another digest, other file names do not."""
    found = run(tmp_path)
    folder = Path(found["run"])
    assert sweep("digest", folder).stdout.strip() == found["digest"]
    other = run(tmp_path, STUDY.replace("batch = 128", "batch = 64"))
    assert other["run"] != found["run"]
    assert other["digest"] != found["digest"]


@pytest.mark.parametrize("rows", ["top:5", "pareto", "feasible", "all"])
def test_what_a_study_keeps(tmp_path: Path, rows: str) -> None:
    """Each way of keeping rows keeps the best, and the rows that its name says."""
    search = f'[search]\nrows = "{rows}"\npareto = ["tokens_per_s", "hbm_used_bytes"]\n'
    found = run(tmp_path, STUDY + search)
    best = run(tmp_path)
    assert [row["tokens_per_s"] for row in found["answer"]] == [row["tokens_per_s"] for row in best["answer"]]
    table = f"'{found['run']}/designs/*.parquet'"
    counts = dict(duckdb.sql(f'SELECT "case", count(*) FROM {table} GROUP BY ALL').fetchall())
    if rows == "top:5":
        assert set(counts.values()) == {5}
    else:
        assert all(count > 5 for count in counts.values())
    infeasible = duckdb.sql(f"SELECT count(*) FROM {table} WHERE NOT feasible").fetchall()[0][0]
    assert (infeasible > 0) == (rows == "all")


def test_optuna_over_layouts_is_compared_with_the_whole_space(tmp_path: Path) -> None:
    """method = "both" searches exactly and by sampling, and reports what sampling lost; twice the same."""
    text = STUDY + '[search]\nmethod = "both"\ntrials = 64\n'
    found = run(tmp_path, text)
    again = run(tmp_path / "again" if (tmp_path / "again").mkdir() is None else tmp_path, text)
    assert found["digest"] == again["digest"]
    gaps = [row["sampled_gap"] for row in found["answer"]]
    assert all(gap is None or 0 <= gap < 1 for gap in gaps)
    assert any(gap is not None for gap in gaps)
    assert (Path(found["run"]) / "optuna.journal").stat().st_size > 1000


def test_optuna_drives_outer_variables(tmp_path: Path) -> None:
    """Trials over sizes and a machine parameter leave rows, a journal, and a front of the objectives."""
    text = STUDY.replace("chips = [32, 64]\n", "") + OUTER
    text = text.replace('[[designs]]\nlabel = "GB200"\nsystem = "gb200-nvl72"\n', "")
    found = run(tmp_path, text)
    rows = found["answer"]
    assert rows
    assert {row["trial"] for row in rows} <= set(range(6))
    assert all(8 <= row["chips"] <= 64 for row in rows)
    by_power = sorted(rows, key=lambda row: row["power_w"])
    assert [row["tokens_per_s"] for row in by_power] == sorted(row["tokens_per_s"] for row in rows)
    import optuna

    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(f"{found['run']}/optuna.journal")
    )
    (summary,) = optuna.get_all_study_summaries(storage)
    assert summary.n_trials == 6


def test_a_rumoured_machine_shows_its_band(tmp_path: Path) -> None:
    """A machine that rests on rumour is marked, and solved at both ends of its ranges."""
    text = STUDY.replace('"GB200"', '"910D"').replace("gb200-nvl72", "atlas-910d-supernode")
    found = run(tmp_path, text.replace("chips = [32, 64]", "chips = [384]\ncorners = true"))
    row = next(row for row in found["answer"] if row["design"] == "910D")
    assert row["scenario"]
    assert row["tokens_per_s_low"] < row["tokens_per_s"] < row["tokens_per_s_high"]
    assert row["tokens_per_s_low"] < row["tokens_per_s_p10"] < row["tokens_per_s_p90"] < row["tokens_per_s_high"]
    shown = sweep("run", tmp_path / "study.toml", "--out", tmp_path / "runs").stdout
    assert "910D (rumour)" in shown


def test_chips_for_equal_throughput_are_interpolated(tmp_path: Path) -> None:
    """The reference needs its own size; a faster machine needs fewer chips, and less than its smallest is said so."""
    rows = run(tmp_path)["answer"]
    own = [row for row in rows if row["design"] == "H20"]
    assert [row["chips_equal_throughput"] for row in own] == pytest.approx([32, 64])
    other = next(row for row in rows if row["design"] == "GB200")
    assert other["chips_equal_throughput"] is None
    assert other["chips_equal_throughput_text"] == "< 72"


def test_nothing_feasible_ends_with_code_3_and_a_reason(tmp_path: Path) -> None:
    """A model that fits nowhere gives exit code 3, the rule that blocks and by how much."""
    file = tmp_path / "study.toml"
    file.write_text(
        STUDY.replace("llama-3-8b", "llama-3.1-405b")
        .replace("[32, 64]", "[8]")
        .split('[[designs]]\nlabel = "GB200"')[0]
    )
    done = sweep("run", file, "--out", tmp_path / "runs", "--workers", 0)
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
    assert "hbm bytes" in done.stderr
    assert "over" in done.stderr


def test_a_plan_counts_what_a_run_searches(tmp_path: Path) -> None:
    """`sweep plan` starts nothing, and its legal and dropped layouts add up."""
    file = tmp_path / "study.toml"
    file.write_text(STUDY)
    planned = json.loads(sweep("plan", file, "--json").stdout)
    assert planned["cases"] == 3
    assert planned["layouts"] + sum(planned["dropped"].values()) == planned["combinations"]
    assert not (tmp_path / "runs").exists()
    shown = sweep("plan", file).stdout
    assert "legal layouts" in shown
    assert "tp divides the attention heads" in shown or "dropped by" in shown


def test_help_comes_at_once() -> None:
    """`sweep --help` imports no command: the modules it loads are few."""
    code = "import sys; from sweep.cli import application; application(); print(sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for heavy in ("numpy", "ray", "optuna", "pandas", "pyarrow", "pydantic"):
        assert f"'{heavy}'" not in loaded


def test_a_row_says_all_that_its_numbers_need(tmp_path: Path) -> None:
    """The cost model, asked about a row's machine, workload and layout, gives the row's numbers: changes included."""
    from model.layout import (
        CONTEXT_EXCHANGES,
        OFFLOADS,
        OVERLAPS,
        RANK_ORDERS,
        RECOMPUTE_MODULES,
        SCHEDULES,
        SHORT,
        Layout,
        mask_of,
    )
    from model.step import training_step
    from model.workload import Training
    from sweep import catalogue
    from sweep.designs import machine_of_row
    from sweep.store import read_row

    text = STUDY.replace('"hgx-h20"', '"hgx-h20"\npower_cap = "300 W"\nchange = { "chip.hbm_bandwidth" = "5 TB/s" }')
    text = text.replace("gb200-nvl72", "atlas-920-supernode")
    found = run(tmp_path, text.replace("[32, 64]", "[32, 384]\ncorners = true"))
    words = {"schedule": SCHEDULES, "cp_exchange": CONTEXT_EXCHANGES, "rank_order": RANK_ORDERS}
    masks = {"recompute": RECOMPUTE_MODULES, "overlap_off": OVERLAPS, "offload": OFFLOADS}
    corners = set()
    for number in range(duckdb.sql(f"SELECT count(*) FROM '{found['run']}/designs/*.parquet'").fetchall()[0][0]):
        row = read_row(Path(found["run"]), number)
        corners.add(row["corner"])
        codes = {name: known.index(row[name]) for name, known in words.items()}
        codes |= {name: mask_of(row[name].split("+"), known, name) for name, known in masks.items()}
        layout = Layout(**{long: codes.get(short, row[short]) for long, short in SHORT.items()})
        shape = catalogue.architecture(row["model"])
        work = Training(shape, row["sequence"], row["number_format"], row["expert_imbalance"])
        cost = training_step(machine_of_row(row), catalogue.stack(row["stack"]), work, layout)
        assert float(cost.step_time) == row["step_time_s"]
        assert float(cost.energy.total) == pytest.approx(
            sum(v for k, v in row.items() if k.startswith("energy_") and k.endswith("_j") and k != "energy_per_token_j")
        )
    assert corners == {"nominal", "low", "high"}
    answered = {row["row"]: row for row in found["answer"]}
    for number, row in answered.items():
        assert read_row(Path(found["run"]), number)["layout_id"] == row["layout_id"]


def test_one_query_reads_the_runs_of_all_studies(tmp_path: Path) -> None:
    """Data sets of studies with different limits have the same columns."""
    run(tmp_path)
    run(tmp_path, STUDY + '[constraints]\nhbm_used_bytes = "<= 70 GB"\n')
    columns = {part: pq.read_schema(part).names for part in (tmp_path / "runs").glob("*/designs/*.parquet")}
    assert len({tuple(names) for names in columns.values()}) == 1
    limit = "max(violation_limit_hbm_used_bytes), count(violation_limit_hbm_used_bytes), count(*)"
    most, limited, rows = duckdb.sql(f"SELECT {limit} FROM '{tmp_path}/runs/*/designs/*.parquet'").fetchall()[0]
    assert most <= 0
    assert 0 < limited < rows
