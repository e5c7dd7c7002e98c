"""How fast every row of a search is stored: from numpy columns to a part on disk, and a whole study on two workers.

The plain way, which the ratios compare with, is what pyarrow does when nothing is said: the same number of columns of
64-bit floats with the same values, written with its default settings and forced to disk. A task, which also evaluates,
is compared with the same task that keeps the best row alone; a study on two workers, by the wall, with as many cores
that have nothing else to do.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from time import perf_counter, process_time

import numpy as np

from benchmarks.measurement import Measurement
from sweep import store
from sweep.blocks import Task, solve
from sweep.cases import Case, Question, cases, records
from sweep.columns import TRAINING
from sweep.keep import Columns
from sweep.kinds import STORED_TASK
from sweep.search import search_range
from sweep.study import parse

COMMAND = "import sys; from sweep.cli import main; sys.exit(main())"
STUDY = """
question = "How fast are all rows stored?"
chips = {chips}
[[workloads]]
model = "deepseek-v3"
sequence = "4096 token"
batch = 15360
[[designs]]
system = "dgx-h800"
[search]
rows = "{rows}"
prune = false
"""
PART_ROWS = 1e6  # rows a second and core, from columns to disk
STUDY_ROWS = 1e6  # rows a second on two workers, evaluated and stored
WORKERS = 2
REPEATS = 5
LONGEST_S = 900.0


def measurements() -> Iterator[Measurement]:
    """Rows a second and bytes a row of parts, of the digest, and of a whole study."""
    with tempfile.TemporaryDirectory() as folder:
        question, case, found = _rows()
        yield from _parts(Path(folder), question, case, found)
        a_core, alone = (_task(Path(folder), question, case, rows) for rows in ("all", "best"))
        yield Measurement("all_rows.task.rows_per_cpu_second", a_core, "row/s", STUDY_ROWS / WORKERS)
        yield Measurement("all_rows.task.over_evaluation_alone", a_core, "row/s", alone)
        yield from _study(Path(folder), a_core)


def _parts(folder: Path, question: Question, case: Case, found: Columns) -> Iterator[Measurement]:
    """Rows a second to disk and back into a digest, and bytes a row."""
    size = len(found["layout_id"])
    part, plain = folder / "designs" / store.part_name(case), folder / "plain.parquet"
    part.parent.mkdir()
    stored = size / _least(lambda: store.write_part(part, question, case, found))
    by_default = size / _least(lambda: _plainly(found, plain))
    yield Measurement("all_rows.part.rows_per_cpu_second", stored, "row/s", PART_ROWS)
    yield Measurement("all_rows.part.over_plain_floats", stored, "row/s", by_default)
    yield Measurement("all_rows.part.bytes_per_row", part.stat().st_size / size, "byte", plain.stat().st_size / size)
    digested = size / _least(lambda: store.digest(folder))
    read = size / _least(lambda: _read(part))
    yield Measurement("all_rows.digest.rows_per_cpu_second", digested, "row/s", read)


def _task(folder: Path, question: Question, case: Case, rows: str) -> float:
    """Layouts a CPU second of one task: listed, evaluated, and those to keep stored."""
    asked = replace(question, search=replace(question.search, rows=rows))
    task = Task(asked, case, 0, STORED_TASK, store.place(folder / "piece.parquet"))
    return int(solve(task)["layouts"]) / _least(lambda: solve(task))


def _rows() -> tuple[Question, Case, Columns]:
    """The rows of one task, as a search has them."""
    study = parse(STUDY.format(chips=[4096], rows="all"))
    case = cases(study)[0][0]
    question = Question(study.axes, study.search, study.constraints, study.seed)
    found, _ = search_range(question, records(question, case), 0, STORED_TASK)
    assert found is not None, "every row is kept"
    return question, case, found


def _plainly(found: Columns, file: Path) -> None:
    """As many columns as a part has, as floats, with pyarrow's defaults."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {name: pa.array(np.asarray(values).astype(np.float64)) for name, values in found.items()}
    size = len(found["layout_id"])
    others = {*TRAINING.identity, *TRAINING.limits} - set(columns)
    columns |= {name: pa.array(np.zeros(size)) for name in others}
    with file.open("wb") as target:
        pq.write_table(pa.table(columns), target)
        target.flush()
        os.fsync(target.fileno())


def _read(part: Path) -> None:
    import pyarrow.parquet as pq

    pq.read_table(part)


def _least(work: Callable[[], object]) -> float:
    """CPU seconds of the quickest of several repeats, the first of which warms up."""
    work()
    taken = []
    for _ in range(REPEATS):
        start = process_time()
        work()
        taken.append(process_time() - start)
    return min(taken)


def _study(folder: Path, a_core: float) -> Iterator[Measurement]:
    """Rows a second of a study on two workers: from its first part to its last, and from command to answer."""
    file, out = folder / "study.toml", folder / "study"
    file.write_text(STUDY.format(chips=[2048, 4096], rows="all"))
    arguments = ["run", str(file), "--workers", str(WORKERS), "--out", str(out)]
    start = perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, *arguments], capture_output=True, text=True, timeout=LONGEST_S, check=False
    )
    seconds = perf_counter() - start
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1])
    parts = sorted((part.stat().st_mtime, store.rows_in(part)) for part in out.glob("*/designs/*.parquet"))
    rows = [size for _, size in parts]
    stored = sum(rows[1:]) / (parts[-1][0] - parts[0][0])
    yield Measurement("all_rows.study.rows_per_second", stored, "row/s", STUDY_ROWS)
    yield Measurement("all_rows.study.over_cores_alone", stored, "row/s", WORKERS * a_core)
    yield Measurement("all_rows.study.command_to_answer", sum(rows) / seconds, "row/s", STUDY_ROWS)
