"""What a published case leaves out of its model's shape is taken from a known model of the same widths."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sweep import catalogue
from sweep.case_schema import read_serving
from sweep.known_models import compressed
from sweep.published import architecture
from sweep.serving_cases import serving_question

MISTRAL = {"layers": 32, "hidden": 4096, "heads": 32, "kv_heads": 8, "ffn_hidden": 14336, "vocab": 32000}
GPT_OSS = {
    "layers": 12, "hidden": 2880, "heads": 64, "kv_heads": 8, "head_dim": 64, "vocab": 201088, "sliding_window": 128,
    "full_attention_every_n_layers": 2,
}  # fmt: skip
EXPERTS = {"experts": 64, "experts_per_token": 4, "moe_ffn_hidden": 2880}


def shape(arch: dict[str, Any]) -> Any:
    """The model of a case that says nothing else."""
    return architecture({"model": "no name that anything knows", "arch": arch})


def test_a_window_that_is_not_stated_is_that_of_the_known_model() -> None:
    """Of the widths and the vocabulary alone, whatever the name and the depth; what is stated stands."""
    assert shape(MISTRAL).window == shape(MISTRAL | {"layers": 4}).window == 4096
    assert shape(MISTRAL | {"sliding_window": 0}).window == 0
    assert shape(MISTRAL | {"attention": "full"}).window == 0
    assert shape(MISTRAL | {"vocab": 128256}).window == 0


def test_biases_and_clamps_of_experts() -> None:
    """A reduced model with other numbers of layers and experts has those of its family, unless the case says."""
    known = shape(GPT_OSS | {"moe": EXPERTS}).experts
    assert known.biases and known.clamped
    assert (known.experts, known.hidden) == (64, 2880)
    said = shape(GPT_OSS | {"moe": EXPERTS | {"biases": False}}).experts
    assert not said.biases and said.clamped
    others = shape(GPT_OSS | {"hidden": 3072, "moe": EXPERTS}).experts
    assert not others.biases and not others.clamped
    assert shape(GPT_OSS | {"hidden": 3072, "moe": EXPERTS | {"clamped": True}}).experts.clamped


def test_compression_is_that_of_the_known_model() -> None:
    """Low ranks, picked keys and residual streams come from a model of the same widths and latent attention."""
    known = catalogue.architecture("deepseek-v4-pro")
    bare = replace(known, name="another", layers=7, low_rank=None, residual_streams=1)
    found = compressed(bare)
    assert (found.low_rank, found.sparse, found.residual_streams) == (known.low_rank, known.sparse, 4)
    assert compressed(replace(bare, hidden=1024)) == replace(bare, hidden=1024)


def test_serving_knows_windows_too() -> None:
    """A served model whose window nobody states has those layers with one that its widths' model has."""
    silent = {key: value for key, value in GPT_OSS.items() if "window" not in key and "attention" not in key}
    case = {
        "id": "a", "phase": "decode", "arch": silent | {"moe": EXPERTS}, "chip": "h100_sxm", "num_chips": 8, "tp": 8,
        "batch": {"global": 8}, "kv_len": 4096, "software": {"framework": "vllm", "year": 2026}, "grade": "A",
        "target": {"tpot_s": 0.01},
    }  # fmt: skip
    model = serving_question(read_serving(case)).serving.architecture
    assert (model.window, model.full_attention_every) == (128, 2)
