"""How a published serving run is read: engine, formats, layout, traffic, batch. Rules, no case by its name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sweep import catalogue
from sweep.case_drafts import acceptance
from sweep.case_schema import read_serving
from sweep.chip_names import CHIP_SYSTEMS
from sweep.engine_choice import choose
from sweep.serving_cases import ServingQuestion, kind_of, serving_question
from sweep.validation import predict

SHIPPED = Path(__file__).parents[1] / "published" / "serving_cases.jsonl"
CASES = {case["id"]: case for case in map(json.loads, SHIPPED.read_text("utf-8").splitlines())}

DENSE = {"layers": 32, "hidden": 4096, "ffn_hidden": 14336, "heads": 32, "kv_heads": 8, "vocab": 128256}
MIXTURE = CASES["deepseek-profile-decode"]["arch"]


def case(**changes: Any) -> dict[str, Any]:
    """A decode run on 8 H100 with some fields changed."""
    plain = {
        "id": "x", "phase": "decode", "chip": "h100_sxm", "num_chips": 8, "tp": 8, "arch": DENSE, "kv_len": 1000,
        "batch": {"global": 64}, "software": {"framework": "vllm", "release": "0.10"}, "target": {"tpot_s": 0.01},
        "precision": {"weights": "bf16", "activations": "bf16", "kv": "bf16"},
    }  # fmt: skip
    return {**plain, **changes}


def asked(**changes: Any) -> ServingQuestion:
    """The question of such a run."""
    return serving_question(read_serving(case(**changes)))


def layout(question: ServingQuestion) -> tuple[int, ...]:
    """Tensor parallelism, pipeline stages, attention groups and expert parallelism of its first layout."""
    instance = question.instance
    fields = (instance.tensor_parallel, instance.pipeline_parallel, instance.data_parallel, instance.expert_parallel)
    return tuple(int(np.asarray(field).reshape(-1)[0]) for field in fields)


# ------------------------------------------------------------------------------------------------ engine
@pytest.mark.parametrize(
    ("chip", "changes", "engine"),
    [
        ("h100_sxm", {"software": {"framework": "vllm", "release": "0.6.3"}}, "vllm-2024"),
        ("h100_sxm", {"software": {"framework": "vllm", "release": "v0.11.0"}}, "vllm-2025"),
        ("h100_sxm", {"software": {"framework": "vllm", "year": 2024}}, "vllm-2024"),
        ("mi300x", {"software": {"framework": "vllm", "year": 2024}}, "vllm-rocm-2024"),
        ("mi300x", {"software": {"framework": "vllm", "year": 2024}, "flags": ["--enforce-eager"]},
         "vllm-rocm-eager-2024"),
        ("mi300x", {"group": "dstack", "software": None, "notes": "vLLM 0.6.3.post2; README passes --enforce-eager"},
         "vllm-rocm-eager-2024"),
        ("h100_sxm", {"group": "dstack", "software": None, "notes": "vLLM 0.6.3; H100 command has CUDA graphs on"},
         "vllm-2024"),
        ("b200", {"software": None, "notes": "trtllm 1.2.0rc6; nvidia-gap-analysis"}, "tensorrt-llm-2026"),
        ("h100_sxm", {"software": None, "group": "trtllm-static", "source": {"title": "performance.md (v0.6.1)"}},
         "tensorrt-llm-2023"),
        ("h200", {"software": None, "notes": "sglang 0.5.9; image=x"}, "sglang-2026"),
        ("h200", {"software": {"framework": "sglang", "release": "0.4.6"}}, "sglang-2025"),
        ("h200", {"software": {"framework": "sglang"}, "ep": 32}, "sglang-large-ep-2025"),
        ("ascend_910c", {"software": {"framework": "cloudmatrix384"}}, "cloudmatrix-infer-2025"),
        ("ascend_910b3", {"software": {"framework": "vllm", "year": 2025}}, "vllm-ascend-2025"),
        ("tpu_v4", {"software": {"framework": "palm-tpuv4"}}, "palm-tpu-2022"),
    ],
)  # fmt: skip
def test_the_engine_follows_from_framework_release_chip_and_run(
    chip: str, changes: dict[str, Any], engine: str
) -> None:
    """A named framework takes the record of its release, on the chips of its vendor."""
    found = choose(read_serving(case(chip=chip, **changes)), CHIP_SYSTEMS[chip][0])
    assert (found.name, found.why) == (engine, None)


def test_an_unknown_engine_is_the_nearest_and_said_so() -> None:
    """A framework without a record takes the machine's own engine; one that quotes another source is not its engine."""
    own = asked(software={"framework": "my-engine"})
    assert own.engine.name == catalogue.default_engine("dgx-h100")
    assert "engine nearest to 'my-engine'" in own.rules
    assert f"engine={own.engine.name}" in own.chosen
    quoted = {"chip": "h800", "transcription": "direct (paper quoting another source)", "group": "cloudmatrix384"}
    assert asked(**quoted).engine.name == "deepseek-2025"


