"""The columns of the data set: name, unit and meaning of each, and how it is read from a step's cost.

One table drives the Parquet schema, the objectives and the constraints of a study, and the printed answer, so
that they cannot disagree. Each phase of a model's life has its set of columns; a name means the same in all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np

from model import units
from model.cost import EnergyParts, MemoryParts, StepCost, TimeParts
from model.layout import (
    CONTEXT_EXCHANGES,
    OFFLOADS,
    OVERLAPS,
    RANK_ORDERS,
    RECOMPUTE_MODULES,
    SCHEDULES,
    SHORT,
    Array,
    Layout,
    mask_text,
    recompute_names,
)
from model.outcome import (
    capital_usd,
    floor_m2,
    goodput,
    mean_time_between_failures,
    over_weeks,
    racks,
    usd_per_chip_hour,
    usd_per_million_tokens,
    useful_tokens_per_second,
)
from model.power import peak_power
from model.serving.memory import ServingMemory
from model.serving.passes import PassTime
from sweep import part_meanings
from sweep.work import TARGETS, Phase


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number of a design that a study may optimise or bound."""

    name: str
    dimension: units.Dimension
    meaning: str
    better: Literal["more", "less"]
    read: Callable[[Any], Any]  # from the cost of a step, or of what is served

    @property
    def sign(self) -> float:
        """Factor that turns "better" into "smaller"."""
        return -1.0 if self.better == "more" else 1.0


_RATE = units.TOKENS_PER_SECOND
QUANTITIES: dict[str, Quantity] = {
    q.name: q
    for q in (
        Quantity("step_time_s", units.SECONDS, "time of one step", "less", lambda c: c.step_time),
        Quantity("tokens_per_s", _RATE, "tokens of the whole cluster", "more", lambda c: c.tokens_per_second),
        Quantity(
            "tokens_per_s_per_chip",
            _RATE,
            "tokens per second and chip package",
            "more",
            lambda c: np.asarray(c.tokens_per_second / c.packages),
        ),
        Quantity(
            "mfu",
            units.NUMBER,
            "model FLOPs over the dense peak of the matmuls' number format, causal attention at half",
            "more",
            lambda c: c.model_flops_utilisation,
        ),
        Quantity("power_w", units.WATTS, "mean power at the building's meter", "less", lambda c: c.power),
        Quantity(
            "power_peak_w",
            units.WATTS,
            "power at the building's meter in the hottest phase of a step",
            "less",
            peak_power,
        ),
        Quantity("energy_per_token_j", units.JOULES, "energy of a token", "less", lambda c: c.energy_per_token),
        Quantity(
            "hbm_used_bytes",
            units.BYTES,
            "memory in use on the fullest rank",
            "less",
            lambda c: c.memory.total,
        ),
        Quantity("tokens_per_s_per_user", _RATE, "output tokens that one request sees", "more", lambda c: c.per_user),
        Quantity(
            "tokens_per_s_per_watt", units.TOKENS_PER_JOULE, "tokens for a joule", "more", lambda c: c.tokens_per_joule
        ),
        Quantity(
            "goodput",
            units.NUMBER,
            "share of the time that does useful work: failures, checkpoints, restarts and stragglers taken off",
            "more",
            goodput,
        ),
        Quantity(
            "useful_tokens_per_s",
            _RATE,
            "tokens of the whole cluster over weeks, failures taken off",
            "more",
            useful_tokens_per_second,
        ),
        Quantity(
            "mtbf_s", units.SECONDS, "mean time between failures that stop the job", "more", mean_time_between_failures
        ),
        Quantity("racks", units.NUMBER, "racks that the machine stands in", "less", racks),
        Quantity("floor_m2", units.AREA, "floor of its racks with their share of the aisles", "less", floor_m2),
        Quantity("capital_usd", units.DOLLARS, "price of the machine", "less", capital_usd),
        Quantity(
            "usd_per_chip_hour",
            units.DOLLARS,
            "cost of a chip package for an hour, power and building included",
            "less",
            usd_per_chip_hour,
        ),
        Quantity(
            "usd_per_million_tokens",
            units.DOLLARS,
            "cost of a million tokens that count",
            "less",
            usd_per_million_tokens,
        ),
        Quantity(
            "requests_per_s",
            units.REQUESTS_PER_SECOND,
            "requests of the whole cluster",
            "more",
            lambda c: c.requests_per_second,
        ),
        Quantity("ttft_s", units.SECONDS, "mean time to the first token", "less", lambda c: c.ttft),
        Quantity(
            "ttft_p99_s", units.SECONDS, "99th percentile of the time to first token", "less", lambda c: c.ttft_p99
        ),
        Quantity("tpot_s", units.SECONDS, "mean time per output token after the first", "less", lambda c: c.tpot),
        Quantity(
            "tpot_p99_s", units.SECONDS, "99th percentile of the time per output token", "less", lambda c: c.tpot_p99
        ),
        Quantity(
            "chips_used",
            units.NUMBER,
            "chip packages of the instances at work: with a load, of as few as carry it",
            "less",
            lambda c: c.chips_used,
        ),
    )
}

