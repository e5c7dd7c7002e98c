"""What a case does with a machine: train a model, or serve it. One value of a study, whatever the phase."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal, Protocol

from model import units
from model.architecture import Architecture
from model.serving.workload import Balance, Requests, Serving
from sweep.designs import Design

Phase = Literal["training", "prefill", "decode", "serving"]
Cell = str | int | float | bool
_BALANCE = Balance()


class Work(Protocol):
    """What the cases of a study have in common, whatever they do."""

    @property
    def phase(self) -> Phase:
        """Which part of a model's life."""

    @property
    def model(self) -> str:
        """Name in the catalogue."""

    @property
    def number_format(self) -> str:
        """Of the layers' matmuls; a case of its own for each."""

    @property
    def name(self) -> str:
        """The model and what sets this piece of work apart from the study's others, in a few words."""

    @property
    def formats(self) -> tuple[str, ...]:
        """Every number format that the chip must run."""

    def columns(self) -> dict[str, Cell]:
        """Columns that all rows of a case share."""


class Workload(Protocol):
    """What a study asks of its designs: to train a model, or to serve it."""

    @property
    def model(self) -> str:
        """Name in the catalogue."""

    def works(self, design: Design) -> Iterator[Work]:
        """The work of each case of a design and size, in the workload's number formats or the design's."""


@dataclass(frozen=True, slots=True)
class TrainingWork:
    """Steps of training. The batch is in sequences."""

    model: str
    sequence: int
    batch: int
    number_format: str = "bf16"
    expert_imbalance: float = 1.0
    tokens: float = 0.0  # of the whole training; 0: not said

    @property
    def phase(self) -> Phase:
        """Training."""
        return "training"

    @property
    def name(self) -> str:
        """Model and number format."""
        return f"{self.model} {self.number_format}"

    @property
    def formats(self) -> tuple[str, ...]:
        """The one number format."""
        return (self.number_format,)

    def columns(self) -> dict[str, Cell]:
        """Columns that all rows of a case share."""
        return {
            "model": self.model,
            "number_format": self.number_format,
            "sequence": self.sequence,
            "expert_imbalance": self.expert_imbalance,
            "training_tokens": self.tokens,
        }


@dataclass(frozen=True, slots=True)
class TrainingWorkload:
    """What is trained. The batch is in sequences."""

    model: str
    sequence: int
    batch: int
    number_formats: tuple[str, ...] = ("bf16",)
    expert_imbalance: float = 1.0
    tokens: float = 0.0  # of the whole training; 0: not said

    def works(self, design: Design) -> Iterator[Work]:
        """The workload in each number format: its own, or those of a design."""
        for name in design.number_formats or self.number_formats:
            yield TrainingWork(self.model, self.sequence, self.batch, name, self.expert_imbalance, self.tokens)


# Bytes of an element of the cache by its format; 8-bit caches hold a scale for 128 elements.
KV_BYTES = {"bf16": 2.0, "fp16": 2.0, "fp8": 1.0 + 4 / 128, "int8": 1.0 + 4 / 128, "fp4": 0.5 + 1 / 16}


@dataclass(frozen=True, slots=True)
class ServingWork:
    """Requests to a served model. Targets are constraints on quantities, in SI units."""

    model: str
    phase: Phase
    requests: Requests
    number_format: str = "bf16"  # of the weights, where nothing else is said
    expert_format: str | None = None
    attention_format: str | None = None
    attention_core: str = "bf16"
    kv_format: str = "bf16"
    acceptance: float = 0.7
    balance: Balance = _BALANCE
    redundant: tuple[int, ...] = (0,)  # numbers of redundant experts on offer
    drafts: int = 0  # tokens that may be drafted without modules of the model's own
    load: float | None = None  # output tokens a second that are asked for (prompt tokens in phase "prefill")
    targets: tuple[tuple[str, float], ...] = ()  # quantity -> most that it may be

    @property
    def name(self) -> str:
        """Model, number format and targets."""
        targets = [f"{name.removesuffix('_s')} {units.show(limit, 's')}" for name, limit in self.targets]
        return " ".join([self.model, self.number_format, *targets])

    @property
    def formats(self) -> tuple[str, ...]:
        """Formats of weights and experts, and of attention's own arithmetic."""
        own = (self.number_format, self.expert_format, self.attention_format, self.attention_core)
        return tuple(dict.fromkeys(one for one in own if one is not None))

    @property
    def requests_per_second(self) -> float | None:
        """Requests a second that are asked for."""
        if self.load is None:
            return None
        tokens = self.requests.input_tokens if self.phase == "prefill" else self.requests.output_tokens
        return self.load / tokens

    def serving(self, architecture: Architecture, redundant: int = 0) -> Serving:
        """The record of the cost model, with so many redundant experts."""
        return Serving(
            architecture,
            self.requests,
            weight_format=self.number_format,
            expert_format=self.expert_format,
            attention_format=self.attention_format,
            attention_core=self.attention_core,
            kv_bytes=KV_BYTES[self.kv_format],
            acceptance=self.acceptance,
            balance=replace(self.balance, redundant=redundant),
        )

    def columns(self) -> dict[str, Cell]:
        """Columns that all rows of a case share. A target or a load that is not set is 0."""
        targets = dict(self.targets)
        return {
            "phase": self.phase,
            "model": self.model,
            "number_format": self.number_format,
            "expert_format": self.expert_format or self.number_format,
            "attention_format": self.attention_format or self.number_format,
            "kv_format": self.kv_format,
            "input_tokens": float(self.requests.input_tokens),
            "output_tokens": float(self.requests.output_tokens),
            "prefix_hit": self.requests.prefix_hit,
            "acceptance": self.acceptance,
            "balance": self.balance.kind,
            "balance_exponent": self.balance.exponent,
            "attention_core": self.attention_core,
            "variation": self.requests.variation,
            "load_tokens_per_s": self.load or 0.0,
            **{f"target_{name}": targets.get(name, 0.0) for name in TARGETS},
        }


TARGETS = ("ttft_s", "ttft_p99_s", "tpot_s", "tpot_p99_s")


@dataclass(frozen=True, slots=True)
class ServingWorkload:
    """What is served: work in the first of its number formats, at the first of its targets, and what else there is."""

    first: ServingWork
    number_formats: tuple[str, ...]
    targets: tuple[tuple[str, tuple[float, ...]], ...] = ()  # quantity -> bounds, each answered apart

    @property
    def model(self) -> str:
        """Name in the catalogue."""
        return self.first.model

    def works(self, design: Design) -> Iterator[Work]:
        """The work in each number format and at each target."""
        first, own = self.first, design.served
        names = [name for name, _ in self.targets]
        for number_format, limits in product(
            design.number_formats or self.number_formats, product(*(limits for _, limits in self.targets))
        ):
            yield replace(
                first,
                number_format=number_format,
                expert_format=own.expert or first.expert_format,
                attention_format=own.attention or first.attention_format,
                kv_format=own.cache or first.kv_format,
                redundant=first.redundant if own.redundant is None else own.redundant,
                targets=tuple(zip(names, limits, strict=True)),
            )
