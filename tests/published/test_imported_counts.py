"""Shapes of public configurations, imported, give the parameter counts that their makers publish."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sweep import catalogue
from sweep.hugging_face.record import Imported, imported
from sweep.hugging_face.shape import NEVER

ROUNDING = 0.02  # biases, norms and learned positions are not counted, and published counts are rounded


def llama(hidden: int, layers: int, heads: int, keys: int, wide: int, vocabulary: int, **more: Any) -> dict[str, Any]:
    """Keys that most configurations share."""
    return {
        "hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": keys,
        "intermediate_size": wide, "vocab_size": vocabulary, **more,
    }  # fmt: skip


DEEPSEEK = {"kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128}
V3 = llama(7168, 61, 128, 128, 18432, 129280, model_type="deepseek_v3", q_lora_rank=1536, n_routed_experts=256,
           num_experts_per_tok=8, moe_intermediate_size=2048, n_shared_experts=1, first_k_dense_replace=3,
           moe_layer_freq=1, num_nextn_predict_layers=1, tie_word_embeddings=False, **DEEPSEEK)  # fmt: skip
# name -> keys of its config.json, parameters, active parameters (0: not published), in billions
PUBLISHED: dict[str, tuple[dict[str, Any], float, float]] = {
    "llama-3.1-8b": (llama(4096, 32, 32, 8, 14336, 128256, model_type="llama"), 8.03, 0),
    "llama-3.1-70b": (llama(8192, 80, 64, 8, 28672, 128256, model_type="llama"), 70.6, 0),
    "llama-3.2-1b": (llama(2048, 16, 32, 8, 8192, 128256, model_type="llama", tie_word_embeddings=True), 1.24, 0),
    "mistral-7b": (llama(4096, 32, 32, 8, 14336, 32000, model_type="mistral", sliding_window=4096,
                         max_position_embeddings=32768), 7.24, 0),
    "mixtral-8x7b": (llama(4096, 32, 32, 8, 14336, 32000, model_type="mixtral", num_local_experts=8,
                           num_experts_per_tok=2, sliding_window=None), 46.7, 12.9),
    "qwen2.5-72b": (llama(8192, 80, 64, 8, 29568, 152064, model_type="qwen2", sliding_window=131072,
                          use_sliding_window=False), 72.7, 0),
    "qwen2-57b-a14b": (llama(3584, 28, 28, 4, 18944, 151936, model_type="qwen2_moe", num_experts=64,
                             num_experts_per_tok=8, moe_intermediate_size=2560, shared_expert_intermediate_size=20480,
                             decoder_sparse_step=1, sliding_window=65536, use_sliding_window=False), 57.4, 14.2),
    "qwen3-8b": (llama(4096, 36, 32, 8, 12288, 151936, model_type="qwen3", head_dim=128), 8.19, 0),
    "qwen3-235b-a22b": (llama(4096, 94, 64, 4, 12288, 151936, model_type="qwen3_moe", head_dim=128, num_experts=128,
                              num_experts_per_tok=8, moe_intermediate_size=1536, mlp_only_layers=[]), 235, 22),
    "deepseek-v2-lite": (llama(2048, 27, 16, 16, 10944, 102400, model_type="deepseek_v2", q_lora_rank=None,
                               n_routed_experts=64, num_experts_per_tok=6, moe_intermediate_size=1408,
                               n_shared_experts=2, first_k_dense_replace=1, **DEEPSEEK), 15.7, 0),
    "deepseek-v2": (llama(5120, 60, 128, 128, 12288, 102400, model_type="deepseek_v2", q_lora_rank=1536,
                          n_routed_experts=160, num_experts_per_tok=6, moe_intermediate_size=1536, n_shared_experts=2,
                          first_k_dense_replace=1, **DEEPSEEK), 236, 21),
    "deepseek-v3": (V3, 671, 0),
    "deepseek-v3.2": (V3 | {"model_type": "deepseek_v32", "index_topk": 2048, "index_n_heads": 64,
                            "index_head_dim": 128}, 671, 0),
    "kimi-k2": (V3 | {"model_type": "kimi_k2", "num_attention_heads": 64, "num_key_value_heads": 64,
                      "n_routed_experts": 384, "first_k_dense_replace": 1, "vocab_size": 163840,
                      "num_nextn_predict_layers": 0}, 1026, 32.9),
    "glm-4.5": (llama(5120, 92, 96, 8, 12288, 151552, model_type="glm4_moe", head_dim=128, n_routed_experts=160,
                      num_experts_per_tok=8, moe_intermediate_size=1536, n_shared_experts=1, first_k_dense_replace=3,
                      num_nextn_predict_layers=1), 355, 32),
    "glm-4.5-air": (llama(4096, 46, 96, 8, 10944, 151552, model_type="glm4_moe", head_dim=128, n_routed_experts=128,
                          num_experts_per_tok=8, moe_intermediate_size=1408, n_shared_experts=1,
                          first_k_dense_replace=1, num_nextn_predict_layers=1), 106, 12),
    "glm-5": (llama(6144, 78, 64, 64, 12288, 154880, model_type="glm_moe_dsa", q_lora_rank=2048, kv_lora_rank=512,
                    qk_nope_head_dim=192, qk_rope_head_dim=64, v_head_dim=256, n_routed_experts=256,
                    num_experts_per_tok=8, moe_intermediate_size=2048, n_shared_experts=1, first_k_dense_replace=3,
                    index_topk=2048, index_n_heads=32, index_head_dim=128, num_nextn_predict_layers=1), 744, 40),
    "gpt-oss-120b": (llama(2880, 36, 64, 8, 2880, 201088, model_type="gpt_oss", head_dim=64, num_local_experts=128,
                           num_experts_per_tok=4, sliding_window=128, swiglu_limit=7.0,
                           layer_types=["sliding_attention", "full_attention"] * 18), 116.8, 0),
    "minimax-m2": (llama(3072, 62, 48, 8, 1536, 200064, model_type="minimax_m2", head_dim=128, num_local_experts=256,
                         num_experts_per_tok=8, use_mtp=True, num_mtp_modules=3), 229, 10),
    "hunyuan-a13b": (llama(4096, 32, 32, 8, 3072, 128167, model_type="hunyuan_v1_moe", head_dim=128, num_experts=64,
                           moe_topk=[8] * 32, num_shared_expert=[1] * 32, moe_intermediate_size=[3072] * 32,
                           tie_word_embeddings=True), 80.4, 13),
    "ernie-4.5-300b": (llama(8192, 54, 64, 8, 28672, 103424, model_type="ernie4_5_moe", moe_num_experts=64, moe_k=8,
                             moe_intermediate_size=3584, moe_layer_start_index=3, tie_word_embeddings=False),
                       300, 47),
    "dots1": (llama(4096, 62, 32, 32, 10944, 152064, model_type="dots1", head_dim=128, n_routed_experts=128,
                    num_experts_per_tok=6, moe_intermediate_size=1408, n_shared_experts=2, first_k_dense_replace=1),
              142, 14),
    "phi-3-mini": (llama(3072, 32, 32, 32, 8192, 32064, model_type="phi3", sliding_window=2047,
                         max_position_embeddings=4096), 3.82, 0),
    "phi-3.5-moe": (llama(4096, 32, 32, 8, 6400, 32064, model_type="phimoe", num_local_experts=16,
                          num_experts_per_tok=2, sliding_window=131072, max_position_embeddings=131072), 41.9, 6.6),
    "phi-2": (llama(2560, 32, 32, 32, 10240, 51200, model_type="phi"), 2.78, 0),
    "olmo-2-7b": (llama(4096, 32, 32, 32, 11008, 100352, model_type="olmo2"), 7.30, 0),
    "olmoe-1b-7b": (llama(2048, 16, 16, 16, 1024, 50304, model_type="olmoe", num_experts=64, num_experts_per_tok=8),
                    6.92, 1.28),
    "gemma-7b": (llama(3072, 28, 16, 16, 24576, 256000, model_type="gemma", head_dim=256), 8.54, 0),
    "gemma-2-9b": (llama(3584, 42, 16, 8, 14336, 256000, model_type="gemma2", head_dim=256, sliding_window=4096,
                         max_position_embeddings=8192), 9.24, 0),
    "gemma-2-27b": (llama(4608, 46, 32, 16, 36864, 256000, model_type="gemma2", head_dim=128, sliding_window=4096,
                          max_position_embeddings=8192), 27.2, 0),
    "granite-3.1-8b": (llama(4096, 40, 32, 8, 12800, 49155, model_type="granite", tie_word_embeddings=True), 8.17, 0),
    "command-r-plus": (llama(12288, 64, 96, 8, 33792, 256000, model_type="cohere"), 104, 0),
    "exaone-4-32b": (llama(5120, 64, 40, 8, 27392, 102400, model_type="exaone4", head_dim=128, sliding_window=4096,
                           sliding_window_pattern="LLLG"), 32.0, 0),
    "starcoder2-15b": (llama(6144, 40, 48, 4, 24576, 49152, model_type="starcoder2", sliding_window=4096), 15.7, 0),
    "gpt2-xl": ({"model_type": "gpt2", "n_embd": 1600, "n_layer": 48, "n_head": 25, "vocab_size": 50257}, 1.558, 0),
    "gpt-j-6b": ({"model_type": "gptj", "n_embd": 4096, "n_layer": 28, "n_head": 16, "n_inner": None,
                  "vocab_size": 50400}, 6.05, 0),
    "gpt-neox-20b": (llama(6144, 44, 64, 64, 24576, 50432, model_type="gpt_neox"), 20.6, 0),
    "falcon-7b": ({"model_type": "falcon", "hidden_size": 4544, "num_hidden_layers": 32, "num_attention_heads": 71,
                   "multi_query": True, "new_decoder_architecture": False, "parallel_attn": True,
                   "vocab_size": 65024}, 7.22, 0),
    "falcon-40b": ({"model_type": "falcon", "hidden_size": 8192, "num_hidden_layers": 60, "num_attention_heads": 128,
                    "num_kv_heads": 8, "new_decoder_architecture": True, "multi_query": True, "vocab_size": 65024},
                   41.8, 0),
    "mpt-7b": ({"model_type": "mpt", "d_model": 4096, "n_heads": 32, "n_layers": 32, "expansion_ratio": 4,
                "vocab_size": 50432}, 6.65, 0),
    "bloom-176b": ({"model_type": "bloom", "hidden_size": 14336, "n_layer": 70, "num_attention_heads": 112,
                    "vocab_size": 250880}, 176.2, 0),
    "opt-6.7b": ({"model_type": "opt", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
                  "ffn_dim": 16384, "vocab_size": 50272}, 6.66, 0),
    "starcoder": ({"model_type": "gpt_bigcode", "n_embd": 6144, "n_layer": 40, "n_head": 48, "n_inner": 24576,
                   "multi_query": True, "vocab_size": 49152}, 15.5, 0),
    "dbrx": ({"model_type": "dbrx", "d_model": 6144, "n_heads": 48, "n_layers": 40, "vocab_size": 100352,
              "attn_config": {"kv_n_heads": 8},
              "ffn_config": {"ffn_hidden_size": 10752, "moe_num_experts": 16, "moe_top_k": 4}}, 132, 36),
}  # fmt: skip
# Models of several kinds of input, with their language model inside.
INSIDE: dict[str, tuple[dict[str, Any], float]] = {
    "gemma-3-27b": ({"model_type": "gemma3", "vision_config": {"model_type": "siglip_vision_model"},
                     "text_config": llama(5376, 62, 32, 16, 21504, 262208, model_type="gemma3_text", head_dim=128,
                                          sliding_window=1024)}, 27.0),
    "gemma-3-4b": ({"model_type": "gemma3", "vision_config": {},
                    "text_config": {"hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34,
                                    "sliding_window": 1024, "model_type": "gemma3_text"}}, 3.88),
    "llama-4-scout": ({"model_type": "llama4", "vision_config": {},
                       "text_config": llama(5120, 48, 40, 8, 8192, 202048, model_type="llama4_text", head_dim=128,
                                            intermediate_size_mlp=16384, num_local_experts=16, num_experts_per_tok=1,
                                            interleave_moe_layer_step=1, attention_chunk_size=8192,
                                            tie_word_embeddings=False)}, 107.8),
    "llama-4-maverick": ({"model_type": "llama4", "vision_config": {},
                          "text_config": llama(5120, 48, 40, 8, 8192, 202048, model_type="llama4_text", head_dim=128,
                                               intermediate_size_mlp=16384, num_local_experts=128,
                                               num_experts_per_tok=1, interleave_moe_layer_step=2,
                                               attention_chunk_size=8192, tie_word_embeddings=False)}, 400),
}  # fmt: skip


def read(tmp_path: Path, keys: dict[str, Any], name: str = "x", like: str | None = None) -> Imported:
    """A configuration as it is read from a file."""
    file = tmp_path / "config.json"
    file.write_text(json.dumps(keys), encoding="utf-8")
    return imported(file, name, like)


@pytest.mark.parametrize("name", PUBLISHED)
def test_an_imported_model_has_the_published_size(name: str, tmp_path: Path) -> None:
    """The count is that of the model's maker, the active one too where it is published."""
    keys, parameters, active = PUBLISHED[name]
    found = read(tmp_path, keys)
    assert found.shape.parameters == pytest.approx(parameters * 1e9, rel=ROUNDING)
    if active:  # makers count embeddings or not, and round to whole billions
        table = found.shape.vocabulary * found.shape.hidden
        assert found.shape.active_parameters - 2 * table <= active * 1e9 * 1.04
        assert found.shape.active_parameters >= active * 1e9 * 0.96


