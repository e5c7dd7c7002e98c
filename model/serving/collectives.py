r"""Collectives as inference engines run them: kernels of their own for small messages, launched from a graph.

All-reduce of Y bytes among h ranks of a tier at f of the bandwidth b, in one exchange or in two:

.. math:: t_1 = \alpha + \alpha' (h-1) + \frac{Y (h-1)}{b f}, \qquad
    t_2 = 2 \alpha + \alpha' (h-1) + \frac{2 Y (h-1)}{h b f}

and the library's rings and switch reductions (model/collective.py) where these are faster. Groups over several tiers
exchange twice inside and add up the tiers.

Dispatch and combine send T tokens to k experts each, r bytes a row, among e ranks of which e0 lie in the innermost
tier. The *low-latency* kernel sends a copy for each expert; the *bulk* kernel one for each rank inside a domain and
one for each domain (dispatch.py):

.. math:: t_{ll} = \alpha + \alpha' \log_2 e + T k \max_j s_j \max(\rho_j, r / (b_j f_j)) (1 + c_j \log_2 e_j), \qquad
    t_{bulk} = \beta + T r \max_j (n_j / (b_j g_j)) (1 + c'_j \log_2 e_j)

with s_j the share of the copies that crosses tier j, :math:`\rho` the least time of a row and n_j the distinct ranks
or domains that a token reaches. The faster of the two runs.

Sources: TensorRT-LLM's and vLLM's custom all-reduce; DeepEP, github.com/deepseek-ai/DeepEP; CloudMatrix384,
arXiv:2506.12708, section 5.4; TensorRT-LLM's one-sided all-to-all. Constants: sweep/calibration.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from model.collective import Group, collective, link_share, place, torus_exchange
from model.dispatch import distinct_groups
from model.system import Collective, System, Tier
from model.work import Traffic

# Of a tier whose constants are not fitted: medians of those that are.
_SMALL_LATENCY = 0.7  # of the library's own
_SMALL_STEP = 0.1
_SMALL_FRACTION = 0.6
_EXCHANGE_LATENCY_S = 10e-6  # on top of the tier's own
_EXCHANGE_FRACTION = 0.6
_BULK_LATENCY_S = 35e-6
_BULK_FRACTION = 0.9  # of the library's all-to-all


def all_reduce(system: System, bytes_: Any, group_size: Any, inner_stride: Any = 1, block: Any = None) -> Traffic:
    """Sum of `bytes_` held by each of `group_size` ranks, `inner_stride` apart (arrays broadcast)."""
    return _collective(system, "all_reduce", bytes_, place(system, group_size, inner_stride, block))


def all_gather(system: System, bytes_: Any, group_size: Any, inner_stride: Any = 1, block: Any = None) -> Traffic:
    """Gather of `bytes_` in all, of which each of `group_size` ranks holds its part."""
    return _collective(system, "all_gather", bytes_, place(system, group_size, inner_stride, block))


def reduce_scatter(system: System, bytes_: Any, group_size: Any, inner_stride: Any = 1, block: Any = None) -> Traffic:
    """Sum of `bytes_` held by each of `group_size` ranks, of which each keeps its part."""
    return _collective(system, "reduce_scatter", bytes_, place(system, group_size, inner_stride, block))


def _collective(system: System, kind: Collective, bytes_: Any, group: Group) -> Traffic:
    library = collective(system, kind, bytes_, group)
    own = _own_kernels(system, kind, bytes_, group)
    return Traffic(np.minimum(library.seconds, own), library.link_bytes)


def _own_kernels(system: System, kind: Collective, bytes_: Any, group: Group) -> Any:
    """Seconds of an engine's own kernels, tier by tier."""
    seconds: Any = 0.0
    previous: Any = 1.0
    for j, (tier, members) in enumerate(zip(system.tiers, group.inside, strict=True)):
        hops = np.ceil(members / previous)
        latency, steps = _small_latency(tier, j == 0), _small_steps(tier, j == 0, hops)
        rate = tier.bandwidth / tier.oversubscription * _fitted(tier.small_fraction, _SMALL_FRACTION)
        rate = rate * link_share(tier, members if j == 0 else hops)
        here = bytes_ / previous
        once = latency + steps + here * (hops - 1.0) / hops / rate
        if kind == "all_reduce":
            twice = once + latency + here * (hops - 1.0) / hops / rate
            crossing = group.size > members
            once = np.where(crossing, twice, np.minimum(twice, latency + steps + here * (hops - 1.0) / rate))
        seconds = seconds + np.where(hops > 1.0, once, 0.0)
        previous = members
    return seconds


