"""Run the benchmarks, all or those whose names are given: one JSON object a line on standard output."""

from __future__ import annotations

import os
import sys
from importlib import import_module

from benchmarks.measurement import Measurement

BENCHMARKS = (
    "start_up", "evaluation", "all_rows", "exact_search", "serving_search", "optuna_search", "scaling", "driver_load",
    "network_cut", "uncertainty", "headline_study",
)  # fmt: skip
# One thread, and freed memory kept by the process: a block's temporaries are then reused, not mapped afresh each time.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MALLOC_TRIM_THRESHOLD_": "1073741824",
    "MALLOC_MMAP_THRESHOLD_": "1073741824",
}


def main(names: list[str]) -> int:
    """Print every measurement as it is made; a benchmark that cannot run says why and the next one goes on."""
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        print(f"no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    for name in names or BENCHMARKS:
        try:
            for measurement in import_module(f"benchmarks.{name}").measurements():
                print(measurement.line(), flush=True)
        except Exception as failure:  # the others still run
            print(Measurement(name, None, "", reason=f"{type(failure).__name__}: {failure}").line(), flush=True)
    return 0


if __name__ == "__main__":
    if any(os.environ.get(name) != value for name, value in ENVIRONMENT.items()):
        # The allocator and numpy read these when a process starts.
        os.execve(sys.executable, [sys.executable, "-m", "benchmarks", *sys.argv[1:]], os.environ | ENVIRONMENT)
    sys.exit(main(sys.argv[1:]))
