"""Operators of serving on the catalogue's machines: more work never takes less time, more machine never more."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.architecture import LatentAttention, SparseAttention
from model.chip import FORMATS, Chip, launching
from model.serving.attention import cached_attention, indexer, latent_cached_attention
from model.serving.collectives import (
    all_gather,
    all_reduce,
    bulk_exchange,
    expert_exchange,
    low_latency_exchange,
    reduce_scatter,
)
from model.serving.experts import grouped_matmul
from model.system import System
from model.work import Traffic, Work
from sweep import catalogue
from tests.laws.strategies import SYSTEMS

systems = st.sampled_from(SYSTEMS).map(catalogue.system)
BYTES = np.logspace(2, 9, 29)
GROUPS = np.array([1, 2, 4, 8, 16, 32, 64, 128])
TOKENS = np.array([0.0, 1, 2, 4, 8, 16, 64, 128, 512, 4096, 32768])
LATENT = LatentAttention(1536, 512, 128, 64, 128)
SPARSE = SparseAttention(2048, 64, 128)
COLLECTIVES: tuple[Callable[..., Traffic], ...] = (all_reduce, all_gather, reduce_scatter)
EXCHANGES: tuple[Callable[..., Traffic], ...] = (low_latency_exchange, bulk_exchange, expert_exchange)


def grows(values: Any, axis: int = -1) -> bool:
    """Whether values never fall along an axis, but for rounding."""
    return bool(np.all(np.diff(values, axis=axis) >= -1e-12 * np.abs(np.take(values, range(1), axis=axis))))


def faster_memory(chip: Chip) -> Chip:
    """The chip with twice the HBM bandwidth."""
    return replace(chip, hbm_bandwidth=2.0 * chip.hbm_bandwidth)


def faster_matrix(chip: Chip) -> Chip:
    """The chip with twice the peak in every format."""
    return replace(chip, peak_flops={name: 2.0 * peak for name, peak in chip.peak_flops.items()})


def faster_links(system: System) -> System:
    """The machine with twice the bandwidth on every tier."""
    return replace(system, tiers=tuple(replace(tier, bandwidth=2.0 * tier.bandwidth) for tier in system.tiers))


def kernels(chip: Chip) -> dict[str, Work]:
    """Every kernel of a rank over a grid of how much it has to do, the last axis."""
    much = np.array([1.0, 2, 8, 32, 128, 512])
    each = (1.0, 2.0, 4.0)
    return {
        "sequences": cached_attention(chip, much, 1, 4096, 32, 8, 128),
        "keys": cached_attention(chip, 16, 1, 512 * much, 32, 8, 128),
        "queries": cached_attention(chip, 16, np.array(each), 4096, 32, 8, 128),
        "latent": latent_cached_attention(chip, much, 2, 4096, 128, LATENT),
        "latent keys": latent_cached_attention(chip, 16, 2, 512 * much, 128, LATENT, 1.0),
        "indexer": indexer(chip, SPARSE, 8, 1, 512 * much),
        "rows": grouped_matmul(chip, "bf16", 64 * much, 8, 4096, 7168),
        "experts": grouped_matmul(chip, "bf16", 512.0, much, 4096, 7168),
    }


@given(system=systems)
def test_more_work_takes_more_time(system: System) -> None:
    """Sequences, keys, drafted tokens, rows and active experts: more of them never make a kernel shorter."""
    for name, work in kernels(system.chip).items():
        assert grows(work.seconds), name
        assert grows(np.broadcast_to(work.hbm_bytes, work.seconds.shape)), name


@pytest.mark.parametrize("faster", [faster_memory, faster_matrix])
@given(system=systems)
def test_a_faster_chip_is_never_slower(faster: Callable[[Chip], Chip], system: System) -> None:
    """More bandwidth or more peak shortens kernels, or leaves them as they are."""
    quick = kernels(faster(system.chip))
    for name, work in kernels(system.chip).items():
        assert np.all(quick[name].seconds <= work.seconds), name


@given(system=systems)
def test_nothing_beats_the_machine(system: System) -> None:
    """No kernel reads faster than the memory, multiplies faster than the peak, or is over before it starts."""
    chip = system.chip
    for name, work in kernels(chip).items():
        assert np.all(work.seconds >= work.hbm_bytes / chip.hbm_bandwidth), name
    for number_format in ("bf16", "fp8", "int8"):
        if not chip.supports(number_format):
            continue
        rows = np.array([1.0, 64, 4096, 65536])
        seconds = grouped_matmul(chip, number_format, rows, 8, 4096, 7168).seconds
        assert np.all(seconds >= 2.0 * rows * 4096 * 7168 / chip.peak_flops[FORMATS[number_format].peak])


@given(system=systems)
def test_chained_kernels_only_lose_launches(system: System) -> None:
    """Captured graphs take a share off every launch: each kernel gets shorter, and moves the same bytes."""
    shorter = kernels(launching(system.chip, 0.5))
    for name, work in kernels(system.chip).items():
        assert np.all(shorter[name].seconds < work.seconds), name
        np.testing.assert_array_equal(shorter[name].hbm_bytes, work.hbm_bytes)


@given(system=systems)
def test_a_narrower_cache_moves_less(system: System) -> None:
    """A cache of half the width holds half the bytes."""
    wide = cached_attention(system.chip, 16, 1, 4096, 32, 8, 128, 2.0)
    narrow = cached_attention(system.chip, 16, 1, 4096, 32, 8, 128, 1.0)
    assert narrow.hbm_bytes == wide.hbm_bytes / 2.0


@given(system=systems)
def test_experts_without_rows_are_not_read(system: System) -> None:
    """No more experts are read than there are rows, and without rows nothing runs."""
    few = grouped_matmul(system.chip, "bf16", 4.0, 64.0, 4096, 7168)
    assert few == grouped_matmul(system.chip, "bf16", 4.0, 4.0, 4096, 7168)
    none = grouped_matmul(system.chip, "bf16", np.zeros(3), 64.0, 4096, 7168)
    assert not np.any(none.seconds)
    assert not np.any(none.hbm_bytes)


@pytest.mark.parametrize("run", COLLECTIVES)
@given(system=systems)
def test_collectives_of_engines_grow_with_their_bytes(run: Callable[..., Traffic], system: System) -> None:
    """More bytes never take less time; a rank alone is silent; engines never lose to the library that they may call."""
    traffic = run(system, BYTES, GROUPS[:, None])
    assert grows(traffic.seconds)
    assert not np.any(traffic.seconds[0])
    assert np.all(traffic.seconds[1:] > 0.0)
    assert np.all(run(faster_links(system), BYTES, GROUPS[:, None]).seconds <= traffic.seconds)


@settings(max_examples=30)
@given(system=systems)
def test_a_reduction_costs_more_than_half_of_it(system: System) -> None:
    """Summing for everyone takes no less time than summing for one, and leaves all with the whole."""
    everyone = all_reduce(system, BYTES, GROUPS[:, None]).seconds
    assert np.all(everyone >= reduce_scatter(system, BYTES, GROUPS[:, None]).seconds * (1.0 - 1e-12))


@pytest.mark.parametrize("run", EXCHANGES)
@given(system=systems)
def test_exchanges_grow_with_their_tokens(run: Callable[..., Traffic], system: System) -> None:
    """More tokens, wider rows and slower links never make a dispatch faster; no tokens or no partners cost nothing."""
    traffic = run(system, TOKENS, 8, 7168.0, GROUPS[:, None])
    assert grows(traffic.seconds)
    assert not np.any(traffic.seconds[:, 0])
    assert not np.any(traffic.seconds[0])
    assert np.all(run(system, TOKENS, 8, 14336.0, GROUPS[:, None]).seconds >= traffic.seconds)
    assert np.all(run(faster_links(system), TOKENS, 8, 7168.0, GROUPS[:, None]).seconds <= traffic.seconds)


@given(system=systems)
def test_the_faster_kernel_runs(system: System) -> None:
    """Dispatch takes the low-latency kernel or the bulk one, whichever is faster, with the bytes that it sends."""
    arguments = (system, TOKENS[1:], 8, 7168.0, GROUPS[1:, None])
    each = [run(*arguments) for run in (low_latency_exchange, bulk_exchange)]
    both = expert_exchange(*arguments)
    np.testing.assert_array_equal(both.seconds, np.minimum(each[0].seconds, each[1].seconds))
    first = each[0].seconds <= each[1].seconds
    np.testing.assert_array_equal(both.link_bytes, np.where(first, each[0].link_bytes, each[1].link_bytes))


@given(system=systems)
def test_bulk_copies_are_shared(system: System) -> None:
    """One copy to a rank serves all of its experts: bulk kernels send less the fewer ranks there are."""
    sent = bulk_exchange(system, 1024.0, 8, 7168.0, np.array([2, 4, 8])).link_bytes
    low_latency = low_latency_exchange(system, 1024.0, 8, 7168.0, np.array([2, 4, 8])).link_bytes
    assert np.all(sent < low_latency)
