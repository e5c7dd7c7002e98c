r"""Collectives on tiers of fabric.

A group of g ranks placed with a stride has g_j members inside tier j (`place`); groups of groups talk on the next
tier. A ring or hierarchical collective of gathered size Y moves per rank

.. math:: w_0 = f Y \frac{g_0 - 1}{g_0}, \qquad w_1 = f Y \frac{G - 1}{G g_0}, \quad G = g / g_0

(f = 2 for all-reduce, 1 for all-gather and reduce-scatter; every member drives its own port with its share, as
rail-aligned rings do), and takes the slowest tier's time plus latencies plus a ramp over messages of some 4 MB.
Fitted on NCCL tables of A100, H100 and B200 nodes: median error 3 to 6 %, 1 to 3 % at 16 MB and more
(aiconfigurator, systems/data, commit 095f58a5). Full mesh: a group uses g-1 of the n-1 links. Torus with wrap:
Y / (2 b_link) per axis whatever its length; scaling-book, jax-ml.github.io/scaling-book.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from model.system import Collective, System, Tier
from model.work import Traffic

_RAMP_BYTES = 4e6
_VOLUME: dict[Collective, float] = {
    "all_reduce": 2.0,
    "all_gather": 1.0,
    "reduce_scatter": 1.0,
    "all_to_all": 1.0,
}


@dataclass(frozen=True, slots=True)
class Group:
    """A communication group laid over the tiers: members of the group inside each tier, innermost first."""

    size: Any
    inside: tuple[Any, ...]  # members reachable without leaving tier j; the last equals `size`


def place(system: System, size: Any, stride: Any, block: Any = None) -> Group:
    """Lay groups of `size` ranks, `stride` ranks apart, over the system's tiers.

    Groups are packed one after the other. Where a tier's ranks are no multiple of a group's span, some groups lie on
    two domains; the worst of them has gcd(span, ranks) / stride members on one side, and every collective waits for it.
    Groups of a `block` of ranks that starts with a domain, as an instance that serves does, stay inside the tiers that
    hold the block.
    """
    members, apart = np.asarray(size, np.int64), np.asarray(stride, np.int64)
    span = members * apart
    inside = [np.clip(np.gcd(span, tier.ranks) // apart, 1, members).astype(float) for tier in system.tiers[:-1]]
    if block is not None:
        tiers = zip(system.tiers, inside, strict=False)
        inside = [np.where(np.asarray(block) <= tier.ranks, members, some).astype(float) for tier, some in tiers]
    return Group(members.astype(float), (*inside, members.astype(float)))


def _rate(tier: Tier, kind: Collective, members: Any) -> Any:
    """Achieved bytes/s of one rank in a group with `members` inside this tier."""
    rate = tier.bandwidth * tier.efficiency[kind] / tier.oversubscription
    if np.any(tier.pair_loss):
        rate = rate * (1.0 - tier.pair_loss * 2.0 / np.maximum(members, 2.0))
    return rate * link_share(tier, members)


def link_share(tier: Tier, members: Any) -> Any:
    """Share of a rank's links on a tier that a group with `members` inside it can use."""
    if tier.topology == "full_mesh":
        return np.minimum(np.maximum(members - 1.0, 1.0) / (tier.ranks - 1.0), 1.0)
    return _torus_share(tier, members) if tier.topology == "torus" else 1.0


def _torus_share(tier: Tier, members: Any) -> Any:
    """Share of a rank's torus links that a group of `members` can use.

    A group fills the axes in turn; both directions of a wrapped axis carry traffic. A group shorter than an axis has
    no wrap and uses half of that axis' links.
    """
    share: Any = 0.0
    reached: Any = 1.0
    axes = len(tier.shape) or 1
    for length in tier.shape or (tier.ranks,):
        uses = np.where(members > reached, 1.0, 0.0)
        share = share + uses * np.where(members >= reached * length, 1.0, 0.5) / axes
        reached = reached * length
    return np.maximum(share, 0.5 / axes)


def torus_exchange(tier: Tier, sent_bytes: Any, members: Any, fraction: Any) -> Any:
    """Seconds of an all-to-all on a torus: on each axis of n ranks, n/8 of what a rank sends crosses each link.

    Without a wrap, where the group does not fill the axis, n/4; `fraction` of the links' bandwidth is reached.
    Source: jax-ml.github.io/scaling-book, chapter 3.
    """
    shape = tier.shape or (tier.ranks,)
    link = tier.bandwidth * fraction / (2.0 * len(shape))
    slowest: Any = 0.0
    reached: Any = 1.0
    for length in shape:
        along = np.clip(members / reached, 1.0, length)
        crossing = np.where(along > 1.0, along / np.where(along >= length, 8.0, 4.0), 0.0)
        slowest = np.maximum(slowest, sent_bytes * crossing / link)
        reached = reached * length
    return slowest


