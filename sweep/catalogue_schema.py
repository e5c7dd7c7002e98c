"""What a file of the catalogue may say, and the sentence that each mistake gets.

Keys that feed a record of the cost model are that record's own field names, so a value is traced from file to
formula by its name. A number is a table { value, source, kind } with an optional range, note and placeholder mark;
only the model files may write bare numbers, which then share the file's one source.
"""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Callable, Mapping
from functools import cache, partial
from types import GenericAlias
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    create_model,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from model import units
from model.architecture import Architecture, Experts, LatentAttention, LowRankProjections, SparseAttention
from model.chip import (
    AttentionCalibration,
    Calibration,
    ChipPower,
    DecodeCalibration,
    MatmulCalibration,
    MemoryCalibration,
)
from model.layout import RECOMPUTE_MODULES
from model.power import Boundary
from model.reliability import Operation
from model.serving.stack import ServingStack
from model.stack import Stack
from model.system import Facility, Group, Host, Part, Racks, Tier
from sweep.entries import SOURCE_KINDS, Quantity
from sweep.errors import InputError, Problem, nearest, unique
from sweep.number_ranges import in_range
from sweep.recipes import Recipes
from sweep.written_values import choice, choices, flag, tiles, whole, wholes

PEAKS = ("bf16", "fp8", "fp4", "int8")
COLLECTIVES = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "point_to_point")

# Which way a number has to move to make the machine better; everything else is better when larger.
LOWER_IS_BETTER = frozenset(
    {
        *("overhead_k", "wave_quantisation", "tile_loss", "launch_s", "long_kernel_loss", "overhead_keys"),
        *(
            "attention_launch_s",
            "sequence_head_s",
            "latent_launch_s",
            "indexer_launch_s",
            "grouped_padding_rows",
            "grouped_launch_s",
        ),
        *("small_latency_s", "small_step_s", "exchange_latency_s", "exchange_step_s", "exchange_row_s"),
        *(
            "bulk_latency_s",
            "bulk_congestion",
            "launch_share",
            "exchange_congestion",
            "bulk_congestion",
            "vector_launch_s",
            "communication_slowdown",
            "grouped_overhead_rows",
            "grouped_overhead",
        ),
        *("latency_s", "latency_step_s", "ramp_s", "pair_loss", "oversubscription", "congestion"),
        *("board_w", "idle_w", "joule_per_flop", "joule_per_hbm_byte", "joule_per_link_byte"),
        *("clock_exponent", "watts", "cooling_fraction", "pue"),
        *("chip_failure_rate", "software_failure_rate", "part_failure_factor", "removed_share"),
        *("repair_s", "detection_s", "reschedule_s", "warm_up_s", "jitter", "slow_share", "slow_loss"),
    }
)
NEUTRAL = frozenset({"count", "per_packages", "shape", "interval_s", "spare_share", "reference_ranks"})
CHOICES: Mapping[str, tuple[str, ...]] = {
    "selective_recompute": RECOMPUTE_MODULES,
    "wider_recompute": RECOMPUTE_MODULES,
}


