"""Rows of a file of measured operators, read as operations of the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from model.architecture import LatentAttention, SparseAttention
from model.chip import FORMATS
from model.dispatch import distinct_groups
from sweep import operator_forms as forms
from sweep.chip_names import CHIP_SYSTEMS
from sweep.operator_forms import Form, Operation, machine
from sweep.published import InexpressibleError

Row = Mapping[str, Any]
Reader = Callable[[Row], list[Operation]]

_CHIPS = {"h100": "h100_sxm", "a100": "a100_80", "tpu7x": "tpu_v7x", "ascend_910c_package": "ascend_910c"}
_ONE_NODE = 8  # of the machines that the sources measured, where they do not say
_MANY_TOKENS, _FEW_TOKENS = 4096, 128  # of the benchmarks of bulk and low-latency kernels, where a source is silent
_PADDED_ROW_BYTES = 7.5 * 1024.0  # of 7168 elements in int8 with their scales, as the 910C sends them
_FEWEST_CORES = 20  # that engines give a bulk kernel
# Attention over a cache called from Python, its three kernels started one by one; graphs save this (10 to 14 us in all
# in the tables of ai-dynamo/aiconfigurator, which are replayed from graphs, against 21 to 24 us).
_EAGER_S = 10e-6
_SCALES = 1.0 + 4.0 / 128.0  # of rows sent in 8 bits: a float for 128 elements
_ROW_BYTES = {
    "fp8": _SCALES, "bf16": 2.0, "bfloat16": 2.0, "nvfp4": 0.5 + 1 / 16, "mxfp8": 1 + 1 / 32,
}  # fmt: skip
_NOT_OPERATORS = {
    "ablation": "an effect on a whole step, not an operator",
    "hardware_spec": "a specification, not a measurement",
    "theoretical_limit": "a bound, not a measurement",
    "operator_latency": "shapes are not printed",
    "gdn_decode": "gated linear attention is not modelled",
    "gdn_prefill": "gated linear attention is not modelled",
    "link_bandwidth_latency": "reads and writes of one engine's memory, no collective",
}


def _chip_key(row: Row) -> str:
    key = str(row.get("chip_key"))
    if key == "other" and "Ascend A3" in str(row.get("chips")):
        return "ascend_910c_die"
    key = _CHIPS.get(key, key)
    if key not in CHIP_SYSTEMS:
        raise InexpressibleError("the source does not say which chip" if key == "other" else f"chip {key!r} is unknown")
    return key


def _operation(row: Row, kind: str, seconds: Any, form: Form, arguments: Mapping[str, Any], **rest: Any) -> Operation:
    quantity = rest.pop("quantity", "seconds")
    fixed = tuple(sorted(rest.pop("fixed", {}).items()))
    values = {name: float(value) for name, value in arguments.items()}
    source = str(row.get("group"))
    chip = _chip_key(row)
    return Operation(str(row["id"]), chip, kind, quantity, float(seconds), form, values, fixed, source=source, **rest)


def _message_bytes(row: Row) -> float:
    """Bytes of a message; a table in elements says so, and gives bytes beside."""
    return float(row["params"]["message_bytes"])


def _seconds(row: Row, factor: float) -> float:
    """Seconds of a collective: printed, or from the bus bandwidth, which counts `factor` of the bytes."""
    measured = row["measured"]
    for key, scale in (("latency_ms", 1e-3), ("latency_ms_median", 1e-3), ("latency_us", 1e-6)):
        if measured.get(key) is not None:
            return float(measured[key]) * scale
    return _message_bytes(row) * factor / (float(measured["busbw_GBps"]) * 1e9)


def _used(row: Row, ranks: int) -> int:
    """Ranks of each node that take part, where the row says, or its domain holds no whole number of groups."""
    per_node = row["params"].get("devices_per_node")
    inner = machine(_chip_key(row)).tiers[0]
    if inner.topology != "switch":
        return 0
    if per_node and int(per_node) < min(ranks, inner.ranks):
        return int(per_node)
    return 0 if ranks > inner.ranks or inner.ranks % ranks == 0 else ranks


def _collective_row(row: Row) -> list[Operation]:
    ranks = int(row["params"]["ranks"])
    kind = {"alltoall": "all_to_all"}.get(str(row["kind"]), str(row["kind"]))
    factor = (2.0 if kind == "all_reduce" else 1.0) * (ranks - 1.0) / ranks
    arguments = {"bytes_": _message_bytes(row), "ranks": ranks}
    seconds, domain = _seconds(row, factor), _used(row, ranks)
    if row["group"] == "custom_allreduce":
        name = f"{kind}, engine kernels"
        return [_operation(row, name, seconds, forms.engine_all_reduce, arguments, domain=domain)]
    across = "" if ranks <= (domain or machine(_chip_key(row)).tiers[0].ranks) else " across nodes"
    fixed = {"kind": kind}
    name = f"{kind}, library{across}"
    return [_operation(row, name, seconds, forms.library_collective, arguments, fixed=fixed, domain=domain)]


def _send(row: Row) -> list[Operation]:
    stride = 1 if row["params"].get("devices_per_node") != 1 else machine(_chip_key(row)).tiers[0].ranks
    arguments = {"bytes_": _message_bytes(row), "stride": stride}
    return [_operation(row, "send", _seconds(row, 1.0), forms.sent, arguments)]


def _exchange_operation(
    row: Row, way: str, kernel: str, seconds: float, element: float, assumed: str | None = None
) -> Operation:
    params = row["params"]
    ranks = int(params.get("ep") or params["ranks"])
    arguments = {
        "tokens": params["tokens_per_rank"], "ranks": ranks, "per_token": params["topk"],
        "row_bytes": element * float(params["hidden"]),
    }  # fmt: skip
    fixed: dict[str, Any] = {"kernel": kernel}
    if kernel != "low-latency" and params.get("groups"):
        fixed["node_limit"] = float(params["groups"])
    name, rest = f"{way}, {kernel}", {"domain": _used(row, ranks), "assumed": assumed, "quantity": f"{way}_s"}
    return _operation(row, name, seconds, forms.exchange, arguments, fixed=fixed, **rest)


def _counted_rows(params: Mapping[str, Any], across: bool) -> float:
    """Rows that a bulk kernel's bandwidth counts: one for each rank, or domain of 8 ranks, that a token reaches."""
    ranks, visits = float(params["ep"]), float(params["topk"])
    groups = ranks / _ONE_NODE if across else ranks
    limit = float(params.get("groups") or 4) if across else np.inf
    return float(params["tokens_per_rank"]) * float(distinct_groups(min(groups, limit), visits))


