"""The assumptions: every number of the catalogue behind the designs, where it comes from, and what it does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from model import units
from sweep.designs import Design, dimension_of
from sweep.page import Block, Fact, Facts, Table, Text
from sweep.report.tornado import Rests
from sweep.uncertainty.points import Number, numbers_of

_KINDS = ("datasheet", "measured", "derived", "estimated", "rumour", "placeholder")
_FIRST = 8
_COLUMNS = ("number", "value", "range", "kind", "elasticity", "source")


def blocks(designs: Sequence[Design], rests: Sequence[Rests]) -> list[Block]:
    """How many numbers of each kind, those that do the most, and all of them.

    Parameters
    ----------
    rests
        What rows rest on, for the elasticities.
    """
    numbers = {(one.entry, one.path): one for design in designs for one in numbers_of(design)}
    effects: dict[str, tuple[float, float]] = {}
    for rest in rests:
        for one in rest.influences:
            old = effects.get(one.column.text, (0.0, 0.0))
            effects[one.column.text] = max(old, (abs(one.effect), one.elasticity), key=lambda two: two[0])
    kinds = Counter(one.origin for one in numbers.values())
    order = sorted(
        numbers.values(), key=lambda one: (-effects.get(one.column.text, (0.0, 0.0))[0], one.entry, one.path)
    )
    rows = [_row(one, effects) for one in order]
    unsure = [row for one, row in zip(order, rows, strict=True) if one.origin in ("estimated", "rumour", "placeholder")]
    found: list[Block] = [
        Text(
            f"{len(numbers):,} numbers of the catalogue make the machines. Each has a source; the elasticity is the "
            "change of the result in percent for one percent of the number, at the best layout of the design that it "
            "matters most to."
        ),
        Facts([Fact(kind, f"{kinds[kind]:,}", _TOLD[kind]) for kind in _KINDS if kinds[kind]]),
        Table(_COLUMNS, _most(rests, effects), "Those that matter most"),
        Table(_COLUMNS, unsure, folded=f"All {len(unsure):,} that are estimated, rumoured or assumed"),
        Table(_COLUMNS, rows, folded=f"All {len(rows):,}"),
    ]
    changed = [
        [design.label, path, units.show(value, dimension_of(path).unit)]
        for design in designs for path, value in design.changes
    ]  # fmt: skip
    if changed:
        found.insert(2, Table(("design", "number", "value"), changed, "What the study itself sets"))
    return [one for one in found if not (isinstance(one, Table) and not one.rows)]


def _most(rests: Sequence[Rests], effects: Mapping[str, tuple[float, float]]) -> list[list[Any]]:
    """The numbers that do the most, of those that move together the one that does."""
    found = {one.column.text: one.number for rest in rests for one in rest.influences if one.number is not None}
    order = sorted(found, key=lambda text: -effects[text][0])
    return [_row(number, effects) for text in order[:_FIRST] if (number := found[text]) and effects[text][0] > 1e-4]


_TOLD: Mapping[str, str] = {
    "datasheet": "as the maker says",
    "measured": "by someone, on the machine",
    "derived": "fitted, or follows from others",
    "estimated": "from what is alike",
    "rumour": "from the press",
    "placeholder": "assumed: not even a rumour",
}


def _row(one: Number, effects: Mapping[str, tuple[float, float]]) -> list[Any]:
    quantity = one.quantity
    ends = [end for end in (quantity.low, quantity.high) if end is not None]
    span = " to ".join(units.show(float(end), quantity.unit) for end in ends) if len(ends) == 2 else ""
    effect = effects.get(one.column.text)
    elasticity = f"{effect[1]:+.2f}" if effect and abs(effect[1]) >= 0.005 else ""
    return [f"{one.entry}: {one.path}", quantity.text(), span, one.origin, elasticity, quantity.source]
