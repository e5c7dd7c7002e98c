"""A configuration's keys as the shapes of the cost model.

Parameters of biases, norms and learned positions are not counted.
"""

from __future__ import annotations

from model.architecture import Architecture, Experts, LatentAttention, SparseAttention
from sweep.hugging_face.config import Config

NEVER = 1  # of the layers with a window none attends to everything


def architecture(config: Config, name: str) -> Architecture:
    """Shapes of a configuration. Raises InputError with every key that is missing, wrong or cannot be expressed."""
    hidden = config.needed("hidden_size", "n_embd", "d_model", "hidden_dim", "model_dim", "emb_size")
    layers = config.needed("num_hidden_layers", "n_layer", "n_layers", "num_layers")
    heads = config.needed("num_attention_heads", "n_head", "n_heads", "num_heads", "num_q_heads")
    latent = _latent(config)
    experts = _experts(config, layers)
    key_heads = _key_value_heads(config, heads)
    window, every = _window(config, layers)
    feed_forward = _feed_forward(config, hidden, experts)
    vocabulary = config.needed("vocab_size", "padded_vocab_size", "n_vocab")
    head = latent.nope_head + latent.rope_head if latent else _head_size(config, hidden, heads)
    found = Architecture(
        name=name,
        layers=layers,
        hidden=hidden,
        heads=heads,
        key_value_heads=heads if latent else key_heads,
        head_size=head,
        feed_forward=feed_forward,
        vocabulary=vocabulary,
        gated=config.family.gated,
        tied_embeddings=_tied(config),
        latent=latent,
        experts=experts,
        mtp_layers=_prediction(config),
        window=window,
        full_attention_every=every,
        norms_per_layer=config.family.norms,
        sparse=_sparse(config),
        parallel_blocks=_parallel(config),
    )
    config.checked()
    return found


def _head_size(config: Config, hidden: int, heads: int) -> int:
    given = config.number("head_dim", "kv_channels", "attention_head_dim", "head_size", "d_kv")
    if given is not None:
        return given
    if hidden % heads:
        config.wrong("num_attention_heads", f"must divide the hidden size {hidden}, or head_dim be given", heads)
        return 1
    return hidden // heads


def _key_value_heads(config: Config, heads: int) -> int:
    family = config.family
    newer = config.flag("new_decoder_architecture", otherwise=False)
    if not newer and config.find("multi_query")[1] is not None and config.flag("multi_query", otherwise=False):
        return 1
    given = config.number("num_key_value_heads", "num_kv_heads", "n_head_kv", "multi_query_group_num", "num_kv_head",
                          "attn_config.kv_n_heads", "num_key_value_groups_heads")  # fmt: skip
    if given is None:
        return 1 if family.one_key_head and not newer and config.find("multi_query")[1] is None else heads
    if heads % given:
        config.wrong("num_key_value_heads", f"must divide the {heads} heads", given)
    return given


def _feed_forward(config: Config, hidden: int, experts: Experts | None) -> int:
    """Width of the dense feed-forward; of a model of experts alone that of one."""
    if config.model_type in ("llama4", "llama4_text"):
        return config.needed("intermediate_size_mlp")
    names = (
        "intermediate_size",
        "ffn_hidden_size",
        "n_inner",
        "ffn_dim",
        "ffn_hidden",
        "d_ff",
        "ffn_intermediate_size",
    )
    given = config.number(*names)
    if given is not None:
        if config.model_type == "qwen":  # its first version counts both halves of the gate
            return given // 2
        return given
    if experts is not None:
        return experts.hidden
    ratio = config.number("expansion_ratio") or config.family.wide
    if not ratio:
        config.wrong(names[0], "missing", None, f"one of {', '.join(names)}")
    return ratio * hidden


def _tied(config: Config) -> bool:
    """Whether the head is the embedding: the language model's word, else the file's."""
    inner = config.find("tie_word_embeddings", "tie_embeddings", "tie_lm_head")[1]
    outer = config.whole.get("tie_word_embeddings")
    if inner is None and isinstance(outer, bool):
        return outer
    return config.flag("tie_word_embeddings", "tie_embeddings", "tie_lm_head", otherwise=config.family.tied)


def _parallel(config: Config) -> bool:
    if config.model_type in ("falcon", "RefinedWeb", "RefinedWebModel"):
        return config.flag("parallel_attn", otherwise=True)
    if config.model_type == "gpt_neox":
        return config.flag("use_parallel_residual", otherwise=True)
    return config.family.parallel


def _prediction(config: Config) -> int:
    """Modules that predict further tokens."""
    if config.find("num_nextn_predict_layers", "mtp_num_layers")[1] is not None:
        return config.number("num_nextn_predict_layers", "mtp_num_layers", least=0) or 0
    if config.find("num_mtp_modules")[1] is not None and config.flag("use_mtp", otherwise=True):
        return config.number("num_mtp_modules", least=0) or 0
    return 0


# ----------------------------------------------------------------------------------------------------- attention
def _latent(config: Config) -> LatentAttention | None:
    if config.find("kv_lora_rank")[1] is None:
        return None
    return LatentAttention(
        query_rank=config.number("q_lora_rank") or 0,
        key_value_rank=config.needed("kv_lora_rank"),
        nope_head=config.needed("qk_nope_head_dim"),
        rope_head=config.needed("qk_rope_head_dim"),
        value_head=config.needed("v_head_dim"),
    )