def _one_way(row: Row) -> list[Operation]:
    """Rows of one way, dispatch or combine."""
    measured = row["measured"]
    way = "combine" if "combine" in str(row["kind"]) else "dispatch"
    low_latency = "low_latency" in str(row["params"].get("mode")) or row["group"] == "cloudmatrix384"
    usual = {"hidden": 7168, "topk": 8, "tokens_per_rank": _FEW_TOKENS if low_latency else _MANY_TOKENS}
    params = {**usual, **row["params"]}
    assumed = None if "tokens_per_rank" in row["params"] else f"{usual['tokens_per_rank']} tokens"
    element = _element_bytes(row, way, low_latency)
    seconds = 1e-6 * measured.get("latency_us", 0.0) + 1e-3 * measured.get("latency_ms", 0.0)
    if not seconds:
        counted = _counted_rows(params, measured.get("bottleneck") == "RDMA")
        seconds = 1e-9 * counted * element * float(params["hidden"]) / float(measured["bandwidth_GBps"])
    kernel = "low-latency" if low_latency else "bulk"
    if row["group"] in ("all_to_all_moe", "trtllm-blog18"):
        kernel = "fastest"
    return [_exchange_operation({**row, "params": params}, way, kernel, seconds, element, assumed)]


def _element_bytes(row: Row, way: str, low_latency: bool) -> float:
    """Bytes of an element of a row as it is sent: results in 16 bits, what is dispatched as the source says."""
    if way == "combine":
        return _ROW_BYTES["nvfp4"] if "low_precision" in str(row["kind"]) else 2.0
    if low_latency and _chip_key(row).startswith("ascend"):
        return _PADDED_ROW_BYTES / 7168.0
    return _ROW_BYTES.get(str(row["params"].get("dtype")).split()[0], _SCALES)  # where nothing is said, 8 bits


