"""A training step as a timeline: passes of every stage, what each of them waits for, and what comes after them.

Times are those of the cost model. A pass is split between forward, backward and weight gradients by FLOPs, as the
schedule's own rules are; the slowest stage has its own time, the others their mean. Exposed traffic follows the compute
of its pass, as the model adds them up. Of a step with many microbatches the middle is one slice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from model.layout import SCHEDULES
from model.step import pipeline_times
from sweep.errors import problem
from sweep.explanation import Explanation
from sweep.trace.lanes import Slice, Trace, in_turn
from sweep.trace.orders import Durations, Pass, Pipeline, orders
from sweep.trace.timing import Timeline, timeline

_MOST_PASSES = 200_000  # that are timed
_MOST_SLICES = 60_000  # that are written
# Parts of model.cost.TimeParts that a pass is made of -> lane
_OF_A_PASS = {
    "compute": "compute",
    "tensor": "tensor",
    "context": "context",
    "expert": "expert",
    "host": "host",
    "offload": "host link",
}
_NAMES = {"F": "forward", "B": "backward", "W": "weight gradients"}


@dataclass(frozen=True, slots=True)
class _Step:
    """One step's times of a microbatch on the stage that sets the pace, in seconds."""

    pipeline: Pipeline  # as drawn
    microbatches: int  # of the step
    parts: dict[str, float]
    transfers: float
    shares: dict[str, float]  # of a kind of pass in a microbatch's time
    others: float  # time of the other stages over that of the slowest, without transfers
    pace: int  # the stage that sets it
    target_s: float  # of the passes as drawn

    @property
    def skipped(self) -> int:
        """Microbatches in the middle that are not drawn one by one."""
        return self.microbatches - self.pipeline.microbatches

    @property
    def stage_s(self) -> float:
        """Seconds of a microbatch on the slowest stage, transfers included."""
        return sum(self.parts.values()) + self.transfers

    def weight(self, stage: int) -> float:
        """Time of a stage over that of the slowest, without transfers."""
        return 1.0 if stage == self.pace else self.others

    def share(self, one: Pass) -> float:
        """Share of a pass in the time of its stage for a microbatch."""
        return self.shares[one.kind] * self.pipeline.stages / (self.pipeline.depth)

    def transfer(self, one: Pass) -> float:
        """Exposed transfer after a pass: both ways are equal, and weight gradients send nothing."""
        return 0.0 if one.kind == "W" else self.transfers * self.pipeline.stages / self.pipeline.depth / 2.0

    def seconds(self, stage: int, one: Pass) -> float:
        """Seconds of a pass with its transfer."""
        return sum(self.parts.values()) * self.weight(stage) * self.share(one) + self.transfer(one)


def trace_of_step(found: Explanation) -> Trace:
    """The timeline of an explained layout.

    Raises InputError where the layout has too many stages and chunks to be drawn, or no whole number of microbatches.
    """
    step = _step(found)
    one = Durations(*(step.stage_s * step.shares.get(kind, 0.0) for kind in "FBW"))
    passes = orders(step.pipeline, one)
    seconds = [[step.seconds(stage, own) for own in row] for stage, row in enumerate(passes)]
    timed = timeline(step.pipeline, passes, seconds, step.target_s)
    slices, shown = _drawn(step, timed, found)
    names = {stage: f"stage {stage}" for stage in shown}
    facts = {
        "model": found.training.architecture.name,
        "system": found.system.name,
        "stack": found.stack.name,
        "chips": found.chips,
        "step_time_s": float(found.cost.step_time),
        "time_s": found.times(),
        "schedule": step.pipeline.schedule,
        "microbatches": step.microbatches,
        "microbatches_not_drawn": step.skipped,
        "stages": step.pipeline.stages,
        "stages_not_drawn": step.pipeline.stages - len(shown),
        "delay_between_stages_s": timed.delay_s,
    }
    return Trace(tuple(slices), names, facts)


def _step(found: Explanation) -> _Step:
    """What is drawn of an explained layout."""
    layout, times = found.layout, found.times()
    schedule = SCHEDULES[int(layout.schedule)]
    p, m = int(layout.pipeline_parallel), int(layout.microbatches)
    if m < 1 or m != float(layout.microbatches):
        raise problem("sweep trace", "layout", "has no whole number of microbatches", float(layout.microbatches))
    if p == 1:
        schedule = "1f1b"
    if schedule == "dualpipe" and (p % 2 or m % 2):
        raise problem("sweep trace", "layout", "DualPipe needs an even number of stages and of microbatches",
                      f"{p} and {m}")  # fmt: skip
    v = int(layout.virtual_stages) if schedule == "interleaved" else 2 if schedule == "zb-v" else 1
    rules, transfers, (first, last) = pipeline_times(found.system, found.stack, found.training, layout)
    parts = {name: times[name] / m for name in _OF_A_PASS}
    forward, weights = float(rules.forward_share), float(rules.weight_share)
    pipeline = Pipeline(schedule, p, v, m)
    if pipeline.splits_backward:
        shares = {"F": forward, "B": 1.0 - forward - weights, "W": weights}
    else:
        shares = {"F": forward, "B": 1.0 - forward}
    drawn = _drawn_microbatches(pipeline)
    own = sum(parts.values())
    rest = float(rules.other_stages_s) - (p - 1) * float(transfers)
    others = rest / (p - 1) / own if p > 1 and own else 1.0
    pace = 0 if bool(first) or others >= 1.0 else p - 1 if bool(last) else min(1, p - 1)
    busy = drawn * (own + float(transfers))
    return _Step(
        Pipeline(schedule, p, v, drawn), m, parts, float(transfers), shares, min(others, 1.0), pace,
        busy + times["bubble"],
    )  # fmt: skip


