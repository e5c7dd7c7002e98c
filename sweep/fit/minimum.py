"""The constants of least loss: linear models about points that come closer, each step checked by the model itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sweep.fit.regression import solved, whole_loss
from sweep.fit.runs import Run, Unknowns, errors_at, linear

_SHARES = (1.0, 0.7, 0.4, 0.2, 0.1)  # of the way to the least of a linear model: beyond kinks of times it misleads
_GAIN = 2e-3  # of the loss, below which nothing more is to be had


def minimum(runs: Sequence[Run], of: Unknowns, point: Any, kept: Any, rounds: int = 6) -> Any:
    """(nodes,) the unknowns where the loss of the runs is least, as far as steps from `point` lead to it.

    Parameters
    ----------
    kept : (nodes,) mask of the unknowns that move; the others stay at what is expected of them.
    """
    point = np.where(kept, point, of.expected)
    for _ in range(rounds):
        model = linear(runs, of, point)
        way = solved(model, moving=kept) - point
        tried = [point + share * way for share in _SHARES]
        losses = [whole_loss(model, errors, at) for errors, at in zip(errors_at(runs, of, tried).T, tried, strict=True)]
        least = int(np.argmin(losses))
        if losses[least] >= model.loss:
            break
        point = tried[least]
        if losses[least] > model.loss * (1.0 - _GAIN):
            break
    return point
