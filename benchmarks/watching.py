"""Runs `sweep run` as a user does, and watches the memory of all its processes.

The driver and its children are watched through /proc while they run: the kernel keeps each process's peak of resident
memory (VmHWM), of which the last value seen counts.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

COMMAND = "import sys; from sweep.cli import main; sys.exit(main())"
LONGEST_S = 1800.0
INTERVAL_S = 0.1
LIMIT = float(1 << 30)  # bytes of any one process


@dataclass(frozen=True, slots=True)
class Watched:
    """A run: what it printed, how long it took, and the largest peaks of memory in bytes."""

    answer: dict[str, Any]
    seconds: float
    driver_peak: float
    worker_peak: float
    other_peak: float  # services of Ray


def watched_run(study: Path, workers: int) -> Watched:
    """Run a study from an empty folder. Raises RuntimeError with the last line that a failed run said."""
    with tempfile.TemporaryDirectory(prefix="sw", dir="/tmp") as folder:
        printed, said = Path(folder, "printed"), Path(folder, "said")  # files: a full pipe would stop the run
        arguments = ["run", str(study), "--out", str(Path(folder, "runs")), "--workers", str(workers), "--json"]
        with printed.open("wb") as output, said.open("wb") as progress:
            start = perf_counter()
            run = subprocess.Popen([sys.executable, "-c", COMMAND, *arguments], stdout=output, stderr=progress)
            peaks = _watch(run, start)
            seconds = perf_counter() - start
        if run.returncode:
            raise RuntimeError((said.read_text().strip().splitlines() or [f"exit code {run.returncode}"])[-1])
        answer = json.loads(printed.read_text())
    workers_peaks = [peak for name, peak in peaks.values() if name.startswith("ray::")]
    services = [peak for pid, (name, peak) in peaks.items() if pid != run.pid and not name.startswith("ray::")]
    return Watched(answer, seconds, peaks[run.pid][1], max(workers_peaks, default=0.0), max(services, default=0.0))


def _watch(run: subprocess.Popen[bytes], start: float) -> dict[int, tuple[str, float]]:
    """Process -> its name and its peak, of the run and all its descendants, sampled until the run ends."""
    peaks: dict[int, tuple[str, float]] = {}
    while run.poll() is None:
        if perf_counter() - start > LONGEST_S:
            run.terminate()
            run.wait()
            raise TimeoutError(f"the study took more than {LONGEST_S:.0f} s")
        for pid in _family(run.pid, set(peaks)):
            try:
                name, peak = _peak(pid)
            except (OSError, KeyError):  # gone meanwhile
                continue
            known_name, known = peaks.get(pid, ("", 0.0))
            # A worker of Ray calls itself ray::IDLE between tasks and ray::<task> in one; a service has a plain name.
            peaks[pid] = (known_name if known_name.startswith("ray::") else name, max(peak, known))
        sleep(INTERVAL_S)
    return peaks


def _family(root: int, known: set[int]) -> set[int]:
    """The process and its descendants; once seen, a process stays in although its parent may have ended."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    family = {root} | (known & parents.keys())
    while True:
        more = {pid for pid, parent in parents.items() if parent in family} - family
        if not more:
            return family
        family |= more


def _peak(pid: int) -> tuple[str, float]:
    """Command line (its first word) and peak resident bytes of a process."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    return words[0], float(status["VmHWM"].split()[0]) * 1024
