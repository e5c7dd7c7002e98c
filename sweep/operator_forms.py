"""Measured operators as the model knows them: an operation, and the function that predicts its seconds.

Chips are taken at their burst clock: a kernel that is timed alone does not reach the power cap.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from model import collective as library
from model.architecture import LatentAttention, SparseAttention
from model.attention import fused_attention
from model.collective import place, transfer
from model.matmul import matmul
from model.serving import attention, collectives
from model.serving.experts import grouped_matmul
from model.system import System, partly_used
from model.work import Traffic
from sweep import catalogue
from sweep.chip_names import CHIP_SYSTEMS

Form = Callable[..., Any]  # of a machine and arrays: seconds


@dataclass(frozen=True, slots=True)
class Operation:
    """One measured time and how the model predicts it."""

    id: str
    chip: str
    kind: str
    quantity: str
    measured: float  # seconds
    form: Form
    arguments: Mapping[str, float]  # of the form, as arrays of many operations
    fixed: tuple[tuple[str, Any], ...] = ()  # of the form, the same for all that are computed together
    domain: int = 0  # ranks of the innermost tier in use; 0: all
    eager_s: float = 0.0  # that the benchmark's way of calling adds
    assumed: str | None = None
    source: str = ""

    @property
    def group(self) -> str:
        """What errors are summed over."""
        return f"{self.kind}, {self.chip}"


_EXCHANGES: Mapping[str, Callable[..., Traffic]] = {
    "low-latency": collectives.low_latency_exchange,
    "bulk": collectives.bulk_exchange,
    "fastest": collectives.expert_exchange,
}


# ------------------------------------------------------------------------------------------ forms: what is computed
def library_collective(system: System, kind: Any, bytes_: Any, ranks: Any) -> Any:
    """A collective of the vendor's library."""
    group = place(system, ranks, 1)
    if kind == "all_to_all":
        return library.all_to_all(system, bytes_, group).seconds
    return library.collective(system, kind, bytes_, group).seconds


def engine_all_reduce(system: System, bytes_: Any, ranks: Any) -> Any:
    """An all-reduce by an engine's own kernels."""
    return collectives.all_reduce(system, bytes_, ranks).seconds


def sent(system: System, bytes_: Any, stride: Any) -> Any:
    """A message from one rank to another."""
    return transfer(system, bytes_, stride, np.full(np.shape(stride), 2)).seconds


def exchange(
    system: System, kernel: str, tokens: Any, ranks: Any, per_token: Any, row_bytes: Any, **limit: float
) -> Any:
    """One way of dispatch or combine."""
    return _EXCHANGES[kernel](system, tokens, per_token, row_bytes, ranks, **limit).seconds


def plain_matmul(system: System, number_format: str, m: Any, n: Any, k: Any) -> Any:
    """A matmul."""
    return matmul(system.chip, number_format, m, n, k).seconds


def expert_matmul(system: System, number_format: str, rows: Any, active: Any, n: Any, k: Any) -> Any:
    """A grouped matmul."""
    return grouped_matmul(system.chip, number_format, rows, active, n, k).seconds


def decode_attention(
    system: System, head_size: int, kv_bytes: float, sequences: Any, keys: Any, heads: Any, key_heads: Any
) -> Any:
    """Attention of one new token over a cache."""
    return attention.cached_attention(
        system.chip, sequences, 1.0, keys, heads, key_heads, head_size, kv_bytes
    ).seconds  # fmt: skip


def latent_attention(
    system: System, latent: LatentAttention, kv_bytes: float, sequences: Any, queries: Any, keys: Any, heads: Any
) -> Any:
    """Absorbed latent attention over a cache."""
    return attention.latent_cached_attention(
        system.chip, sequences, queries, keys, heads, latent, kv_bytes
    ).seconds  # fmt: skip


def prompt_attention(system: System, head_sizes: tuple[int, int], tokens: Any, heads: Any) -> Any:
    """Causal attention of one prompt."""
    seconds = fused_attention(system.chip, 1.0, tokens, tokens / 2.0, heads, head_sizes).seconds
    return seconds / system.chip.calibration.decode.prompt_attention_speed


def scores(system: System, sparse: SparseAttention, sequences: Any, queries: Any, keys: Any) -> Any:
    """Scores of the indexer of sparse attention."""
    return attention.index_scores(system.chip, sparse, sequences, queries, keys).seconds


# ----------------------------------------------------------------------------------------------------- prediction
@cache
def machine(chip: str) -> System:
    """The machine that a chip is measured in, at the burst clock."""
    name, sold_with = CHIP_SYSTEMS[chip]
    return burst(catalogue.system(name, chip_name=sold_with))


def burst(system: System) -> System:
    """The machine with its chips at the clock of short kernels."""
    calibration = system.chip.calibration
    matmuls = {peak: replace(one, sustained_clock=1.0) for peak, one in calibration.matmul.items()}
    return replace(system, chip=replace(system.chip, calibration=replace(calibration, matmul=matmuls)))


def predicted_seconds(
    found: Sequence[Operation], of_chip: Callable[[str], System] = machine
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Seconds that the model gives for each operation, those of a kind together."""
    together: dict[Any, list[int]] = {}
    for at, one in enumerate(found):
        together.setdefault((one.chip, one.form, one.fixed, one.domain), []).append(at)
    seconds = np.empty(len(found))
    for (chip, form, fixed, domain), places in together.items():
        system = of_chip(chip)
        if domain:
            system = partly_used(system, system.tiers[0].name, domain)
        names = found[places[0]].arguments
        arrays = {name: np.array([found[at].arguments[name] for at in places]) for name in names}
        seconds[places] = form(system, **dict(fixed), **arrays)
    seconds += np.array([one.eager_s for one in found])
    return seconds
