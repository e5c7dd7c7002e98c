"""What a published training run states: its model, its machine, its number format, its measured step.

A case is a JSON object of the form described in docs/validation-cases.md. What it leaves open of its layout is filled
in sweep/case_layouts.py. Nothing here knows a case by its name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from model.architecture import Architecture, Experts, LatentAttention
from model.bounds import forward_flops_per_token
from model.chip import TRAINING_FORMATS
from model.system import System, partly_used, sliced
from sweep.known_models import completed


class InexpressibleError(Exception):
    """A case that the model has no words for; the text is the reason that users read."""


_PER_NODE = re.compile(r"\bper (?:\d-GPU )?(?:node|tray)\b", re.I)
_PORTS = re.compile(r"(\d+)\s*x[^;,]*?(\d+)\s*(?:Gb/s|Gbps|G)\b", re.I)
_TOTAL = re.compile(r"(\d+)\s*(?:Gb/s|Gbps)\b", re.I)


_MOST = 2**31  # of anything that a case counts


def number(case: Mapping[str, Any], key: str, default: int | None = None) -> int:
    """A whole number of a case, or the default where the source is silent."""
    value = case.get(key)
    if value is None:
        if default is None:
            raise InexpressibleError(f"{key} is not stated")
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= _MOST or value % 1:
        raise InexpressibleError(f"{key} is {value!r}, not a positive whole number")
    return int(value)


def model_kind(case: Mapping[str, Any]) -> str:
    """The kind of a case's model: "dense" or "MoE"."""
    return "MoE" if (case.get("arch") or {}).get("moe") else "dense"


