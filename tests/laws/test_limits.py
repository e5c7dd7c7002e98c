"""Ends of the axes: one rank, twice the batch, everything recomputed, everything sharded."""

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from model.layout import OFFLOADS, Layout, mask_of, recompute_code
from model.legality import legal
from model.step import training_step
from tests.laws.strategies import Case, at_most, cases

OPTIMIZER, ACTIVATIONS = (mask_of([name], OFFLOADS, "offload") for name in ("optimizer", "activations"))
COMMUNICATION = ("tensor", "context", "expert", "transfer", "bubble", "data")


@settings(max_examples=60)
@given(case=cases(rows=1), micro_batch=st.sampled_from((1, 2, 4)), zero_stage=st.integers(0, 3))
def test_a_single_rank_neither_talks_nor_waits(case: Case, micro_batch: int, zero_stage: int) -> None:
    """With every degree at one there is no communication, no bubble, and no link energy."""
    batches = np.array([1, 2, 8])
    layout = Layout(global_batch=micro_batch * batches, micro_batch=micro_batch, zero_stage=zero_stage)
    assert legal(case.training, layout).all()
    cost = training_step(case.system, case.stack, case.training, layout)
    parts = cost.time.parts()
    assert {name: parts[name].tolist() for name in COMMUNICATION if np.any(parts[name])} == {}
    assert not np.any(cost.energy.split.link)
    assert np.all(cost.step_time > 0)


@settings(max_examples=60)
@given(case=cases(), factor=st.sampled_from((2, 3, 10)))
def test_more_microbatches_cost_their_share(case: Case, factor: int) -> None:
    """A step's time is affine in its microbatches: n times the batch takes longer, and at most n times as long."""
    once = training_step(case.system, case.stack, case.training, case.layout).step_time
    larger = case.layout.with_(global_batch=case.layout.global_batch * factor)
    assert legal(case.training, larger).all()
    many = training_step(case.system, case.stack, case.training, larger).step_time
    at_most(case, once, many, f"step, and with {factor} x the batch")
    at_most(case, many, factor * once, f"step with {factor} x the batch, and {factor} steps")


def _with_activations_on_chip(case: Case) -> Case:
    return replace(case, layout=case.layout.with_(offload=case.layout.offload & OPTIMIZER))


@settings(max_examples=60)
@given(case=cases())
def test_offloading_frees_the_chip_and_is_paid_in_time(case: Case) -> None:
    """What goes to the host leaves the chip, takes time on the way, and is bounded by the host's memory."""
    here = case.layout.with_(offload=0 * case.layout.offload)
    at_home = training_step(case.system, case.stack, case.training, here)
    for what in (OPTIMIZER, ACTIVATIONS, OPTIMIZER | ACTIVATIONS):
        away = training_step(case.system, case.stack, case.training, here.with_(offload=here.offload + what))
        at_most(case, away.memory.total, at_home.memory.total, "memory with and without offloading")
        if case.system.host is None:
            assert (np.asarray(away.violations["host_bytes"]) >= 0).all()
        elif what == ACTIVATIONS:
            at_most(case, at_home.step_time, away.step_time, "step without and with offloaded activations")
        elif what == OPTIMIZER:
            assert not np.any(away.memory.split.optimizer)


@settings(max_examples=40)
@given(case=cases())
def test_the_more_layers_are_offloaded_the_more_the_chip_is_freed(case: Case) -> None:
    """Memory falls and time rises with the share of layers whose activations leave; none of them changes nothing."""
    here = case.layout.with_(offload=0 * case.layout.offload)
    away = here.with_(offload=here.offload + ACTIVATIONS)
    before = training_step(case.system, case.stack, case.training, here)
    for share in (0.0, 0.3, 0.6, 1.0):
        after = training_step(case.system, replace(case.stack, offload_share=share), case.training, away)
        at_most(case, after.memory.total, before.memory.total, f"memory with {share:.0%} of the layers offloaded")
        if share == 0:
            at_most(case, before.memory.total, after.memory.total, "memory with nothing offloaded")
        if case.system.host is not None:
            at_most(case, before.step_time, after.step_time, f"step with {share:.0%} of the layers offloaded")
        before = after


@settings(max_examples=60)
@given(case=cases())
def test_full_recomputation_trades_memory_for_time(case: Case) -> None:
    """Recomputing everything holds no more activations than recomputing nothing, and is never faster.

    Where activations go to the host and back, less of them saves time too.
    """
    case = _with_activations_on_chip(case)
    nothing = case.layout.with_(recompute=0 * case.layout.recompute)
    everything = case.layout.with_(recompute=0 * case.layout.recompute + recompute_code(["full"]))
    none = training_step(case.system, case.stack, case.training, nothing)
    full = training_step(case.system, case.stack, case.training, everything)
    at_most(
        case,
        full.memory.split.activations,
        none.memory.split.activations,
        "activations of full and of no recomputation",
    )
    at_most(case, none.step_time, full.step_time, "step with no and with full recomputation")


