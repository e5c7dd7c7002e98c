"""The modules of a transformer layer on one rank: work forward and backward, and what they save for the backward.

Layer structure and sharding: Megatron-Core (tensor and sequence parallelism, arXiv:2205.05198; expert and expert-tensor
parallelism, arXiv:2504.14960); latent attention: DeepSeek-V3, arXiv:2412.19437. T is the tokens of a microbatch in the
tensor-parallel region of a rank; token-parallel work (norms, residuals) covers T / tp tokens with sequence parallelism.
Bytes per element are counted from the kernels: 2 to read or to write a 16-bit element.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from model.architecture import Architecture, Experts, LatentAttention
from model.attention import fused_attention, mean_keys, unfused_attention
from model.chip import FORMATS, Chip
from model.epilogue import activation_bytes, expert_activation, expert_bias
from model.layout import Layout
from model.matmul import linear, matmul
from model.stack import Stack
from model.vector import gather, vector
from model.work import NOTHING, Work
from model.workload import Training


@dataclass(frozen=True, slots=True)
class Module:
    """A part of a layer on one rank and microbatch.

    `kept_bytes` always stay from forward to backward; `saved_bytes` stay unless one of `recompute` is switched on, and
    then `redo` is done again before the backward. No gradient needs the output of `unread`, a part of the forward.
    """

    name: str
    forward: Work
    backward: Work
    kept_bytes: Any = 0.0
    saved_bytes: Any = 0.0
    redo: Work = NOTHING
    unread: Work = NOTHING
    recompute: tuple[str, ...] = ()
    has_weights: bool = False  # a linear layer: its backward hides traffic and holds weight gradients


@dataclass(frozen=True, slots=True)
class Shard:
    """What one rank holds of a microbatch, as floats that broadcast."""

    tokens: Any  # T
    tensor: Any
    context: Any
    expert: Any
    expert_tensor: Any
    sequences: Any  # micro-batch
    token_share: Any  # 1/tp with sequence parallelism, else 1
    sequence: float
    attended: float  # tokens that attend to one another
    ring: Any  # ring steps of attention

    @classmethod
    def of(cls, training: Training, layout: Layout) -> Shard:
        """The shard of each layout."""
        tensor = np.asarray(layout.tensor_parallel, float)
        context = np.asarray(layout.context_parallel, float)
        sequences = np.asarray(layout.micro_batch, float)
        return cls(
            tokens=sequences * training.sequence / context,
            tensor=tensor,
            context=context,
            expert=np.asarray(layout.expert_parallel, float),
            expert_tensor=np.asarray(layout.expert_tensor_parallel, float),
            sequences=sequences,
            token_share=np.where(np.asarray(layout.sequence_parallel) > 0, 1.0 / tensor, 1.0),
            sequence=float(training.sequence),
            attended=training.attended,
            ring=np.where(np.asarray(layout.context_exchange) == 0, context, 1.0),
        )

    def key_heads(self, model: Architecture) -> Any:
        """Key and value heads of a rank: at least one, repeated where there are more ranks than heads."""
        return np.maximum(model.key_value_heads / self.tensor, 1.0)


@dataclass(frozen=True, slots=True)
class Rank:
    """The chip, software and number format that a module runs with."""

    chip: Chip
    stack: Stack
    number_format: str
    frozen: bool = False  # no weight gradients

    @property
    def quantised(self) -> bool:
        """Whether the layers' matmuls take 8- or 4-bit inputs."""
        return FORMATS[self.number_format].cast_bytes > 0

    def cast(self, elements: Any) -> Work:
        """Quantising the inputs of linear layers, unless the producing kernel does it."""
        bytes_each = FORMATS[self.number_format].cast_bytes
        if not bytes_each or self.stack.cast_fused:
            return NOTHING
        return vector(self.chip, bytes_each * self.stack.cast_passes * elements, 1)

    @property
    def input_bytes(self) -> float:
        """Stored bytes per element of a linear layer's saved input."""
        return 1.0 if self.quantised else 2.0

    def linears(self, *shapes: tuple[Any, Any, Any], batch: Any = 1.0) -> tuple[Work, Work]:
        """Forward and backward work of linear layers (rows, N, K)."""
        forward, backward = NOTHING, NOTHING
        for rows, n, k in shapes:
            ahead, inputs, weights = linear(
                self.chip, self.number_format, rows, n, k, batch, self.stack.fused_accumulation
            )
            forward, backward = forward + ahead, backward + inputs
            if not self.frozen:
                backward = backward + weights
        return forward, backward


