"""What a study of serving may say beside what every study says: requests, targets, formats, and axes of instances."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from model import units
from model.chip import FORMATS
from model.serving.instance import SHORT
from model.serving.workload import Balance, BalanceKind
from sweep.axes import InstanceAxes
from sweep.columns import CODED, SETS
from sweep.study_schema import (
    MOST,
    DesignTable,
    OuterTable,
    SearchTable,
    Sizes,
    StudyTable,
    Table,
    UncertaintyTable,
    Values,
    bound,
    choices_of,
    positive,
    words_of,
)
from sweep.work import KV_BYTES

_AXES = InstanceAxes()
_MANY = 1 << 20


def _counts(low: int) -> Callable[[Any], tuple[int, ...]]:
    """Whole numbers from `low` on: one, or a list."""

    def read(value: Any) -> tuple[int, ...]:
        values = value if isinstance(value, list) else [value]
        if not values or any(isinstance(v, bool) or not isinstance(v, int) or not low <= v <= _MANY for v in values):
            raise ValueError(f"{value!r} is not a whole number from {low} on, or a list of them, as in [1, 8]")
        return tuple(sorted(set(values)))

    return read


def _tokens(text: Any) -> float:
    value = positive(units.parse(text, units.TOKENS), text)
    if value > MOST:
        raise ValueError(f"{text!r} is over {MOST:,} tokens: give less")
    return value


def _chunks(value: Any) -> tuple[int, ...]:
    """Tokens with a unit, one or several; "engine" for what the engine does."""
    values = value if isinstance(value, list) else [value]
    if not values:
        raise ValueError(f"{value!r} is not a list of tokens, as in ['4096 token', 'engine']")
    return tuple(sorted({0 if one == "engine" else round(_tokens(one)) for one in values}))


def _batches(value: Any) -> tuple[int, ...]:
    """ "best", or sequences of an attention group."""
    return () if value == "best" else _counts(1)(value)


def _formats(value: Any) -> tuple[str, ...]:
    return words_of(value, tuple(FORMATS), "number format")


def _format(known: tuple[str, ...]) -> BeforeValidator:
    def read(value: Any) -> str:
        if not isinstance(value, str):
            raise ValueError(f"{value!r} is not a number format, as in '{known[0]}'")
        return words_of(value, known, "number format")[0]

    return BeforeValidator(read)


def _targets(name: str) -> BeforeValidator:
    """Bounds from above: one, or several that are answered apart."""

    def read(value: Any) -> tuple[float, ...]:
        limits = []
        for text in value if isinstance(value, list) else [value]:
            _, sense, limit = bound(name, text)
            if sense != "<=" or limit <= 0:
                raise ValueError(f"{text!r} is not a bound from above, as in '<= 50 ms'")
            limits.append(limit)
        if not limits:
            raise ValueError("needs at least one bound, as in '<= 50 ms'")
        return tuple(dict.fromkeys(limits))

    return BeforeValidator(read)


def _rate(dimension: units.Dimension) -> BeforeValidator:
    return BeforeValidator(lambda text: positive(units.parse(text, dimension), text))


def _quantities(value: Any) -> tuple[str, ...]:
    known = dict.fromkeys(name for phase, one in SETS.items() if phase != "training" for name in one.quantities)
    return words_of(value, tuple(known), "quantity of serving")


def _quantity(value: Any) -> str:
    return _quantities(value)[0]


Formats = Annotated[tuple[str, ...], BeforeValidator(_formats)]
Format = Annotated[str | None, _format(tuple(FORMATS))]
Limits = tuple[float, ...]
Share = Annotated[float, Field(ge=0.0, lt=1.0)]


class ServedTable(Table):
    """What is served: a model."""

    model: str


class TrafficTable(Table):
    """The requests: mean lengths, and how much of them is asked for."""

    input_tokens: Annotated[float, BeforeValidator(_tokens)]
    output_tokens: Annotated[float, BeforeValidator(_tokens)]
    prefix_hit: Share = 0.0
    variation: Annotated[float, Field(ge=0.0, le=100.0)] = 0.5
    rate: Annotated[float | None, _rate(units.REQUESTS_PER_SECOND)] = None
    load: Annotated[float | None, _rate(units.TOKENS_PER_SECOND)] = None


class TargetsTable(Table):
    """Bounds of latencies; a list is answered one by one."""

    ttft: Annotated[Limits, _targets("ttft_s")] = ()
    ttft_p99: Annotated[Limits, _targets("ttft_p99_s")] = ()
    tpot: Annotated[Limits, _targets("tpot_s")] = ()
    tpot_p99: Annotated[Limits, _targets("tpot_p99_s")] = ()


class ServingTable(Table):
    """How the model is served: number formats, drafts, balance of experts."""

    weight_format: Formats = ("bf16",)
    expert_format: Format = None
    attention_format: Format = None
    attention_core: Annotated[str, _format(("bf16", "fp8", "int8"))] = "bf16"
    kv_format: Annotated[str, _format(tuple(KV_BYTES))] = "bf16"
    draft_tokens: Annotated[int, Field(ge=0, le=64)] = 0
    acceptance: Annotated[float, Field(ge=0.0, le=1.0)] = 0.7
    balance: BalanceKind = Balance().kind
    balance_exponent: Annotated[float, Field(ge=0.0, le=10.0)] = Balance().exponent
    redundant_experts: Annotated[tuple[int, ...], BeforeValidator(_counts(0))] = (0,)


class InstanceTable(Table):
    """Narrowing of the axes of instances."""

    tensor_parallel: Values = _AXES.tensor_parallel
    pipeline_parallel: Values = _AXES.pipeline_parallel
    context_parallel: Values = _AXES.context_parallel
    data_parallel: Values = _AXES.data_parallel
    expert_parallel: Values = _AXES.expert_parallel
    expert_tensor_parallel: Values = _AXES.expert_tensor_parallel
    micro_batches: Annotated[tuple[int, ...], BeforeValidator(_counts(1))] = _AXES.micro_batches
    draft_tokens: Annotated[tuple[int, ...], BeforeValidator(_counts(0))] = _AXES.draft_tokens
    chunk: Annotated[tuple[int, ...], BeforeValidator(_chunks)] = _AXES.chunk
    batch: Annotated[tuple[int, ...], BeforeValidator(_batches)] = _AXES.batch
    deployment: Annotated[tuple[int, ...], BeforeValidator(choices_of(CODED["deployment"], "deployment"))] = (
        _AXES.deployment
    )


class ServingDesignTable(DesignTable):
    """A machine to compare, its serving engine, and the formats that it serves in."""

    engine: str | None = None
    number_format: Formats | None = None
    expert_format: Format = None
    attention_format: Format = None
    kv_format: Annotated[str | None, _format(tuple(KV_BYTES))] = None
    redundant_experts: Annotated[tuple[int, ...] | None, BeforeValidator(_counts(0))] = None
    layout: InstanceTable | None = None


class ServingSearchTable(SearchTable):
    """What to look for, and which rows to keep."""

    objective: Annotated[str, BeforeValidator(_quantity)] = "tokens_per_s_per_chip"
    pareto: Annotated[tuple[str, ...], BeforeValidator(_quantities)] = ()
    method: Literal["exact"] = "exact"


class ServingOuterTable(OuterTable):
    """Variables outside the instances, which Optuna proposes."""

    objectives: Annotated[tuple[str, ...], BeforeValidator(_quantities)] = ("tokens_per_s_per_chip",)


class ServingUncertaintyTable(UncertaintyTable):
    """How sure the answer is."""

    quantities: Annotated[tuple[str, ...], BeforeValidator(_quantities)] = ()


class ServingStudyTable(StudyTable):
    """A study of serving."""

    tables: ClassVar[dict[str, type[Table]]] = {
        "workloads": ServedTable,
        "designs": ServingDesignTable,
        "layout": InstanceTable,
        "search": ServingSearchTable,
        "outer": ServingOuterTable,
        "traffic": TrafficTable,
        "targets": TargetsTable,
        "serving": ServingTable,
        "uncertainty": ServingUncertaintyTable,
    }
    shorts: ClassVar[dict[str, str]] = {short: name for name, short in SHORT.items()}

    phase: Literal["prefill", "decode", "serving"]  # type: ignore[assignment]
    chips: Sizes | None = None
    workloads: Annotated[list[ServedTable], Field(min_length=1)]  # type: ignore[assignment]
    designs: Annotated[list[ServingDesignTable], Field(min_length=1)]  # type: ignore[assignment]
    layout: InstanceTable = InstanceTable()  # type: ignore[assignment]
    search: ServingSearchTable = ServingSearchTable()
    outer: ServingOuterTable | None = None
    uncertainty: ServingUncertaintyTable | None = None
    traffic: TrafficTable
    targets: TargetsTable = TargetsTable()
    serving: ServingTable = ServingTable()