def _sparse(config: Config) -> SparseAttention | None:
    if config.find("index_topk")[1] is None:
        return None
    config.notes.append("The weights of the indexer of sparse attention are not counted.")
    return SparseAttention(
        keys=config.needed("index_topk"),
        index_heads=config.needed("index_n_heads"),
        index_head=config.needed("index_head_dim"),
    )


def _window(config: Config, layers: int) -> tuple[int, int]:
    """Span of sliding-window attention, 0 without, and how many layers there are for one that sees everything."""
    span = config.number("sliding_window", "window_size", "attention_window", "attention_chunk_size", least=0)
    types = config.words("layer_types")
    if not span:
        return 0, 1
    if types:
        full = sum(one == "full_attention" for one in types)
        return (0, 1) if full == len(types) else (span, _one_in(config, len(types), full))
    if not config.flag("use_sliding_window", otherwise=config.family.windowed):
        return 0, 1
    longest = config.number("max_position_embeddings", "n_positions", "max_sequence_length")
    if longest is not None and span >= longest:
        config.notes.append(f"The window of {span} tokens is no shorter than the longest sequence, and left out.")
        return 0, 1
    if config.model_type in ("llama4", "llama4_text"):
        config.notes.append("Attention in chunks is taken for a sliding window of the same span.")
    _, pattern = config.find("sliding_window_pattern", "_sliding_window_pattern", "no_rope_layer_interval")
    if isinstance(pattern, str) and 1 < len(pattern) < 1000:  # as in "LLLG", local and global
        every = len(pattern)
    else:
        every = (config.number("sliding_window_pattern", "_sliding_window_pattern", "no_rope_layer_interval")
                 if pattern is not None else config.family.window_every) or 0  # fmt: skip
    return (0, 1) if every == 1 else (span, every or NEVER)


def _one_in(config: Config, layers: int, full: int) -> int:
    """Layers for each that attends to everything."""
    if not full:
        return NEVER
    if layers % full:
        config.notes.append(f"{full} of {layers} layers attend to everything; taken for one in {round(layers / full)}.")
    return round(layers / full)


# ------------------------------------------------------------------------------------------------------- experts
def _experts(config: Config, layers: int) -> Experts | None:
    """The mixture of experts; None of a dense model."""
    count = config.number("n_routed_experts", "num_local_experts", "num_experts", "moe_num_experts",
                          "ffn_config.moe_num_experts", least=0)  # fmt: skip
    if count is None or count <= 1:
        if config.family.mixture and count is None:
            config.wrong("num_experts", "missing", None, "one of n_routed_experts, num_local_experts, num_experts")
        return None
    per_token = config.needed("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_top_k", "moe_k",
                              "num_selected_experts", "ffn_config.moe_top_k", "router_topk")  # fmt: skip
    if per_token > count:
        config.wrong("num_experts_per_tok", f"must be at most the {count} experts", per_token)
    width = config.needed("moe_intermediate_size", "expert_ffn_hidden_size", "expert_intermediate_size",
                          "ffn_config.ffn_hidden_size", "intermediate_size", "ffn_hidden_size")  # fmt: skip
    dense, every = _dense_layers(config, layers)
    shared, shared_width = _shared(config, width)
    clamped = config.find("swiglu_limit")[1] is not None
    return Experts(
        count, min(per_token, count), width, shared, shared_width, dense, every, config.family.expert_biases, clamped
    )  # fmt: skip


def _shared(config: Config, width: int) -> tuple[int, int]:
    """Shared experts, and the width of one where it is not that of a routed one."""
    if config.model_type in ("llama4", "llama4_text"):
        return 1, 0
    own = config.number("shared_expert_intermediate_size", "moe_shared_expert_intermediate_size", least=0)
    many = config.number("n_shared_experts", "num_shared_experts", "num_shared_expert", "moe_num_shared_experts",
                         least=0)  # fmt: skip
    if own and many is None:
        return 1, own if own != width else 0
    if own and many:
        return many, own if own != width else 0
    return many or 0, 0


def _dense_layers(config: Config, layers: int) -> tuple[int, int]:
    """Leading layers with a dense feed-forward, and how many layers there are for each mixture after them."""
    lead = config.number("first_k_dense_replace", "moe_layer_start_index", "num_dense_layers", least=0) or 0
    every = config.number("interleave_moe_layer_step", "decoder_sparse_step", "moe_layer_freq",
                          "moe_layer_interval") or 1  # fmt: skip
    _, alone = config.find("mlp_only_layers")
    if isinstance(alone, list) and alone:
        if alone == list(range(len(alone))) and len(alone) < layers:
            lead = max(lead, len(alone))
        else:
            config.wrong("mlp_only_layers", "must be the first layers: others cannot be expressed", str(alone)[:60])
    if lead >= layers or every > layers:
        config.wrong("first_k_dense_replace", f"must leave one of the {layers} layers a mixture", lead)
    if every > 1 and (layers - lead) % every:
        config.notes.append(f"{layers - lead} layers do not divide by {every}: a mixture less is counted.")
    return lead, every