@settings(max_examples=25)
@given(case=cases())
def test_recomputing_one_more_module_trades_memory_for_time(case: Case) -> None:
    """Each module that is recomputed frees memory, or nothing, and never saves time, where activations stay."""
    case = _with_activations_on_chip(case)
    for module in ("core_attention", "norm", "activation", "feed_forward", "experts", "shared_experts"):
        bit = recompute_code([module])
        without = case.layout.with_(recompute=case.layout.recompute & ~1 & ~bit)
        less = training_step(case.system, case.stack, case.training, without)
        more = training_step(case.system, case.stack, case.training, without.with_(recompute=without.recompute | bit))
        at_most(case, more.memory.total, less.memory.total, f"memory with and without {module} redone")
        at_most(case, less.step_time, more.step_time, f"step without and with {module} redone")


@settings(max_examples=60)
@given(case=cases())
def test_sharding_more_states_never_holds_more(case: Case) -> None:
    """Each ZeRO stage holds no more states than the one before; ZeRO-3 gathers layers, so its buffers may grow."""
    held = []
    for stage in range(4):
        layout = case.layout.with_(zero_stage=0 * case.layout.zero_stage + stage)
        held.append(training_step(case.system, case.stack, case.training, layout).memory.split)
    single = case.layout.pipeline_parallel == 1  # elsewhere the fullest stage may be another one
    for stage in (1, 2, 3):
        less, more = held[stage], held[stage - 1]
        states = [used.weights + used.gradients + used.optimizer for used in (less, more)]
        at_most(case, states[0] * single, states[1] * single, f"states of ZeRO {stage} and {stage - 1}")
    at_most(case, held[1].total, held[0].total, "memory of ZeRO 1 and 0")
    at_most(case, held[2].total, held[1].total, "memory of ZeRO 2 and 1")


@settings(max_examples=60)
@given(case=cases())
def test_sequence_parallelism_never_holds_more(case: Case) -> None:
    """Splitting norms and residuals over the tensor-parallel ranks frees memory, or nothing."""
    split = case.with_layout(sequence_parallel=np.where(case.layout.tensor_parallel > 1, 1, 0))
    whole = split.layout.with_(sequence_parallel=0 * split.layout.tensor_parallel)
    with_it = training_step(case.system, case.stack, case.training, split.layout).memory
    without = training_step(case.system, case.stack, case.training, whole).memory
    at_most(split, with_it.total, without.total, "memory with and without sequence parallelism")


@settings(max_examples=40)
@given(case=cases(models=("deepseek-v3", "mixtral-8x7b", "qwen3-235b-a22b", "gpt-oss-120b")))
def test_routed_rows_travel_to_the_ranks_that_hold_their_experts(case: Case) -> None:
    """Experts that lie on several ranks, whole or in slices, are reached by traffic, and traffic takes time."""
    layout = case.layout
    spread = layout.expert_parallel * layout.expert_tensor_parallel > 1
    rows = np.flatnonzero(spread & (layout.tensor_parallel == 1))
    open_ = replace(case.stack, expert_overlap=0.0)
    seconds = training_step(case.system, open_, case.training, layout.take(rows)).time.expert
    silent = rows[np.broadcast_to(seconds, rows.shape) <= 0]
    assert silent.size == 0, f"{silent.size} of {rows.size} of {case!r}, as in {case.row(silent[0])}"


@settings(max_examples=60)
@given(case=cases())
def test_fusing_and_hiding_never_slow_a_step(case: Case) -> None:
    """Kernels apart, gathers that are waited for, and matmuls done again cost time or nothing."""
    case = _with_activations_on_chip(case)  # what is redone needs no way to the host
    good = replace(
        case.stack, fused_norm=True, fused_activation=True, fused_rotary=True, fused_accumulation=True,
        gather_overlap=True, recompute_pruned=True, redone_matmuls=0.0,
    )  # fmt: skip
    best = training_step(case.system, good, case.training, case.layout)
    worse = {
        **{f"fused_{what}": False for what in ("norm", "activation", "rotary", "accumulation")},
        "gather_overlap": False, "recompute_pruned": False, "redone_matmuls": 0.4,
    }  # fmt: skip
    for field, value in worse.items():
        cost = training_step(case.system, replace(good, **{field: value}), case.training, case.layout)
        at_most(case, best.step_time, cost.step_time, f"step with and without {field}")
        at_most(case, cost.memory.total, best.memory.total, f"memory with and without {field}")


@settings(max_examples=60)
@given(case=cases())
def test_stopping_early_saves_less_than_recomputing_saves(case: Case) -> None:
    """Recomputation that stops before the last matmul takes no longer than the whole, and longer than none."""
    case = _with_activations_on_chip(case)
    full = case.layout.with_(recompute=0 * case.layout.recompute + recompute_code(["full"]))
    none = case.layout.with_(recompute=0 * case.layout.recompute)
    early = replace(case.stack, recompute_pruned=True)
    stopped = training_step(case.system, early, case.training, full).step_time
    whole = training_step(case.system, replace(case.stack, recompute_pruned=False), case.training, full).step_time
    at_most(case, stopped, whole, "step that stops early and one that does not")
    at_most(case, training_step(case.system, early, case.training, none).step_time, stopped, "without and with it")
