"""`sweep list` and `sweep show`: what is in the catalogue, and where every number comes from."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from sweep import catalogue
from sweep.catalogue import KINDS, SOURCE_KINDS, Entry, Kind, Quantity
from sweep.commands.terminal import console as opened
from sweep.errors import nearest, problem

if TYPE_CHECKING:
    from rich.console import Console

_FIRST_VIEW = 6  # columns beside the name
PIPED_WIDTH = 160  # columns of a table that is not written to a terminal

RUMOUR, PLACEHOLDER = "†", "°"

# What `sweep list` shows of each kind: heading -> path of a quantity or a fact, or what to make of the entry.
Column = str | Callable[[Entry], str]


def _size(found: Entry) -> str:
    shape = catalogue.architecture(found.name)
    return f"{shape.parameters / 1e9:,.3g} B" if shape.parameters < 1e12 else f"{shape.parameters / 1e12:.3g} T"


def _active(found: Entry) -> str:
    shape = catalogue.architecture(found.name)
    return f"{shape.active_parameters / 1e9:.3g} B" if shape.experts else ""


def _years(found: Entry) -> str:
    return f"{found.facts['from_year']} to {found.facts.get('to_year', 'now')}"


def _inner_tier(found: Entry) -> str:
    name = found.facts["tiers"][0]
    at = f"tiers.{name}"
    return f"{found.value(f'{at}.ranks')} ranks at {found.quantities[f'{at}.bandwidth'].text()}"


def _frameworks(found: Entry) -> str:
    return ", ".join(found.facts["frameworks"])


COLUMNS: Mapping[Kind, Mapping[str, Column]] = {
    "chips": {
        "year": "year",
        "bf16": "peak_flops.bf16",
        "fp8": "peak_flops.fp8",
        "HBM": "hbm_bytes",
        "HBM rate": "hbm_bandwidth",
        "board": "power.board_w",
        "int8": "peak_flops.int8",
        "ranks": "ranks_per_package",
        "status": "status",
    },
    "systems": {
        "chip": "chip",
        "packages": "unit_packages",
        "scale-up, one direction": _inner_tier,
        "default stack": "default_stack",
        "default engine": "default_engine",
        "status": "status",
    },
    "models": {"title": "title", "parameters": _size, "active": _active},
    "stacks": {"years": _years, "frameworks": _frameworks, "why": "why"},
    "engines": {"years": _years, "frameworks": _frameworks, "why": "why"},
    "fabrics": {"title": "title", "rate of a port": "bandwidth", "latency": "latency_s"},
    "calibrations": {"title": "title", "fitted on": "fitted_on"},
    "prices": {
        "pays": "pays",
        "electricity": "electricity_usd_per_j",
        "interest": "annual_interest",
        "paid back in": "lifetime_s",
        "why": "why",
    },
    "processes": {"title": "title", "wafer": "wafer_usd", "defects": "defects_per_m2"},
    "memories": {"title": "title", "price": "usd_per_byte"},
    "operations": {
        "chip fails": "chip_failure_rate",
        "software stops": "software_failure_rate",
        "noticed": "detection_s",
        "repaired": "repair_s",
        "spares": "spare_share",
        "why": "why",
    },
}


# ----------------------------------------------------------------------------------------------------- text
def _mark(one: Quantity) -> str:
    """The mark beside a value that is a rumour, or for which nothing is published."""
    return (f" {RUMOUR}" if one.kind == "rumour" else "") + (f" {PLACEHOLDER}" if one.placeholder else "")


def _style(one: Quantity) -> str:
    return "red" if one.kind == "rumour" else "yellow" if one.placeholder else ""


def _cell(found: Entry, column: Column) -> tuple[str, str]:
    """Text and style of one cell."""
    if callable(column):
        return column(found), ""
    if column in found.quantities:
        one = found.quantities[column]
        return one.text() + _mark(one), _style(one)
    fact = found.facts.get(column, "")
    return str(fact), ""


def _range(one: Quantity) -> str:
    if one.low is None and one.high is None:
        return ""
    ends = [None if end is None else _with(one, end).text() for end in (one.low, one.high)]
    low, high = ends
    if low is None:
        return f"up to {high}"
    return f"{low} or more" if high is None else f"{low} to {high}"


def _with(one: Quantity, value: Any) -> Quantity:
    from dataclasses import replace

    return replace(one, value=value)


def _footnote(quantities: Iterable[Quantity]) -> str:
    """How many numbers there are of each kind, and how many of them nothing published supports."""
    every = list(quantities)
    kinds = Counter(one.kind for one in every)
    said = ", ".join(f"{kinds[kind]} {kind}" for kind in SOURCE_KINDS if kinds[kind])
    scaled = sum(one.placeholder for one in every)
    tail = f"; {scaled} of them placeholders, scaled from a related part as nothing is published" if scaled else ""
    return f"{len(every)} values: {said}{tail}."


# ----------------------------------------------------------------------------------------------------- JSON
def _quantity_json(one: Quantity) -> dict[str, Any]:
    said = {"value": one.value, "unit": one.unit, "kind": one.kind, "source": one.source}
    rest = {"low": one.low, "high": one.high, "note": one.note, "placeholder": one.placeholder}
    return said | {key: item for key, item in rest.items() if item not in (None, "", False)}


def _entry_json(found: Entry) -> dict[str, Any]:
    return {
        **found.facts,
        "kind": found.kind,
        "name": found.name,
        "quantities": {path: _quantity_json(one) for path, one in found.quantities.items()},
    }


def _sums_json(system: str) -> dict[str, Any]:
    """Watts and dollars of a unit by part."""
    from sweep.unit_parts import unit_capital, unit_power

    parts = {"rated_power_w": unit_power(system), "price_usd": unit_capital(system)}
    return {name: {part: float(value) for part, value in one.parts().items()} for name, one in parts.items()}


def _print_json(content: Mapping[str, Any]) -> None:
    from json import dumps

    sys.stdout.write(dumps(content, ensure_ascii=False) + "\n")


def entries_json(kind: Kind) -> dict[str, Any]:
    """What `sweep list --json` prints."""
    entries = [catalogue.entry(kind, name) for name in catalogue.names(kind)]
    return {"kind": kind, "entries": [_entry_json(found) for found in entries]}


def named_json(name: str) -> dict[str, Any]:
    """What `sweep show --json` prints. Raises InputError for a name that the catalogue does not have."""
    entries = [_entry_json(one) | (_sums_json(one.name) if one.kind == "systems" else {}) for one in _named(name)]
    return {"name": name, "entries": entries}


def _named(name: str) -> list[Entry]:
    found = [catalogue.entry(kind, name) for kind in KINDS if name in catalogue.names(kind)]
    if not found:
        every = {known for kind in KINDS for known in catalogue.names(kind)}
        raise problem("catalogue", "", "no entry of this name", name, nearest(name, every))
    return found


# ------------------------------------------------------------------------------------------------- commands
def list_entries(
    kind: Kind = "systems",
    *,
    every: Annotated[bool, Parameter(name="--all", negative="")] = False,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """List the names of the catalogue.

    Parameters
    ----------
    kind
        What to list.
    every
        Show every column.
    json
        Print one JSON object.
    """
    if json:
        _print_json(entries_json(kind))
        return
    entries = [catalogue.entry(kind, name) for name in catalogue.names(kind)]
    from rich.table import Table
    from rich.text import Text

    columns = dict(list(COLUMNS[kind].items())[: None if every else _FIRST_VIEW])
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("name", *columns):
        wraps = heading in ("why", "frameworks", "fitted on")
        width = max(len(found.name) for found in entries) + 2 if heading == "name" else None
        table.add_column(heading, no_wrap=not wraps, overflow="fold" if wraps else "ellipsis", min_width=width)
    for found in entries:
        scenario = bool(found.facts.get("scenario"))
        name = (found.name + (f" {RUMOUR}" if scenario else ""), "red" if scenario else "")
        cells = [_cell(found, column) for column in columns.values()]
        table.add_row(*(Text(text, style=style) for text, style in (name, *cells)))
    console = opened(PIPED_WIDTH, folds=True)
    console.print(table)
    for line in _legend(entries, columns.values()):
        console.print(line)


def _legend(entries: Iterable[Entry], columns: Iterable[Column]) -> list[str]:
    """What the marks of a list mean, and how many values bear them."""
    paths = [column for column in columns if isinstance(column, str)]
    every = [found.quantities[path] for found in entries for path in paths if path in found.quantities]
    scenarios = [found for found in entries if found.facts.get("scenario")]
    rumours = sum(one.kind == "rumour" for one in every)
    scaled = sum(one.placeholder for one in every)
    lines = [""] if rumours or scaled or scenarios else []
    if rumours or scenarios:
        lines.append(f"{RUMOUR} rumour: {rumours} values; a name so marked is a scenario, never launched")
    if scaled:
        lines.append(f"{PLACEHOLDER} placeholder: {scaled} values scaled from a related part, as nothing is published")
    return lines


def _shown(found: Entry, console: Console) -> None:
    from rich.table import Table
    from rich.text import Text

    flag = " - a scenario: rumoured, never launched under this name" if found.facts.get("scenario") else ""
    console.print(Text.assemble((f"{found.title}", "bold"), f"  {found.kind}/{found.name}", (flag, "red")))
    for key, fact in found.facts.items():
        if key not in ("title", "scenario") and "." not in key:
            console.print(Text(f"  {key}: {', '.join(fact) if isinstance(fact, list) else fact}"))
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for heading in ("", "value", "range", "kind", "source"):
        table.add_column(heading, no_wrap=heading in ("value", "kind"))
    for path, one in found.quantities.items():
        source = one.source + (f" ({one.note})" if one.note else "")
        kind = one.kind + (", placeholder" if one.placeholder else "")
        style = _style(one)
        table.add_row(Text(path), Text(one.text(), style=style), _range(one), Text(kind, style=style), Text(source))
    console.print(table)
    console.print(Text(_footnote(found.quantities.values())))
    if found.kind == "systems":
        for line in _sums(found.name):
            console.print(line)


def _sums(system: str) -> list[str]:
    """What the parts of a unit come to, in watts and in dollars, and what they leave of the published total."""
    from sweep.unit_parts import bill, closing, rated

    close = closing(system)
    lines = ["", f"Rated power of a unit by part, at the {'system' if close is None else close.boundary}:"]
    lines += close.lines() if close else rated(system)
    return [*lines, "", "Price of a unit by part, prices list:", *bill(system)]


def show(name: str, *, json: Annotated[bool, Parameter(negative="")] = False) -> None:
    """Show everything known about a name, with the source of every number.

    Parameters
    ----------
    name
        Name of a chip, system, model, stack, engine, fabric, calibration, operation, price basis, process or memory.
        A name that several of them bear shows all.
    json
        Print one JSON object.
    """
    if json:
        _print_json(named_json(name))
        return
    found = _named(name)
    console = opened(PIPED_WIDTH, folds=True)
    for number, one in enumerate(found):
        if number:
            console.print()
        _shown(one, console)
