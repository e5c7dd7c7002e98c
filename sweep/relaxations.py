"""Why nothing is feasible, and what would make it so: the nearest designs, and what each relaxation frees.

A relaxation is of one limit (a target, a constraint, the memory of a rank, the number of chips), of all limits that the
nearest design breaks, or of one number of the machine. Counts are of layouts that meet every limit then. Relaxed limits
are rounded outwards to two digits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from model import units
from model.layout import Array
from model.system import System
from sweep import serving_answer
from sweep.answer import layout_text
from sweep.cases import Case, Question, cases
from sweep.columns import QUANTITIES
from sweep.designs import changed, machine, number_at
from sweep.kinds import known_case
from sweep.limits import HBM, INSTANCES, LIMIT, rule_word
from sweep.near_misses import (
    SERVED,
    TRAINED,
    Misses,
    could_fit,
    limits_of,
    near_misses,
    on_machine,
)
from sweep.planning import standing_cases
from sweep.study import Study

_CASES = 6  # whose layouts are looked through: those that came nearest
_REASONS = 12  # told
_NEAREST = 3  # designs told
_TRIED = 1 << 10  # layouts, the nearest ones, that are costed again on a changed machine
_TRIED_SERVED = 1 << 8  # instances, each solved for its batch again
_LARGER = (2, 4, 8, 16, 32)  # times the chips
_MOST_CHIPS, _SEARCHED = 1 << 14, 1 << 23  # of a larger cluster, and layouts of it
_FASTER = (1.1, 1.2, 1.5, 2.0, 4.0)
_COMPARED = (1.05, 1.1, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0)  # factors at which relaxations are held against each other


@dataclass(frozen=True, slots=True)
class Relaxation:
    """One thing that makes layouts feasible.

    Attributes
    ----------
    what
        The limits or the number of the machine.
    to
        What to do, in words, as in "relax tpot to 24 ms" or "take 1.2 x the HBM".
    factor
        Of the limit; of several the largest.
    frees
        Layouts that are feasible then.
    exact
        Whether no other layout would be; else at least as many.
    """

    what: str
    to: str
    factor: float
    frees: int
    exact: bool


@dataclass(frozen=True, slots=True)
class Near:
    """A design that is nearly feasible, and what it breaks."""

    design: str
    work: str
    chips: int
    layout: str
    bound_by: str
    breaks: Mapping[str, str]  # rule -> value and limit in words
    over: Mapping[str, float]  # rule -> share over its limit
    row: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class WhyNot:
    """Why a study has no feasible design."""

    layouts: int
    nearest: tuple[Near, ...]
    broken: Mapping[str, int]  # rule -> layouts that the search counted
    relaxations: tuple[Relaxation, ...]  # that which frees most first
    reasons: tuple[str, ...]  # of each case

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "layouts": self.layouts,
            "nearest": [asdict(one) for one in self.nearest],
            "broken": dict(self.broken),
            "relaxations": [asdict(one) for one in self.relaxations],
            "reasons": list(self.reasons),
        }

    def lines(self) -> list[str]:
        """The answer in a few lines, what would free most first."""
        found = [f"no feasible layout{f' (0 of {self.layouts:,})' if self.layouts else ''}"]
        for place, one in enumerate(self.nearest):
            breaks = "; ".join(f"{rule_word(name)} {text}" for name, text in one.breaks.items())
            bound = f" - bound by {one.bound_by}" if one.bound_by else ""
            head = "Nearest:" if not place else "  then:  "
            found.append(f"  {head} {one.design} on {one.chips:,} chips, {one.layout}: {breaks}{bound}")
        if self.broken:
            counts = sorted(self.broken.items(), key=lambda item: -item[1])
            said = [f"{count:,} break {rule_word(name)}" for name, count in counts]
            found.append(f"  Of all layouts {'; '.join(said)}.")
        options = [f"{one.to}: {'' if one.exact else 'at least '}{one.frees:,} layout{'s' * (one.frees != 1)}"
                   for one in self.relaxations]  # fmt: skip
        if options:
            text = ". Or ".join(options)
            found.append(f"  {text[0].upper()}{text[1:]}.")
        more = len(self.reasons) - _REASONS
        rest = [f"  and {more:,} more"] if more > 0 else []
        return [*found, *(f"  {reason}" for reason in self.reasons[:_REASONS]), *rest]


def why_nothing(study: Study, failed: Sequence[Mapping[str, Any]]) -> WhyNot:
    """Look for what keeps a study without a feasible design from having one.

    Parameters
    ----------
    study
        The study.
    failed
        Its cases without a feasible layout, as the answer has them: what the search counted is not counted again.
    """
    question = question_of(study)
    reasons = tuple(f"{_what(one)}: {one['reason']}" for one in failed)
    broken: dict[str, int] = {}
    for one in failed:
        for name, count in one.get("broken", {}).items():
            broken[name] = broken.get(name, 0) + count
    chosen = _chosen(study, failed)
    budget = (TRAINED if study.phase == "training" else SERVED[study.phase]) // max(1, len(chosen))
    looked = [near_misses(question, case, budget) for case in chosen]
    looked = [one for one in looked if len(one.numbers) and one.worst.min() > 0]  # a trial's machine may be another
    layouts = sum(int(one.get("layouts", 0)) for one in failed)
    return WhyNot(
        layouts,
        tuple(_nearest(looked)),
        {name: count for name, count in broken.items() if count},
        tuple(_relaxations(question, looked)),
        reasons,
    )


def question_of(study: Study) -> Question:
    """What the cases of a study share."""
    return Question(study.axes, study.search, study.constraints, study.seed, phase=study.phase)


def _what(one: Mapping[str, Any]) -> str:
    names = [str(one[name]) for name in ("design", "work") if name in one]
    return ", ".join([*names, f"{one['chips']:,} chips" if "chips" in one else f"case {one.get('case')}"])


def _chosen(study: Study, failed: Sequence[Mapping[str, Any]]) -> list[Case]:
    """The cases worth looking through: those with layouts whose limits are missed by the least."""
    if study.outer is not None:  # machines as catalogued, at the largest size, stand for the trials
        return standing_cases(study)[0][:_CASES]
    question = question_of(study)
    listed = [case for case in cases(study)[0] if case.corner == "nominal" and case.method == "exact"]
    by_name = {(case.design.label, case.work.name, case.chips): case for case in listed}
    ranked = []
    for one in failed:
        case = by_name.get((one["design"], one["work"], one["chips"]))
        if case is not None and one.get("layouts"):
            ranked.append((_miss(question, case, one["nearest"]), case.index, case))
    return [case for _, _, case in sorted(ranked, key=lambda one: one[:2])][:_CASES]


def _miss(question: Question, case: Case, nearest: Mapping[str, float]) -> tuple[int, float]:
    """How many limits no layout of a case meets, and by how much the nearest misses them, by what the search saw."""
    system = machine(case.design)
    room = {HBM: system.chip.hbm_bytes} | {LIMIT + name: abs(limit) for name, _, limit in limits_of(question, case)}
    over = [excess / (room.get(name) or 1.0) for name, excess in nearest.items() if excess > 0]
    return len(over), max(over, default=0.0)


# ------------------------------------------------------------------------------------------------ the nearest
def _nearest(looked: Sequence[Misses]) -> Iterable[Near]:
    """The designs that are over their limits by the least, summed; of a case those that break others."""
    ranked = []
    for number, misses in enumerate(looked):
        total = np.sum(list(misses.shares.values()), axis=0)
        sets = np.sum([(share > 0) << i for i, share in enumerate(misses.shares.values())], axis=0)
        order = np.lexsort((misses.numbers, total))
        firsts = sorted(np.unique(sets[order], return_index=True)[1])
        for place, at in enumerate(order[firsts]):
            ranked.append((place, float(total[at]), number, int(at)))
    for _, _, number, at in sorted(ranked)[:_NEAREST]:
        yield _near(looked[number], at)


def _near(misses: Misses, at: int) -> Near:
    case, question = misses.known.case, misses.known.question
    row = misses.row(int(misses.numbers[at]))
    limits = {LIMIT + name: (name, sense, limit) for name, sense, limit in limits_of(question, case)}
    over = {name: float(share[at]) for name, share in misses.shares.items() if share[at] > 0}
    breaks = {}
    for name, share in over.items():
        if name in limits:
            quantity, sense, limit = limits[name]
            unit = QUANTITIES[quantity].dimension.unit
            breaks[name] = f"{units.show(row[quantity], unit)} ({sense} {units.show(limit, unit)})"
        elif name == HBM:
            used = row["hbm_used_bytes"]
            breaks[name] = f"{units.show(used, 'byte')} ({units.show(used / (1.0 + share), 'byte')} can be planned)"
        elif name == INSTANCES:
            breaks[name] = f"{math.ceil(case.chips * (1.0 + share) - 1e-6):,} (<= {case.chips:,})"
        else:
            breaks[name] = f"{1.0 + share:.2f} x what there is"
    text = layout_text(row) if question.phase == "training" else serving_answer.layout_text(row)
    kept = {name: value for name, value in row.items() if not name.startswith("violation_")}
    return Near(case.design.label, case.work.name, case.chips, text, _bound(row), breaks, over, kept)


def _bound(row: Mapping[str, Any]) -> str:
    """What takes most of the step or pass, and its share."""
    times = {name[5:-2]: value for name, value in row.items() if name.startswith("time_") and value is not None}
    total = sum(times.values())
    most = max(times, key=lambda name: times[name], default="")
    return f"{most} {times[most] / total:.0%}" if most and total > 0 else ""


# ------------------------------------------------------------------------------------------------ what frees
def _relaxations(question: Question, looked: Sequence[Misses]) -> list[Relaxation]:
    """What makes layouts feasible: of a single limit, of several together, of the machine."""
    if not looked:
        return []
    limits = _limits(question, looked)
    single = [one for name, limit in limits.items() if (one := _of_one(name, limit, looked)) is not None]
    found = [one for one, _ in sorted(single, key=lambda item: (-item[1], item[0].factor))]
    if not found:
        found = _of_all(looked)
    return [*found, *_of_the_machine(looked), *_of_more_chips(question, looked)]


def _limits(question: Question, looked: Sequence[Misses]) -> dict[str, set[tuple[str, float]]]:
    """Rule -> its bounds over the cases; a rule of the model has none."""
    found: dict[str, set[tuple[str, float]]] = {}
    for misses in looked:
        for name in misses.shares:
            found.setdefault(name, set())
        if INSTANCES in found:
            found[INSTANCES].add(("<=", float(misses.known.case.chips)))
        for name, sense, limit in limits_of(question, misses.known.case):
            found[LIMIT + name].add((sense, limit))
    return found


def _alone(misses: Misses, name: str) -> Array:
    """Shares of the layouts that break this rule and no other."""
    if name not in misses.shares:
        return np.zeros(0)
    others = [share for other, share in misses.shares.items() if other != name]
    only = np.all([share <= 0 for share in others], axis=0) if others else np.ones(len(misses.numbers), bool)
    return np.asarray(misses.shares[name][only])


def _of_one(name: str, bounds: set[tuple[str, float]], looked: Sequence[Misses]) -> tuple[Relaxation, int] | None:
    """The least relaxation of one rule that frees anything, and how many it frees beside others at an equal factor."""
    shares = [_alone(misses, name) for misses in looked]
    every = np.sort(np.concatenate(shares))
    if not len(every):
        return None
    factor, to = _rounded(name, float(every[0]), bounds)
    frees = int(np.searchsorted(every, factor - 1.0 + 1e-9, side="right"))
    exact = all(misses.seen >= factor - 1.0 for misses in looked)
    at_equal = next((int(np.count_nonzero(every <= f - 1.0)) * 10 ** (len(_COMPARED) - i)
                     for i, f in enumerate(_COMPARED) if every[0] <= f - 1.0), 0)  # fmt: skip
    return Relaxation(name, to, factor, max(frees, 1), exact), at_equal


def _rounded(name: str, share: float, bounds: set[tuple[str, float]]) -> tuple[float, str]:
    """The factor that relaxes a rule by at least a share, rounded outwards to two digits, and how it is said."""
    word = rule_word(name)
    if name == INSTANCES and len(bounds) == 1:
        ((_, chips),) = bounds
        needed = math.ceil(chips * (1.0 + share) - 1e-6)
        return needed / chips, f"take {needed:,} chips"
    if len(bounds) == 1:
        ((sense, limit),) = bounds
        unit = QUANTITIES[name.removeprefix(LIMIT)].dimension.unit
        value = _outwards(limit + share * abs(limit) if sense == "<=" else limit - share * abs(limit), sense == "<=")
        return 1.0 + abs(value - limit) / (abs(limit) or 1.0), f"relax {word} to {units.show(value, unit)}"
    factor = _outwards(1.0 + share, True)
    return factor, f"relax {word} by {factor - 1.0:.0%}" if name.startswith(LIMIT) else f"take {factor:g} x the {word}"


def _outwards(value: float, up: bool) -> float:
    """A number rounded up or down to two digits."""
    if value == 0.0 or not math.isfinite(value):
        return value
    scale = 10.0 ** (math.floor(math.log10(abs(value))) - 1)
    steps = value / scale
    nearest = round(steps)
    if abs(steps - nearest) > 1e-9:
        nearest = math.ceil(steps) if up else math.floor(steps)
    return float(f"{nearest * scale:.12g}")


def _of_all(looked: Sequence[Misses]) -> list[Relaxation]:
    """All limits that the nearest design breaks, each by what it needs: where no single one frees anything."""
    best: tuple[float, Misses, int] | None = None
    for misses in looked:
        total = np.sum(list(misses.shares.values()), axis=0)
        at = int(np.lexsort((misses.numbers, total))[0])
        if best is None or total[at] < best[0]:
            best = float(total[at]), misses, at
    assert best is not None, "there is a case with layouts"
    _, misses, at = best
    own = {LIMIT + name: {(sense, limit)}
           for name, sense, limit in limits_of(misses.known.question, misses.known.case)}  # fmt: skip
    own[INSTANCES] = {("<=", float(misses.known.case.chips))}
    broken = {name: float(share[at]) for name, share in misses.shares.items() if share[at] > 0}
    needed = {name: _rounded(name, share, own.get(name, set())) for name, share in broken.items()}
    meets = np.ones(len(misses.numbers), bool)
    for name, share in misses.shares.items():
        meets &= share <= (needed[name][0] - 1.0 + 1e-9 if name in needed else 0.0)
    factor = max(factor for factor, _ in needed.values())
    to = " and ".join(text for _, text in needed.values())
    return [Relaxation(" and ".join(needed), to, factor, max(int(meets.sum()), 1), misses.seen >= factor - 1.0)]


def _of_the_machine(looked: Sequence[Misses]) -> list[Relaxation]:
    """Numbers of the machine that free some of the nearest layouts, each at the least of a few factors."""
    if not any(name.startswith(LIMIT) and share.any() for one in looked for name, share in one.shares.items()):
        return []  # memory alone is in the way, and counted already
    found = []
    tried = [(misses, _first(misses)) for misses in looked]
    for word, paths_of in _PARTS.items():
        if not any(_freed(misses, numbers, paths_of, _FASTER[-1]) for misses, numbers in tried):
            continue
        for factor in _FASTER:
            frees = sum(_freed(misses, numbers, paths_of, factor) for misses, numbers in tried)
            if frees:
                found.append(Relaxation(word, f"take {factor:g} x the {word}", factor, frees, False))
                break
    return sorted(found, key=lambda one: (one.factor, -one.frees))


def _of_more_chips(question: Question, looked: Sequence[Misses]) -> list[Relaxation]:
    """The least of a few larger clusters on which the nearest case of training has a feasible layout.

    Looked for where memory is in the way; sizes whose bounds leave nothing are not searched.
    """
    full = [misses for misses in looked if misses.shares.get(HBM, np.zeros(1)).min() > 0]
    if question.phase != "training" or len(full) < len(looked):
        return []
    case = max((misses.known.case for misses in full), key=lambda case: case.chips)
    for times in _LARGER:
        size = case.chips * times
        larger = known_case(question, replace(case, chips=size, chips_asked=size))
        if size > _MOST_CHIPS or larger.space.count > _SEARCHED:
            break
        if larger.space.count and could_fit(larger):
            found, tally = larger.search(0, larger.space.count)
            if found is not None:
                to = f"take {size:,} chips of {case.design.label}"
                return [Relaxation(INSTANCES, to, float(times), max(tally.feasible, 1), False)]
    return []


Paths = Callable[[System], list[str]]
_PARTS: Mapping[str, Paths] = {
    "FLOP/s": lambda system: [f"chip.peak_flops.{name}" for name in system.chip.peak_flops],
    "HBM bandwidth": lambda system: ["chip.hbm_bandwidth"],
    "bandwidth between chips": lambda system: [f"tiers.{tier.name}.bandwidth" for tier in system.tiers],
}


def _first(misses: Misses) -> Array:
    """Numbers of the layouts of a case that are nearest to feasible, ascending."""
    tried = _TRIED if misses.known.question.phase == "training" else _TRIED_SERVED
    worst = misses.worst
    near = np.argpartition(worst, tried)[:tried] if len(worst) > tried else np.arange(len(worst))
    return np.sort(misses.numbers[near])


def _freed(misses: Misses, numbers: Array, paths_of: Paths, factor: float) -> int:
    """How many of some layouts of a case are feasible on a machine with more of something."""
    system = misses.known.system
    for path in paths_of(system):
        value = number_at(system, path)
        if value:
            system = changed(system, path, value * factor)
    shares = on_machine(misses, numbers, system)
    return int(np.count_nonzero(np.all([share <= 0 for share in shares.values()], axis=0)))
