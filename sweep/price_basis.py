"""A price basis of the catalogue, resolved for one machine: which price of it holds, and what its silicon is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from model.money import integration_of
from model.prices import Prices
from model.silicon import Die, Process, Silicon
from model.system import System
from sweep.entries import At, Entry, Kind, entry, names, referred
from sweep.errors import InputError, Problem, nearest

_OF_AN_OWNER = (
    *("electricity_usd_per_j", "facility_usd_per_w_s"),
    *("annual_interest", "lifetime_s", "integration_fraction"),
)


def silicon_of(found: Entry, corner: At = "nominal", extra: Path | None = None) -> Silicon | None:
    """What a chip's package is made of; None where its file does not say."""
    if "silicon.memory" not in found.facts:
        return None
    memory = referred(found, "silicon.memory", "memories", extra)

    def die(name: str) -> Die:
        at = f"silicon.dies.{name}"
        process = referred(found, f"{at}.process", "processes", extra)
        return Die(name, Process(process.name, **process.under("", corner)), **found.under(at, corner))

    return Silicon(
        dies=tuple(die(name) for name in found.facts["silicon.dies"]),
        memory_usd_per_byte=memory.value("usd_per_byte", corner),
        **found.under("silicon", corner),
    )


def entries_behind(prices: str, system_name: str, extra: Path | None = None) -> list[Entry]:
    """The entries that a machine's prices rest on: the basis, and the processes and memories of its chip."""
    machine = entry("systems", system_name, extra)
    made = referred(machine, "chip", "chips", extra)
    kinds: dict[str, Kind] = {"process": "processes", "memory": "memories"}
    named = [(key, kinds[last]) for key in made.facts if (last := key.rpartition(".")[2]) in kinds and "silicon" in key]
    return [
        entry("prices", prices, extra),
        *(referred(made, key, kind, extra) for key, kind in named),
    ]


def resolved(basis: Entry, system: System, machine: Entry, chip: Entry, corner: At = "nominal") -> Prices:
    """The prices of a machine under a basis.

    Parameters
    ----------
    system
        The machine, without prices.
    machine, chip
        Entries of the system and of the chip that it is taken with.
    corner
        As the machine was read.

    Raises
    ------
    InputError
        Where the basis lacks a price of this machine, with the keys to add.
    """
    if basis.facts["pays"] == "rent":
        rent = _named(basis, "rents", chip.name, "rent_usd_per_s", corner)
        if rent is None:
            known = basis.facts.get("rents", ())
            remedy = f"add [[rents]] with name = {chip.name!r} and rent_usd_per_s; it knows {', '.join(known)}"
            raise _lacking(basis, "rents", f"no rent of chip {chip.name!r}, which {machine.name!r} has", remedy)
        return Prices(basis.name, rent_usd_per_s=rent, utilisation=basis.under("", corner).get("utilisation", 1.0))
    terms = basis.under("", corner)
    lacking = [key for key in _OF_AN_OWNER if key not in terms]
    if lacking:
        problems = [
            Problem(f"prices/{basis.file.name}", key, "missing", None, "an owner's basis needs it") for key in lacking
        ]
        raise InputError(problems)
    price = _package(basis, chip, corner)
    if price is None:
        # of its silicon, so that no listed price of the machine holds
        return Prices(basis.name, **terms, gross_margin=_margin(basis, chip, system, corner))
    fraction = terms.pop("integration_fraction")
    prices = Prices(basis.name, **terms, package_usd=price)
    unit = _unit(basis, machine, chip, corner)
    if unit is None:
        return replace(prices, integration_fraction=fraction)
    left: Any = integration_of(replace(system, prices=prices), unit)
    return replace(prices, integration_usd=left if left.ndim else float(left))


def _lacking(basis: Entry, key: str, rule: str, remedy: str) -> InputError:
    return InputError([Problem(f"prices/{basis.file.name}", key, rule, None, remedy)])


def _named(basis: Entry, part: str, name: str, quantity: str, corner: At) -> Any:
    """A quantity of the item of this name in a list of the basis; None where there is none."""
    at = f"{part}.{name}.{quantity}"
    return basis.value(at, corner) if at in basis.quantities else None


def unknown_names(name: str, extra: Path | None = None) -> list[Problem]:
    """Problems of a basis that prices chips or machines that do not exist: a slip of the pen leaves the listed price.

    Looked for as a study is read, not as a run's row is: a run keeps the entries that it used, and no others.
    """
    basis = entry("prices", name, extra)
    lists: dict[str, Kind] = {
        "silicon_chips": "chips", "packages": "chips", "rents": "chips", "machines": "systems"
    }  # fmt: skip
    problems = []
    for key, kind in lists.items():
        known = names(kind, extra)
        problems += [
            Problem(f"prices/{basis.file.name}", key, f"no entry of {kind} has this name", one, nearest(one, known))
            for one in basis.facts.get(key, ())
            if one not in known
        ]
    return problems


def _from_silicon(basis: Entry, chip: Entry) -> bool:
    return basis.facts.get("chip_price") == "silicon" or chip.name in basis.facts.get("silicon_chips", ())


def _package(basis: Entry, chip: Entry, corner: At) -> Any:
    """USD of a package; None where it is priced from its silicon."""
    own = _named(basis, "packages", chip.name, "price_usd", corner)
    if own is not None:
        return own
    if _from_silicon(basis, chip):
        if "silicon.memory" in chip.facts:
            return None
        remedy = f"add [silicon] to chips/{chip.file.name}, or [[packages]] with its name and price_usd to the basis"
        raise _lacking(basis, "chip_price", f"chip {chip.name!r} has no table of its silicon", remedy)
    if "cost.price_usd" in chip.quantities:
        return chip.value("cost.price_usd", corner)
    remedy = f"add [cost] price_usd to chips/{chip.file.name}, or [[packages]] with its name and price_usd to the basis"
    raise _lacking(basis, "packages", f"no price of chip {chip.name!r}", remedy)


def _unit(basis: Entry, machine: Entry, chip: Entry, corner: At) -> Any:
    """USD of a unit as listed; None where it is the sum of its parts."""
    own = _named(basis, "machines", machine.name, "price_usd", corner)
    if own is not None:
        return own
    if chip.name != machine.facts["chip"] or f"packages.{chip.name}.price_usd" in basis.quantities:
        return None
    return machine.value("cost.price_usd", corner) if "cost.price_usd" in machine.quantities else None


def _margin(basis: Entry, chip: Entry, system: System, corner: At) -> Any:
    """Gross margin of the chip's maker, where it is priced from its silicon."""
    maker = chip.facts["vendor"]
    margin = _named(basis, "margins", maker, "gross_margin", corner)
    if margin is None:
        rule = f"no gross margin of {maker}, which makes the chip of {system.name!r}"
        raise _lacking(basis, "margins", rule, f"add [[margins]] with name = {maker!r} and gross_margin")
    return margin
