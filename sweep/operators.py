"""The model's operators against measured ones: collectives, dispatch and combine, matmuls, attention, row by row.

A row of a file of operators becomes operations: what was measured, and the function of the model that predicts it.
One parameter set per chip and machine; a group of errors is a kind of operator on a chip. Chips are taken at their
burst clock: a kernel that is timed alone does not reach the power cap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from model import collective as library
from model.architecture import LatentAttention, SparseAttention
from model.attention import fused_attention
from model.chip import FORMATS
from model.collective import place, transfer
from model.dispatch import distinct_groups
from model.matmul import matmul
from model.serving import attention, collectives
from model.serving.experts import grouped_matmul
from model.system import System, partly_used
from model.work import Traffic
from sweep import catalogue
from sweep.published import CHIP_SYSTEMS, InexpressibleError
from sweep.validation import Prediction

Form = Callable[..., Any]  # of a machine and arrays: seconds


@dataclass(frozen=True, slots=True)
class Operation:
    """One measured time and how the model predicts it."""

    id: str
    chip: str
    kind: str
    quantity: str
    measured: float  # seconds
    form: Form
    arguments: Mapping[str, float]  # of the form, as arrays of many operations
    fixed: tuple[tuple[str, Any], ...] = ()  # of the form, the same for all that are computed together
    domain: int = 0  # ranks of the innermost tier in use; 0: all
    eager_s: float = 0.0  # that the benchmark's way of calling adds
    assumed: str | None = None
    source: str = ""

    @property
    def group(self) -> str:
        """What errors are summed over."""
        return f"{self.kind}, {self.chip}"


Row = Mapping[str, Any]
Reader = Callable[[Row], list[Operation]]

_CHIPS = {"h100": "h100_sxm", "a100": "a100_80", "tpu7x": "tpu_v7x", "ascend_910c_package": "ascend_910c"}
_ONE_NODE = 8  # of the machines that the sources measured, where they do not say
_MANY_TOKENS = 4096.0  # of the bulk kernels' own benchmark, where a source does not say
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


_EXCHANGES: Mapping[str, Callable[..., Traffic]] = {
    "low-latency": collectives.low_latency_exchange,
    "bulk": collectives.bulk_exchange,
    "fastest": collectives.expert_exchange,
}


# ------------------------------------------------------------------------------------------ forms: what is computed
def library_collective(system: System, kind: Any, bytes_: Any, ranks: Any) -> Any:
    """A collective of the vendor's library."""
    group = place(system, ranks, 1)
    if kind == "all_to_all":
        return library.all_to_all(system, bytes_, group).seconds
    return library.collective(system, kind, bytes_, group).seconds


def engine_all_reduce(system: System, bytes_: Any, ranks: Any) -> Any:
    """An all-reduce by an engine's own kernels."""
    return collectives.all_reduce(system, bytes_, ranks).seconds


def sent(system: System, bytes_: Any, stride: Any) -> Any:
    """A message from one rank to another."""
    return transfer(system, bytes_, stride, np.full(np.shape(stride), 2)).seconds


def exchange(system: System, kernel: str, limit: float, tokens: Any, ranks: Any, per_token: Any, row_bytes: Any) -> Any:
    """One way of dispatch or combine."""
    return _EXCHANGES[kernel](system, tokens, per_token, row_bytes, ranks, node_limit=limit).seconds


def plain_matmul(system: System, number_format: str, m: Any, n: Any, k: Any) -> Any:
    """A matmul."""
    return matmul(system.chip, number_format, m, n, k).seconds


def expert_matmul(system: System, number_format: str, rows: Any, active: Any, n: Any, k: Any) -> Any:
    """A grouped matmul."""
    return grouped_matmul(system.chip, number_format, rows, active, n, k).seconds


def decode_attention(
    system: System, head_size: int, kv_bytes: float, sequences: Any, keys: Any, heads: Any, key_heads: Any
) -> Any:
    """Attention of one new token over a cache."""
    return attention.cached_attention(
        system.chip, sequences, 1.0, keys, heads, key_heads, head_size, kv_bytes
    ).seconds  # fmt: skip


def latent_attention(
    system: System, latent: LatentAttention, kv_bytes: float, sequences: Any, queries: Any, keys: Any, heads: Any
) -> Any:
    """Absorbed latent attention over a cache."""
    return attention.latent_cached_attention(
        system.chip, sequences, queries, keys, heads, latent, kv_bytes
    ).seconds  # fmt: skip


