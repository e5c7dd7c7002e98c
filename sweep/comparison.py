"""Designs side by side: what differs between them, by how much, and what does not.

A design is a row of a run (RUN#ROW), the best row of a run (RUN), or words: names of a system, a model, a stack, a
number of chips and a layout in any order, as in "gb200-nvl72 1152 tp=8,pp=8". What words leave out is taken from the
options; without a layout the best one is searched.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from model import units
from sweep import catalogue
from sweep.chosen import Chosen, chosen_answer, chosen_layout, chosen_row
from sweep.columns import QUANTITIES
from sweep.errors import InputError, Problem, nearest
from sweep.questions import OPTIONS, Phase, how_fast

if TYPE_CHECKING:
    from sweep.explanation import Explanation
    from sweep.serving_explanation import ServedExplanation

Value = str | float | int | bool | None
_COMMAND = "sweep compare"
# What a comparison opens with, the most asked for first; parts of the time and the memory follow.
_FIRST = ("tokens_per_s", "tokens_per_s_per_chip", "step_time_s", "ttft_s", "tpot_s", "mfu", "power_w",
          "energy_per_token_j", "usd_per_million_tokens", "goodput")  # fmt: skip
_INPUTS = ("system", "model", "stack", "engine", "phase", "chips", "number_format", "sequence")
_PARTS = {"time_s": "s", "memory_bytes": "byte"}
_SAME = 1e-9  # relative


@dataclass(frozen=True, slots=True)
class Asked:
    """What the words for a design leave out."""

    model: str | None = None
    system: str | None = None
    chips: int | None = None
    layout: str | None = None
    stack: str | None = None
    phase: Phase = "training"
    batch: int = 1024
    sequence: int = 4096
    number_format: str | None = None
    input: str = "4096"
    output: str = "1024"
    ttft: str | None = None
    tpot: str | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """One thing about the designs.

    Attributes
    ----------
    name
        As in "tokens_per_s", "layout.tp" or "time_s.compute".
    values
        One a design.
    ratios
        Each over the first; None where there is no ratio.
    """

    name: str
    unit: str
    values: tuple[Value, ...]
    ratios: tuple[float | None, ...]

    @property
    def differs(self) -> bool:
        """Whether the designs are not all alike in it."""
        first = self.values[0]
        return any(not _alike(first, other) for other in self.values[1:])

    def shown(self, place: int) -> str:
        """A value for people."""
        value = self.values[place]
        if value is None:
            return ""
        if isinstance(value, float) and not isinstance(value, bool):
            return f"{value:.1%}" if self.name in ("mfu", "goodput") else units.show(value, self.unit)
        return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Designs side by side."""

    names: tuple[str, ...]
    origins: tuple[str, ...]
    lines: tuple[Line, ...]

    @property
    def different(self) -> list[Line]:
        """What differs."""
        return [line for line in self.lines if line.differs]

    @property
    def same(self) -> list[Line]:
        """What does not, and is more than nothing."""
        return [line for line in self.lines if not line.differs and line.values[0] not in (None, "", 0, 0.0)]

    def as_json(self) -> dict[str, Any]:
        """The object that `sweep compare --json` prints."""
        return {
            "designs": [
                {"name": name, "from": origin, "values": {line.name: line.values[i] for line in self.lines}}
                for i, (name, origin) in enumerate(zip(self.names, self.origins, strict=True))
            ],
            "differs": [
                {"name": one.name, "unit": one.unit, "values": list(one.values), "ratios": list(one.ratios)}
                for one in self.different
            ],
            "same": {one.name: one.values[0] for one in self.same},
        }

    def headline(self) -> list[str]:
        """Each design against the first in what people ask for."""
        by_name = {line.name: line for line in self.lines}
        feasible = by_name["feasible"].values
        told = [f"{letter(place)} does NOT run, or meet its limits: sweep explain says what it breaks"
                for place, runs in enumerate(feasible) if not runs]  # fmt: skip
        for place in range(1, len(self.names)):
            said = []
            for name in _FIRST:
                ratio = by_name[name].ratios[place] if name in by_name else None
                if ratio is not None and name in _HEAD:
                    said.append(f"{ratio:.2f} x the {_HEAD[name]}")
            told.append(f"{letter(place)} has {', '.join(said[:4])} of {letter(0)}" if said else
                        f"{letter(place)} and {letter(0)} have no quantity in common")  # fmt: skip
        return told


