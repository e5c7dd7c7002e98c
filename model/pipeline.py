"""Pipeline schedules: idle time of a step and the activations that a stage holds at its peak.

A schedule is one row of SCHEDULE_RULES: a bubble rule and an in-flight rule, over arrays. F, B and W are the forward,
full backward and weight-gradient seconds of a mean stage for one microbatch.

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
    forward_s: Any  # F of a mean stage
    backward_s: Any  # B of a mean stage, weight gradients included
    weight_gradient_s: Any  # W of a mean stage
    other_stages_s: Any  # F + B of all stages but the slowest, transfers included


@dataclass(frozen=True, slots=True)
class ScheduleRule:
    """Idle seconds of a step, and microbatches in flight on the first and on the last stage (of a full stage)."""

    bubble_s: Callable[[PipelineTimes], Any]
    in_flight_first: Callable[[Any, Any, Any], Any]  # (p, v, m)
    in_flight_last: Callable[[Any, Any, Any], Any]
    weight_copies: float = 1.0


def _zero_bubble(weight_gradients: float) -> Callable[[PipelineTimes], Any]:
    def bubble(t: PipelineTimes) -> Any:
        input_gradient = t.backward_s - t.weight_gradient_s
        idle = t.forward_s + input_gradient - weight_gradients * t.weight_gradient_s
        return (t.stages - 1.0) * np.maximum(idle, 0.0)

    return bubble


def _zero_bubble_v(t: PipelineTimes) -> Any:
    input_gradient = t.backward_s - t.weight_gradient_s
    longest = np.maximum(np.maximum(t.forward_s, input_gradient), t.weight_gradient_s)
    shortest = np.minimum(np.minimum(t.forward_s, input_gradient), t.weight_gradient_s)
    return (t.stages - 1.0) / 2.0 * (longest - shortest)


def _dual_pipe(t: PipelineTimes) -> Any:
    pair = t.forward_s + t.backward_s
    return np.maximum(t.stages / 2.0 - 1.0, 0.0) * np.maximum(pair + t.backward_s - 3.0 * t.weight_gradient_s, 0.0)


def _interleaved_first(p: Any, v: Any, m: Any) -> Any:
    return np.minimum(m * v, (v - 1.0) * p + 2.0 * (p - 1.0) + 1.0) / v


def _interleaved_last(p: Any, v: Any, m: Any) -> Any:
    return np.minimum(m * v, (v - 1.0) * p + 1.0) / v


SCHEDULE_RULES: dict[str, ScheduleRule] = {
    "1f1b": ScheduleRule(
        lambda t: t.other_stages_s, lambda p, v, m: np.minimum(m, p), lambda p, v, m: np.minimum(m, 1.0)
    ),
    "gpipe": ScheduleRule(lambda t: t.other_stages_s, lambda p, v, m: m + 0.0 * p, lambda p, v, m: m + 0.0 * p),
    "interleaved": ScheduleRule(lambda t: t.other_stages_s / t.chunks, _interleaved_first, _interleaved_last),
    "zb-h1": ScheduleRule(_zero_bubble(1.0), lambda p, v, m: np.minimum(m, p), lambda p, v, m: np.minimum(m, p)),
    "zb-h2": ScheduleRule(
        _zero_bubble(2.0),
        lambda p, v, m: np.minimum(m, 2.0 * p - 1.0),
        lambda p, v, m: np.minimum(m, 2.0 * p - 1.0),
    ),
    "zb-v": ScheduleRule(_zero_bubble_v, lambda p, v, m: np.minimum(m, p), lambda p, v, m: np.minimum(m, p)),
    "dualpipe": ScheduleRule(
        _dual_pipe, lambda p, v, m: np.minimum(m, p + 1.0), lambda p, v, m: np.minimum(m, p + 1.0), 2.0
    ),
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


def in_flight(schedule: Any, stages: Any, chunks: Any, microbatches: Any) -> tuple[Any, Any]:
    """Microbatches held at the peak by the first and the last stage, in units of a full stage's activations."""
    first = _by_schedule(schedule, lambda rule: rule.in_flight_first(stages, chunks, microbatches))
    last = _by_schedule(schedule, lambda rule: rule.in_flight_last(stages, chunks, microbatches))
    return first, last


def weight_copies(schedule: Any) -> Any:
    """Copies of a stage's weights and gradients that the schedule holds (2 in DualPipe)."""
    return _by_schedule(schedule, lambda rule: np.asarray(rule.weight_copies))
