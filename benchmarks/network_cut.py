"""How long a run stands still when one of two hosts is cut off: no process of it ends, and nobody hears of it.

The hosts are network namespaces, which take root. The reference is the minute after which Ray itself declares such a
host dead; tasks that the host was running do not come back even then, until the scheduler starts them elsewhere.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp
from threading import Thread
from time import perf_counter, sleep

from benchmarks.measurement import Measurement
from sweep.running import run_study
from sweep.study import parse
from tests.end_to_end.hosts import Hosts, done_cases, text, wait_until

RAY_SEES_IT_S = 64.0
LONGEST_S = 400.0
DESIGNS = 30


def measurements() -> Iterator[Measurement]:
    """Seconds from the cut to the next case that is done, other than those just under way, and to the end."""
    if os.geteuid() or shutil.which("ip") is None:
        yield Measurement("network_cut", None, "s", reason="needs root and the command ip (iproute2)")
        return
    hosts = Hosts(Path(mkdtemp(prefix="sw", dir="/tmp")))
    try:
        hosts.wire()
        hosts.start()
        out = hosts.folder / "runs"
        run = hosts.run(text(DESIGNS), out)
        output: list[str] = []
        reader = Thread(target=lambda: output.append(run.stdout.read() if run.stdout else ""))
        reader.start()
        wait_until(lambda: done_cases(out) >= 10, 60, "no case ends")
        hosts.cut(2)
        longest, whole = _standstill(run, out)
        reader.join(30)
        alone = run_study(parse(text(DESIGNS)), hosts.folder / "alone", workers=0)
        same = json.loads(output[0])["digest"] == alone.digest
        reason = "" if same else "other rows than without the cut"
        yield Measurement("network_cut.longest_standstill", longest, "s", RAY_SEES_IT_S, reason)
        yield Measurement("network_cut.rest_of_the_run", whole, "s", RAY_SEES_IT_S, reason)
    finally:
        hosts.remove()
        shutil.rmtree(hosts.folder, ignore_errors=True)


def _standstill(run: subprocess.Popen[str], out: Path) -> tuple[float, float]:
    """The longest time without another case, and the time to the end."""
    cut = moved = perf_counter()
    longest, done = 0.0, done_cases(out)
    while run.poll() is None and perf_counter() - cut < LONGEST_S:
        sleep(0.1)
        if done_cases(out) > done:
            done, moved = done_cases(out), perf_counter()
        longest = max(longest, perf_counter() - moved)
    return longest, perf_counter() - cut
