"""Robust least squares with priors on a linear model: constants from logarithms of times.

Minimises sum_i w_i rho((r_i + J_i (x - x0)) / s) + sum_j ((x_j - e_j) / d_j)^2 with rho(z) = 2 (sqrt(1 + z^2) - 1), by
iteratively reweighted least squares: Holland and Welsch, Communications in Statistics A6 (1977). A row that is off
counts linearly, a prior like a measurement of its width. Constants, sums of unknowns, stay within bounds: beyond them a
steep penalty, which is solved for like the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

SCALE = 0.05  # logarithmic error beyond which a row counts linearly
_ROUNDS = 40
_SETTLED = 1e-6
_BOUND = 0.01  # width of the penalty beyond a bound, in widths of the constant


@dataclass(frozen=True, slots=True)
class Linear:
    """Rows about a point.

    Attributes
    ----------
    residuals : (n,) log(predicted / measured) at `point`.
    slopes : (n, k) of the residuals in the unknowns.
    weights : (n,) of the rows.
    point, expected, widths : (k,) the unknowns there, and their priors.
    bounds : of the constants that the unknowns add up to; None: none.
    """

    residuals: Any
    slopes: Any
    weights: Any
    point: Any
    expected: Any
    widths: Any
    bounds: Bounds | None = None

    @property
    def loss(self) -> float:
        """What is minimised, at the point."""
        return whole_loss(self, self.residuals, self.point)

    def among(self, rows: Any, columns: Any, base: Any) -> Linear:
        """About `base`, of some rows in some unknowns, the others staying there."""
        return Linear(
            expected_errors(self, base)[rows], self.slopes[np.ix_(rows, columns)], self.weights[rows], base[columns],
            self.expected[columns], self.widths[columns], self.bounds and self.bounds.among(columns, base),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of constants that are sums of unknowns.

    Attributes
    ----------
    sums : (c, k) of 0 and 1: the unknowns in each constant.
    low, high : (c,) where it must lie; widths : (c,) its scale.
    """

    sums: Any
    low: Any
    high: Any
    widths: Any

    def among(self, columns: Any, base: Any) -> Bounds:
        """Bounds of some unknowns, the others staying at `base`."""
        others = self.sums @ base - self.sums[:, columns] @ base[columns]
        return Bounds(self.sums[:, columns], self.low - others, self.high - others, self.widths)

    def pull(self, unknowns: Any) -> tuple[Any, Any]:
        """Stiffness (k, k) and force (k,) that drive unknowns back to the bounds that they pass."""
        at = self.sums @ unknowns
        past = (at < self.low) | (at > self.high)
        steep = past / (_BOUND * self.widths) ** 2
        back = np.clip(at, self.low, self.high)
        return (self.sums.T * steep) @ self.sums, self.sums.T @ (steep * back)


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
    columns = np.flatnonzero(moving)
    part = model.among(np.flatnonzero(rows), columns, found)
    stiffness = 1.0 / part.widths**2
    for _ in range(_ROUNDS):
        errors = expected_errors(part, found[columns])
        known = part.slopes.T * (part.weights / SCALE**2 / np.sqrt(1.0 + (errors / SCALE) ** 2))
        stiff, force = part.bounds.pull(found[columns]) if part.bounds else (0.0, 0.0)
        new = np.linalg.solve(
            known @ part.slopes + np.diag(stiffness) + stiff,
            known @ (part.slopes @ part.point - part.residuals) + part.expected * stiffness + force,
        )
        settled = np.max(np.abs(new - found[columns]), initial=0.0) < _SETTLED
        found[columns] = new
        if settled:
            break
    return found


def expected_errors(model: Linear, unknowns: Any) -> Any:
    """(n,) residuals of the linear model at other unknowns."""
    return model.residuals + model.slopes @ (unknowns - model.point)


def whole_loss(model: Linear, errors: Any, point: Any) -> float:
    """What `solved` minimises, at a point where the rows err as given."""
    each = 2.0 * (np.sqrt(1.0 + (errors / SCALE) ** 2) - 1.0)
    return float(np.sum(model.weights * each) + np.sum(((point - model.expected) / model.widths) ** 2))


def loss(errors: Any, weights: Any) -> float:
    """Weighted mean of the robust loss of logarithmic errors."""
    each = 2.0 * (np.sqrt(1.0 + (errors / SCALE) ** 2) - 1.0)
    return float(np.sum(weights * each) / np.sum(weights))