def _fitted(value: Any, otherwise: Any) -> Any:
    """A tier's own constant, or what stands for it where none is fitted (0)."""
    return value if np.any(value) else otherwise


def _small_latency(tier: Tier, innermost: bool) -> Any:
    """Latency of one exchange; a network's own where nothing is fitted."""
    return _fitted(tier.small_latency_s, tier.latency_s * (_SMALL_LATENCY if innermost else 1.0))


def _small_steps(tier: Tier, innermost: bool, hops: Any) -> Any:
    """Seconds that further ranks add: hops of a torus, doublings of a network, a little each on a switch."""
    if tier.topology == "torus":
        return _fitted(tier.small_step_s, tier.latency_step_s) * _torus_hops(tier, hops)
    if not innermost:
        return _fitted(tier.small_step_s, tier.latency_step_s) * np.log2(np.maximum(hops, 1.0))
    return _fitted(tier.small_step_s, tier.latency_step_s * _SMALL_STEP) * (hops - 1.0)


def _torus_hops(tier: Tier, members: Any) -> Any:
    """Hops to the farthest of `members`, which fill the axes in turn; a wrapped axis is crossed both ways."""
    hops: Any = 0.0
    reached: Any = 1.0
    for length in tier.shape or (tier.ranks,):
        along = np.clip(members / reached, 1.0, length)
        hops = hops + np.where(along >= length, along / 2.0, along - 1.0)
        reached = reached * length
    return hops


def expert_exchange(
    system: System, tokens: Any, experts_per_token: int, row_bytes: Any, expert_parallel: Any,
    expert_tensor_parallel: Any = 1, node_limit: float = np.inf, block: Any = None,
) -> Traffic:  # fmt: skip
    """One way of dispatch or combine (arrays broadcast).

    Parameters
    ----------
    tokens : of a rank; experts_per_token : routed experts that each visits
    row_bytes : of a token's row as it is sent: hidden size x bytes of an element, scales included
    expert_parallel : ranks (or groups of them) that hold different experts
    expert_tensor_parallel : ranks that share an expert; each gets the row
    node_limit : innermost domains that the router lets a token reach
    block : ranks of the instance that the group belongs to (model.collective.place)
    """
    low_latency = low_latency_exchange(
        system, tokens, experts_per_token, row_bytes, expert_parallel, expert_tensor_parallel, block
    )
    bulk = bulk_exchange(
        system, tokens, experts_per_token, row_bytes, expert_parallel, expert_tensor_parallel, node_limit, block
    )
    first = low_latency.seconds <= bulk.seconds
    return Traffic(
        np.where(first, low_latency.seconds, bulk.seconds), np.where(first, low_latency.link_bytes, bulk.link_bytes)
    )


def low_latency_exchange(
    system: System, tokens: Any, experts_per_token: Any, row_bytes: Any, expert_parallel: Any,
    expert_tensor_parallel: Any = 1, block: Any = None,
) -> Traffic:  # fmt: skip
    """One way by the kernel that sends a copy of a row for each expert; parameters as in `expert_exchange`."""
    tokens, shared = np.asarray(tokens, float), np.asarray(expert_tensor_parallel)
    group = place(system, np.asarray(expert_parallel) * shared, 1, block)
    rows = tokens * experts_per_token * shared
    seconds = _low_latency(system, rows, row_bytes, group)
    sent = rows * row_bytes * (group.size - 1.0) / group.size
    busy = (group.size > 1.0) & (rows > 0.0)
    return Traffic(np.where(busy, seconds, 0.0), np.where(busy, sent, 0.0))


