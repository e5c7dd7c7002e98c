"""A run on several hosts gives the rows of a run in one process, whatever happens to the hosts."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sweep.running import run_study
from sweep.study import parse
from tests.end_to_end.hosts import Hosts, done_cases, text, wait_until


def printed(process: subprocess.Popen[str], limit_s: float, hosts: Hosts) -> dict[str, Any]:
    output, _ = process.communicate(timeout=limit_s)
    assert process.returncode == 0, (hosts.folder / "host0.log").read_text()[-3000:]
    found: dict[str, Any] = json.loads(output)
    return found


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    if os.geteuid() or shutil.which("ip") is None:
        pytest.skip("needs root and the command ip (iproute2) to make network namespaces")
    made = Hosts(Path(tempfile.mkdtemp(prefix="sw", dir="/tmp")))
    try:
        try:
            made.wire()
        except subprocess.CalledProcessError as failure:
            pytest.skip(f"network namespaces cannot be made here: {failure.stderr or failure}")
        yield made
    finally:
        made.remove()
        shutil.rmtree(made.folder, ignore_errors=True)


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_hosts_give_the_rows_of_one_process_even_if_one_dies(hosts: Hosts, tmp_path: Path) -> None:
    """Two hosts share a run, and one of them dies in the middle of the next: the digests are those of one process."""
    study = text(12)
    hosts.start()
    found = printed(hosts.run(study, tmp_path / "whole"), 60, hosts)
    assert len(hosts.workers()) == 2
    process = hosts.run(study, tmp_path / "hit")
    wait_until(lambda: done_cases(tmp_path / "hit") >= 10, 60, "no case ends")
    hosts.kill(2)
    done = done_cases(tmp_path / "hit")
    again = printed(process, 120, hosts)
    assert done < done_cases(tmp_path / "hit") == 36
    assert found["digest"] == again["digest"] == run_study(parse(study), tmp_path / "alone", workers=0).digest


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_a_cluster_that_can_grow_is_asked_to_and_let_shrink_again(hosts: Hosts, tmp_path: Path) -> None:
    """From no CPU, for the two that --max-workers allows of four that there could be; afterwards nothing is asked."""
    hosts.start_growing(most=4)
    study = text(4)
    found = printed(hosts.run(study, tmp_path / "grown", "--max-workers", 2), 90, hosts)
    assert found["digest"] == run_study(parse(study), tmp_path / "alone", workers=0).digest
    (log,) = hosts.folder.glob("0/session_2*/logs/monitor.log")
    wait_until(
        lambda: log.read_text().rpartition("From request_resources:\n")[2].startswith(" (none)"), 20, "still asked"
    )
    said = log.read_text()
    assert "{'CPU': 1}: 2 from request_resources()" in said
    assert all(f"{{'CPU': 1}}: {n} from request_resources()" not in said for n in (3, 4))
