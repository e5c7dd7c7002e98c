"""Constants of the serving operators, fitted to measured operators and written to the catalogue.

    python -m sweep.calibration            # fit, and write what changed
    python -m sweep.calibration --check    # fit, and fail where the catalogue holds other values
    python -m sweep.calibration --rows FILE  # take the rows that fits use from a file of measured operators

One set of constants per chip or machine, by least squares on the logarithm of the error with a robust loss: a row that
is off counts linearly. The rows stand in calibration_data/operators.jsonl.gz with their sources. Constants that
training uses as well are not touched. Needs scipy.
"""

from __future__ import annotations

import gzip
import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from model.system import System
from sweep import catalogue
from sweep.operators import Operation, burst, operations, predicted_seconds
from sweep.published import CHIP_SYSTEMS, InexpressibleError

DATA = Path(__file__).parent / "calibration_data" / "operators.jsonl.gz"
_DIGITS = 3
_SAME = 0.03  # a constant of the catalogue is the fitted one within this
_SAME_LOSS = 0.002  # or fits as well within this
_ROBUST = 0.1  # logarithmic error beyond which a row counts linearly
_STARTS = 6

Values = Mapping["Constant", float]


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


# ------------------------------------------------------------------------------------------------- what is fitted
_RANGES: Mapping[str, tuple[float, float]] = {
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
    "bulk_fraction": (0.05, 1.0), "bulk_congestion": (1e-3, 2.0),
}  # fmt: skip


def _constants(kind: catalogue.Kind, entry: str, table: str, *names: str) -> tuple[Constant, ...]:
    return tuple(Constant(kind, entry, table, name, *_RANGES[name]) for name in names)


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
            "systems", "cloudmatrix-384", "unified-bus", "exchange_step_s", "exchange_row_s", *_LOW_LATENCY,
            "bulk_congestion", "bulk_fraction",
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
_SUPERNODE = ("exchange_step_s", "exchange_row_s", *_LOW_LATENCY, "bulk_congestion", "bulk_fraction")

