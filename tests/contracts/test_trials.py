"""Optuna's samplers as a study uses them: repeatable, taken up again at any generation, told what was evaluated."""

from __future__ import annotations

import json
import math
from typing import Any, get_args

import pytest

from sweep.errors import InputError
from sweep.samplers import SAMPLERS, must_be_installed, seed_of
from sweep.study_schema import SamplerName
from sweep.trials import Choice, Params, Proposer, Range, Result, Trial, generations, quiet

VARIABLES = {
    "tp": Choice((1, 2, 4, 8, 16)),
    "order": Choice(("near", "far", "mixed"), ordered=False),
    "chips": Range(1, 9, whole=True, unit=72),
    "bandwidth": Range(1e12, 8e12, log=True),
}
SIZE = 6
TRIALS = dict.fromkeys(get_args(SamplerName), 30) | {"gp": 18}  # a proposal of gp takes a second
BASELINES: list[Params] = [
    {"tp": 4, "order": "far", "chips": 144, "bandwidth": 2e12},
    {"tp": 1, "order": "near", "chips": 72, "bandwidth": 1e12},
]
ONE, TWO = ("tokens_per_s",), ("tokens_per_s", "power_w")
ADAPTIVE = [name for name in get_args(SamplerName) if name != "brute_force"]
CASES = [
    pytest.param(name, objectives, id=f"{name}-{len(objectives)}")
    for name in ADAPTIVE
    for objectives in (ONE, TWO)
    if len(objectives) == 1 or SAMPLERS[name].several
]


def available(name: SamplerName) -> None:
    for package in SAMPLERS[name].needs:
        pytest.importorskip(package, reason=f"the sampler {name} needs it")


def evaluate(params: Params, objectives: tuple[str, ...]) -> Result:
    """A rugged function with a constraint; every third proposal becomes a neighbour, as an illegal layout would."""
    tp = params["tp"]
    if tp == 8 and params["order"] == "mixed":
        tp = 4
    value = 1e6 * params["chips"] / (1 + abs(math.log2(tp) - 2)) * (1.3 if params["order"] == "far" else 1.0)
    power = params["chips"] * 900.0 + params["bandwidth"] / 1e8
    values = {"tokens_per_s": value, "power_w": power}
    excess = {"hbm_bytes": 1e9 * (params["chips"] / 72 - 2 * tp)}
    return Result({**params, "tp": tp}, [values[name] for name in objectives], excess)


def proposer(name: SamplerName, objectives: tuple[str, ...], seed: int = 7) -> Proposer:
    return Proposer(name, VARIABLES, objectives, seed, SIZE)


def run(
    name: SamplerName, objectives: tuple[str, ...], done: list[list[Trial]], stop: int = 99, seed: int = 7
) -> list[list[Trial]]:
    """Records of each generation, the `done` ones only remembered."""
    one, found = proposer(name, objectives, seed), []
    for generation, numbers in enumerate(generations(TRIALS[name], SIZE, len(BASELINES))[:stop]):
        if generation < len(done):
            one.remember(generation, done[generation])
            found.append(done[generation])
            continue
        asked = one.ask(generation, len(numbers), BASELINES if generation == 0 else ())
        found.append(one.tell(generation, [evaluate(params, objectives) for params in asked]))
    return found


def through_json(records: list[list[Trial]]) -> list[list[Trial]]:
    found: list[list[Trial]] = json.loads(json.dumps(records))
    return found


@pytest.mark.parametrize(("name", "objectives"), CASES)
def test_proposals_depend_on_the_study_alone(name: SamplerName, objectives: tuple[str, ...]) -> None:
    """Twice the same; taken up again after any generation the same; another seed proposes something else."""
    available(name)
    whole = run(name, objectives, [])
    assert [len(records) for records in whole] == ([2, 6, 6, 4] if name == "gp" else [2, 6, 6, 6, 6, 4])
    assert run(name, objectives, []) == whole
    for stop in range(1, len(whole)):
        assert run(name, objectives, through_json(whole[:stop])) == whole, f"after generation {stop}"
    assert run(name, objectives, [], seed=8) != whole


