"""The cases of a study: one machine of one size doing one piece of work. The layouts of a case are searched."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

from model.layout import OVERLAPS
from model.stack import Stack
from model.system import System
from model.workload import Training
from sweep import catalogue, provenance
from sweep.axes import Problem
from sweep.designs import Design, changes_text, is_scenario, machine, software
from sweep.space import Space, layout_space
from sweep.study import Search, Sense, Study
from sweep.work import Phase, TrainingWork, Work, Workload


@dataclass(frozen=True, slots=True)
class Case:
    """A machine of a size, what it does, and how its layout is looked for. `chips` counts packages."""

    index: int
    design: Design
    corner: catalogue.Corner
    work: Work
    chips_asked: int
    chips: int
    method: str = "exact"
    trial: int = -1

    @property
    def model(self) -> str:
        """The model's name in the catalogue."""
        return self.work.model

    @property
    def number_format(self) -> str:
        """Of the matmuls."""
        return self.work.number_format


@dataclass(frozen=True, slots=True)
class Question:
    """What every task of a run shares: with a case, all that a worker needs."""

    axes: Any  # of the layouts of its phase: Axes, or InstanceAxes
    search: Search
    constraints: tuple[tuple[str, Sense, float], ...]
    seed: int
    metadata: tuple[tuple[str, str], ...] = ()  # of the study, for the data set
    phase: Phase = "training"


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
    asked = case.work
    assert isinstance(asked, TrainingWork), "the layouts of training are those of a step"
    shape = catalogue.architecture(case.model, case.design.extra)
    work = Training(shape, asked.sequence, asked.number_format, asked.expert_imbalance)
    ranks = case.chips * system.chip.ranks_per_package
    problem = Problem(
        shape, asked.sequence, ranks, asked.batch, stack.selective_recompute, overlaps_of(stack),
        system.host is not None,
    )  # fmt: skip
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


def works(design: Design, workload: Workload, notes: list[str]) -> tuple[Work, ...]:
    """What a workload is on a design: each of its variants whose number formats the chip runs."""
    chip = machine(design).chip
    found = []
    for work in workload.works(design):
        lacking = [name for name in work.formats if not chip.supports(name)]
        notes += [f"{design.label}: {chip.name} does not run {name}, which is left out for it" for name in lacking]
        if not lacking:
            found.append(work)
    return tuple(found)


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
        wanted = works(design, workload, notes)
        sizes = tuple(_sizes(design, notes))
        corners = corners_of(study, design)
        for size, work, corner, method in product(sizes, wanted, corners, study.search.methods):
            found.append(Case(len(found), design, corner, work, *size, method))
    return found, (*study.notes, *dict.fromkeys(notes))


def identity(case: Case) -> dict[str, str | int | float | bool]:
    """The columns that all rows of a case share."""
    system = machine(case.design, case.corner)
    kinds = list(provenance.source_kinds(case.design.system, case.design.extra).values())
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
        "prices": case.design.prices,
        "operation": case.design.operation,
        **case.work.columns(),
        "chips_asked": case.chips_asked,
        "chips": case.chips,
        "ranks": case.chips * system.chip.ranks_per_package,
    }