def architecture(case: Mapping[str, Any]) -> Architecture:
    """The model of a case."""
    arch = case.get("arch") or {}
    for key in ("layers", "hidden", "heads"):
        if not arch.get(key):
            raise InexpressibleError(f"arch.{key} is not stated")
    moe, mla = arch.get("moe"), arch.get("mla")
    heads = int(arch["heads"])
    head = int(arch.get("head_dim") or arch["hidden"] // heads)
    if head < 1:
        raise InexpressibleError(f"arch.head_dim is not stated, and {heads} heads do not divide arch.hidden")
    latent = None
    if mla:
        latent = LatentAttention(
            int(mla.get("q_lora_rank") or 0), int(mla["kv_lora_rank"]), int(mla["qk_nope_head_dim"]),
            int(mla["qk_rope_head_dim"]), int(mla["v_head_dim"]),
        )  # fmt: skip
    if not moe and not arch.get("ffn_hidden"):
        raise InexpressibleError("arch.ffn_hidden is not stated")
    experts = _experts(moe) if moe else None
    window = int(arch.get("sliding_window") or 0)
    found = Architecture(
        name=str(case.get("model") or "model"),
        layers=int(arch["layers"]),
        hidden=int(arch["hidden"]),
        heads=heads,
        key_value_heads=int(arch.get("kv_heads") or heads),
        head_size=head,
        feed_forward=int(arch.get("ffn_hidden") or 0),
        vocabulary=_padded(int(arch.get("vocab") or 32000)),
        gated=arch.get("gated_mlp") is not False,
        tied_embeddings=bool(arch.get("tied_embeddings")),
        latent=latent,
        experts=experts,
        mtp_layers=int(arch.get("mtp_layers") or 0),
        window=window,
        full_attention_every=int(arch.get("full_attention_every_n_layers") or 1) if window else 1,
    )
    return completed(found, arch)


def _padded(vocabulary: int) -> int:
    """Vocabulary rounded up to a multiple of 128, as frameworks pad it."""
    return -(-vocabulary // 128) * 128


def _experts(moe: Mapping[str, Any]) -> Experts:
    width = moe.get("moe_ffn_hidden")
    if not width or not moe.get("experts"):
        raise InexpressibleError("arch.moe.moe_ffn_hidden or arch.moe.experts is not stated")
    return Experts(
        experts=int(moe["experts"]),
        per_token=int(moe.get("experts_per_token") or 1),
        hidden=int(width),
        shared=int(moe.get("shared_experts") or 0),
        shared_hidden=int(moe.get("shared_ffn_hidden") or 0),
        dense_layers=int(moe.get("dense_layers") or 0),
        every=int(moe.get("moe_every_n_layers") or moe.get("moe_layer_freq") or 1),
    )


def _node_gigabits(network: str) -> float | None:
    """Scale-out Gbit/s of a node, from text such as "8x 200 Gb/s HDR IB per node" or "400 Gbps per node"."""
    for part in re.split(r"[;:]", network):
        if not _PER_NODE.search(part):
            continue
        total = _TOTAL.match(part.strip())
        if total:
            return float(total.group(1))
        ports = _PORTS.search(part)
        if ports:
            return float(ports.group(1)) * float(ports.group(2))
    return None


def networked(system: System, case: Mapping[str, Any]) -> System:
    """The machine with the scale-out bandwidth that the case states, where it states one per node."""
    gigabits = _node_gigabits(case.get("network") or "")
    per_node = case.get("chips_per_node")
    if gigabits is None or not per_node:
        return system
    ranks = float(per_node) * system.chip.ranks_per_package
    outer = replace(system.tiers[-1], bandwidth=gigabits / 8 * 1e9 / ranks)
    return replace(system, tiers=(*system.tiers[:-1], outer))


def aligned(system: System, case: Mapping[str, Any]) -> System:
    """The machine with as many ranks of its scale-up domain as a run used: groups are laid so that none is cut.

    A job on 256 chips of racks of 72 takes 64 of each; only multiples of the domain use all of it.
    """
    inner, chips = system.tiers[0], case.get("num_chips")
    if not isinstance(chips, int) or chips < 1:
        return system
    ranks = chips * system.chip.ranks_per_package
    if inner.topology == "torus":
        slices = max(int((case.get("extra") or {}).get("slices") or 1), 1)
        return sliced(system, ranks // slices if ranks % slices == 0 else ranks)
    if inner.topology != "switch":
        return system
    if ranks % inner.ranks == 0:
        return system
    used = 1 << (min(inner.ranks, ranks).bit_length() - 1)
    return partly_used(system, inner.name, used)


def number_format(case: Mapping[str, Any]) -> str:
    """The number format of the matmuls."""
    text = case.get("number_format")
    if text is None:
        return "bf16"
    if text not in TRAINING_FORMATS:
        raise InexpressibleError(f"number_format {text!r} is not modelled")
    return str(text)


# How a source counts the FLOPs of attention: the full square, or the causal half. Per-source report of the
# collection that the cases come from; checked there against 6 N + attention within 3.5 %.
_CAUSAL = frozenset({"megatron-bridge", "megatron-core", "llama3-meta", "deepseek"})


def measured_step_seconds(case: Mapping[str, Any]) -> tuple[float, str]:
    """Measured seconds of a step: as printed or derived in the case, else from its TFLOP/s with its own FLOP count.

    Raises InexpressibleError where neither is possible.
    """
    target = case.get("target") or {}
    if target.get("step_time_s"):
        return float(target["step_time_s"]), str(target.get("how") or "printed")
    rate = (case.get("measured") or {}).get("tflops_per_chip")
    kind = case.get("measured_tflops_kind")
    if not rate or kind not in ("model", "hardware"):
        raise InexpressibleError("no step time can be derived from what was published")
    framework = (case.get("software") or {}).get("framework")
    model = architecture(case)
    sequence, batch = number(case, "seq_len"), number(case, "global_batch")
    layers, head, attention = forward_flops_per_token(model, sequence)
    passes = 4.0 if kind == "hardware" and case.get("recompute") == "full" else 3.0
    square = 1.0 if framework in _CAUSAL else 2.0
    flops = batch * sequence * (passes * (layers + square * attention) + 3.0 * head)
    return flops / (float(rate) * 1e12 * number(case, "num_chips")), f"from printed TFLOP/s ({kind} FLOPs)"


def is_fully_sharded(case: Mapping[str, Any]) -> bool:
    """Whether a case shards its weights over its replicas (FSDP)."""
    return case.get("fsdp") not in (None, 0, "0", False, "", "none") or case.get("zero_stage") == 3
