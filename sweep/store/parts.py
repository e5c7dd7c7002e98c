"""Parquet parts: the rows that one task keeps, written wholly or not at all, and read back with an eye for damage.

Nothing that depends on the time, the host or the order of the tasks goes into a part.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from sweep.cases import Case, Question, identity
from sweep.columns import CODED, EVERY_IDENTITY, MAY_LACK, QUANTITIES, SETS, describe
from sweep.errors import InputError, Problem
from sweep.store.places import Place, place

if TYPE_CHECKING:
    import pyarrow as pa

    from sweep.keep import Columns

_NAME = re.compile(r"case-(\d{6,18})(?:-(\d{10,18}))?\.parquet")
_LAYOUTS = frozenset(name for one in SETS.values() for name in one.layout)
_SMALL = {"case", "trial", "sequence", "chips", "chips_asked", "ranks", *_LAYOUTS}
_LIMIT = "violation_limit_"
# Least and most of a row group, for queries to skip by; of every column they would cost a fifth of the writing.
_FILTERED = ("case", "layout_id", "chips", "feasible", *QUANTITIES)
_GROUP = 1 << 18  # rows of a row group


class DamagedPartError(InputError):
    """Parts of a data set that cannot be read. Holds each with what is wrong with it."""

    def __init__(self, found: Mapping[Place, str]) -> None:
        remedy = "run the study again: what is damaged is computed anew"
        super().__init__([Problem(str(part), "", f"is damaged ({why})", None, remedy) for part, why in found.items()])
        self.found = dict(found)

    def __reduce__(self) -> tuple[type[DamagedPartError], tuple[dict[Place, str]]]:
        return DamagedPartError, (self.found,)


def part_name(case: Case, first: int | None = None) -> str:
    """File of a case's rows, or of those from grid point `first` on. Names sort in the order of the rows."""
    tail = "" if first is None else f"-{first:010d}"
    return f"case-{case.index:06d}{tail}.parquet"


def part_number(name: str) -> tuple[int, int] | None:
    """Case and first grid point (-1 for a whole case) of a part by its name; None for every other name."""
    found = _NAME.fullmatch(name)
    return (int(found[1]), int(found[2] or -1)) if found else None


# ----------------------------------------------------------------------------------------------------- writing
def write_part(part: str | PathLike[str] | Place, question: Question, case: Case, found: Columns | None) -> int:
    """Write rows as a part of the data set, wholly or not at all, and return their number."""
    if found is None:
        return 0
    rows = table(question, case, found)
    place(part).write_bytes(encoded(rows))
    return int(rows.num_rows)


def encoded(rows: pa.Table) -> pa.Buffer:
    """Rows as a Parquet file in memory: some 100 bytes a row, in 0.5 microseconds a row.

    Floats are split by bytes and compressed with LZ4: 40 % faster to write than with zstd, and 4 % larger. Whole
    numbers as they are compress as well as any encoding of them does; only texts are in dictionaries.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    floats = [field.name for field in rows.schema if pa.types.is_floating(field.type)]
    texts = [field.name for field in rows.schema if pa.types.is_dictionary(field.type)]
    sink = pa.BufferOutputStream()
    pq.write_table(
        rows,
        sink,
        compression="lz4",
        use_dictionary=texts,
        use_byte_stream_split=floats,
        column_encoding={"layout_id": "DELTA_BINARY_PACKED"},
        write_statistics=[name for name in _FILTERED if name in rows.column_names],
        write_page_checksum=True,  # a flipped bit is seen, not taken for a number
        row_group_size=_GROUP,
    )
    return sink.getvalue()


def table(question: Question, case: Case, found: Columns) -> pa.Table:
    """Rows as an Arrow table: columns in their fixed order, units and meanings in the fields' metadata."""
    import pyarrow as pa

    size = len(found["layout_id"])
    shared, known = identity(case), SETS[question.phase]
    names = {*shared, *found, *known.limits}
    order = [name for name in known.order if name in names]
    order += [name for name in found if name not in order]
    fields, arrays = [], []
    for name in order:
        if name in found:
            array = _column(name, np.asarray(found[name]))
        elif name in shared:
            array = _repeated(name, shared[name], size)
        else:
            array = pa.nulls(size, pa.float64())
        unit, meaning = describe(name)
        may_lack = name.startswith(_LIMIT) or name in MAY_LACK
        fields.append(pa.field(name, array.type, nullable=may_lack, metadata={"unit": unit, "meaning": meaning}))
        arrays.append(array)
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields, metadata=dict(question.metadata)))


