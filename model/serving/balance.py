r"""How unevenly tokens fall on experts: the busiest rank's share of the rows, and how many experts get any.

Uniform routing of T tokens gives a rank mu rows in the mean, and the busiest of e ranks about
:math:`1 + x_e / \sqrt{\mu}` times that, x_e being the mean of the largest of e normal numbers. Popular experts add to
it: with a coefficient of variation c between experts, ranks of n experts differ by c / sqrt(n). Copies of the busiest
experts take that off again: 1 + (x - 1) / (1 + 4 r / E) for r copies of E experts, an assumption that lies between the
default and the perfect balance of arXiv:2506.12708, table 2. Popular experts are visited by several tokens of a batch,
so that fewer experts get any.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from model.architecture import Experts
from model.powers import power
from model.serving.workload import Balance

_MOST_VISITED = 1.0 - 1e-9  # probability of the most popular expert, at most
# Ranks of experts from 0 to 1 and their weights: Gauss's rule of eight points in the cube root, dense at the popular.
_ROOTS, _WEIGHTS = np.polynomial.legendre.leggauss(8)
_RANKS = tuple(zip(((_ROOTS + 1.0) / 2.0) ** 3, 1.5 * _WEIGHTS * ((_ROOTS + 1.0) / 2.0) ** 2, strict=True))


def active_share(experts: Experts, tokens: Any, exponent: float = 0.0) -> Any:
    """Share of the experts that at least one of `tokens` visits, where shares fall as rank^-exponent (below 1).

    The mean of 1 - (1 - p)^T over the experts' probabilities p, as an integral over their rank by Gauss's rule.
    """
    mean = experts.per_token / experts.experts
    if exponent <= 0.0:
        return 1.0 - power(1.0 - mean, tokens)
    tokens = np.asarray(tokens, float)
    share: Any = 0.0
    for place, weight in _RANKS:
        visited = min(mean * (1.0 - exponent) * place**-exponent, _MOST_VISITED)
        share = share + weight * -np.expm1(tokens * np.log1p(-visited))
    return np.minimum(share, 1.0)


def busiest_active(balance: Balance, experts: Experts, expert_parallel: Any, tokens: Any) -> Any:
    """Experts of the busiest of `expert_parallel` ranks that get a row: each is visited or not, by chance.

    With few tokens this is what a step waits for: the ranks read the weights of so many experts.
    """
    groups = np.maximum(np.asarray(expert_parallel, float), 1.0)
    held = (experts.experts + balance.redundant) / groups
    exponent = balance.exponent if balance.kind == "power_law" else 0.0
    share = active_share(experts, tokens, exponent)
    if balance.kind == "perfect":
        return held * share
    return np.minimum(held * share + np.sqrt(held * share * (1.0 - share)) * expected_maximum(groups), held)


def expected_maximum(count: Any) -> Any:
    """Mean of the largest of `count` standard normal numbers, 0 for one.

    Blom's place of it, (n - 0.375) / (n + 0.25), in the inverse normal distribution of Abramowitz and Stegun, 26.2.23;
    within 0.03 of the exact mean. Source: Blom, Statistical Estimates and Transformed Beta-Variables, 1958.
    """
    above = 0.625 / (np.maximum(np.asarray(count, float), 1.0) + 0.25)
    root = np.sqrt(-2.0 * np.log(above))
    over = 2.515517 + root * (0.802853 + root * 0.010328)
    under = 1.0 + root * (1.432788 + root * (0.189269 + root * 0.001308))
    return np.where(np.asarray(count) > 1.0, root - over / under, 0.0)


def popularity_variation(experts: int, exponent: float) -> float:
    """Coefficient of variation of the experts' shares where they fall as rank^-exponent."""
    if exponent <= 0.0:
        return 0.0
    shares = np.arange(1, experts + 1, dtype=float) ** -exponent
    shares /= shares.sum()
    return float(np.sqrt(experts * np.sum(shares * shares) - 1.0))


def imbalance(balance: Balance, experts: Experts, expert_parallel: Any, rows_per_rank: Any) -> Any:
    """Rows of the busiest rank over the mean, for groups of `expert_parallel` ranks with so many rows each."""
    groups = np.maximum(np.asarray(expert_parallel, float), 1.0)
    if balance.kind == "perfect":
        return np.ones(np.broadcast_shapes(groups.shape, np.shape(rows_per_rank)))
    extremes = expected_maximum(groups)
    chance = extremes / np.sqrt(np.maximum(rows_per_rank, 1.0))
    popular: Any = 0.0
    if balance.kind == "power_law":
        local = np.maximum(experts.experts / groups, 1.0)
        popular = popularity_variation(experts.experts, balance.exponent) / np.sqrt(local) * extremes
        popular = popular / (1.0 + 4.0 * balance.redundant / experts.experts)
    return np.minimum(1.0 + np.sqrt(chance * chance + popular * popular), groups)
