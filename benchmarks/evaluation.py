"""How many legal layouts a core evaluates in a second: time, memory, energy and feasibility of each.

The layouts are those of 16,384 H100 in nodes of eight: of a study that narrows nothing, and of the full option space
with all schedules and ZeRO stages, every set of four recompute modules, overlaps and offloading. They are listed and
evaluated as a search does it, all of them or as many as fit into some seconds. References: the same model given flat
lists, and given one layout at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from time import process_time

import numpy as np

from benchmarks.measurement import Measurement
from model.evaluate import evaluate_training
from model.layout import OFFLOADS, OVERLAPS, SCHEDULES, Layout
from model.step import training_step
from model.workload import Training
from sweep import catalogue
from sweep.axes import Axes, Problem
from sweep.cases import Records, overlaps_of
from sweep.evaluation import evaluate, partial_costs
from sweep.search import nodes_at_once
from sweep.space import BLOCK, layout_space

SYSTEM = "dgx-h100"
RANKS = 16_384
WORKLOADS = (("llama-3.1-405b", 8192, 2048, 10e6), ("deepseek-v3", 4096, 15_360, 3e6))  # and the layouts/s aimed at
MODULES = ("core_attention", "norm", "activation", "feed_forward")
FULL = Axes(
    zero_stage=(0, 1, 2, 3),
    schedule=tuple(range(len(SCHEDULES))),
    recompute=(("full",), *(some for count in range(5) for some in combinations(MODULES, count))),
    overlap_off=tuple(range(1 << len(OVERLAPS))),
    offload=tuple(range(1 << len(OFFLOADS))),
)
OPTION_SPACES = {"default_axes": Axes(), "full_options": FULL}
LONGEST_S = 4.0
FLAT_LIST = 1 << 16
SINGLE_CALLS = 200


@dataclass(frozen=True, slots=True)
class Rate:
    """Layouts in a CPU second: listed and evaluated, and evaluated alone."""

    layouts: int
    both: float
    alone: float


def records_of(model: str, sequence: int, batch: int, axes: Axes) -> Records:
    """A case on the benchmark's machine."""
    system, stack = catalogue.system(SYSTEM), catalogue.stack(catalogue.default_stack(SYSTEM))
    training = Training(catalogue.architecture(model), sequence)
    problem = Problem(
        training.architecture, sequence, RANKS, batch, stack.selective_recompute, overlaps_of(stack),
        system.host is not None,
    )  # fmt: skip
    return Records(system, stack, training, layout_space(problem, axes))


def measurements() -> Iterator[Measurement]:
    """Layouts a CPU second in meshes, beside the aim, flat lists, and one layout at a time."""
    for model, sequence, batch, aim in WORKLOADS:
        for name, axes in OPTION_SPACES.items():
            known = records_of(model, sequence, batch, axes)
            _meshes(known, 0.5)  # warms up
            rate, flat, single = _meshes(known, LONGEST_S), _flat(known), _single(known)
            title = f"evaluation.{model}.{name}"
            yield Measurement(f"{title}.layouts", known.space.count, "layout", rate.layouts)
            yield Measurement(f"{title}.per_cpu_second", rate.both, "layout/s", aim)
            yield Measurement(f"{title}.evaluated_alone_per_cpu_second", rate.alone, "layout/s", aim)
            yield Measurement(f"{title}.over_flat_lists", rate.both, "layout/s", flat)
            yield Measurement(f"{title}.over_single_calls", rate.both, "layout/s", single)


def _meshes(known: Records, longest_s: float) -> Rate:
    nodes = np.random.default_rng(0).permutation(len(known.space.offsets) - 1)
    step, done, alone = nodes_at_once(known), 0, 0.0
    began = process_time()
    for start in range(0, len(nodes), step):
        listing = known.space.listing(np.sort(nodes[start : start + step]))
        listed = process_time()
        partial = partial_costs(known, listing)
        for mesh in listing.meshes():
            for block in mesh.cut(BLOCK):
                cost = evaluate(known, partial, block)
                _ = cost.step_time, cost.memory.total, cost.energy.total, cost.feasible
                done += block.size
        alone += process_time() - listed
        if process_time() - began > longest_s:
            break
    return Rate(done, done / (process_time() - began), done / alone)


def _flat(known: Records) -> float:
    """Layouts a CPU second as flat lists of neighbours."""
    count = min(FLAT_LIST, known.space.count)
    layout = known.space.decode(0, count)
    began = process_time()
    cost = evaluate_training(known.system, known.stack, known.training, layout)
    _ = cost.step_time, cost.memory.total, cost.energy.total, cost.feasible
    return count / (process_time() - began)


def _single(known: Records) -> float:
    """Layouts a CPU second when every layout is a call of its own."""
    rows = known.space.take(np.linspace(0, known.space.count - 1, SINGLE_CALLS).astype(np.int64))
    began = process_time()
    for row in range(SINGLE_CALLS):
        alone = Layout(**{name: int(getattr(rows, name)[row]) for name in Layout.__dataclass_fields__})
        cost = training_step(known.system, known.stack, known.training, alone)
        _ = cost.step_time, cost.memory.total, cost.energy.total, cost.feasible
    return SINGLE_CALLS / (process_time() - began)