def norms_and_residuals(rank: Rank, model: Architecture, shard: Shard) -> tuple[Module, Module]:
    """The layer's norms, and its residual additions with their dropouts.

    A norm moves 4 bytes an element forward and 8 backward, as a chain of kernels 36 and 72 (casts, square, mean and two
    products, counted in Llama's reference code); a residual reads two and writes one (6 for both fused with
    the norm's read), 14 with dropout and its masks. In 8 and 4 bits the norms' outputs, and in the backward the
    gradients of the two residual branches, are quantised.
    """
    elements = shard.tokens * model.hidden * shard.token_share
    count = model.norms_per_layer
    residual, launches = (14.0, 4) if model.dropout else (6.0, 2)
    moved, kernels = (4.0, 1) if rank.stack.fused_norm else (36.0, 6)
    forward = vector(rank.chip, moved * count * elements, kernels * count) + rank.cast(2.0 * elements)
    norm = Module(
        "norm",
        forward,
        vector(rank.chip, 2.0 * moved * count * elements, kernels * count + 2) + rank.cast(2.0 * elements),
        kept_bytes=2.0 * count * elements,
        saved_bytes=rank.input_bytes * count * elements,
        redo=forward,
        recompute=("norm",),
    )
    both = vector(rank.chip, residual * elements, launches)
    return norm, Module("residual", both, both, kept_bytes=(2.0 if model.dropout else 0.0) * elements)


def _rotary(rank: Rank, model: Architecture, packed: Any, turned: Any) -> Work:
    """Rotary embedding of the `turned` elements, and the split of the `packed` ones, forward.

    Latent attention expands and concatenates the shared key: 9 bytes an element instead of 4. Unfused, queries and keys
    move 20 bytes each: turned halves 6, two products 8, their sum 6 (Megatron-LM's rotary_pos_embedding.py).
    """
    if model.latent is not None:
        return vector(rank.chip, 9.0 * packed, 4)
    if rank.stack.fused_rotary:
        return vector(rank.chip, 4.0 * packed, 2)
    return vector(rank.chip, 20.0 * turned, 10)


def _core_attention(rank: Rank, model: Architecture, shard: Shard) -> Module:
    """The attention core with the rotary embedding around it."""
    heads = model.heads / shard.tensor
    sizes = (model.query_key_head, model.value_head)
    queries = shard.sequence / shard.context
    if model.latent is None:
        packed = (model.heads / shard.tensor + 2.0 * shard.key_heads(model)) * model.head_size
    else:
        packed = model.heads * (2 * model.query_key_head + model.value_head) / shard.tensor
    output = model.heads * model.value_head / shard.tensor
    extra = rank.input_bytes if rank.quantised else 0.0  # the projection's own 8-bit copy
    kept = shard.tokens * (2.0 * packed + (2.0 + extra) * output)
    if rank.stack.fused_attention:
        keys = mean_keys(shard.attended, model.window, model.full_attention_every)
        turned = packed - shard.key_heads(model) * model.value_head  # all but the values
        rotary = _rotary(rank, model, shard.tokens * packed, shard.tokens * turned)
        speed = 1.0 / (rank.stack.attention_speed * (rank.stack.window_speed if model.window else 1.0))
        speed = speed / (1.0 if rank.stack.native_attention else rank.chip.calibration.attention.older_kernels)
        parts = (rank.chip, shard.sequences, queries, keys, heads, sizes, shard.ring)
        sized = rank.stack.head_size_matters
        forward = fused_attention(*parts, head_size_matters=sized).slower(speed)
        backward = fused_attention(*parts, backward=True, head_size_matters=sized)
        backward = backward.slower(speed / rank.stack.attention_backward_speed)
        cast, cast_back = rank.cast(shard.tokens * output), rank.cast(shard.tokens * packed)
        return Module(
            "attention", forward + rotary + cast, backward + rotary.times(1.2) + cast_back, kept_bytes=kept,
            redo=forward, saved_bytes=4.0 * shard.tokens * heads, recompute=("core_attention",),
        )  # fmt: skip
    forward = unfused_attention(rank.chip, shard.sequences, queries, shard.sequence, heads, sizes, model.dropout)
    backward = unfused_attention(
        rank.chip, shard.sequences, queries, shard.sequence, heads, sizes, model.dropout, backward=True
    )
    split = vector(rank.chip, 8.0 * shard.tokens * packed, 3)
    scores = 5.0 * heads * shard.sequences * queries * shard.sequence
    return Module(
        "attention", forward + split, backward + split, kept_bytes=kept, saved_bytes=scores, redo=forward,
        recompute=("core_attention",),
    )  # fmt: skip


