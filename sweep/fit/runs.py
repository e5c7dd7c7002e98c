"""Published training runs as the fit sees them: what was measured, and what the model says with other constants."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf, log
from pathlib import Path
from typing import Any

import numpy as np

from model.system import System
from sweep import catalogue
from sweep.case_schema import read
from sweep.fit.constants import Free, Values, free, tuned
from sweep.fit.regression import Bounds, Linear
from sweep.power_validation import is_power
from sweep.published import InexpressibleError, measured_step_seconds, model_kind
from sweep.recipes import recipes
from sweep.serving_validation import is_serving
from sweep.training_cases import Changes, evaluated, machine_of, step_seconds

COMMAND = "python -m sweep.fit"  # in the source of every number that a fit has written
# Headlines state less of what was run: they count a part.
GRADE_WEIGHT = {"A": 1.0, "B": 1.0, "C": 0.25}
_STEP = 0.25  # of differences, over how far records lie apart


@dataclass(frozen=True, slots=True)
class Run:
    """One case with a step time that the model can predict."""

    case: Mapping[str, Any]
    id: str
    grade: str
    kind: str  # "dense" or "MoE"
    framework: str
    stacks: tuple[str, ...]  # the stack and those that it is like
    chip: str
    calibration: str
    family: str  # of models
    measured: float  # s
    has_rules: bool  # of its recipe or flags, which take numbers of `sweep.recipes`

    @property
    def campaign(self) -> tuple[str, ...]:
        """Runs that err together: one framework on one chip, in one format, of one kind."""
        return (self.framework, self.chip, str(self.case.get("number_format") or "bf16"), self.kind)

    def left_out(self, what: str) -> str:
        """What the run belongs to, where `what` is left out in turn."""
        return {"framework": self.framework, "chip": self.calibration, "family": self.family}[what]


def runs_of(cases: Iterable[Mapping[str, Any]]) -> list[Run]:
    """The training runs among the cases that can be predicted."""
    found = []
    for raw in cases:
        if is_power(raw) or is_serving(raw):
            continue
        try:
            case = read(raw)
            measured, _ = measured_step_seconds(case)
            predicted = evaluated(case)
        except (ValueError, InexpressibleError):
            continue
        if not 0.0 < float(predicted.cost.step_time[predicted.row]) < inf:
            continue
        line = catalogue.lineage(catalogue.entry("stacks", predicted.stack))
        framework = next((one.facts["frameworks"][0] for one in line if one.facts["frameworks"]), line[0].name)
        found.append(
            Run(
                case, str(case.get("id")), str(case.get("grade") or "C"), model_kind(case), framework,
                tuple(one.name for one in line), str(case.get("chip")), calibration_of(machine_of(case)[0]),
                family(case), measured, bool(predicted.rules),
            )
        )  # fmt: skip
    return found


def calibration_of(system: System) -> str:
    """Name of the calibration of a machine's chip."""
    return str(catalogue.entry("chips", system.chip.name).facts["calibration"])


def family(case: Mapping[str, Any]) -> str:
    """Family of a model, by the first word of its name: Llama-3.1-70B and LLaMA2-7B are of one."""
    word = re.match(r"[^a-z]*([a-z]+)", str(case.get("model") or "").lower())
    return word.group(1) if word else "unknown"


def error(run: Run, values: Values) -> float:
    """log(predicted / measured) with the constants of a fit, of which those of other records change nothing."""
    done = evaluated(run.case, changed(run, values))
    return log(float(done.cost.step_time[done.row]) / run.measured)


def errors_with(run: Run, sets: Sequence[Values]) -> Any:
    """(k,) the same with k sets of constants, all at the layout that is taken with the first."""
    done = evaluated(run.case, changed(run, sets[0]))
    columns = {key: np.array([one[key] for one in sets]) for key in sets[0]}
    moved = {key: value[0] if np.all(value == value[0]) else value for key, value in columns.items()}
    seconds = step_seconds(run.case, done, changed(run, moved))
    return np.log(np.broadcast_to(seconds, len(sets)) / run.measured)


