"""What an instance serves: a model in given number formats, and the requests that come to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from model.architecture import Architecture

BalanceKind = Literal["perfect", "poisson", "power_law"]
Phase = Literal["prefill", "decode", "serving"]

# Real prompts make some experts popular. Set so that 32 ranks with a copy of one expert each lose what the served
# prefill of arXiv:2506.12708 (table 2) loses against its perfect balance; engines are fitted with it.
POPULARITY = 0.36


@dataclass(frozen=True, slots=True)
class Balance:
    """How evenly tokens fall on experts.

    `perfect`: every expert gets its mean. `poisson`: routing is uniform, and the busiest rank gets more by chance.
    `power_law`: experts differ in popularity by rank^-exponent on top of that. `redundant` experts are copies of the
    busiest ones, in all ranks together (expert-parallel load balancing, github.com/deepseek-ai/EPLB).
    """

    kind: BalanceKind = "power_law"
    exponent: float = POPULARITY
    redundant: int = 0


@dataclass(frozen=True, slots=True)
class Requests:
    """Mean lengths of the requests, in tokens.

    `prefix_hit` is the share of the prompt whose keys and values are found in a cache of earlier requests. `variation`
    is the coefficient of variation of the lengths, which queues need.
    """

    input_tokens: float
    output_tokens: float
    prefix_hit: float = 0.0
    variation: float = 0.5


@dataclass(frozen=True, slots=True)
class Serving:
    """A model as it is served. Formats are names in model.chip.FORMATS.

    `expert_format` is that of the routed and shared experts, `attention_format` of the projections around attention;
    None: as `weight_format`. Attention itself multiplies in 16 bits, unless `attention_core` names an 8-bit format.
    `acceptance` is the probability that a drafted token is accepted, given that those before it were.
    """

    architecture: Architecture
    requests: Requests
    weight_format: str = "bf16"
    expert_format: str | None = None
    attention_format: str | None = None
    attention_core: str = "bf16"
    kv_bytes: float = 2.0  # of one element of the cache, scales included
    acceptance: float = 0.7
    balance: Balance = Balance()

    @property
    def experts_in(self) -> str:
        """Number format of the experts."""
        return self.expert_format or self.weight_format

    @property
    def projections_in(self) -> str:
        """Number format of the projections around attention."""
        return self.attention_format or self.weight_format
