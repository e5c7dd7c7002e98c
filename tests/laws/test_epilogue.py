"""What follows the matmuls of experts: where biases and clamps run, and what they cost."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest

from model.architecture import Architecture, Experts
from model.epilogue import expert_activation, expert_bias
from model.evaluate import evaluate_training
from model.layout import Layout
from model.stack import Epilogue, Stack
from model.workload import Training
from sweep import catalogue

PLAIN = Experts(experts=32, per_token=4, hidden=2880)
WITH_ALL = replace(PLAIN, biases=True, clamped=True)
H100 = catalogue.system("dgx-h100")


def model(experts: Experts) -> Architecture:
    """A mixture with these experts."""
    return replace(catalogue.architecture("gpt-oss-20b"), experts=experts)


def step(experts: Experts, epilogue: Epilogue, number_format: str = "bf16") -> float:
    """Seconds of a step of a mixture on 8 H100."""
    training = Training(model(experts), 4096, number_format)
    layout = Layout(data_parallel=8, expert_parallel=8, micro_batch=1, global_batch=64)
    stack = Stack("stack", expert_epilogue=epilogue)
    return float(evaluate_training(H100, stack, training, layout).step_time[0])


@pytest.mark.parametrize("number_format", ["bf16", "fp8"])
def test_less_is_fused_never_sooner(number_format: str) -> None:
    """Operators of their own take longest; what the matmul does on the side takes no time beside it."""
    operators, kernel, matmul = (step(WITH_ALL, one, number_format) for one in get_args(Epilogue))
    assert operators > kernel > matmul


def test_experts_without_biases_and_clamps_need_no_operators() -> None:
    """Where there is nothing to add or to clamp, operators cost nothing."""
    assert step(PLAIN, "operators") == step(PLAIN, "kernel")


@pytest.mark.parametrize("detail", ["biases", "clamped"])
@pytest.mark.parametrize("epilogue", ["kernel", "matmul"])
def test_fused_details_are_free(detail: str, epilogue: Epilogue) -> None:
    """A bias or a clamp in a kernel that runs anyway takes no time; as operators each takes some."""
    experts = replace(PLAIN, **{detail: True})
    assert step(experts, epilogue) == step(PLAIN, epilogue)
    assert step(experts, "operators") > step(PLAIN, "operators")


def test_bytes_of_the_operators() -> None:
    """Traffic per element as counted from the code: clamp and join both halves; widen, weight, add, join and round."""
    stack = Stack("stack", expert_epilogue="operators")
    chip, shapes, elements = H100.chip, model(WITH_ALL), 1e6
    plain = expert_activation(chip, stack, shapes, PLAIN, elements)
    clamped = expert_activation(chip, stack, shapes, WITH_ALL, elements)
    added = [(one.hbm_bytes - other.hbm_bytes) / elements for one, other in zip(clamped, plain, strict=True)]
    assert added == pytest.approx([2 * (2 + 2) + 2 * (2 + 2), 2 * (2 + 2 + 2) + 2 * (2 + 2)])
    widened, rounded, joined, summed = 2 + 4, 4 + 2, 4 + 4, 4 + 4 + 4
    bias = [one.hbm_bytes / elements for one in expert_bias(chip, stack, WITH_ALL, elements)]
    assert bias == pytest.approx([4 + (widened + 4) + joined + rounded, widened + rounded + 4 + 2 * summed])
