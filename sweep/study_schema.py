"""What a study file may say: its tables, their types, units and ranges.

This is the border: text with units becomes SI floats here. What the names mean (systems, models, stacks) is checked
afterwards, in sweep/study.py, so that both kinds of problem are reported together.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PositiveInt, ValidationError
from pydantic_core import ErrorDetails

from model import units
from model.chip import TRAINING_FORMATS
from model.layout import (
    CONTEXT_EXCHANGES,
    OFFLOADS,
    OVERLAPS,
    RANK_ORDERS,
    RECOMPUTE_MODULES,
    SCHEDULES,
    SHORT,
    mask_of,
)
from sweep.axes import Axes, Degrees
from sweep.columns import QUANTITIES, TRAINING
from sweep.errors import Problem, nearest, unique

ROWS = re.compile(r"^(best|pareto|feasible|all|top:([1-9]\d*))$")
_BOUND = re.compile(r"^\s*(<=|>=)\s*(.+)$")


# of keys that a study cannot do without
_EXAMPLES = {
    "question": 'question = "Which machine trains it fastest?"',
    "workloads": "[[workloads]] with a model",
    "model": 'model = "llama-3.1-70b"; sweep list models names them',
    "sequence": 'sequence = "8192 token"',
    "batch": "batch = 1024",
    "designs": "[[designs]] with a system",
    "system": 'system = "dgx-h100"; sweep list systems names them',
    "traffic": "[traffic] with input_tokens and output_tokens",
    "input_tokens": 'input_tokens = "2048 token"',
    "output_tokens": 'output_tokens = "512 token"',
    "variables": "variables = { chips = [64, 128] }",
    "low": "{ low = 64, high = 1024 }",
    "high": "{ low = 64, high = 1024 }",
}
MOST = 10**12  # of sequences or tokens of a step
MOST_CHIPS = 10**8


def _positive(dimension: units.Dimension) -> BeforeValidator:
    return BeforeValidator(lambda text: positive(units.parse(text, dimension), text))


def positive(value: float, text: Any) -> float:
    """The value, if it is finite and over 0. Raises ValueError."""
    if not 0.0 < value < math.inf:
        raise ValueError(f"{text!r} is not over 0 and finite, as it must be")
    return value


def _tokens(text: Any) -> int:
    """Tokens, a whole number, from a text with a unit."""
    value = positive(units.parse(text, units.TOKENS), text)
    if value > MOST or abs(value - round(value)) > 1e-6 * value:
        raise ValueError(f"{text!r} is not a whole number of tokens up to {MOST:,}, as in '4096 token'")
    return round(value)


def _batch(value: Any) -> int | float:
    """Sequences where an integer is given, tokens (as a float) where a text with a unit is."""
    if isinstance(value, int) and not isinstance(value, bool):
        if not 1 <= value <= MOST:
            raise ValueError(f"a batch holds at least one sequence, at most {MOST:,}, as in 1024, but got {value}")
        return value
    if isinstance(value, str):
        return float(_tokens(value))
    raise ValueError(f"{value!r} is neither a number of sequences nor tokens, as in 2048 or '16 Mtoken'")


def words_of(value: Any, known: tuple[str, ...], what: str) -> tuple[str, ...]:
    """A known word or several, each once. Raises ValueError with the nearest known ones."""
    words = [value] if isinstance(value, str) else value
    if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
        raise ValueError(f"{value!r} is not a {what} or a list of them, as in '{known[0]}'")
    for word in words:
        if word not in known:
            raise ValueError(f"{word!r} is not a {what}; {nearest(word, known)}")
    return tuple(dict.fromkeys(words))


def choices_of(known: tuple[str, ...], what: str) -> Callable[[Any], tuple[int, ...]]:
    """A reader of known words as their places."""
    return lambda value: tuple(known.index(word) for word in words_of(value, known, what))


def _formats(value: Any) -> tuple[str, ...]:
    return words_of(value, tuple(TRAINING_FORMATS), "number format")


def _quantities(value: Any) -> tuple[str, ...]:
    return words_of(value, TRAINING.quantities, "quantity")


def _degrees(value: Any) -> Degrees:
    """A degree's values: a number, a list, or bounds as in { max = 16 }."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = [value]
    if isinstance(value, list):
        if not value or not all(isinstance(v, int) and not isinstance(v, bool) and 0 < v <= MOST_CHIPS for v in value):
            raise ValueError(f"{value!r} is not a list of positive whole numbers, as in [1, 2, 4]")
        return Degrees(values=tuple(sorted(set(value))))
    if isinstance(value, dict) and value and set(value) <= {"min", "max"}:
        low, high = value.get("min", 1), value.get("max", 1 << 30)
        if isinstance(low, int) and isinstance(high, int) and 1 <= low <= high:
            return Degrees(low=low, high=high)
    raise ValueError(f"{value!r} is none of: a number, a list [1, 2, 4], bounds {{ min = 1, max = 16 }}")


