"""What a serving engine does: one record per engine and release family. Sources stand in the catalogue's records."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Exchange = Literal["all_to_all", "gather"]
SharedExperts = Literal["local", "routed"]
TensorLayout = Literal["columns_rows", "weight_stationary_2d"]


@dataclass(frozen=True, slots=True)
class ServingStack:
    """Behaviour of a serving engine. Speeds are over those of the chip's calibration; 1 where nothing else is known."""

    name: str  # of the catalogue's file
    year: int = 2025  # since when
    # kernels
    matmul_speed: float = 1.0  # of linear layers
    expert_speed: float = 1.0  # of grouped matmuls
    widened_speed: float = 1.0  # of these, where narrow weights are widened to 16 bits in the kernel
    prefill_attention_speed: float = 1.0  # of attention of prompts
    decode_attention_speed: float = 1.0  # of attention over a cache
    narrow_attention: bool = False  # an 8-bit cache is multiplied in 8 bits
    repeated_reads: float = 0.0  # of a key head by the query heads that share it: 0 read once, 1 each for itself
    vector_passes: float = 1.0  # of decoding: element-wise kernels and traffic, over those of the usual fusions
    prefill_vector_passes: float = 1.0  # the same in passes with prompts
    compute_slowdown: float = 1.0  # gaps between kernels and stragglers, of everything that computes
    # host and launch
    launch_share: float = 1.0  # of the launches of kernels, the others hidden behind the kernels ahead of them
    layer_s: float = 0.0  # of a layer and pass: small kernels and gaps that no shape explains
    moe_layer_s: float = 0.0  # the same, on top, for routing and permutes of a mixture layer
    prefill_layer_s: float = 0.0  # least time of a layer of a pass with prompts: the host launches kernels one by one
    step_s: float = 1e-3  # of a pass: scheduling, sampling, output
    draft_s: float = 0.0  # of a pass, for each drafted token: a launch of the draft model, its sampling
    sequence_s: float = 0.0  # of a pass, for each sequence of an attention group
    request_s: float = 0.0  # of a request: tokenisation, admission, first schedule
    admission_passes: float = 0.5  # that a prompt waits for from its arrival to the first pass that takes it in
    burst_wait: float = 0.2  # share of requests that wait as users who start together do, where rounds are not known
    output_s: float = 0.0  # of an output token: its text and its way to the user, in one process beside the engine
    # communication
    collective_speed: float = 1.0  # of all-reduces in decoding, over the machine's
    prefill_collective_speed: float = 1.0  # the same in passes with prompts
    tensor_overlap: float = 0.0  # share of all-reduces hidden behind matmuls
    tensor_layout: TensorLayout = "columns_rows"  # of weights on the ranks of a group
    head_ranks: int = 1  # that divide the output head, where an attention group has fewer
    sequence_parallel: bool = False  # prompts: norms and residuals on a rank's own tokens
    exchange: Exchange = "all_to_all"  # of tokens between attention groups and experts
    dispatch_bytes: float = 1.0  # of an element sent to the experts, scales included
    combine_bytes: float = 2.0  # of an element that comes back
    dispatch_speed: float = 1.0  # of dispatch and combine, over the machine's
    decode_overlap: float = 0.0  # share of dispatch and combine hidden behind the other of two micro-batches
    prefill_overlap: float = 0.0  # the same in passes with prompts
    prefill_reserved_cores: float = 0.0  # share of the cores that dispatch takes while prompts overlap with it
    shared_experts: SharedExperts = "local"  # on every rank, or on ranks of their own that tokens are routed to
    shared_overlap: float = 0.0  # share of the shared experts' time hidden behind dispatch and combine
    pipeline_exposed: float = 1.0  # share of stage-to-stage transfers that is waited for
    # scheduling
    chunk: int = 8192  # prompt tokens of one pass where a layout does not say
    mixes_prompts: bool = True  # prompt chunks share a pass with decoding sequences; else they take turns
    max_sequences: int = 1024  # in flight in an attention group
    batching_loss: float = 0.0  # share of slots of a full batch that stand empty at unlimited load
    # memory
    base_bytes: float = 4e9  # context, kernels, graphs, communication buffers
    usable_memory: float = 0.90  # share of HBM that may be planned
    kv_block: int = 64  # tokens of a block of the cache


def all_hidden(stack: ServingStack) -> ServingStack:
    """The engine if all traffic hid behind compute and launches cost nothing; see `model.stack.all_hidden`."""
    return replace(
        stack, launch_share=0.0, layer_s=0.0, moe_layer_s=0.0, prefill_layer_s=0.0, tensor_overlap=1.0,
        decode_overlap=1.0, prefill_overlap=1.0, prefill_reserved_cores=0.0, shared_overlap=1.0, pipeline_exposed=0.0,
    )  # fmt: skip


def none_hidden(stack: ServingStack) -> ServingStack:
    """The engine if no traffic hid behind anything."""
    return replace(
        stack, launch_share=max(1.0, stack.launch_share), tensor_overlap=0.0, decode_overlap=0.0, prefill_overlap=0.0,
        shared_overlap=0.0, pipeline_exposed=1.0,
    )  # fmt: skip