# ------------------------------------------------------------------------------------------------ one value
class Written(BaseModel):
    """A value as a file writes it; the fields of GIVEN_BY_KEY come from the key that it stands under."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reader: Callable[[Any], Any] = Field(exclude=True)
    unit: str
    sense: int
    role: str
    value: Any
    low: Any = None
    high: Any = None
    source: str = Field(min_length=3)
    kind: Literal["datasheet", "measured", "derived", "estimated", "rumour"]
    note: str = ""
    placeholder: bool = False

    @field_validator("value", "low", "high", mode="before")
    @classmethod
    def _read(cls, raw: Any, info: ValidationInfo) -> Any:
        return raw if raw is None else info.data["reader"](raw)

    @model_validator(mode="after")
    def _in_order(self) -> Written:
        ends = [end for end in (self.low, self.value, self.high) if end is not None]
        if len(ends) > 1 and ends != sorted(ends):
            told = ", ".join(map(str, ends))
            raise ValueError(f"low, value and high are out of order: {told}; they must ascend")
        return self

    def quantity(self) -> Quantity:
        """The value with everything known about it."""
        known = {field.name for field in dataclasses.fields(Quantity)}
        return Quantity(**{key: item for key, item in self if key in known})


GIVEN_BY_KEY = ("reader", "unit", "sense", "role")


def _declare(raw: Any, given: Mapping[str, Any]) -> Any:
    if isinstance(raw, Written):
        return raw
    if not isinstance(raw, dict):
        remedy = f"write {{ value = {raw!r}, source = '...', kind = '...' }}"
        raise PydanticCustomError("bare", "{remedy}", {"remedy": remedy})
    # A file's own "unit" or "reader" is moved aside, so that it is refused as any unknown key is.
    return {**{f"{key} " if key in GIVEN_BY_KEY else key: item for key, item in raw.items()}, **given}


def dimension_of(name: str) -> units.Dimension:
    """Dimension of a field, which its name tells."""
    if name.startswith("joule_per_flop"):
        return units.JOULES_PER_FLOP
    if name.startswith("joule_per_"):
        return units.JOULES_PER_BYTE
    prices = {"_usd_per_j": units.DOLLARS_PER_JOULE, "_usd_per_w_s": units.DOLLARS_PER_WATT_SECOND,
              "_usd_per_byte": units.DOLLARS_PER_BYTE, "_usd_per_s": units.DOLLARS_PER_SECOND,
              "_per_m2": units.DENSITY}  # fmt: skip
    for end, dimension in prices.items():
        if name.endswith(end):
            return dimension
    for mark, dimension in (("_usd", units.DOLLARS), ("bandwidth", units.BANDWIDTH), ("bytes", units.BYTES)):
        if mark in name:
            return dimension
    endings = {"_s": units.SECONDS, "_w": units.WATTS, "watts": units.WATTS, "_flops": units.FLOPS,
               "_m2": units.AREA, "failure_rate": units.RATE}  # fmt: skip
    return next((dimension for end, dimension in endings.items() if name.endswith(end)), units.NUMBER)


def under(name: str, reader: Callable[[Any], Any] | None = None, role: str = "data", sense: int | None = None) -> Any:
    """The type of a value that stands under the key `name`."""
    dimension = dimension_of(name)
    if sense is None:
        sense = 0 if name in NEUTRAL else -1 if name in LOWER_IS_BETTER else 1
    read = partial(_in_range, reader=reader, name=name, dimension=dimension)
    given = {"reader": read, "unit": "" if reader else dimension.unit, "sense": sense, "role": role}
    return Annotated[Written, BeforeValidator(partial(_declare, given=given))]


# ----------------------------------------------------------------------------------------------- one table
def _in_range(raw: Any, reader: Callable[[Any], Any] | None, name: str, dimension: units.Dimension) -> Any:
    """A value as its reader has it; of numbers, one that the key may have."""
    value = reader(raw) if reader else units.parse(raw, dimension)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    return in_range(value, raw, name, dimension)


def need(kind: Any) -> tuple[Any, Any]:
    """A key that must be there."""
    return (kind, ...)


def may(kind: Any) -> tuple[Any, Any]:
    """A key that may be left out."""
    return (kind | None, None)


def table(name: str, fields: Mapping[str, tuple[Any, Any]]) -> Any:
    """A table of a file: these keys and no others."""
    return create_model(name, __config__=ConfigDict(extra="forbid", frozen=True), **fields)  # type: ignore[call-overload]


def _reader(name: str, hint: Any) -> Callable[[Any], Any] | None:
    """What reads a value of this type; None: a number of the dimension that the name tells."""
    if hint is bool:
        return flag
    if hint is int:
        return whole
    if hint == tuple[int, ...]:
        return wholes
    if hint == tuple[str, ...]:
        return partial(choices, options=CHOICES[name])
    options = typing.get_args(hint) if typing.get_origin(hint) is Literal else CHOICES.get(name, ())
    return partial(choice, options=options) if options else None


def record(of: type, role: str, without: tuple[str, ...] = (), all_optional: bool = False) -> dict[str, Any]:
    """Keys of a table that feeds a record of the cost model: the record's plain fields, by their names."""
    hints = typing.get_type_hints(of)
    keys: dict[str, Any] = {}
    for field in dataclasses.fields(of):
        if field.name in without:
            continue
        kind = under(field.name, _reader(field.name, hints[field.name]), role)
        optional = all_optional or field.default is not dataclasses.MISSING
        keys[field.name] = may(kind) if optional else need(kind)
    return keys


