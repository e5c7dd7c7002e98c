"""What runs of JAX recompute, what a compiler leaves out of it, and slices of tori."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from model.architecture import Architecture
from model.evaluate import evaluate_training
from model.layout import Layout, recompute_code
from model.system import sliced
from model.workload import Training
from sweep import catalogue
from sweep.rematerialisation import offloaded_share, recomputed

DENSE = Architecture("dense", 8, 4096, 32, 8, 128, 14336, 32000)


def seconds(stack: str, modules: tuple[str, ...], **changes: Any) -> float:
    """Step time of a dense model on 64 TPU v5p with these modules recomputed."""
    layout = Layout(
        data_parallel=np.array([64]), micro_batch=4, global_batch=256, zero_stage=3, recompute=recompute_code(modules)
    )
    software = replace(catalogue.stack(stack), **changes)
    cost = evaluate_training(catalogue.system("tpu-v5p-pod"), software, Training(DENSE, 4096), layout)
    return float(cost.step_time[0])


@pytest.mark.parametrize(
    ("case", "modules"),
    [
        ({"extra": {"remat_policy": "full"}}, ("full",)),
        ({"extra": {"remat_policy": "minimal"}}, ("core_attention", "norm", "activation")),
        ({"flags": ["remat minimal_flash"]}, ("norm", "activation")),
        ({"extra": {"tuning_params": {"remat_policy": "custom", "decoder_layer_input": "offload"}}}, ("full",)),
        ({"flags": ["decoder_layer_input offloaded to host"]}, ("full",)),
        ({"notes": "MaxText remat_policy=of_our_own"}, None),
        ({"extra": {"remat_policy": "custom"}}, None),
        ({}, None),
    ],
)
def test_a_policy_recomputes_what_it_does_not_keep(case: dict[str, Any], modules: tuple[str, ...] | None) -> None:
    """Named policies and lists of kept tensors; an unknown name, or a custom policy without a list, says nothing."""
    assert recomputed(case) == modules


def test_what_a_custom_policy_keeps_is_not_computed_again() -> None:
    """Queries, keys and values in the host's memory leave the rest of the layer to be recomputed."""
    kept = dict.fromkeys(("query_proj", "key_proj", "value_proj"), "offload")
    found = recomputed({"extra": {"tuning_params": {"remat_policy": "custom", **kept}}})
    assert found is not None
    assert "query_key_value" not in found
    assert {"core_attention", "attention_output", "feed_forward"} <= set(found)


@pytest.mark.parametrize(
    ("case", "share"),
    [
        ({"flags": ["cpu offload 20 layers"], "arch": {"layers": 80}}, 0.25),
        ({"extra": {"recipe_config": {"cpu_offloading_num_layers": 40}}, "arch": {"layers": 80}}, 0.5),
        ({"flags": ["cpu offload 20 layers"]}, 0.0),
        ({"extra": {"remat_policy": "qkv_proj_offloaded"}}, 1.0),
        ({"flags": ["decoder_layer_input offloaded to host"]}, 1.0),
        ({"extra": {"tuning_params": {"remat_policy": "custom", "query_proj": "offload"}}}, 1.0),
        (
            {"extra": {"tuning_params": {"remat_policy": "custom", "query_proj": "offload", "out_proj": "device"}}},
            0.0,
        ),
        ({"extra": {"tuning_params": {"remat_policy": "custom", "decoder_layer_input": "device"}}}, 0.0),
        ({"extra": {"remat_policy": "full"}}, 0.0),
        ({}, 0.0),
    ],
)
def test_what_lies_in_the_hosts_memory_is_read(case: dict[str, Any], share: float) -> None:
    """By a number of layers, by the name of a policy, or by its list; a list of both places counts as the chip's."""
    assert offloaded_share(case) == share


def test_modules_of_a_dense_layer_add_up_to_all_of_it() -> None:
    """Recomputing every module takes as long as recomputing the layer, with and without a compiler that prunes."""
    parts = ("core_attention", "norm", "activation", "feed_forward", "query_key_value", "attention_output")
    for pruned in (False, True):
        whole = seconds("maxtext", ("full",), recompute_pruned=pruned)
        assert seconds("maxtext", parts, recompute_pruned=pruned) == pytest.approx(whole, rel=0.02)


def test_pruning_saves_one_projection_of_the_feed_forward() -> None:
    """A compiler that prunes recomputes less, and more than nothing."""
    none, pruned, whole = (
        seconds("maxtext", modules, recompute_pruned=prune)
        for modules, prune in (((), True), (("full",), True), (("full",), False))
    )
    assert none < pruned < whole


@pytest.mark.parametrize(
    ("system", "ranks", "shape"),
    [
        ("tpu-v5p-pod", 512, (8, 8, 8)),
        ("tpu-v5p-pod", 128, (4, 4, 8)),
        ("tpu-v4-pod", 192, (4, 4, 12)),
        ("tpu-v6e-pod", 32, (4, 8)),
        ("tpu-v6e-pod", 256, (16, 16)),
        ("tpu-v6e-pod", 512, (16, 16)),
    ],
)
def test_a_slice_is_a_torus_of_even_axes(system: str, ranks: int, shape: tuple[int, ...]) -> None:
    """Slices have as many ranks as a job on them; a whole torus, or more than one, stays as it is."""
    torus = sliced(catalogue.system(system), ranks).tiers[0]
    assert tuple(torus.shape) == shape
    assert torus.ranks == min(ranks, catalogue.system(system).tiers[0].ranks)
    assert int(np.prod(torus.shape)) == torus.ranks


def test_more_of_the_gathers_exposed_is_never_faster() -> None:
    """What never hides of the traffic of sharded weights adds to the step."""
    times = [seconds("maxtext", ("full",), fsdp_exposed=share) for share in (0.0, 0.3, 1.0)]
    assert times == sorted(times)
    assert times[0] < times[-1]
