"""How far the fit carries: runs predicted with constants that were fitted without them.

In turn a whole framework, a whole chip and a whole family of models is left out, the constants that are confirmed and
their values are found again from the rest, and the model itself, not its linear form, predicts what was left out. A
framework that is left out keeps its facts (what it overlaps, fuses and shards) and takes the numbers of its kind; a
chip keeps its datasheet and measured operators and takes what its generation sustains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from typing import Any, Literal

import numpy as np

from sweep.fit.confirm import confirmed
from sweep.fit.minimum import minimum
from sweep.fit.regression import Linear, solved
from sweep.fit.runs import Run, Unknowns, errors_at

Left = Literal["framework", "chip", "family"]
LEFT: tuple[Left, ...] = ("framework", "chip", "family")
_FEW = 0.05  # of the runs: without so few the constants stay where the linear model of all runs holds
_ROUNDS = 1  # of linear models of what is left, beside that one
_SUMMED = (("A", "dense"), ("A", "MoE"), ("B", "dense"), ("B", "MoE"))


def predicted_without(what: Left, model: Linear, of: Unknowns, runs: Sequence[Run]) -> Any:
    """(n,) log(predicted / measured) of every run, by constants from runs of other frameworks, chips or families.

    Parameters
    ----------
    model : all runs about the constants that are fitted to all of them: where the search for the others begins
    """
    labels = np.array([run.left_out(what) for run in runs])
    errors = np.zeros(len(runs))
    left = [labels == label for label in dict.fromkeys(labels)]
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        for rows, found in zip(left, pool.map(partial(_of_others, model, of, runs), left), strict=True):
            errors[rows] = found
    return errors


def _of_others(model: Linear, of: Unknowns, runs: Sequence[Run], left: Any) -> Any:
    """Errors of the runs that are left out, by constants from the others."""
    kept = confirmed(model, of, runs, ~left)
    point = solved(model, ~left, kept)
    if left.mean() > _FEW:
        others = [run for run, out in zip(runs, left, strict=True) if not out]
        point = minimum(others, of, point, kept, _ROUNDS)
    return errors_at([run for run, out in zip(runs, left, strict=True) if out], of, [point])[:, 0]


@dataclass(frozen=True, slots=True)
class Share:
    """Errors of some runs, as fractions: by the shipped constants, and by constants from other runs."""

    name: str
    runs: int
    in_sample: float  # mean absolute
    left_out: Mapping[Left, float]  # the same, by what was left out
    bias: float  # of what a left-out framework gives


def shares(runs: Sequence[Run], in_sample: Any, without: Mapping[Left, Any]) -> list[Share]:
    """Errors by grade and kind of model, then of each framework."""
    groups = {f"{grade} {kind}": _where(runs, grade, kind) for grade, kind in _SUMMED}
    groups["910B"] = np.array([run.chip.startswith("ascend_910b") for run in runs])
    groups["TPU"] = np.array([run.chip.startswith("tpu") for run in runs])
    frameworks = sorted({run.framework for run in runs})
    groups |= {name: np.array([run.framework == name and run.grade in "AB" for run in runs]) for name in frameworks}
    found = []
    for name, rows in groups.items():
        if rows.any():
            errors = {what: _mean(of_all[rows]) for what, of_all in without.items()}
            bias = float(np.mean(np.expm1(without["framework"][rows])))
            found.append(Share(name, int(rows.sum()), _mean(in_sample[rows]), errors, bias))
    return found


def _where(runs: Sequence[Run], grade: str, kind: str) -> Any:
    return np.array([(run.grade, run.kind) == (grade, kind) for run in runs])


def _mean(errors: Any) -> float:
    return float(np.mean(np.abs(np.expm1(errors))))
