"""Whether the model puts layouts into the order in which they were measured, and what its choice costs.

Runs are compared where one model was measured in several layouts on the same machine: same framework and release, chip,
number of chips, model and depth, sequence, batch, number format and task. Of each such group, for one quantity:

* tau: Kendall's coefficient over its pairs, concordant less discordant over all (M. G. Kendall, "A New Measure of Rank
  Correlation", Biometrika 30, 1938). A pair whose measured values lie within NOISE of each other says nothing and is
  left out; a pair that the model takes for equal counts as neither.
* regret: the measured value of the layout that the model likes best over the best that was measured, less one; where
  the model likes several alike, their mean.

Several runs of one configuration are one, with the mean of each value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from sweep.prediction import Prediction

# 27 submissions to MLPerf Training state the median step of several runs of one configuration: the slowest is 0.1 %
# slower than the fastest in the median, 0.9 % in nine of ten, 1.3 % at most.
NOISE = 0.02
_YEAR = re.compile(r"-20\d\d$")  # at the end of a stack's name
_EQUAL = 1e-9  # of two predictions
_SAME = (
    "framework", "release", "year", "chip", "chips", "model", "layers", "hidden", "heads", "sequence", "output",
    "batch", "number_format", "task",
)  # fmt: skip
_LESS_IS_BETTER: Mapping[str, bool] = {
    "step_time_s": True, "total_time_s": True, "tpot_s": True, "latency_s": True, "tokens_per_s_per_chip": False,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ranking:
    """The layouts of one group on one quantity."""

    group: str
    quantity: str
    layouts: int
    pairs: int  # whose measured values differ by more than noise
    tau: float | None  # None without such pairs
    regret: float
    chosen: str  # id of the run that the model likes best
    best: str  # id of the run that was measured best


@dataclass(frozen=True, slots=True)
class RankingSummary:
    """Means over groups, each of equal weight."""

    groups: int
    ranked: int  # groups that have a tau
    pairs: int
    tau: float | None
    concordant: float | None  # share of all pairs
    regret: float
    worst_regret: float


@dataclass(frozen=True, slots=True)
class _Run:
    id: str
    layout: str
    measured: float  # as a time: less is better
    predicted: float


def rankings(predictions: Sequence[Prediction], same_release: bool = True) -> list[Ranking]:
    """Every group of several layouts, the worst order first.

    Without `same_release` runs of several releases of a framework are put in one group, and what changed between the
    releases counts as if their layouts did it.
    """
    same = _SAME if same_release else tuple(name for name in _SAME if name not in ("release", "year"))
    groups: dict[tuple[str, ...], dict[tuple[str, str], list[Prediction]]] = {}
    for one in predictions:
        facts = one.stated or {}
        if one.quantity not in _LESS_IS_BETTER or not one.measured or not one.predicted or "layout" not in facts:
            continue
        stack = str(one.stack) if same_release else _YEAR.sub("", str(one.stack))
        key = (one.quantity, *(str(facts.get(name, "")) for name in same), one.group if same_release else "", stack)
        settings = (str(facts["layout"]), str(facts.get("settings", "")))
        groups.setdefault(key, {}).setdefault(settings, []).append(one)
    several = {key: layouts for key, layouts in groups.items() if len({layout for layout, _ in layouts}) > 1}
    found = [_ranked(_label(dict(zip(same, key[1:], strict=False))), key[0], runs) for key, runs in several.items()]
    return sorted(found, key=lambda one: (one.tau if one.tau is not None else 1.0, -one.regret, one.group))


def _label(facts: Mapping[str, str]) -> str:
    """A group in words, as in "nemo 25.04: Llama-3-70B pretrain, 64 h100_sxm, sequence 8192, batch 128, fp8"."""
    software = " ".join(filter(None, (facts.get("framework"), facts.get("release"))))
    model = " ".join(filter(None, (facts.get("model"), facts.get("task"))))
    named = (f"{name} {facts[name]}" for name in ("layers", "sequence", "output", "batch") if facts.get(name))
    machine = " ".join(filter(None, (facts.get("chips"), facts.get("chip"))))
    return f"{software}: " + ", ".join(filter(None, (model, machine, *named, facts.get("number_format"))))


def _ranked(label: str, quantity: str, layouts: Mapping[tuple[str, str], Sequence[Prediction]]) -> Ranking:
    runs = [_run(layout, members) for (layout, _), members in layouts.items()]
    concordant, pairs = 0, 0
    for one, other in combinations(runs, 2):
        if one.layout == other.layout:
            continue
        if abs(one.measured - other.measured) <= NOISE * min(one.measured, other.measured):
            continue
        pairs += 1
        ahead = one.predicted - other.predicted
        if abs(ahead) > _EQUAL * one.predicted:
            concordant += 1 if (ahead > 0) == (one.measured > other.measured) else -1
    best = min(runs, key=lambda run: run.measured)
    liked = min(run.predicted for run in runs)
    chosen = [run for run in runs if run.predicted <= liked * (1.0 + _EQUAL)]
    regret = sum(run.measured for run in chosen) / len(chosen) / best.measured - 1.0
    tau = concordant / pairs if pairs else None
    return Ranking(label, quantity, len(runs), pairs, tau, regret, chosen[0].id, best.id)


def _run(layout: str, members: Sequence[Prediction]) -> _Run:
    """Several runs of one configuration as one."""
    less = _LESS_IS_BETTER[members[0].quantity]

    def mean(values: Sequence[float]) -> float:
        return sum(value if less else 1.0 / value for value in values) / len(values)

    return _Run(
        members[0].id,
        layout,
        mean([one.measured or 0.0 for one in members]),
        mean([one.predicted or 0.0 for one in members]),
    )


def summed(found: Sequence[Ranking]) -> RankingSummary | None:
    """Means over the groups; None without any."""
    if not found:
        return None
    taus = [one.tau for one in found if one.tau is not None]
    pairs = sum(one.pairs for one in found)
    agreeing = sum(one.pairs * (1.0 + one.tau) / 2.0 for one in found if one.tau is not None)
    regrets = [one.regret for one in found]
    return RankingSummary(
        len(found), len(taus), pairs, sum(taus) / len(taus) if taus else None, agreeing / pairs if pairs else None,
        sum(regrets) / len(regrets), max(regrets),
    )  # fmt: skip