def prompt_attention(system: System, head_sizes: tuple[int, int], tokens: Any, heads: Any) -> Any:
    """Causal attention of one prompt."""
    seconds = fused_attention(system.chip, 1.0, tokens, tokens / 2.0, heads, head_sizes).seconds
    return seconds / system.chip.calibration.decode.prompt_attention_speed


def scores(system: System, sparse: SparseAttention, sequences: Any, queries: Any, keys: Any) -> Any:
    """Scores of the indexer of sparse attention."""
    return attention.index_scores(system.chip, sparse, sequences, queries, keys).seconds


# ----------------------------------------------------------------------------------------------- readers: of each row
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
    inner = _machine(_chip_key(row)).tiers[0]
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
        return [_operation(row, name, seconds, engine_all_reduce, arguments, domain=domain)]
    across = "" if ranks <= (domain or _machine(_chip_key(row)).tiers[0].ranks) else " across nodes"
    fixed = {"kind": kind}
    name = f"{kind}, library{across}"
    return [_operation(row, name, seconds, library_collective, arguments, fixed=fixed, domain=domain)]


def _send(row: Row) -> list[Operation]:
    stride = 1 if row["params"].get("devices_per_node") != 1 else _machine(_chip_key(row)).tiers[0].ranks
    arguments = {"bytes_": _message_bytes(row), "stride": stride}
    return [_operation(row, "send", _seconds(row, 1.0), sent, arguments)]


def _exchange_operation(
    row: Row, way: str, kernel: str, seconds: float, element: float, assumed: str | None = None
) -> Operation:
    params = row["params"]
    ranks = int(params.get("ep") or params["ranks"])
    tokens = float(params.get("tokens_per_rank") or _MANY_TOKENS)
    per_token = float(params.get("topk") or 8)
    arguments = {
        "tokens": tokens, "ranks": ranks, "per_token": per_token,
        "row_bytes": element * float(params.get("hidden") or 7168),
    }  # fmt: skip
    fixed = {"kernel": kernel, "limit": float(params.get("groups") or np.inf)}
    domain, name = _used(row, ranks), f"{way}, {kernel}"
    return _operation(
        row, name, seconds, exchange, arguments, fixed=fixed, domain=domain, assumed=assumed, quantity=f"{way}_s"
    )


def _counted_rows(row: Row, across: bool) -> float:
    """Rows that a bulk kernel's bandwidth counts: one for each rank, or domain of 8 ranks, that a token reaches."""
    params = row["params"]
    ranks, visits = float(params["ep"]), float(params.get("topk") or 8)
    groups = ranks / _ONE_NODE if across else ranks
    limit = float(params.get("groups") or 4) if across else np.inf
    tokens = float(params.get("tokens_per_rank") or _MANY_TOKENS)
    return tokens * float(distinct_groups(min(groups, limit), visits))


def _one_way(row: Row) -> list[Operation]:
    """Rows of one way, dispatch or combine."""
    params, measured = row["params"], row["measured"]
    way = "combine" if "combine" in str(row["kind"]) else "dispatch"
    low_latency = "low_latency" in str(params.get("mode")) or row["group"] == "cloudmatrix384"
    kernel = "low-latency" if low_latency else "bulk"
    dtype = str(params.get("dtype"))
    if way == "combine":
        element = _ROW_BYTES["nvfp4"] if "low_precision" in str(row["kind"]) else 2.0
    else:
        element = _ROW_BYTES.get(dtype.split()[0], _SCALES)  # int8 as fp8, and where nothing is said
    seconds = measured.get("latency_us") or 1e3 * (measured.get("latency_ms") or 0.0)
    assumed = None if params.get("tokens_per_rank") or low_latency else "4096 tokens"
    if not seconds:
        across = measured.get("bottleneck") == "RDMA"
        row_bytes = element * float(params.get("hidden") or 7168)
        seconds = 1e-3 * _counted_rows(row, across) * row_bytes / float(measured["bandwidth_GBps"])
    if low_latency and "tokens_per_rank" not in params:
        row = {**row, "params": {**params, "tokens_per_rank": 128}}
        assumed = "128 tokens"
    if low_latency and way == "dispatch" and _chip_key(row).startswith("ascend"):
        element = 7.5 * 1024.0 / 7168.0  # int8 and its scales, padded to 512 bytes
    if row["group"] in ("all_to_all_moe", "trtllm-blog18"):
        kernel = "fastest"
    return [_exchange_operation(row, way, kernel, 1e-6 * seconds, element, assumed)]


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
            counted = _counted_rows(row, bool(across) or float(params["ep"]) > _ONE_NODE)
            seconds = 1e-3 * counted * element * float(params["hidden"]) / float(rate)
        found.append(_exchange_operation(row, way, kernel, 1e-6 * float(seconds), element))
    return found