def bulk_exchange(
    system: System, tokens: Any, experts_per_token: Any, row_bytes: Any, expert_parallel: Any,
    expert_tensor_parallel: Any = 1, node_limit: float = np.inf, block: Any = None,
) -> Traffic:  # fmt: skip
    """One way by the kernel that sends a copy to each rank or domain; parameters as in `expert_exchange`."""
    tokens, shared = np.asarray(tokens, float), np.asarray(expert_tensor_parallel)
    group = place(system, np.asarray(expert_parallel) * shared, 1, block)
    seconds, sent = _bulk(system, tokens, experts_per_token * shared, row_bytes, group, node_limit)
    busy = (group.size > 1.0) & (tokens > 0.0)
    return Traffic(np.where(busy, seconds, 0.0), np.where(busy, sent, 0.0))


def _low_latency(system: System, rows: Any, row_bytes: Any, group: Group) -> Any:
    """Seconds of a kernel that sends each of `rows` by itself."""
    slowest: Any = 0.0
    latency: Any = 0.0
    previous: Any = 0.0
    for j, (tier, members) in enumerate(zip(system.tiers, group.inside, strict=True)):
        share = (members - previous) / group.size
        fraction = _fitted(tier.exchange_fraction, _EXCHANGE_FRACTION)
        seconds = _sent_seconds(tier, rows * share * row_bytes, members, j == 0, fraction)
        doublings = np.log2(np.maximum(members / np.maximum(previous, 1.0), 1.0))
        seconds = np.maximum(seconds, rows * share * tier.exchange_row_s) * (1.0 + tier.exchange_congestion * doublings)
        slowest = np.maximum(slowest, seconds)
        own = _fitted(tier.exchange_latency_s, tier.latency_s + (_EXCHANGE_LATENCY_S if j == 0 else 0.0))
        latency = latency + np.where(members > previous, own + tier.exchange_step_s * doublings, 0.0)
        previous = members
    return latency + slowest


def _bulk(system: System, tokens: Any, copies: Any, row_bytes: Any, group: Group, node_limit: float) -> tuple[Any, Any]:
    """Seconds of a kernel that sends one copy to each rank or domain, and the bytes that leave a rank."""
    inner = system.tiers[0]
    reached = distinct_groups(group.size, copies) * row_bytes * tokens
    congestion = 1.0 + inner.bulk_congestion * np.log2(np.maximum(group.inside[0], 1.0))
    slowest = _sent_seconds(inner, reached, group.inside[0], True, _bulk_fraction(inner)) * congestion
    latency: Any = _fitted(inner.bulk_latency_s, inner.latency_s + _BULK_LATENCY_S)
    sent = reached * (group.inside[0] - 1.0) / group.size
    for members, tier in zip(group.inside, system.tiers[1:], strict=False):
        domains = np.ceil(group.size / members)
        visited = distinct_groups(np.minimum(domains, node_limit), copies)
        crossing = tokens * row_bytes * np.where(domains > 1.0, visited * (domains - 1.0) / domains, 0.0)
        slowest = np.maximum(slowest, _sent_seconds(tier, crossing, domains, False, _bulk_fraction(tier)))
        latency = latency + np.where(domains > 1.0, _fitted(tier.bulk_latency_s, tier.latency_s), 0.0)
        sent = sent + crossing
    return latency + slowest, sent


def _bulk_fraction(tier: Tier) -> Any:
    return _fitted(tier.bulk_fraction, _BULK_FRACTION * tier.efficiency["all_to_all"])


def _sent_seconds(tier: Tier, sent_bytes: Any, members: Any, innermost: bool, fraction: Any) -> Any:
    """Seconds to send bytes in equal shares to the members of a group on one tier, itself included."""
    if tier.topology == "torus" and innermost:
        return torus_exchange(tier, sent_bytes, members, fraction)
    rate = tier.bandwidth * fraction / tier.oversubscription
    return sent_bytes / (rate * link_share(tier, members)) if innermost else sent_bytes / rate
