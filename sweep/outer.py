"""Variables outside the layout, proposed by Optuna: cluster size, batch, parameters of the machine.

A trial is a case, whose layouts are searched exactly; so Optuna sees the best of each machine, never one layout.
Every design, workload and number format has an Optuna study of its own, and all studies go through their generations
together, so that the workers have enough to do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from typing import TYPE_CHECKING, Any

from sweep.cases import Case, case_of, round_size
from sweep.columns import QUANTITIES
from sweep.designs import Design, machine
from sweep.scheduler import Scheduler
from sweep.study import Outer, Study, Variable, Workload, round_batch
from sweep.trials import NOTHING, Journal, new_study, quiet, sampler, sampler_notes, seed_of, told

if TYPE_CHECKING:
    import optuna

Trial = dict[str, Any]


@dataclass(slots=True)
class Track:
    """One Optuna study: a design doing a workload in a number format."""

    name: str
    first_case: int
    design: Design
    workload: Workload
    number_format: str
    variables: Mapping[str, Any]  # Optuna's distributions
    study: optuna.Study
    trials: list[Trial] = field(default_factory=list)  # told, in order


def search_outer(study: Study, scheduler: Scheduler, journal: Journal) -> list[Track]:
    """Run every generation that the run folder does not hold yet, and return all trials."""
    assert study.outer is not None, "the study has no outer variables"
    outer = study.outer
    with quiet():
        tracks = list(_tracks(study, outer))
        scheduler.progress.total = len(tracks) * outer.trials
        known = {(line["track"], line["generation"]): line["trials"] for line in scheduler.folder.lines()
                 if line.get("done") == "generation"}  # fmt: skip
        for generation in range(-(-outer.trials // outer.generation)):
            asked = []
            for track in tracks:
                if (track.name, generation) in known:
                    _remember(track, outer, known[track.name, generation], journal)
                    scheduler.progress.done += len(known[track.name, generation])
                else:
                    asked.append((track, _ask(study, outer, track, generation)))
            cases = [case for _, trials in asked for _, case in trials]
            outcomes = scheduler.work_off(cases)
            # What comes next rests on every trial so far: a track of which one failed waits for the next try.
            lost = {track.name for track, trials in asked if any(case.index not in outcomes for _, case in trials)}
            tracks = [track for track in tracks if track.name not in lost]
            asked = [(track, trials) for track, trials in asked if track.name not in lost]
            for track, trials in asked:
                results = [_tell(outer, track, trial, case, outcomes[case.index]) for trial, case in trials]
                line = {"done": "generation", "track": track.name, "generation": generation, "trials": results}
                scheduler.folder.note(line)
                track.trials.extend(results)
                journal.add(track.name, outer.objectives, [told(result, track.variables) for result in results])
    return tracks


def _tracks(study: Study, outer: Outer) -> Iterator[Track]:
    first = 0
    for workload, design in product(study.workloads, study.designs):
        for number_format in design.number_formats or workload.number_formats:
            if machine(design).chip.supports(number_format):
                yield Track(
                    name=f"{design.label} {workload.model} {number_format}",
                    first_case=first,
                    design=design,
                    workload=workload,
                    number_format=number_format,
                    variables=_distributions(outer, design),
                    study=new_study(outer.objectives),
                )
                first += outer.trials


def _distributions(outer: Outer, design: Design) -> dict[str, Any]:
    return {variable.name: _distribution(variable, machine(design).unit_packages) for variable in outer.variables}


def _distribution(variable: Variable, unit: int) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if variable.name == "chips":
        if variable.choices:
            sizes = [round_size(int(choice), unit) for choice in variable.choices]
            return CategoricalDistribution(list(dict.fromkeys(sizes)))
        low, high = (round_size(int(end), unit) // unit for end in (variable.low, variable.high))
        return IntDistribution(low, max(low, high), log=variable.log)  # in units of the machine
    if variable.choices:
        return CategoricalDistribution(list(variable.choices))
    if variable.whole:
        return IntDistribution(int(variable.low), int(variable.high), log=variable.log)
    return FloatDistribution(variable.low, variable.high, log=variable.log)


def _ask(study: Study, outer: Outer, track: Track, generation: int) -> list[tuple[optuna.Trial, Case]]:
    """Proposals of a generation, as cases."""
    seed = seed_of(study.seed, "outer", track.name)
    track.study.sampler = sampler(outer.sampler, seed, generation, outer.generation)
    size = min(outer.generation, outer.trials - generation * outer.generation)
    asked = [track.study.ask(dict(track.variables)) for _ in range(size)]
    return [(trial, _case(study, track, trial)) for trial in asked]


def _case(study: Study, track: Track, trial: optuna.Trial) -> Case:
    values = dict(trial.params)
    unit = machine(track.design).unit_packages
    workload = track.workload
    if "batch" in values:
        workload = replace(workload, batch=round_batch(values.pop("batch")))
    chips = track.design.chips[0] if track.design.chips else unit
    if "chips" in values:
        given = values.pop("chips")
        chosen = (
            next(variable for variable in study.outer.variables if variable.name == "chips") if study.outer else None
        )
        chips = given if chosen is not None and chosen.choices else given * unit
    changes = {**dict(track.design.changes), **values}
    design = replace(track.design, changes=tuple(changes.items()))
    size = (chips, round_size(chips, int(machine(design).unit_packages)))
    return case_of(
        track.first_case + trial.number, design, "nominal", workload, track.number_format, size, "exact", trial.number
    )


def _tell(outer: Outer, track: Track, trial: optuna.Trial, case: Case, outcome: Mapping[str, Any]) -> Trial:
    """Tell a trial what its case came to, and return what the log keeps of it."""
    best = outcome["best"]
    if best is None:
        excesses = {name: excess for name, excess in outcome["nearest"].items() if excess > 0} or {"legal": 1.0}
        values = [NOTHING[QUANTITIES[name].better] for name in outer.objectives]
    else:
        excesses = {"legal": -1.0}
        values = [float(best[name]) for name in outer.objectives]
    for name, excess in excesses.items():
        trial.set_constraint(name, excess)
    track.study.tell(trial, values)
    return {
        "params": trial.params,
        "values": values,
        "constraints": excesses,
        "attributes": {"case": case.index, "chips": case.chips, "batch": case.batch},
        "sampler": sampler_notes(track.study, trial.number),
    }


def _remember(track: Track, outer: Outer, trials: list[Trial], journal: Journal) -> None:
    """Take up a generation that an earlier process told."""
    frozen = [told(trial, track.variables) for trial in trials]
    track.study.add_trials(frozen)
    track.trials.extend(trials)
    journal.add(track.name, outer.objectives, frozen)
