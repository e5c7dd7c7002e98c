"""A machine whose numbers are arrays is many machines: at each point it costs what a plain machine of its numbers does.

Numbers of shape (P, 1) and layouts of shape (K,) give results of shape (P, K).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.chip import FORMATS
from model.evaluate import evaluate_training
from model.serving.instance import Instance
from model.serving.rates import decode_cost, prefill_cost, serving_cost, static_cost
from model.serving.workload import Requests, Serving
from model.step import training_step
from model.system import System
from sweep import catalogue
from tests.laws.strategies import SYSTEMS, Case, cases, with_chip

POINTS = 3
WHOLE = ("count", "per_packages", "cores", "racks")  # what a machine has whole numbers of
TOLERANCE = 1e-12


def changed(record: Any, change: Callable[[float], Any]) -> Any:
    """A record with every number in it changed, in the order of its fields."""
    if isinstance(record, float):
        return change(record)
    if isinstance(record, Mapping):
        return {name: changed(value, change) for name, value in record.items()}
    if is_dataclass(record):
        names = [field.name for field in fields(record) if field.name not in (*WHOLE, "notes", "tiles")]
        return replace(record, **{name: changed(getattr(record, name), change) for name in names})
    if isinstance(record, tuple):
        return tuple(changed(item, change) for item in record)
    return record


def machines(system: System, seed: int) -> tuple[System, list[System]]:
    """A machine of arrays about the given one, and the plain machine of each of its points."""
    rng, drawn = np.random.default_rng(seed), []

    def draw(value: float) -> Any:
        drawn.append(value * np.exp(0.2 * rng.standard_normal(POINTS)))
        return drawn[-1][:, None]

    together = changed(system, draw)

    def at(point: int) -> System:
        numbers: Iterator[Any] = iter(drawn)
        plain: System = changed(system, lambda _: float(next(numbers)[point]))
        return plain

    return together, [at(point) for point in range(POINTS)]


def numbers(cost: Any) -> dict[str, Any]:
    """Every number of a cost by name, with the parts of its records and what follows from them."""
    found: dict[str, Any] = {}
    for field in fields(cost):
        value = getattr(cost, field.name)
        if field.name == "violations":
            found |= {f"violations.{name}": excess for name, excess in value.items()}
        elif hasattr(value, "parts"):
            found |= {f"{field.name}.{name}": part for name, part in value.parts().items()}
            found[f"{field.name}.total"] = value.total
        else:
            found[field.name] = value
    names = ("power", "energy_per_token", "feasible", "tokens_per_second", "model_flops_utilisation")
    return found | {name: getattr(cost, name) for name in names if hasattr(cost, name)}


def assert_same(evaluate: Callable[[System], Any], system: System, seed: int, layouts: int) -> None:
    """One call for all points gives what a call for each gives."""
    together, plain = machines(system, seed)
    found = numbers(evaluate(together))
    assert found
    for point, machine in enumerate(plain):
        for name, expected in numbers(evaluate(machine)).items():
            if name not in found:  # a rule that no layout breaks at any point may be left out
                assert name.startswith("violations")
                continue
            own = np.broadcast_to(np.asarray(found[name], float), (POINTS, layouts))[point]
            np.testing.assert_allclose(own, np.asarray(expected, float), TOLERANCE, err_msg=f"{name} at point {point}")


@settings(max_examples=15)
@given(case=cases(rows=40), seed=st.integers(0, 2**32 - 1), cap=st.sampled_from((None, 0.6, 0.9)))
def test_training_at_each_point(case: Case, seed: int, cap: float | None) -> None:
    """Any machine, stack, model and layouts, with and without a power cap."""
    power = case.system.chip.power
    watts = None if cap is None else power.idle_w + cap * (power.board_w - power.idle_w)
    system = with_chip(case.system, power_cap_w=watts)
    for step in (training_step, evaluate_training):
        assert_same(
            lambda machine, step=step: step(machine, case.stack, case.training, case.layout),
            system, seed, case.layout.shape[0],
        )  # fmt: skip


INSTANCES = Instance(
    tensor_parallel=np.array([1, 2, 4, 8, 4]),
    pipeline_parallel=np.array([1, 1, 2, 1, 1]),
    data_parallel=np.array([8, 4, 1, 1, 2]),
    expert_parallel=np.array([8, 8, 4, 1, 8]),
    micro_batches=np.array([1, 2, 1, 1, 1]),
    draft_tokens=np.array([0, 1, 0, 2, 0]),
    batch=np.array([64.0, 128.0, 16.0, 3.0, 500.0]),
    chunk=np.array([0, 512, 2048, 0, 8192]),
)


@settings(max_examples=6, deadline=None)
@given(
    name=st.sampled_from(SYSTEMS),
    engine=st.sampled_from(catalogue.names("engines")),
    model=st.sampled_from(("deepseek-v3", "llama-3.1-70b", "gpt-oss-120b", "deepseek-v4-pro", "mixtral-8x22b")),
    seed=st.integers(0, 2**32 - 1),
)
@pytest.mark.parametrize("cost", [decode_cost, prefill_cost, serving_cost, static_cost])
def test_serving_at_each_point(cost: Callable[..., Any], name: str, engine: str, model: str, seed: int) -> None:
    """Any machine and engine, at instances whose batches are given."""
    system = catalogue.system(name)
    narrow = next(form for form in ("fp8", "int8", "bf16") if FORMATS[form].peak in system.chip.peak_flops)
    serving = Serving(catalogue.architecture(model), Requests(2000.0, 500.0), narrow)
    stack = catalogue.engine(engine)
    assert_same(lambda machine: cost(machine, stack, serving, INSTANCES), system, seed, INSTANCES.shape[0])
