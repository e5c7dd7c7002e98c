"""One layout taken apart: parts of time, memory and energy, what bounds the step, what it violates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from model import money, outcome
from model.bounds import roofline_seconds
from model.chip import TRAINING_FORMATS
from model.cost import StepCost
from model.layout import (
    CONTEXT_EXCHANGES,
    OFFLOADS,
    OVERLAPS,
    RANK_ORDERS,
    RECOMPUTE_MODULES,
    SCHEDULES,
    SHORT,
    Layout,
    mask_of,
    mask_text,
)
from model.stack import Stack, all_hidden, none_hidden
from model.step import training_step
from model.system import System
from model.units import show
from model.workload import Training
from sweep import catalogue, provenance
from sweep.answer import bands_text
from sweep.columns import QUANTITIES, TRAINING
from sweep.designs import DEFAULT_OPERATION, DEFAULT_PRICES, Design, design_of_row, machine_of_row
from sweep.errors import InputError, Problem, nearest
from sweep.limits import over_text

if TYPE_CHECKING:
    from sweep.evidence import Evidence
    from sweep.serving_explanation import ServedExplanation

_LONG = {short: long for long, short in SHORT.items()}
_WORDS = {"schedule": SCHEDULES, "cp_exchange": CONTEXT_EXCHANGES, "rank_order": RANK_ORDERS}
_MASKS = {"recompute": RECOMPUTE_MODULES, "overlap_off": OVERLAPS, "offload": OFFLOADS}
_RANGES = {"sp": (0, 1), "zero": (0, 3)}
_AS_IN = {"sp": 1, "zero": 1, "vp": 2, "mbs": 1, "recompute": "none", "overlap_off": "none", "offload": "none",
          "schedule": SCHEDULES[0], "cp_exchange": CONTEXT_EXCHANGES[0], "rank_order": RANK_ORDERS[0]}  # fmt: skip
MOST = 10**8  # of any degree, and of chips, sequences and tokens on a command line


@dataclass(frozen=True, slots=True)
class Explanation:
    """A layout's cost with the inputs that it was computed from."""

    system: System
    stack: Stack
    training: Training
    layout: Layout
    chips: int
    cost: StepCost
    bound_s: float  # no schedule or software can be faster
    between_s: tuple[float, float]  # the step if all traffic and launches hid behind compute, and if none did
    rumours: tuple[str, ...]  # paths of catalogue numbers that are rumours or placeholders
    bands: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)  # 10, 50, 90 % of a rumoured machine
    rumoured_share: float | None = None  # of the variance of tokens/s
    evidence: Evidence | None = None  # what the time rests on

    def times(self) -> dict[str, float]:
        """Seconds by cause."""
        return _floats(self.cost.time.parts())

    def violations(self) -> dict[str, float]:
        """Broken rules and by how much; memory in bytes."""
        found = {name: float(np.max(excess)) for name, excess in self.cost.violations.items()}
        return {name: excess for name, excess in found.items() if excess > 0}

    def bound_by(self) -> str:
        """The cause that takes most of the step."""
        times = self.times()
        return max(times, key=lambda name: times[name])

    def as_json(self) -> dict[str, Any]:
        """The object that `sweep explain --json` prints."""
        cost = self.cost
        return {
            "system": self.system.name,
            "model": self.training.architecture.name,
            "stack": self.stack.name,
            "chips": self.chips,
            "layout": _layout_words(self.layout),
            "step_time_s": float(cost.step_time),
            "roofline_s": self.bound_s,
            "roofline_share": self.bound_s / float(cost.step_time),
            "full_overlap_s": self.between_s[0],
            "no_overlap_s": self.between_s[1],
            "tokens_per_s": float(cost.tokens_per_second),
            "mfu": float(cost.model_flops_utilisation),
            "power_w": float(cost.power),
            "energy_per_token_j": float(cost.energy_per_token),
            "goodput": float(outcome.goodput(cost)),
            "usd_per_million_tokens": _known(float(outcome.usd_per_million_tokens(cost))),
            "time_s": self.times(),
            "memory_bytes": _floats(cost.memory.parts()),
            "energy_j": _floats(cost.energy.parts()),
            "spending_usd_per_hour": self.spending(),
            "weeks": _floats(outcome.availability(cost).parts()),
            "bound_by": self.bound_by(),
            "feasible": not self.violations(),
            "violations": self.violations(),
            "rumours": list(self.rumours),
            "band": self.bands,
            "rumoured_share": self.rumoured_share,
            **(self.evidence.as_json() if self.evidence else {}),
        }

    def headline(self) -> str:
        """The answer in four lines."""
        cost = self.cost
        words = " ".join(
            f"{key}={value}" for key, value in _layout_words(self.layout).items() if value not in (1, "none")
        )
        fits = "fits" if not self.violations() else f"does NOT run: {over_text(self.violations())}"
        model = self.training.architecture.name
        return (
            f"{model} on {self.chips} chips of {self.system.name} ({self.stack.name}): {words}\n"
            f"step {float(cost.step_time):.4g} s, {float(cost.tokens_per_second):,.0f} tokens/s, "
            f"MFU {100 * float(cost.model_flops_utilisation):.1f} %, {show(float(cost.power), 'W')}, "
            f"{float(cost.energy_per_token):.3g} J/token\n"
            f"full overlap {self.between_s[0]:.4g} s - estimate {float(cost.step_time):.4g} s - no overlap "
            f"{self.between_s[1]:.4g} s; roofline {self.bound_s:.4g} s "
            f"({100 * self.bound_s / float(cost.step_time):.0f} % of the step)\n"
            f"bound by {self.bound_by()}; {fits}"
        )

    def tables(self) -> list[tuple[str, str, dict[str, float]]]:
        """Title, unit and parts of each breakdown."""
        return [
            ("time of a step", "s", self.times()),
            ("memory of the fullest rank", "byte", _floats(self.cost.memory.parts())),
            ("energy of a step", "J", _floats(self.cost.energy.parts())),
            *(
                [(f"spending an hour, prices {spent.name}", "USD", self.spending())]
                if (spent := self.system.prices)
                else []
            ),
            ("where the weeks go", "", _floats(outcome.availability(self.cost).parts())),
        ]

    def spending(self) -> dict[str, float]:
        """US dollars of the machine for an hour, by what they are for; nothing where it has no prices."""
        if self.system.prices is None:
            return {}
        spent = outcome.spending(self.system, self.cost.packages, self.cost.power)
        return {name: float(value) * money.HOUR_S for name, value in spent.parts().items() if float(value)}

    def sources(self) -> dict[str, str]:
        """Part of the time -> the number that it follows most, and the kind of its source."""
        of_parts = self.evidence.of_parts if self.evidence else {}
        return {part: f"{one.number.rpartition(': ')[2]} ({one.kind})" for part, one in of_parts.items()}

    def remarks(self) -> list[str]:
        """What a reader must know about the inputs."""
        name = self.system.name
        known = [f"{len(self.rumours)} numbers of {name} are rumours: see sweep show {name}"] if self.rumours else []
        rests = self.evidence.lines() if self.evidence else []
        return [*known, *bands_text(self.bands, self.rumoured_share), *rests]


