"""Memory against the closed forms of the papers: activations of a GPT layer, bytes of state a parameter."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.architecture import Architecture
from model.cost import MemoryParts
from model.layout import SCHEDULES, Layout, recompute_code
from model.legality import legal
from model.stack import Stack
from model.step import training_step
from model.workload import Training
from sweep import catalogue
from tests.laws.strategies import MODELS, Case, at_most, cases

# Unfused attention, fp32 gradients and Adam moments, as in arXiv:2205.05198 and arXiv:1910.02054.
STACK = Stack("textbook", fused_attention=False, gradient_bytes=4.0, optimizer_bytes=12.0, base_bytes=0.0)
SYSTEM = catalogue.system("dgx-a100")
GPTS = ("gpt-3-175b", "megatron-22b", "megatron-175b", "megatron-530b", "megatron-1t")
ARCHITECTURES = {name: catalogue.architecture(name) for name in MODELS}


def gpt(name: str) -> Architecture:
    """A GPT as the paper counts it: dropout, and a feed-forward of four times the hidden size."""
    model = replace(ARCHITECTURES[name], dropout=True, gated=False)
    assert model.feed_forward == 4 * model.hidden
    assert model.heads * model.head_size == model.hidden
    return model


def used(model: Architecture, layout: Layout, sequence: int = 2048, stack: Stack = STACK) -> MemoryParts:
    """Memory of a legal layout."""
    training = Training(model, sequence)
    assert np.all(legal(training, layout)), layout
    return training_step(SYSTEM, stack, training, layout).memory.split


@pytest.mark.parametrize("name", GPTS)
@given(
    tensor=st.sampled_from((1, 2, 4, 8)), micro_batch=st.sampled_from((1, 2, 4)), sequence=st.sampled_from((1024, 2048))
)
def test_activations_of_a_gpt_layer_are_korthikantis(name, tensor, micro_batch, sequence) -> None:
    """A layer holds s b h (34 + 5 a s / h) / t bytes with sequence parallelism, else 10 + 24 / t + 5 a s / (h t).

    Selective recomputation drops the attention scores; full recomputation holds the layer's input, 2 s b h.
    """
    model = gpt(name)
    size = sequence * micro_batch * model.hidden
    scores = 5 * model.heads * sequence / model.hidden

    def held(sequence_parallel: int, *modules: str) -> float:
        layout = Layout(
            tensor_parallel=tensor, micro_batch=micro_batch, global_batch=micro_batch,
            sequence_parallel=sequence_parallel, recompute=recompute_code(modules),
        )  # fmt: skip
        return float(used(model, layout, sequence).activations) / model.layers

    if tensor > 1:
        assert held(1) == pytest.approx(size * (34 + scores) / tensor)
        assert held(1, "core_attention") == pytest.approx(size * 34 / tensor)
        assert held(1, "full") == pytest.approx(2 * size / tensor)
    assert held(0) == pytest.approx(size * (10 + 24 / tensor + scores / tensor))
    assert held(0, "core_attention") == pytest.approx(size * (10 + 24 / tensor))
    assert held(0, "full") == pytest.approx(2 * size)


@pytest.mark.parametrize("name", ["megatron-22b", "megatron-1t"])
@given(stages=st.sampled_from((2, 4, 8)), chunks=st.sampled_from((1, 2, 3)), groups=st.integers(2, 6))
def test_activations_of_a_pipeline_are_korthikantis(name, stages, chunks, groups) -> None:
    """The first stage holds p microbatches of its layers, and with v chunks 1 + (p - 1) / (p v) times as many."""
    model = replace(gpt(name), layers=48, vocabulary=64)
    layout = Layout(
        pipeline_parallel=stages, virtual_stages=chunks, global_batch=groups * stages,
        schedule=SCHEDULES.index("interleaved" if chunks > 1 else "1f1b"),
    )  # fmt: skip
    alone = float(used(model, Layout()).activations)
    more = 1 + (stages - 1) / (stages * chunks) if chunks > 1 else 1.0
    assert float(used(model, layout).activations) == pytest.approx(alone * more)


@pytest.mark.parametrize("name", MODELS)
def test_states_are_eighteen_bytes_a_parameter(name: str) -> None:
    """Unsharded mixed-precision training holds 2 + 4 + 12 bytes a parameter, and the optimizer's 12 are shared out."""
    model = replace(ARCHITECTURES[name], mtp_layers=0)
    for zero, data, of_each in ((0, 1, 18.0), (0, 8, 18.0), (1, 8, 6.0 + 12.0 / 8), (2, 8, 2 + 16 / 8), (3, 8, 18 / 8)):
        memory = used(model, Layout(data_parallel=data, global_batch=data, zero_stage=zero))
        states = memory.weights + memory.gradients + memory.optimizer
        assert float(states) == pytest.approx(of_each * model.parameters, rel=1e-12), (zero, data)


@pytest.mark.parametrize("name", ["llama-3.1-405b", "gpt-3-175b", "gpt-oss-120b"])
@given(tensor=st.sampled_from((2, 4, 8)), context=st.sampled_from((1, 2, 4)))
def test_tensor_ranks_hold_the_model_between_them(name: str, tensor: int, context: int) -> None:
    """The weights of the tensor-parallel ranks add up to the model's, whatever the context parallelism."""
    model = ARCHITECTURES[name]
    held = used(model, Layout(tensor_parallel=tensor, context_parallel=context, zero_stage=0)).weights
    router = 0 if model.experts is None else model.moe_layers * model.hidden * model.experts.experts
    routed = model.moe_layers * model.experts.experts * model.expert_parameters if model.experts else 0
    split = model.parameters - router - routed
    assert float(held) == pytest.approx(2.0 * (split / tensor + router + routed))


@settings(max_examples=60)
@given(case=cases())
def test_shards_hold_no_less_than_their_share(case: Case) -> None:
    """Without a pipeline a rank's weights are at least the model's, over the ranks that may share them."""
    rows = np.flatnonzero(case.layout.pipeline_parallel == 1)
    one = replace(case, layout=case.layout.take(rows))
    cost = training_step(case.system, case.stack, case.training, one.layout)
    at_most(
        one,
        2.0 * case.training.architecture.parameters / one.layout.ranks,
        cost.memory.split.weights,
        "share and weights",
    )


@settings(max_examples=60)
@given(case=cases())
def test_a_larger_microbatch_never_holds_less(case: Case) -> None:
    """Twice the sequences in a microbatch, and in the batch, hold as many bytes or more."""
    layout = case.layout
    double = layout.with_(micro_batch=2 * layout.micro_batch, global_batch=2 * layout.global_batch)
    once = training_step(case.system, case.stack, case.training, layout).memory.split
    twice = training_step(case.system, case.stack, case.training, double).memory.split
    at_most(case, once.total, twice.total, "memory, and with twice the microbatch")
    at_most(case, twice.total, 2.0 * once.total, "memory with twice the microbatch, and twice the memory")