def _switch(value: Any) -> tuple[int, ...]:
    """Sequence parallelism: true, false, or both in a list."""
    values = value if isinstance(value, list) else [value]
    if not values or not all(isinstance(v, bool) for v in values):
        raise ValueError(f"{value!r} is none of: true, false, [false, true]")
    return tuple(sorted({int(v) for v in values}))


def _stages(value: Any) -> tuple[int, ...]:
    values = value if isinstance(value, list) else [value]
    if not values or any(isinstance(v, bool) or v not in (0, 1, 2, 3) for v in values):
        raise ValueError(f"{value!r} is not a list of ZeRO stages 0 to 3, as in [0, 1]")
    return tuple(sorted(set(values)))


def _recompute(value: Any) -> tuple[tuple[str, ...], ...]:
    """Choices of recomputation: "none", "selective", "full", or modules joined by "+"."""
    choices = [value] if isinstance(value, str) else value
    if not isinstance(choices, list) or not choices:
        raise ValueError(f"{value!r} is not a list of choices, as in ['none', 'full']")
    known = ("none", "selective", *RECOMPUTE_MODULES)
    return tuple(dict.fromkeys(words_of(str(c).split("+"), known, "recompute module") for c in choices))


def _masks(known: tuple[str, ...], what: str) -> Callable[[Any], tuple[int, ...]]:
    """Choices of what to combine: "none" or names joined by "+"."""

    def read(value: Any) -> tuple[int, ...]:
        choices = [value] if isinstance(value, str) else value
        if not isinstance(choices, list) or not choices:
            raise ValueError(f"{value!r} is not a list of choices, as in ['none', {known[0]!r}]")
        words = [words_of(str(choice).split("+"), ("none", *known), what) for choice in choices]
        return tuple(dict.fromkeys(mask_of(word, known, what) for word in words))

    return read


def _power_of_two(value: Any) -> int:
    """A number of Sobol points, which are balanced in powers of two."""
    if isinstance(value, bool) or not isinstance(value, int) or not 16 <= value <= 1 << 20 or value & (value - 1):
        raise ValueError(f"{value!r} is not a power of two from 16 to 1048576")
    return value


def _rows(value: Any) -> str:
    if not isinstance(value, str) or not ROWS.match(value):
        raise ValueError(f"{value!r} is none of: 'best', 'top:20', 'pareto', 'feasible', 'all'")
    return value


