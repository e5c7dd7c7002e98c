"""Trials in an Optuna storage of the user's: a file, a gRPC proxy, PostgreSQL; each a real one, in its own process."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sweep import scheduler
from sweep.cli import main
from sweep.mirror import close_storage, open_storage
from sweep.running import Finished, run_study
from sweep.study import parse
from sweep.trials import quiet

STUDY = """
name = "stored"
question = "Do trials arrive?"
chips = [16, 32]
[[workloads]]
model = "llama-3-8b"
sequence = "8192 token"
batch = 64
[[designs]]
system = "dgx-h100"
[layout]
context_parallel = [1, 2]
[search]
method = "optuna"
sampler = "random"
trials = 12
generation = 5
baselines = ["tp=8,mbs=1"]
"""
OUTER = (
    STUDY.partition("[search]")[0].replace("chips = [16, 32]\n", "")
    + """
[outer]
trials = 6
generation = 3
sampler = "random"
[outer.variables]
chips = [8, 16, 32]
"""
)
CASES, TRIALS = 2, 12
PASSWORD = "correct-horse"
PROXY = """
import sys
import optuna
storage = optuna.storages.get_storage(sys.argv[2])
optuna.storages.run_grpc_proxy_server(storage, host="127.0.0.1", port=int(sys.argv[1]))
"""


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def stored(url: str) -> dict[str, list[Any]]:
    """Trials of every study of a storage, by the study's name."""
    import optuna

    with quiet():
        storage = open_storage(url)
        try:
            names = optuna.get_all_study_names(storage)
            return {name: optuna.load_study(study_name=name, storage=storage).trials for name in names}
        finally:
            close_storage(storage)


def logged(found: Finished) -> list[list[dict[str, Any]]]:
    """The run's own records of its trials, by case."""
    logs = sorted(Path(found.path.path, "trials").glob("case-*.jsonl"))
    return [[json.loads(line) for line in log.read_text().splitlines()] for log in logs]


def assert_all_are_there(found: Finished, url: str) -> None:
    """The storage says of each case what the run's own log says."""
    studies, logs = stored(url), logged(found)
    assert len(studies) == len(logs) == CASES
    by_size = sorted(studies.items(), key=lambda one: int(one[0].split()[-2]))
    for (name, trials), records in zip(by_size, logs, strict=True):
        assert name.startswith(found.path.name)
        assert [trial.number for trial in trials] == list(range(TRIALS))
        assert [trial.values for trial in trials] == [record["values"] for record in records]
        assert [trial.params for trial in trials] == [record["params"] for record in records]
        assert [trial.user_attrs["source"] for trial in trials] == ["baseline"] + ["sampler"] * (TRIALS - 1)
        assert [trial.constraints for trial in trials] == [record["constraints"] for record in records]


# ------------------------------------------------------------------------------------------------- the storages
@pytest.fixture
def sqlite(tmp_path: Path) -> str:
    """A file of SQLite."""
    return f"sqlite:///{tmp_path}/trials.db"


@pytest.fixture
def journal(tmp_path: Path) -> str:
    """A journal file beside the runs."""
    return str(tmp_path / "all.journal")


def ended(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


@dataclass(frozen=True)
class Proxy:
    """A proxy of Optuna's."""

    process: subprocess.Popen[bytes]
    url: str


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Proxy]:
    """Optuna's proxy, on loopback, in front of a file."""
    pytest.importorskip("grpc", reason="needs grpcio")
    port = free_port()
    words = [sys.executable, "-c", PROXY, str(port), f"sqlite:///{tmp_path}/behind.db"]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while True:
            with closing(socket.socket()) as probe, suppress(OSError):
                probe.connect(("127.0.0.1", port))
                break
            assert process.poll() is None, "the proxy ended"
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield Proxy(process, f"grpc://127.0.0.1:{port}")
    finally:
        ended(process)


@pytest.fixture
def grpc(proxy: Proxy) -> str:
    """The proxy's URL."""
    return proxy.url


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Host and port of a PostgreSQL server that asks the user `sweeper` for the password."""
    pytest.importorskip("psycopg", reason="needs psycopg")
    if not shutil.which("initdb") or not shutil.which("postgres"):
        pytest.skip("PostgreSQL's server is not installed")
    as_root = os.getuid() == 0
    if as_root and not shutil.which("runuser"):
        pytest.skip("PostgreSQL does not run as root, and there is no runuser")
    user = ["runuser", "-u", "nobody", "--"] if as_root else []
    folder = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))
    secret = folder / "password"
    secret.write_text(PASSWORD)
    if as_root:
        for path in (folder, secret):
            shutil.chown(path, "nobody")
    port = free_port()
    data = str(folder / "data")
    subprocess.run(
        [*user, "initdb", "-D", data, "-U", "sweeper", "-A", "scram-sha-256", "--pwfile", str(secret), "--no-sync"],
        check=True, capture_output=True, cwd=folder,
    )  # fmt: skip
    options = f"-h 127.0.0.1 -p {port} -k {folder} -F"
    start = [*user, "pg_ctl", "-D", data, "-w", "-l", str(folder / "log"), "-o", options, "start"]
    subprocess.run(start, check=True, stdout=subprocess.DEVNULL, cwd=folder)
    try:
        yield f"127.0.0.1:{port}"
    finally:
        subprocess.run([*user, "pg_ctl", "-D", data, "-m", "immediate", "stop"], check=True, capture_output=True,
                       cwd=folder)  # fmt: skip
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgresql(server: str) -> str:
    """A database of PostgreSQL, by a URL with a password."""
    return f"postgresql+psycopg://sweeper:{PASSWORD}@{server}/postgres"


# ---------------------------------------------------------------------------------------------------- it arrives
@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Digests of runs without a storage, by the study's text."""
    folder = tmp_path_factory.mktemp("plain")
    return {text: run_study(parse(text), folder, workers=0).digest for text in (STUDY, OUTER)}