# Text is clearer than a code in a table that people query, and a code is smaller: a search counts in codes, the data
# set has the texts.
CODED: dict[str, tuple[str, ...]] = {
    "recompute": tuple(recompute_names(code) for code in range(1 << len(RECOMPUTE_MODULES))),
    "schedule": SCHEDULES,
    "cp_exchange": CONTEXT_EXCHANGES,
    "rank_order": RANK_ORDERS,
    "overlap_off": tuple(mask_text(code, OVERLAPS) for code in range(1 << len(OVERLAPS))),
    "offload": tuple(mask_text(code, OFFLOADS) for code in range(1 << len(OFFLOADS))),
    "bound_by": tuple(
        dict.fromkeys((*(field.name for field in fields(TimeParts)), *(field.name for field in fields(PassTime))))
    ),
    "deployment": ("colocated", "disaggregated"),
}
LAYOUT_MEANINGS = {
    "tp": "tensor-parallel ranks",
    "cp": "context-parallel ranks",
    "pp": "pipeline stages",
    "vp": "model chunks per pipeline stage",
    "dp": "data-parallel replicas",
    "ep": "expert-parallel ranks",
    "etp": "tensor-parallel ranks of an expert",
    "mbs": "sequences of a microbatch",
    "gbs": "sequences of a step",
    "sp": "sequence parallelism, 0 or 1",
    "recompute": "what the backward pass computes again",
    "zero": "ZeRO stage",
    "schedule": "pipeline schedule",
    "cp_exchange": "how context-parallel ranks exchange keys and values",
    "rank_order": "order of the ranks, innermost first",
    "overlap_off": "overlaps of traffic with compute that the software stack offers and the layout does without",
    "offload": "what is kept in the host's memory",
}
INSTANCE_MEANINGS = {
    "deployment": "prompts and decoding in the same instances, or apart",
    "instances": "instances at work; of those that decode where prompts have their own",
    "tp": "tensor-parallel ranks",
    "cp": "context-parallel ranks",
    "pp": "pipeline stages",
    "dp": "attention groups (attention data parallelism)",
    "ep": "expert-parallel ranks",
    "etp": "tensor-parallel ranks of an expert",
    "redundant": "redundant experts of a layer",
    "micro_batches": "micro-batches that a pass is cut into",
    "mtp": "tokens drafted a step",
    "batch": "requests in flight in an instance",
    "chunk": "prompt tokens of one pass of an attention group; 0: as the engine does",
}
# Of the instances that work on prompts alone; 0 where there are none.
PREFILL_MEANINGS = {
    f"prefill_{name}": f"of a prefill instance: {INSTANCE_MEANINGS[name]}"
    for name in ("tp", "cp", "pp", "dp", "ep", "etp", "redundant", "micro_batches", "batch", "chunk")
} | {"prefill_instances": "instances that work on prompts alone"}
IDENTITY_MEANINGS = {
    "case": "number of the design, workload and size within the run",
    "layout_id": "number of the layout within its case",
    "design": "label of the design in the study",
    "system": "machine in the catalogue",
    "chip": "chip in the catalogue",
    "stack": "software stack",
    "changes": "what the study changes about the machine, as path=value in SI units",
    "corner": "nominal, or the low or high end of the ranges of the machine's numbers",
    "scenario": "the machine exists in rumour or on a roadmap only",
    "estimated_share": "share of the numbers behind the machine that are estimated or rumoured",
    "method": "how the layout was found",
    "trial": "trial of the outer search, -1 without one",
    "model": "model in the catalogue",
    "number_format": "number format of the matmuls",
    "prices": "price basis of the catalogue; empty: none, and so are the columns of money",
    "operation": "how the cluster is run: failures, checkpoints, repair; an entry of the catalogue",
    "sequence": "tokens of a sequence",
    "expert_imbalance": "rows of the busiest expert rank over the mean",
    "training_tokens": "tokens of the whole training; 0: not said",
    "chips_asked": "size that the study asks for, before rounding to whole units of the machine",
    "chips": "chip packages",
    "ranks": "ranks: one per chip die that runs a process",
}
SERVING_IDENTITY_MEANINGS = {
    "phase": "prefill, decode, or both: serving",
    "expert_format": "number format of the experts",
    "attention_format": "number format of the projections around attention",
    "kv_format": "number format of the cache of keys and values",
    "input_tokens": "mean tokens of a prompt",
    "output_tokens": "mean tokens of an answer",
    "prefix_hit": "share of the prompt that is found in a cache of earlier requests",
    "acceptance": "probability that a drafted token is accepted, given that those before it were",
    "balance": "how evenly tokens fall on experts",
    "balance_exponent": "popularity of experts falls as their rank to this power",
    "attention_core": "number format of attention itself",
    "variation": "coefficient of variation of the lengths",
    "load_tokens_per_s": "tokens per second that are asked for; 0: as many as the chips can do",
} | {f"target_{name}": f"target of {name}; 0: none" for name in TARGETS}


