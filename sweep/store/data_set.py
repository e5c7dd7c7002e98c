"""The data set of a run as a whole: its digest, its rows by number, and all of them as one table."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from os import PathLike
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from sweep.errors import problem
from sweep.store.folder import find_run, parts_in, parts_of
from sweep.store.parts import DamagedPartError, read_table
from sweep.store.places import Place, place
from sweep.store.reading import ahead

if TYPE_CHECKING:
    import pyarrow as pa
    from pandas import DataFrame

_AHEAD = 3  # parts in memory while the next ones are read


# ------------------------------------------------------------------------------------------------------ digest
def digest(run: str | PathLike[str] | Place) -> str:
    """Hash of the rows of a run, sorted by case and layout: equal for equal rows, however they came about.

    Every column is hashed on its own over all rows, so how the rows fall on files does not matter. Raises
    DamagedPartError, with all parts that cannot be read.
    """
    hashers: dict[str, Any] = {}
    rows = 0
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for part in _tables(parts_of(place(run))):
            content = _sorted(part)
            rows += content.num_rows
            columns = [(hashers.setdefault(name, hashlib.sha256()), content[name]) for name in content.column_names]
            list(threads.map(_hash, *zip(*columns, strict=True)))
    whole = hashlib.sha256(str(rows).encode())
    for name in sorted(hashers):
        whole.update(f"{name}={hashers[name].hexdigest()};".encode())
    return whole.hexdigest()


def _tables(parts: Iterable[Place]) -> Iterator[pa.Table]:
    """The rows of each part. Raises DamagedPartError at the end, with all that are damaged."""
    damaged: dict[Place, str] = {}
    for found in ahead(_read, parts, _AHEAD):
        if isinstance(found, DamagedPartError):
            damaged |= found.found
        elif not damaged:
            yield found
    if damaged:
        raise DamagedPartError(damaged)


def _read(part: Place) -> pa.Table | DamagedPartError:
    try:
        return read_table(part)
    except DamagedPartError as damage:
        return damage


def _sorted(rows: pa.Table) -> pa.Table:
    case, layout = rows["case"].to_numpy(), rows["layout_id"].to_numpy()
    if np.all((case[1:] > case[:-1]) | ((case[1:] == case[:-1]) & (layout[1:] > layout[:-1]))):
        return rows
    return rows.sort_by([("case", "ascending"), ("layout_id", "ascending")])


def _hash(hasher: Any, column: pa.ChunkedArray) -> None:
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        for chunk in column.chunks:
            hasher.update(_texts(chunk))
    else:  # a missing limit reads as not a number
        hasher.update(np.ascontiguousarray(column.to_numpy()))


def _texts(column: pa.DictionaryArray) -> Any:
    """The texts of a column, each with a zero byte behind it."""
    import pyarrow as pa

    known = pa.array([f"{text}\0" for text in (*column.dictionary.to_pylist(), None)], pa.large_string())
    taken = known.take(column.indices.fill_null(len(known) - 1))
    _, offsets, characters = taken.buffers()
    ends = np.frombuffer(offsets, np.int64)
    return memoryview(characters)[ends[taken.offset] : ends[taken.offset + len(taken)]]


def fingerprint(parts: Iterable[bytes]) -> str:
    """Hash of several texts, each set apart from the next."""
    hasher = hashlib.sha256()
    for part in parts:
        hasher.update(len(part).to_bytes(8, "big"))
        hasher.update(part)
    return hasher.hexdigest()


# --------------------------------------------------------------------------------------------------- rows by number
def row_numbers(run: Place, wanted: Iterable[tuple[int, int]]) -> dict[tuple[int, int], int]:
    """Places in the data set, as `read_row` counts them, of rows given by case and layout."""
    looked_for: dict[int, set[int]] = {}
    for case, layout in wanted:
        looked_for.setdefault(case, set()).add(layout)
    found: dict[tuple[int, int], int] = {}
    before = 0
    for (case, _), part, rows, least, most in _extents(run):
        here = np.asarray([n for n in looked_for.get(case, ()) if least <= n <= most], np.int64)
        if len(here):
            numbers = read_table(part, ["case", "layout_id"])["layout_id"].to_numpy()
            at = np.flatnonzero(np.isin(numbers, here))
            found |= {(case, int(numbers[one])): before + int(one) for one in at}
        before += rows
    lost = sorted({(case, layout) for case, numbers in looked_for.items() for layout in numbers} - set(found))
    if lost:
        rule = "the manifest names a row that the data set lacks"
        raise problem(run, "manifest", rule, lost[0], "remove the folder and run the study again")
    return found


def read_row(run: str | PathLike[str] | Place, row: int) -> dict[str, Any]:
    """The row of a run by its place in the data set, counted from 0. Raises InputError where there is none."""
    before = 0
    for _, part, rows, _, _ in _extents(find_run(run)):
        if row < before + rows:
            found: dict[str, Any] = read_table(part).slice(row - before, 1).to_pylist()[0]
            return found
        before += rows
    raise problem(place(run), f"#{row}", f"the run has {before} rows, counted from 0", row)


def _extents(run: Place) -> Iterator[tuple[tuple[int, int], Place, int, int, int]]:
    """Number, place, rows, least and most layout of each part. Raises DamagedPartError, with all that are damaged."""
    parts = parts_in(run / "designs")
    damaged: dict[Place, str] = {}
    found = []
    for (number, part), extent in zip(parts.items(), ahead(_extent, parts.values()), strict=True):
        if isinstance(extent, DamagedPartError):
            damaged |= extent.found
        else:
            found.append((number, part, *extent))
    if damaged:
        raise DamagedPartError(damaged)
    return iter(found)


def _extent(part: Place) -> tuple[int, int, int] | DamagedPartError:
    """Rows of a part, and the least and the most of its layouts, from what stands at its end."""
    import pyarrow.parquet as pq

    with part.open() as file:
        try:
            metadata = pq.read_metadata(file)
            groups = [metadata.row_group(group) for group in range(metadata.num_row_groups)]
            place_of = metadata.schema.to_arrow_schema().names.index("layout_id")
            limits = [group.column(place_of).statistics for group in groups]
            if not limits or any(limit is None or not limit.has_min_max for limit in limits):
                return metadata.num_rows, -(1 << 63), (1 << 63) - 1
            return metadata.num_rows, min(one.min for one in limits), max(one.max for one in limits)
        except Exception as failure:  # any bytes may be in a damaged file
            return DamagedPartError({part: str(failure).partition("\n")[0][:160] or type(failure).__name__})


# --------------------------------------------------------------------------------------------------- as one table
def load(*runs: str | PathLike[str] | Place) -> DataFrame:
    """All rows of one or more runs as one table; see `sweep.load`."""
    import pandas

    tables = []
    for pattern in runs:
        folders = list(matching(place(pattern)))
        if not folders:
            raise problem("load", str(pattern), "matches no run", None, "give folders such as runs/<study>-<hash>")
        for folder in folders:
            run = find_run(folder)
            tables += [rows.to_pandas().assign(run=run.name) for rows in _tables(parts_of(run))]
    return pandas.concat(tables, ignore_index=True) if tables else pandas.DataFrame()


def matching(pattern: Place) -> Iterator[Place]:
    """Places that a pattern such as runs/* names, by ascending name."""
    words = PurePosixPath(pattern.path).parts
    plain = next((i for i, word in enumerate(words) if set(word) & set("*?[")), len(words))
    start = Place(pattern.root, str(PurePosixPath(*words[:plain])) if plain else ("" if pattern.root else "."))
    if start.exists():
        yield from _matching(start, words[plain:])


def _matching(start: Place, words: tuple[str, ...]) -> Iterator[Place]:
    if not words:
        yield start
        return
    for info in start.infos():
        hidden = info.base_name.startswith(".") and not words[0].startswith(".")
        if fnmatchcase(info.base_name, words[0]) and not hidden:
            yield from _matching(start / info.base_name, words[1:])
