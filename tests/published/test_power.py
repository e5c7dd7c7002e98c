"""Predicted power against measured runs: nodes in training and in serving, at rest and under caps."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest

from sweep.power_validation import predict_power
from sweep.prediction import Prediction
from sweep.validation import predict, read_cases

ROWS = Path(__file__).parent / "power_rows.jsonl"

# Why a measured row cannot be asked, where it cannot.
UNASKED = {
    "decode_clock_lock_saving", "tpu_v4_mean", "switch_measured_64port", "mfu_llama70_fp8", "mfu_pangu_moe",
    "mfu_pangu_dense", "gemm_b200_model_shapes", "grouped_gemm_b200", "gemm_a100_model_shapes", "grouped_gemm_a100",
    "gemm_h800_fp8_by_m", "gemm_h20_fp8_by_m", "grouped_gemm_h800_fp8",
}  # fmt: skip


@cache
def predictions() -> dict[str, Prediction]:
    """Predictions of the measured rows by id; a row measures one quantity."""
    return {one.id: one for case in read_cases([ROWS]) for one in predict(case)}


def test_every_measured_row_is_predicted_or_says_why_not() -> None:
    """No row is dropped: each has a prediction, or is one of those that cannot be asked, with its reason."""
    found = predictions()
    assert len(found) == len(read_cases([ROWS]))
    assert {name for name, one in found.items() if one.predicted is None} == UNASKED
    assert all(found[name].reason for name in UNASKED)


@pytest.mark.parametrize(
    ("rows", "mean", "most"),
    [
        # DGX-class nodes of H100 in training: GPT-3 175B and Llama-2-70B LoRA, MLPerf Training v4.0 and v4.1
        (("mlperf_gpt3_512h100_node", "mlperf_lora_1xh100", "mlperf_lora_8xh100", "mlperf_lora_64xh100",
          "mlperf_lora_8xh100_air"), 0.10, 0.15),
        # joules of a whole run, of a token and of a FLOP
        (("mlperf_gpt3_512h100_energy", "mlperf_gpt3_512h100_j_per_tok", "mlperf_gpt3_512h100_j_per_flop"), 0.09, 0.10),
        # B200 in training and serving, MLPerf Training v5.0 and Inference v5.1
        (("mlperf_lora_b200", "mlperf_infer_b200_air", "mlperf_infer_b200_liquid_405b"), 0.16, 0.26),
        (("mlperf_infer_h200_500w",), 0.10, 0.10),
        (("mlperf_node_idle_h100", "mlperf_node_idle_b200"), 0.10, 0.10),
        (("h100_node_train_frac", "h100_node_max"), 0.10, 0.10),
        (("gpu_prefill_frac_tdp",), 0.15, 0.15),
        # H200 under caps of 350 to 500 W
        (("perf_at_cap_500", "perf_at_cap_450", "perf_at_cap_400", "perf_at_cap_350"), 0.10, 0.15),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)  # fmt: skip
def test_errors_of_a_group(rows: tuple[str, ...], mean: float, most: float) -> None:
    """The mean absolute error of a group and its largest stay within their bounds."""
    errors = [abs(predictions()[row].error or 0.0) for row in rows]
    assert sum(errors) / len(errors) <= mean
    assert max(errors) <= most


def test_decode_draws_a_third_of_the_rating() -> None:
    """Decode on H200 was measured at 137 to 300 W of 700 (arXiv:2605.11999)."""
    assert 0.20 <= (predictions()["gpu_decode_frac_tdp"].predicted or 0.0) <= 0.48


def test_draw_falls_from_compute_bound_to_communication_bound_and_rises_with_fans() -> None:
    """One node of the LoRA run draws more than each of eight; with fans they draw more than in a tank."""
    watts = {name: one.predicted or 0.0 for name, one in predictions().items()}
    assert watts["mlperf_lora_1xh100"] > watts["mlperf_lora_8xh100"]
    assert watts["mlperf_lora_8xh100_air"] > watts["mlperf_lora_8xh100"]


CASE = {
    "id": "mine", "kind": "power", "chip": "h100_sxm", "num_chips": 8, "boundary": "node", "cooling": "immersion",
    "state": "idle", "measured": {"idle_w": 2200.0},
}  # fmt: skip


ROOT = Path(__file__).resolve().parents[2]
# What the page on power lists: words, and the rows behind them.
LISTED = {
    "nodes of 8 H100 in training: GPT-3 175B on 512, Llama-2-70B LoRA on 8, 64, 512, in tanks and with fans": (
        "mlperf_gpt3_512h100_node", "mlperf_lora_1xh100", "mlperf_lora_8xh100", "mlperf_lora_64xh100",
        "mlperf_lora_8xh100_air",
    ),
    "joules of the GPT-3 run, of its tokens, of its FLOPs": (
        "mlperf_gpt3_512h100_energy", "mlperf_gpt3_512h100_j_per_tok", "mlperf_gpt3_512h100_j_per_flop",
    ),
    "node of 8 H100, Llama-2-13B, mean and peak": ("h100_node_train_frac", "h100_node_max"),
    "node of 8 B200 in training and in serving": (
        "mlperf_lora_b200", "mlperf_infer_b200_air", "mlperf_infer_b200_liquid_405b",
    ),
    "node of 8 H200 serving at 500 W": ("mlperf_infer_h200_500w",),
    "rate of H200 at 350 to 500 W": ("perf_at_cap_500", "perf_at_cap_450", "perf_at_cap_400", "perf_at_cap_350"),
    "idle nodes of H100 and B200": ("mlperf_node_idle_h100", "mlperf_node_idle_b200"),
    "prefill of MI300X over its rating": ("gpu_prefill_frac_tdp",),
    "decode of H200 over its rating (measured 0.20 to 0.48, mean 0.31)": ("gpu_decode_frac_tdp",),
}  # fmt: skip
NODES = ("nodes of 8 H100 in training", "node of 8 B200", "node of 8 H200")
MARKED = re.compile(r"(<!-- table (power[a-z ]*) -->\n).*?(\n<!-- end -->)", re.S)


def sizes(rows: Sequence[str]) -> list[float]:
    """Absolute errors of some rows."""
    return [abs(predictions()[row].error or 0.0) for row in rows]


def power_table() -> str:
    """The table of docs/power.md."""
    lines = ["| group | rows | mean | largest |", "| --- | ---: | ---: | ---: |"]
    for words, rows in LISTED.items():
        found = sizes(rows)
        lines.append(f"| {words} | {len(found)} | {100 * sum(found) / len(found):.1f} % | {100 * max(found):.1f} % |")
    return "\n".join(lines)


def sentence() -> str:
    """What the README says of nodes."""
    found = sizes([row for words, rows in LISTED.items() if words.startswith(NODES) for row in rows])
    mean = 100 * sum(found) / len(found)
    return (
        f"Power of measured nodes (H100, H200, B200 in training and serving): {mean:.1f} % over {len(found)} rows "
        "([docs/power.md](docs/power.md))."
    )


def written_anew(text: str) -> str:
    """A page with its marked tables of power as they are now."""
    made = {"power": power_table, "power nodes": sentence}
    return MARKED.sub(lambda found: f"{found.group(1)}{made[found.group(2)]()}{found.group(3)}", text)


@pytest.mark.parametrize("page", ["docs/power.md", "README.md"])
def test_pages_hold_the_errors_of_now(page: str) -> None:
    """`python -m tests.published.test_power` has nothing to write."""
    text = (ROOT / page).read_text(encoding="utf-8")
    assert MARKED.search(text)
    assert written_anew(text) == text, "run python -m tests.published.test_power"


def test_a_case_of_ones_own_is_predicted() -> None:
    """A case in the product's own form gives what the same scenario gives."""
    (own,) = predict_power(CASE)
    assert own.predicted == pytest.approx(predictions()["mlperf_node_idle_h100"].predicted)
    assert own.group == "node power H100 idle"