def plain(name: str, value: Any) -> Any:
    """One value of a column as the data set has it, in Python's own types: the text of a code, or the number."""
    number = value.item() if isinstance(value, np.generic) else value
    if name in CODED:
        return CODED[name][number]
    return None if isinstance(number, float) and not math.isfinite(number) else number  # not known: a price, say


def _part_columns(cost: StepCost) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    for kind, suffix, parts in (
        ("time", "s", cost.time),
        ("memory", "bytes", cost.memory),
        ("energy", "j", cost.energy),
    ):
        columns |= {f"{kind}_{name}_{suffix}": part for name, part in parts.parts().items()}
    return columns


def bound_by(time: Mapping[str, Array]) -> Array:
    """The largest part of the step's time, as a code; of equal ones the first."""
    (first, part), *rest = time.items()
    largest, code = part.copy(), np.full(len(part), CODED["bound_by"].index(first), np.int8)
    for name, part in rest:
        np.copyto(code, CODED["bound_by"].index(name), where=part > largest)
        np.maximum(largest, part, out=largest)
    return code


def rows(cost: StepCost, layout: Layout, extra: dict[str, Any], index: Array | slice = slice(None)) -> dict[str, Array]:
    """Columns of layouts, texts as codes: a flat list or an open mesh, whose last axis is the slowest, its first next.

    Parameters
    ----------
    extra : further arrays of the layouts
    index : which rows
    """
    shape = np.shape(cost.step_time)

    def pick(values: Any) -> Array:
        every = np.broadcast_to(values, shape)
        return np.asarray((np.moveaxis(every, -1, 0).reshape(-1) if every.ndim > 1 else every)[index])

    chosen = {name: pick(codes) for name, codes in layout.columns().items()}
    known = over_weeks(cost)
    chosen |= {
        name: pick(known[name] if name in known else QUANTITIES[name].read(cost)) for name in TRAINING.quantities
    }
    chosen |= {name: pick(values) for name, values in _part_columns(cost).items()}
    chosen["bound_by"] = bound_by({field.name: chosen[f"time_{field.name}_s"] for field in fields(TimeParts)})
    chosen |= {f"violation_{name}": pick(values) for name, values in cost.violations.items()}
    chosen |= {name: pick(values) for name, values in extra.items()}
    return chosen


_WHOLES = {
    "time": ("s", "time of a step on the critical path"),
    "memory": ("byte", "memory of the fullest rank"),
    "energy": ("J", "energy of a step of the whole cluster at the building's meter"),
}


