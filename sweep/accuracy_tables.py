"""Tables of accuracy that the documentation holds, printed from predictions and from the fit.

    python -m sweep.accuracy_tables CASES... --into docs/accuracy.md README.md

Each table stands between the lines `<!-- table NAME -->` and `<!-- end -->` of a file; --into writes it anew.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from textwrap import fill

import numpy as np

from sweep.errors import InputError
from sweep.fit.record import fitted, table
from sweep.prediction import Prediction, summarise

Table = Callable[[Sequence[Prediction]], str]

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


def _percent(value: float | None, signed: bool = False, digits: int = 1) -> str:
    return "" if value is None else f"{100 * value:{'+' if signed else ''}.{digits}f} %"


def by_group(predictions: Sequence[Prediction]) -> str:
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
        for one in summarise(predictions)
    ]
    return "\n".join(rows)


def of_readme(predictions: Sequence[Prediction]) -> str:
    """The main groups, with what grades say."""
    steps = [one for one in predictions if one.quantity == "step_time_s" and one.error is not None]
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


def left_out(_: Sequence[Prediction]) -> str:
    """Errors by constants that were found without the runs' own framework, chip or family of models."""
    return table(fitted()).rstrip("\n")


def left_out_by_grade(_: Sequence[Prediction]) -> str:
    """The same, of grades and kinds of models alone."""
    fit = fitted()
    graded = tuple(one for one in fit.shares if one.name.split()[0] in ("A", "B"))
    return table(replace(fit, shares=graded)).rstrip("\n")


def baselines(predictions: Sequence[Prediction]) -> str:
    """A sentence of what guesses without a model would miss by, and of how many runs the bands hold."""
    steps = [one for one in predictions if one.quantity == "step_time_s" and one.grade in ("A", "B")]
    whole = next(one for one in summarise(steps) if one.group == "all")
    told = (
        f"On the {whole.n} cases of grade A and B plain peaks miss by {_percent(whole.roofline, digits=0)}, and one "
        f"MFU for everything by {_percent(whole.constant, digits=0)}. Bands of 10 to 90 % hold "
        f"{_percent(whole.coverage, digits=0)} of them."
    )
    return fill(told, 120, break_on_hyphens=False)


TABLES: Mapping[str, Table] = {
    "baselines": baselines,
    "groups": by_group,
    "readme": of_readme,
    "left out": left_out,
    "left out by grade": left_out_by_grade,
}
_MARKED = re.compile(r"(<!-- table ([a-z ]+) -->\n).*?(\n<!-- end -->)", re.S)


def filled(text: str, predictions: Sequence[Prediction]) -> str:
    """A document with every marked table as it is now."""

    def anew(match: re.Match[str]) -> str:
        name = match.group(2)
        return f"{match.group(1)}{TABLES[name](predictions)}{match.group(3)}" if name in TABLES else match.group(0)

    return _MARKED.sub(anew, text)


def main(arguments: Sequence[str]) -> int:
    """Print the tables, or write them into documents."""
    from sweep.validation import predict, read_cases

    at = arguments.index("--into") if "--into" in arguments else len(arguments)
    try:
        predictions = [one for case in read_cases([Path(one) for one in arguments[:at]]) for one in predict(case)]
    except InputError as fault:
        sys.stderr.write(f"{fault}\n")
        return 2
    for file in map(Path, arguments[at + 1 :]):
        file.write_text(filled(file.read_text(encoding="utf-8"), predictions), encoding="utf-8")
    if at == len(arguments):
        sys.stdout.write("\n\n".join(one(predictions) for one in TABLES.values()) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
