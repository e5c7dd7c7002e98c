"""`sweep dashboard`: the trials of a run in optuna-dashboard, reached from this machine alone."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

COMMAND = (sys.executable, "-m", "sweep.cli", "dashboard")


def fetched(url: str) -> str:
    """A page of a server on this machine."""
    with urllib.request.urlopen(url, timeout=60) as answer:
        text: str = answer.read().decode()
    return text


@pytest.mark.parametrize("given", ["run", "storage"])
def test_it_shows_the_trials_of_a_run(given: str, runs: Any) -> None:
    """On a free port of the loopback: the page, and the trials of each design."""
    pytest.importorskip("optuna_dashboard")
    run = runs["varied"]
    where = [str(run)] if given == "run" else ["--storage", str(run / "optuna.journal")]
    before = (run / "optuna.journal").read_bytes()
    with subprocess.Popen([*COMMAND, *where, "--port", "0", "--json"], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            url = json.loads(server.stdout.readline())["url"]
            assert url.startswith("http://127.0.0.1:")
            assert "Optuna Dashboard" in fetched(f"{url}dashboard")
            studies = json.loads(fetched(f"{url}api/studies"))["study_summaries"]
            assert sorted(one["study_name"] for one in studies) == [
                f"{run.name} GB200 llama-3-8b bf16", f"{run.name} H20 llama-3-8b bf16",
            ]  # fmt: skip
            trials = json.loads(fetched(f"{url}api/studies/{studies[0]['study_id']}"))["trials"]
            assert trials[0]["values"]
        finally:
            server.terminate()
            assert server.wait(30) == 0
    assert (run / "optuna.journal").read_bytes() == before


def refused(*arguments: str, python: Sequence[str] = COMMAND) -> str:
    """What is said where it cannot begin."""
    done = subprocess.run([*python, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_run_without_trials_is_told(runs: Any) -> None:
    """Nothing to show, no folder at all, or both given."""
    assert "the run has no trials of Optuna" in refused(str(runs["nothing"]))
    assert "not the folder of a run" in refused("nowhere")
    assert "needs either the folder of a run or --storage" in refused()


def test_a_missing_package_is_told_with_the_command_that_installs_it(runs: Any, tmp_path: Path) -> None:
    """It is optional: without it, one line says how to get it."""
    (tmp_path / "optuna_dashboard.py").write_text("raise ImportError\n")
    start = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from sweep.cli import main; main()"
    told = refused("dashboard", str(runs["varied"]), python=(sys.executable, "-c", start))
    assert 'pip install "matrixsweep[dashboard]"' in told


def test_a_port_in_use_is_told(runs: Any) -> None:
    """Another port is the remedy."""
    import socket

    pytest.importorskip("optuna_dashboard")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        told = refused(str(runs["varied"]), "--port", str(taken.getsockname()[1]))
    assert "cannot listen there" in told