_HEAD = {"tokens_per_s": "tokens/s", "tokens_per_s_per_chip": "tokens/s per chip", "tpot_s": "time per token",
         "power_w": "power", "energy_per_token_j": "energy per token",
         "usd_per_million_tokens": "cost per token"}  # fmt: skip


def letter(place: int) -> str:
    """What a design is called beside others: A, B, ... and numbers behind Z."""
    return chr(ord("A") + place) if place < 26 else str(place + 1)


def _alike(first: Value, other: Value) -> bool:
    if isinstance(first, float | int) and isinstance(other, float | int):
        return abs(first - other) <= _SAME * max(abs(first), abs(other))
    return first == other


def compared(references: Sequence[str], asked: Asked) -> Comparison:
    """Put designs side by side.

    Parameters
    ----------
    references
        Two or more: RUN#ROW, RUN, or words.
    asked
        What words leave out.

    Raises
    ------
    InputError
        Where a reference names nothing.
    NothingFeasible
        Where a run or a question has no feasible layout.
    """
    if len(references) < 2:
        given = references[0] if references else None
        raise InputError([Problem(_COMMAND, "A B", "needs two designs or more", given, "as in RUN#3 RUN#7")])
    found = [_design(one, asked) for one in references]
    flat = [_values(one.found) for one in found]
    return Comparison(
        tuple(_name(reference, one) for reference, one in zip(references, found, strict=True)),
        tuple(one.origin for one in found),
        tuple(_lines(flat)),
    )


def _name(reference: str, one: Chosen) -> str:
    """What stands for a design above its column."""
    row = reference.rpartition("/")[2] if "/" in reference else reference
    return row if len(row) <= 24 else row[:21] + "..."


# ------------------------------------------------------------------------------------------------ which design
def _design(reference: str, asked: Asked) -> Chosen:
    from sweep.store import place

    if "#" in reference or "://" in reference or (place(reference) / "run.json").exists():
        return chosen_row(reference)
    return _in_words(reference, _read_words(reference, asked), asked)


def _read_words(text: str, asked: Asked) -> dict[str, Any]:
    """The names, chips and layout of a text. Raises InputError with every word that is none of them."""
    known = {"system": catalogue.names("systems"), "model": catalogue.names("models"),
             "stack": [*catalogue.names("stacks"), *catalogue.names("engines")]}  # fmt: skip
    found: dict[str, Any] = {}
    problems = []
    for word in text.split():
        kind = next((kind for kind, names in known.items() if word in names), None)
        if kind is not None:
            found[kind] = word
        elif word.replace(",", "").isdigit():
            found["chips"] = int(word.replace(",", ""))
        elif "=" in word:
            found["layout"] = ",".join(filter(None, (found.get("layout", ""), word)))
        elif word not in ("chips", "on", "of", "x"):
            every = [name for names in known.values() for name in names]
            rule = "neither a run nor a name in the catalogue, a number of chips or a layout"
            problems.append(Problem(_COMMAND, text, rule, word, nearest(word, every)))
    if problems:
        raise InputError(problems)
    options = {name: getattr(asked, name) for name in ("system", "model", "stack", "chips", "layout")}
    return {name: found.get(name, value) for name, value in options.items()}


