"""What the software of a published run is taken to do where the source does not say it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from model.layout import Layout
from model.stack import Stack
from model.step import training_step
from model.workload import Training
from sweep import catalogue
from sweep.case_layouts import question
from sweep.flags import applied
from sweep.recipes import recipes, settings

MIXTURE: dict[str, Any] = {
    "arch": {
        "layers": 8, "hidden": 2048, "heads": 16, "vocab": 32000,
        "moe": {"experts": 8, "experts_per_token": 2, "moe_ffn_hidden": 8192},
    },
    "chip": "h100_sxm", "num_chips": 16, "seq_len": 4096, "global_batch": 64, "micro_batch": 1, "tp": 4, "ep": 4,
    "software": {"framework": "megatron-bridge", "release": "25.11"},
}  # fmt: skip


def test_every_size_is_within_what_it_stands_for() -> None:
    """Shares lie between nothing and all; a permute fused into the dispatcher moves less than separate ones."""
    sizes = recipes()
    assert all(0.0 <= share <= 1.0 for share in (sizes.expert_overlap, sizes.tensor_overlap, sizes.gradient_overlap))
    assert sizes.hybrid_ep_passes < sizes.deep_ep_passes < sizes.all_to_all_passes


def test_a_stated_recipe_goes_before_what_is_usual() -> None:
    """The settings of a case are its own where it has any."""
    stated = {"cuda_graph_impl": "full_iteration"}
    assert settings({**MIXTURE, "extra": {"recipe_config": stated}}) == stated


@pytest.mark.parametrize(
    ("changes", "graphs", "overlaps", "dispatcher"),
    [
        ({"chip": "h100_sxm", "pp": 2, "vp": 4}, "none", True, None),
        ({"chip": "h100_sxm"}, "none", False, None),
        ({"chip": "gb200"}, "transformer_engine", False, "hybridep"),
        ({"chip": "b200", "pp": 2, "vp": 2}, "none", True, None),
        ({"chip": "gb200", "flags": ["token-drop MoE"]}, "none", False, None),
    ],
)
def test_an_unknown_recipe_is_what_recipes_share(
    changes: dict[str, Any], graphs: str, overlaps: bool, dispatcher: str | None
) -> None:
    """Graphs, overlap and dispatcher of Megatron-Bridge's performance recipes, by machine."""
    found = settings(MIXTURE | changes)
    assert (found["cuda_graph_impl"], found["moe_a2a_overlap"]) == (graphs, overlaps)
    assert found.get("moe_flex_dispatcher_backend") == dispatcher


@pytest.mark.parametrize(
    ("recipe", "number_format", "epilogue"),
    [
        ({"cuda_graph_impl": "full_iteration"}, "mxfp8", "matmul"),
        ({"cuda_graph_impl": "full_iteration"}, "bf16", "operators"),
        ({"cuda_graph_impl": "transformer_engine"}, "mxfp8", "operators"),
        ({"cuda_graph_impl": "full_iteration", "use_transformer_engine_op_fuser": False}, "mxfp8", "operators"),
        ({"cuda_graph_impl": "none", "use_transformer_engine_op_fuser": True}, "mxfp8", "matmul"),
        ({"cuda_graph_impl": "none", "use_transformer_engine_op_fuser": True}, "bf16", "operators"),
    ],
)
def test_the_operation_fuser_takes_experts_in_mxfp8(recipe: dict[str, Any], number_format: str, epilogue: str) -> None:
    """As the recipe says, else with full-iteration graphs; never in formats that its kernels do not take."""
    case = MIXTURE | {"extra": {"recipe_config": recipe}, "number_format": number_format}
    assert applied(catalogue.stack("megatron-bridge-2026"), case)[0].expert_epilogue == epilogue


def test_nothing_is_assumed_of_other_frameworks_and_dense_models() -> None:
    """Only Megatron-Bridge's mixtures have usual settings."""
    assert not settings(MIXTURE | {"software": {"framework": "nemo"}})
    assert not settings(MIXTURE | {"arch": {"layers": 8}})


@pytest.mark.parametrize(("stack", "stated", "width"), [("nemo-2024", None, 4), ("nemo-2024", 1, 1)])
def test_experts_are_as_wide_as_tensor_parallelism_unless_stated(stack: str, stated: int | None, width: int) -> None:
    """Megatron-Core's default of the expert-tensor degree, where the ranks of a stage allow it."""
    case = MIXTURE | ({} if stated is None else {"etp": stated})
    assert np.all(question(case, catalogue.stack(stack), 1).layouts.expert_tensor_parallel == width)
    few = MIXTURE | {"num_chips": 8}
    assert np.all(question(few, catalogue.stack(stack), 1).layouts.expert_tensor_parallel == 1)


def test_stragglers_cost_the_same_share_each_time_that_nodes_double() -> None:
    """With nothing else that grows, a step of 8, 16 and 32 ranks grows by a constant share."""
    system = catalogue.system("dgx-h100")
    work = Training(catalogue.architecture("llama-3-8b"), 4096)
    replicas = np.array([8, 16, 32])
    layout = Layout(data_parallel=replicas, global_batch=8 * replicas, zero_stage=0 * replicas)
    with_them = training_step(system, Stack("slow", straggling=0.01), work, layout).time
    without = training_step(system, Stack("fast"), work, layout).time
    assert with_them.compute / without.compute == pytest.approx([1.0, 1.01, 1.02], rel=1e-3)


def test_packed_documents_attend_to_less_than_the_sequence() -> None:
    """A step over short documents takes less time than over one text, and one document as long as it the same."""
    system, stack, shape = catalogue.system("dgx-h100"), Stack("any"), catalogue.architecture("llama-3-8b")
    layout = Layout(global_batch=np.array([8]))
    seconds = [
        training_step(system, stack, Training(shape, 16384, document=length), layout).step_time
        for length in (500.0, 4000.0, 16384.0, 0.0)
    ]
    assert seconds[0] < seconds[1] < seconds[2] == seconds[3]
