"""A published training case as a run of the cost model: its machine, its software, and what it leaves open chosen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from model.cost import StepCost
from model.evaluate import evaluate_training
from model.layout import SHORT, Layout, recompute_names
from model.stack import Stack
from model.step import training_step
from model.system import System
from model.workload import Training
from sweep import catalogue
from sweep.case_layouts import question
from sweep.chip_names import CHIP_SYSTEMS, unknown_chip
from sweep.flags import applied
from sweep.published import InexpressibleError, aligned, networked
from sweep.recipes import Recipes
from sweep.stack_choice import choose_stack


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A case evaluated at every layout that it may be, and the one that is taken."""

    system: System
    stack: str
    stack_why: str
    rules: tuple[str, ...]  # of the case that changed the stack
    cost: StepCost
    row: int  # of the layout that is taken
    ranks: int
    chosen: str | None  # what the source leaves open, as taken
    usable_memory: float  # share of a rank's memory that may be planned
    training: Training
    layout: Layout  # that is taken


def _same(record: Any) -> Any:
    return record


@dataclass(frozen=True, slots=True)
class Changes:
    """What is taken in place of what the catalogue holds: a part of the machine, other constants of the software."""

    machine: Callable[[System], System] = _same
    stack: Callable[[Stack], Stack] = _same
    recipes: Recipes | None = None


AS_HELD = Changes()


def evaluated(case: Mapping[str, Any], changes: Changes = AS_HELD) -> Evaluated:
    """Evaluate a case that has been read, on its machine and software or on what `changes` make of them.

    Raises InexpressibleError with what keeps the case from being expressed.
    """
    system, ranks_per_chip = machine_of(case)
    system = changes.machine(system)
    taken = choose_stack(case)
    stack, rules = applied(changes.stack(catalogue.stack(taken.name)), case, changes.recipes)
    asked = question(case, stack, ranks_per_chip)
    if not system.chip.supports(asked.training.number_format):
        raise InexpressibleError(f"{system.chip.name} does not compute in {asked.training.number_format}")
    cost = evaluate_training(system, stack, asked.training, asked.layouts)
    row = _chosen_row(system, stack, asked.layouts, cost.step_time, cost.memory.total, cost.violations)
    layout = asked.layouts.flat().take(np.array([row]))
    chosen = _filled(asked.chosen, layout)
    return Evaluated(
        system, taken.name, taken.why, rules, cost, row, asked.ranks, chosen, stack.usable_memory, asked.training,
        layout,
    )  # fmt: skip


def step_seconds(case: Mapping[str, Any], found: Evaluated, changes: Changes) -> Any:
    """(k,) seconds of a step at the layout that was found, with changes to constants that are arrays (k,)."""
    system = changes.machine(machine_of(case)[0])
    stack, _ = applied(changes.stack(catalogue.stack(found.stack)), case, changes.recipes)
    return training_step(system, stack, found.training, found.layout).step_time


def machine_of(case: Mapping[str, Any]) -> tuple[System, int]:
    """The machine of a case, and ranks per published chip."""
    chip = case.get("chip")
    if str(chip) not in CHIP_SYSTEMS:
        raise InexpressibleError(unknown_chip(chip))
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
