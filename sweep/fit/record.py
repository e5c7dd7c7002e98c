"""A fit written down: its constants into the records of the catalogue, its errors into one file."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from sweep import catalogue
from sweep.fit.constants import Constant, is_fitted
from sweep.fit.left_out import LEFT, Share
from sweep.fit.regression import Linear
from sweep.fit.runs import COMMAND, Unknowns
from sweep.recipes import DATA as RECIPES

ERRORS = catalogue.DATA / "training_fit.toml"
_DIGITS = 3
_OWN = f"fit to published step times, confirmed on runs left out: {COMMAND}, docs/accuracy.md"
_SHARED = f"fit to published step times of its kind: {COMMAND}, docs/accuracy.md"


@dataclass(frozen=True, slots=True)
class Line:
    """A constant as a file is to hold it; no value: what the record is like says it."""

    file: Path
    table: str
    name: str
    value: float | None
    source: str


def held_free(of: Unknowns) -> Any:
    """(nodes,) mask of what was free in the fit that the catalogue holds: what is shared, and what was confirmed."""
    kinds = {one.constant.field: one.constant.of for one in of.free}
    return np.array([len(node) < 3 or _is_held(kinds[node[0]], node) for node in of.nodes])


def _is_held(kind: str, node: tuple[str, ...]) -> bool:
    stated = catalogue.entry(kind, node[-1]).quantities.get(node[0])
    return stated is not None and stated.source == _OWN


def lines(of: Unknowns, model: Linear, point: Any, kept: Any) -> list[Line]:
    """What every file of the catalogue is to say about the constants of a fit; of those that no run moves, nothing."""
    found: dict[tuple[Path, str, str], Line] = {}
    sums: dict[tuple[str, ...], float] = {}
    for node, own in zip(of.nodes, point, strict=True):
        sums[node] = sums.get(node[:-1], 0.0) + float(own)
    free = dict(zip(of.nodes, kept, strict=True))
    known = np.any(model.slopes != 0.0, axis=0)
    for one in of.free:
        if not known[of.nodes.index(one.line)]:
            continue
        for depth in range(2, len(one.line) + 1):
            node = one.line[:depth]
            line = _line(one.constant, node, sums[node], bool(free[node]))
            if line is not None:
                found[(line.file, line.table, line.name)] = line
    return list(found.values())


def _line(constant: Constant, node: tuple[str, ...], inside: float, own: bool) -> Line | None:
    table, _, name = constant.field.rpartition(".")
    value = float(f"{constant.outward(inside):.{_DIGITS}g}")
    if constant.of == "recipes":
        return Line(RECIPES, table, name, value, _SHARED)
    if constant.of == "calibrations":
        if len(node) < 3:  # a generation has no file
            return None
        return Line(catalogue.entry("calibrations", node[-1]).file, table, name, value, _OWN if own else _SHARED)
    entry = catalogue.entry("stacks", node[-1])
    stated = entry.quantities.get(constant.field)
    if stated is not None and not is_fitted(stated, constant):
        return None
    if len(node) > 2 and not own and node[-1] not in constant.of_records:
        return Line(entry.file, table, name, None, "")
    return Line(entry.file, table, name, value, _OWN if own and len(node) > 2 else _SHARED)


def written(text: str, found: Sequence[Line]) -> str:
    """The text of a file with its constants replaced, added or taken away."""
    for line in found:
        text = _replaced(text, line)
    return text


def _replaced(text: str, line: Line) -> str:
    rows = text.rstrip("\n").split("\n")
    start = rows.index(f"[{line.table}]") + 1 if line.table else 0
    end = next((at for at in range(start, len(rows)) if rows[at].startswith("[")), len(rows))
    at = next((at for at in range(start, end) if re.match(rf"{line.name}\s*=", rows[at])), None)
    if line.value is None:
        return "\n".join(row for index, row in enumerate(rows) if index != at) + "\n"
    held = tomllib.loads(rows[at])[line.name] if at is not None else {}
    shown = f'"{line.value * 1e3:g} ms"' if line.name.endswith("_s") else f"{line.value:g}"
    new = f'{line.name} = {{ value = {shown}{_range(held, line.value)}, source = "{line.source}", kind = "derived" }}'
    if at is None:
        while end > start and not rows[end - 1].strip():
            end -= 1
        rows.insert(end, new)
    else:
        rows[at] = new
    return "\n".join(rows) + "\n"


def _range(held: Mapping[str, Any], value: float) -> str:
    """The range of a number, as wide about a new value as it was about the old one."""
    if "low" not in held or not isinstance(held.get("value"), (int, float)):
        return ""
    low, high = (value * float(held[end]) / float(held["value"]) for end in ("low", "high"))
    return f", low = {low:.{_DIGITS}g}, high = {min(high, max(value, 1.0)):.{_DIGITS}g}"


def write(found: Sequence[Line]) -> None:
    """Write the constants into the catalogue's files."""
    for file in dict.fromkeys(line.file for line in found):
        text = file.read_text(encoding="utf-8")
        file.write_text(written(text, [line for line in found if line.file == file]), encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Fitted:
    """A fit's size and errors, as the product holds them."""

    runs: int
    constants: int  # that the runs could change
    shared: int  # that all, a kind or a generation have in common
    own: int  # of one record, each confirmed on runs that were left out
    shares: tuple[Share, ...]


def errors_text(fit: Fitted) -> str:
    """The file of errors."""
    out = [
        "# Written by python -m sweep.fit: mean absolute errors of step times, as fractions; in sample by constants",
        "# of the catalogue, else by those found without the framework, the chip or the family of models of a run.",
        f"runs = {fit.runs}", f"constants = {fit.constants}", f"shared = {fit.shared}", f"own = {fit.own}",
    ]  # fmt: skip
    for one in fit.shares:
        out += ["", "[[shares]]", f'name = "{one.name}"', f"runs = {one.runs}", f"in_sample = {one.in_sample:.4f}"]
        out += [f"{what} = {value:.4f}" for what, value in one.left_out.items()] + [f"bias = {one.bias:.4f}"]
    return "\n".join(out) + "\n"


@cache
def fitted() -> Fitted:
    """The errors of the shipped fit."""
    raw = tomllib.loads(ERRORS.read_text(encoding="utf-8"))
    shares = tuple(
        Share(one["name"], one["runs"], one["in_sample"], {what: one[what] for what in LEFT}, one["bias"])
        for one in raw.pop("shares")
    )
    return Fitted(**raw, shares=shares)


def table(fit: Fitted) -> str:
    """The errors as docs show them."""
    rows = [
        "| runs | n | in sample | framework left out | bias then | chip left out | model family left out |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for one in fit.shares:
        out = {what: f"{100 * value:.1f} %" for what, value in one.left_out.items()}
        rows.append(
            f"| {one.name} | {one.runs} | {100 * one.in_sample:.1f} % | {out['framework']} | {100 * one.bias:+.1f} % "
            f"| {out['chip']} | {out['family']} |"
        )
    return "\n".join(rows) + "\n"
