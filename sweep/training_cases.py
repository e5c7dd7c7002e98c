"""A published training case as a run of the cost model: its machine, its software, and what it leaves open chosen."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from model.cost import StepCost
from model.evaluate import evaluate_training
from model.layout import SHORT, Layout, recompute_names
from model.stack import Stack
from model.system import System
from sweep import catalogue
from sweep.flags import applied
from sweep.published import CHIP_SYSTEMS, InexpressibleError, aligned, is_fully_sharded, networked, question

@dataclass(frozen=True, slots=True)
class Evaluated:
    """A case evaluated at every layout that it may be, and the one that is taken."""

    system: System
    stack: str
    rules: tuple[str, ...]  # of the case that changed the stack
    cost: StepCost
    row: int  # of the layout that is taken
    ranks: int
    chosen: str | None  # what the source leaves open, as taken


def evaluated(case: Mapping[str, Any], cut: Callable[[System], System] = lambda system: system) -> Evaluated:
    """Evaluate a case that has been read, on its machine or on what `cut` leaves of it.

    Raises InexpressibleError with what keeps the case from being expressed.
    """
    system, ranks_per_chip = machine_of(case)
    system = cut(system)
    name, stack = stack_of(case)
    stack, rules = applied(stack, case)
    asked = question(case, stack, ranks_per_chip)
    if not system.chip.supports(asked.training.number_format):
        raise InexpressibleError(f"{system.chip.name} does not compute in {asked.training.number_format}")
    cost = evaluate_training(system, stack, asked.training, asked.layouts)
    row = _chosen_row(system, stack, asked.layouts, cost.step_time, cost.memory.total, cost.violations)
    chosen = _filled(asked.chosen, asked.layouts.flat().take(np.array([row])))
    return Evaluated(system, name, rules, cost, row, asked.ranks, chosen)


def stack_of(case: Mapping[str, Any]) -> tuple[str, Stack]:
    """The stack record of a case's framework and release; the nearest by year where the framework is unknown."""
    software = case.get("software") or {}
    framework = _ran(case) or str(software.get("framework") or "other")
    year = _year(framework, case)
    vendor = _vendor(case)
    names = catalogue.stacks_of(framework, year, vendor=vendor) or catalogue.stacks_of(framework, vendor=vendor)
    name = names[0] if names else _nearest_stack(case, year)
    return name, catalogue.stack(name)


# Frameworks that a benchmark suite's or a submission's flags may name, and how they are written there.
_NAMED = {"maxtext": "maxtext", "paxml": "pax", "axlearn": "axlearn", "levanter": "levanter"}


def _ran(case: Mapping[str, Any]) -> str | None:
    """The framework that the flags of a benchmark suite or a submission say it ran."""
    flags = [str(flag).lower() for flag in case.get("flags") or []]
    return next((name for name, text in _NAMED.items() if any(text in flag for flag in flags)), None)


def _vendor(case: Mapping[str, Any]) -> str | None:
    """Who makes the chip of a case."""
    system = CHIP_SYSTEMS.get(str(case.get("chip")))
    if system is None:
        return None
    chip = catalogue.referred(catalogue.entry("systems", system[0]), "chip", "chips", None)
    return str(chip.facts["vendor"])


def _nearest_stack(case: Mapping[str, Any], year: int | None) -> str:
    """For an unknown framework: one of its kind and year.

    Fully sharded data parallelism if the case says so; Megatron-LM of the year on GPUs, of the year in which the chip
    was current where none is known; else what the chip's machine runs.
    """
    if is_fully_sharded(case):
        return "fms-fsdp"
    chip = str(case.get("chip"))
    if chip.startswith(_GPUS):
        current = 2025 if chip.startswith(_RECENT_GPUS) else 2024
        return catalogue.stacks_of("megatron-lm", year or current)[0]
    return catalogue.default_stack(CHIP_SYSTEMS[chip][0])


_RECENT_GPUS = ("b200", "b300", "gb200", "gb300", "mi355x")
_GPUS = (*_RECENT_GPUS, "a100", "h100", "h800", "h20", "mi300x", "mi325x")


_BRANCH = re.compile(r"\br0\.(\d+)")  # release branches of Megatron-LM and Megatron-Core
_CALENDAR = re.compile(r"\b(2[0-9])\.(?:0[1-9]|1[0-2])\b")  # releases numbered by year and month


def _year(framework: str, case: Mapping[str, Any]) -> int | None:
    """Year of a case's software: stated, or read from how each project numbers its releases.

    The release may stand in the case's software, in its flags, or in the title and section of its source. Calendar
    versions ("25.04", "24.11.1") name the year; MLPerf Training 3 to 5 are of 2023 to 2025; Megatron's branches up to
    r0.10 are of 2024 or before. Other numbering says nothing.
    """
    software, source = case.get("software") or {}, case.get("source") or {}
    if software.get("year"):
        return int(software["year"])
    release = str(software.get("release") or "")
    if framework == "mlperf" and release.split(".")[0].isdigit():
        return 2020 + int(release.split(".")[0])
    title = source.get("title") if isinstance(source, dict) else source
    said = " ".join(map(str, (release, *(case.get("flags") or []), title, case.get("table_or_section"))))
    calendar, branch = _CALENDAR.search(said), _BRANCH.search(said)
    if calendar:
        return 2000 + int(calendar.group(1))
    if branch:
        return 2024 if int(branch.group(1)) <= 10 else 2025
    return None


def machine_of(case: Mapping[str, Any]) -> tuple[System, int]:
    """The machine of a case, and ranks per published chip."""
    chip = case.get("chip")
    if str(chip) not in CHIP_SYSTEMS:
        raise InexpressibleError(f"chip {chip!r} is not in the catalogue")
    name, sold_with = CHIP_SYSTEMS[str(chip)]
    system = aligned(networked(catalogue.system(name, chip_name=sold_with), case), case)
    return system, 1 if str(chip).endswith("_die") else system.chip.ranks_per_package


def _chosen_row(
    system: System, stack: Stack, layouts: Layout, seconds: Any, used: Any, violations: Mapping[str, Any]
) -> int:
    """Least recomputation that fits, then the fastest.

    A run that was published did fit, whatever the model says, so the predicted memory may pass the chip's by the
    stack's margin.
    """
    broken = np.zeros(seconds.shape, bool)
    for rule, excess in violations.items():
        if rule != "hbm_bytes":
            broken |= np.broadcast_to(np.asarray(excess), seconds.shape) > 0
    usable = ~broken if not broken.all() else np.ones_like(broken)
    fits = usable & (used <= stack.fits_within * system.chip.hbm_bytes)
    if not fits.any():
        return int(np.flatnonzero(usable)[np.argmin(used[usable])])
    masks = np.broadcast_to(layouts.recompute, seconds.shape)
    amount = np.where(masks & 1, masks.max() + 1, np.bitwise_count(masks))  # "full" is the first bit
    least = amount[fits].min()
    candidates = np.flatnonzero(fits & (amount == least))
    return int(candidates[np.argmin(seconds[candidates])])


def _filled(open_fields: Sequence[str], layout: Layout) -> str | None:
    """What a case leaves open, as the layout taken has it."""
    columns = {short: np.asarray(getattr(layout, name)).item() for name, short in SHORT.items()}
    shown = {"micro_batch": f"micro_batch={columns['mbs']}", "vp": f"vp={columns['vp']}",
             "recompute": f"recompute={recompute_names(columns['recompute'])}"}  # fmt: skip
    return ", ".join(shown[name] for name in open_fields) or None
