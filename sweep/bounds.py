"""Lower bounds of the grid points of a space, so that most layouts need not be looked at for the best to be proven.

Both bounds are the cost model's own numbers at the most favourable options, so they hold by its monotony and need no
second model: full recomputation and sequence parallelism never need more memory; recomputation never saves time; ZeRO
and the order of the ranks move only the parts that the bound of time leaves out. A test searches spaces with and
without pruning and compares the rows.
"""

from __future__ import annotations

from itertools import product

import numpy as np

from model.cost import StepCost
from model.evaluate import evaluate_training
from model.layout import RECOMPUTE_MODULES, Array
from sweep.cases import Records

_FULL = 1 << RECOMPUTE_MODULES.index("full")
_ROUNDING = 1.0 - 1e-9  # parts are summed in another order than in the step itself
# Neighbouring points share their layers, which are most of the work here, so more points at once pay off.
_BLOCK = 1 << 16


def memory_floor(records: Records, points: Array, zero_stages: tuple[int, ...]) -> Array:
    """Bytes that every layout of a grid point needs at least."""
    least = np.full(points.shape, np.inf)
    single = records.space.points["pipeline_parallel"][points] == 1
    below_two = [stage for stage in zero_stages if stage < 2]
    for zero in {*below_two[-1:], *(stage for stage in zero_stages if stage >= 2)}:
        allowed = np.flatnonzero(single) if zero >= 2 else np.arange(len(points))
        for start in range(0, len(allowed), _BLOCK):
            some = allowed[start : start + _BLOCK]
            cost = _cost(records, points[some], sequence_parallel=1, recompute=_FULL, zero_stage=zero)
            least[some] = np.minimum(least[some], cost.memory.total)
    return np.asarray(least * _ROUNDING)


def time_floor(records: Records, points: Array) -> Array:
    """Seconds that a step of every layout of a grid point takes at least."""
    least = np.full(points.shape, np.inf)
    split = records.space.points["tensor_parallel"][points] > 1
    rings = records.space.points["context_parallel"][points] > 1
    for sequence_parallel, exchange in product((0, 1), (0, 1)):
        touched = np.flatnonzero((split | (sequence_parallel == 0)) & (rings | (exchange == 0)))
        for start in range(0, len(touched), _BLOCK):
            some = touched[start : start + _BLOCK]
            cost = _cost(records, points[some], sequence_parallel=sequence_parallel, context_exchange=exchange)
            least[some] = np.minimum(least[some], _unavoidable(cost, records, points[some]))
    return np.asarray(least * _ROUNDING)


def _cost(records: Records, points: Array, **options: int) -> StepCost:
    layout = records.space.point_layouts(points, **options)
    return evaluate_training(records.system, records.stack, records.training, layout)


def _unavoidable(cost: StepCost, records: Records, points: Array) -> Array:
    """The parts of a step that do not depend on ZeRO and on the order of the ranks."""
    time, degrees = cost.time, {name: values[points] for name, values in records.space.points.items()}
    stages, chunks = degrees["pipeline_parallel"], degrees["virtual_stages"]
    local = time.compute + time.tensor + time.context + time.expert + time.host + time.fixed
    # A bubble idles through the other stages' transfers too, and those depend on the order of the ranks.
    microbatches = records.space.global_batch // (degrees["micro_batch"] * degrees["data_parallel"])
    transfers = (stages - 1) * np.asarray(time.transfer) / (microbatches * chunks)
    return np.asarray(local + np.maximum(time.bubble - transfers, 0.0))
