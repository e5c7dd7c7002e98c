"""One layout, a flat list and an open mesh of axes are the same layouts, and get the same numbers bit for bit."""

import math
from dataclasses import fields, replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.cost import StepCost
from model.evaluate import evaluate_training
from model.layout import Layout
from model.powers import power
from model.step import training_step
from sweep import catalogue
from tests.laws.strategies import MODELS, SYSTEMS, Case, cases

AXES = {
    "tensor_parallel": (1, 2, 8),
    "context_parallel": (1, 2),
    "pipeline_parallel": (1, 4),
    "virtual_stages": (1, 2),
    "data_parallel": (4, 16),
    "micro_batch": (1, 2),
    "global_batch": (128,),
    "sequence_parallel": (0, 1),
    "recompute": (0, 1, 6),
    "zero_stage": (0, 1),
    "schedule": (0, 2),
}
SHAPE = tuple(len(values) for values in AXES.values())
RECORDS = ("time", "memory", "energy")


def open_mesh() -> Layout:
    """Every axis along a dimension of its own."""
    shapes = {name: [-1 if other == name else 1 for other in AXES] for name in AXES}
    return Layout(**{name: np.asarray(values).reshape(shapes[name]) for name, values in AXES.items()})


def numbers(cost: StepCost, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Every number of a cost as a flat array of one value a layout."""
    found = {f"{name}.{part}": v for name in RECORDS for part, v in getattr(cost, name).parts().items()}
    found |= {f"{name}.total": getattr(cost, name).total for name in RECORDS}
    found |= {f.name: getattr(cost, f.name) for f in fields(cost) if f.name not in (*RECORDS, "violations")}
    found |= {f"violations.{name}": excess for name, excess in cost.violations.items()}
    sizes = {name: np.size(value) for name, value in found.items()}
    assert all(size in (1, math.prod(shape)) or np.ndim(found[name]) > 1 for name, size in sizes.items()), sizes
    return {
        name: np.asarray(value, float).reshape(-1)
        if sizes[name] == math.prod(shape)
        else np.broadcast_to(np.asarray(value, float), shape).reshape(-1)
        for name, value in found.items()
    }


def differences(one: StepCost, other: StepCost, shape: tuple[int, ...]) -> list[str]:
    """Names of the numbers that differ in any bit. A rule that no layout breaks may be left out."""
    left, right = numbers(one, shape), numbers(other, shape)
    unbroken = np.zeros(math.prod(shape))
    return [
        name
        for name in sorted(left | right)
        if not np.array_equal(left.get(name, unbroken), right.get(name, unbroken), equal_nan=True)
    ]


@settings(max_examples=60)
@given(case=cases())
def test_gathered_costs_equal_direct_ones(case: Case) -> None:
    """Computing each distinct layer once and gathering gives what computing every row gives, bit for bit."""
    direct = training_step(case.system, case.stack, case.training, case.layout)
    gathered = evaluate_training(case.system, case.stack, case.training, case.layout)
    assert differences(direct, gathered, case.layout.shape) == []


@settings(max_examples=20)
@given(case=cases(rows=12))
def test_a_list_equals_its_single_calls(case: Case) -> None:
    """A layout costs the same alone, as plain numbers, as in a list of many."""
    together = numbers(training_step(case.system, case.stack, case.training, case.layout), case.layout.shape)
    for row in range(case.layout.shape[0]):
        alone = case.layout.map(lambda values, row=row: int(values[row]))
        cost = numbers(training_step(case.system, case.stack, case.training, alone), (1,))
        different = [name for name, value in cost.items() if value[0] != together[name][row]]
        assert different == [], f"{case!r}: {case.row(row)}"


@settings(max_examples=30)
@given(case=cases(), seed=st.integers(0, 2**32 - 1))
def test_permuting_layouts_permutes_results(case: Case, seed: int) -> None:
    """A layout's cost does not depend on its neighbours in the list, nor on how often it stands there."""
    count = case.layout.shape[0]
    order = np.random.default_rng(seed).integers(0, count, 2 * count)
    for evaluate in (training_step, evaluate_training):
        straight = evaluate(case.system, case.stack, case.training, case.layout)
        shuffled = evaluate(case.system, case.stack, case.training, case.layout.take(order))
        before, after = numbers(straight, (count,)), numbers(shuffled, (2 * count,))
        assert [name for name, value in after.items() if not np.array_equal(value, before[name][order])] == []


@pytest.mark.parametrize("model", ["llama-3.1-405b", "deepseek-v3", "mixtral-8x7b", "gpt-oss-120b", "gpt-3-175b"])
@settings(max_examples=6)
@given(case=cases(rows=1))
def test_an_open_mesh_equals_the_flat_list(model: str, case: Case) -> None:
    """An open mesh computes each part on the axes it depends on, and ends at the numbers of the flat list."""
    training = replace(case.training, architecture=catalogue.architecture(model))
    in_mesh = training_step(case.system, case.stack, training, open_mesh())
    in_list = training_step(case.system, case.stack, training, open_mesh().flat())
    assert differences(in_mesh, in_list, SHAPE) == []


@pytest.mark.parametrize("exponent", [2.0, 0.5, -1.0, 3.0])
def test_powers_round_alike_for_one_value_and_for_many(exponent: float) -> None:
    """An exponent that stands once gives the bits of one that stands in every row, and a value alone those of many."""
    base = np.random.default_rng(5).random(20_000)
    many = power(base, np.full(base.shape, exponent))
    assert np.array_equal(power(base, exponent), many)
    assert [power(one, exponent) for one in base[:5000]] == many[:5000].tolist()


def test_a_flattened_mesh_runs_through_its_axes_last_first() -> None:
    """The flat list of a mesh is the product of its axes, the last one fastest."""
    flat = open_mesh().flat()
    assert open_mesh().shape == SHAPE
    assert list(zip(*(getattr(flat, name).tolist() for name in AXES), strict=True)) == list(product(*AXES.values()))


def test_the_catalogue_is_drawn_from() -> None:
    """There are machines and models to draw from."""
    assert len(SYSTEMS) > 10
    assert len(MODELS) > 10