def _eight_bits(row: Row) -> str:
    return "fp8" if "fp8" in _machine(_chip_key(row)).chip.peak_flops else "int8"


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
    peak = _machine(_chip_key(row)).chip.peak_flops[FORMATS[_matmul_format(row)].peak]
    return flops / (float(measured["compute_utilisation"]) * peak)


def _matmul_row(row: Row) -> list[Operation]:
    shape = {key.lower(): float(row["params"][key]) for key in row["params"] if key.lower() in ("m", "n", "k")}
    seconds = _from_rate(row, 2.0 * shape["m"] * shape["n"] * shape["k"])
    number_format = _matmul_format(row)
    fixed = {"number_format": number_format}
    return [_operation(row, f"matmul {number_format}", seconds, plain_matmul, shape, fixed=fixed)]


def _grouped_row(row: Row) -> list[Operation]:
    """A grouped matmul with its shape, all groups of the same rows."""
    params = row["params"]
    groups, each = float(params["groups"]), float(params.get("M_per_group") or params["M"])
    arguments = {"rows": groups * each, "active": groups, "n": float(params["N"]), "k": float(params["K"])}
    number_format = _matmul_format(row)
    seconds = _from_rate(row, 2.0 * groups * each * arguments["n"] * arguments["k"])
    kind = f"grouped matmul {number_format}"
    return [_operation(row, kind, seconds, expert_matmul, arguments, fixed={"number_format": number_format})]


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
            row, kind, 1e-6 * float(row["measured"][f"{way}_proj_us"]), expert_matmul,
            {"rows": rows, "active": local, "n": n, "k": k},
            fixed={"number_format": number_format}, quantity=f"{way}_s",
        )
        for way, (n, k) in shapes.items()
    ]  # fmt: skip


def _sizes(row: Row) -> list[int]:
    return [int(part) for part in str(row["params"]["file_shape_label"]).split("-") if part.isdigit()]


def _kv_bytes(row: Row) -> float:
    return 1.0 if str(row["params"].get("kv_dtype")) == "fp8" else 2.0


def _cached_row(row: Row) -> list[Operation]:
    heads, key_heads, size = _sizes(row)
    params = row["params"]
    arguments = {"sequences": params["batch_size"], "keys": params["kv_len"], "heads": heads, "key_heads": key_heads}
    fixed = {"head_size": size, "kv_bytes": _kv_bytes(row)}
    return [
        _operation(
            row, "attention decode", _from_rate(row, 0.0), decode_attention, arguments, fixed=fixed, eager_s=_EAGER_S
        )
    ]


def _latent(width: int, rope: int) -> LatentAttention:
    return LatentAttention(0, width, width, rope, width)


def _latent_row(row: Row) -> list[Operation]:
    if "file_shape_label" not in row["params"]:
        return _latent_limit(row)
    heads, width, rope = _sizes(row)
    params = row["params"]
    arguments = {"sequences": params["batch_size"], "queries": 1, "keys": params["kv_len"], "heads": heads}
    fixed = {"latent": _latent(width, rope), "kv_bytes": _kv_bytes(row)}
    return [
        _operation(
            row,
            "latent attention decode",
            _from_rate(row, 0.0),
            latent_attention,
            arguments,
            fixed=fixed,
            eager_s=_EAGER_S,
        )
    ]


def _latent_limit(row: Row) -> list[Operation]:
    """A printed limit of latent attention, as a shape that reaches it: many heads for the peak, few for the memory."""
    chip, measured = _machine(_chip_key(row)).chip, row["measured"]
    sparse = "sparse" in str(row["kind"])
    bandwidth = measured.get("bandwidth_utilisation", 0.0) * chip.hbm_bandwidth or measured.get("bandwidth_GBps")
    heads, keys, sequences, queries = (16.0 if bandwidth else 128.0), 32768.0, 128.0, (1.0 if bandwidth else 2.0)
    kv_bytes = 1.0 + 80.0 / 576.0 if sparse and "decode" in str(row["kind"]) else 2.0
    if bandwidth:
        seconds = sequences * keys * 576.0 * kv_bytes / (bandwidth if bandwidth > 1e6 else bandwidth * 1e9)
    else:
        flops = 2.0 * sequences * queries * heads * keys * (576.0 + 512.0)
        share = measured.get("compute_utilisation", 0.0) * chip.peak_flops["bf16"]
        seconds = flops / (share or 1e12 * measured["tflops"])
    arguments = {"sequences": sequences, "queries": queries, "keys": keys, "heads": heads}
    kind = "sparse latent attention" if sparse else "latent attention decode"
    fixed = {"latent": _latent(512, 64), "kv_bytes": kv_bytes}
    return [
        _operation(row, kind, seconds, latent_attention, arguments, fixed=fixed, assumed="the limit of large shapes")
    ]


