"""What a result rests on: the entries of the catalogue behind a machine, a model, software and prices."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sweep.catalogue import Entry, Kind, entry, lineage, referred


def _entries_of(system_name: str, extra: Path | None) -> dict[str, Entry]:
    """The entries that a system is made of, by what they are to it."""
    found = entry("systems", system_name, extra)
    own_chip = referred(found, "chip", "chips", extra)
    parts = {
        "system": found,
        "chip": own_chip,
        "calibration": referred(own_chip, "calibration", "calibrations", extra),
    }
    for key in found.facts:
        if key.startswith("tiers.") and key.endswith(".fabric"):
            fabric = referred(found, key, "fabrics", extra)
            parts[f"fabric {fabric.name}"] = fabric
    return parts


def source_kinds(system_name: str, extra: Path | None = None) -> dict[str, str]:
    """Kind of source of every number behind a system's time and energy, by path, as in "chip.hbm_bandwidth"."""
    parts = _entries_of(system_name, extra)
    every = ((part, path, one) for part, at in parts.items() for path, one in at.quantities.items())
    return {f"{part}.{path}": one.kind for part, path, one in every if not _is_beside(path)}


def _is_beside(path: str) -> bool:
    """Whether a number is of money, failures or floor alone."""
    beside = path.startswith(("cost.", "silicon.", "racks."))
    return beside or path.endswith(("_usd", "failure_rate", "fault_domain_packages"))


def entries_used(
    system_name: str,
    model_name: str,
    software: str,
    extra: Path | None = None,
    kind: Kind = "stacks",
    prices: str | None = None,
    further: Sequence[tuple[Kind, str]] = (),
) -> dict[str, str]:
    """Text of every file that a result rests on, by "kind/name.toml", to be kept with the result.

    The software is a stack or an engine, as `kind` says. With a price basis: its file, and the processes and memories
    of the chip. `further` names other entries by kind and name: how the cluster is run, and the like.
    """
    used = [*_entries_of(system_name, extra).values(), *lineage(entry(kind, software, extra), extra)]
    used += [entry(other, name, extra) for other, name in further]
    if prices is not None:
        from sweep.price_basis import entries_behind

        used += entries_behind(prices, system_name, extra)
    shapes = entry("models", model_name, extra)
    used.append(shapes)
    while "alias_of" in shapes.facts:
        shapes = referred(shapes, "alias_of", "models", extra)
        used.append(shapes)
    return {f"{one.kind}/{one.name}.toml": one.text for one in used}
