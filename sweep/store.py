"""The run folder: Parquet parts, the manifest of what is done, and the digest of all rows.

    runs/<study>-<hash>/
        study.toml        the study as run
        catalogue/        the catalogue entries it used
        designs/          the data set: part files, one wide row a design
        manifest.jsonl    one line for every task that is done; a torn last line is dropped
        run.json          what the hash was made of

A part is written to a temporary name that readers of the data set ignore, forced to disk, and renamed; it counts once
its manifest line is on disk too. So a run can be killed at any moment, and the same command continues it. Nothing that
depends on the time, the host or the order of the tasks goes into the data set.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np

from sweep.cases import Case, Question, identity
from sweep.columns import IDENTITY_MEANINGS, LAYOUT_COLUMNS, LIMIT_COLUMNS, PART_COLUMNS, QUANTITIES, describe
from sweep.errors import problem
from sweep.manifest import sound

if TYPE_CHECKING:
    import pyarrow as pa

    from sweep.keep import Columns

_SMALL = {"case", "trial", "sequence", "chips", "chips_asked", "ranks", *LAYOUT_COLUMNS}
# In every data set, empty where a study sets no limit, so that one query reads the runs of all studies.
_ORDER = (*IDENTITY_MEANINGS, *LAYOUT_COLUMNS, *QUANTITIES, "bound_by", *PART_COLUMNS, "feasible", *LIMIT_COLUMNS)


# ------------------------------------------------------------------------------------------------------- parts
def part_name(case: Case, first: int | None = None) -> str:
    """File of a case's rows, or of those from grid point `first` on. Names sort in the order of the rows."""
    tail = "" if first is None else f"-{first:010d}"
    return f"case-{case.index:06d}{tail}.parquet"


def write_part(path: Path, question: Question, case: Case, found: Columns | None) -> int:
    """Write rows as a part of the data set, wholly or not at all, and return their number."""
    if found is None:
        return 0
    import pyarrow.parquet as pq

    rows = table(question, case, found)
    temporary = path.with_name(f"_{path.name}-{uuid4().hex}")
    texts = [field.name for field in rows.schema if str(field.type).startswith(("int", "dictionary"))]
    with temporary.open("wb") as file:
        pq.write_table(rows, file, compression="zstd", compression_level=1, use_dictionary=texts)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)
    return int(rows.num_rows)


def table(question: Question, case: Case, found: Columns) -> pa.Table:
    """Rows as an Arrow table: columns in their fixed order, units and meanings in the fields' metadata."""
    import pyarrow as pa

    size = len(found["layout_id"])
    columns: dict[str, Any] = {name: np.full(size, value) for name, value in identity(case).items()}
    columns |= found
    columns |= {name: None for name in LIMIT_COLUMNS if name not in columns}
    order = [name for name in _ORDER if name in columns]
    order += [name for name in columns if name not in order]
    fields, arrays = [], []
    for name in order:
        values = columns[name]
        array = pa.nulls(size, pa.float64()) if values is None else _arrow(name, values)
        unit, meaning = describe(name)
        may_lack = name in LIMIT_COLUMNS
        fields.append(pa.field(name, array.type, nullable=may_lack, metadata={"unit": unit, "meaning": meaning}))
        arrays.append(array)
    metadata = dict(question.metadata)
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields, metadata=metadata))


def _arrow(name: str, values: Any) -> pa.Array:
    import pyarrow as pa

    values = np.asarray(values)
    if values.dtype.kind in "OU":
        return pa.array([str(value) for value in values], pa.string()).dictionary_encode()
    if values.dtype.kind == "b":
        return pa.array(values, pa.bool_())
    if values.dtype.kind in "iu" or name in _SMALL:
        return pa.array(values.astype(np.int32 if name in _SMALL else np.int64))
    return pa.array(values.astype(np.float64))


def read_part(path: Path) -> Columns | None:
    """The columns of a part that a search can go on with; None where it was never written."""
    import pyarrow.parquet as pq

    if not path.exists():
        return None
    rows = pq.read_table(path)
    shared = set(IDENTITY_MEANINGS) - {"layout_id"}
    empty = {name for name in LIMIT_COLUMNS if rows.column(name).null_count}
    return {name: _numpy(rows.column(name)) for name in rows.column_names if name not in shared | empty}


def _numpy(column: Any) -> Any:
    return np.asarray(column.to_pylist(), dtype=object) if "dictionary" in str(column.type) else column.to_numpy()