# ------------------------------------------------------------------------------------------------ layout
@pytest.mark.parametrize(
    ("changes", "ranks", "expected"),
    [
        ({}, 8, (8, 1, 1, 1)),
        ({"tp": 4, "pp": 2}, 8, (4, 2, 1, 1)),
        ({"tp": 4}, 8, (4, 1, 2, 2 * 4)),  # two replicas
        ({"arch": MIXTURE, "ep": 8, "attention_dp": True}, 8, (1, 1, 8, 8)),  # tp counts the world
        ({"arch": MIXTURE, "ep": 8, "attention_dp": 8, "tp": 1}, 8, (1, 1, 8, 8)),
        ({"arch": MIXTURE, "features": {"attention_dp_enabled": True}}, 8, (1, 1, 8, 8)),
        ({"arch": MIXTURE, "tp": 8, "ep": 2, "features": {"moe_tp": 4}}, 8, (8, 1, 1, 2)),
        ({"arch": MIXTURE, "tp": None, "ep": 8}, 8, (1, 1, 8, 8)),
        ({"arch": MIXTURE, "tp": None, "dp": 8}, 8, (1, 1, 8, 8)),
        ({"arch": MIXTURE, "tp": 1, "dp": 32, "ep": 32, "num_chips": 16, "chip": "ascend_910c"}, 32, (1, 1, 32, 32)),
        ({"arch": MIXTURE, "tp": 16, "num_chips": 16, "chip": "ascend_910c_die"}, 16, (16, 1, 1, 1)),
        ({"tp": None, "notes": "assumed PP2 x TP4"}, 8, (4, 2, 1, 1)),
    ],
)
def test_degrees_are_read_as_each_source_means_them(
    changes: dict[str, Any], ranks: int, expected: tuple[int, ...]
) -> None:
    """World or group in tp, attention groups as a number or a flag, chips as packages or dies."""
    question = asked(**changes)
    assert layout(question)[:3] == expected[:3]
    assert int(np.asarray(question.instance.ranks).reshape(-1)[0]) == ranks
    if "arch" in changes:
        assert layout(question)[3] == expected[3]


def test_an_open_layout_is_tried_and_reported() -> None:
    """Without any degree a mixture is tried over all ranks and with attention groups; the fastest is named."""
    open_one = case(tp=None, arch=MIXTURE)
    question = serving_question(read_serving(open_one))
    assert np.asarray(question.instance.data_parallel).tolist() == [1, 8]
    (found,) = predict(open_one)
    assert found.chosen is not None and "dp=" in found.chosen