def _drawn_microbatches(pipeline: Pipeline) -> int:
    """Microbatches that are drawn one by one: all, or enough to fill and to drain the pipeline."""
    p, m = pipeline.stages, pipeline.microbatches
    of_one = pipeline.depth * (3 if pipeline.splits_backward else 2)
    if of_one * m <= _MOST_SLICES // 4:
        return m
    least = 4 * p
    step = 2 * p  # whole rounds of interleaving, and pairs of DualPipe
    fits = max(least, _MOST_SLICES // 4 // of_one // step * step)
    drawn = m if fits >= m else fits + (m - fits) % step
    drawn = min(drawn, m)
    if drawn * of_one > _MOST_PASSES:
        raise problem("sweep trace", "layout", "has more passes to fill the pipeline than can be drawn",
                      drawn * of_one, f"at most {_MOST_PASSES}: take fewer stages or model chunks")  # fmt: skip
    return drawn


# --------------------------------------------------------------------------------------------------------- slices
def _drawn(step: _Step, timed: Timeline, found: Explanation) -> tuple[list[Slice], list[int]]:
    """Slices of the stages that are drawn, and which these are."""
    each = max(len(row) for row in timed.passes) * (2 + sum(value > 0 for value in step.parts.values()))
    most = max(2, _MOST_SLICES // each)
    p = step.pipeline.stages
    shown = list(range(p)) if p <= most else sorted({round(k * (p - 1) / (most - 1)) for k in range(most)})
    cut = _cut(step, timed)
    gap = step.skipped * step.stage_s
    apart = step.pipeline.schedule in ("zb-h2", "zb-v")  # every stage goes on to its next step by itself
    whole = step.target_s + gap
    slices: list[Slice] = []
    for stage in shown:
        slices += _stage(step, timed, stage, cut, gap)
        begin = float(timed.starts[stage][0]) if apart else 0.0
        slices += _afterwards(found, stage, begin + whole)
    return slices, shown


def _cut(step: _Step, timed: Timeline) -> float:
    """When the middle of the step is left out; in GPipe each stage turns at a time of its own."""
    if not step.skipped:
        return float("inf")
    middle = step.pipeline.microbatches // step.pipeline.directions // 2
    entering = next(
        at for at, one in enumerate(timed.passes[0]) if one.kind == "F" and one.chunk == 0 and one.microbatch >= middle
    )
    return float(timed.starts[0][entering])


def _stage(step: _Step, timed: Timeline, stage: int, cut: float, gap: float) -> list[Slice]:
    """Slices of one stage's passes."""
    slices: list[Slice] = []
    late, previous = False, 0.0
    turned = step.pipeline.schedule == "gpipe"
    for one, start, end in zip(timed.passes[stage], timed.starts[stage], timed.ends[stage], strict=True):
        start_s, end_s = float(start), float(end)
        if step.skipped and not late and (one.kind == "B" if turned else start_s >= cut):
            late = True
            name = f"{step.skipped} microbatches more"
            slices.append(Slice(stage, "passes", name, previous, previous + gap, {"microbatches": step.skipped}))
        begin = start_s + (gap if late else 0.0)
        number = _number(step, one, late and not turned)
        facts = {"microbatch": number, "chunk": one.chunk, "pass": _NAMES[one.kind]}
        slices.append(Slice(stage, "passes", f"{one.kind}{number}", begin, begin + end_s - start_s, facts))
        share = step.share(one) * step.weight(stage)
        parts = [(lane, name, step.parts[name] * share) for name, lane in _OF_A_PASS.items()]
        slices += in_turn(stage, begin, [*parts, ("pipeline", "send", step.transfer(one))])
        previous = end_s
    return slices


def _number(step: _Step, one: Pass, late: bool) -> int:
    """Number of a microbatch in the step; those of DualPipe's other direction come last."""
    ways = step.pipeline.directions
    way = one.chunk // step.pipeline.depth
    return one.microbatch + way * (step.microbatches // ways) + (step.skipped // ways if late else 0)


def _afterwards(found: Explanation, stage: int, start_s: float) -> list[Slice]:
    """What comes after the passes: exposed gradient and parameter traffic, the optimizer, the fixed rest."""
    times: dict[str, Any] = found.times()
    parts = [
        ("data", "gradients and parameters", times["data"]),
        ("compute", "optimizer", times["optimizer"]),
        ("host", "fixed", times["fixed"]),
    ]
    return in_turn(stage, start_s, parts)
