r"""How unevenly tokens fall on experts: the busiest rank's share of the rows, and how many experts get any.

Uniform routing of T tokens gives a rank mu rows in the mean, and the busiest of e ranks about
:math:`1 + \sqrt{2 \ln e / \mu}` times that (extremes of e nearly normal counts). Popular experts add to it: with a
coefficient of variation c between experts, ranks of n experts differ by c / sqrt(n). Copies of the busiest experts take
that off again: 1 + (x - 1) / (1 + 4 r / E) for r copies of E experts, an assumption that lies between the default and
the perfect balance of arXiv:2506.12708, table 2.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from model.architecture import Experts
from model.serving.workload import Balance


def active_share(experts: Experts, tokens: Any) -> Any:
    """Share of the experts that at least one of `tokens` uniform tokens visits."""
    return 1.0 - np.power(1.0 - experts.per_token / experts.experts, tokens)


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
    extremes = np.sqrt(2.0 * np.log(groups))
    chance = extremes / np.sqrt(np.maximum(rows_per_rank, 1.0))
    popular: Any = 0.0
    if balance.kind == "power_law":
        local = np.maximum(experts.experts / groups, 1.0)
        popular = popularity_variation(experts.experts, balance.exponent) / np.sqrt(local) * extremes
        popular = popular / (1.0 + 4.0 * balance.redundant / experts.experts)
    return np.minimum(1.0 + np.sqrt(chance * chance + popular * popular), groups)
