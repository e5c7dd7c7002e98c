"""Pipeline schedules: idle time of a step and the activations that a stage holds at its peak.

A schedule is one row of SCHEDULE_RULES: a bubble rule and an in-flight rule, over arrays. F, B and W are the forward,
full backward and weight-gradient seconds of the stage that sets the pace, for one microbatch; its time is split between
them by FLOPs, so that a schedule's idle time rises and falls with the stage's time.

Sources: 1F1B and interleaving, Narayanan et al., arXiv:2104.04473; zero bubble (ZB-H1, ZB-H2, ZB-V), arXiv:2401.10241;
DualPipe, DeepSeek-V3, arXiv:2412.19437, table 2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from model.layout import SCHEDULES


@dataclass(frozen=True, slots=True)
class PipelineTimes:
    """A pipeline's shape and the times of one microbatch, as floats that broadcast."""

    stages: Any  # p
    chunks: Any  # v
    microbatches: Any  # m
    stage_s: Any  # F + B of the stage that sets the pace
    forward_share: Any  # F of it, by FLOPs
    weight_share: Any  # W of it, by FLOPs
    other_stages_s: Any  # F + B of all stages but the slowest, transfers included

    @property
    def forward_s(self) -> Any:
        """F."""
        return self.forward_share * self.stage_s

    @property
    def input_gradient_s(self) -> Any:
        """B without weight gradients; recomputation belongs to it."""
        return (1.0 - self.forward_share - self.weight_share) * self.stage_s

    @property
    def weight_gradient_s(self) -> Any:
        """W."""
        return self.weight_share * self.stage_s


@dataclass(frozen=True, slots=True)
class ScheduleRule:
    """Idle seconds of a step, and microbatches in flight on a stage (of the full stage's activations)."""

    bubble_s: Callable[[PipelineTimes], Any]
    in_flight: Callable[[Any, Any, Any, Any], Any]  # (p, v, m, i) on stage i
    weight_copies: float = 1.0


def _zero_bubble(weight_gradients: float) -> Callable[[PipelineTimes], Any]:
    """Idle time of 1F1B without weight gradients, filled with those of `weight_gradients` (p - 1) microbatches."""

    def bubble(t: PipelineTimes) -> Any:
        filling = np.minimum(t.microbatches, weight_gradients * (t.stages - 1.0))
        idle = (t.stages - 1.0) * (t.forward_s + t.input_gradient_s) - filling * t.weight_gradient_s
        return np.maximum(idle, 0.0)

    return bubble


def _zero_bubble_v(t: PipelineTimes) -> Any:
    """Spread of the three passes over half the pipeline, but never less than one microbatch's way through it."""
    input_gradient = t.input_gradient_s
    longest = np.maximum(np.maximum(t.forward_s, input_gradient), t.weight_gradient_s)
    shortest = np.minimum(np.minimum(t.forward_s, input_gradient), t.weight_gradient_s)
    half = (t.stages - 1.0) / 2.0
    spread = half * longest - np.minimum(half, t.microbatches) * shortest
    way = t.stages * (t.forward_s + input_gradient) - t.microbatches * t.stage_s
    return np.maximum(np.maximum(spread, way), 0.0)


def _dual_pipe(t: PipelineTimes) -> Any:
    backward = t.input_gradient_s + t.weight_gradient_s
    return np.maximum(t.stages / 2.0 - 1.0, 0.0) * np.maximum(t.stage_s + backward - 3.0 * t.weight_gradient_s, 0.0)


def _interleaved_in_flight(p: Any, v: Any, m: Any, i: Any) -> Any:
    return np.minimum(m * v, (v - 1.0) * p + 2.0 * (p - i - 1.0) + 1.0) / v


SCHEDULE_RULES: dict[str, ScheduleRule] = {
    "1f1b": ScheduleRule(lambda t: t.other_stages_s, lambda p, v, m, i: np.minimum(m, p - i)),
    "gpipe": ScheduleRule(lambda t: t.other_stages_s, lambda p, v, m, i: m + 0.0 * (p - i)),
    "interleaved": ScheduleRule(lambda t: t.other_stages_s / t.chunks, _interleaved_in_flight),
    "zb-h1": ScheduleRule(_zero_bubble(1.0), lambda p, v, m, i: np.minimum(m, p + 0.0 * i)),
    "zb-h2": ScheduleRule(_zero_bubble(2.0), lambda p, v, m, i: np.minimum(m, 2.0 * p - 1.0 + 0.0 * i)),
    "zb-v": ScheduleRule(_zero_bubble_v, lambda p, v, m, i: np.minimum(m, p + 0.0 * i)),
    "dualpipe": ScheduleRule(_dual_pipe, lambda p, v, m, i: np.minimum(m, p + 1.0 + 0.0 * i), 2.0),
}


def _by_schedule(schedule: Any, rule: Callable[[ScheduleRule], Any]) -> Any:
    """The value of `rule` for each layout's schedule; only schedules that occur are evaluated."""
    schedule = np.asarray(schedule)
    codes = [int(code) for code in np.unique(schedule)]
    result: Any = rule(SCHEDULE_RULES[SCHEDULES[codes[0]]])
    for code in codes[1:]:
        result = np.where(schedule == code, rule(SCHEDULE_RULES[SCHEDULES[code]]), result)
    return result


def bubble_seconds(schedule: Any, times: PipelineTimes) -> Any:
    """Idle seconds of the slowest stage in a step; 0 without a pipeline."""
    return np.where(times.stages > 1, _by_schedule(schedule, lambda rule: rule.bubble_s(times)), 0.0)


def in_flight(schedule: Any, stages: Any, chunks: Any, microbatches: Any, stage: Any) -> Any:
    """Microbatches that stage `stage` (from 0) holds at its peak, in units of its full activations."""
    return _by_schedule(schedule, lambda rule: rule.in_flight(stages, chunks, microbatches, stage))


def weight_copies(schedule: Any) -> Any:
    """Copies of a stage's weights and gradients that the schedule holds (2 in DualPipe)."""
    return _by_schedule(schedule, lambda rule: np.asarray(rule.weight_copies))