def _column(name: str, values: Any) -> pa.Array:
    """A column of a search; texts are codes there, and a dictionary of those that occur here."""
    import pyarrow as pa

    if name in CODED:
        occur = np.flatnonzero(np.bincount(values, minlength=1))
        position = np.zeros(len(CODED[name]), np.int32)
        position[occur] = np.arange(len(occur))
        return pa.DictionaryArray.from_arrays(position[values], [CODED[name][code] for code in occur])
    lacking = ~np.isfinite(values) if name in MAY_LACK else None
    return pa.array(values.astype(_type(name, values.dtype), copy=False), mask=lacking)


def _repeated(name: str, value: str | int | float | bool, size: int) -> pa.Array:
    import pyarrow as pa

    if isinstance(value, str):
        return pa.DictionaryArray.from_arrays(np.zeros(size, np.int32), [value])
    return pa.array(np.full(size, value, _type(name, np.asarray(value).dtype)))


def _type(name: str, found: Any) -> Any:
    """Type that a column of numbers is stored in."""
    if name in _SMALL:
        return np.int32
    return {"b": np.bool_, "i": np.int64, "u": np.int64}.get(found.kind, np.float64)


# ----------------------------------------------------------------------------------------------------- reading
def read_table(part: Place, columns: Sequence[str] | None = None) -> pa.Table:
    """The rows of a part, or some columns of them. Raises DamagedPartError where they cannot be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    content = part.read_bytes()  # by itself: a place that fails is no damage
    try:
        with pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True) as file:
            _must_name_its_columns(file)
            found = file.read(columns=None if columns is None else list(columns))
        found.validate()
    except Exception as failure:  # any bytes may be in a damaged file
        raise DamagedPartError({part: _first_line(failure)}) from None
    return found


def _must_name_its_columns(file: Any) -> None:
    """Pages have checksums and names have none; but a part says its names and types twice."""
    import pyarrow as pa

    said = pa.ipc.read_schema(pa.py_buffer(b64decode(file.metadata.metadata[b"ARROW:schema"])))
    read = file.schema_arrow
    if not read.equals(said) or not {"case", "layout_id"} <= set(read.names):
        raise ValueError("its columns are not those that it was written with")


def _first_line(failure: Exception) -> str:
    return (str(failure).strip().partition("\n")[0] or type(failure).__name__)[:160].rstrip(".")


def read_part(part: str | PathLike[str] | Place) -> Columns | None:
    """The columns of a part that a search can go on with; None where it was never written.

    A damaged part is removed before DamagedPartError is raised, so that the next run computes it again.
    """
    where = place(part)
    try:
        rows = read_table(where)
        shared = EVERY_IDENTITY - {"layout_id"}
        empty = {name for name in rows.column_names if name.startswith(_LIMIT) and rows.column(name).null_count}
        names = [name for name in rows.column_names if name not in shared | empty]
        return {name: _codes(name, rows.column(name)) for name in names} if rows.num_rows else None
    except FileNotFoundError:
        return None
    except DamagedPartError:
        where.unlink(missing_ok=True)
        raise
    except (KeyError, ValueError) as failure:  # readable, but no part of this data set
        where.unlink(missing_ok=True)
        raise DamagedPartError({where: _first_line(failure)}) from None


def _codes(name: str, column: Any) -> Any:
    """A column as a search has it, texts being codes."""
    if name not in CODED:
        return column.to_numpy()
    known = [np.asarray([CODED[name].index(text) for text in one.dictionary.to_pylist()]) for one in column.chunks]
    chunks = zip(known, column.chunks, strict=True)
    return np.concatenate([codes[one.indices.to_numpy()] for codes, one in chunks])


def rows_in(part: str | PathLike[str] | Place) -> int:
    """Rows of a part; none where it is missing or damaged."""
    import pyarrow.parquet as pq

    try:
        with place(part).open() as file:
            return int(pq.read_metadata(file).num_rows)
    except Exception:  # any bytes may be in a damaged file; what cannot be read is computed again
        return 0
