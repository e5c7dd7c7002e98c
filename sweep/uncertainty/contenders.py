"""What is compared: a design at work with the best of its layouts, and what it does at each point of its numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from model.architecture import Architecture
from model.evaluate import evaluate_training
from model.layout import Array, Layout
from model.serving.cost import ServingCost
from model.serving.instance import Instance
from model.serving.rates import decode_cost, prefill_cost, serving_cost
from model.serving.stack import ServingStack
from model.serving.workload import Phase, Serving
from model.stack import Stack
from model.system import System
from model.workload import Training
from sweep.columns import QUANTITIES
from sweep.designs import Design, machine
from sweep.served import Served, alike
from sweep.uncertainty.model_error import ModelError, ModelKind, model_error, slower
from sweep.uncertainty.points import Points, machine_at

_AT_ONCE = 50_000  # evaluations of a call: their arrays stay in the cache

Costs = Callable[[System, Any], Any]


@dataclass(frozen=True, slots=True, eq=False)  # one is what it was made: results of it are kept
class Contender:
    """A design at work.

    Attributes
    ----------
    label
        Name in the results.
    design
        The machine, with what a study changes about it.
    cost
        What layouts cost on a machine: a record that the quantities of `sweep.columns` can be read from. For numbers
        of shape (P, 1) and K layouts its arrays broadcast to (P, K).
    layouts
        The best K layouts, or instances at their working points; a flat list.
    error
        Of the model; None: it is taken to be exact.
    whole
        Of the cost, the error in it, and the layouts: what is read, where that is not the cost itself.
    """

    label: str
    design: Design
    cost: Costs
    layouts: Layout | Instance | Deployed
    error: ModelError | None
    whole: Callable[[Any, Any], Any] | None = None

    def take(self, rows: Any) -> Contender:
        """The contender with some of its layouts alone."""
        return replace(self, layouts=self.layouts.take(np.asarray(rows)))


def _kind(model: Architecture) -> ModelKind:
    return "dense" if model.experts is None else "MoE"


def _error(design: Design, software: str, model: Architecture, serves: bool) -> ModelError:
    return model_error(software, _kind(model), machine(design).chip.name, serves)


def _training(stack: Stack, training: Training, system: System, layouts: Layout) -> Any:
    return evaluate_training(system, stack, training, layouts)


def training_contender(design: Design, stack: Stack, training: Training, layouts: Layout) -> Contender:
    """A design that trains, with the best of its layouts."""
    error = _error(design, stack.name, training.architecture, False)
    return Contender(design.label, design, partial(_training, stack, training), layouts.flat(), error)


_PHASES: dict[Phase, Callable[..., ServingCost]] = {
    "prefill": prefill_cost,
    "decode": decode_cost,
    "serving": serving_cost,
}


def _serving(engine: ServingStack, serving: Serving, phase: Phase, system: System, instances: Instance) -> ServingCost:
    return _PHASES[phase](system, engine, serving, instances)


def serving_contender(
    design: Design, engine: ServingStack, serving: Serving, instances: Instance, phase: Phase
) -> Contender:
    """A design that serves, with the best of its instances at their working points: batches are not solved again.

    Quantities are those of one instance.
    """
    error = _error(design, engine.name, serving.architecture, True)
    return Contender(design.label, design, partial(_serving, engine, serving, phase), instances.flat(), error)


@dataclass(frozen=True, slots=True)
class Deployed:
    """Instances that serve, how many of each are at work, and the ranks of the cluster; flat arrays of one length."""

    instances: Instance
    count: Array
    ranks: Array

    @property
    def shape(self) -> tuple[int, ...]:
        """How many."""
        return self.instances.shape

    def take(self, index: Any) -> Deployed:
        """Some of them."""
        return Deployed(self.instances.take(index), self.count[index], self.ranks[index])


def _instances(engine: ServingStack, serving: Serving, phase: Phase, system: System, layouts: Deployed) -> ServingCost:
    return _serving(engine, serving, phase, system, layouts.instances)


def _of_cluster(cost: ServingCost, layouts: Deployed) -> Served:
    return alike(cost, layouts.instances.ranks, layouts.count, layouts.ranks)


def cluster_contender(
    design: Design, engine: ServingStack, serving: Serving, deployed: Deployed, phase: Phase
) -> Contender:
    """A cluster that serves with so many instances of one kind, as `sweep.served` counts it; the rest of it idles.

    Instances stay at their working points, and as many.
    """
    error = _error(design, engine.name, serving.architecture, True)
    cost = partial(_instances, engine, serving, phase)
    return Contender(design.label, design, cost, deployed, error, _of_cluster)


def values(contender: Contender, quantity: str, points: Points, infeasible: bool = False) -> Array:
    """A quantity of every layout at every point, of shape (P, K); not a number where a layout is infeasible.

    With `infeasible` of those too. Raises KeyError for a quantity that `sweep.columns` does not have.
    """
    read, rows = QUANTITIES[quantity].read, contender.layouts.shape[0]
    found = np.empty((points.count, rows))
    step = max(1, _AT_ONCE // max(rows, 1))
    for start in range(0, points.count, step):
        some = points.part(start, min(start + step, points.count))
        cost = contender.cost(machine_at(contender.design, some), contender.layouts)
        if contender.error is not None:
            cost = slower(cost, *contender.error.factors(some))
        if contender.whole is not None:
            cost = contender.whole(cost, contender.layouts)
        found[start : start + some.count] = np.where(
            infeasible | _feasible(cost), np.asarray(read(cost), float), np.nan
        )
    return found


def _feasible(cost: Any) -> Any:
    """Where no violation is positive."""
    ok: Any = True
    for excess in cost.violations.values():
        ok = ok & (np.asarray(excess) <= 0)
    return ok


def badness(found: Any, quantity: str) -> Array:
    """A quantity as something of which less is better; infinite where nothing is feasible."""
    return np.where(np.isnan(found), np.inf, QUANTITIES[quantity].sign * np.asarray(found))


def best_of(found: Array, quantity: str) -> tuple[Array, Array]:
    """The best layout at each point and its value, of shape (P,) each; not a number where none is feasible."""
    place = np.argmin(badness(found, quantity), axis=1)
    return place, np.take_along_axis(found, place[:, None], axis=1)[:, 0]
