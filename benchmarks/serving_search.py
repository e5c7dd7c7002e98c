"""How fast instances of a served model are searched, in one process.

* Instances at given batches evaluated in blocks, as a search without targets does, beside a call for each: points a
  second, and the ratio to the plain way. Beside a million points a second too.
* The best batch of every instance within a target, solved: instances a second beside points a second, which says how
  many evaluations a solution takes.

Why not a million: a pass is some thousand array operations of 2 to 3 ns an element. What attention groups have in
common is computed once for all instances that share it (model/serving/passes.py); the experts and their exchange depend
on the groups, the ranks and the batch of every single instance, and are half of the work that is left.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from time import process_time

import numpy as np

from benchmarks.measurement import Measurement
from model.serving.instance import Instance
from sweep.blocks import keep_freed_memory
from sweep.cases import Question, cases
from sweep.kinds import known_case
from sweep.served import COSTS
from sweep.study import parse

STUDY = """
question = "How fast is the search?"
phase = "decode"
chips = [384]
[[workloads]]
model = "deepseek-r1"
[traffic]
input_tokens = "4096 token"
output_tokens = "1024 token"
[serving]
weight_format = "int8"
redundant_experts = [0, 32, 64]
[targets]
tpot = "<= 50 ms"
[[designs]]
system = "cloudmatrix-384"
"""
BATCHES = "[layout]\nbatch = [1, 2, 4, 8, 16, 24, 32, 48, 64, 96]\n"
TARGET = 1e6  # points a second and core
_ONE_BY_ONE = 200


def _searched(text: str) -> tuple[float, int, object]:
    """Seconds of a search of the one case of a study, its points, and the case looked up."""
    study = parse(text)
    (case,), _ = cases(study)
    question = Question(study.axes, study.search, study.constraints, study.seed, phase=study.phase)
    known = known_case(question, case)
    known.search(0, min(known.space.count, 1 << 12))  # once to warm up
    began = process_time()
    known.search(0, known.space.count)
    return process_time() - began, known.space.count, known.records


def measurements() -> Iterator[Measurement]:
    """Points and instances a second."""
    keep_freed_memory()
    seconds, count, case = _searched(STUDY.replace("[[designs]]", BATCHES + "[[designs]]"))
    records = case.known  # type: ignore[attr-defined]
    rate = count / seconds
    some = np.linspace(0, records.space.count - 1, _ONE_BY_ONE).astype(int)
    instances, more = records.space.take(some)
    ones = [Instance(**{name: getattr(instances, name)[i] for name in Instance.__slots__}) for i in range(len(some))]
    serving = [records.work.serving(records.architecture, int(copies)) for copies in more["redundant"]]
    cost = COSTS["decode"]
    began = process_time()
    for one, served in zip(ones, serving, strict=True):
        cost(records.system, records.engine, served, replace(one))
    plain = len(ones) / (process_time() - began)
    yield Measurement("serving_search.points_over_one_by_one", rate, "point/s", plain)
    yield Measurement("serving_search.points_per_second", rate, "point/s", TARGET)
    seconds, count, _ = _searched(STUDY)
    yield Measurement("serving_search.solved_instances", count / seconds, "instance/s", rate)