def describe(column: str) -> tuple[str, str]:
    """Unit and meaning of a column."""
    if column in QUANTITIES:
        return QUANTITIES[column].dimension.unit, QUANTITIES[column].meaning
    for meanings in (LAYOUT_MEANINGS, IDENTITY_MEANINGS, INSTANCE_MEANINGS, PREFILL_MEANINGS):
        if column in meanings:
            return "", meanings[column]
    if column in SERVING_IDENTITY_MEANINGS:
        unit = "s" if column.startswith("target_") else "token/s" if column.startswith("load_") else ""
        return unit, SERVING_IDENTITY_MEANINGS[column]
    head, _, rest = column.partition("_")
    if head in part_meanings.OF:
        unit, whole = _WHOLES[head]
        return unit, f"{whole}: {part_meanings.OF[head][rest.rpartition('_')[0]]}"
    if column.startswith("violation_limit_"):
        unit = QUANTITIES[column.removeprefix("violation_limit_")].dimension.unit
        return unit, "excess over the study's limit, positive where broken; empty without a limit"
    if head == "violation":
        return (
            "",
            f"excess over the limit of {rest.replace('_', ' ')}, in its own unit; positive where broken",
        )
    return "", {"feasible": "no violation is positive", "bound_by": "largest part of the step's time"}.get(column, "")


def _parts(*records: tuple[str, str, type]) -> tuple[str, ...]:
    """Columns of the parts of records: what they are of, their unit, and the record."""
    return tuple(f"{kind}_{field.name}_{suffix}" for kind, suffix, record in records for field in fields(record))


@dataclass(frozen=True, slots=True)
class ColumnSet:
    """The columns of a data set, in their order."""

    identity: tuple[str, ...]
    layout: tuple[str, ...]
    quantities: tuple[str, ...]
    parts: tuple[str, ...]

    @property
    def limits(self) -> tuple[str, ...]:
        """Bytes, watts and so on over a limit of the study; null where it sets none."""
        return tuple(f"violation_limit_{name}" for name in self.quantities)

    @property
    def order(self) -> tuple[str, ...]:
        """All columns; limits are there for every quantity, so that one query reads the runs of all studies."""
        return (*self.identity, *self.layout, *self.quantities, "bound_by", *self.parts, "feasible", *self.limits)


_BOUGHT = ("racks", "floor_m2", "capital_usd", "usd_per_chip_hour", "usd_per_million_tokens")
# Empty where a machine has no prices or no racks, or where nothing of it fails.
MAY_LACK = frozenset({*_BOUGHT, "mtbf_s"})
_OF_TRAINING = ("sequence", "expert_imbalance", "training_tokens")
TRAINING = ColumnSet(
    tuple(IDENTITY_MEANINGS),
    tuple(SHORT.values()),
    (
        "step_time_s",
        "tokens_per_s",
        "tokens_per_s_per_chip",
        "tokens_per_s_per_watt",
        "mfu",
        "power_w",
        "power_peak_w",
        "energy_per_token_j",
        "hbm_used_bytes",
        "mtbf_s",
        "goodput",
        "useful_tokens_per_s",
        *_BOUGHT,
    ),
    _parts(("time", "s", TimeParts), ("memory", "bytes", MemoryParts), ("energy", "j", EnergyParts)),
)
_SERVED_IDENTITY = tuple(name for name in IDENTITY_MEANINGS if name not in _OF_TRAINING)
_RATES = (
    "tokens_per_s", "tokens_per_s_per_chip", "tokens_per_s_per_watt", "requests_per_s", "power_w",
    "energy_per_token_j", "hbm_used_bytes", "chips_used", *_BOUGHT,
)  # fmt: skip
_FIRST, _EACH = ("ttft_s", "ttft_p99_s"), ("tpot_s", "tpot_p99_s", "tokens_per_s_per_user")


def _served(quantities: tuple[str, ...], layout: Mapping[str, str]) -> ColumnSet:
    identity = (*_SERVED_IDENTITY, *SERVING_IDENTITY_MEANINGS)
    parts = _parts(("time", "s", PassTime), ("memory", "bytes", ServingMemory))
    return ColumnSet(identity, tuple(layout), (*quantities, *_RATES), parts)


SETS: Mapping[Phase, ColumnSet] = {
    "training": TRAINING,
    "prefill": _served(_FIRST, INSTANCE_MEANINGS),
    "decode": _served(_EACH, INSTANCE_MEANINGS),
    "serving": _served((*_FIRST, *_EACH), INSTANCE_MEANINGS | PREFILL_MEANINGS),
}
EVERY_IDENTITY = frozenset(name for one in SETS.values() for name in one.identity)