def _both_ways(row: Row) -> list[Operation]:
    """Rows that give dispatch and combine."""
    params, measured = row["params"], row["measured"]
    if params.get("dispatch_sms", _FEWEST_CORES) < _FEWEST_CORES:
        raise InexpressibleError("the kernel was held to fewer cores than engines give it")
    kernel = "low-latency" if "low_latency" in str(row["kind"]) else "bulk"
    found = []
    for way, element in (("dispatch", _SCALES), ("combine", 2.0)):
        seconds = measured.get(f"{way}_us")
        if seconds is None:
            across = measured.get(f"{way}_rdma_GBps")
            rate = across or measured.get(f"{way}_xgmi_GBps") or measured[f"{way}_GBps"]
            counted = _counted_rows(params, bool(across) or float(params["ep"]) > _ONE_NODE)
            seconds = 1e-3 * counted * element * float(params["hidden"]) / float(rate)
        found.append(_exchange_operation(row, way, kernel, 1e-6 * float(seconds), element))
    return found


def _eight_bits(row: Row) -> str:
    return "fp8" if "fp8" in machine(_chip_key(row)).chip.peak_flops else "int8"


def _matmul_format(row: Row) -> str:
    """Number format of a matmul; where only the share of peak is printed, that of the 8-bit peak is meant."""
    dtype = str(row["params"].get("dtype") or "").split()
    return dtype[0] if dtype and dtype[0] in FORMATS else _eight_bits(row)


def _from_rate(row: Row, flops: float) -> float:
    """Seconds of a kernel: printed, or from its rate or its share of peak."""
    measured = row["measured"]
    if measured.get("latency_us"):
        return float(measured["latency_us"]) * 1e-6
    if measured.get("tflops"):
        return flops / (float(measured["tflops"]) * 1e12)
    peak = machine(_chip_key(row)).chip.peak_flops[FORMATS[_matmul_format(row)].peak]
    return flops / (float(measured["compute_utilisation"]) * peak)


def _matmul_row(row: Row) -> list[Operation]:
    shape = {key.lower(): float(row["params"][key]) for key in row["params"] if key.lower() in ("m", "n", "k")}
    seconds = _from_rate(row, 2.0 * shape["m"] * shape["n"] * shape["k"])
    number_format = _matmul_format(row)
    fixed = {"number_format": number_format}
    return [_operation(row, f"matmul {number_format}", seconds, forms.plain_matmul, shape, fixed=fixed)]


def _grouped_row(row: Row) -> list[Operation]:
    """A grouped matmul with its shape, all groups of the same rows."""
    params = row["params"]
    groups, each = float(params["groups"]), float(params.get("M_per_group") or params["M"])
    arguments = {"rows": groups * each, "active": groups, "n": float(params["N"]), "k": float(params["K"])}
    number_format = _matmul_format(row)
    seconds = _from_rate(row, 2.0 * groups * each * arguments["n"] * arguments["k"])
    kind = f"grouped matmul {number_format}"
    return [_operation(row, kind, seconds, forms.expert_matmul, arguments, fixed={"number_format": number_format})]