class Table(BaseModel):
    """A table of a study file: every key is known, and no value is converted in silence."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, arbitrary_types_allowed=True)


SamplerName = Literal["tpe", "cma_es", "gp", "nsga2", "nsga3", "qmc", "random", "brute_force"]
Formats = Annotated[tuple[str, ...], BeforeValidator(_formats)]
_Watts = Annotated[float, _positive(units.WATTS)]
_Dollars = Annotated[float, _positive(units.DOLLARS)]
Sizes = Annotated[list[Annotated[int, Field(gt=0, le=MOST_CHIPS)]], Field(min_length=1)]
Values = Annotated[Degrees, BeforeValidator(_degrees)]
_AXES = Axes()


class WorkloadTable(Table):
    """What is trained: a model, its sequence and its batch."""

    model: str
    sequence: Annotated[PositiveInt, BeforeValidator(_tokens)]
    batch: Annotated[int | float, BeforeValidator(_batch)]
    number_format: Formats = ("bf16",)
    expert_imbalance: Annotated[float, Field(ge=1.0, allow_inf_nan=False)] = 1.0
    tokens: Annotated[float | None, _positive(units.TOKENS)] = None


class DesignTable(Table):
    """A machine to compare, and what the study changes about it."""

    system: str
    label: str | None = None
    stack: str | None = None
    chips: Sizes | None = None
    number_format: Formats | None = None
    power_cap: Annotated[float | None, _positive(units.WATTS)] = None
    prices: str | None = None
    operation: str | None = None
    change: dict[str, Any] = {}


class LayoutTable(Table):
    """Narrowing of the axes of layouts."""

    tensor_parallel: Values = _AXES.tensor_parallel
    context_parallel: Values = _AXES.context_parallel
    pipeline_parallel: Values = _AXES.pipeline_parallel
    virtual_stages: Values = _AXES.virtual_stages
    data_parallel: Values = _AXES.data_parallel
    expert_parallel: Values = _AXES.expert_parallel
    expert_tensor_parallel: Values = _AXES.expert_tensor_parallel
    micro_batch: Values = _AXES.micro_batch
    sequence_parallel: Annotated[tuple[int, ...], BeforeValidator(_switch)] = _AXES.sequence_parallel
    recompute: Annotated[tuple[tuple[str, ...], ...], BeforeValidator(_recompute)] = _AXES.recompute
    zero_stage: Annotated[tuple[int, ...], BeforeValidator(_stages)] = _AXES.zero_stage
    schedule: Annotated[tuple[int, ...], BeforeValidator(choices_of(SCHEDULES, "schedule"))] = _AXES.schedule
    context_exchange: Annotated[tuple[int, ...], BeforeValidator(choices_of(CONTEXT_EXCHANGES, "context exchange"))] = (
        _AXES.context_exchange
    )
    rank_order: Annotated[tuple[int, ...], BeforeValidator(choices_of(RANK_ORDERS, "rank order"))] = _AXES.rank_order
    overlap_off: Annotated[tuple[int, ...], BeforeValidator(_masks(OVERLAPS, "overlap"))] = _AXES.overlap_off
    offload: Annotated[tuple[int, ...], BeforeValidator(_masks(OFFLOADS, "offload"))] = _AXES.offload


class SearchTable(Table):
    """What to look for, how, and which rows to keep."""

    objective: Annotated[str, BeforeValidator(lambda value: _quantities(value)[0])] = "tokens_per_s"
    pareto: Annotated[tuple[str, ...], BeforeValidator(_quantities)] = ()
    rows: Annotated[str, BeforeValidator(_rows)] = "best"
    method: Literal["exact", "optuna", "both"] = "exact"
    prune: bool = True
    trials: PositiveInt = 256
    generation: PositiveInt = 16
    sampler: SamplerName = "nsga2"  # as measured by benchmarks/optuna_search.py
    neighbours: Annotated[float | None, Field(ge=0.0, le=1.0)] = None
    baselines: list[str] = []


class RangeTable(Table):
    """An outer variable between two ends."""

    low: Any
    high: Any
    log: bool = False


class OuterTable(Table):
    """Variables outside the layout, which Optuna proposes."""

    trials: PositiveInt
    generation: PositiveInt = 8
    sampler: SamplerName = "tpe"
    objectives: Annotated[tuple[str, ...], BeforeValidator(_quantities)] = ("tokens_per_s",)
    variables: Annotated[dict[str, list[Any] | RangeTable], Field(min_length=1)]
    designs: list[str] = []
    baselines: list[dict[str, Any]] = []


class UncertaintyTable(Table):
    """How sure the answer is: the machines' numbers drawn from their ranges, the best layouts evaluated at each."""

    points: Annotated[int, BeforeValidator(_power_of_two)] = 1024
    layouts: Annotated[int, Field(ge=1, le=10_000)] = 20
    quantities: Annotated[tuple[str, ...], BeforeValidator(_quantities)] = ()
    sensitivities: Annotated[int, Field(ge=0, le=1000)] = 8


