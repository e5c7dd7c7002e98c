r"""Expert dispatch and combine: how routed tokens reach their experts and come back.

Three ways, with T' tokens of a rank, k experts a token, e ranks in the group on n domains, b bytes an element:

* all_to_all: every rank sends T' k h b (e-1)/e.
* per_rank: one copy per rank that a token visits, e (1 - (1 - 1/e)^k) instead of k.
* per_node: one copy per scale-up domain over the network, fanned out inside (DeepEP, HybridEP):
  n (1 - (1 - 1/n)^k) (n-1)/n copies, no more than the router's node limit.

Sources: DeepSeek-V3, arXiv:2412.19437, section 3.2; DeepEP, github.com/deepseek-ai/DeepEP; MoE parallel folding,
arXiv:2504.14960.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from model.architecture import Architecture, Experts
from model.collective import all_to_all, collective, place
from model.modules import Shard
from model.powers import power
from model.stack import Stack
from model.system import System
from model.work import Traffic

_KERNEL_LATENCY_S = 15e-6  # of a fused dispatch or combine kernel, on top of the tier's own
_FAN_OUT = 0.9  # of the all-to-all rate, for the copies inside a domain


def distinct_groups(groups: Any, visits: Any) -> Any:
    """Mean number of distinct groups that a token with `visits` uniform choices reaches."""
    return groups * (1.0 - power(1.0 - 1.0 / groups, visits))


def _per_node(system: System, stack: Stack, shard: Shard, experts: Experts, row_bytes: Any) -> Traffic:
    """One copy for each domain of every tier that a token leaves, and the copies inside the innermost domain."""
    group = place(system, shard.expert, shard.expert_tensor)
    inner = system.tiers[0]
    copies = distinct_groups(shard.expert, experts.per_token)
    slowest = row_bytes * copies / (inner.bandwidth * inner.efficiency["all_to_all"] * _FAN_OUT)
    sent = row_bytes * copies
    for members, tier in zip(group.inside, system.tiers[1:], strict=False):
        domains = np.ceil(group.size / members)
        visited = np.minimum(distinct_groups(domains, experts.per_token), stack.node_limit)
        crossing = row_bytes * np.where(domains > 1.0, visited * (domains - 1.0) / domains, 0.0)
        rate = tier.bandwidth * tier.efficiency["all_to_all"] / tier.oversubscription
        slowest, sent = np.maximum(slowest, crossing / rate), sent + crossing
    return Traffic(slowest + inner.latency_s + _KERNEL_LATENCY_S, sent)


def _one_way(
    system: System, stack: Stack, model: Architecture, experts: Experts, shard: Shard, element_bytes: float
) -> Traffic:
    """One dispatch or combine of `element_bytes` an element."""
    row_bytes = shard.tokens / shard.tensor * model.hidden * element_bytes
    if stack.dispatch == "per_node":
        return _per_node(system, stack, shard, experts, row_bytes)
    copies: Any = float(experts.per_token)
    if stack.dispatch == "per_rank":
        copies = distinct_groups(shard.expert, experts.per_token)
    return all_to_all(system, row_bytes * copies, place(system, shard.expert, shard.expert_tensor))


def _expert_tensor(system: System, model: Architecture, experts: Experts, shard: Shard) -> Traffic:
    """Gather of the routed rows over the ranks that share an expert, and scatter of their partial results (16 bits)."""
    rows = shard.tokens / shard.tensor * experts.per_token * shard.expert_tensor
    group = place(system, shard.expert_tensor, 1.0)
    gathered = 2.0 * rows * model.hidden
    return collective(system, "all_gather", gathered, group) + collective(system, "reduce_scatter", gathered, group)


def dispatch_and_combine(
    system: System, stack: Stack, model: Architecture, shard: Shard, imbalance: float
) -> tuple[Traffic, Traffic]:
    """Traffic of a mixture layer forward (dispatch, combine) and backward (both again in 16 bits)."""
    experts = model.experts
    if experts is None:
        raise ValueError(f"{model.name} has no experts")
    sent = _one_way(system, stack, model, experts, shard, stack.dispatch_bytes)
    back = _one_way(system, stack, model, experts, shard, 2.0)
    spread = np.where(shard.expert > 1.0, imbalance, 0.0)
    forward, backward = (sent + back).times(spread), back.times(2.0 * spread)
    if np.all(shard.expert_tensor <= 1.0):
        return forward, backward
    shared = _expert_tensor(system, model, experts, shard)
    return forward + shared, backward + shared
