"""Tables of accuracy that the documentation holds, printed from predictions and from the fit.

    python -m sweep.accuracy_tables CASES... --into docs/accuracy.md README.md

CASES are files of training and of serving runs, as tests/published holds them. Each table stands between the lines
`<!-- table NAME -->` and `<!-- end -->` of a file; --into writes it anew.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import fill

import numpy as np

from sweep import engine_fit
from sweep.errors import InputError
from sweep.fit.record import fitted, table
from sweep.prediction import Prediction, summarise


@dataclass(frozen=True, slots=True)
class Runs:
    """Predictions of published training and serving runs."""

    training: Sequence[Prediction]
    serving: Sequence[Prediction]


Table = Callable[[Runs], str]

# What the README shows: a heading, the words that a group must hold, and those of which it must hold one.
_README: Sequence[tuple[str, Sequence[str], Sequence[str]]] = (
    ("Megatron-LM on A100, 1.7B to 1T", ("megatron-lm", "a100_80"), ()),
    ("Megatron-LM on H100, 1.7B to 462B", ("megatron-lm", "h100_sxm"), ()),
    ("SimuMax on B200, dense and mixtures", ("megatron-core", "b200"), ()),
    ("NeMo and Megatron-Bridge, dense, H100 to GB300", ("dense",), ("nemo", "megatron-bridge")),
    ("NeMo and Megatron-Bridge, mixtures of experts", ("MoE",), ("nemo", "megatron-bridge")),
    ("MLPerf on H100, H200 and GB200", ("mlperf",), ("h100_sxm", "h200", "gb200")),
    ("LLM Foundry, YaFSDP, fms-fsdp on A100 and H100", (), ("llm-foundry", "yafsdp", "fms-fsdp")),
    ("MaxText and MLPerf on TPU v4 to v7x", (), ("tpu_v4", "tpu_v5e", "tpu_v5p", "tpu_v6e", "tpu_v7x")),
    ("MindSpeed and MindFormers on Ascend 910B", ("ascend_910b3",), ()),
)
# Sources of serving runs by their groups, in the order of the table.
_SERVED: Mapping[str, str] = {
    "cloudmatrix384": "CloudMatrix 384 paper",
    "cann-recipes": "CANN recipes, 910C and 950DT",
    "deepseek": "DeepSeek on H800",
    "sglang": "SGLang over many nodes, H100, H200",
    "sglang-ant": "SGLang on H20",
    "trtllm-static": "TensorRT-LLM 0.5, 0.6: fixed batches",
    "trtllm-dsr1": "TensorRT-LLM, DeepSeek-R1",
    "trtllm-perf-overview": "TensorRT-LLM 0.20 to 1.2, unlimited load",
    "aic-silicon": "InferenceX and gap analyses, three engines",
    "palm-tpuv4": "PaLM and MT-NLG on TPU v4",
    "amd-vllm": "vLLM on MI300X, 2025",
    "dstack": "vLLM 0.6, H100 and MI300X",
    "vllm-ascend": "vLLM Ascend",
    "vllm": "vLLM blog",
    "infersim": "SGLang on one H20",
}


def _percent(value: float | None, signed: bool = False, digits: int = 1) -> str:
    return "" if value is None else f"{100 * value:{'+' if signed else ''}.{digits}f} %"


def by_group(runs: Runs) -> str:
    """Every group of cases with its errors."""
    heading = (
        "framework, year, chip, format, kind",
        "quantity",
        "cases",
        "mean",
        "median",
        "90 %",
        "max",
        "bias",
        "in band",
    )
    rows = [f"| {' | '.join((*heading, 'plain peaks'))} |", "| --- | --- |" + " ---: |" * 8]
    rows += [
        f"| {one.group} | {one.quantity} | {one.n} | {_percent(one.mean_absolute_error)} | {_percent(one.median)} "
        f"| {_percent(one.p90)} | {_percent(one.max)} | {_percent(one.bias, signed=True)} "
        f"| {_percent(one.coverage, digits=0)} | {_percent(one.roofline, digits=0)} |"
        for one in summarise(runs.training)
    ]
    return "\n".join(rows)


def of_readme(runs: Runs) -> str:
    """The main groups, with what grades say."""
    steps = [one for one in runs.training if one.quantity == "step_time_s" and one.error is not None]
    rows = ["| published runs | cases | mean error | bias |", "| --- | ---: | ---: | ---: |"]
    chosen: list[tuple[str, list[Prediction]]] = []
    for heading, every, some in _README:
        words = [(set(one.group.split()), one) for one in steps]
        found = [one for held, one in words if set(every) <= held and (not some or held & set(some))]
        chosen.append((heading, found))
    chosen.append(("all of grade A and B: layout and batch known", [one for one in steps if one.grade in ("A", "B")]))
    for heading, found in chosen:
        errors = np.array([one.error for one in found], float)
        rows.append(
            f"| {heading} | {len(found)} | {_percent(float(np.abs(errors).mean()))} "
            f"| {_percent(float(errors.mean()), signed=True)} |"
        )
    return "\n".join(rows)


def left_out(_: Runs) -> str:
    """Errors by constants that were found without the runs' own framework, chip or family of models."""
    return table(fitted()).rstrip("\n")