@pytest.mark.parametrize(
    ("machine", "release", "cooling", "tensor_parallel", "joules"),
    [("dgx-h100", "4.0", "immersion", 4, 0.425), ("dgx-b200", "5.0", "liquid", 1, 0.224)],
)
def test_joules_of_a_token_of_lora(
    machine: str, release: str, cooling: str, tensor_parallel: int, joules: float
) -> None:
    """Llama-2-70B LoRA on one node, from its watts and its tokens a second in the same MLPerf logs: within 20 %."""
    own = {
        "id": "lora", "machine": machine, "num_chips": 8, "cooling": cooling, "boundary": "node",
        "measured": {"energy_per_token_j": joules},
        "workload": {"model": "llama-2-70b", "seq_len": 8192, "global_batch": 8, "task": "lora",
                     "number_format": "fp8", "software": {"framework": "mlperf", "release": release}},
        "layout": {"tp": tensor_parallel, "cp": 1, "pp": 1, "micro_batch": 1, "recompute": "none"},
    }  # fmt: skip
    (one,) = predict(own)
    assert one.predicted == pytest.approx(joules, rel=0.2)


def test_boundaries_of_a_case_hold_one_another() -> None:
    """The same idle node is metered higher the more the meter sees."""
    watts = [predict_power({**CASE, "boundary": one})[0].predicted for one in ("node", "system", "facility")]
    assert watts == sorted(watts)


