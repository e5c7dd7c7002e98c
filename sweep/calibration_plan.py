"""Which constants of the catalogue are fitted to which measured operators, and which are taken over from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sweep import catalogue


@dataclass(frozen=True, slots=True)
class Constant:
    """A number of the catalogue and the range that its fit may move in."""

    kind: catalogue.Kind
    entry: str
    table: str  # "decode", "matmul.fp8", or the name of a tier; empty: the top of a fabric's file
    name: str
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Fit:
    """Constants that are fitted together, and the operations that they are fitted to."""

    constants: tuple[Constant, ...]
    chip: str  # key of CHIP_SYSTEMS
    kinds: tuple[str, ...]  # kinds of operations, by their beginning
    source: str
    without: tuple[str, ...] = ()  # sources that are left out


@dataclass(frozen=True, slots=True)
class Assumed:
    """Constants of a table that nothing was fitted to: those of another one, some of them changed."""

    kind: catalogue.Kind
    entry: str
    table: str
    like: tuple[catalogue.Kind, str, str]
    source: str
    names: tuple[str, ...]
    changed: tuple[tuple[str, float], ...] = ()


RANGES: Mapping[str, tuple[float, float]] = {
    "attention_fraction": (0.1, 1.0), "cache_fraction": (0.3, 1.0), "narrow_cache_fraction": (0.3, 1.0),
    "attention_launch_s": (2e-6, 60e-6),
    "latent_fraction": (0.3, 0.95), "latent_cache_fraction": (0.3, 1.0), "latent_launch_s": (2e-6, 60e-6),
    "widening_fraction": (0.3, 1.0), "indexer_fraction": (0.1, 0.95), "indexer_launch_s": (1e-6, 40e-6),
    "grouped_fraction": (0.5, 1.3), "grouped_padding_rows": (1.0, 256.0), "weights_fraction": (0.3, 1.0),
    "grouped_launch_s": (1e-6, 60e-6), "prompt_attention_speed": (0.5, 2.0),
    "peak_fraction": (0.6, 1.0), "overhead_k": (20.0, 1000.0), "wave_quantisation": (0.05, 1.0),
    "launch_s": (1e-6, 20e-6),
    "small_latency_s": (0.5e-6, 30e-6), "small_step_s": (1e-8, 2e-6), "small_fraction": (0.1, 1.0),
    "exchange_latency_s": (8e-6, 60e-6), "exchange_step_s": (1e-8, 20e-6), "exchange_row_s": (1e-10, 1e-6),
    "exchange_fraction": (0.05, 1.0), "bulk_latency_s": (1e-6, 200e-6),
    "bulk_fraction": (0.05, 1.0), "bulk_congestion": (1e-3, 2.0), "exchange_congestion": (1e-3, 2.0),
}  # fmt: skip


def _constants(kind: catalogue.Kind, entry: str, table: str, *names: str) -> tuple[Constant, ...]:
    return tuple(Constant(kind, entry, table, name, *RANGES[name]) for name in names)


_INFERSIM = "alibaba/InferSim at f2293da"
_AIC = "ai-dynamo/aiconfigurator at 095f58a5"
_DEEPEP = "DeepEP tables of " + _AIC
_CLOUDMATRIX = "arXiv:2506.12708"
_GROUPED = ("grouped_fraction", "grouped_padding_rows", "weights_fraction", "grouped_launch_s")
_CACHED = ("attention_fraction", "cache_fraction", "attention_launch_s")
_LATENT = ("latent_fraction", "latent_cache_fraction", "latent_launch_s")
_SMALL = ("small_latency_s", "small_step_s", "small_fraction")
_LOW_LATENCY = ("exchange_latency_s", "exchange_fraction")
_BULK = ("bulk_latency_s", "bulk_fraction")
_WAYS = ("dispatch", "combine")


def _decode(entry: str, *names: str) -> tuple[Constant, ...]:
    return _constants("calibrations", entry, "decode", *names)


def _exchange_fit(chip: str, system: str, tier: str, source: str) -> Fit:
    """Both kernels of dispatch and combine inside one node."""
    names = (*_LOW_LATENCY, *_BULK)
    kinds = tuple(f"{way}, {kernel}" for way in _WAYS for kernel in ("low-latency", "bulk"))
    return Fit(_constants("systems", system, tier, *names), chip, kinds, source)


FITS: tuple[Fit, ...] = (
    Fit(
        _constants("calibrations", "h20", "matmul.fp8", "peak_fraction", "overhead_k", "wave_quantisation", "launch_s"),
        "h20", ("matmul fp8",), f"fit to 402 matmuls in fp8 on H20, {_INFERSIM}",
    ),
    Fit(_decode("h100", *_CACHED), "h800", ("attention decode",), f"fit to 287 decode shapes on H800, {_INFERSIM}"),
    Fit(
        _decode("h20", *_CACHED, "narrow_cache_fraction"), "h20", ("attention decode",),
        f"fit to 416 decode shapes on H20, {_INFERSIM}",
    ),
    Fit(
        _decode("h100", *_LATENT, "widening_fraction"), "h800", ("latent attention decode", "sparse attention decode"),
        f"fit to MLA decode shapes on H800, dense and sparse, {_INFERSIM}; FlashMLA limits of {_CLOUDMATRIX}",
    ),
    Fit(
        _decode("h20", *_LATENT), "h20", ("latent attention decode",), f"fit to 41 MLA decode shapes, {_INFERSIM}",
    ),
    Fit(
        _decode("ascend-910c", "latent_fraction", "latent_cache_fraction"), "ascend_910c_die",
        ("latent attention decode",), f"limits measured in {_CLOUDMATRIX}, section 5.5",
    ),
    Fit(
        _decode("h100", "indexer_fraction", "indexer_launch_s"), "h800", ("index scores",),
        f"fit to 28 shapes of the sparse attention's scores on H800, {_INFERSIM}",
    ),
    Fit(
        _decode("h100", *_GROUPED), "h800", ("grouped matmul fp8",),
        f"fit to 152 grouped matmuls in fp8 on H800, {_INFERSIM} and deepseek-ai/DeepGEMM",
    ),
    Fit(
        _decode("h20", *_GROUPED), "h20", ("grouped matmul fp8",), f"fit to 852 grouped matmuls in fp8, {_INFERSIM}",
    ),
    Fit(
        _decode("ascend-910c", "grouped_fraction"), "ascend_910c_die", ("grouped matmul int8",),
        f"fit to 6 grouped matmuls in int8 of {_CLOUDMATRIX}, section 5.5",
    ),
    Fit(
        _decode("h100", "prompt_attention_speed"), "h800", ("attention prefill",),
        f"fit to 5 prompts of latent attention on H800, {_INFERSIM}: FlashAttention-3 at the burst clock",
    ),
    Fit(
        _decode("h20", "prompt_attention_speed"), "h20", ("attention prefill",),
        f"fit to 25 prompts of grouped-query attention on H20, {_INFERSIM}",
    ),
    *(
        Fit(
            _constants("systems", system, "nvlink", *_SMALL), chip, ("all_reduce, engine",),
            f"fit to the custom all-reduce tables of {_AIC}, TensorRT-LLM and vLLM",
        )
        for chip, system in (
            ("h100_sxm", "dgx-h100"), ("h200", "dgx-h200"), ("b200", "dgx-b200"), ("gb200", "gb200-nvl72"),
        )
    ),
    *(
        _exchange_fit(chip, system, "nvlink", f"fit to the {_DEEPEP}, one node")
        for chip, system in (("h100_sxm", "dgx-h100"), ("h200", "dgx-h200"), ("b200", "dgx-b200"))
    ),
    Fit(
        _constants("systems", "gb200-nvl72", "nvlink", "exchange_step_s", *_LOW_LATENCY, "bulk_congestion", *_BULK),
        "gb200", _WAYS,
        f"fit to the {_DEEPEP} and its all-to-all tables of TensorRT-LLM; TensorRT-LLM's one-sided all-to-all",
    ),
    Fit(
        (
            *_constants("systems", "dgx-h800", "nvlink", *_LOW_LATENCY, "bulk_fraction"),
            *_constants("fabrics", "infiniband-ndr", "", *_LOW_LATENCY, "bulk_fraction"),
        ),
        "h800", _WAYS, "fit to the tables of deepseek-ai/DeepEP on H800, 8 to 256 ranks",
        without=("cloudmatrix384",),  # quotes an early release of DeepEP, half as fast in one node
    ),
    Fit(
        _constants(
            "systems", "cloudmatrix-384", "unified-bus", "exchange_congestion", "exchange_row_s",
            "exchange_fraction", "bulk_congestion", "bulk_fraction",
        ),
        "ascend_910c_die", _WAYS, f"fit to the dispatch and combine of {_CLOUDMATRIX}, table 7, and of "
        "sgl-project/sgl-kernel-npu at f425bdf",
    ),
    *(
        Fit(
            (
                *_constants("systems", system, tier, *_LOW_LATENCY, "bulk_fraction"),
                *_constants("systems", system, "scale-out", *_LOW_LATENCY, "bulk_fraction"),
            ),
            chip, _WAYS, "fit to the dispatch and combine of ROCm/mori at 624002c and uccl-project/uccl at da914a2",
        )
        for chip, system, tier in (
            ("mi300x", "mi300x-node", "infinity-fabric"), ("mi355x", "mi355x-node", "infinity-fabric"),
        )
    ),
)  # fmt: skip


_DECODE = (*_CACHED, *_LATENT, "indexer_fraction", "indexer_launch_s", *_GROUPED)
# Launches of the 910 family as its matmuls have them; reads at what arXiv:2506.12708 reaches in MLA decode.
_ASCEND = (
    ("attention_fraction", 0.45), ("cache_fraction", 0.84), ("attention_launch_s", 16e-6), ("latent_launch_s", 16e-6),
    ("indexer_launch_s", 10e-6), ("indexer_fraction", 0.5), ("weights_fraction", 0.8), ("grouped_launch_s", 8e-6),
    ("grouped_padding_rows", 64.0),
)  # fmt: skip
_SAME_KERNELS = "as the H100: kernels of generation are not measured on this chip"
_TIER = (*_SMALL, *_LOW_LATENCY, *_BULK)
_NETWORK = (*_LOW_LATENCY, "bulk_fraction")
_SUPERNODE = ("exchange_congestion", "exchange_row_s", *_LOW_LATENCY, "bulk_congestion", "bulk_fraction")

ASSUMED: tuple[Assumed, ...] = (
    Assumed(
        "systems", "cloudmatrix-384", "unified-bus", ("systems", "dgx-h800", "nvlink"),
        "as DeepEP between nodes of H800: all measured rows are of 128 tokens and do not tell latency from rate",
        ("exchange_latency_s",), (("exchange_latency_s", 30e-6),),
    ),
    Assumed(
        "calibrations", "ascend-910c", "decode", ("calibrations", "h100", "decode"),
        "assumption for the 910 family; arXiv:2506.12708 has MLA decode and grouped matmuls only", _DECODE, _ASCEND,
    ),
    *(
        Assumed(
            "calibrations", entry, "decode", ("calibrations", "ascend-910c", "decode"),
            "as the 910C, the only chip of its family with measured kernels", _DECODE,
        )
        for entry in ("ascend-910b", "ascend-910d", "ascend-920", "ascend-950", "ascend-960")
    ),
    Assumed(
        "calibrations", "h20", "decode", ("calibrations", "h100", "decode"), "as the H100, the same architecture",
        ("indexer_fraction", "indexer_launch_s", "widening_fraction"),
    ),
    *(
        Assumed("calibrations", entry, "decode", ("calibrations", "h100", "decode"), _SAME_KERNELS, _DECODE)
        for entry in (
            "a100", "b200", "b300", "gb200", "gb300", "rubin", "mi300x", "mi355x", "tpu-v4", "tpu-v5e", "tpu-v5p",
            "tpu-v6e", "tpu-v7x", "trainium",
        )
    ),
    *(
        Assumed(
            "systems", system, "nvlink", ("systems", "dgx-h100", "nvlink"), "as the nodes of H100, the same kernels",
            names,
        )
        for system, names in (("dgx-h800", (*_SMALL, "bulk_latency_s")), ("hgx-h20", _TIER), ("dgx-a100", _TIER))
    ),
    *(
        Assumed("systems", system, "nvlink", ("systems", like, "nvlink"), f"as the {title}, the same kernels", names)
        for system, like, title, names in (
            ("hgx-b300", "dgx-b200", "nodes of B200", _TIER),
            ("gb300-nvl72", "gb200-nvl72", "GB200 NVL72", (*_TIER, "exchange_step_s", "bulk_congestion")),
            ("vr-nvl72", "gb200-nvl72", "GB200 NVL72", (*_TIER, "exchange_step_s", "bulk_congestion")),
        )
    ),
    *(
        Assumed(
            "systems", "mi325x-node", tier, ("systems", "mi300x-node", tier), "as the nodes of MI300X, the same links",
            _NETWORK,
        )
        for tier in ("infinity-fabric", "scale-out")
    ),
    *(
        Assumed(
            "systems", system, tier, ("systems", "cloudmatrix-384", "unified-bus"),
            "as CloudMatrix 384, the machine of its family whose dispatch and combine are measured", _SUPERNODE,
        )
        for system, tier in (
            ("atlas-910d-supernode", "unified-bus"), ("atlas-920-supernode", "unified-bus"),
            ("atlas-950-superpod", "cabinet"), ("atlas-950-superpod", "superpod"),
            ("atlas-960-superpod", "cabinet"), ("atlas-960-superpod", "superpod"),
        )
    ),
    *(
        Assumed(
            "fabrics", fabric, "", ("fabrics", "infiniband-ndr", ""), "as InfiniBand NDR between nodes of H800",
            _NETWORK,
        )
        for fabric in (
            "infiniband-hdr", "infiniband-xdr", "infiniband-1600g", "roce-200g", "roce-400g", "efa-200g",
        )
    ),
)  # fmt: skip
