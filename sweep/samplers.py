"""Optuna's samplers by name: what each needs, what it can do, and how it is made anew for every generation.

Defaults of Optuna change between its releases, so every argument that decides a proposal is written out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from importlib.util import find_spec
from typing import TYPE_CHECKING, get_args

from sweep.errors import problem
from sweep.study_schema import SamplerName

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

_LEAST_POPULATION = 4  # of an evolution strategy; smaller ones have nothing to select from


@dataclass(frozen=True, slots=True)
class Sampler:
    """What a study must know of a sampler."""

    name: str
    make: Callable[[int, int, int], BaseSampler] | None = None  # seed of the generation, of the study, trials
    needs: tuple[str, ...] = ()  # packages beside Optuna
    extra: str = ""  # of this distribution, that brings them
    several: bool = True  # takes more than one objective
    constrained: bool = True  # knows constraints; otherwise it is told a value worse than any feasible one
    numeric: bool = False  # knows numbers alone: an unordered choice is proposed by its place in the list
    breeds: bool = False  # draws on trials that carry its own notes, so given trials must carry them too
    keeps_state: bool = False  # pickled in the trials: made anew from them when a study is taken up again
    searches: bool = True  # looks where it found something good

    def missing(self) -> list[str]:
        """Packages that are not installed."""
        return [package for package in self.needs if find_spec(package) is None]


def _tpe(seed: int, _study: int, _size: int) -> BaseSampler:
    from optuna.samplers import TPESampler

    return TPESampler(seed=seed, multivariate=True, constant_liar=True, n_startup_trials=10, n_ei_candidates=24)


def _cma_es(seed: int, _study: int, size: int) -> BaseSampler:
    from optuna.samplers import CmaEsSampler

    population = max(size, _LEAST_POPULATION)
    return CmaEsSampler(seed=seed, popsize=population, n_startup_trials=1, warn_independent_sampling=False)


def _gp(seed: int, _study: int, _size: int) -> BaseSampler:
    from optuna.samplers import GPSampler

    return GPSampler(seed=seed, n_startup_trials=10, deterministic_objective=False, warn_independent_sampling=False)


def _nsga2(seed: int, _study: int, size: int) -> BaseSampler:
    from optuna.samplers import NSGAIISampler

    return NSGAIISampler(seed=seed, population_size=max(size, _LEAST_POPULATION), crossover_prob=0.9, swapping_prob=0.5)


def _nsga3(seed: int, _study: int, size: int) -> BaseSampler:
    from optuna.samplers import NSGAIIISampler

    population = max(size, _LEAST_POPULATION)
    return NSGAIIISampler(seed=seed, population_size=population, crossover_prob=0.9, swapping_prob=0.5)


def _qmc(_seed: int, study: int, _size: int) -> BaseSampler:
    from optuna.samplers import QMCSampler

    # One sequence for the whole study: where it stands is noted in the study, the seed stays.
    return QMCSampler(seed=study, qmc_type="sobol", scramble=True, warn_independent_sampling=False)


def _random(seed: int, _study: int, _size: int) -> BaseSampler:
    from optuna.samplers import RandomSampler

    return RandomSampler(seed=seed)


SAMPLERS = {
    one.name: one
    for one in (
        Sampler("tpe", _tpe),
        Sampler("cma_es", _cma_es, ("cmaes",), "cma", several=False, constrained=False, numeric=True, keeps_state=True),
        Sampler("gp", _gp, ("torch",), "gp"),
        Sampler("nsga2", _nsga2, breeds=True),
        Sampler("nsga3", _nsga3, breeds=True),
        Sampler("qmc", _qmc, searches=False),
        Sampler("random", _random, searches=False),
        Sampler("brute_force", searches=False),  # no sampler of Optuna: the list of all, one after the other
    )
}
assert tuple(SAMPLERS) == get_args(SamplerName), "the schema names the samplers"


def must_be_installed(table: str, name: SamplerName) -> None:
    """Raise InputError where a sampler's packages are missing."""
    missing = SAMPLERS[name].missing()
    if missing:
        rule = f"needs the package{'s' * (len(missing) > 1)} {' and '.join(missing)}"
        raise problem("study", f"{table}.sampler", rule, name, f'pip install "matrixsweep[{SAMPLERS[name].extra}]"')


def seed_of(*place: object) -> int:
    """A seed for a place, such as (study seed, case, generation); equal for equal places on every machine."""
    text = ":".join(str(part) for part in place)
    return int.from_bytes(blake2b(text.encode(), digest_size=4).digest(), "big")


@contextmanager
def one_thread(sampler: Sampler) -> Iterator[None]:
    """Let a sampler that computes with torch use one thread, so that sums are formed in one order."""
    if "torch" not in sampler.needs:
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