def each_of(names: tuple[str, ...], key: str, role: str) -> Any:
    """A table with the same quantity under any of `names`."""
    return table(key, {name: may(under(key, role=role)) for name in names})


def each_with(item: Any) -> Any:
    """A list of tables, at least one."""
    return Annotated[GenericAlias(list, (item,)), Field(min_length=1)]


# ------------------------------------------------------------------------------------------- the kinds
TITLE = {"title": need(str)}
STATUS = {"status": may(str), "scenario": may(bool), "note": may(str)}


def _chip() -> Any:
    from sweep.money_schema import silicon

    power = record(ChipPower, "power", without=("joule_per_flop",))
    power["joule_per_flop"] = need(each_of(PEAKS, "joule_per_flop", "power"))
    return table("chip", {
        **TITLE, **STATUS, "vendor": need(str), "process": may(str), "memory_type": may(str),
        "calibration": need(str),
        "year": need(under("year", whole, sense=0)),
        "ranks_per_package": need(under("ranks_per_package", whole, sense=0)),
        "peak_flops": need(each_of(PEAKS, "peak_flops", "performance")),
        "cores": need(under("cores", sense=0)),
        "hbm_bytes": need(under("hbm_bytes", role="performance")),
        "hbm_bandwidth": need(under("hbm_bandwidth", role="performance")),
        "tiles": may(under("tiles", tiles, sense=0)),
        "power": need(table("power", power)),
        "links": may(table("links", {
            "scale_up_bandwidth": may(under("scale_up_bandwidth", sense=0)),
            "scale_out_bandwidth": may(under("scale_out_bandwidth", sense=0)),
        })),
        "cost": may(table("cost", {"price_usd": may(under("price_usd", sense=0)),
                                   "hour_usd": may(under("hour_usd", sense=0))})),
        "silicon": may(silicon()),
    })  # fmt: skip


def _calibration() -> Any:
    matmul = table("matmul", record(MatmulCalibration, "performance"))
    rest = record(Calibration, "performance", without=("matmul", "attention", "memory", "decode"))
    return table("calibration", {
        **TITLE, "fitted_on": need(str), "note": may(str), **rest,
        "matmul": need(table("matmuls", {name: may(matmul) for name in PEAKS})),
        "attention": need(table("attention", record(AttentionCalibration, "performance"))),
        "memory": need(table("memory", record(MemoryCalibration, "performance"))),
        "decode": may(table("decode", record(DecodeCalibration, "performance"))),
    })  # fmt: skip


def _tier(**own: Any) -> Any:
    plain = ("name", "topology", "medium", "efficiency")
    return table("tier", {
        **record(Tier, "performance", without=plain, all_optional=True), **own,
        "topology": may(Literal["switch", "full_mesh", "torus"]), "medium": may(Literal["copper", "optics"]),
        "efficiency": may(each_of(COLLECTIVES, "efficiency", "performance")), "note": may(str),
    })  # fmt: skip


def _fabric() -> Any:
    return _tier(
        **TITLE, port_w=may(under("port_w", sense=0)), port_usd=may(under("port_usd", sense=0)),
        switch_w=may(under("switch_w", sense=0)), switch_usd=may(under("switch_usd", sense=0)),
    )  # fmt: skip


