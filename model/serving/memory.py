"""Memory of a rank that serves: weights, cache of keys and values, working buffers.

The cache of a token is 2 x key heads x head size a layer, or the compressed vector of latent attention, which every
tensor-parallel rank holds whole (DeepSeek-V2, arXiv:2405.04434). Layers with a window keep no more than the window.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from model.architecture import Architecture
from model.chip import FORMATS
from model.cost import Parts
from model.serving.instance import Instance
from model.serving.stack import ServingStack
from model.serving.workload import Serving
from model.system import System

_WORKING_COPIES = 8.0  # 16-bit tensors of T x h alive inside a layer
_EMBEDDING_BYTES = 2.0


@dataclass(frozen=True, slots=True)
class ServingMemory(Parts):
    """Bytes on the fullest rank."""

    weights: Any
    kv_cache: Any
    buffers: Any
    base: Any


def weight_bytes(stack: ServingStack, serving: Serving, instance: Instance) -> Any:
    """Bytes of weights on a rank of the fullest stage."""
    model = serving.architecture
    tensor = np.asarray(instance.tensor_parallel, float)
    stages = np.asarray(instance.pipeline_parallel, float)
    layers = np.ceil(model.layers / stages) / model.layers
    drafting = np.where(np.asarray(instance.draft_tokens) > 0, float(model.mtp_layers), 0.0)
    projections = FORMATS[serving.projections_in].weight_bytes
    attention = (model.layers * layers + drafting) * projections * attention_elements(model, tensor)
    dense = model.dense_layers * layers * model.dense_feed_forward_parameters / tensor
    dense = dense * FORMATS[serving.weight_format].weight_bytes
    ends = _EMBEDDING_BYTES * model.embedding_parameters / tensor / np.minimum(stages, 2.0)
    return attention + dense + ends + _expert_bytes(stack, serving, instance, model.moe_layers * layers + drafting)


def attention_elements(model: Architecture, tensor: Any) -> Any:
    """Weights of one layer's attention on a rank; each rank has at least one key and value head."""
    if model.low_rank is not None:
        keys = 2.0 * model.hidden * model.head_size
        whole = model.hidden * model.low_rank.query_rank + keys * model.key_value_heads
        rest = (model.attention_parameters - whole) / tensor
        return whole - keys * (model.key_value_heads - np.maximum(model.key_value_heads / tensor, 1.0)) + rest
    if model.latent is None:
        key_heads = np.maximum(model.key_value_heads / tensor, 1.0)
        return model.hidden * model.head_size * (2.0 * model.heads / tensor + 2.0 * key_heads)
    latent = model.latent
    whole = model.hidden * (latent.query_rank + latent.key_value_rank + latent.rope_head)
    return whole + (model.attention_parameters - whole) / tensor


def _expert_bytes(stack: ServingStack, serving: Serving, instance: Instance, layers: Any) -> Any:
    model = serving.architecture
    experts = model.experts
    if experts is None:
        return 0.0
    held = (experts.experts + serving.balance.redundant) / np.asarray(instance.expert_parallel, float)
    routed = held * model.expert_parameters / np.maximum(instance.expert_tensor_parallel, 1.0)
    shared: Any = 0.0
    if stack.shared_experts == "local":
        shared = model.shared_parameters / np.where(np.asarray(instance.data_parallel) > 1, 1.0, instance.stage_ranks)
    return layers * FORMATS[serving.experts_in].weight_bytes * (routed + shared)


def cache_bytes(serving: Serving, instance: Instance, tokens: Any) -> Any:
    """Bytes on a rank of the cache of one sequence of `tokens` tokens."""
    model = serving.architecture
    stages = np.asarray(instance.pipeline_parallel, float)
    layers = np.ceil(model.layers / stages)
    tokens = np.asarray(tokens, float)
    if model.latent is not None:
        each: Any = float(model.latent.key_value_rank + model.latent.rope_head)
    else:
        each = 2.0 * np.maximum(model.key_value_heads / np.asarray(instance.tensor_parallel, float), 1.0)
        each = each * model.head_size
    held, indexed = tokens, 0.0
    if model.sparse is not None:
        sparse = model.sparse
        entries = sparse.picking * tokens / sparse.compression
        held = entries + (1.0 - sparse.picking) * tokens / sparse.summary + np.minimum(tokens, float(sparse.window))
        indexed = entries * float(sparse.index_head)
    elif model.window:
        full = 1.0 / model.full_attention_every if model.full_attention_every > 1 else 0.0
        held = full * tokens + (1.0 - full) * np.minimum(tokens, float(model.window))
    return layers * (held * each * serving.kv_bytes + indexed) / np.asarray(instance.context_parallel, float)


def instance_memory(
    stack: ServingStack,
    serving: Serving,
    instance: Instance,
    sequences: Any,
    tokens_each: Any,
    prompt_tokens: Any = 0.0,
) -> ServingMemory:
    """Bytes on the fullest rank with so many sequences of a mean length in flight in the instance.

    `prompt_tokens` are those of one pass of an attention group.
    """
    groups = np.asarray(instance.data_parallel, float)
    own = np.ceil(np.asarray(sequences, float) / groups)
    rows = own * (1.0 + np.asarray(instance.draft_tokens, float)) + prompt_tokens
    model = serving.architecture
    working = 2.0 * _WORKING_COPIES * rows * model.hidden
    logits = 4.0 * own * model.vocabulary / np.asarray(instance.tensor_parallel, float)
    return ServingMemory(
        weights=weight_bytes(stack, serving, instance),
        kv_cache=own * cache_bytes(serving, instance, _in_blocks(stack, tokens_each)),
        buffers=working + logits,
        base=stack.base_bytes,
    )


def _in_blocks(stack: ServingStack, tokens: Any) -> Any:
    """Tokens with the half block that a sequence leaves empty in the mean."""
    return np.asarray(tokens, float) + (stack.kv_block - 1) / 2.0


def most_sequences(
    system: System,
    stack: ServingStack,
    serving: Serving,
    instance: Instance,
    tokens_each: Any,
    prompt_tokens: Any = 0.0,
) -> Any:
    """Whole sequences of a mean length that fit in the memory of the instance's ranks; 0 where its weights do not."""
    empty = instance_memory(stack, serving, instance, 0.0, tokens_each, prompt_tokens).total
    one = instance_memory(stack, serving, instance, instance.data_parallel, tokens_each, prompt_tokens).total - empty
    room = stack.usable_memory * system.chip.hbm_bytes - empty
    return np.floor(np.maximum(room, 0.0) / one + 1e-9) * np.asarray(instance.data_parallel, float)
