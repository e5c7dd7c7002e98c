"""What both uses of Optuna share: samplers seeded by place, and the journal that optuna-dashboard opens.

A sampler is made anew for every generation from the study's seed and the generation's number, and results are told in
the order of asking. So what is proposed depends on the study alone, never on timing, on workers or on interruptions.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sweep.columns import QUANTITIES

if TYPE_CHECKING:
    import optuna

# Told where nothing could be evaluated: worse than anything real, in the objective's own direction.
NOTHING = {"more": 0.0, "less": 1e30}


def seed_of(*place: object) -> int:
    """A seed for a place, such as (study seed, case, generation); equal for equal places on every machine."""
    text = ":".join(str(part) for part in place)
    return int.from_bytes(blake2b(text.encode(), digest_size=4).digest(), "big")


def sampler(kind: str, seed: int, generation: int, size: int) -> optuna.samplers.BaseSampler:
    """A sampler of the named kind for one generation."""
    from optuna import samplers

    fresh = seed_of(seed, generation)
    if kind == "nsga2":
        return samplers.NSGAIISampler(seed=fresh, population_size=size)
    if kind == "random":
        return samplers.RandomSampler(seed=fresh)
    return samplers.TPESampler(seed=fresh, multivariate=True, constant_liar=True)


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


def new_study(objectives: Sequence[str]) -> optuna.Study:
    """A study in memory that improves the named quantities."""
    import optuna

    directions = [direction(name) for name in objectives]
    return optuna.create_study(directions=directions, storage=optuna.storages.InMemoryStorage())


def told(trial: Mapping[str, Any], distributions: Mapping[str, Any]) -> optuna.trial.FrozenTrial:
    """A finished trial from the words of a log: its params, values and constraints."""
    import optuna

    return optuna.trial.create_trial(
        params=dict(trial["params"]),
        distributions={name: distributions[name] for name in trial["params"]},
        values=list(trial["values"]),
        constraints=dict(trial["constraints"]),
        user_attrs=dict(trial.get("attributes", {})),
        system_attrs=dict(trial.get("sampler", {})),
    )


def sampler_notes(study: optuna.Study, number: int) -> dict[str, Any]:
    """What a sampler noted about a trial, such as its generation; without it a study cannot be taken up again."""
    notes = study.trials[number].system_attrs
    return {name: value for name, value in notes.items() if ":generation" in name}


class Journal:
    """The trials of a run as an Optuna journal, for optuna-dashboard. A mirror: nothing reads it back."""

    def __init__(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self.path = path
        self._studies: dict[str, Any] = {}
        self._storage: Any = None

    def add(self, name: str, objectives: Sequence[str], trials: Iterable[optuna.trial.FrozenTrial]) -> None:
        """Add finished trials of the study `name`."""
        import optuna
        from optuna.storages.journal import JournalFileBackend

        with quiet():
            if self._storage is None:
                self._storage = optuna.storages.JournalStorage(JournalFileBackend(str(self.path)))
            if name not in self._studies:
                directions = [direction(objective) for objective in objectives]
                self._studies[name] = optuna.create_study(study_name=name, storage=self._storage, directions=directions)
            self._studies[name].add_trials(list(trials))


def direction(objective: str) -> Literal["maximize", "minimize"]:
    """Optuna's word for the better direction of a quantity."""
    return "maximize" if QUANTITIES[objective].better == "more" else "minimize"