# ------------------------------------------------------------------------------------------------ formats
@pytest.mark.parametrize(
    ("chip", "arch", "said", "expected"),
    [
        ("h100_sxm", DENSE, {"weights": "fp8", "activations": "fp8", "kv": "fp8"}, ("fp8", "fp8", 1.0)),
        ("b200", DENSE, {"weights": "nvfp4", "activations": "nvfp4", "kv": "fp8"}, ("nvfp4", "nvfp4", 1.0)),
        ("b200", MIXTURE, {"weights": "nvfp4 (FFN), bf16 attention", "kv": "bf16"}, ("nvfp4", "bf16", 2.0)),
        ("b200", MIXTURE, {"weights": "nvfp4 (MoE)", "activations": "nvfp4", "kv": "fp8"}, ("nvfp4", "bf16", 1.0)),
        ("b200", MIXTURE, {"weights": "fp4", "activations": "fp4"}, ("nvfp4", "bf16", 1.0)),
        ("ascend_950dt", MIXTURE, {"weights": "mxfp8 (linear) / mxfp4 (MoE)", "activations": "mxfp8", "kv": "fp8 (C8)"},
         ("mxfp4-mxfp8", "mxfp8", 1.0)),
        ("ascend_910c", MIXTURE, {"weights": "int4 (MoE)", "activations": "int8", "kv": "int8"},
         ("int4-int8", "int8", 1.0)),
        ("ascend_910c", MIXTURE, {"weights": "W8A8"}, ("int8", "int8", 2.0)),
        ("h200", MIXTURE, {"weights": "int4", "activations": "bf16"}, ("int4-bf16", "int4-bf16", 2.0)),
        ("a100_80", DENSE, {"weights": "fp8", "activations": "fp8"}, ("fp8-bf16", "fp8-bf16", 2.0)),
        ("h200", DENSE, {"weights": "mxfp4", "activations": "bf16"}, ("mxfp4-bf16", "mxfp4-bf16", 2.0)),
        ("tpu_v4", DENSE, {"weights": "int8", "activations": "bf16"}, ("int8-bf16", "int8-bf16", 2.0)),
        ("h100_sxm", DENSE, {"weights": None}, ("bf16", "bf16", 2.0)),
    ],
)  # fmt: skip
def test_precision_texts_become_formats(
    chip: str, arch: dict[str, Any], said: dict[str, Any], expected: tuple[str, str, float]
) -> None:
    """Formats of experts (or of the whole model), of attention's projections, and bytes of the cache."""
    serving = asked(chip=chip, arch=arch, precision=said).serving
    assert (serving.experts_in, serving.projections_in, serving.kv_bytes) == expected


def test_a_checkpoint_with_one_format_has_it_in_its_experts_alone() -> None:
    """gpt-oss in "fp4" is MXFP4 experts in a 16-bit model."""
    said = {"weights": "fp4", "activations": "fp4"}
    serving = asked(chip="b200", model="gpt-oss-120b", arch=MIXTURE, precision=said).serving
    assert (serving.weight_format, serving.experts_in, serving.projections_in) == ("bf16", "mxfp4-mxfp8", "bf16")


# ------------------------------------------------------------------------------------------------ traffic and batch
@pytest.mark.parametrize(
    ("features", "drafts", "emitted"),
    [
        ({"mtp": 1, "mtp_accept": 0.7}, 1, 1.7),
        ({"mtp": 3, "mtp_accepted_tokens": 1.44}, 3, 2.44),
        ({"mtp_window": 3, "accept_length": 2.18}, 3, 2.18),
        ({"mtp": 2, "accepted_length": 2.58}, 2, 2.58),
        ({"mtp": 2, "accept_length_range": [2.4, 2.7]}, 2, 2.55),
        ({"mtp": 0, "accepted_length": 1.0}, 0, 1.0),
    ],
)
def test_tokens_a_step_are_kept(features: dict[str, Any], drafts: int, emitted: float) -> None:
    """The acceptance of the model gives the tokens a step that the source states."""
    question = asked(arch=MIXTURE, features=features)
    kept = question.serving.acceptance
    assert int(np.asarray(question.instance.draft_tokens)) == drafts
    assert sum(kept**j for j in range(drafts + 1)) == pytest.approx(emitted, rel=1e-6)


def test_every_draft_accepted_is_certain() -> None:
    """The ends of the range of accepted tokens."""
    assert acceptance(3, 4.0) == pytest.approx(1.0)
    assert acceptance(3, 1.0) == pytest.approx(0.0, abs=1e-9)


