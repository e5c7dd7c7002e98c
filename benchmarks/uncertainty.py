"""How long it takes to say how sure a result is: 200 layouts at 1,024 points of their machine's numbers.

The plain way is a call for each point, with a machine of plain numbers; a few are made in the same run. Besides:
the whole comparison of two designs, what one result rests on (printed beside every rumoured one), the indices of its
variance, and what would have to be true for the designs to change places.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import perf_counter
from typing import Any

import numpy as np

from benchmarks.measurement import Measurement
from model.evaluate import evaluate_training
from model.workload import Training
from sweep import catalogue
from sweep.axes import Axes, Problem
from sweep.cases import overlaps_of
from sweep.designs import Design, machine
from sweep.space import layout_space
from sweep.uncertainty import Contender, assess, flips, influences, training_contender, values, variance_shares
from sweep.uncertainty.points import Points, machine_at, sobol_points
from sweep.uncertainty.propagation import columns_of

SYSTEMS = ("cloudmatrix-384", "atlas-910d-supernode")
WORKLOADS = (("llama-3.1-405b", 8192, 2048), ("deepseek-v3", 4096, 15_360))
PACKAGES = 3072
LAYOUTS, POINTS = 200, 1024
QUANTITY = "tokens_per_s_per_chip"
SINGLE_CALLS = 32
LIMIT_S = 10.0  # of the points of one design


def measurements() -> Iterator[Measurement]:
    """Seconds of each, beside a limit or the plain way."""
    for model, sequence, batch in WORKLOADS:
        pair = [contender(name, model, sequence, batch) for name in SYSTEMS]
        points = sobol_points(columns_of(pair), POINTS, 0)
        values(pair[0], QUANTITY, points.part(0, 256))  # warms up
        title = f"uncertainty.{model}"
        together = _seconds(lambda pair=pair, points=points: values(pair[0], QUANTITY, points))
        yield Measurement(f"{title}.points", together, "s", LIMIT_S)
        yield Measurement(f"{title}.points_over_single_calls", together, "s", _single(pair[0], points))
        yield Measurement(f"{title}.two_designs", _seconds(lambda pair=pair: assess(pair, QUANTITY, POINTS)), "s")
        yield Measurement(f"{title}.influences", _seconds(lambda pair=pair: influences(pair[1], QUANTITY)), "s")
        shares = _seconds(lambda pair=pair: variance_shares(pair[1], QUANTITY))
        yield Measurement(f"{title}.variance_shares", shares, "s")
        yield Measurement(f"{title}.flips", _seconds(lambda pair=pair: flips(*pair, QUANTITY)), "s")


def contender(name: str, model: str, sequence: int, batch: int) -> Contender:
    """The best of the layouts of a design, of those that narrow nothing."""
    stack = catalogue.stack(catalogue.default_stack(name))
    design = Design(name, name, stack.name, (PACKAGES,))
    system, training = machine(design), Training(catalogue.architecture(model), sequence)
    ranks = PACKAGES * system.chip.ranks_per_package
    problem = Problem(
        training.architecture, sequence, ranks, batch, stack.selective_recompute, overlaps_of(stack), False
    )
    space = layout_space(problem, Axes())
    layouts = space.take(np.linspace(0, space.count - 1, min(space.count, 100_000)).astype(np.int64))
    cost = evaluate_training(system, stack, training, layouts)
    rate = np.where(cost.feasible, cost.tokens_per_second, 0.0)
    return training_contender(design, stack, training, layouts.take(np.argsort(-rate)[:LAYOUTS]))


def _seconds(work: Callable[[], Any]) -> float:
    began = perf_counter()
    work()
    return perf_counter() - began


def _single(one: Contender, points: Points) -> float:
    """Seconds of all points, one plain machine after the other: as a few of them take."""
    plain = []
    for at in range(SINGLE_CALLS):
        part = points.part(at, at + 1)

        def read(found: catalogue.Entry, path: str, part: Points = part) -> Any:
            value = part(found, path)
            return float(value[0, 0]) if isinstance(value, np.ndarray) else value

        plain.append(machine_at(one.design, read))
    began = perf_counter()
    for system in plain:
        cost = one.cost(system, one.layouts)
        _ = cost.tokens_per_second, cost.feasible
    return (perf_counter() - began) * POINTS / SINGLE_CALLS