def _system() -> Any:
    part = record(Part, "power", without=("name", "group", "outside", "price_usd", "failure_rate"))
    part.update(
        name=need(str), group=need(Group), outside=may(bool), price_usd=may(under("price_usd", sense=0)),
        failure_rate=may(under("failure_rate", sense=0)),
    )  # fmt: skip
    return table("system", {
        **TITLE, **STATUS, "chip": need(str), "other_chips": may(list[str]), "default_stack": need(str),
        "default_engine": may(str),
        "topology": may(str),
        "year": need(under("year", whole, sense=0)),
        "unit_packages": need(under("unit_packages", whole, sense=0)),
        "fault_domain_packages": may(under("fault_domain_packages", whole, sense=0)),
        "tiers": need(each_with(_tier(name=need(str), fabric=may(str)))),
        "parts": need(each_with(table("part", part))),
        "facility": need(table("facility", record(Facility, "power"))),
        "host": may(table("host", record(Host, "performance"))),
        "racks": may(table("racks", record(Racks, "data"))),
        "cost": may(table("cost", {key: may(under(key, sense=0)) for key in
                                   ("price_usd", "network_usd", "hour_usd")})),
        "published": may(table("published", {"power_w": may(under("power_w", sense=0)), "boundary": may(Boundary)})),
    })  # fmt: skip


def _architecture() -> Any:
    parts = {
        "latent": LatentAttention,
        "experts": Experts,
        "sparse": SparseAttention,
        "low_rank": LowRankProjections,
    }
    own = record(Architecture, "data", without=("name", *parts))
    shape = table("shape", {**own, **{key: may(table(key, record(of, "data"))) for key, of in parts.items()}})
    counts = {
        key: may(under(key, sense=0)) for key in ("parameters", "active_parameters", "tolerance", "active_tolerance")
    }
    return table("model", {
        **TITLE, "alias_of": may(str), "note": may(str), "source": may(str), "kind": may(str),
        "year": may(int),
        "architecture": may(shape), "published": may(table("published", counts)),
    })  # fmt: skip


def _stack() -> Any:
    return table("stack", {
        **TITLE, "why": need(str), "frameworks": need(list[str]), "from_year": need(int), "to_year": may(int),
        "vendors": may(list[str]), "note": may(str), "like": may(str),
        **record(Stack, "data", without=("name", "year"), all_optional=True),
    })  # fmt: skip


def _engine() -> Any:
    vendors = list[Literal["NVIDIA", "AMD", "Huawei", "Google", "AWS"]]
    return table("engine", {
        **TITLE, "why": need(str), "frameworks": need(list[str]), "vendors": need(vendors),
        "variant": may(Literal["eager", "large_ep"]), "from_year": need(int), "to_year": may(int), "note": may(str),
        **record(ServingStack, "data", without=("name", "year"), all_optional=True),
    })  # fmt: skip


def _operation() -> Any:
    return table("operation", {
        **TITLE, "why": need(str), "note": may(str), **record(Operation, "performance", without=("name",)),
    })  # fmt: skip


def _recipes() -> Any:
    return table("recipes", {**TITLE, "why": need(str), **record(Recipes, "data")})


@cache
def schema(kind: str) -> Any:
    """The pydantic model of a file of this kind."""
    from sweep.money_schema import basis, memory, process

    return {"chips": _chip, "calibrations": _calibration, "fabrics": _fabric, "systems": _system,
            "models": _architecture, "stacks": _stack, "engines": _engine, "operations": _operation,
            "prices": basis, "processes": process, "memories": memory, "recipes": _recipes}[kind]()  # fmt: skip


# ------------------------------------------------------------------------------------ reading, and what to say
def _share_source(raw: Any, source: Any, kind: Any) -> Any:
    """Give the bare values of a model file the file's source."""
    if isinstance(raw, dict):
        if "value" in raw:
            return raw
        return {key: _share_source(item, source, kind) for key, item in raw.items()}
    return {"value": raw, "source": source, "kind": kind}


