"""Wall time and peak memory of the headline study, run from an empty folder as a user runs it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measurement import Measurement
from benchmarks.watching import LIMIT, watched_run

STUDY = Path(__file__).resolve().parents[1] / "studies" / "ascend_generations.toml"


def measurements() -> Iterator[Measurement]:
    """The study's wall seconds, and the peak of the driver and of the largest worker."""
    found = watched_run(STUDY, os.cpu_count() or 1)
    yield Measurement("headline_study.wall", found.seconds, "s")
    yield Measurement("headline_study.wall_per_answer", found.seconds / max(len(found.answer["answer"]), 1), "s")
    yield Measurement("headline_study.driver_peak", found.driver_peak, "byte", LIMIT)
    yield Measurement("headline_study.worker_peak", found.worker_peak, "byte", LIMIT)
    yield Measurement("headline_study.largest_other_process_peak", found.other_peak, "byte", LIMIT)
