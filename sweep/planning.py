"""What a study would run: its cases, their legal layouts, which rules drop the rest, and about how long it takes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sweep.blocks import keep_freed_memory
from sweep.cases import Case, Question, cases, round_size, works
from sweep.designs import machine
from sweep.kinds import Known, Numbered, known_case, prunes_well
from sweep.study import Study

_START_S = 5.0  # Ray and the first task of each worker
_CASE_S = 0.05  # of a case, however small
_SAMPLE = 1 << 18  # layouts
_SAMPLE_SERVED = 1 << 9  # instances, each solved for its batch


@dataclass(frozen=True, slots=True)
class Planned:
    """A case without its corners, formats and methods: one space of layouts."""

    design: str
    model: str
    chips: int
    ranks: int
    points: int
    layouts: int
    times: int  # cases that search this space


@dataclass(frozen=True, slots=True)
class Plan:
    """What a study would run."""

    cases: int
    layouts: int  # of all cases
    combinations: int  # of all axes of all cases, legal or not
    dropped: Mapping[str, int]
    axes: Mapping[str, tuple[int, ...]]  # values that occur, over all spaces
    spaces: Sequence[Planned]
    seconds: float  # on `workers` workers
    workers: int
    notes: tuple[str, ...]

    def as_object(self) -> dict[str, Any]:
        """What --json prints."""
        return {
            "cases": self.cases,
            "layouts": self.layouts,
            "combinations": self.combinations,
            "dropped": dict(self.dropped),
            "axes": {name: list(values) for name, values in self.axes.items()},
            "spaces": [{name: getattr(one, name) for name in Planned.__slots__} for one in self.spaces],
            "seconds": self.seconds,
            "workers": self.workers,
            "notes": list(self.notes),
        }


def plan_study(study: Study, workers: int) -> Plan:
    """List every space of a study and time a sample of the largest."""
    keep_freed_memory()
    question = Question(study.axes, study.search, study.constraints, study.seed, phase=study.phase)
    listed, notes = standing_cases(study)
    groups: dict[tuple[str, str, int], list[Case]] = {}
    for case in listed:
        groups.setdefault((case.design.label, case.model, case.chips), []).append(case)
    spaces: list[Planned] = []
    dropped: dict[str, int] = {}
    axes: dict[str, set[int]] = {}
    combinations = 0
    largest: tuple[int, Case | None] = (0, None)
    repeats = study.outer.trials if study.outer else 1
    for (label, model, chips), group in groups.items():
        known = known_case(question, group[0])
        times = len(group) * repeats
        _count(known.space, times, dropped, axes)
        combinations += known.space.combinations * times
        points = known.space.points
        ranks = chips * known.system.chip.ranks_per_package
        spaces.append(Planned(label, model, chips, ranks, points, known.space.count, times))
        if points > largest[0]:
            largest = (points, group[0])
    seconds = _seconds(question, spaces, largest[1], workers)
    return Plan(
        cases=sum(one.times for one in spaces),
        layouts=sum(one.layouts * one.times for one in spaces),
        combinations=combinations,
        dropped=dict(sorted(dropped.items(), key=lambda item: -item[1])),
        axes={name: tuple(sorted(values)) for name, values in axes.items()},
        spaces=spaces,
        seconds=seconds,
        workers=workers,
        notes=notes,
    )


def standing_cases(study: Study) -> tuple[list[Case], tuple[str, ...]]:
    """The cases of a study; with outer variables, one a design and workload that stands for all trials."""
    if study.outer is None:
        return cases(study)
    found: list[Case] = []
    for workload in study.workloads:
        for design in study.designs:
            unit = machine(design).unit_packages
            sizes = [v.choices or (v.high,) for v in study.outer.variables if v.name == "chips"]
            chips = round_size(int(max(sizes[0])) if sizes else max(design.chips), unit)
            found += [
                Case(len(found), design, "nominal", work, chips, chips) for work in works(design, workload, [])[:1]
            ]
    return found, (*study.notes, "The largest size stands for every trial.")


def _count(space: Numbered, times: int, dropped: dict[str, int], axes: dict[str, set[int]]) -> None:
    for rule, count in space.dropped.items():
        dropped[rule] = dropped.get(rule, 0) + count * times
    for name, values in space.degrees.items():
        axes.setdefault(name, set()).update(values)


def _seconds(question: Question, spaces: Sequence[Planned], largest: Case | None, workers: int) -> float:
    """About how long the study takes, from a sample of its largest space."""
    if largest is None:
        return _START_S
    cases = sum(one.times for one in spaces)
    if largest.method == "optuna":
        return _START_S + 0.02 * question.search.trials * cases / workers
    known = known_case(question, largest)
    if question.phase == "training" and prunes_well(question.search):
        work = _timed(known, known.space.count) * cases  # the largest stands for all
    else:
        sample = min(_SAMPLE if question.phase == "training" else _SAMPLE_SERVED, known.space.count)
        _timed(known, sample)  # once to warm up
        work = _timed(known, sample) / sample * sum(one.layouts * one.times for one in spaces)
    return _START_S + (work + _CASE_S * cases) / workers


def _timed(known: Known, layouts: int) -> float:
    """Seconds to search the first layouts of a space."""
    began = time.perf_counter()
    known.search(0, layouts)
    return time.perf_counter() - began
