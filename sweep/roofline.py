"""The naive bound that published serving runs are also held against: every rank at its peaks, nothing else.

A pass takes the longer of its FLOPs at the peak rate and its bytes (weights that are touched, keys and values that are
read) at the full memory bandwidth, divided evenly over all ranks. No communication, no launches, no scheduling, no
fitted constant.
"""

from __future__ import annotations

from dataclasses import dataclass

from model.architecture import Architecture
from model.chip import FORMATS
from model.serving.attention_half import spans
from model.serving.balance import active_share
from model.serving.workload import Serving
from model.system import System


@dataclass(frozen=True, slots=True)
class Roofline:
    """A served model on so many ranks of a machine."""

    system: System
    serving: Serving
    ranks: float

    @property
    def model(self) -> Architecture:
        """Shapes of the model."""
        return self.serving.architecture

    def _weights(self, tokens: float) -> float:
        """Bytes of the weights that so many tokens touch."""
        model, serving = self.model, self.serving
        whole = model.parameters - model.vocabulary * model.hidden  # the input embedding is looked up
        if model.experts is None:
            return whole * FORMATS[serving.weight_format].weight_bytes
        routed = model.moe_layers * model.experts.experts * model.expert_parameters
        touched = float(active_share(model.experts, tokens))
        rest = (whole - routed) * FORMATS[serving.weight_format].weight_bytes
        return rest + routed * touched * FORMATS[serving.experts_in].weight_bytes

    def _attended(self, keys: float) -> float:
        return self.model.layers * sum(share * float(span) for share, span in spans(self.model, keys))

    def seconds(self, sequences: float, queries: float, keys: float, cached: bool) -> float:
        """Seconds of a pass of so many sequences, each with `queries` new tokens that see `keys` keys in the mean.

        `cached`: the keys are read from the cache (decoding), compressed where the model compresses them.
        """
        model, chip = self.model, self.system.chip
        tokens = sequences * queries
        latent = model.latent
        if latent is not None and cached:
            per_key, width = latent.key_value_rank + latent.rope_head, 2.0 * latent.key_value_rank + latent.rope_head
        else:
            per_key = 2 * model.key_value_heads * model.head_size
            width = float(model.query_key_head + model.value_head)
        attended = self._attended(keys)
        flops = 2.0 * tokens * (model.active_parameters - model.vocabulary * model.hidden)
        flops += 2.0 * tokens * model.heads * width * attended
        moved = self._weights(tokens) + (sequences * attended * per_key * self.serving.kv_bytes if cached else 0.0)
        peak = chip.peak_flops[FORMATS[self.serving.experts_in].peak]
        return max(flops / peak, moved / chip.hbm_bandwidth) / self.ranks
