"""The step of many layouts at once: every partial cost once per distinct combination of what it depends on.

The numbers are those of model.step.training_step, bit for bit: the same functions run on fewer rows, and the rows are
gathered. A million layouts hold a few thousand distinct layers.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from model.cost import StepCost, gathered
from model.data_parallel import DATA_KEYS, data_cost
from model.layer import LAYER_KEYS
from model.layout import Layout
from model.stack import Stack
from model.step import assemble, judged, local_costs
from model.system import System
from model.workload import Training


def distinct(layout: Layout, names: tuple[str, ...]) -> tuple[Any, Any]:
    """First rows of each distinct combination of the named fields, and each row's place among them.

    Keys are packed into one 64-bit integer, each field by its own range.
    """
    key = np.zeros(layout.shape, np.int64)
    for name in names:
        column = np.asarray(getattr(layout, name))
        if column.ndim == 0 or column.size == 1:
            continue
        top = int(column.max()) + 1
        key = key * top + column
    _, first, place = np.unique(key, return_index=True, return_inverse=True)
    return first, place.reshape(key.shape)


def evaluate_training(system: System, stack: Stack, training: Training, layout: Layout) -> StepCost:
    """Cost of one step for a flat list of layouts, as `training_step` gives it."""
    layout = layout.flat()
    first, place = distinct(layout, LAYER_KEYS)
    local = gathered(local_costs(system, stack, training, layout.take(first)), place)
    first, place = distinct(layout, DATA_KEYS)
    data = gathered(data_cost(system, stack, training, layout.take(first)), place)
    return judged(training, layout, assemble(system, stack, training, layout, local, data))
