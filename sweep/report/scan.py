"""One look at every row of a run: which of them a report shows, and how many there are.

Parts are read one after the other, a few columns each, so that millions of rows need no more memory than the largest
part. A row is named by its place in the data set, as `sweep explain RUN#ROW` counts it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from model.layout import Array
from sweep import store
from sweep.columns import QUANTITIES
from sweep.keep import front
from sweep.store.parts import read_table
from sweep.store.reading import ahead

if TYPE_CHECKING:
    import pyarrow as pa

    from sweep.store import Place

FAINT = 300  # feasible rows drawn beside the front of a comparison
HOLLOW = 90  # infeasible rows drawn
FRONT = 40  # rows of a design's front drawn
TOP = 24  # best rows of a design kept
_OF_A_PART = 200  # rows of a part that a sample is drawn from
_AHEAD = 3
_IDENTITY = (
    "model", "number_format", "design", "corner", "chips", "phase", "input_tokens", "output_tokens",
    "target_ttft_s", "target_ttft_p99_s", "target_tpot_s", "target_tpot_p99_s", "load_tokens_per_s",
)  # fmt: skip
DEGREES = ("tp", "pp", "ep")

Pair = tuple[str, str]


@dataclass(slots=True)
class Design:
    """What was seen of one design in one comparison.

    Attributes
    ----------
    fronts
        Axes of a chart -> rows that no other row of the design beats in both.
    best
        The best rows by the study's objective, the best first.
    feasible, infeasible
        Some rows of each kind, evenly over the data set.
    grid
        Chips and the names of two degrees -> their values -> the best row's value and place; None where no row of
        these degrees is feasible.
    """

    fronts: dict[Pair, list[int]] = field(default_factory=dict)
    best: list[int] = field(default_factory=list)
    feasible: list[int] = field(default_factory=list)
    infeasible: list[int] = field(default_factory=list)
    grid: dict[tuple[int, str, str], dict[tuple[int, int], tuple[float, int] | None]] = field(default_factory=dict)


@dataclass(slots=True)
class Seen:
    """One comparison: designs that do the same work, in the order of their cases."""

    title: str
    designs: dict[str, Design] = field(default_factory=dict)
    rows: int = 0
    feasible: int = 0


@dataclass(slots=True)
class _Gathered:
    """What is kept of a design while parts are read."""

    seen: Design = field(default_factory=Design)
    fronts: dict[Pair, tuple[Array, Array]] = field(default_factory=dict)
    best: tuple[Array, Array] = field(default_factory=lambda: (np.empty(0), np.empty(0, np.int64)))


def scan(run: Place, title_of: Any, objective: str, pairs: Sequence[Pair]) -> dict[str, Seen]:
    """Look at every row of a run, and say which ones a report shows.

    Parameters
    ----------
    title_of
        The comparison that a row belongs to.
    objective
        Quantity that the best rows are the best by.
    pairs
        Axes of charts: quantities of which a front is wanted.
    """
    wanted = tuple(dict.fromkeys((objective, *(name for pair in pairs for name in pair))))
    found: dict[str, Seen] = {}
    gathered: dict[tuple[str, str], _Gathered] = {}
    before = 0
    for part in ahead(lambda one: _read(one, wanted), store.parts_of(run), _AHEAD):
        rows = part.num_rows
        if rows:
            identity = {name: part[name][0].as_py() for name in _IDENTITY if name in part.column_names}
            if identity.get("corner", "nominal") == "nominal":
                title = title_of(identity)
                one = found.setdefault(title, Seen(title))
                of_design = gathered.setdefault((title, identity["design"]), _Gathered())
                one.designs.setdefault(identity["design"], of_design.seen)
                one.rows += rows
                one.feasible += _take(of_design, part, before, objective, pairs, int(identity["chips"]))
        before += rows
    for (title, _), of_design in gathered.items():
        _finish(of_design, len(found[title].designs))
    return found


def _read(part: Place, quantities: Sequence[str]) -> pa.Table:
    import pyarrow.parquet as pq

    with part.open() as file:
        known = set(pq.read_schema(file).names)
    names = (*_IDENTITY, "feasible", *quantities, *DEGREES)
    return read_table(part, [name for name in dict.fromkeys(names) if name in known])


def _take(kept: _Gathered, part: pa.Table, before: int, objective: str, pairs: Sequence[Pair], chips: int) -> int:
    """Add the rows of a part to what is kept of its design; returns how many are feasible."""
    feasible = part["feasible"].to_numpy()
    places = np.flatnonzero(feasible)
    numbers = before + places
    kept.seen.feasible += _some(numbers, _OF_A_PART)
    kept.seen.infeasible += _some(before + np.flatnonzero(~feasible), _OF_A_PART)
    value = QUANTITIES[objective].sign * _floats(part, objective)
    _note_grid(kept.seen, part, value, feasible, before, chips)
    values, known = kept.best
    least = np.argpartition(value[places], min(TOP, len(places)) - 1)[:TOP] if len(places) else places
    values, known = np.append(values, value[places][least]), np.append(known, numbers[least])
    order = np.lexsort((known, values))[:TOP]
    kept.best = values[order], known[order]
    for pair in pairs:
        columns = [QUANTITIES[name].sign * _floats(part, name)[places] for name in pair]
        both = np.stack(columns, axis=1)
        whole = np.isfinite(both).all(axis=1)
        old = kept.fronts.get(pair, (np.empty((0, 2)), np.empty(0, np.int64)))
        points, rows = np.concatenate([old[0], both[whole]]), np.append(old[1], numbers[whole])
        chosen = front(points, rows)
        kept.fronts[pair] = points[chosen], rows[chosen]
    return len(places)


def _floats(part: pa.Table, name: str) -> Array:
    """A column of numbers; not a number where it is empty."""
    return np.asarray(part[name].to_numpy(), float)


def _some(numbers: Array, most: int) -> list[int]:
    """Some of many, evenly."""
    if len(numbers) > most:
        numbers = numbers[np.linspace(0, len(numbers) - 1, most).astype(int)]
    return [int(one) for one in numbers]


def _note_grid(seen: Design, part: pa.Table, value: Array, feasible: Array, before: int, chips: int) -> None:
    """The best row of each pair of degrees, and pairs of which no row is feasible."""
    cost = np.where(feasible & np.isfinite(value), value, np.inf)
    for second in ("pp", "ep"):
        degrees = [part[name].to_numpy().astype(np.int64) for name in ("tp", second)]
        order = np.lexsort((cost, *degrees[::-1]))
        code = np.stack([one[order] for one in degrees])
        first = np.flatnonzero(np.append(True, np.any(code[:, 1:] != code[:, :-1], axis=0)))
        cells = seen.grid.setdefault((chips, "tp", second), {})
        for at in first:
            cell, best = (int(code[0, at]), int(code[1, at])), float(cost[order[at]])
            old = cells.get(cell)
            if np.isfinite(best) and (old is None or best < old[0]):
                cells[cell] = best, before + int(order[at])
            else:
                cells.setdefault(cell, None)


def _finish(kept: _Gathered, designs: int) -> None:
    """Write down what is kept, no more of anything than is drawn of so many designs."""
    seen = kept.seen
    seen.best = [int(one) for one in kept.best[1]]
    for pair, (points, rows) in kept.fronts.items():
        order = np.argsort(points[:, 0], kind="stable")
        seen.fronts[pair] = _some(rows[order], FRONT)
    seen.feasible, seen.infeasible = (_some(np.asarray(rows, np.int64), -(-most // designs)) for rows, most in (
        (seen.feasible, FAINT), (seen.infeasible, HOLLOW)))  # fmt: skip


def rows_at(run: Place, wanted: Sequence[int]) -> dict[int, dict[str, Any]]:
    """Whole rows of a run by their places in the data set; of each part the groups of rows that they are in."""
    left = sorted(set(wanted))
    found: dict[int, dict[str, Any]] = {}
    before = 0
    for part in store.parts_of(run):
        if not left or left[-1] < before:
            break
        before += _of_part(part, before, left, found)
    return found


def _of_part(part: Place, before: int, wanted: Sequence[int], found: dict[int, dict[str, Any]]) -> int:
    """Add the wanted rows of a part; returns how many rows it has."""
    import pyarrow.parquet as pq

    with part.open() as opened, pq.ParquetFile(opened) as file:
        rows = int(file.metadata.num_rows)
        own = np.asarray(wanted, np.int64) - before
        own = own[(own >= 0) & (own < rows)]
        start = 0
        for group, size in _groups(file.metadata) if len(own) else ():
            inside = own[(own >= start) & (own < start + size)]
            if len(inside):
                chosen = file.read_row_group(group).take(inside - start).to_pylist()
                found.update(zip((int(one) + before for one in inside), chosen, strict=True))
            start += size
    return rows


def _groups(metadata: Any) -> Iterator[tuple[int, int]]:
    return ((group, int(metadata.row_group(group).num_rows)) for group in range(metadata.num_row_groups))


def places_of(seen: Mapping[str, Seen]) -> list[int]:
    """Every row that is drawn."""
    wanted: set[int] = set()
    for one in seen.values():
        for design in one.designs.values():
            wanted.update(design.best, design.feasible, design.infeasible, *design.fronts.values())
    return sorted(wanted)