def test_sampled_lengths_have_their_mean_and_spread() -> None:
    """Lengths drawn from 0.8 to 1.0 of nominal: 0.9 in the mean."""
    features = {"in_flight_batching": True, "length_sampling": "lengths drawn from 0.8 to 1.0 of nominal"}
    requests = asked(phase="end_to_end", input_len=1000, output_len=500, features=features).serving.requests
    assert (requests.input_tokens, requests.output_tokens) == (900.0, 450.0)
    assert requests.variation == pytest.approx(0.2 / 12**0.5 / 0.9)


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({}, "decode"),
        ({"phase": "prefill"}, "prefill"),
        ({"phase": "end_to_end", "features": {"static_batching": True}}, "static"),
        ({"phase": "end_to_end", "features": {"offline_batch": True}}, "static"),
        ({"phase": "end_to_end", "target": {"total_time_s": 3.0}}, "static"),
        ({"phase": "end_to_end", "features": {"offline_max_load": True}}, "offline"),
        ({"phase": "end_to_end", "batch": None, "concurrency": 16}, "concurrent"),
        ({"phase": "end_to_end", "batch": None}, "offline"),
    ],
)
def test_the_kind_of_run_picks_the_function(changes: dict[str, Any], kind: str) -> None:
    """Fixed batches, steady streams, and unlimited load."""
    assert kind_of(read_serving(case(**changes))) == kind


def test_tokens_of_an_accelerator_are_prompts_of_the_instance() -> None:
    """16,384 tokens on each of 16 packages are 64 prompts of 4,096 in one pass of 32 ranks."""
    question = serving_question(read_serving(CASES["cm384-prefill-cm-default"]))
    assert question.batch == 64
    assert int(np.asarray(question.instance.chunk)) == 8192
    assert layout(question) == (1, 1, 32, 32)


def test_an_open_batch_is_solved_and_reported() -> None:
    """Unlimited load takes the batch that memory and the engine allow, at most as many as there are requests."""
    load = {"offline_max_load": True, "num_requests": 40}
    run = case(phase="end_to_end", batch=None, input_len=128, output_len=128, features=load,
               target={"tokens_per_s_per_chip": 100.0})  # fmt: skip
    (found,) = predict(run)
    assert found.chosen is not None and "batch=" in found.chosen
    (few,) = predict({**run, "features": {**load, "num_requests": 2}})
    assert few.predicted is not None and found.predicted is not None
    assert few.predicted < found.predicted / 5


def test_throughput_decides_between_contradicting_figures() -> None:
    """A printed latency that does not go with batch and throughput is left out, and a rule says so."""
    quantities = {one.quantity: one for one in predict(CASES["cm384-decode-ds-h800-profile"])}
    assert set(quantities) == {"tokens_per_s_per_chip"}
    assert "printed latency and throughput disagree: throughput taken" in quantities["tokens_per_s_per_chip"].rules


def test_experts_are_copied_until_they_divide() -> None:
    """256 experts and 32 copies over 320 ranks: one for each."""
    question = serving_question(read_serving(CASES["cm384-decode-slo-50ms-4k-256"]))
    assert question.serving.balance.redundant == 64
    assert "experts copied until they divide evenly" in question.rules


def test_a_shape_that_the_source_shortens_is_that_of_the_catalogue() -> None:
    """A model that the catalogue knows keeps its low ranks and its compressed cache."""
    known = next(one for name, one in CASES.items() if "v4-flash-950dt" in name)
    model = serving_question(read_serving(known)).serving.architecture
    flash = catalogue.architecture("deepseek-v4-flash")
    assert (model.low_rank, model.sparse) == (flash.low_rank, flash.sparse)


def test_the_same_run_counts_once_for_each_quantity() -> None:
    """Latency of a whole request stands beside its parts, and adds up."""
    run = case(phase="end_to_end", input_len=1000, output_len=101, concurrency=16, batch=None,
               target={"tpot_s": 0.01, "ttft_s": 0.5})  # fmt: skip
    found = {one.quantity: one for one in predict(run)}
    assert set(found) == {"tpot_s", "ttft_s", "latency_s"}
    assert found["latency_s"].measured == pytest.approx(1.5)
    values = {name: one.predicted or 0.0 for name, one in found.items()}
    assert values["latency_s"] == pytest.approx(values["ttft_s"] + 100 * values["tpot_s"])
