"""Laws of fully sharded data parallelism: what never hides, what hybrid shards save, what recomputation costs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from model.cost import StepCost
from model.layout import Layout, recompute_code
from model.stack import Stack
from model.step import training_step
from model.workload import Training
from sweep import catalogue

SYSTEM = catalogue.system("dgx-a100")
MODEL = catalogue.architecture("llama-2-7b")
STACK = replace(catalogue.stack("fms-fsdp"), straggling=0.0)


def step(stack: Stack = STACK, sequence: int = 4096, nodes: float = 16, wire: float = 1.0, **layout: int) -> StepCost:
    """A step of Llama 2 7B with one sequence a chip, on a network `wire` times as fast."""
    ranks = int(8 * nodes)
    outer = replace(SYSTEM.tiers[-1], bandwidth=SYSTEM.tiers[-1].bandwidth * wire)
    system = replace(SYSTEM, tiers=(*SYSTEM.tiers[:-1], outer))
    placed = Layout(data_parallel=ranks, global_batch=ranks, micro_batch=1, **({"zero_stage": 3} | layout))
    return training_step(system, stack, Training(MODEL, sequence), placed)


def test_gathers_that_outlast_compute_set_the_pace() -> None:
    """On a network a hundred times slower a step takes its traffic: half as fast again, twice as long."""
    slow, slower = (float(step(wire=wire).step_time) for wire in (0.01, 0.005))
    assert slower / slow == pytest.approx(2.0, rel=0.05)


def test_hidden_gathers_cost_no_more_than_first_last_and_what_they_take_from_kernels() -> None:
    """Long sequences hide traffic: ten times the network saves less than a tenth of the step."""
    plain, faster = (float(step(sequence=16384, wire=wire).step_time) for wire in (1.0, 10.0))
    assert faster <= plain < 1.1 * faster


@pytest.mark.parametrize("sequence", [512, 2048, 8192])
def test_a_faster_network_never_slows(sequence: int) -> None:
    """Waiting falls as the network's bandwidth grows, where compute hides traffic and where it does not."""
    times = [float(step(sequence=sequence, wire=wire).step_time) for wire in (0.05, 0.2, 0.5, 1.0, 2.0, 8.0)]
    assert times == sorted(times, reverse=True)


def test_hybrid_shards_trade_memory_for_traffic_between_nodes() -> None:
    """Shards of a node leave gathers inside it, and hold more of the states than shards over all chips."""
    hybrid = replace(STACK, shard_ranks=8)
    assert float(step(hybrid, sequence=512).step_time) < float(step(sequence=512).step_time)
    assert float(step(hybrid).memory.total) > float(step().memory.total)
    one_node, same = (float(step(stack, nodes=1).step_time) for stack in (hybrid, STACK))
    assert one_node == pytest.approx(same)


def test_recomputing_a_share_of_layers_lies_between_none_and_all() -> None:
    """Time and memory of a share are that share of the way from no recomputation to that of all layers."""
    full = recompute_code(["full"])
    none, whole = step(), step(recompute=full)
    half = step(replace(STACK, recompute_share=0.5), recompute=full)
    assert float(half.time.compute) == pytest.approx(np.mean([float(none.time.compute), float(whole.time.compute)]))
    assert float(whole.memory.total) < float(half.memory.total) < float(none.memory.total)


def test_recomputing_never_saves_time_beside_gathers() -> None:
    """Recomputation lengthens the backward, which may hide more for it, but never more than the recomputation takes.

    Experts in slices wait for traffic rather than compute, so that modules are a larger share of FLOPs than of time.
    """
    system, stack = catalogue.system("atlas-800t-a2"), catalogue.stack("megatron-core-eager-2025")
    masks = [recompute_code(names) for names in ((), ("norm",), ("norm", "core_attention"), ("full",))]
    degrees = {"tensor_parallel": 8, "context_parallel": 2, "expert_parallel": 2, "expert_tensor_parallel": 64}
    layout = Layout(**degrees, data_parallel=16, global_batch=256, zero_stage=3, recompute=np.array(masks))
    for wire in np.geomspace(0.1, 10.0, 30):
        outer = replace(system.tiers[-1], bandwidth=system.tiers[-1].bandwidth * wire)
        machine = replace(system, tiers=(*system.tiers[:-1], outer))
        times = training_step(machine, stack, Training(catalogue.architecture("deepseek-r1"), 2048), layout).step_time
        assert times.tolist() == sorted(times.tolist()), f"network of {wire:.3g} of its bandwidth"
