"""A study: the question, the designs, what is trained on them, and how to search.

A study file is TOML. It is read here, checked wholly, and every problem is reported at once; what comes out is a frozen
record in SI units.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sweep.axes import Axes, InstanceAxes
from sweep.designs import (
    Design,
    number_of,
)
from sweep.errors import InputError, Problem, nearest, unique
from sweep.study_schema import (
    MOST,
    SamplerName,
    read,
)  # fmt: skip
from sweep.toml_text import text_of, toml_tables
from sweep.work import Phase, Workload

if TYPE_CHECKING:
    from sweep.study_checker import Checker

Sense = Literal["<=", ">="]
# Sequences of a batch given in tokens: a multiple of a power of two that leaves room for factors 3 and 5.
_ODD_FACTORS = (1, 3, 5, 9, 15, 45)
OUTER_PLAIN = ("chips", "batch")


@dataclass(frozen=True, slots=True)
class Search:
    """What to look for in the layouts of a case, and which rows to keep."""

    objective: str = "tokens_per_s"
    pareto: tuple[str, ...] = ()
    rows: str = "best"  # best, top, pareto, feasible, all
    top: int = 1
    methods: tuple[str, ...] = ("exact",)
    prune: bool = True
    trials: int = 256
    generation: int = 16
    sampler: SamplerName = "nsga2"
    neighbours: float = 0.0  # share of a generation that is proposed beside the best layouts so far
    baselines: tuple[str, ...] = ()  # layouts that are tried first, as texts


@dataclass(frozen=True, slots=True)
class Variable:
    """An outer variable: a list of choices, or a range."""

    name: str
    choices: tuple[float, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False

    @property
    def whole(self) -> bool:
        """Whether it counts something."""
        return self.name in OUTER_PLAIN

    def number(self, value: Any) -> float:
        """A value of the study file in SI units. Raises ValueError with the rule that it breaks."""
        if not self.whole:
            return number_of(self.name, value)
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST:
            raise ValueError(f"{value!r} is not a positive whole number, as in 64")
        return value

    def offers(self, value: float) -> bool:
        """Whether a value is one of the choices, or in the range."""
        return value in self.choices if self.choices else self.low <= value <= self.high


@dataclass(frozen=True, slots=True)
class Outer:
    """Variables outside the layout, which Optuna proposes."""

    trials: int
    generation: int
    sampler: SamplerName
    objectives: tuple[str, ...]
    variables: tuple[Variable, ...]
    baselines: tuple[tuple[tuple[str, float], ...], ...] = ()  # values of all variables, tried first
    designs: tuple[str, ...] = ()  # labels of those whose machines are varied; none: all

    def varies(self, label: str) -> bool:
        """Whether the numbers of a design's machine are varied; the others stand beside it as they are."""
        return not self.designs or label in self.designs


@dataclass(frozen=True, slots=True)
class Uncertainty:
    """How sure the answer is to be made."""

    points: int
    layouts: int  # the best of each design and size
    quantities: tuple[str, ...]
    sensitivities: int  # numbers told, those that matter most first


@dataclass(frozen=True, slots=True)
class Study:
    """A study as checked. `text` is the file as written."""

    name: str
    question: str
    seed: int
    workloads: tuple[Workload, ...]
    designs: tuple[Design, ...]
    axes: Axes | InstanceAxes
    search: Search
    constraints: tuple[tuple[str, Sense, float], ...] = ()
    outer: Outer | None = None
    phase: Phase = "training"
    reference: str = ""  # label of the design whose throughput the others are to equal
    corners: bool = False  # solve designs that rest on rumour at both ends of their ranges too
    text: str = field(default="", compare=False)
    notes: tuple[str, ...] = field(default=(), compare=False)  # what was rounded or left out, for people
    uncertainty: Uncertainty | None = None

    @property
    def decides_by(self) -> tuple[str, ...]:
        """Quantities that the study decides by."""
        return self.outer.objectives if self.outer else (self.search.objective,)

    @property
    def samplers(self) -> dict[str, SamplerName]:
        """Table of the file -> the sampler of Optuna that it uses."""
        if self.outer:
            return {"outer": self.outer.sampler}
        return {"search": self.search.sampler} if "optuna" in self.search.methods else {}


