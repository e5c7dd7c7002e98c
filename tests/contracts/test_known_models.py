"""What a published case leaves out of its model's shape is taken from a known model of the same widths."""

from __future__ import annotations

from typing import Any

from sweep.published import architecture

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