def _plain_projections(rank: Rank, model: Architecture, shard: Shard) -> tuple[Module, ...]:
    """Fused query-key-value projection and output projection; keys are replicated where tp exceeds their heads."""
    width = model.head_size * (model.heads / shard.tensor + 2.0 * shard.key_heads(model))
    out = model.heads * model.head_size / shard.tensor
    ahead, ahead_back = rank.linears((shard.tokens, width, model.hidden))
    behind, behind_back = rank.linears((shard.tokens, model.hidden, out))
    packed = 2.0 * shard.tokens * width
    residual = 2.0 * shard.tokens * model.hidden * shard.token_share
    return (
        Module(
            "query_key_value", ahead, ahead_back, kept_bytes=-packed, saved_bytes=packed, redo=ahead,
            recompute=("query_key_value",), has_weights=True,
        ),
        Module(
            "attention_output", behind, behind_back, kept_bytes=-residual, saved_bytes=residual, redo=behind,
            recompute=("attention_output",), has_weights=True,
        ),
    )  # fmt: skip


def _latent_projections(rank: Rank, model: Architecture, latent: LatentAttention, shard: Shard) -> tuple[Module, ...]:
    """Down-projections (replicated weights on the sequence shard), up-projections over heads, output projection."""
    own = shard.tokens * shard.token_share
    down_shapes = [(own, latent.key_value_rank + latent.rope_head, model.hidden)]
    query_in, query_rows = model.hidden, shard.tokens
    if latent.query_rank:
        down_shapes.append((own, latent.query_rank, model.hidden))
        query_in = latent.query_rank
    per_head_query = latent.nope_head + latent.rope_head
    up_shapes = [
        (query_rows, model.heads * per_head_query / shard.tensor, query_in),
        (
            shard.tokens,
            model.heads * (latent.nope_head + latent.value_head) / shard.tensor,
            latent.key_value_rank,
        ),
    ]
    down, down_back = rank.linears(*down_shapes)
    up, up_back = rank.linears(*up_shapes)
    out, out_back = rank.linears((shard.tokens, model.hidden, model.heads * latent.value_head / shard.tensor))
    ranks = latent.query_rank + latent.key_value_rank
    low = (2.0 + rank.input_bytes) * ranks * own + 2.0 * model.hidden * own
    expanded = 2.0 * model.heads * (2 * per_head_query + latent.value_head) / shard.tensor * shard.tokens
    return (
        Module("latent_down", down, down_back, kept_bytes=low, has_weights=True),
        Module(
            "latent_up", up, up_back, kept_bytes=-expanded, saved_bytes=expanded, redo=up,
            recompute=("mla_up_projection",), has_weights=True,
        ),
        Module("attention_output", out, out_back, has_weights=True),
    )  # fmt: skip


def attention(rank: Rank, model: Architecture, shard: Shard) -> tuple[Module, ...]:
    """Projections and core of the attention half of a layer."""
    core = _core_attention(rank, model, shard)
    if model.latent is None:
        return (*_plain_projections(rank, model, shard), core)
    return (*_latent_projections(rank, model, model.latent, shard), core)


def _wide(rank: Rank, model: Architecture, shard: Shard, width: float, recompute: str) -> tuple[Module, Module]:
    """A feed-forward of `width`, tensor-parallel: its two linear layers and the activation between them."""
    local = width / shard.tensor
    inputs = (model.matrices - 1) * local
    into, into_back = rank.linears((shard.tokens, inputs, model.hidden))
    out, out_back = rank.linears((shard.tokens, model.hidden, local))
    forward, backward = into + out, into_back + out_back
    ahead, back = activation_bytes(model, rank.stack.fused_activation)
    activate = vector(rank.chip, shard.tokens * local * ahead, 1) + rank.cast(shard.tokens * local)
    deactivate = vector(rank.chip, shard.tokens * local * back, 1) + rank.cast(shard.tokens * inputs)
    return (
        Module(
            "feed_forward", forward, backward, saved_bytes=2.0 * shard.tokens * inputs, redo=forward,
            unread=out, recompute=(recompute,), has_weights=True,
        ),
        Module(
            "activation", activate, deactivate,
            saved_bytes=rank.input_bytes * shard.tokens * local, redo=activate, recompute=("activation", recompute),
        ),
    )  # fmt: skip