def load(path: Path, overrides: Sequence[str] = ()) -> Study:
    """Read and check a study file.

    Parameters
    ----------
    path
        The file.
    overrides
        Changes to it, as "path=value"; see `sweep.overrides`.

    Raises
    ------
    InputError
        With every problem of the file.
    """
    shown = str(path)
    try:
        text = text_of(path)
    except FileNotFoundError:
        near = nearest(path.name, (p.name for p in path.parent.glob("*.toml"))) if path.parent.is_dir() else ""
        remedy = near if "mean" in near else "give the path of a study file"
        raise InputError([Problem(shown, "", "no such file", None, remedy)]) from None
    except (OSError, ValueError) as failure:  # ValueError: a path that no file can have
        reason = failure.strerror if isinstance(failure, OSError) else failure
        raise InputError([Problem(shown, "", f"cannot be read: {reason}", None, "give a study file")]) from None
    if overrides:
        from sweep.overrides import FLAG, with_overrides

        text, shown = with_overrides(text, overrides, shown), f"{shown} with {FLAG}"
    return parse(text, shown, path.stem, path.resolve().parent)


def parse(
    text: str, shown: str = "study", name: str = "study", beside: Path | None = None, entries: Path | None = None
) -> Study:
    """Check the text of a study file.

    Parameters
    ----------
    text
        The file as written.
    shown
        What stands for the file in messages.
    name
        The study's name where the file gives none.
    beside
        Folder that a relative path in the file starts from.
    entries
        Folder of catalogue entries instead of the one that the file names: those that a run has kept.
    """
    raw = toml_tables(text, shown)
    folder = entries or _catalogue_folder(raw, (beside or Path.cwd()).resolve())
    phase, wrong = _phase(raw, shown)
    raw |= {"phase": phase}
    checker = checker_of(phase)(shown, folder)
    table, problems = read(shown, raw, checker.form)
    if table is None or wrong:
        raise InputError(unique([*wrong, *problems, *checker.problems_of_raw(raw)]))
    return checker.study(table, text, name)


def _phase(raw: Mapping[str, Any], shown: str) -> tuple[str, list[Problem]]:
    """The phase of a study; where it is none, the one that the tables are of, and what to write."""
    given = raw.get("phase", "training")
    if given in typing.get_args(Phase):
        return str(given), []
    likely = "serving" if {"traffic", "targets", "serving"} & set(raw) else "training"
    rule, remedy = f"must be one of {', '.join(typing.get_args(Phase))}", f"write phase = '{likely}'"
    return likely, [Problem(shown, "phase", rule, given, remedy)]


def checker_of(phase: object) -> type[Checker]:
    """Who checks a study of a phase; an unknown one is told as a key of the file."""
    if phase == "training":
        from sweep.study_checker import Checker

        return Checker
    from sweep.serving_study import ServingChecker

    return ServingChecker


def _catalogue_folder(raw: Mapping[str, Any], beside: Path) -> Path | None:
    """The study's own folder of catalogue entries; a study reads nothing outside the folder that it lies in."""
    given = raw.get("catalogue")
    if not isinstance(given, str):
        return None
    folder = (beside / given).resolve()
    return folder if folder.is_relative_to(beside) else None


def divides_well(most: int) -> int:
    """The largest number up to `most` that many degrees of parallelism divide, as the batches of `round_batch`."""
    return max(odd << power for odd in _ODD_FACTORS for power in range(most.bit_length()) if odd << power <= most)


def round_batch(sequences: float) -> int:
    """The number of sequences nearest to a target that many degrees of parallelism divide.

    One of 1, 3, 5, 9, 15, 45 times a power of two; a small target is only rounded to a whole number.
    """
    if sequences < 16:
        return max(1, round(sequences))
    candidates = [odd << power for odd in _ODD_FACTORS for power in range(int(sequences).bit_length() + 1)]
    return min(candidates, key=lambda candidate: (abs(candidate - sequences), -candidate))