@pytest.mark.parametrize("kind", ["sqlite", "journal", "grpc", "postgresql"])
def test_trials_arrive_once(kind: str, tmp_path: Path, plain: dict[str, str], request: pytest.FixtureRequest) -> None:
    """Every trial is in the storage as in the run's own log; the same command again adds none twice."""
    url: str = request.getfixturevalue(kind)
    found = run_study(parse(STUDY), tmp_path / "runs", workers=0, storage=url)
    assert found.digest == plain[STUDY]
    assert_all_are_there(found, url)
    assert not (found.path / "optuna.journal").exists()
    again = run_study(parse(STUDY), tmp_path / "runs", workers=0, storage=url)
    assert not again.fresh
    assert_all_are_there(found, url)


def test_a_finished_run_fills_another_storage(tmp_path: Path, journal: str) -> None:
    """The first storage is gone: a new one has all trials after the same command, without computing anything."""
    found = run_study(parse(STUDY), tmp_path / "runs", workers=0)
    assert not run_study(parse(STUDY), tmp_path / "runs", workers=0, storage=journal).fresh
    assert_all_are_there(found, journal)


def test_outer_trials_arrive_once(tmp_path: Path, journal: str, plain: dict[str, str]) -> None:
    """Trials of variables outside the layout too, with what each case was."""
    for _ in range(2):
        found = run_study(parse(OUTER), tmp_path / "runs", workers=0, storage=journal)
        ((name, trials),) = stored(journal).items()
        assert found.digest == plain[OUTER]
        assert name.startswith(found.path.name)
        assert [trial.user_attrs["case"] for trial in trials] == list(range(6))
        assert all(trial.user_attrs["chips"] == trial.params["chips"] for trial in trials)


# ------------------------------------------------------------------------------------------------- it does not
def refused(tmp_path: Path, url: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What `sweep run` says to a storage before it computes anything."""
    file = tmp_path / "study.toml"
    file.write_text(STUDY)
    with pytest.raises(SystemExit) as end:
        main(["run", str(file), "--out", str(tmp_path / "runs"), "--workers", "0", "--storage", url])
    told = capsys.readouterr()
    assert end.value.code == 2
    assert told.out == ""
    assert not (tmp_path / "runs").exists()
    return told.err


@pytest.mark.parametrize("url", [
    "postgresql+psycopg://sweeper:{password}@127.0.0.1:{port}/postgres", "grpc://127.0.0.1:{port}",
    "sqlite:////nowhere/at/all.db", "carrier-pigeon://coop", "grpc://127.0.0.1",
])  # fmt: skip
def test_a_storage_that_cannot_be_used_is_told_at_once(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One error, exit code 2, no run folder; the password is not in it."""
    told = refused(tmp_path, url.format(port=free_port(), password=PASSWORD), capsys)
    assert "cannot be used" in told
    assert PASSWORD not in told


def test_a_wrong_password_is_told_without_it(tmp_path: Path, server: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The server's own words, in a line."""
    told = refused(tmp_path, f"postgresql+psycopg://sweeper:guessed-wrong@{server}/postgres", capsys)
    assert "password authentication failed" in told
    assert "guessed-wrong" not in told


def test_a_password_is_nowhere(tmp_path: Path, postgresql: str) -> None:
    """Neither in what a process prints nor in any file of the run."""
    (tmp_path / "study.toml").write_text(STUDY)
    words = ["run", "study.toml", "--workers", "0", "--storage", postgresql]
    done = subprocess.run(
        [sys.executable, "-m", "sweep.cli", *words],
        capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert PASSWORD not in done.stdout + done.stderr
    files = [file for file in (tmp_path / "runs").rglob("*") if file.is_file()]
    assert len(files) > CASES
    assert not [file for file in files if PASSWORD.encode() in file.read_bytes()]


def test_a_storage_that_dies_costs_no_row(
    tmp_path: Path, proxy: Proxy, plain: dict[str, str], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """The proxy is killed in the second generation: it is told once, and the rows are those of an undisturbed run."""
    real, calls = scheduler.run_case, []

    def counted(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 5:
            ended(proxy.process)
        return real(*arguments)

    monkeypatch.setattr(scheduler, "run_case", counted)
    found = run_study(parse(OUTER), tmp_path / "runs", workers=0, storage=proxy.url)
    assert found.digest == plain[OUTER]
    assert capsys.readouterr().err.count("the storage of the trials is lost") == 1
