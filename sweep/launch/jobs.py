"""What is launched: one layout of a training step, or the instances of a row of serving. Whole numbers, no arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from model.architecture import Architecture
from model.layout import (
    CONTEXT_EXCHANGES,
    OFFLOADS,
    OVERLAPS,
    RANK_ORDERS,
    RECOMPUTE_MODULES,
    SCHEDULES,
    Layout,
    mask_text,
)
from model.stack import Stack
from model.system import System

if TYPE_CHECKING:
    from sweep.explanation import Explanation
    from sweep.serving_explanation import ServedExplanation

_NODE_PACKAGES = 8  # of a host where neither the machine nor a tray of it says another


def ranks_per_node(system: System) -> int:
    """Ranks that one host starts: of the part that is pulled to mend one chip, of a server, or 8 packages."""
    packages = system.fault_domain_packages or system.unit_packages
    if packages > 2 * _NODE_PACKAGES:
        packages = _NODE_PACKAGES
    return int(packages * system.chip.ranks_per_package)


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """One layout of a training step."""

    system: System
    stack: Stack
    model: Architecture
    sequence: int
    number_format: str
    layout: Layout  # of whole numbers
    origin: str  # where it comes from, in words
    chips: int
    step_s: float

    @property
    def ranks(self) -> int:
        """Processes."""
        return int(self.layout.ranks)

    @property
    def nodes(self) -> int:
        """Hosts."""
        return -(-self.ranks // ranks_per_node(self.system))

    @property
    def per_node(self) -> int:
        """Processes of a host."""
        return min(self.ranks, ranks_per_node(self.system))

    @property
    def schedule(self) -> str:
        """Name of the pipeline schedule."""
        return SCHEDULES[int(self.layout.schedule)]

    @property
    def context_exchange(self) -> str:
        """How context parallelism exchanges keys and values."""
        return CONTEXT_EXCHANGES[int(self.layout.context_exchange)]

    @property
    def rank_order(self) -> str:
        """Order of ranks, innermost first."""
        return RANK_ORDERS[int(self.layout.rank_order)]

    @property
    def recompute(self) -> tuple[str, ...]:
        """Modules that are computed anew in the backward pass."""
        return _names(self.layout.recompute, RECOMPUTE_MODULES)

    @property
    def offload(self) -> tuple[str, ...]:
        """What is kept in the host's memory."""
        return _names(self.layout.offload, OFFLOADS)

    def overlaps(self, what: str) -> bool:
        """Whether the layout keeps an overlap: "tensor", "expert" or "data"."""
        return what not in _names(self.layout.overlap_off, OVERLAPS)

    @property
    def chunk_layers(self) -> list[int]:
        """Layers of every model chunk in the order of the model, as model/stages.py splits them."""
        chunks = int(self.layout.pipeline_parallel) * int(self.layout.virtual_stages)
        base, longer = divmod(self.model.layers, chunks)
        return [base + (number < longer) for number in range(chunks)]

    def described(self) -> tuple[str, ...]:
        """The job in two lines."""
        return (
            f"{self.model.name} on {self.chips} chips of {self.system.name} ({self.ranks} ranks), "
            f"{self.number_format}, sequences of {self.sequence}, "
            f"global batch {int(self.layout.global_batch)}; from {self.origin}.",
            f"Predicted with stack {self.stack.name}: {self.step_s:.4g} s a step.",
        )


def _names(mask: Any, known: tuple[str, ...]) -> tuple[str, ...]:
    text = mask_text(int(mask), known)
    return () if text == "none" else tuple(text.split("+"))


@dataclass(frozen=True, slots=True)
class InstanceJob:
    """Instances of one kind: how they are laid out and what they have in flight."""

    kind: str  # "serving", "prefill", "decode"
    count: int
    tensor_parallel: int
    pipeline_parallel: int
    context_parallel: int
    data_parallel: int
    expert_parallel: int
    expert_tensor_parallel: int
    micro_batches: int
    draft_tokens: int
    redundant: int
    batch: int  # sequences in flight in the instance
    chunk: int  # prompt tokens of a pass of an attention group; 0: not said

    @property
    def stage_ranks(self) -> int:
        """Ranks of a pipeline stage."""
        return self.tensor_parallel * self.context_parallel * self.data_parallel

    @property
    def ranks(self) -> int:
        """Ranks of one instance."""
        return self.stage_ranks * self.pipeline_parallel

    @property
    def group_batch(self) -> int:
        """Sequences in flight of an attention group, over all its stages."""
        return -(-self.batch // self.data_parallel)


@dataclass(frozen=True, slots=True)
class ServingJob:
    """The instances of a row of serving."""

    system: System
    engine: str
    model: Architecture
    weight_format: str
    kv_format: str
    longest: int  # tokens of a prompt and its answer, the longest usual ones
    usable_memory: float
    block: int  # tokens of a page of the cache
    instances: tuple[InstanceJob, ...]
    chips: int
    origin: str
    headline: str

    @property
    def disaggregated(self) -> bool:
        """Whether prompts are computed in instances of their own."""
        return len(self.instances) > 1

    @property
    def mixture(self) -> bool:
        """Whether the model has routed experts."""
        return self.model.experts is not None

    def described(self) -> tuple[str, ...]:
        """The job in two lines."""
        return (
            f"{self.model.name} on {self.chips} chips of {self.system.name}, weights {self.weight_format}, "
            f"cache {self.kv_format}; from {self.origin}.",
            f"Predicted with engine {self.engine}: {self.headline}.",
        )


def training_job(found: Explanation, origin: str) -> TrainingJob:
    """The job of an explained layout."""
    return TrainingJob(
        found.system, found.stack, found.training.architecture, found.training.sequence, found.training.number_format,
        found.layout, origin, found.chips, float(found.cost.step_time),
    )  # fmt: skip


def serving_job(found: ServedExplanation, origin: str) -> ServingJob:
    """The job of an explained row of serving."""
    row = found.row
    heads = {"prefill": "prefill_", "decode": ""} if len(found.costs) > 1 else {next(iter(found.costs)): ""}
    instances = tuple(_instance(row, kind, head) for kind, head in heads.items())
    deviation = 1.0 + 3.0 * row["variation"]
    return ServingJob(
        found.system, found.engine.name, found.architecture, row["number_format"], row["kv_format"],
        int(-(-(row["input_tokens"] + row["output_tokens"]) * deviation // 1)),
        found.engine.usable_memory, int(found.engine.kv_block), instances, int(row["chips"]), origin,
        f"{row['tokens_per_s']:,.0f} tokens/s",
    )  # fmt: skip


def _instance(row: dict[str, Any], kind: str, head: str) -> InstanceJob:
    def whole(name: str, otherwise: int = 0) -> int:
        value = row.get(head + name, otherwise)
        return otherwise if value is None else int(value)

    return InstanceJob(
        kind, max(1, whole("instances", 1)), whole("tp", 1), whole("pp", 1), whole("cp", 1), whole("dp", 1),
        whole("ep", 1), whole("etp", 1), whole("micro_batches", 1), whole("mtp"), whole("redundant"),
        whole("batch", 1), whole("chunk"),
    )  # fmt: skip