def _expert_row(row: Row) -> list[Operation]:
    """The two products of the experts of a rank: up (with the gate) and down."""
    params = row["params"]
    local, hidden, width = (float(params[k]) for k in ("num_local_experts", "hidden_size", "intermediate_size"))
    tokens = float(params.get("batch_size_per_gpu") or params["seq_len_per_gpu"])
    rows = tokens * float(params["topk"]) * float(params["num_gpus"]) * local / float(params["num_experts"])
    number_format = _matmul_format(row)
    kind = f"grouped matmul {number_format} {'decode' if 'decode' in row['kind'] else 'prefill'}"
    shapes = {"up": (2.0 * width, hidden), "down": (hidden, width)}
    return [
        _operation(
            row, kind, 1e-6 * float(row["measured"][f"{way}_proj_us"]), forms.expert_matmul,
            {"rows": rows, "active": local, "n": n, "k": k},
            fixed={"number_format": number_format}, quantity=f"{way}_s",
        )
        for way, (n, k) in shapes.items()
    ]  # fmt: skip


def _sizes(row: Row) -> list[int]:
    return [int(part) for part in str(row["params"]["file_shape_label"]).split("-") if part.isdigit()]


def _kv_bytes(row: Row) -> float:
    return 1.0 if str(row["params"].get("kv_dtype")) == "fp8" else 2.0


def _attention(row: Row, kind: str, form: Form, arguments: Mapping[str, Any], **rest: Any) -> list[Operation]:
    """One timed attention kernel."""
    return [_operation(row, kind, _from_rate(row, 0.0), form, arguments, **rest)]


def _cached_row(row: Row) -> list[Operation]:
    heads, key_heads, size = _sizes(row)
    params = row["params"]
    arguments = {"sequences": params["batch_size"], "keys": params["kv_len"], "heads": heads, "key_heads": key_heads}
    fixed = {"head_size": size, "kv_bytes": _kv_bytes(row)}
    return _attention(row, "attention decode", forms.decode_attention, arguments, fixed=fixed, eager_s=_EAGER_S)


def _latent(width: int, rope: int) -> LatentAttention:
    return LatentAttention(0, width, width, rope, width)


def _latent_row(row: Row) -> list[Operation]:
    if "file_shape_label" not in row["params"]:
        return _latent_limit(row)
    heads, width, rope = _sizes(row)
    params = row["params"]
    arguments = {"sequences": params["batch_size"], "queries": 1, "keys": params["kv_len"], "heads": heads}
    fixed = {"latent": _latent(width, rope), "kv_bytes": _kv_bytes(row)}
    return _attention(row, "latent attention decode", forms.latent_attention, arguments, fixed=fixed, eager_s=_EAGER_S)


def _latent_limit(row: Row) -> list[Operation]:
    """A printed limit of latent attention, as a shape that reaches it: many heads for the peak, few for the memory."""
    chip, measured = machine(_chip_key(row)).chip, row["measured"]
    sparse = "sparse" in str(row["kind"])
    latent, keys, sequences = _latent(512, 64), 32768.0, 128.0
    kv_bytes = 1.0 + 80.0 / 576.0 if sparse and "decode" in str(row["kind"]) else 2.0  # 8 bits, scales, rope in 16
    read = 1e9 * measured.get("bandwidth_GBps", 0.0) + chip.hbm_bandwidth * measured.get("bandwidth_utilisation", 0.0)
    heads, queries = (16.0, 1.0) if read else (128.0, 2.0)
    if read:
        seconds = sequences * keys * 576.0 * kv_bytes / read
    else:
        rate = 1e12 * measured.get("tflops", 0.0) + chip.peak_flops["bf16"] * measured.get("compute_utilisation", 0.0)
        seconds = 2.0 * sequences * queries * heads * keys * (576.0 + 512.0) / rate
    arguments = {"sequences": sequences, "queries": queries, "keys": keys, "heads": heads}
    kind = "sparse latent attention" if sparse else "latent attention decode"
    fixed = {"latent": latent, "kv_bytes": kv_bytes}
    assumed = "the limit of large shapes"
    return [_operation(row, kind, seconds, forms.latent_attention, arguments, fixed=fixed, assumed=assumed)]


