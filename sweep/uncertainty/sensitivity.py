r"""What a result's uncertainty comes from: by small changes of each number, and by variance over their whole ranges.

Elasticities are central differences of logarithms, those of all numbers in two calls. Sobol' indices are estimated from
two sets of points A and B, and of A with the columns of a group taken from B:

.. math::
    S_g = \frac{\overline{f(B) (f(A_B^g) - f(A))}}{V}, \qquad
    T_g = \frac{\overline{(f(A) - f(A_B^g))^2}}{2 V}

Sources: Sobol', Mathematics and Computers in Simulation 55, 2001; Saltelli et al., Computer Physics Communications
181, 2010, table 2 (b) and (f); Jansen, Computer Physics Communications 117, 1999.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from model.layout import Array
from sweep.uncertainty.contenders import Contender, best_of, values
from sweep.uncertainty.distributions import standard_normal
from sweep.uncertainty.points import Column, Drawn, Number, Scaled, nominal, numbers_of, placed

NOT_KNOWN = frozenset({"rumour", "estimated", "placeholder"})  # origins of numbers that nobody published or measured
_STEP = 0.25  # of a number's standard deviation: a chip works in whole tiles and waves, smaller steps may fall between
_CERTAIN_STEP = 0.01  # of the logarithm, for numbers that are certain


@dataclass(frozen=True, slots=True)
class Influence:
    """What one column does to a quantity.

    Attributes
    ----------
    number
        Of its numbers the one that does the most; None for the error of the model.
    origins
        Kinds of the sources of those that do anything, "placeholder" among them; "model" for the error of the model.
    elasticity
        Change of the quantity's logarithm with that of the number.
    effect
        Change of the quantity's logarithm with one standard deviation of the number.
    """

    column: Column
    number: Number | None
    origins: frozenset[str]
    elasticity: float
    effect: float


def influences(contender: Contender, quantity: str, row: int | None = None) -> tuple[Influence, ...]:
    """What every number of a design's machine, certain ones too, does to a quantity of one layout; the most first.

    The layout is the best at the catalogue's values, or a row of the contender's. Two points a number, in two calls.
    Raises ValueError where that layout is infeasible.
    """
    if row is None:
        row = int(best_of(values(contender, quantity, nominal()), quantity)[0][0])
    return _influences(contender, quantity, row)


@lru_cache(maxsize=64)  # bands, shares and places where designs meet all start from them
def _influences(contender: Contender, quantity: str, row: int) -> tuple[Influence, ...]:
    alone = contender.take([row])
    columns: dict[Column, list[tuple[Number, float, float]]] = {}
    for number, elasticity, effect in _of_each(alone, quantity):
        columns.setdefault(number.column, []).append((number, elasticity, effect))
    found = [_together(column, parts) for column, parts in columns.items()]
    found.extend(_of_the_model(alone, quantity))
    return tuple(sorted(found, key=lambda one: -abs(one.effect)))


def _of_each(alone: Contender, quantity: str) -> list[tuple[Number, float, float]]:
    """Each number of the machine by itself: its elasticity, and its effect."""
    numbers = [number for number in numbers_of(alone.design) if number.quantity.value]
    uncertain = [number for number in numbers if number.distribution.log_sd]
    certain = [number for number in numbers if not number.distribution.log_sd]
    slopes = _slopes(alone, quantity, uncertain, certain)
    found = []
    for number, slope in zip((*uncertain, *certain), slopes, strict=True):
        sd = number.distribution.log_sd
        found.append((number, float(slope / sd) if sd else float(slope), float(slope) if sd else 0.0))
    return found


def _slopes(alone: Contender, quantity: str, uncertain: Sequence[Number], certain: Sequence[Number]) -> Array:
    """Changes of the quantity's logarithm with a standard deviation of uncertain numbers, and with certain ones'."""
    exact = replace(alone, error=None)
    found = []
    for numbers, step in ((uncertain, _STEP), (certain, _CERTAIN_STEP)):
        both = step * np.concatenate([np.eye(len(numbers)), -np.eye(len(numbers))])
        places = placed([number.own for number in numbers])
        points = Drawn(places, both, apart=True) if numbers is uncertain else Scaled(places, np.exp(both), apart=True)
        logs = _logs(exact, quantity, points)
        found.append((logs[: len(numbers)] - logs[len(numbers) :]) / (2.0 * step))
    return np.concatenate(found)


def _together(column: Column, parts: Sequence[tuple[Number, float, float]]) -> Influence:
    """What a column does: its numbers move together."""
    at_work = [part for part in parts if part[1] != 0.0] or list(parts)
    most = max(at_work, key=lambda part: abs(part[1]))[0]
    return Influence(
        column, most, frozenset(number.origin for number, _, _ in at_work),
        sum(elasticity for _, elasticity, _ in parts), sum(effect for _, _, effect in parts),
    )  # fmt: skip


def _logs(contender: Contender, quantity: str, points: Drawn | Scaled) -> Array:
    """Logarithm of a quantity of the contender's one layout, feasible or not at a small change."""
    found = values(contender, quantity, points, infeasible=True)[:, 0]
    if not np.all(np.isfinite(found) & (found > 0.0)):
        raise ValueError(f"{contender.label}: {quantity} has no logarithm")
    return np.log(found)


