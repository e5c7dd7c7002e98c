"""What the software does: one record per stack and release family.

A stack explains more of a step's time than any single hardware constant: what it overlaps, launches, stores and fuses.
Every record in the catalogue names its sources. A study takes the system's default stack or names one; a published
run's own flags replace single fields.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Dispatch = Literal["all_to_all", "per_rank", "per_node"]
Epilogue = Literal["operators", "kernel", "matmul"]


@dataclass(frozen=True, slots=True)
class Stack:
    """Behaviour of a training framework. Fractions are of the traffic or time that they name."""

    name: str
    year: int = 2024
    # kernels
    fused_attention: bool = True  # flash attention; False: batched matmuls, softmax and dropout on the scores
    native_attention: bool = True  # attention kernels written for the chip's own generation
    head_size_matters: bool = True  # larger heads run fused attention faster; False: FlashAttention of 2022, Triton's
    attention_speed: float = 1.0  # of fused attention, over the kernels that the chip's calibration was measured with
    fused_norm: bool = True  # one kernel; False: a chain of element-wise ones in fp32
    fused_activation: bool = True  # of gated feed-forwards; False: activation and product are kernels of their own
    expert_epilogue: Epilogue = "kernel"  # of experts, see `model.epilogue`
    fused_rotary: bool = True  # False: halves turned, multiplied and added one by one
    fused_accumulation: bool = True  # weight gradients are added to fp32 by the matmul; False: by a kernel after it
    attention_backward_speed: float = 1.0  # of its backward, beside attention_speed
    window_speed: float = 1.0  # of sliding-window attention, over kernels that skip all keys outside the window
    compute_slowdown: float = 1.06  # gaps between kernels and stragglers inside a node
    loss_bytes_per_logit: float = 18.0  # memory traffic of the loss: 18 fused, 40 to 56 unfused
    cast_fused: bool = False  # quantisation for 8- and 4-bit matmuls fused into the producing kernels
    permute_passes: float = 1.5  # reads and writes of the routed rows by permute and unpermute, of one each
    grouped_matmul: float = 1.0  # multiplies the grouped-matmul penalty (newer libraries: below 1)
    recompute_pruned: bool = False  # a compiler, or an early stop, drops what no gradient needs: the last projection
    cast_passes: float = 1.0  # quantisations of an input or a gradient, over one pass with a scale known beforehand
    reserved_cores: float = 0.0  # share of the cores given to communication kernels for the whole step
    # host
    host_layer_s: float = 0.0  # eager launch floor of a dense layer, forward and backward
    host_moe_layer_s: float = 0.0  # the same for a mixture layer
    moe_sync_s: float = 0.0  # device-to-host copy of a dropless dispatcher, per mixture layer and microbatch
    straggling: float = 0.0  # time added per doubling of the nodes of eight ranks that wait for each other
    step_fixed_s: float = 5e-3  # data loading, logging, optimizer launch
    # tensor parallel
    tensor_overlap: float = 0.0  # forward and exposed backward collectives hidden behind pipelined matmuls
    tensor_backward_overlap: bool = True  # weight-gradient matmuls hide the regather and the reduce-scatter
    all_reduce_backward_overlap: bool = True  # the same for the all-reduce without sequence parallelism
    # context and expert parallel
    context_overlap: float = 0.8  # share of the attention time behind which ring traffic hides
    context_exposed: float = 0.3  # share of ring traffic that never hides
    dispatch: Dispatch = "all_to_all"
    dispatch_bytes: float = 2.0  # bytes per element sent to the experts
    node_limit: float = 99.0  # domains that a token may visit (node-limited routing)
    expert_overlap: float = 0.0  # share of dispatch and combine hidden behind the other microbatch
    # pipeline
    pipeline_exposed: float = 1.0  # share of stage-to-stage transfers that is waited for
    transfer_sync_s: float = 0.0  # device synchronisation after an exchange between stages
    scatter_gather: bool = True  # without SP: send 1/t and gather inside the tensor group
    balanced_stages: bool = False  # custom stage layout that evens out embedding, head and MTP
    # data parallel
    gradient_overlap: float = 0.0  # share of the last backward and first forward behind which DP traffic hides
    gather_overlap: bool = True  # ZeRO-1's gather of updated weights hides as well; False: the step waits for it
    gradient_wire_bytes: float = 4.0  # bytes per gradient element on the wire
    parameter_wire_bytes: float = 2.0
    fsdp_overlap: float = 0.9  # share of compute behind which ZeRO-2/3 traffic hides
    fsdp_exposed: float = 0.0  # share of ZeRO-3 traffic that never hides, besides that of the first and last layer
    fsdp_contention: float = 0.0  # compute time lost beside hidden ZeRO-3 traffic, of its time inside the domain
    fsdp_rate: float = 1.0  # of collectives between nodes under ZeRO-3, over large ones that run alone
    fsdp_node_s: float = 0.0  # latency that each node of a ring adds to a gather or scatter of a layer
    shard_ranks: int = 0  # ZeRO-3 shards over so many ranks, whose groups all-reduce gradients; 0: over all
    # memory
    gradient_bytes: float = 4.0  # stored bytes per gradient element
    optimizer_bytes: float = 12.0  # fp32 master, first and second moment
    logit_bytes: float = 6.0  # stored bytes per logit: 16 bits and fp32
    base_bytes: float = 1.5e9  # context, kernels, communication buffers
    usable_memory: float = 0.95  # share of HBM that may be planned (fragmentation)
    redone_matmuls: float = 0.0  # of linear layers, done again with the activation: policies that save the rest
    selective_recompute: tuple[str, ...] = ("core_attention",)  # what "selective" means here
    wider_recompute: tuple[str, ...] = ()  # what users take next, before everything; none: there is no such step
    recompute_share: float = 1.0  # share of the layers that recompute
    offload_share: float = 1.0  # share of the layers whose activations leave for the host, where they do
    # what the stack does where a study or a published run does not say
    sequence_parallel: bool = True  # with tensor parallelism
    interleaves: bool = True  # the number of model chunks is tuned with the pipeline
    experts_follow_tensor: bool = False  # expert-tensor parallelism is as wide as tensor parallelism
    zero_stage: int = 1
    recomputes: bool = False  # at least what "selective" means
    fits_within: float = 2.0  # of the chip's memory, as predicted: a compiler that plans memory wastes less of it
    accumulates: bool = True  # gradients over several microbatches; False: the batch of a replica goes through at once
    dropout: bool = False
    tuning_document: float = 0.0  # tokens of the documents that fine-tuning packs into a sequence; 0: it does not pack


def all_hidden(stack: Stack) -> Stack:
    """The stack if all traffic hid behind compute, as far as there is compute to hide it, and launches cost nothing.

    What a layout gives up stays given up: overlaps that it turns off, and the idle time of its schedule. The upper end
    is `none_hidden`: between the two lies whatever software can do, as in the bounds of the JAX scaling book
    (jax-ml.github.io/scaling-book/roofline): the longest of compute and traffic at least, their sum at most.
    """
    return replace(
        stack, host_layer_s=0.0, host_moe_layer_s=0.0, moe_sync_s=0.0, transfer_sync_s=0.0, tensor_overlap=1.0,
        tensor_backward_overlap=True, all_reduce_backward_overlap=True, context_overlap=1.0, context_exposed=0.0,
        expert_overlap=1.0, pipeline_exposed=0.0, gradient_overlap=1.0, gather_overlap=True, fsdp_overlap=1.0,
        fsdp_exposed=0.0, fsdp_contention=0.0,
    )  # fmt: skip


def none_hidden(stack: Stack) -> Stack:
    """The stack if no traffic hid behind anything; see `all_hidden`."""
    return replace(
        stack, tensor_overlap=0.0, tensor_backward_overlap=False, all_reduce_backward_overlap=False,
        context_overlap=0.0, context_exposed=1.0, expert_overlap=0.0, pipeline_exposed=1.0, gradient_overlap=0.0,
        gather_overlap=False, fsdp_overlap=0.0,
    )  # fmt: skip