def sync_folder(folder: Path) -> None:
    """Force a folder's names to disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# -------------------------------------------------------------------------------------------------- the folder
class RunFolder:
    """A run folder that this process writes: no other may at the same time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.designs = path / "designs"
        self.candidates = path / "_candidates"  # rows of unfinished cases
        self.manifest = path / "manifest.jsonl"
        self._lock: IO[str] | None = None
        self._log: IO[str] | None = None

    def open(self, study_text: str, facts: Mapping[str, Any], entries: Mapping[str, str]) -> None:
        """Create the folder, or take it up again where it was left."""
        for folder in (self.designs, self.candidates, self.path / "catalogue"):
            folder.mkdir(parents=True, exist_ok=True)
        self._lock = (self.path / ".lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise problem(self.path, "", "another process is running this study here", None, "wait for it") from None
        (self.path / "study.toml").write_text(study_text, encoding="utf-8")
        (self.path / "run.json").write_text(json.dumps(facts, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        for name, text in entries.items():
            target = self.path / "catalogue" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
        for stray in [*self.designs.glob("_*"), *self.candidates.glob("_*")]:
            stray.unlink()
        self._cut_torn_line()
        self._log = self.manifest.open("a", encoding="utf-8")

    def close(self) -> None:
        """Let another process have the folder."""
        for file in (self._log, self._lock):
            if file is not None:
                file.close()

    def _cut_torn_line(self) -> None:
        if not self.manifest.exists():
            return
        whole = self.manifest.read_bytes()
        end = whole.rfind(b"\n") + 1
        if end != len(whole):
            with self.manifest.open("r+b") as file:
                file.truncate(end)

    def note(self, line: Mapping[str, Any]) -> None:
        """Add a line to the manifest, on disk when this returns."""
        self.note_all([line])

    def note_all(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Add lines to the manifest, all on disk when this returns."""
        assert self._log is not None, "open the folder first"
        self._log.write("".join(json.dumps(line, default=float) + "\n" for line in lines))
        self._log.flush()
        os.fsync(self._log.fileno())

    def lines(self) -> list[dict[str, Any]]:
        """The lines of the manifest."""
        return list(manifest_lines(self.manifest))


def manifest_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Whole lines of a manifest; a torn last one is passed over."""
    if not path.exists():
        return
    with path.open(encoding="utf-8") as file:
        for text in file:
            if text.endswith("\n"):
                with suppress(json.JSONDecodeError, RecursionError):  # a damaged line counts as work not done
                    if sound(line := json.loads(text)):
                        yield line


def find_run(run: Path) -> Path:
    """The folder of a run, given itself or a file in it. Raises InputError where there is none."""
    for candidate in (run, run.parent):
        if (candidate / "manifest.jsonl").exists() and (candidate / "designs").is_dir():
            return candidate
    raise problem(run, "", "not the folder of a run", None, "give a folder such as runs/<study>-<hash>")


def is_finished(path: Path) -> bool:
    """Whether a run is complete, and every part that its manifest promises is there."""
    lines = list(manifest_lines(path / "manifest.jsonl"))
    done = any(line.get("done") == "run" for line in lines)
    return done and all(is_whole(path, line) for line in lines if line.get("done") == "case")


def is_whole(path: Path, line: Mapping[str, Any]) -> bool:
    """Whether the parts of a case that is done can be read and hold the rows that its line promises."""
    found = (path / "designs").glob(f"case-{line['case']:06d}*.parquet")
    return not line.get("rows") or sum(rows_in(part) for part in found) == line["rows"]


def rows_in(part: Path) -> int:
    """Rows of a part; none where it is missing or damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return int(pq.read_metadata(part).num_rows)
    except (OSError, pa.ArrowInvalid):
        return 0


def row_numbers(path: Path, wanted: Iterable[tuple[int, int]]) -> dict[tuple[int, int], int]:
    """Places in the data set, as `read_row` counts them, of rows given by case and layout."""
    import pyarrow.parquet as pq

    looked_for: dict[int, set[int]] = {}
    for case, layout in wanted:
        looked_for.setdefault(case, set()).add(layout)
    found: dict[tuple[int, int], int] = {}
    before = 0
    for part in parts_of(path):
        case = int(part.name.split("-")[1].removesuffix(".parquet"))
        if case in looked_for:
            for place, layout in enumerate(pq.read_table(part, columns=["layout_id"])["layout_id"].to_pylist()):
                if layout in looked_for[case]:
                    found[case, layout] = before + place
        before += pq.read_metadata(part).num_rows
    return found


def read_row(run: Path, row: int) -> dict[str, Any]:
    """The row of a run by its place in the data set, counted from 0. Raises InputError where there is none."""
    import pyarrow.parquet as pq

    before = 0
    for part in parts_of(find_run(run)):
        size = pq.read_metadata(part).num_rows
        if row < before + size:
            found: dict[str, Any] = pq.read_table(part).slice(row - before, 1).to_pylist()[0]
            return found
        before += size
    raise problem(run, f"#{row}", f"the run has {before} rows, counted from 0", row)


# ------------------------------------------------------------------------------------------------------ digest
def parts_of(path: Path) -> list[Path]:
    """Parts of the data set in the order of their rows."""
    return sorted((path / "designs").glob("case-*.parquet"))


def digest(path: Path) -> str:
    """Hash of the rows of a run, sorted by case and layout: equal for equal rows, however they came about.

    Every column is hashed on its own over all rows, so how the rows fall on files does not matter.
    """
    import pyarrow.parquet as pq

    hashers: dict[str, Any] = {}
    rows = 0
    for part in parts_of(path):
        content = pq.read_table(part).sort_by([("case", "ascending"), ("layout_id", "ascending")])
        rows += content.num_rows
        for name in content.column_names:
            hasher = hashers.setdefault(name, hashlib.sha256())
            hasher.update(_bytes(content.column(name)))
    whole = hashlib.sha256(str(rows).encode())
    for name in sorted(hashers):
        whole.update(f"{name}={hashers[name].hexdigest()};".encode())
    return whole.hexdigest()


def _bytes(column: Any) -> bytes:
    if str(column.type).startswith("dictionary"):
        return "".join(f"{value}\x00" for value in column.to_pylist()).encode()
    return bytes(np.ascontiguousarray(column.to_numpy()).tobytes())  # a missing limit reads as not a number


def fingerprint(parts: Iterable[bytes]) -> str:
    """Hash of several texts, each set apart from the next."""
    hasher = hashlib.sha256()
    for part in parts:
        hasher.update(len(part).to_bytes(8, "big"))
        hasher.update(part)
    return hasher.hexdigest()