def changed(run: Run, values: Mapping[tuple[str, str, str], Any]) -> Changes:
    """What the constants of a fit put in place of a run's own: numbers, or arrays (k,) of them."""

    def machine(system: System) -> System:
        calibration = tuned(system.chip.calibration, run.calibration, "calibrations", values)
        return replace(system, chip=replace(system.chip, calibration=calibration))

    return Changes(
        machine,
        lambda stack: tuned(stack, run.stacks[0], "stacks", values),
        tuned(recipes(), "recipes", "recipes", values),
    )


def held_errors(files: Sequence[Path]) -> list[float]:
    """log(predicted / measured) of the runs of some files, by the constants that the catalogue holds."""
    from sweep.validation import read_cases

    return [error(run, {}) for run in runs_of(read_cases(files))]


def weights(runs: Sequence[Run]) -> Any:
    """What each run counts: a campaign of n as sqrt(n), as its runs err together."""
    sizes = Counter(run.campaign for run in runs)
    return np.array([GRADE_WEIGHT.get(run.grade, 0.25) / sizes[run.campaign] ** 0.5 for run in runs])


@dataclass(frozen=True, slots=True)
class Unknowns:
    """What a fit solves for: of each free constant the additions along its line of descent."""

    free: tuple[Free, ...]
    nodes: tuple[tuple[str, ...], ...]  # lines of descent down to each unknown
    reach: Any  # (free, nodes): 1 where a node is in a constant's line

    @property
    def expected(self) -> Any:
        """(nodes,) what is expected: of all, the plan's; of an addition, 0 or what the plan says of its record."""
        by_field = {one.constant.field: one.constant for one in self.free}
        constants = [by_field[node[0]] for node in self.nodes]
        return np.array([
            constant.inward(constant.expected) if len(node) == 1 else constant.own_expected(node[-1])
            for node, constant in zip(self.nodes, constants, strict=True)
        ])  # fmt: skip

    @property
    def widths(self) -> Any:
        """(nodes,) standard deviations."""
        by_field = {one.constant.field: one.constant for one in self.free}
        return np.array(
            [by_field[node[0]].width if len(node) == 1 else by_field[node[0]].between for node in self.nodes]
        )

    @property
    def bounds(self) -> Bounds:
        """Of the constants, on the scales that widths are measured on."""
        constants = [one.constant for one in self.free]
        return Bounds(
            self.reach,
            np.array([one.inward(one.low) if one.low or one.scale == "linear" else -np.inf for one in constants]),
            np.array([one.inward(one.high) for one in constants]),
            np.array([one.between for one in constants]),
        )

    def values(self, point: Any) -> dict[tuple[str, str, str], float]:
        """Constants at a point."""
        inside = self.reach @ point
        return {one.key: one.constant.outward(float(at)) for one, at in zip(self.free, inside, strict=True)}


def unknowns(runs: Sequence[Run]) -> Unknowns:
    """Unknowns of the records that ran."""
    found = tuple(free((run.stacks[0] for run in runs), (run.calibration for run in runs)))
    nodes = tuple(dict.fromkeys(one.line[: depth + 1] for one in found for depth in range(len(one.line))))
    reach = np.array([[float(one.line[: len(node)] == node) for node in nodes] for one in found])
    return Unknowns(found, nodes, reach)


