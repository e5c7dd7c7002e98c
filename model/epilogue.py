"""What follows the matmuls of a feed-forward: the activation; of routed experts also clamp, bias and quantisation.

What runs each of them, by `Stack.expert_epilogue`:

============  =========================  ===================================  ========================
epilogue      activation, quantisation   clamp of the activation's inputs     bias of what experts put out
============  =========================  ===================================  ========================
operators     kernels of their own       operators of their own               operators of their own
kernel        kernels of their own       in the activation's kernel           in the permute's kernel
matmul        in the grouped matmul      in the grouped matmul                in the grouped matmul
============  =========================  ===================================  ========================

Operators are counted from megatron/core/transformer/moe/experts.py and megatron/core/fusions/fused_bias_geglu.py of
Megatron-Core: both halves are clamped and joined again; the bias, times a probability in fp32, is added expert by
expert in fp32, then joined and rounded. In the matmul: grouped linear layers of Transformer Engine's operation fuser.
"""

from __future__ import annotations

from typing import Any

from model.architecture import Architecture, Experts
from model.chip import Chip
from model.stack import Stack
from model.vector import vector
from model.work import NOTHING, Work

# bytes of an input of the activation: clamp reads and writes 2 each, joining the halves again as much; its backward
# reads gradient and input and writes 2, and joins
_CLAMP, _CLAMP_BACKWARD, _CLAMP_KERNELS = 8.0, 10.0, 3
# bytes of an output: the product is written in fp32 (4), added (2 + 4, 4), joined (8) and rounded (6)
_BIAS, _BIAS_KERNELS = 28.0, 4
# widened (6), rounded for the outputs (6) and joined (4); two products, for the bias's own gradient and for that of the
# probabilities, are written and summed (12 each)
_BIAS_BACKWARD = 40.0


def activation_bytes(model: Architecture, fused: bool) -> tuple[float, float]:
    """Bytes moved per element of the activation, forward and backward.

    Unfused, a gated one writes the activated half and reads it again; its backward is three products, after which the
    two halves are copied into one gradient.
    """
    if not model.gated:
        return 4.0, 6.0
    return (6.0, 10.0) if fused else (10.0, 26.0)


def expert_activation(chip: Chip, stack: Stack, model: Architecture, experts: Experts, out: Any) -> tuple[Work, Work]:
    """Forward and backward of the experts' activation, of which a rank puts out `out` elements."""
    if stack.expert_epilogue == "matmul":
        return NOTHING, NOTHING
    ahead, back = activation_bytes(model, stack.fused_activation)
    forward, backward = vector(chip, out * ahead, 1), vector(chip, out * back, 1)
    if experts.clamped and stack.expert_epilogue == "operators":
        inputs = (model.matrices - 1) * out
        forward = forward + vector(chip, _CLAMP * inputs, _CLAMP_KERNELS)
        backward = backward + vector(chip, _CLAMP_BACKWARD * inputs, _CLAMP_KERNELS)
    return forward, backward


def expert_bias(chip: Chip, stack: Stack, experts: Experts, out: Any) -> tuple[Work, Work]:
    """Forward and backward of adding each expert's bias to what the experts put out, `out` elements on a rank."""
    if not experts.biases or stack.expert_epilogue != "operators":
        return NOTHING, NOTHING
    return vector(chip, _BIAS * out, _BIAS_KERNELS), vector(chip, _BIAS_BACKWARD * out, 2 * _BIAS_KERNELS)