def test_what_a_case_leaves_open_is_named() -> None:
    """Machine, workload and layout may stand apart, a model goes by its name; the rest is told or assumed."""
    own = {
        "id": "mine", "machine": "dgx-h100", "num_chips": 64, "cooling": "immersion", "measured": {"power_w": 7000.0},
        "workload": {"model": "llama-2-70b", "seq_len": 8192, "global_batch": 8, "task": "lora",
                     "number_format": "fp8", "software": {"framework": "mlperf", "release": "4.0"}},
        "layout": {"tp": 4, "cp": 2, "pp": 1, "micro_batch": 1, "recompute": "none"},
    }  # fmt: skip
    (one,) = predict(own)
    assert one.predicted == pytest.approx(predictions()["mlperf_lora_8xh100"].predicted)
    assert one.chosen == "state=training, boundary=node"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"boundary": "rack"}, "boundary is 'rack'"),
        ({"cooling": "snow"}, "cooling is 'snow'"),
        ({"state": "asleep"}, "state is 'asleep'"),
        ({"chip": "h1000"}, "h100"),
        ({"chip": None}, "neither chip nor system"),
        ({"measured": {"watts": 3.0}}, "not a quantity"),
        ({"measured": {}}, "measured is not stated"),
        ({"measured": {"idle_w": "much"}}, "must be a number"),
        ({"state": "training"}, "run is not stated"),
        ({"num_chips": 0}, "num_chips"),
    ],
)
def test_a_case_that_cannot_be_asked_says_why(change: dict[str, object], said: str) -> None:
    """Every fault is a reason in the report, never an error."""
    (one,) = predict_power({**CASE, **change})
    assert one.predicted is None
    assert said in (one.reason or "")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"category": "cost", "figure": {"value": 1.0, "confidence": "measured"}}, "a price"),
        ({"category": "power", "figure": {"value": 1.0, "confidence": "memory"}}, "not a measurement"),
        ({"category": "power", "figure": {"value": 1.0, "confidence": "measured"}}, "docs/power.md"),
        ({"category": "power", "figure": 3.0}, "not a measurement"),
    ],
)
def test_a_bare_figure_without_a_scenario_says_why(row: dict[str, object], said: str) -> None:
    """Prices, figures that nobody measured, and figures without a scenario are listed with the reason."""
    (one,) = predict(json.loads(json.dumps({"id": "unheard-of", **row})))
    assert one.predicted is None
    assert said in (one.reason or "")


def test_a_cloudmatrix_that_decodes_stays_within_what_is_published() -> None:
    """A package draws less for DeepSeek-R1 than its share of the 559 kW, which end at the machine's own plugs."""
    run = {
        "model": "deepseek-r1", "phase": "decode", "software": {"framework": "cloudmatrix-infer"}, "tp": 1, "ep": 320,
        "attention_dp": 320, "kv_len": 4096, "batch": {"per_chip": 96},
        "features": {"mtp": 1, "mtp_accept": 0.7, "dual_micro_batch_overlap": True},
        "precision": {"weights": "int8", "activations": "int8", "kv": "bf16"},
    }  # fmt: skip
    case = {"id": "decode", "machine": "cloudmatrix-384", "num_chips": 160, "run": run, "measured": {"power_w": 233e3}}
    (plugs,) = predict({**case, "boundary": "system"})
    (meter,) = predict({**case, "boundary": "facility"})
    assert plugs.predicted is not None and meter.predicted is not None
    assert plugs.predicted / 160 < 559.378e3 / 384 < meter.predicted / 160
    assert meter.predicted / plugs.predicted == pytest.approx(1.15)  # the building


if __name__ == "__main__":
    for one in (ROOT / "docs" / "power.md", ROOT / "README.md"):
        one.write_text(written_anew(one.read_text(encoding="utf-8")), encoding="utf-8")