def _sparse_row(row: Row) -> list[Operation]:
    """Attention over the picked keys, or the scores that they are picked by."""
    params, sizes = row["params"], _sizes(row)
    phase = "decode" if "decode" in str(row["kind"]) else "prefill"
    sequences = float(params.get("batch_size") or params.get("batchsize") or 1)
    queries = float(params.get("next_n") or params.get("s_q") or 1)
    if str(params["file_shape_label"]).startswith("attn"):
        heads, width, picked = sizes
        # each query picks keys of its own, so each counts as a sequence
        arguments = {"sequences": sequences * queries, "queries": 1.0, "keys": picked, "heads": heads}
        fixed: dict[str, Any] = {"latent": _latent(width - 64, 64), "kv_bytes": _kv_bytes(row)}
        return _attention(row, f"sparse attention {phase}", forms.latent_attention, arguments, fixed=fixed)
    keys = float(params["s_kv"]) - (queries / 2.0 if phase == "prefill" else 0.0)
    fixed = {"sparse": SparseAttention(0, *sizes)}
    arguments = {"sequences": sequences, "queries": queries, "keys": keys}
    return _attention(row, f"index scores {phase}", forms.scores, arguments, fixed=fixed)


def _prompt_row(row: Row) -> list[Operation]:
    params = row["params"]
    if "file_shape_label" not in params:
        raise InexpressibleError("the shape is not printed in full")
    heads, second, third = _sizes(row)
    head_sizes = (second + third, second) if "mla" in str(row["kind"]) else (third, third)
    arguments = {"tokens": params["seq_len"], "heads": heads}
    fixed = {"head_sizes": head_sizes}
    return [_operation(row, "attention prefill", _from_rate(row, 0.0), forms.prompt_attention, arguments, fixed=fixed)]


_READERS: Mapping[str, Reader] = {
    **dict.fromkeys(("all_reduce", "all_gather", "reduce_scatter", "alltoall"), _collective_row),
    **dict.fromkeys(("moe_dispatch", "moe_combine", "alltoall_dispatch", "alltoall_combine"), _one_way),
    "alltoall_combine_low_precision": _one_way,
    **dict.fromkeys(("deepep_low_latency", "deepep_normal"), _both_ways),
    **dict.fromkeys(("moe_all_to_all_low_latency", "moe_all_to_all_normal"), _both_ways),
    "send_recv": _send,
    "gemm": _matmul_row,
    "grouped_gemm": _grouped_row,
    **dict.fromkeys(("grouped_gemm_decode", "grouped_gemm_prefill"), _expert_row),
    "attention_mla_decode": _latent_row,
    **dict.fromkeys(("attention_mla_sparse_decode", "attention_mla_sparse_prefill"), _latent_limit),
    "mha_decode": _cached_row,
    "mla_decode": _latent_row,
    **dict.fromkeys(("mha_prefill", "mla_prefill", "attention_mha_prefill"), _prompt_row),
    **dict.fromkeys(("dsa_decode", "dsa_prefill"), _sparse_row),
}


def operations(row: Row) -> list[Operation]:
    """What a row measures. Raises InexpressibleError with the reason where the model says nothing about it."""
    kind = str(row.get("kind"))
    if kind in _NOT_OPERATORS:
        raise InexpressibleError(_NOT_OPERATORS[kind])
    if kind not in _READERS:
        raise InexpressibleError(f"operator {kind!r} is not modelled")
    _chip_key(row)
    try:
        found = _READERS[kind](row)
    except KeyError as missing:
        raise InexpressibleError(f"{missing.args[0]!r} is not given") from None
    except (TypeError, ValueError, AttributeError, ZeroDivisionError):
        raise InexpressibleError("a parameter has another form than the operator's others") from None
    if any(not 0.0 < one.measured < np.inf for one in found):
        raise InexpressibleError("the measured time is no positive number")
    return found