def start(of: Unknowns, kept: Any = None) -> Any:
    """A point at which every constant is what the catalogue holds now, within its bounds.

    Parameters
    ----------
    kept : (nodes,) mask of the unknowns that may differ from what is expected, of which the constants that a fit wrote
        are told; all, and of every constant.
    """
    held, fitted = zip(*(_held(one) for one in of.free), strict=True)
    inside = [
        one.constant.inward(min(max(at, one.constant.low), one.constant.high))
        for one, at in zip(of.free, held, strict=True)
    ]
    # of all points that give the numbers of a fit, one near to what is expected
    gap = np.asarray(inside) - of.reach @ of.expected
    scaled = of.reach * of.widths * (1.0 if kept is None else kept)
    rows = np.ones(len(held), bool) if kept is None else np.array(fitted)
    return of.expected + of.widths * np.linalg.lstsq(scaled[rows], gap[rows], rcond=None)[0]


def _held(one: Free) -> tuple[float, bool]:
    """A constant of a record as the catalogue holds it, and whether a fit like this wrote it."""
    if one.constant.of == "recipes":
        return float(getattr(recipes(), one.constant.field)), True
    found = catalogue.entry(one.constant.of, one.entry)
    line = catalogue.lineage(found) if one.constant.of == "stacks" else (found,)
    stated = next(entry.quantities[one.constant.field] for entry in line if one.constant.field in entry.quantities)
    return float(stated.value), COMMAND in stated.source


def errors_at(runs: Sequence[Run], of: Unknowns, points: Sequence[Any]) -> Any:
    """(n, k) log(predicted / measured) of the runs at k points, by the model itself."""
    values = [of.values(point) for point in points]
    return np.array([errors_with(run, [_own(run, one) for one in values]) for run in runs])


def _own(run: Run, values: Values) -> dict[tuple[str, str, str], float]:
    """The constants of the records that a run depends on."""
    records = {run.stacks[0], run.calibration} | ({"recipes"} if run.has_rules else set())
    return {key: value for key, value in values.items() if key[1] in records}


def linear(runs: Sequence[Run], of: Unknowns, point: Any) -> Linear:
    """The runs' errors about a point: differences in each constant that a run depends on."""
    values = of.values(point)
    inside = of.reach @ point
    slopes = np.zeros((len(runs), len(of.free)))
    errors = np.zeros(len(runs))
    for at, run in enumerate(runs):
        own = _own(run, values)
        steps = {
            index: step
            for index, one in enumerate(of.free)
            if one.key in own and _concerns(one.constant.field, run)
            and (step := _step(one, float(inside[index]), own[one.key]))
        }  # fmt: skip
        moved = [{of.free[at].key: _at(of.free[at], inside[at] + step)} for at, step in steps.items()]
        around = errors_with(run, [own, *({**own, **one} for one in moved)])
        errors[at] = around[0]
        slopes[at, list(steps)] = (around[1:] - around[0]) / list(steps.values())
    return Linear(errors, slopes @ of.reach, weights(runs), point, of.expected, of.widths, of.bounds)


def _at(one: Free, inside: float) -> float:
    return one.constant.outward(float(inside))


def _step(one: Free, inside: float, value: float) -> float:
    """How far a constant is moved for a difference: away from a bound that it is at; 0 where it cannot move."""
    step = _STEP * one.constant.between
    return next((way for way in (step, -step) if _at(one, inside + way) != value), 0.0)


# Constants that change nothing for a run without what they cost: found without an evaluation.
_OF_MIXTURES = (
    "host_moe_layer_s", "moe_sync_s", "permute_passes", "grouped_overhead", "eager_mixture_s", "eager_sync_s",
    "partial_mixture_s", "partial_sync_s", "all_to_all_passes", "deep_ep_passes", "hybrid_ep_passes", "expert_overlap",
)  # fmt: skip
_OF_PIPELINES = ("pipeline_exposed", "transfer_sync_s")


def _concerns(field: str, run: Run) -> bool:
    """Whether a constant can change the time of a run."""
    if field in _OF_MIXTURES:
        return run.kind == "MoE"
    if field in _OF_PIPELINES:
        return run.case.get("pp") not in (None, 1)
    if field == "context_exposed":
        return run.case.get("cp") not in (None, 1)
    return True
