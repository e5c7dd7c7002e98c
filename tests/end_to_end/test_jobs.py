"""A study as a Ray job: the driver runs on the cluster."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from sweep.running import run_study
from sweep.study import parse
from tests.end_to_end.hosts import done_cases, text, wait_until

RAY = [sys.executable, "-m", "ray.scripts.scripts"]
SWEEP = [sys.executable, "-m", "sweep.cli"]
ENVIRONMENT = {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": "c0de" * 16,
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
}


def free_port() -> str:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return str(one.getsockname()[1])


@pytest.fixture
def jobs() -> Iterator[str]:
    """Address of the job server of a cluster on loopback."""
    if find_spec("aiohttp") is None or find_spec("opencensus") is None:
        pytest.skip('Ray takes jobs only if installed as "ray[default]"')
    folder, ports = tempfile.mkdtemp(prefix="sw", dir="/tmp"), (free_port(), free_port())
    options = ["--head", "--block", "--node-ip-address", "127.0.0.1", "--port", ports[0], "--num-cpus", "2"]
    options += ["--dashboard-host", "127.0.0.1", "--dashboard-port", ports[1], "--temp-dir", folder]
    with Path(folder, "log").open("w") as log:
        head = subprocess.Popen(
            [*RAY, "start", *options, "--object-store-memory", str(80 << 20)],
            env=os.environ | ENVIRONMENT, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    address = f"http://127.0.0.1:{ports[1]}"
    try:
        wait_until(lambda: ray("list", address, check=False).returncode == 0, 60, "the job server does not start")
        yield address
    finally:
        head.send_signal(signal.SIGTERM)
        try:
            head.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(head.pid, signal.SIGKILL)
            head.wait()
        shutil.rmtree(folder, ignore_errors=True)


def ray(verb: str, address: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*RAY, "job", verb, "--address", address, *arguments],
        capture_output=True, text=True, check=check, env=os.environ | ENVIRONMENT, timeout=120,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_a_job_is_stopped_and_goes_on_as_another(jobs: str, tmp_path: Path) -> None:
    """Sent with its study, stopped in the middle, sent again with a setting of its own: the rows of one process."""
    (tmp_path / "sent").mkdir()
    (tmp_path / "sent" / "study.toml").write_text(text(40))
    out = tmp_path / "out"
    command = ["--", *SWEEP, "run", "study.toml", "--address", "auto", "--out", str(out)]
    sent = ("--working-dir", str(tmp_path / "sent"))
    ray("submit", jobs, "--no-wait", "--submission-id", "first", *sent, *command)
    wait_until(lambda: done_cases(out) > 3, 90, "no case ends")
    ray("stop", jobs, "first")
    done = done_cases(out)
    assert done < 120
    assert "stopped; what is done is kept" in ray("logs", jobs, "first").stdout
    time.sleep(1.0)
    own = ("--runtime-env-json", '{"env_vars": {"OMP_NUM_THREADS": "2"}}')
    printed = ray("submit", jobs, *sent, *own, *command).stdout
    alone = run_study(parse(text(40)), tmp_path / "alone", workers=0)
    assert f"digest {alone.digest[:16]}" in printed
    assert done_cases(out) == 120
