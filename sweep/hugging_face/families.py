"""Architectures by their `model_type`: how each is read, and which are refused and why.

Facts are those of the configuration and modelling files of the transformers library (v4 and v5) and of the models' own
repositories.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Family:
    """How the configuration of an architecture is read where keys alone do not say.

    Attributes
    ----------
    gated
        Feed-forward of three matrices (SwiGLU, GeGLU) instead of two.
    tied
        Whether the head is the embedding where the file does not say.
    parallel
        Attention and feed-forward beside each other.
    norms
        Norms of a layer.
    window_every
        Of layers with a window, one in so many attends to everything, where the file does not say; 0: none.
    wide
        The feed-forward's width over the hidden size where the file does not say; 0: it must say.
    one_key_head
        A single key and value head where the file says nothing of them.
    windowed
        Whether `sliding_window` is in force where nothing else says so.
    expert_biases
        Whether routed experts have biases.
    defaults
        Keys that repositories leave to the library.
    """

    gated: bool = True
    tied: bool = False
    parallel: bool = False
    norms: int = 2
    mixture: bool = False
    window_every: int = 0
    wide: int = 0
    one_key_head: bool = False
    windowed: bool = True
    expert_biases: bool = False
    defaults: Mapping[str, int] = field(default_factory=dict)


_PLAIN = Family()
_TIED = Family(tied=True)
_MIXTURE = Family(mixture=True)
_CLASSIC = Family(gated=False, tied=True, wide=4)

# What the repositories of Gemma 3 leave to the library.
_GEMMA3 = Family(
    tied=True,
    norms=4,
    window_every=6,
    defaults={"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "vocab_size": 262208},
)

FAMILIES: Mapping[str, Family] = {
    # dense, gated
    **dict.fromkeys(
        (
            "llama", "mistral", "ministral", "ministral3", "internlm", "internlm2", "internlm3", "baichuan",
            "aquila", "xverse", "olmo", "olmo2", "olmo3", "phi3", "exaone", "exaone4", "seed_oss", "ernie4_5",
            "hunyuan_v1_dense", "hunyuan", "stablelm", "smollm3", "mimo", "glm", "orion",
            "minicpm3", "skywork", "telechat", "helium", "vaultgemma",
        ),
        _PLAIN,
    ),
    "minicpm": _TIED,
    "granite": _TIED,
    "chatglm": _PLAIN,
    **dict.fromkeys(("glm4", "glm4v_text"), Family(norms=4)),
    **dict.fromkeys(
        ("qwen", "qwen2", "qwen2_vl", "qwen2_vl_text", "qwen2_5_vl", "qwen2_5_vl_text", "qwen3", "qwen3_vl_text"),
        Family(windowed=False),
    ),
    "gemma": _TIED,
    "gemma2": Family(tied=True, norms=4, window_every=2),
    **dict.fromkeys(("gemma3", "gemma3_text"), _GEMMA3),
    "cohere": Family(tied=True, parallel=True),
    "cohere2": Family(tied=True, parallel=True, window_every=4),
    # dense, two matrices
    "gpt2": _CLASSIC,
    "gpt_bigcode": Family(gated=False, tied=True, wide=4),
    "gpt_neo": Family(gated=False, tied=True, wide=4, window_every=2),
    "gpt_neox": Family(gated=False, parallel=True),
    "gptj": Family(gated=False, parallel=True, wide=4),
    "codegen": Family(gated=False, parallel=True, wide=4),
    "bloom": _CLASSIC,
    "opt": Family(gated=False, tied=True),
    "mpt": _CLASSIC,
    "falcon": Family(gated=False, wide=4, one_key_head=True),
    "RefinedWeb": Family(gated=False, wide=4),
    "RefinedWebModel": Family(gated=False, wide=4, one_key_head=True),
    "phi": Family(gated=False, parallel=True),
    "persimmon": Family(gated=False),
    "starcoder2": Family(gated=False, tied=True),
    "nemotron": Family(gated=False),
    "arcee": Family(gated=False),
    "apertus": Family(gated=False),
    # mixtures of experts
    **dict.fromkeys(
        (
            "mixtral", "deepseek", "deepseek_v2", "deepseek_v3", "deepseek_v32", "kimi_k2", "glm4_moe",
            "glm4_moe_lite", "glm_moe_dsa", "hunyuan_v1_moe", "hunyuan_moe", "phimoe", "olmoe", "granitemoe", "dbrx",
            "ernie4_5_moe", "glm4v_moe_text", "dots1", "bailing_moe", "bailing_moe_v2", "minimax_m2", "grok-1",
            "flex_olmo", "exaone_moe",
        ),
        _MIXTURE,
    ),
    **dict.fromkeys(("qwen2_moe", "qwen3_moe", "qwen3_vl_moe_text", "qwen3_omni_moe_text"),
                    Family(mixture=True, windowed=False)),
    "gpt_oss": Family(mixture=True, window_every=2, expert_biases=True),
    "llama4": Family(mixture=True, window_every=4),
    "llama4_text": Family(mixture=True, window_every=4),
}  # fmt: skip

# Models of several kinds of input: their language model lies inside, and is what is read.
AROUND = frozenset(
    {
        "gemma3", "llama4", "mistral3", "llava", "llava_next", "llava_onevision", "qwen2_vl", "qwen2_5_vl", "qwen3_vl",
        "qwen3_vl_moe", "kimi_vl", "kimi_k25", "internvl", "internvl_chat", "glm4v", "glm4v_moe", "paligemma",
        "idefics3", "smolvlm", "aya_vision", "cohere2_vision", "ernie4_5_moe_vl", "deepseek_vl_v2", "got_ocr2",
        "lighton_ocr", "pixtral", "moonvit",
    }
)  # fmt: skip

_STATE = "is a state-space model or mixes one in"
_LINEAR = "has linear attention in some layers"
_BOTH = "has an encoder beside its decoder"
_ENCODER = "is an encoder: it generates no tokens"
_VISION = "reads images and has no language model of its own"
_UNEQUAL = "has layers of unequal shapes"
REFUSED: Mapping[str, str] = {
    **dict.fromkeys(
        ("mamba", "mamba2", "falcon_mamba", "jamba", "zamba", "zamba2", "bamba", "falcon_h1", "nemotron_h",
         "granitemoehybrid", "plamo2", "hymba", "samba"),
        _STATE,
    ),
    **dict.fromkeys(
        ("rwkv", "rwkv5", "rwkv6", "rwkv7", "xlstm", "retnet", "recurrent_gemma", "qwen3_next", "qwen3_5",
         "qwen3_5_text", "qwen3_5_moe", "qwen3_5_moe_text", "kimi_linear", "minimax", "minimax_text_01", "minimax_m1",
         "lfm2", "lfm2_moe", "olmo_hybrid", "bailing_moe_linear", "ring", "gated_delta_net"),
        _LINEAR,
    ),
    **dict.fromkeys(
        ("t5", "mt5", "umt5", "t5gemma", "bart", "mbart", "pegasus", "marian", "m2m_100", "nllb", "whisper",
         "seamless_m4t", "led", "longt5", "switch_transformers", "blenderbot", "prophetnet", "encoder-decoder",
         "speech-encoder-decoder", "vision-encoder-decoder", "fsmt"),
        _BOTH,
    ),
    **dict.fromkeys(
        ("bert", "roberta", "xlm-roberta", "deberta", "deberta-v2", "electra", "albert", "distilbert", "modernbert",
         "nomic_bert", "esm", "mpnet", "camembert", "ernie"),
        _ENCODER,
    ),
    **dict.fromkeys(
        ("vit", "clip", "clip_vision_model", "siglip", "siglip2", "siglip_vision_model", "dinov2", "dinov3_vit", "swin",
         "convnext", "detr", "sam", "sam2", "blip", "blip-2", "depth_anything"),
        _VISION,
    ),
    **dict.fromkeys(("openelm", "deci", "nemotron-nas", "decilm"), _UNEQUAL),
    "gemma3n": "has embeddings in every layer and alternating updates",
    "gemma3n_text": "has embeddings in every layer and alternating updates",
    **dict.fromkeys(("mllama", "mllama_text_model"), "attends to images in layers of their own"),
    "arctic": "has a dense feed-forward beside the experts of every layer",
    "longcat_flash": "has experts that do nothing and two attentions a layer",
    "step3_text": "has multi-matrix factorised attention",
    "deepseek_v4": "compresses its cache by layers; deepseek-v4-pro and deepseek-v4-flash are in the catalogue",
    "diffllama": "subtracts two attentions from each other",
}  # fmt: skip