class StudyTable(Table):
    """A study file; one of training, unless its phase says otherwise."""

    tables: ClassVar[dict[str, type[Table]]] = {
        "workloads": WorkloadTable,
        "designs": DesignTable,
        "layout": LayoutTable,
        "search": SearchTable,
        "outer": OuterTable,
        "uncertainty": UncertaintyTable,
    }
    shorts: ClassVar[dict[str, str]] = {short: name for name, short in SHORT.items()}

    name: Annotated[str | None, Field(max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] = None
    question: Annotated[str, Field(min_length=1)]
    phase: Literal["training"] = "training"
    seed: Annotated[int, Field(ge=0)] = 0
    chips: Sizes | None = None
    power: Annotated[list[_Watts], Field(min_length=1)] | None = None
    budget: Annotated[list[_Dollars], Field(min_length=1)] | None = None
    prices: str | None = None
    operation: str | None = None
    reference: str | None = None
    corners: bool = False
    catalogue: str | None = None
    workloads: Annotated[list[WorkloadTable], Field(min_length=1)]
    designs: Annotated[list[DesignTable], Field(min_length=1)]
    layout: LayoutTable = LayoutTable()
    search: SearchTable = SearchTable()
    constraints: dict[str, Any] = {}
    outer: OuterTable | None = None
    uncertainty: UncertaintyTable | None = None


def bound(name: str, text: Any, known: Collection[str] = tuple(QUANTITIES)) -> tuple[str, str, float]:
    """Read a constraint such as power_w = "<= 20 MW": quantity, sense and limit in SI. Raises ValueError."""
    if name not in known:
        raise ValueError(f"not a quantity of a design; {nearest(name, known)}")
    dimension = QUANTITIES[name].dimension
    match = _BOUND.match(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"{text!r} is not a bound, as in '<= {dimension.example}'")
    limit = match.group(2)
    try:
        value = float(limit) if dimension is units.NUMBER else units.parse(limit, dimension)
    except ValueError as failure:
        raise ValueError(f"{failure}, after '<=' or '>='") from None
    if not math.isfinite(value):
        raise ValueError(f"{limit!r} is not a finite limit, as in '<= {dimension.example}'")
    return name, match.group(1), value


# ----------------------------------------------------------------------------------------- what to say
def _key(location: tuple[int | str, ...]) -> str:
    key = ""
    for part in location:
        name = part or '""'
        key += f"[{part}]" if isinstance(part, int) else f".{name}" if key else str(name)
    return key


def _table_at(form: type[StudyTable], location: tuple[int | str, ...]) -> type[Table] | None:
    """The table that a key of the file belongs to."""
    names = [part for part in location[:-1] if isinstance(part, str)]
    if not names:
        return form
    return form.tables.get(names[0]) if len(names) == 1 else RangeTable


def _unknown(form: type[StudyTable], location: tuple[int | str, ...]) -> str:
    word, table = str(location[-1]), _table_at(form, location)
    long = form.shorts.get(word)
    known = set(table.model_fields) if table else set()
    return f"write {long!r}" if long in known else nearest(word, known)


def problem_of(file: str, form: type[StudyTable], error: ErrorDetails) -> Problem:
    """A pydantic error as a problem with a remedy."""
    location = tuple(part for part in error["loc"] if part not in ("list[any]", "RangeTable"))
    key, kind, message = _key(location), error["type"], error["msg"]
    if kind == "extra_forbidden":
        return Problem(file, key, "unknown key", None, _unknown(form, location))
    if kind == "missing":
        needed = "missing; every study needs it" if len(location) == 1 else "missing"
        return Problem(file, key, needed, None, _see(form, location))
    if kind == "value_error":
        return Problem(file, key, message.removeprefix("Value error, "))
    rule = message.replace("Input should be", "must be").replace("String should", "must").replace("List should", "must")
    rule = rule.partition(" after validation")[0]
    return Problem(file, key, rule, error["input"], _see(form, location))


def _see(form: type[StudyTable], location: tuple[int | str, ...]) -> str:
    """Where a key is described, with an example where there is one that fits all."""
    names = [part for part in location if isinstance(part, str)]
    if names[-1] in _EXAMPLES:
        return f"as in {_EXAMPLES[names[-1]]}"
    page = (
        "serving.md"
        if names[0] in form.tables and form.tables[names[0]] is not StudyTable.tables.get(names[0])
        else "studies.md"
    )
    return f"see [{names[0]}] in docs/{page}" if len(names) > 1 else f"see docs/{page}"


def read(
    file: str, raw: dict[str, Any], form: type[StudyTable] = StudyTable
) -> tuple[StudyTable | None, list[Problem]]:
    """Check a study file against its form: the study, or every problem."""
    try:
        return form.model_validate(raw), []
    except ValidationError as failure:
        problems = [problem_of(file, form, error) for error in failure.errors(include_url=False)]
        return None, unique(problems)
