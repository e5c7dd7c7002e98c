"""Robust least squares with priors on a linear model: constants from logarithms of times.

Minimises sum_i w_i rho((r_i + J_i (x - x0)) / s) + sum_j ((x_j - e_j) / d_j)^2 with rho(z) = 2 (sqrt(1 + z^2) - 1), by
iteratively reweighted least squares: Holland and Welsch, Communications in Statistics A6 (1977). A row that is off
counts linearly, a prior like a measurement of its width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

SCALE = 0.05  # logarithmic error beyond which a row counts linearly
_ROUNDS = 40
_SETTLED = 1e-6


@dataclass(frozen=True, slots=True)
class Linear:
    """Rows about a point.

    Attributes
    ----------
    residuals : (n,) log(predicted / measured) at `point`.
    slopes : (n, k) of the residuals in the unknowns.
    weights : (n,) of the rows.
    point, expected, widths : (k,) the unknowns there, and their priors.
    """

    residuals: Any
    slopes: Any
    weights: Any
    point: Any
    expected: Any
    widths: Any


def solved(model: Linear, rows: Any = None, moving: Any = None, base: Any = None) -> Any:
    """Unknowns of least loss, of shape (k,).

    Parameters
    ----------
    rows : (n,) mask of the rows that count; all.
    moving : (k,) mask of the unknowns that are solved for; all.
    base : (k,) where the others stay; at what is expected of them.
    """
    rows = np.ones(len(model.residuals), bool) if rows is None else rows
    moving = np.ones(len(model.point), bool) if moving is None else moving
    found = (model.expected if base is None else base).copy()
    start = model.residuals[rows] + model.slopes[rows] @ (found - model.point)
    slopes, weights = model.slopes[rows][:, moving], model.weights[rows]
    stiffness = 1.0 / model.widths[moving] ** 2
    pull = (model.expected - found)[moving] * stiffness
    step = np.zeros(int(moving.sum()))
    for _ in range(_ROUNDS):
        errors = start + slopes @ step
        known = slopes.T * (weights / SCALE**2 / np.sqrt(1.0 + (errors / SCALE) ** 2))
        new = np.linalg.solve(known @ slopes + np.diag(stiffness), pull - known @ start)
        settled = np.max(np.abs(new - step), initial=0.0) < _SETTLED
        step = new
        if settled:
            break
    found[moving] += step
    return found


def expected_errors(model: Linear, unknowns: Any) -> Any:
    """(n,) residuals of the linear model at other unknowns."""
    return model.residuals + model.slopes @ (unknowns - model.point)


def loss(errors: Any, weights: Any) -> float:
    """Weighted mean of the robust loss of logarithmic errors."""
    each = 2.0 * (np.sqrt(1.0 + (errors / SCALE) ** 2) - 1.0)
    return float(np.sum(weights * each) / np.sum(weights))