def _sparse_row(row: Row) -> list[Operation]:
    """Attention over the picked keys, or the scores that they are picked by."""
    params, (first, second, *_), decode = row["params"], _sizes(row), "decode" in str(row["kind"])
    kind = "decode" if decode else "prefill"
    sequences = float(params.get("batch_size") or params.get("batchsize") or 1)
    if str(params["file_shape_label"]).startswith("attn"):
        arguments = {"sequences": sequences, "queries": params.get("s_q", 1), "keys": _sizes(row)[2], "heads": first}
        if not decode:  # each query picks keys of its own
            arguments |= {"sequences": float(params["s_q"]), "queries": 1.0}
        fixed: dict[str, Any] = {"latent": _latent(second - 64, 64), "kv_bytes": _kv_bytes(row)}
        return [
            _operation(row, f"sparse attention {kind}", _from_rate(row, 0.0), latent_attention, arguments, fixed=fixed)
        ]
    queries = float(params.get("next_n") or params["s_q"])
    keys = float(params["s_kv"]) - (0.0 if decode else queries / 2.0)
    fixed = {"sparse": SparseAttention(2048, first, second)}
    arguments = {"sequences": sequences, "queries": queries, "keys": keys}
    return [_operation(row, f"index scores {kind}", _from_rate(row, 0.0), scores, arguments, fixed=fixed)]


def _prompt_row(row: Row) -> list[Operation]:
    params = row["params"]
    if "file_shape_label" not in params:
        raise InexpressibleError("the shape is not printed in full")
    heads, second, third = _sizes(row)
    head_sizes = (second + third, second) if "mla" in str(row["kind"]) else (third, third)
    arguments = {"tokens": params["seq_len"], "heads": heads}
    fixed = {"head_sizes": head_sizes}
    return [_operation(row, "attention prefill", _from_rate(row, 0.0), prompt_attention, arguments, fixed=fixed)]


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


# ----------------------------------------------------------------------------------------------------- prediction
@cache
def _machine(chip: str) -> System:
    """The machine that a chip is measured in, at the burst clock."""
    name, sold_with = CHIP_SYSTEMS[chip]
    return burst(catalogue.system(name, chip_name=sold_with))


def burst(system: System) -> System:
    """The machine with its chips at the clock of short kernels."""
    calibration = system.chip.calibration
    matmuls = {peak: replace(one, sustained_clock=1.0) for peak, one in calibration.matmul.items()}
    return replace(system, chip=replace(system.chip, calibration=replace(calibration, matmul=matmuls)))


def predicted_seconds(
    found: Sequence[Operation], machine: Callable[[str], System] = _machine
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Seconds that the model gives for each operation, those of a kind together."""
    together: dict[Any, list[int]] = {}
    for at, one in enumerate(found):
        together.setdefault((one.chip, one.form, one.fixed, one.domain), []).append(at)
    seconds = np.empty(len(found))
    for (chip, form, fixed, domain), places in together.items():
        system = machine(chip)
        if domain:
            system = partly_used(system, system.tiers[0].name, domain)
        names = found[places[0]].arguments
        arrays = {name: np.array([found[at].arguments[name] for at in places]) for name in names}
        seconds[places] = form(system, **dict(fixed), **arrays)
    seconds += np.array([one.eager_s for one in found])
    return seconds


def predict(rows: Iterable[Row]) -> list[Prediction]:
    """Predictions for every row, in their order; the reason where there is none."""
    predictions: list[Prediction] = []
    found: list[Operation] = []
    places: list[int] = []
    for row in rows:
        blank = Prediction(
            str(row.get("id")), f"{row.get('kind')}, {row.get('chip_key')}", "seconds", None, None, None, None, None
        )
        try:
            read = operations(row)
        except InexpressibleError as reason:
            predictions.append(replace(blank, reason=str(reason)))
            continue
        for one in read:
            places.append(len(predictions))
            found.append(one)
            predictions.append(
                replace(blank, group=one.group, quantity=one.quantity, measured=one.measured, chosen=one.assumed)
            )
    for at, one, seconds in zip(places, found, predicted_seconds(found), strict=True):
        predictions[at] = replace(
            predictions[at], predicted=float(seconds), error=float(seconds) / one.measured - 1.0, measured_how=one.kind
        )
    return predictions
