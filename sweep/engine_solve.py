r"""The robust regression behind `sweep.engine_fit`: shared values, what kinds and frameworks differ by, and priors.

With u the encoded constants, every constant c of an engine e of a framework f of kind k is
:math:`u = m_c + a_c + b_{ck} + d_{cf} + r_{ce}`: the prior, and deviations of all engines, of the kind, of the
framework and, where a framework has several records, of the releases of one, each with its own normal prior. An engine
left out has :math:`d = r = 0`. Errors are linear in u (one Jacobian), and their absolute values count, by weighted
least squares repeated: Huber and Ronchetti, Robust Statistics, 2009, section 7.8.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np

from model.layout import Array
from sweep.engine_constants import Plan
from sweep.engine_rows import Row

NOISE = 0.05  # of ln(predicted / measured): what no constant explains
ALIKE = 0.3  # rows come in sweeps of one machine: of so many rows, this share says something of its own
# Deviations of a kind, a framework and the releases of one, over the spread: what runs left out like best.
KIND, FRAMEWORK, RELEASE = 0.8, 1.0, 0.8
HOLD = 0.2  # what rows count at which one is held by as much as it pulls, a `reach` away
_ROUNDS = 8
_OF_GRADE = {"A": 1.0, "B": 0.7}
_OF_FIRST_TOKENS = 0.25  # they err three times as much
_SAME, _STAYS = 1e-4, 1e-3  # mean errors of held-out rows that differ by so much say the same, of a choice made before
_FOLDS = 3  # of the load, where an engine ran one model on one chip


@dataclass(frozen=True, slots=True)
class Deviation:
    """One fitted number: whose deviation, of which constant."""

    whose: str  # "" of all engines, a kind, a framework with its kind, or an engine with both
    constant: str
    spread: float

    @property
    def own(self) -> bool:
        """Whether it is a framework's or an engine's."""
        return ":" in self.whose

    @property
    def framework(self) -> str:
        """The framework with its kind, of one that is its own."""
        return ":".join(self.whose.split(":")[:2])


@dataclass(frozen=True, slots=True)
class Problem:
    """Rows as a linear problem in the deviations."""

    rows: Sequence[Row]
    deviations: tuple[Deviation, ...]
    slopes: Array  # rows x deviations
    errors: Array  # with all deviations 0
    weights: Array
    near: Array | None  # present values as rows of the same form, for a step that does not go too far
    present: Array

    def solve(self, used: Array | None = None, without: Array | None = None) -> Array:
        """Deviations that fit the rows `used`, those `without` held at 0."""
        rows = np.ones(len(self.errors), bool) if used is None else used
        kept = np.ones(len(self.deviations), bool) if without is None else ~without
        slopes, aim = self.slopes[rows][:, kept], -self.errors[rows]
        spread = np.array([one.spread for one in self.deviations])[kept]
        base, push = np.diag(1.0 / spread**2), np.zeros(int(kept.sum()))
        if self.near is not None:
            base = base + self.near[:, kept].T @ self.near[:, kept]
            push = self.near[:, kept].T @ self.present
        found = np.linalg.solve(base, push)
        for _ in range(_ROUNDS):
            left = np.maximum(np.abs(aim - slopes @ found), NOISE / 2.0)
            weights = self.weights[rows] * ALIKE / (NOISE * left)
            found = np.linalg.solve(slopes.T @ (weights[:, None] * slopes) + base, slopes.T @ (weights * aim) + push)
        whole = np.zeros(len(self.deviations))
        whole[kept] = found
        return whole

    def left(self, found: Array) -> Array:
        """Errors of all rows with these deviations."""
        return np.asarray(self.errors + self.slopes @ found)


def problem(rows: Sequence[Row], of: Plan, present: dict[str, dict[str, float]], reach: float | None = None) -> Problem:
    """The rows as a problem; with a `reach`, constants stay within about so much of what they are."""
    engines = sorted({row.engine for row in rows})
    places: dict[tuple[str, str], int] = {}
    deviations: list[Deviation] = []
    for one in of.constants:
        free = [name for name in engines if one in of.free(name)]
        shares = {whose: share for name in free for whose, share in zip(_levels(of, name), _SHARES, strict=True)}
        alone = {_levels(of, name)[-1] for name in free if sum(of.framework[e] == of.framework[name] for e in free) < 2}
        for whose, share in shares.items():
            if whose in alone:
                continue
            places[whose, one.name] = len(deviations)
            deviations.append(Deviation(whose, one.name, share * one.spread))
    slopes, errors = np.zeros((len(rows), len(deviations))), np.zeros(len(rows))
    near: list[Array] = []
    ends: list[float] = []
    for number, row in enumerate(rows):
        errors[number] = row.error
        for index, one in enumerate(of.constants):
            if one in of.free(row.engine):
                errors[number] += row.slopes[index] * _away(one, present[row.engine][one.name])
                for whose in _levels(of, row.engine):
                    if (whose, one.name) in places:
                        slopes[number, places[whose, one.name]] += row.slopes[index]
    if reach:
        stiff = sqrt(ALIKE / HOLD) / reach  # rows that count more pull harder, and are held as much harder
        for name in engines:
            for one in of.free(name):
                line = np.zeros(len(deviations))
                found = [places[key] for whose in _levels(of, name) if (key := (whose, one.name)) in places]
                line[found] = stiff
                near.append(line)
                ends.append(-_away(one, present[name][one.name]) * stiff)
    weights = np.array(
        [_OF_GRADE[r.grade] * (_OF_FIRST_TOKENS if r.subject == "first token of users" else 1.0) for r in rows]
    )
    return Problem(rows, tuple(deviations), slopes, errors, weights, np.array(near) if near else None, np.array(ends))


_SHARES = (1.0, KIND, FRAMEWORK, RELEASE)


def _levels(of: Plan, engine: str) -> tuple[str, str, str, str]:
    """Whose deviations a constant of an engine is the sum of."""
    return ("", of.kind(engine), of.framework[engine], f"{of.framework[engine]}: {engine}")


def _away(constant: Any, value: float) -> float:
    """From a value to its prior."""
    return float(constant.encoded(constant.prior) - constant.encoded(value))


def values(of: Plan, deviations: Sequence[Deviation], found: Array, engine: str) -> dict[str, float]:
    """Constants of an engine by the deviations; those of its kind where its framework has none."""
    numbers = {(one.whose, one.constant): float(value) for one, value in zip(deviations, found, strict=True)}
    whose = _levels(of, engine)
    return {
        one.name: float(one.decoded(one.encoded(one.prior) + sum(numbers.get((who, one.name), 0.0) for who in whose)))
        for one in of.free(engine)
    }


def left_out(given: Problem, key: Callable[[Row], str], without: Array | None = None) -> dict[str, Array]:
    """Deviations by a fit to the rows that differ from these in what `key` says, by what it says."""
    keys = np.array([key(row) for row in given.rows])
    return {str(one): given.solve(keys != one, without) for one in np.unique(keys)}


# ------------------------------------------------------------------------------------------------ which stay
def unconfirmed(given: Problem, before: Mapping[str, Sequence[str]] | None = None) -> Array:
    """Deviations of frameworks and releases that do not help where a family of models is left out: True to drop.

    What the last fit kept (`before`, by `whose`) is dropped, and what it dropped kept, only where that says more than
    a little: else rounds of the fit would go to and fro between two choices that are as good.
    Where a framework ran one family, chips are left out, else thirds of the load. Shared values are held meanwhile.
    """
    whole = given.solve()
    drop = np.zeros(len(given.deviations), bool)
    for framework in sorted({one.framework for one in given.deviations if one.own}):
        mine = np.array([row.framework == framework for row in given.rows])
        own = np.array([one.own and one.framework == framework for one in given.deviations])
        rows = [row for row, one in zip(given.rows, mine, strict=True) if one]
        folds = _folds(rows)
        base = given.left(np.where(own, 0.0, whole))[mine]
        part = Problem(
            rows, tuple(one for one, mark in zip(given.deviations, own, strict=True) if mark),
            given.slopes[mine][:, own], base, given.weights[mine], None, np.zeros(0),
        )  # fmt: skip
        had = np.array([one.constant in (before or {}).get(one.whose, ()) for one in part.deviations])
        margin = np.where(had, -_STAYS, _STAYS if before else _SAME)
        drop[own] = _without(part, folds, np.abs(whole[own]), margin)
    return drop


def _without(part: Problem, folds: Array, size: Array, margin: Array) -> Array:
    """Greedy: the smallest deviation first is held at 0 for good where held-out rows get worse by no more than this."""

    def score(without: Array) -> float:
        errors = np.zeros(len(folds))
        for fold in np.unique(folds):
            errors[folds == fold] = part.left(part.solve(folds != fold, without))[folds == fold]
        return float(np.average(np.minimum(np.abs(errors), 1.0), weights=part.weights))

    without = np.zeros(len(part.deviations), bool)
    if len(np.unique(folds)) < 2:
        return np.ones(len(part.deviations), bool)
    best = score(without)
    for index in np.argsort(size):
        tried = without.copy()
        tried[index] = True
        now = score(tried)
        if now <= best + margin[index]:
            without, best = tried, now
    return without


def _folds(rows: Sequence[Row]) -> Array:
    for names in ([row.model for row in rows], [row.chip for row in rows]):
        if len(set(names)) > 1:
            return np.array(names)
    order = np.argsort(np.argsort([row.load for row in rows], kind="stable"), kind="stable")
    return np.asarray(order * _FOLDS // max(len(rows), 1)).astype(str)
