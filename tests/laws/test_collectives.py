"""Collectives on the catalogue's fabrics: bytes are conserved, more of them take longer, and a rank alone is silent."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.collective import Group, all_to_all, collective, place, transfer
from model.system import Collective, System
from sweep import catalogue
from tests.laws.strategies import SYSTEMS

KINDS: tuple[Collective, ...] = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all")
SIZES = np.array([1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 72, 128, 256, 384, 768, 1024, 4096])
STRIDES = np.array([1, 2, 4, 8, 16, 32, 64, 128, 512])
PAYLOADS = np.logspace(0, 11, 45)
systems = st.sampled_from(SYSTEMS).map(catalogue.system)


def traffic(system: System, kind: Collective, payload: np.ndarray, group: Group):
    """One collective of the kind: for all-to-all the payload is what a rank sends."""
    return all_to_all(system, payload, group) if kind == "all_to_all" else collective(system, kind, payload, group)


@pytest.mark.parametrize("kind", KINDS)
@given(system=systems)
def test_more_bytes_never_take_less_time(kind: Collective, system: System) -> None:
    """A collective's time grows with its payload, for every group size and stride."""
    group = place(system, SIZES[:, None, None], STRIDES[None, :, None])
    seconds = traffic(system, kind, PAYLOADS, group).seconds
    assert np.all(np.diff(seconds, axis=-1) >= 0)


@pytest.mark.parametrize("kind", KINDS)
@given(system=systems)
def test_a_group_of_one_is_silent(kind: Collective, system: System) -> None:
    """A rank alone in its group spends no time and sends no byte."""
    alone = traffic(system, kind, PAYLOADS[:, None], place(system, 1, STRIDES))
    assert not np.any(alone.seconds)
    assert not np.any(alone.link_bytes)


@settings(max_examples=30)
@given(system=systems)
def test_a_ring_moves_what_it_must(system: System) -> None:
    """Inside one tier a rank sends Y (g-1)/g to gather or to scatter, twice that to reduce, its share to exchange."""
    inside = SIZES[system.tiers[0].ranks >= SIZES][:, None]
    group = place(system, inside, 1)
    share = PAYLOADS * (inside - 1) / inside
    for kind, volume in (("all_gather", 1), ("reduce_scatter", 1), ("all_reduce", 2), ("all_to_all", 1)):
        np.testing.assert_allclose(traffic(system, kind, PAYLOADS, group).link_bytes, volume * share, rtol=1e-12)


@settings(max_examples=30)
@given(system=systems)
def test_tiers_share_the_bytes_of_a_ring(system: System) -> None:
    """Over several tiers a rank still sends Y (g-1)/g in all: what it sends inside it need not send outside."""
    group = place(system, SIZES[:, None, None], STRIDES[None, :, None])
    even = np.ones(np.broadcast_shapes(SIZES[:, None, None].shape, STRIDES[None, :, None].shape), bool)
    for inner, outer in zip(group.inside, group.inside[1:], strict=False):
        even = even & (np.mod(outer, inner) == 0)
    expected = PAYLOADS * (SIZES[:, None, None] - 1) / SIZES[:, None, None]
    sent = collective(system, "all_gather", PAYLOADS, group).link_bytes
    rows = np.broadcast_to(even, sent.shape)
    np.testing.assert_allclose(sent[rows], np.broadcast_to(expected, sent.shape)[rows], rtol=1e-9)


@settings(max_examples=30)
@given(system=systems)
def test_no_collective_beats_the_innermost_link(system: System) -> None:
    """Bytes sent over the time taken never exceed the fastest tier's peak bandwidth, all tiers working at once."""
    group = place(system, SIZES[1:, None, None], STRIDES[None, :, None])
    most = sum(tier.bandwidth for tier in system.tiers)
    for kind in KINDS:
        sent = traffic(system, kind, PAYLOADS, group)
        assert np.all(sent.link_bytes <= most * sent.seconds)


@settings(max_examples=30)
@given(system=systems)
def test_an_all_reduce_is_no_faster_than_its_bytes(system: System) -> None:
    """An all-reduce sends as much as the reduce-scatter and the all-gather that it is made of."""
    group = place(system, SIZES[:, None, None], STRIDES[None, :, None])
    both = [collective(system, kind, PAYLOADS, group).link_bytes for kind in ("reduce_scatter", "all_gather")]
    np.testing.assert_allclose(collective(system, "all_reduce", PAYLOADS, group).link_bytes, sum(both), rtol=1e-12)


@settings(max_examples=30)
@given(system=systems)
def test_a_larger_group_sends_no_less(system: System) -> None:
    """At one stride, a larger group that holds the smaller one has each rank send as much or more."""
    powers = 2 ** np.arange(13)[:, None, None]
    group = place(system, powers, STRIDES[None, :, None])
    for kind in KINDS:
        sent = traffic(system, kind, PAYLOADS, group).link_bytes
        assert np.all(np.diff(sent, axis=0) >= -1e-9 * sent[1:]), kind


@settings(max_examples=30)
@given(system=systems)
def test_a_transfer_slows_with_its_size(system: System) -> None:
    """Sending more bytes to a neighbour takes longer, near or far, and never less than the link's peak allows."""
    sent = transfer(system, PAYLOADS[:, None], STRIDES, 2)
    assert np.all(np.diff(sent.seconds, axis=0) > 0)
    assert np.all(sent.seconds * max(tier.bandwidth for tier in system.tiers) >= PAYLOADS[:, None])


@settings(max_examples=30)
@given(system=systems)
def test_members_inside_a_tier_fill_the_group(system: System) -> None:
    """A group has at least one member inside every tier, more on outer tiers, and all of them on the outermost."""
    group = place(system, SIZES[:, None], STRIDES)
    previous = np.ones((SIZES.size, STRIDES.size))
    for members in group.inside:
        assert np.all(members >= previous)
        previous = np.broadcast_to(members, previous.shape)
    assert np.array_equal(previous, np.broadcast_to(SIZES[:, None], previous.shape))
