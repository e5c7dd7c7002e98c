"""How long proven answers take, and what they need: `sweep run` as a user calls it, two workers, from an empty folder.

* The best layout of DeepSeek-V3 on 16,384 H100 over the full option space, 1e9 legal layouts: beside 10 s, and how many
  of them were evaluated.
* The best layouts of 50 cluster sizes of 6 designs for 2 models, beside 2 minutes.
* The peak memory of driver and workers in a sweep that evaluates 1e9 layouts without bounds, beside 1 GiB.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

from benchmarks.measurement import Measurement
from benchmarks.watching import LIMIT, Watched, watched_run
from model.layout import OVERLAPS

DEGREES = """
question = "{question}"
chips = {chips}
corners = false
"""
OPTIONS = """
[layout]
zero_stage = [0, 1, 2, 3]
schedule = ["1f1b", "gpipe", "interleaved", "zb-h1", "zb-h2", "zb-v", "dualpipe"]
overlap_off = {overlap_off}
offload = ["none", "optimizer", "activations", "optimizer+activations"]
recompute = {recompute}
"""
DEEPSEEK = '[[workloads]]\nmodel = "deepseek-v3"\nsequence = "4096 token"\nbatch = 15360\n'
LLAMA = '[[workloads]]\nmodel = "llama-3.1-405b"\nsequence = "8192 token"\nbatch = 3840\n'
DESIGNS = ("cloudmatrix-384", "atlas-910d-supernode", "atlas-920-supernode", "gb200-nvl72", "dgx-h100", "hgx-h20")
SIZES = [128 * n for n in range(1, 244) if 30**8 % n == 0]  # no factor beside 2, 3 and 5, as batches have none
MODULES = ("core_attention", "norm", "activation", "feed_forward")
SWEPT = 1_000_000_000


def every_set(names: tuple[str, ...]) -> list[str]:
    """Every set of some names, as a study file says it."""
    return ["+".join(some) or "none" for count in range(len(names) + 1) for some in combinations(names, count)]


def design(system: str) -> str:
    """A design table of a study."""
    return f'[[designs]]\nsystem = "{system}"\n'


def measurements() -> Iterator[Measurement]:
    """Seconds of the two searches, layouts that they excluded, and peaks of memory."""
    recompute, overlaps = ["full", *every_set(MODULES)], every_set(OVERLAPS)
    full = OPTIONS.format(recompute=json.dumps(recompute), overlap_off=json.dumps(overlaps))
    one = DEGREES.format(question="best layout?", chips=[16_384]) + DEEPSEEK + design("dgx-h100") + full
    found = _run(one)
    proof = found.answer["answer"][0]["proof"]
    yield Measurement("exact_search.one_case.layouts_over_evaluated", proof["layouts"], "layout", proof["evaluated"])
    yield Measurement("exact_search.one_case.seconds", found.seconds, "s", 10.0)
    many = DEGREES.format(question="which size?", chips=SIZES) + DEEPSEEK + LLAMA + "".join(map(design, DESIGNS))
    found = _run(many)
    total, evaluated = (_sum(found, name) for name in ("layouts", "evaluated"))
    yield Measurement("exact_search.fifty_sizes.layouts_over_evaluated", total, "layout", evaluated)
    yield Measurement("exact_search.fifty_sizes.seconds", found.seconds, "s", 120.0)
    front = '[search]\nrows = "pareto"\npareto = ["tokens_per_s", "power_w", "hbm_used_bytes"]\nprune = false\n'
    sweep_all = DEGREES.format(question="front?", chips=[16_384]) + DEEPSEEK + design("dgx-h100")
    found = _run(sweep_all + full + front)
    yield Measurement("exact_search.sweep.layouts_evaluated", _sum(found, "evaluated"), "layout", SWEPT)
    rate = _sum(found, "evaluated") / found.seconds
    yield Measurement("exact_search.sweep.layouts_per_second", rate, "layout/s", SWEPT / 120.0)
    yield Measurement("exact_search.sweep.driver_peak", found.driver_peak, "byte", LIMIT)
    yield Measurement("exact_search.sweep.worker_peak", found.worker_peak, "byte", LIMIT)


def _sum(found: Watched, name: str) -> int:
    """A count over all cases of the answer."""
    return sum(row["proof"][name] for row in found.answer["answer"])


def _run(text: str) -> Watched:
    """A study of this text, run on two workers."""
    with tempfile.TemporaryDirectory() as folder:
        study = Path(folder) / "study.toml"
        study.write_text(text)
        return watched_run(study, workers=2)
