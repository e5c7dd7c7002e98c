"""A question without a study file: its TOML, and its answer in this process, without a run folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from model.layout import SHORT as TRAINED
from model.serving.instance import SHORT as INSTANCES
from sweep import catalogue, serving_answer
from sweep.answer import Answer, answer, headlines, told
from sweep.blocks import keep_freed_memory, summary
from sweep.cases import Question, cases
from sweep.certainty import add_bands
from sweep.errors import InputError, Problem, nearest
from sweep.kinds import known_case
from sweep.relaxations import WhyNot, why_nothing
from sweep.study import Study, parse
from sweep.toml_text import toml_text

Value = str | int | float | bool | Sequence["Value"]
# First choice of a chip: the narrowest format that its engines serve in without loss that matters.
_SERVED_IN = ("fp8", "int8", "bf16")


@dataclass(frozen=True, slots=True)
class Answered:
    """A question, and what came of it."""

    study: Study
    answer: Answer
    notes: tuple[str, ...]
    why_not: WhyNot | None = None  # where there is no answer

    def as_json(self) -> dict[str, Any]:
        """The object that `sweep try --json` and `sweep size --json` print."""
        found: dict[str, Any] = told({
            "answer": self.answer.rows,
            "infeasible": self.answer.failed,
            "notes": [*self.notes, *self.answer.remarks],
            "study": self.study.text,
            "why_not": None if self.why_not is None else self.why_not.as_json(),
        })  # fmt: skip
        return found

    @property
    def lines(self) -> list[str]:
        """The answer in a line or two."""
        told = headlines if self.study.phase == "training" else serving_answer.headlines
        return told(self.study, self.answer.rows)


def toml(tables: Mapping[str, Any], top: Mapping[str, Value | None]) -> str:
    """A study file; what is None is left out, and tables without keys too. A list of tables may be one of them."""
    filled: dict[str, Any] = {}
    for name, table in tables.items():
        listed = table if isinstance(table, list) else [table]
        kept = [{key: one for key, one in keys.items() if one is not None} for keys in listed]
        if kept[0]:
            filled[name] = kept if name in ("workloads", "designs") else kept[0]
    return toml_text({**top, **filled})


def with_unit(value: str | None, unit: str) -> str | None:
    """A value of the command line with its unit; a bare number is in `unit`."""
    if value is None:
        return None
    text = value.strip()
    return f"{text} {unit}" if text.replace(".", "", 1).replace("_", "").isdigit() else text


def at_most(limit: str | None) -> str | None:
    """A target of the command line as a bound."""
    return None if limit is None else limit if limit.lstrip().startswith("<=") else f"<= {limit.strip()}"


def held(layout: str | None, training: bool) -> dict[str, Value]:
    """Keys of a study's layout that "tp=8,pp=2" holds. Raises InputError with every problem of the text."""
    known = {short: long for long, short in (TRAINED if training else INSTANCES).items()} | {
        "etp": "expert_tensor_parallel"
    }
    keys: dict[str, Value] = {}
    problems = []
    for item in filter(None, (part.strip() for part in (layout or "").split(","))):
        name, _, value = item.partition("=")
        if name not in known:
            problems.append(Problem("sweep try", "--layout", "unknown axis", name, nearest(name, known)))
        elif known[name] == "sequence_parallel":
            keys[known[name]] = value == "1"
        else:
            keys[known[name]] = int(value) if value.isdigit() else value
    if problems:
        raise InputError(problems)
    return keys


def served_in(system: str | None) -> str:
    """The number format that a machine serves in where nothing else is said."""
    if system is None or system not in catalogue.names("systems"):
        return _SERVED_IN[-1]  # the unknown name is told with all other problems
    chip = catalogue.system(system).chip
    return next(name for name in _SERVED_IN if chip.supports(name))


def ask(text: str, shown: str, options: Mapping[str, str], overrides: Sequence[str] = ()) -> Answered:
    """Answer a question of the command line, given as a study.

    Parameters
    ----------
    text
        The study file.
    shown
        The command, in messages.
    options
        Key of the study -> option that it came from.
    overrides
        Changes to the study, as "path=value"; see `sweep.overrides`.

    Raises
    ------
    InputError
        With every problem, by the options.
    """
    if overrides:
        from sweep.overrides import with_overrides

        text = with_overrides(text, overrides, shown)
    try:
        study = parse(text, shown, shown.rpartition(" ")[2])
    except InputError as failure:
        told = [Problem(one.file, options.get(one.key, one.key), one.rule, one.value, one.remedy)
                for one in failure.problems]  # fmt: skip
        raise InputError(told) from None
    keep_freed_memory()
    question = Question(study.axes, study.search, study.constraints, study.seed, phase=study.phase)
    listed, notes = cases(study)
    outcomes: dict[int, dict[str, Any]] = {}
    for case in listed:
        known = known_case(question, case)
        found, tally = known.search(0, known.space.count)
        outcomes[case.index] = summary(question, case, found, tally)
    whole = add_bands(study, answer(study, listed, outcomes))
    return Answered(study, whole, notes, None if whole.rows else why_nothing(study, whole.failed))