def _of_the_model(alone: Contender, quantity: str) -> list[Influence]:
    if alone.error is None:
        return []
    columns = alone.error.columns
    normals = _STEP * np.concatenate([np.eye(len(columns)), -np.eye(len(columns))])
    places = placed(columns)
    logs = _logs(alone, quantity, Drawn(places, normals))
    slopes = (logs[: len(columns)] - logs[len(columns) :]) / (2.0 * _STEP)
    factor = np.log(alone.error.factors(Drawn(places, normals))[0][:, 0])
    moved = (factor[: len(columns)] - factor[len(columns) :]) / (2.0 * _STEP)
    return [
        Influence(column, None, frozenset({"model"}), float(slope / by) if by else 0.0, float(slope))
        for column, slope, by in zip(columns, slopes, moved, strict=True)
    ]


def share_on(found: Iterable[Influence], origins: frozenset[str] = NOT_KNOWN) -> float:
    """Share of a result's variance, to first order, that rests on numbers of these origins; 0 where it has none.

    A column counts whole where any of its numbers is of one.
    """
    found = tuple(found)
    total = sum(one.effect**2 for one in found)
    return sum(one.effect**2 for one in found if one.origins & origins) / total if total else 0.0


def spread_of(found: Iterable[Influence]) -> float:
    """Standard deviation of a result's logarithm, to first order."""
    return float(np.sqrt(sum(one.effect**2 for one in found)))


# ------------------------------------------------------------------------------------------------ by variance
@dataclass(frozen=True, slots=True)
class Indices:
    """Sobol' indices of groups of columns, of shape (groups,), and the variance that they are shares of."""

    first: Array
    total: Array
    variance: float


def sobol_indices(
    function: Callable[[Array], Array], width: int, groups: Sequence[Sequence[int]], points: int, seed: int = 0
) -> Indices:
    """First-order and total indices of a function of independent standard normal variables.

    Parameters
    ----------
    function
        Of points, shape (n, width), giving (n,); rows where it is not a number are left out.
    groups
        Places of the variables of each group.
    points
        A power of two; the function is called for (2 + groups) times as many.
    """
    from scipy.stats import qmc

    normals = standard_normal(qmc.Sobol(2 * width, scramble=True, rng=seed).random(points))
    first, second = normals[:, :width], normals[:, width:]
    mixed = []
    for group in groups:
        one = first.copy()
        one[:, list(group)] = second[:, list(group)]
        mixed.append(one)
    found = function(np.concatenate([first, second, *mixed])).reshape(2 + len(groups), points)
    found = found[:, np.all(np.isfinite(found), axis=0)]
    at_first, at_second, at_mixed = found[0], found[1], found[2:]
    both = np.concatenate([at_first, at_second])
    variance = float(np.var(both)) if both.size else 0.0
    if variance == 0.0:
        return Indices(np.zeros(len(groups)), np.zeros(len(groups)), 0.0)
    centred = at_second - both.mean()  # a constant in the function then adds no noise
    return Indices(
        np.mean(centred * (at_mixed - at_first), axis=1) / variance,
        np.mean((at_first - at_mixed) ** 2, axis=1) / (2.0 * variance),
        variance,
    )


@dataclass(frozen=True, slots=True)
class Share:
    """Share of the variance of a result's logarithm: of a group alone, and with all that it acts together with."""

    columns: tuple[Column, ...]
    first: float
    total: float


def variance_shares(
    contender: Contender, quantity: str, most: int = 12, points: int = 512, seed: int = 0
) -> tuple[Share, ...]:
    """Sobol' indices of the columns that matter most, and of all others as one group, which comes last.

    At each point the best layout there is taken. The model is evaluated (3 + most) x points x K times.
    """
    found = [one for one in influences(contender, quantity) if one.effect != 0.0]
    columns = tuple(one.column for one in found)
    groups = [(column,) for column in columns[:most]] + ([columns[most:]] if len(columns) > most else [])
    places = placed(columns)

    def logs(normals: Array) -> Array:
        best = best_of(values(contender, quantity, Drawn(places, normals)), quantity)[1]
        return np.log(best)

    indices = sobol_indices(logs, len(columns), [[places[one] for one in group] for group in groups], points, seed)
    return tuple(
        Share(group, float(first), float(total))
        for group, first, total in zip(groups, indices.first, indices.total, strict=True)
    )