def left_out_by_grade(_: Runs) -> str:
    """The same, of grades and kinds of models alone."""
    fit = fitted()
    graded = tuple(one for one in fit.shares if one.name.split()[0] in ("A", "B"))
    return table(replace(fit, shares=graded)).rstrip("\n")


def baselines(runs: Runs) -> str:
    """A sentence of what guesses without a model would miss by, and of how many runs the bands hold."""
    steps = [one for one in runs.training if one.quantity == "step_time_s" and one.grade in ("A", "B")]
    whole = next(one for one in summarise(steps) if one.group == "all")
    told = (
        f"On the {whole.n} cases of grade A and B plain peaks miss by {_percent(whole.roofline, digits=0)}, and one "
        f"MFU for everything by {_percent(whole.constant, digits=0)}. Bands of 10 to 90 % hold "
        f"{_percent(whole.coverage, digits=0)} of them."
    )
    return fill(told, 120, break_on_hyphens=False)


def by_source(runs: Runs) -> str:
    """Serving runs by source, quantity and grade."""
    lines = ["| runs | quantity | grade | rows | mean | median | max | bias | peaks alone |",
             "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |"]  # fmt: skip
    found: dict[tuple[str, str, str], list[Prediction]] = {}
    for one in runs.serving:
        if one.error is not None and one.grade in ("A", "B"):
            found.setdefault((one.group.split()[0], one.grade, one.quantity), []).append(one)
    order = list(dict.fromkeys((*_SERVED, *sorted(source for source, _, _ in found))))
    for (source, grade, quantity), rows in sorted(found.items(), key=lambda item: (order.index(item[0][0]), *item[0])):
        errors = np.array([one.error for one in rows], float)
        naive = np.abs([one.roofline_error for one in rows if one.roofline_error is not None])
        sizes = np.abs(errors)
        lines.append(
            f"| {_SERVED.get(source, source)} | `{quantity}` | {grade} | {len(rows)} | {_percent(float(sizes.mean()))} "
            f"| {_percent(float(np.median(sizes)))} | {_percent(float(sizes.max()), digits=0)} "
            f"| {_percent(float(errors.mean()), signed=True)} | {_percent(float(naive.mean()), digits=0)} |"
        )
    return "\n".join(lines)


def served(runs: Runs) -> str:
    """A sentence of how many serving runs are evaluated."""
    asked = {one.id for one in runs.serving if one.grade in ("A", "B")}
    known = {one.id for one in runs.serving if one.grade in ("A", "B") and one.error is not None}
    return (
        f"`latency_s` is a whole request. Of {len(asked)} runs of grade A and B {len(known)} are evaluated; the others "
        "are listed with their reason."
    )


def served_left_out(_: Runs) -> str:
    """Errors of serving by constants that were found without the rows' own engine, chip or family of models."""
    return engine_fit.report_table(engine_fit.read()).rstrip("\n")


TABLES: Mapping[str, Table] = {
    "baselines": baselines,
    "groups": by_group,
    "readme": of_readme,
    "left out": left_out,
    "left out by grade": left_out_by_grade,
    "serving": by_source,
    "serving runs": served,
    "serving left out": served_left_out,
}
_MARKED = re.compile(r"(<!-- table ([a-z ]+) -->\n).*?(\n<!-- end -->)", re.S)


def filled(text: str, runs: Runs) -> str:
    """A document with every marked table as it is now."""

    def anew(match: re.Match[str]) -> str:
        name = match.group(2)
        return f"{match.group(1)}{TABLES[name](runs)}{match.group(3)}" if name in TABLES else match.group(0)

    return _MARKED.sub(anew, text)


def main(arguments: Sequence[str]) -> int:
    """Print the tables, or write them into documents."""
    from sweep.serving_validation import is_serving
    from sweep.validation import predict, read_cases

    at = arguments.index("--into") if "--into" in arguments else len(arguments)
    try:
        cases = read_cases([Path(one) for one in arguments[:at]])
    except InputError as fault:
        sys.stderr.write(f"{fault}\n")
        return 2
    of_kind = {
        kind: [one for case in cases if is_serving(case) == kind for one in predict(case)] for kind in (False, True)
    }
    runs = Runs(training=of_kind[False], serving=of_kind[True])
    for file in map(Path, arguments[at + 1 :]):
        file.write_text(filled(file.read_text(encoding="utf-8"), runs), encoding="utf-8")
    if at == len(arguments):
        sys.stdout.write("\n\n".join(one(runs) for one in TABLES.values()) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