def _known(value: float) -> float | None:
    return None if value != value else value


def _floats(parts: dict[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in parts.items()}


def _layout_words(layout: Layout) -> dict[str, Any]:
    words: dict[str, Any] = {short: int(array) for short, array in layout.columns().items()}
    for column, names in _MASKS.items():
        words[column] = mask_text(words[column], names)
    for column, names in _WORDS.items():
        words[column] = names[words[column]]
    return words


def layout_fields(text: str) -> dict[str, int]:
    """The columns that "tp=8,pp=16,..." gives. Raises InputError with every problem of the text."""
    given: dict[str, int] = {}
    problems: list[Problem] = []
    for item in filter(None, (part.strip() for part in text.split(","))):
        key, _, value = item.partition("=")
        if key not in _LONG:
            problems.append(Problem("--layout", key or item, "unknown axis", key, nearest(key, _LONG)))
            continue
        if key in given:
            problems.append(Problem("--layout", key, "is given twice", value, "leave one out"))
        try:
            given[key] = _value(key, value)
        except ValueError as wrong:
            problems.append(Problem("--layout", key, str(wrong), value, f"as in {key}={_AS_IN.get(key, 8)}"))
    if problems:
        raise InputError(problems)
    return given


def parse_layout(text: str, ranks: int, batch: int) -> Layout:
    """A layout from "tp=8,pp=16,..."; dp follows from the ranks where it is not given.

    Raises InputError with every problem of the text.
    """
    given = {"gbs": batch} | layout_fields(text)
    inside = given.get("tp", 1) * given.get("cp", 1) * given.get("pp", 1)
    if "dp" not in given:
        if ranks % inside:
            raise InputError([Problem("--layout", "tp x cp x pp", f"must divide the {ranks} ranks", inside)])
        given["dp"] = ranks // inside
    if inside * given["dp"] != ranks:
        rule = f"must be the {ranks} ranks of the chips"
        raise InputError([Problem("--layout", "tp x cp x pp x dp", rule, inside * given["dp"], "leave out dp")])
    given.setdefault("sp", int(given.get("tp", 1) > 1))
    given.setdefault("schedule", SCHEDULES.index("interleaved") if given.get("vp", 1) > 1 else 0)
    return Layout(**{_LONG[key]: value for key, value in given.items()})


def _value(key: str, text: str) -> int:
    if key in _MASKS:
        return mask_of(text.split("+"), _MASKS[key], key)
    if key in _WORDS:
        if text not in _WORDS[key]:
            raise ValueError(f"must be one of {', '.join(_WORDS[key])}")
        return _WORDS[key].index(text)
    low, high = _RANGES.get(key, (1, MOST))
    if not (text.isascii() and text.isdigit() and len(text) < 15 and low <= int(text) <= high):
        raise ValueError("must be a positive whole number" if key not in _RANGES else f"must be {low} to {high}")
    return int(text)


def explain_layout(
    *, model: str | None, system: str | None, chips: int | None, layout: str | None, batch: int, sequence: int,
    number_format: str, stack: str | None, banded: bool = True, command: str = "explain",
) -> Explanation:  # fmt: skip
    """Explain a layout given on the command line, with its bands or without.

    Raises InputError with what is missing or wrong.
    """
    problems = _option_problems(command, model, system, stack, number_format)
    for name, value in (("chips", chips), ("batch", batch), ("sequence", sequence)):
        if value is None:
            problems.append(_needed(command, name))
        elif not 1 <= value <= MOST:
            problems.append(Problem(command, f"--{name}", f"must be a whole number from 1 to {MOST:,}", value))
    try:
        layout_fields(layout or "")
    except InputError as failure:
        problems += failure.problems
    if problems or model is None or system is None or chips is None:
        raise InputError(problems)
    machine = catalogue.system(system, prices=DEFAULT_PRICES, operation=DEFAULT_OPERATION)
    ranks = chips * machine.chip.ranks_per_package
    software = catalogue.stack(stack or catalogue.default_stack(system))
    training = Training(catalogue.architecture(model), sequence, number_format)
    design = Design(system, system, software.name, (chips,))
    found = explanation_of(machine, software, training, parse_layout(layout or "", ranks, batch), chips)
    return _with_bands(found, design) if banded else found


def _needed(command: str, name: str) -> Problem:
    examples = {"model": "llama-3.1-70b", "system": "dgx-h100", "chips": "64"}
    return Problem(command, f"--{name}", "is needed without a RUN#ROW", None, f"as in --{name} {examples[name]}")


def _option_problems(
    command: str, model: str | None, system: str | None, stack: str | None, number_format: str
) -> list[Problem]:
    """What is wrong with the names on a command line."""
    problems = []
    kinds: tuple[tuple[str, str | None, catalogue.Kind], ...] = (
        ("model", model, "models"), ("system", system, "systems"), ("stack", stack, "stacks"),
    )  # fmt: skip
    for name, given, kind in kinds:
        known = catalogue.names(kind)
        if given is None and name != "stack":
            problems.append(_needed(command, name))
        elif given is not None and given not in known:
            rule = f"no {name} of this name in the catalogue"
            problems.append(Problem(command, f"--{name}", rule, given, nearest(given, known)))
    runs = tuple(TRAINING_FORMATS)
    if system in catalogue.names("systems") and system is not None:
        runs = tuple(filter(catalogue.system(system).chip.supports, TRAINING_FORMATS))
    if number_format not in TRAINING_FORMATS:
        problems.append(Problem(command, "--format", "unknown number format", number_format,
                                nearest(number_format, runs)))  # fmt: skip
    elif number_format not in runs:
        problems.append(Problem(command, "--format", f"{system} does not compute in it", number_format,
                                f"one of {', '.join(runs)}"))  # fmt: skip
    return problems


def _with_bands(found: Explanation, design: Design) -> Explanation:
    """What a layout's time rests on, and how sure that of a rumoured machine is."""
    from sweep.certainty import layout_bands
    from sweep.evidence import evidence_of
    from sweep.uncertainty.contenders import training_contender

    row = {name: _known(float(QUANTITIES[name].read(found.cost))) for name in TRAINING.quantities}
    one = training_contender(design, found.stack, found.training, found.layout)
    bands, share = layout_bands(design, row, lambda _: one)
    return replace(found, bands=bands, rumoured_share=share, evidence=evidence_of(one))


def explanation_of(
    machine: System, software: Stack, training: Training, layout: Layout, chips: int, extra: Path | None = None
) -> Explanation:
    """Cost one layout on a machine; `extra` is a folder of further catalogue entries that the machine is from."""
    cost = training_step(machine, software, training, layout)
    kinds = provenance.source_kinds(machine.name, extra)
    rumours = tuple(path for path, kind in kinds.items() if kind == "rumour")
    bound = float(roofline_seconds(machine, training, layout))
    between = _between(machine, software, training, layout, float(cost.step_time))
    return Explanation(machine, software, training, layout, chips, cost, bound, between, rumours)


def _between(
    machine: System, software: Stack, training: Training, layout: Layout, seconds: float
) -> tuple[float, float]:
    """The step with all traffic hidden, and with none; around the estimate, also where less waiting hides less."""
    least, most = (
        float(training_step(machine, one, training, layout).step_time)
        for one in (all_hidden(software), none_hidden(software))
    )
    return min(least, seconds), max(most, seconds)


def explain_row(reference: str, banded: bool = True) -> Explanation | ServedExplanation:
    """Explain a row of a run, given as RUN#ROW, with the catalogue that the run kept and what its study changed.

    `banded`: with how sure a rumoured machine's numbers are, which takes a second.
    Raises InputError where the run or the row does not exist.
    """
    from sweep.store import find_run, kept_catalogue, place, read_row

    folder, _, row = reference.rpartition("#")
    if not folder or not row.isdigit():
        rule = "names a run folder and a row"
        raise InputError([Problem("explain", "RUN#ROW", rule, reference, "as in runs/name#3")])
    run = find_run(place(folder))
    found = read_row(run, int(row))
    with kept_catalogue(run) as kept:
        return explain_found(found, kept, banded)


def explain_found(row: dict[str, Any], kept: Path | None, banded: bool = True) -> Explanation | ServedExplanation:
    """Explain a row as it stands in a data set or an answer; `kept` is a folder of the entries that it rests on."""
    if "phase" not in row:
        return _explained(row, kept, banded)
    from sweep.serving_explanation import explain_served

    return explain_served(row, kept, banded)


def _explained(found: dict[str, Any], kept: Path | None, banded: bool) -> Explanation:
    """Explain a row with the catalogue entries of its run."""
    coded = (*_WORDS, *_MASKS)
    fields = {
        long: _value(short, found[short]) if short in coded else int(found[short]) for long, short in SHORT.items()
    }
    training = Training(
        catalogue.architecture(found["model"], kept),
        int(found["sequence"]),
        found["number_format"],
        float(found["expert_imbalance"]),
    )
    software = catalogue.stack(found["stack"], kept)
    own = (machine_of_row(found, kept), software, training, Layout(**fields), int(found["chips"]), kept)
    explained = explanation_of(*own)
    wanted = banded and found["corner"] == "nominal"
    return _with_bands(explained, design_of_row(found, kept)) if wanted else explained
