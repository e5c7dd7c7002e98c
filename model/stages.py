"""How a model's layers fall on pipeline stages, and the weights of a stage.

An even split gives each of the p v model chunks floor(L / (p v)) layers and the first L mod (p v) chunks one more, so
that the last stage holds the fewest. Leading dense layers of a mixture lie on the first stage, the embedding too; head,
loss and multi-token prediction on the last. A balanced split (explicit pipeline layouts: Llama 3, DeepSeek-V3) evens
the stages' times out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from model.architecture import Architecture
from model.layout import Layout


@dataclass(frozen=True, slots=True)
class Stage:
    """Layers of one pipeline stage, by kind, as float arrays."""

    dense: Any
    mixture: Any

    def of(self, dense_value: Any, mixture_value: Any) -> Any:
        """Sum of a per-layer quantity over the stage."""
        return self.dense * dense_value + self.mixture * mixture_value


@dataclass(frozen=True, slots=True)
class Stages:
    """The first, the second and the last stage of an even split. Without a pipeline all three are the model.

    Of the stages between first and last the second holds the most layers, and the most microbatches.
    """

    first: Stage
    middle: Stage
    last: Stage


def split(model: Architecture, layout: Layout) -> Stages:
    """Split the layers evenly over the stages of each layout."""
    p = np.asarray(layout.pipeline_parallel, float)
    v = np.asarray(layout.virtual_stages, float)
    base, longer = np.divmod(float(model.layers), p * v)
    most = base + np.minimum(longer, 1.0)
    fullest = base * v + np.ceil(longer / p)
    fewest = base * v + np.floor(longer / p)
    second = np.where(p > 2, base * v + np.ceil(np.maximum(longer - 1.0, 0.0) / p), fewest)
    leading = float(model.dense_layers)
    first_dense = np.minimum(leading, np.where(p > 1, most, model.layers))
    mixtures = float(model.moe_layers)
    if model.experts is not None and model.experts.every > 1:
        share = model.dense_layers / model.layers
        return Stages(*(Stage(n * share, n * (1.0 - share)) for n in (fullest, second, fewest)))
    middle_mixture = np.minimum(second, mixtures)
    last_mixture = np.minimum(fewest, mixtures)
    return Stages(
        first=Stage(first_dense, fullest - first_dense) if mixtures else Stage(fullest, 0.0 * fullest),
        middle=Stage(second - middle_mixture, middle_mixture),
        last=Stage(fewest - last_mixture, last_mixture),
    )


@dataclass(frozen=True, slots=True)
class StageWeights:
    """Weights (elements) of one rank of a stage: outside the routed experts, and inside."""

    dense: Any
    routed: Any


def _layer_weights(model: Architecture, layout: Layout) -> tuple[Any, Any, Any]:
    """Elements on one rank of a dense layer, of a mixture layer outside its experts, and of its experts."""
    t = np.asarray(layout.tensor_parallel, float)
    replicated = 0.0
    if model.latent is not None:  # down-projections are not split
        replicated = model.hidden * (model.latent.query_rank + model.latent.key_value_rank + model.latent.rope_head)
    attention = (model.attention_parameters - replicated) / t + replicated
    if model.latent is None:  # key and value heads are repeated where there are more ranks than heads
        repeated = np.maximum(t / model.key_value_heads, 1.0) - 1.0
        attention = attention + repeated * 2.0 * model.hidden * model.head_size * model.key_value_heads / t
    dense = attention + model.dense_feed_forward_parameters / t
    if model.experts is None:
        return dense, dense, np.zeros_like(t)
    router = model.hidden * model.experts.experts
    mixture = attention + (model.shared_parameters - router) / t + router
    shards = np.asarray(layout.expert_parallel, float) * layout.expert_tensor_parallel
    return dense, mixture, model.experts.experts * model.expert_parameters / shards


def stage_weights(model: Architecture, layout: Layout, stages: Stages) -> tuple[StageWeights, ...]:
    """Weights on one rank of the first, of a middle and of the last stage (embedding, head and MTP where they lie)."""
    dense, mixture, routed = _layer_weights(model, layout)
    t = np.asarray(layout.tensor_parallel, float)
    single = np.asarray(layout.pipeline_parallel) <= 1
    table = model.vocabulary * model.hidden / t
    extra = float(model.mtp_layers)
    mtp_dense = extra * ((mixture if model.experts else dense) + 2.0 * model.hidden**2 / t)
    tables_first = np.where(single & (not model.tied_embeddings), 2.0, 1.0) * table
    first = StageWeights(
        stages.first.of(dense, mixture) + tables_first + np.where(single, mtp_dense, 0.0),
        stages.first.mixture * routed + np.where(single, extra * routed, 0.0),
    )
    middle = StageWeights(stages.middle.of(dense, mixture), stages.middle.mixture * routed)
    last = StageWeights(
        stages.last.of(dense, mixture) + np.where(single, tables_first, table) + mtp_dense,
        (stages.last.mixture + extra) * routed,
    )
    return first, middle, last


def mean_stage_weights(model: Architecture, layout: Layout) -> StageWeights:
    """Weights of one rank of a mean stage with one embedding table: what data-parallel traffic carries."""
    dense, mixture, routed = _layer_weights(model, layout)
    p = np.asarray(layout.pipeline_parallel, float)
    t = np.asarray(layout.tensor_parallel, float)
    tables = np.where((p > 1) | model.tied_embeddings, 1.0, 2.0)
    return StageWeights(
        (model.dense_layers * dense + model.moe_layers * mixture) / p + tables * model.vocabulary * model.hidden / t,
        model.moe_layers * routed / p,
    )