def _in_words(reference: str, words: Mapping[str, Any], asked: Asked) -> Chosen:
    """The layout that words give, or the best layout of what they name."""
    if words["layout"] and asked.phase == "training":
        return chosen_layout(
            **words, batch=asked.batch, sequence=asked.sequence, number_format=asked.number_format or "bf16",
            command=f"{_COMMAND} {reference!r}",
        )  # fmt: skip
    missing = [Problem(f"{_COMMAND} {reference!r}", f"--{name}", "is needed without a RUN", None, "give it")
               for name in ("model", "system", "chips") if words[name] is None]  # fmt: skip
    if missing:
        raise InputError(missing)
    trains = asked.phase == "training"
    text = how_fast(
        model=words["model"], system=words["system"], chips=words["chips"], layout=words["layout"],
        phase=asked.phase, batch=asked.batch, sequence=str(asked.sequence), number_format=asked.number_format,
        input=asked.input, output=asked.output, stack=words["stack"] if trains else None,
        engine=None if trains else words["stack"], ttft=asked.ttft, tpot=asked.tpot,
    )  # fmt: skip
    return chosen_answer(text, f"{_COMMAND} {reference!r}", OPTIONS)


# ------------------------------------------------------------------------------------------------ what is compared
def _values(found: Explanation | ServedExplanation) -> dict[str, Value]:
    """All that is said of a design, by name: inputs, quantities, layout, parts of time and memory."""
    said = found.as_json()
    flat: dict[str, Value] = {name: said[name] for name in _INPUTS if name in said}
    flat |= {"number_format": _format_of(found)}
    if "tokens_per_s_per_chip" not in said:
        said["tokens_per_s_per_chip"] = said["tokens_per_s"] / said["chips"]
    flat |= {name: said[name] for name in _FIRST if name in said}
    layout = said["layout"]
    flat |= (
        {f"layout.{name}": value for name, value in layout.items()} if isinstance(layout, dict) else {"layout": layout}
    )
    for table in _PARTS:
        for name, value in said[table].items():
            inner = {f"{name}.{part}": one for part, one in value.items()} if isinstance(value, dict) else {name: value}
            flat |= {f"{table}.{part}": one for part, one in inner.items()}
    flat["bound_by"] = _bound_text(said["bound_by"])
    flat["feasible"] = said["feasible"]
    return flat


def _format_of(found: Any) -> str:
    training = getattr(found, "training", None)
    return str(found.row["number_format"] if training is None else training.number_format)


def _bound_text(bound: Any) -> str:
    return ", ".join(f"{name} by {part}" for name, part in bound.items()) if isinstance(bound, dict) else str(bound)


def _lines(flat: Sequence[Mapping[str, Value]]) -> Iterable[Line]:
    names = list(dict.fromkeys(name for one in flat for name in one))
    for name in sorted(names, key=_rank):
        values = tuple(one.get(name) for one in flat)
        if name.startswith(tuple(_PARTS)):
            values = tuple(0.0 if value is None else value for value in values)
            if not any(values):
                continue
        compared_by = name in _FIRST or name == "chips" or name.startswith(tuple(_PARTS))
        ratios = tuple(_ratio(value, values[0]) if compared_by else None for value in values)
        yield Line(name, _unit(name), values, ratios)


def _rank(name: str) -> tuple[int, int]:
    """Quantities first, then inputs, layout, time, memory; within these as they come."""
    if name in _FIRST:
        return 0, _FIRST.index(name)
    heads = ("bound_by", "feasible", *_INPUTS, "layout", "time_s", "memory_bytes")
    return 1, heads.index(name.partition(".")[0])


def _unit(name: str) -> str:
    head = name.partition(".")[0]
    if head in _PARTS:
        return _PARTS[head]
    return QUANTITIES[name].dimension.unit if name in QUANTITIES else ""


def _ratio(value: Value, first: Value) -> float | None:
    if isinstance(value, bool) or isinstance(first, bool):
        return None
    if not isinstance(value, float | int) or not isinstance(first, float | int) or not first:
        return None
    return value / first