@pytest.mark.parametrize("name", INSIDE)
def test_the_language_model_inside_is_read(name: str, tmp_path: Path) -> None:
    """Of a model of images and text the language model is imported, and that is said."""
    keys, parameters = INSIDE[name]
    found = read(tmp_path, keys)
    assert found.shape.parameters == pytest.approx(parameters * 1e9, rel=ROUNDING)
    assert any("language model" in note for note in found.notes)


@pytest.mark.parametrize("name", sorted(set(PUBLISHED) & set(catalogue.names("models"))))
def test_an_imported_model_is_the_one_of_the_catalogue(name: str, tmp_path: Path) -> None:
    """Where the catalogue has the model, every shape is the same."""
    found, known = read(tmp_path, PUBLISHED[name][0], name).shape, catalogue.architecture(name)
    assert found == known


@pytest.mark.parametrize(
    ("name", "window", "every"),
    [("mistral-7b", 4096, NEVER), ("mixtral-8x7b", 0, 1), ("qwen2.5-72b", 0, 1), ("gemma-2-9b", 4096, 2),
     ("exaone-4-32b", 4096, 4), ("gpt-oss-120b", 128, 2), ("phi-3-mini", 2047, NEVER), ("phi-3.5-moe", 0, 1)],
)  # fmt: skip
def test_windows_are_those_of_the_layers(name: str, window: int, every: int, tmp_path: Path) -> None:
    """Which layers attend to a window: all, some, or none although the file names one."""
    shape = read(tmp_path, PUBLISHED[name][0]).shape
    assert (shape.window, shape.full_attention_every) == (window, every)


def test_the_window_of_gemma_3_leaves_one_layer_in_six(tmp_path: Path) -> None:
    """Five layers with a window for one without."""
    shape = read(tmp_path, INSIDE["gemma-3-27b"][0]).shape
    assert (shape.window, shape.full_attention_every) == (1024, 6)
