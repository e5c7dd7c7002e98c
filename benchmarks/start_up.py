"""How long `sweep --help` takes beside an interpreter that does nothing."""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
from collections.abc import Iterator
from time import perf_counter

from benchmarks.measurement import Measurement

ROUNDS = 9
HELP = (sys.executable, "-c", "import sys; from sweep.cli import main; sys.exit(main())", "--help")
NOTHING = (sys.executable, "-c", "pass")


def measurements() -> Iterator[Measurement]:
    """Median wall and CPU seconds of the two, run in turn."""
    runs = [(_seconds(HELP), _seconds(NOTHING)) for _ in range(ROUNDS)]
    for kind, name in enumerate(("wall", "cpu")):
        help_s, nothing_s = (statistics.median(pair[which][kind] for pair in runs) for which in (0, 1))
        yield Measurement(f"start_up.help_{name}", help_s, "s", nothing_s)


def _seconds(command: tuple[str, ...]) -> tuple[float, float]:
    """Wall and CPU seconds of a command."""
    start, before = perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    wall, after = perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
