"""Variables outside the layout, proposed by Optuna: cluster size, batch, parameters of the machine.

A trial is a case, whose layouts are searched exactly; so Optuna sees the best of each machine, never one layout.
Every design, workload and number format has an Optuna study of its own, and all studies go through their generations
together, so that the workers have enough to do.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

from sweep import trials
from sweep.cases import Case, round_size, works
from sweep.columns import QUANTITIES
from sweep.designs import Design, machine
from sweep.mirror import Mirror
from sweep.samplers import seed_of
from sweep.scheduler import Scheduler
from sweep.study import OUTER_PLAIN, Outer, Study, round_batch
from sweep.study import Variable as Asked
from sweep.study_schema import SamplerName
from sweep.trials import NOTHING, Choice, Params, Proposer, Range, Result, Source, Trial, Variable
from sweep.work import TrainingWork, Work

_CAP = "chip.power_cap_w"


@dataclass(slots=True)
class Track:
    """One Optuna study: a design doing a piece of work."""

    name: str
    first_case: int
    design: Design
    work: Work
    sampler: SamplerName
    variables: Mapping[str, Variable]
    proposer: Proposer
    baselines: list[Params]
    generations: list[range]
    trials: list[Trial] = field(default_factory=list)  # told, in order


def search_outer(study: Study, scheduler: Scheduler, mirror: Mirror) -> list[Track]:
    """Run every generation that the run folder does not hold yet, and return all trials."""
    assert study.outer is not None, "the study has no outer variables"
    outer = study.outer
    tracks = list(_tracks(study, outer))
    scheduler.progress.total = sum(len(numbers) for track in tracks for numbers in track.generations)
    known = {(line["track"], line["generation"]): line["trials"] for line in scheduler.folder.lines()
             if line.get("done") == "generation"}  # fmt: skip
    for generation in range(max((len(track.generations) for track in tracks), default=0)):
        asked = []
        for track in tracks:
            if generation >= len(track.generations):
                continue
            if (track.name, generation) in known:
                results = known[track.name, generation]
                track.proposer.remember(generation, results)
                track.trials.extend(results)
                mirror.add(track.name, track.variables, outer.objectives, results)
                scheduler.progress.done += len(results)
            else:
                asked.append((track, _ask(track, generation)))
        outcomes = scheduler.work_off([case for _, proposed in asked for _, case in proposed])
        # What comes next rests on every trial so far: a track of which one failed waits for the next try.
        lost = {track.name for track, proposed in asked if any(case.index not in outcomes for _, case in proposed)}
        tracks = [track for track in tracks if track.name not in lost]
        asked = [(track, proposed) for track, proposed in asked if track.name not in lost]
        for track, proposed in asked:
            results = _tell(outer, track, generation, proposed, outcomes)
            line = {"done": "generation", "track": track.name, "generation": generation, "trials": results}
            scheduler.folder.note(line)
            track.trials.extend(results)
            mirror.add(track.name, track.variables, outer.objectives, results)
    return tracks


def mirror_outer(study: Study, lines: Iterable[Mapping[str, Any]], mirror: Mirror) -> None:
    """Offer the trials of a finished run, from the lines of its manifest, to a mirror."""
    assert study.outer is not None, "the study has no outer variables"
    variables = {track.name: track.variables for track in _tracks(study, study.outer)}
    for line in lines:
        if line.get("done") == "generation":
            mirror.add(line["track"], variables[line["track"]], study.outer.objectives, line["trials"])


def _tracks(study: Study, outer: Outer) -> Iterator[Track]:
    first = 0
    for workload, design in product(study.workloads, study.designs):
        for work in works(design, workload, []):
            yield _track(study, _own(outer, design), first, design, work)
            first += outer.trials


def _own(outer: Outer, design: Design) -> Outer:
    """What is varied for a design: of one that stands beside the others, its size and its batch at most."""
    if outer.varies(design.label):
        return outer
    plain = tuple(one for one in outer.variables if one.name in OUTER_PLAIN)
    baselines = tuple(tuple(pair for pair in one if pair[0] in OUTER_PLAIN) for one in outer.baselines)
    if not plain:
        return replace(outer, variables=(), baselines=(), trials=1, sampler="brute_force")
    return replace(outer, variables=plain, baselines=tuple(dict.fromkeys(baselines)))


def _track(study: Study, outer: Outer, first: int, design: Design, work: Work) -> Track:
    name = f"{design.label} {work.name}"
    unit = machine(design).unit_packages
    variables = {variable.name: _variable(variable, unit) for variable in outer.variables}
    baselines = [_baseline(dict(values), unit) for values in outer.baselines]
    count = outer.trials
    if outer.sampler == "brute_force":
        count = min(count, len(baselines) + math.prod(len(_values(one)) for one in variables.values()))
    seed = seed_of(study.seed, "outer", name)
    proposer = Proposer(outer.sampler, variables, outer.objectives, seed, outer.generation)
    planned = trials.generations(count, outer.generation, len(baselines))
    return Track(name, first, design, work, outer.sampler, variables, proposer, baselines, planned)


def _baseline(values: Params, unit: int) -> Params:
    return values | ({"chips": round_size(int(values["chips"]), unit)} if "chips" in values else {})


def _variable(asked: Asked, unit: int) -> Variable:
    """A variable of the study for a machine of which `unit` packages make a whole."""
    if asked.name == "chips" and asked.choices:
        sizes = [round_size(int(choice), unit) for choice in asked.choices]
        return Choice(tuple(sorted(set(sizes))))
    if asked.name == "chips":
        low, high = (round_size(int(end), unit) // unit for end in (asked.low, asked.high))
        return Range(low, max(low, high), asked.log, whole=True, unit=unit)
    if asked.choices:
        return Choice(tuple(sorted(asked.choices)))
    return Range(asked.low, asked.high, asked.log, whole=asked.whole)


def _values(variable: Variable) -> range | tuple[Any, ...]:
    """All values of a variable, in order."""
    if isinstance(variable, Choice):
        return variable.values
    return range(int(variable.low) * variable.unit, int(variable.high) * variable.unit + 1, variable.unit)


def _ask(track: Track, generation: int) -> list[tuple[Params, Case]]:
    """Proposals of a generation, as cases."""
    numbers = track.generations[generation]
    given: list[Params] = []
    source: Source = "baseline"
    if generation == 0 and track.baselines:
        given = track.baselines
    elif track.sampler == "brute_force":
        before, source = len(track.baselines), "order"
        every = product(*(_values(one) for one in track.variables.values()))
        chosen = itertools.islice(every, numbers.start - before, numbers.stop - before)
        given = [dict(zip(track.variables, values, strict=True)) for values in chosen]
    params = track.proposer.ask(generation, len(numbers), given, source)
    return [(one, _case(track, one, number)) for one, number in zip(params, numbers, strict=True)]


def _case(track: Track, params: Params, number: int) -> Case:
    values = dict(params)
    work = track.work
    if "batch" in values and isinstance(work, TrainingWork):
        work = replace(work, batch=round_batch(values.pop("batch")))
    unit = machine(track.design).unit_packages
    chips = values.pop("chips", track.design.chips[0] if track.design.chips else unit)
    changes = {**dict(track.design.changes), **values}
    cap = None if _CAP in values else track.design.power_cap_w  # a design's own gives way to what is proposed
    design = replace(track.design, changes=tuple(changes.items()), power_cap_w=cap)
    size = (chips, round_size(chips, int(machine(design).unit_packages)))
    return Case(track.first_case + number, design, "nominal", work, *size, "exact", number)


def _tell(
    outer: Outer,
    track: Track,
    generation: int,
    proposed: list[tuple[Params, Case]],
    outcomes: Mapping[int, Mapping[str, Any]],
) -> list[Trial]:
    """Tell trials what their cases came to, and return what the log keeps of them."""
    results = [_result(outer, params, outcomes[case.index]) for params, case in proposed]
    told = track.proposer.tell(generation, results)
    for record, (_, case) in zip(told, proposed, strict=True):
        record["attributes"] = {"case": case.index, "chips": case.chips}
        if isinstance(case.work, TrainingWork):
            record["attributes"]["batch"] = case.work.batch
    return told


def _result(outer: Outer, params: Params, outcome: Mapping[str, Any]) -> Result:
    best = outcome["best"]
    if best is None:
        excesses = {name: excess for name, excess in outcome["nearest"].items() if excess > 0} or {"legal": 1.0}
        return Result(params, [NOTHING[QUANTITIES[name].better] for name in outer.objectives], excesses)
    return Result(params, [float(best[name]) for name in outer.objectives], {"legal": -1.0})