def _latency(tier: Tier, innermost: bool, hops: Any, volume: float) -> Any:
    """Latency of a phase with `hops` groups on a tier: linear in a ring inside, logarithmic outside."""
    steps = (hops - 1.0) * volume if innermost else volume * np.log2(np.maximum(hops, 1.0))
    return np.where(hops > 1.0, tier.latency_s + tier.latency_step_s * steps, 0.0)


def collective(system: System, kind: Collective, gathered_bytes: Any, group: Group) -> Traffic:
    """All-reduce, all-gather or reduce-scatter of `gathered_bytes` (the full size) over a placed group."""
    volume = _VOLUME[kind]
    slowest: Any = 0.0
    latency: Any = 0.0
    sent: Any = 0.0
    previous: Any = 1.0
    ramp: Any = 0.0
    for j, (tier, members) in enumerate(zip(system.tiers, group.inside, strict=True)):
        hops = np.ceil(members / previous)
        bytes_here = volume * gathered_bytes * (hops - 1.0) / (hops * previous)
        congestion = 1.0 + tier.congestion * np.log2(np.maximum(hops, 1.0))
        slowest = np.maximum(slowest, bytes_here * congestion / _rate(tier, kind, members if j == 0 else hops))
        latency = latency + _latency(tier, j == 0, hops, volume)
        if np.any(tier.ramp_s):
            ramp = ramp + tier.ramp_s * bytes_here / (bytes_here + _RAMP_BYTES)
        sent = sent + bytes_here
        previous = members
    busy = group.size > 1.0
    return Traffic(np.where(busy, slowest + latency + ramp, 0.0), np.where(busy, sent, 0.0))


def all_to_all(system: System, sent_bytes: Any, group: Group) -> Traffic:
    """Every rank sends `sent_bytes` in equal shares to the ranks of its group, itself included."""
    slowest: Any = 0.0
    latency: Any = 0.0
    ramp: Any = 0.0
    previous: Any = 1.0
    for j, (tier, members) in enumerate(zip(system.tiers, group.inside, strict=True)):
        bytes_here = sent_bytes * (members - previous) / group.size
        if tier.topology == "torus":
            slowest = np.maximum(slowest, torus_exchange(tier, sent_bytes, members, tier.efficiency["all_to_all"]))
        else:
            rate = _rate(tier, "all_to_all", members if j == 0 else np.ceil(members / previous))
            slowest = np.maximum(slowest, bytes_here / rate)
        hops = members if j == 0 else np.ceil(members / previous)
        few = np.minimum(hops, 8.0) if j == 0 else np.maximum(np.log2(np.maximum(hops, 1.0)), 0.0)
        latency = latency + np.where(hops > 1.0, tier.latency_s + tier.latency_step_s * few, 0.0)
        if np.any(tier.ramp_s):
            ramp = ramp + tier.ramp_s * bytes_here / (bytes_here + _RAMP_BYTES)
        previous = members
    busy = group.size > 1.0
    sent = sent_bytes * (group.size - 1.0) / group.size
    return Traffic(np.where(busy, slowest + latency + ramp, 0.0), np.where(busy, sent, 0.0))


def transfer(system: System, sent_bytes: Any, stride: Any, stages: Any) -> Traffic:
    """One rank sends `sent_bytes` to its neighbour `stride` ranks away in a chain of `stages`.

    The chain waits for its slowest boundary: it stays inside a tier only where the whole chain does. In a full mesh a
    pair shares one link.
    """
    seconds: Any = None
    span = np.asarray(stride, np.int64) * np.asarray(stages, np.int64)
    for tier in reversed(system.tiers):
        rate = tier.bandwidth * tier.efficiency["point_to_point"] / tier.oversubscription
        if tier.topology == "full_mesh":
            rate = rate / (tier.ranks - 1.0)
        here = tier.latency_s + sent_bytes / rate
        inside = (span <= tier.ranks) & (np.gcd(span, tier.ranks) == span)
        seconds = here if seconds is None else np.where(inside, here, seconds)
    return Traffic(seconds, sent_bytes)
