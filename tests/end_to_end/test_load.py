"""Runs as one table."""

from __future__ import annotations

from pathlib import Path

import pytest

import sweep
from sweep.cli import main
from sweep.errors import InputError

STUDY = Path(__file__).resolve().parents[2] / "studies" / "first_study.toml"


def test_runs_load_as_one_table(tmp_path: Path) -> None:
    """All rows of all runs that a pattern matches come as one table that names their run."""
    with pytest.raises(SystemExit) as ended:
        main(["run", str(STUDY), "--workers", "0", "--out", str(tmp_path)])
    assert ended.value.code == 0
    table = sweep.load(tmp_path / "*")
    assert set(table.design) == {"H100 nodes", "GB200 NVL72"}
    assert table.run.nunique() == 1
    assert (table.step_time_s > 0).all()


def test_a_pattern_without_runs_is_told(tmp_path: Path) -> None:
    """A pattern that matches nothing is an input error that names it."""
    with pytest.raises(InputError, match="matches no run"):
        sweep.load(tmp_path / "nothing*")