ASSUMED: tuple[Assumed, ...] = (
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
            "a100", "b200", "b300", "gb200", "gb300", "rubin", "mi300x", "mi355x", "tpu-128", "tpu-256", "trainium",
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


# --------------------------------------------------------------------------------------------------------- fitting
def needed(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows that a fit uses, with the fields that it needs and the source of each."""
    kept = []
    for row in rows:
        try:
            found = operations(row)
        except InexpressibleError:
            continue
        if any(_uses(fit, one) for fit in FITS for one in found):
            source = {key: row["source"][key] for key in ("repo", "path", "commit", "url") if row["source"].get(key)}
            fields = {key: row[key] for key in ("id", "group", "kind", "chip_key", "chips", "params", "measured")}
            kept.append({**fields, "source": source})
    return kept


def _uses(fit: Fit, one: Operation) -> bool:
    return one.chip == fit.chip and one.kind.startswith(fit.kinds) and one.source not in fit.without


@cache
def measured() -> tuple[Operation, ...]:
    """All operations of the product's own data."""
    lines = gzip.decompress(DATA.read_bytes()).decode().splitlines()
    return tuple(one for line in lines for one in operations(json.loads(line)))


def machine(chip: str, values: Values) -> System:
    """The machine of a chip at the burst clock, with some constants replaced."""
    name, sold_with = CHIP_SYSTEMS[chip]
    system = catalogue.system(name, chip_name=sold_with)
    calibration_name = catalogue.entry("chips", system.chip.name).facts["calibration"]
    facts = catalogue.entry("systems", name).facts
    tiers = []
    for tier in system.tiers:
        own: dict[str, Any] = {
            one.name: value
            for one, value in values.items()
            if (one.kind == "systems" and (one.entry, one.table) == (name, tier.name))
            or (one.kind == "fabrics" and one.entry == facts.get(f"tiers.{tier.name}.fabric"))
        }
        tiers.append(replace(tier, **own))
    calibration = system.chip.calibration
    for one, value in values.items():
        if (one.kind, one.entry) != ("calibrations", calibration_name):
            continue
        if one.table == "decode":
            calibration = replace(calibration, decode=replace(calibration.decode, **{one.name: value}))
        else:
            peak = one.table.removeprefix("matmul.")
            matmul = replace(calibration.matmul[peak], **{one.name: value})
            calibration = replace(calibration, matmul={**calibration.matmul, peak: matmul})
    return burst(replace(system, tiers=tuple(tiers), chip=replace(system.chip, calibration=calibration)))


def fitted(fit: Fit, known: Values) -> dict[Constant, float]:
    """Constants of a fit, those before it known."""
    from scipy.optimize import least_squares  # an extra, not needed to use the product

    residuals = _residuals(fit, known)
    low, high = np.log([(one.low, one.high) for one in fit.constants]).T
    best: Any = None
    for start in _starts(len(fit.constants)):
        # differences wide enough to see past the steps of waves of tiles and of choices between kernels
        one = least_squares(
            residuals, low + start * (high - low), bounds=(low, high), loss="soft_l1", f_scale=_ROBUST,
            diff_step=1e-3, max_nfev=200,
        )  # fmt: skip
        best = one if best is None or one.cost < best.cost else best
    return {one: _rounded(value) for one, value in zip(fit.constants, np.exp(best.x), strict=True)}


def loss(fit: Fit, values: Values) -> float:
    """Robust mean loss of a fit with given constants."""
    errors = _residuals(fit, values)(np.log([values[one] for one in fit.constants]))
    return float(np.mean(2.0 * _ROBUST**2 * (np.sqrt(1.0 + (errors / _ROBUST) ** 2) - 1.0)))


def _residuals(fit: Fit, known: Values) -> Callable[[Any], Any]:
    found = [one for one in measured() if _uses(fit, one)]
    if not found:
        raise ValueError(f"no measured operation for {fit.chip}: {', '.join(fit.kinds)}")
    times = np.log([one.measured for one in found])

    def residuals(point: Any) -> Any:
        values = {**known, **dict(zip(fit.constants, np.exp(point), strict=True))}
        return np.log(predicted_seconds(found, lambda chip: machine(chip, values))) - times

    return residuals


def _starts(dimensions: int) -> Any:
    """Points of the unit cube, the same in every run."""
    return np.random.default_rng(1).uniform(0.2, 0.8, (_STARTS, dimensions))


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def fit_all() -> dict[Constant, float]:
    """Every fitted constant."""
    values: dict[Constant, float] = {}
    for fit in FITS:
        values.update(fitted(fit, values))
    return values


# ----------------------------------------------------------------------------------------- to and from the catalogue
@dataclass(frozen=True, slots=True)
class Entry:
    """A constant as the catalogue is to hold it."""

    constant: Constant
    value: float
    source: str
    kind: str


def entries(values: Values) -> list[Entry]:
    """Every constant of the fits and of those assumed from them."""
    sources = {one: fit.source for fit in FITS for one in fit.constants}
    found = {_key(one): Entry(one, value, sources[one], "derived") for one, value in values.items()}
    for one in ASSUMED:
        changed = dict(one.changed)
        for name in one.names:
            constant = Constant(one.kind, one.entry, one.table, name, *_RANGES[name])
            if _key(constant) not in found:
                value = changed[name] if name in changed else found[(*one.like, name)].value
                found[_key(constant)] = Entry(constant, value, one.source, "estimated")
    return list(found.values())


def _key(one: Constant) -> tuple[str, str, str, str]:
    return (one.kind, one.entry, one.table, one.name)


def _path(one: Constant) -> str:
    tier = "tiers." if one.kind == "systems" else ""
    return f"{tier}{one.table}.{one.name}" if one.table else one.name


def _line(entry: Entry) -> str:
    one = entry.constant
    shown = f'"{_rounded(entry.value * 1e6):g} us"' if one.name.endswith("_s") else f"{entry.value:g}"
    return f'{one.name} = {{ value = {shown}, source = "{entry.source}", kind = "{entry.kind}" }}'


def written(text: str, found: Iterable[Entry]) -> str:
    """The text of a file of the catalogue with constants replaced or added."""
    lines = text.rstrip("\n").split("\n")
    for entry in found:
        start, end = _block(lines, entry.constant)
        at = next((i for i in range(start, end) if re.match(rf"{entry.constant.name}\s*=", lines[i])), None)
        if at is None:
            lines.insert(end, _line(entry))
        else:
            lines[at] = _line(entry)
    return "\n".join(lines) + "\n"


def _block(lines: list[str], one: Constant) -> tuple[int, int]:
    """First and last line of a constant's table, the last exclusive; made at the end where it is lacking."""
    if one.kind == "systems":
        start = next(
            i for i, line in enumerate(lines) if line == f'name = "{one.table}"' and lines[i - 1] == "[[tiers]]"
        )
    elif one.table:
        if f"[{one.table}]" not in lines:
            lines += ["", f"[{one.table}]"]
        start = lines.index(f"[{one.table}]") + 1
    else:
        start = 0
    end = next((i for i in range(start, len(lines)) if lines[i].startswith("[")), len(lines))
    while end > start and not lines[end - 1].strip():
        end -= 1
    return start, end


def stale(values: Values) -> list[str]:
    """Constants that the catalogue does not hold as fitted; those that fit as well count as the same."""
    good = {one for fit in FITS if _as_good(fit, values) for one in fit.constants}
    agreed = {one: _held(one) if one in good else value for one, value in values.items()}
    found = []
    for one in entries({key: value for key, value in agreed.items() if value is not None}):
        held = _held(one.constant)
        if held is None or abs(held / one.value - 1.0) > _SAME:
            place = f"{one.constant.kind}/{one.constant.entry}.toml: {_path(one.constant)}"
            found.append(f"{place} is {held}, fitted {one.value:g}; run make calibrate")
    return found


def _held(one: Constant) -> float | None:
    quantity = catalogue.entry(one.kind, one.entry).quantities.get(_path(one))
    return None if quantity is None else float(quantity.value)


def _as_good(fit: Fit, values: Values) -> bool:
    held = {one: value for one in values if (value := _held(one)) is not None}
    return all(one in held for one in fit.constants) and loss(fit, held) <= loss(fit, values) * (1.0 + _SAME_LOSS)


def main(arguments: Sequence[str]) -> int:
    """Fit; write the catalogue, or with --check only compare it."""
    if "--rows" in arguments:
        from sweep.validation import read_cases

        rows = needed(read_cases([Path(arguments[arguments.index("--rows") + 1])]))
        text = "".join(json.dumps(row, sort_keys=True) + "\n" for row in rows)
        DATA.write_bytes(gzip.compress(text.encode(), 9, mtime=0))
        measured.cache_clear()
    values = fit_all()
    if "--check" in arguments:
        found = stale(values)
        sys.stdout.write("".join(f"{line}\n" for line in found) or "the catalogue holds the fitted constants\n")
        return 1 if found else 0
    for file, of_file in _by_file(entries(values)).items():
        file.write_text(written(file.read_text(encoding="utf-8"), of_file), encoding="utf-8")
    return 0


def _by_file(found: Iterable[Entry]) -> dict[Path, list[Entry]]:
    files: dict[Path, list[Entry]] = {}
    for one in found:
        files.setdefault(catalogue.entry(one.constant.kind, one.constant.entry).file, []).append(one)
    return files


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