def inner_table(kind: Any) -> Any:
    """The table inside an optional, annotated or repeated type; None where there is none."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return kind
    return next((found for part in typing.get_args(kind) if (found := inner_table(part)) is not None), None)


def _keys_at(kind: str, where: tuple[int | str, ...]) -> list[str]:
    at = schema(kind)
    for step in where:
        if isinstance(step, str) and at is not None:
            field = at.model_fields.get(step)
            at = None if field is None else inner_table(field.annotation)
    return [] if at is None else [key for key in at.model_fields if key not in GIVEN_BY_KEY]


# What a model file may say once for all of its shapes, and how to say it.
_SHARED = {"kind": f"one of {', '.join(SOURCE_KINDS)}", "source": "say where the number comes from"}


def _problem(kind: str, error: ErrorDetails, raw: Any, file: str) -> Problem:
    where, key = error["loc"], _path(error["loc"], raw)
    if where[0] == "architecture" and where[-1] in _SHARED and error["input"] is None:  # of the whole file
        return Problem(file, str(where[-1]), "missing", None, _SHARED[str(where[-1])])
    if error["type"] == "extra_forbidden":
        return Problem(file, key, "unknown key", None, nearest(str(where[-1]), _keys_at(kind, where[:-1])))
    if error["type"] == "missing":
        remedies = _SHARED | {"value": "give the number, with its unit as a text"}
        return Problem(file, key, "missing", None, remedies.get(str(where[-1]), _see(kind)))
    if error["type"] == "literal_error":
        return Problem(file, key, f"must be {error['ctx']['expected']}", error["input"])
    if error["type"] == "bare":
        return Problem(file, key, "has no source", error["input"], error["msg"])
    if error["type"] == "value_error":
        return Problem(file, key, error["msg"].removeprefix("Value error, "))
    rule = re.sub(r"^(Input|String|List|Value) should (be|have)", r"must \2", error["msg"])
    rule = re.sub(r"a valid dictionary.*", "a table", rule)
    return Problem(file, key, rule, error["input"], _see(kind))


def _see(kind: str) -> str:
    """Where the keys of a kind stand."""
    return f"see {kind} in docs/reference.md"


def _path(where: tuple[int | str, ...], raw: Any) -> str:
    """Dotted path of a value; an item of a list goes by its name."""
    steps = []
    for step in where:
        item: Any = None
        if isinstance(raw, dict):
            item = raw.get(str(step))
        elif isinstance(raw, list) and isinstance(step, int):
            item = raw[step]
        name = item.get("name", step) if isinstance(step, int) and isinstance(item, dict) else step
        steps.append(str(name) or '""')
        raw = item
    return ".".join(steps)


def _flatten(table: BaseModel, path: str, facts: dict[str, Any], quantities: dict[str, Quantity]) -> None:
    for key in type(table).model_fields:
        item = getattr(table, key)
        at = f"{path}{key}"
        if isinstance(item, Written):
            quantities[at] = item.quantity()
        elif isinstance(item, BaseModel):
            _flatten(item, f"{at}.", facts, quantities)
        elif isinstance(item, list) and item and isinstance(item[0], BaseModel):
            facts[at] = [part.name for part in item]
            for part in item:
                _flatten(part, f"{at}.{part.name}.", facts, quantities)
        elif item is not None:
            facts[at] = item


def read(kind: str, raw: dict[str, Any], file: str) -> tuple[dict[str, Any], dict[str, Quantity]]:
    """Check a file: its plain facts and its quantities, by path. Raises InputError with every problem."""
    if kind == "models" and "architecture" in raw:
        shared = _share_source(raw["architecture"], raw.get("source"), raw.get("kind"))
        raw = {**raw, "architecture": shared}
    facts: dict[str, Any] = {}
    quantities: dict[str, Quantity] = {}
    try:
        checked = schema(kind).model_validate(raw)
    except ValidationError as failure:
        problems = [_problem(kind, error, raw, file) for error in failure.errors(include_url=False)]
        raise InputError(unique(problems)) from None
    _flatten(checked, "", facts, quantities)
    return facts, quantities
