"""Passes of instances that serve as a timeline: one mean pass for every stage, each stage ahead of the next."""

from __future__ import annotations

from typing import Any

import numpy as np

from sweep.serving_explanation import ServedExplanation, instance_of
from sweep.trace.lanes import Slice, Trace, in_turn

# Parts of model.serving.passes.PassTime -> lane
_LANES = {
    "linear": "compute",
    "attention": "compute",
    "experts": "compute",
    "vector": "compute",
    "tensor": "tensor",
    "context": "context",
    "exchange": "expert",
    "transfer": "pipeline",
    "host": "host",
    "fixed": "host",
}


def trace_of_passes(found: ServedExplanation) -> Trace:
    """The timeline of an explained row of serving: of every kind of instance, as many passes as it has stages.

    A pass takes its mean time through all stages; the next one follows on a stage when that is done with its share.
    """
    slices: list[Slice] = []
    groups: dict[int, str] = {}
    step_s: dict[str, float] = {}
    for kind, times in found.times().items():
        stages = int(instance_of(found.row, "prefill_" if kind == "prefill" and len(found.costs) > 1 else "")
                     .pipeline_parallel)  # fmt: skip
        whole = sum(times.values())
        step_s[kind] = whole
        for stage in range(stages):
            group = len(groups)
            groups[group] = f"{kind}, stage {stage}"
            for number in range(stages):
                start = (stage + number) * whole / stages
                facts = {"pass": number}
                slices.append(Slice(group, "passes", f"pass {number}", start, start + whole / stages, facts))
                parts = [(lane, name, times[name] / stages) for name, lane in _LANES.items()]
                slices += in_turn(group, start, parts)
    kept: dict[str, Any] = {name: found.row[name] for name in ("model", "system", "phase", "chips")}
    batch = {kind: float(np.asarray(cost.batch).reshape(-1)[0]) for kind, cost in found.costs.items()}
    told: dict[str, Any] = {
        **kept,
        "engine": found.engine.name,
        "pass_s": step_s,
        "batch": batch,
        "time_s": found.times(),
    }
    return Trace(tuple(slices), groups, told)