def feed_forward(rank: Rank, model: Architecture, shard: Shard) -> tuple[Module, ...]:
    """The dense feed-forward."""
    return _wide(rank, model, shard, model.feed_forward, "feed_forward")


_EXPERT_TILE = 256.0 * 128.0  # outputs of a tile of a grouped matmul


def _permuted(stack: Stack, rows: Any, sent: Any, local: Any) -> Any:
    """Routed rows that permutes touch, of `rows` at the experts and `sent` by this rank.

    Around an all-to-all they are sorted by expert before they leave, and by local expert where they arrive, if there
    are several. Dispatchers that send one copy to a domain or rank lay rows out where they arrive.
    Source: MoEAlltoAllTokenDispatcher, megatron/core/transformer/moe/token_dispatcher.py of Megatron-Core.
    """
    if stack.dispatch != "all_to_all":
        return rows
    return 0.5 * (sent + rows * (local > 1))


def _routed(rank: Rank, model: Architecture, experts: Experts, shard: Shard, imbalance: float) -> tuple[Module, ...]:
    """Grouped matmuls of the routed experts, their activation, and the permutes around them.

    A grouped matmul pays 1 + a / max(waves of one expert, 1) [more than one expert] + rows0 / rows per expert over the
    same product done at once: many small problems with ragged tiles, each with a last wave of its own. The form without
    waves was fitted on 108 measured shapes of SimuMax, whose experts all fill less than a wave: median error 15 %.
    """
    chip, stack = rank.chip, rank.stack
    rows = shard.tokens / shard.tensor * experts.per_token * shard.expert_tensor
    local = np.maximum(experts.experts / shard.expert, 1.0)
    each = rows / local * imbalance
    width = experts.hidden / shard.expert_tensor
    inputs = (model.matrices - 1) * width
    fit = chip.calibration
    waves = np.maximum(each * inputs / (_EXPERT_TILE * chip.cores), 1.0)
    alone = fit.grouped_overhead * (local > 1) / waves
    ragged = 1.0 + stack.grouped_matmul * (alone + fit.grouped_overhead_rows / each)
    forward, backward = rank.linears((each, inputs, model.hidden), (each, model.hidden, width), batch=local)
    forward, backward = forward.slower(ragged), backward.slower(ragged)
    activate, deactivate = expert_activation(chip, stack, model, experts, rows * width)
    add, add_back = expert_bias(chip, stack, experts, rows * model.hidden)
    quantised = stack.expert_epilogue != "matmul"  # between the two matmuls, and between their backwards
    moved = 8.0 * _permuted(stack, rows, rows / shard.expert_tensor, local) * model.hidden * stack.permute_passes
    permute = gather(chip, moved, 4)
    forward = forward + rank.cast(rows * (model.hidden + width * quantised))
    backward = backward + rank.cast(rows * (model.hidden + inputs * quantised))
    return (
        Module(
            "experts", forward, backward, kept_bytes=rows * rank.input_bytes * model.hidden,
            saved_bytes=2.0 * rows * inputs, redo=forward, recompute=("experts",), has_weights=True,
        ),
        Module(
            "expert_activation", activate, deactivate,
            saved_bytes=rank.input_bytes * rows * width, redo=activate, recompute=("activation", "experts"),
        ),
        Module("expert_bias", add, add_back),
        Module("permute", permute, permute),
    )  # fmt: skip


def mixture(rank: Rank, model: Architecture, shard: Shard, imbalance: float) -> tuple[Module, ...]:
    """Router, routed experts and shared experts of a mixture layer."""
    experts = model.experts
    if experts is None:
        raise ValueError(f"{model.name} has no experts")
    own = shard.tokens / shard.tensor
    route = matmul(rank.chip, "bf16", own, experts.experts, model.hidden) + vector(
        rank.chip, 16.0 * own * experts.experts, 6
    )
    router = Module("router", route, route.times(2.0), kept_bytes=8.0 * own * experts.experts)
    shared = _wide(rank, model, shard, experts.shared_width, "shared_experts") if experts.shared_width else ()
    return (router, *_routed(rank, model, experts, shard, imbalance), *shared)
