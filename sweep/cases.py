"""The cases of a study: one machine of one size doing one piece of work. The layouts of a case are searched."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from model.layout import OVERLAPS
from model.stack import Stack
from model.system import System
from model.workload import Training
from sweep import catalogue
from sweep.axes import Axes, Problem
from sweep.designs import Design, changes_text, is_scenario, machine, software
from sweep.space import Space, layout_space
from sweep.study import Search, Sense, Study, Workload


@dataclass(frozen=True, slots=True)
class Case:
    """A machine of a size, what it trains, and how its layout is looked for. `chips` counts packages."""

    index: int
    design: Design
    corner: catalogue.Corner
    model: str
    sequence: int
    batch: int
    number_format: str
    expert_imbalance: float
    chips_asked: int
    chips: int
    method: str = "exact"
    trial: int = -1


@dataclass(frozen=True, slots=True)
class Question:
    """What every task of a run shares: with a case, all that a worker needs."""

    axes: Axes
    search: Search
    constraints: tuple[tuple[str, Sense, float], ...]
    seed: int
    metadata: tuple[tuple[str, str], ...] = ()  # of the study, for the data set


@dataclass(frozen=True, slots=True)
class Records:
    """The records of the cost model that a case stands for."""

    system: System
    stack: Stack
    training: Training
    space: Space


def records(question: Question, case: Case) -> Records:
    """Look a case up in the catalogue and list its layouts."""
    system = machine(case.design, case.corner)
    stack = software(case.design)
    shape = catalogue.architecture(case.model, case.design.extra)
    work = Training(shape, case.sequence, case.number_format, case.expert_imbalance)
    ranks = case.chips * system.chip.ranks_per_package
    problem = Problem(
        shape, case.sequence, ranks, case.batch, stack.selective_recompute, overlaps_of(stack), system.host is not None
    )
    return Records(system, stack, work, layout_space(problem, question.axes))


def overlaps_of(stack: Stack) -> tuple[str, ...]:
    """Overlaps that a stack offers, so that a layout can do without."""
    shares = {
        "tensor": stack.tensor_overlap,
        "expert": stack.expert_overlap,
        "data": max(stack.gradient_overlap, stack.fsdp_overlap),
    }
    return tuple(name for name in OVERLAPS if shares[name] > 0)


def round_size(asked: int, unit: int) -> int:
    """The number of packages nearest to `asked` that whole units make."""
    return max(1, (asked + unit // 2) // unit) * unit


def corners_of(study: Study, design: Design) -> tuple[catalogue.Corner, ...]:
    """Corners at which a design is solved: both ends of its ranges too where it rests on rumour."""
    if study.corners and is_scenario(design):
        return ("nominal", "low", "high")
    return ("nominal",)


def _formats(design: Design, workload: Workload, notes: list[str]) -> Iterator[str]:
    chip = machine(design).chip
    for name in design.number_formats or workload.number_formats:
        if chip.supports(name):
            yield name
        else:
            notes.append(f"{design.label}: {chip.name} does not run {name}, which is left out for it")


def _sizes(design: Design, notes: list[str]) -> Iterator[tuple[int, int]]:
    """Sizes asked for and made, each size made once."""
    unit = machine(design).unit_packages
    made: set[int] = set()
    for asked in design.chips:
        chips = round_size(asked, unit)
        if chips != asked:
            notes.append(f"{design.label}: {asked} chips are taken as {chips}, whole units of {unit}")
        if chips not in made:
            made.add(chips)
            yield asked, chips


def cases(study: Study) -> tuple[list[Case], tuple[str, ...]]:
    """All cases of a study without outer variables, in their fixed order, and what was rounded or left out."""
    found: list[Case] = []
    notes: list[str] = []
    for workload, design in product(study.workloads, study.designs):
        formats = tuple(_formats(design, workload, notes))
        sizes = tuple(_sizes(design, notes))
        corners = corners_of(study, design)
        for size, number_format, corner, method in product(sizes, formats, corners, study.search.methods):
            found.append(case_of(len(found), design, corner, workload, number_format, size, method))
    return found, (*study.notes, *dict.fromkeys(notes))


def case_of(
    index: int,
    design: Design,
    corner: catalogue.Corner,
    workload: Workload,
    number_format: str,
    size: tuple[int, int],
    method: str,
    trial: int = -1,
) -> Case:
    """A case of a workload. `size` is the number of chips asked for and the number made."""
    return Case(
        index=index,
        design=design,
        corner=corner,
        model=workload.model,
        sequence=workload.sequence,
        batch=workload.batch,
        number_format=number_format,
        expert_imbalance=workload.expert_imbalance,
        chips_asked=size[0],
        chips=size[1],
        method=method,
        trial=trial,
    )


def identity(case: Case) -> dict[str, str | int | float | bool]:
    """The columns that all rows of a case share."""
    system = machine(case.design, case.corner)
    kinds = list(catalogue.source_kinds(case.design.system, case.design.extra).values())
    guessed = sum(kind in ("estimated", "rumour") for kind in kinds)
    return {
        "case": case.index,
        "design": case.design.label,
        "system": case.design.system,
        "chip": system.chip.name,
        "stack": case.design.stack,
        "changes": changes_text(case.design),
        "corner": case.corner,
        "scenario": is_scenario(case.design),
        "estimated_share": guessed / len(kinds) if kinds else 0.0,
        "method": case.method,
        "trial": case.trial,
        "model": case.model,
        "number_format": case.number_format,
        "sequence": case.sequence,
        "expert_imbalance": case.expert_imbalance,
        "chips_asked": case.chips_asked,
        "chips": case.chips,
        "ranks": case.chips * system.chip.ranks_per_package,
    }