@pytest.mark.parametrize(("name", "objectives"), CASES)
def test_a_generation_that_was_only_asked_is_asked_again(name: SamplerName, objectives: tuple[str, ...]) -> None:
    """Stopped between asking and telling, the same proposals come again."""
    available(name)
    done = run(name, objectives, [], stop=3)
    asked = []
    for _ in range(2):
        one = proposer(name, objectives)
        for generation, records in enumerate(through_json(done)):
            one.remember(generation, records)
        asked.append(one.ask(3, SIZE))
    assert asked[0] == asked[1]


@pytest.mark.parametrize("name", ADAPTIVE)
def test_records_hold_what_was_evaluated(name: SamplerName) -> None:
    """Trials are numbered in the order of asking, baselines first, and say the params that were evaluated."""
    available(name)
    records = [record for part in run(name, ONE, []) for record in part]
    assert [record["trial"] for record in records] == list(range(TRIALS[name]))
    assert [record["params"] for record in records[:2]] == BASELINES
    assert {record["source"] for record in records[:2]} == {"baseline"}
    assert {record["source"] for record in records[2:]} == {"sampler"}
    for record in records:
        assert (record["params"]["tp"], record["params"]["order"]) != (8, "mixed")
        assert record["values"] == list(evaluate(record["params"], ONE).values)


@pytest.mark.parametrize("name", ["tpe", "cma_es", "gp", "nsga2", "nsga3"])
def test_a_sampler_that_searches_finds_more_than_chance(name: SamplerName) -> None:
    """What it proposes last is better, and more often allowed, than what chance proposes."""
    available(name)

    def late(kind: SamplerName) -> tuple[float, int]:
        records = [record for seed in range(3) for part in run(kind, ONE, [], seed=seed)[3:] for record in part]
        allowed = [record["values"][0] for record in records if record["constraints"]["hbm_bytes"] <= 0]
        return sum(allowed) / len(records), len(allowed)

    assert late(name)[0] > late("random")[0]


def test_nothing_is_unpickled_from_a_record() -> None:
    """CMA-ES keeps a pickle of its state in Optuna's trials; the records hold none, and it is made anew from them."""
    available("cma_es")
    text = json.dumps(run("cma_es", ONE, []))
    assert "cma:generation" in text
    assert "optimizer" not in text


def test_every_sampler_of_the_schema_is_made_by_name() -> None:
    """The names of the schema are the samplers there are, and only brute force is no sampler of Optuna."""
    assert list(SAMPLERS) == list(get_args(SamplerName))
    assert [name for name, one in SAMPLERS.items() if one.make is None] == ["brute_force"]


def test_a_missing_package_is_said_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """What to install is said before anything is computed."""
    from sweep import samplers

    monkeypatch.setattr(samplers, "find_spec", lambda name: None)
    for name, one in SAMPLERS.items():
        if not one.needs:
            must_be_installed("search", name)
            continue
        with pytest.raises(InputError) as caught:
            must_be_installed("search", name)
        (problem,) = caught.value.problems
        assert problem.key == "search.sampler"
        assert f'pip install "matrixsweep[{one.extra}]"' in problem.sentence()
        assert all(package in problem.sentence() for package in one.needs)


def test_generations_follow_the_baselines() -> None:
    """Baselines are a generation of their own; the last one is what is left."""
    assert generations(10, 4) == [range(4), range(4, 8), range(8, 10)]
    assert generations(10, 4, 3) == [range(3), range(3, 7), range(7, 10)]
    assert generations(3, 4, 3) == [range(3)]


@pytest.mark.parametrize("variable", VARIABLES.values(), ids=list(VARIABLES))
def test_a_variable_knows_the_place_of_each_of_its_values(variable: Any) -> None:
    """Values and places translate both ways, and a value that is not on offer is refused."""
    with quiet():
        places = {name: one for name, one in VARIABLES.items() if one is variable}
        one = Proposer("random", places, ONE, 1, 20)
        for params in one.ask(0, 20):
            ((_, value),) = params.items()
            assert variable.value(variable.place(value)) == value
    for wrong in (-1, 1e20):
        with pytest.raises(ValueError, match="not"):
            variable.place(wrong)


def test_seeds_depend_on_the_place_alone() -> None:
    """The seed of a generation is the same on every machine and differs between places."""
    assert seed_of(0, "outer", "a", 1) == 227596774
    assert len({seed_of(0, "layout", case, generation) for case in range(9) for generation in range(9)}) == 81
