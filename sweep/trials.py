"""Trials: what both uses of Optuna share, which are the variables outside the layout and the layouts themselves.

A sampler is made anew for every generation from the study's seed and the generation's number, and results are told in
the order of asking. So what is proposed depends on the study alone, never on timing, on workers or on interruptions:
from the records of the generations that were told, every sampler goes on as if nothing had happened.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from sweep.columns import QUANTITIES
from sweep.samplers import SAMPLERS, Sampler, one_thread, seed_of

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution

Params = dict[str, Any]  # variable -> value, as people write it
Trial = dict[str, Any]  # the record of a trial, as it stands in a log: TRIAL_KEYS
TRIAL_KEYS = ("generation", "trial", "source", "params", "values", "constraints")
Source = Literal["baseline", "sampler", "neighbour", "order"]

# Told where nothing could be evaluated: worse than anything real, in the objective's own direction.
NOTHING = {"more": 0.0, "less": 1e30}


# -------------------------------------------------------------------------------------------------- variables
@dataclass(frozen=True, slots=True)
class Choice:
    """A variable that takes one of several values; where they are ordered, neighbours are alike.

    Optuna proposes places in the list, so that samplers of numbers know the order.
    """

    values: tuple[Any, ...]
    ordered: bool = True

    def proposed(self, numeric: bool) -> BaseDistribution:
        """What Optuna proposes; `numeric` makes it a number even without an order."""
        from optuna.distributions import CategoricalDistribution, IntDistribution

        if self.ordered or numeric:
            return IntDistribution(0, len(self.values) - 1)
        return CategoricalDistribution(tuple(range(len(self.values))))

    def shown(self) -> BaseDistribution:
        """What people see of it."""
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(self.values)

    def value(self, place: Any) -> Any:
        """The value that a proposal stands for."""
        return self.values[place]

    def place(self, value: Any) -> Any:
        """The proposal that stands for a value. Raises ValueError where it is not on offer."""
        return self.values.index(value)


@dataclass(frozen=True, slots=True)
class Range:
    """A variable between two ends, proposed in multiples of `unit`."""

    low: float
    high: float
    log: bool = False
    whole: bool = False
    unit: int = 1

    def proposed(self, numeric: bool) -> BaseDistribution:
        """What Optuna proposes."""
        return self._distribution(1)

    def shown(self) -> BaseDistribution:
        """What people see of it."""
        return self._distribution(self.unit)

    def _distribution(self, unit: int) -> BaseDistribution:
        from optuna.distributions import FloatDistribution, IntDistribution

        if self.whole:
            return IntDistribution(int(self.low) * unit, int(self.high) * unit, log=self.log)
        return FloatDistribution(self.low, self.high, log=self.log)

    def value(self, place: Any) -> Any:
        """The value that a proposal stands for."""
        return place * self.unit

    def place(self, value: Any) -> Any:
        """The proposal that stands for a value. Raises ValueError where it is out of range."""
        place = round(value / self.unit) if self.whole else value
        if not self.low <= place <= self.high or (self.whole and place * self.unit != value):
            raise ValueError(f"{value!r} is not on offer")
        return place


Variable = Choice | Range


# ------------------------------------------------------------------------------------------------ generations
def generations(trials: int, size: int, baselines: int = 0) -> list[range]:
    """Trials of each generation, the baselines first, in a generation of their own."""
    first = [range(baselines)] if baselines else []
    return [*first, *(range(start, min(start + size, trials)) for start in range(baselines, trials, size))]


@dataclass(frozen=True, slots=True)
class Result:
    """What a proposal came to: the params that were evaluated, in the end, the objectives and the named excesses."""

    params: Params
    values: Sequence[float]
    constraints: Mapping[str, float]


class Proposer:
    """One Optuna study in memory, and a sampler made anew for each of its generations."""

    def __init__(
        self, kind: str, variables: Mapping[str, Variable], objectives: Sequence[str], seed: int, size: int
    ) -> None:
        import optuna

        self.sampler: Sampler = SAMPLERS[kind]
        self.variables, self.objectives, self.seed, self.size = variables, objectives, seed, size
        self._distributions = {name: one.proposed(self.sampler.numeric) for name, one in variables.items()}
        varying = {name: one for name, one in self._distributions.items() if not one.single()}
        self._varying = dict(sorted(varying.items()))
        self._storage = optuna.storages.InMemoryStorage()
        with quiet():
            directions = [direction(name) for name in objectives]
            self._study = optuna.create_study(directions=directions, storage=self._storage)
        self._id = self._storage.get_study_id_from_name(self._study.study_name)
        self._asked: list[tuple[optuna.Trial, Source]] = []
        self._noted: dict[str, Any] = {}  # of the samplers, about the study, and in the records already
        self._told = 0

    def ask(
        self, generation: int, count: int, given: Sequence[Params] = (), source: Source = "baseline"
    ) -> list[Params]:
        """Propose `count` trials: those that the sampler proposes, then the `given` ones, which come from `source`."""
        with quiet(), one_thread(self.sampler):
            for _ in range(count - len(given)):
                self._study.sampler = self._study.sampler if self._asked else self._fresh(generation)
                self._asked.append((self._study.ask(self._distributions), "sampler"))
            if given and not self.sampler.breeds:
                from optuna.samplers import RandomSampler

                self._study.sampler = RandomSampler(seed=0)  # decides nothing: every variable is given
            elif given and not self._asked:
                self._study.sampler = self._fresh(generation)
            for params in given:
                self._study.enqueue_trial(self._places(params))
                self._asked.append((self._study.ask(self._distributions), source))
        return [self._values(trial.params) for trial, _ in self._asked]

    def tell(self, generation: int, results: Sequence[Result]) -> list[Trial]:
        """Tell what the trials asked last came to, and return their records."""
        records = []
        with quiet():
            for (trial, source), result in zip(self._asked, results, strict=True):
                self._finish(trial, result.params, result.values, result.constraints)
                notes = self._notes(trial.number)
                records.append(
                    {
                        "generation": generation, "trial": trial.number, "source": source,
                        "params": dict(result.params), "values": list(result.values),
                        "constraints": dict(result.constraints),
                    } | ({"notes": notes} if notes else {})
                )  # fmt: skip
        self._asked, self._told = [], self._told + len(records)
        about_study = self._study_notes()
        if about_study:
            records[-1]["study_notes"] = about_study
        return records

    def remember(self, generation: int, records: Sequence[Trial]) -> None:
        """Take a generation up that an earlier process told."""
        with quiet(), one_thread(self.sampler):
            start = 0
            if self.sampler.keeps_state and records[0]["source"] == "sampler":
                # The state of such a sampler is made by the first proposal of a generation, from what was told before.
                # It is never read from a file: it would have to be unpickled.
                self._study.sampler = self._fresh(generation)
                one = records[0]
                trial = self._study.ask(self._distributions)
                self._finish(trial, one["params"], one["values"], one["constraints"])
                start = 1
            self._study.add_trials(self._told_before(one) for one in records[start:])
            for name, value in records[-1].get("study_notes", {}).items():
                self._storage.set_study_system_attr(self._id, name, value)
                self._noted[name] = value
        self._told += len(records)

    def _fresh(self, generation: int) -> optuna.samplers.BaseSampler:
        assert self.sampler.make is not None, "every trial of this kind is given"
        fresh = self.sampler.make(seed_of(self.seed, generation), self.seed, self.size)
        if self.sampler.searches:  # it would look through all trials for the variables that they share: all of them
            fresh.infer_relative_search_space = lambda study, trial: self._varying  # type: ignore[method-assign]
        return fresh

    def _places(self, params: Params) -> dict[str, Any]:
        return {name: variable.place(params[name]) for name, variable in self.variables.items()}

    def _values(self, places: Mapping[str, Any]) -> Params:
        return {name: variable.value(places[name]) for name, variable in self.variables.items()}

    def _finish(
        self, trial: optuna.Trial, params: Params, values: Sequence[float], excesses: Mapping[str, float]
    ) -> None:
        number = self._storage.get_trial_id_from_study_id_trial_number(self._id, trial.number)
        proposed = trial.params
        for name, place in self._places(params).items():  # what was evaluated may be near what was proposed
            if proposed[name] != place:
                distribution = self._distributions[name]
                self._storage.set_trial_param(number, name, distribution.to_internal_repr(place), distribution)
        if self.sampler.constrained:
            for name, excess in excesses.items():
                trial.set_constraint(name, excess)
        self._study.tell(trial, self._as_told(values, excesses))

    def _as_told(self, values: Sequence[float], excesses: Mapping[str, float]) -> list[float]:
        """Values as the sampler hears them: where it knows no constraints, broken ones make the objectives worst."""
        over = sum(max(excess, 0.0) for excess in excesses.values())
        if self.sampler.constrained or not over:
            return list(values)
        worse = over / (1.0 + over)
        return [-worse if QUANTITIES[name].better == "more" else NOTHING["less"] * (1 + worse)
                for name in self.objectives]  # fmt: skip

    def _told_before(self, record: Trial) -> optuna.trial.FrozenTrial:
        import optuna

        constraints = record["constraints"] if self.sampler.constrained else {}
        return optuna.trial.create_trial(
            params=self._places(record["params"]),
            distributions=self._distributions,
            values=self._as_told(record["values"], record["constraints"]),
            constraints=dict(constraints),
            system_attrs=dict(record.get("notes", {})),
        )

    def _notes(self, number: int) -> dict[str, Any]:
        """What a sampler noted about a trial that it must find again."""
        trial = self._storage.get_trial(self._storage.get_trial_id_from_study_id_trial_number(self._id, number))
        return {name: value for name, value in trial.system_attrs.items() if name.endswith(":generation")}

    def _study_notes(self) -> dict[str, Any]:
        """What samplers noted about the study since the last generation."""
        now = self._storage.get_study_system_attrs(self._id)
        fresh = {name: value for name, value in now.items() if self._noted.get(name) != value}
        self._noted |= fresh
        return fresh


# ---------------------------------------------------------------------------------------------- for both uses
@contextmanager
def quiet() -> Iterator[None]:
    """Keep Optuna's log lines and its notes on young features off the terminal."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", category=optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)


def shown(record: Trial, variables: Mapping[str, Variable]) -> optuna.trial.FrozenTrial:
    """A record as a finished trial for people: values as they write them."""
    import optuna

    return optuna.trial.create_trial(
        params={name: record["params"][name] for name in variables},
        distributions={name: variable.shown() for name, variable in variables.items()},
        values=list(record["values"]),
        constraints=dict(record["constraints"]),
        user_attrs={name: record[name] for name in ("source", "generation", "layout_id") if name in record}
        | record.get("attributes", {}),
    )


def direction(objective: str) -> Literal["maximize", "minimize"]:
    """Optuna's word for the better direction of a quantity."""
    return "maximize" if QUANTITIES[objective].better == "more" else "minimize"
