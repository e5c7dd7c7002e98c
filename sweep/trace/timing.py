"""When each pass starts: as early as its stage and the passes ahead of it allow, with a delay between stages.

The cost model counts a schedule's idle time by a formula. A timeline of real passes has that idle time exactly where
all stages are equal and the formula is that of the schedule; elsewhere (uneven stages, zero bubbles) they differ
by little. One number closes the gap: a delay of every pass that waits for another stage, the same all over the step.
It is 0 where the formula holds; below 0, a pass starts that long before its input is ready, by the formula's favour.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from model.layout import Array
from sweep.trace.orders import Pass, Pipeline

_ROUNDS = 60


@dataclass(frozen=True, slots=True)
class Timeline:
    """Passes with their starts and ends in seconds.

    Attributes
    ----------
    passes
        Of every stage in their order.
    starts, ends
        Alike, as arrays.
    delay_s
        Between the end of a pass and the start of the one that waits for it on another stage.
    """

    passes: list[list[Pass]]
    starts: list[Array]
    ends: list[Array]
    delay_s: float


@dataclass(frozen=True, slots=True)
class _Network:
    """Passes in an order in which each comes after those it waits for, as arrays."""

    stage: list[int]
    place: list[int]  # in the order of its stage
    seconds: list[float]
    waits_for: list[list[tuple[int, bool]]]  # earlier passes, and whether they are on another stage


def timeline(pipeline: Pipeline, passes: list[list[Pass]], seconds: list[list[float]], target_s: float) -> Timeline:
    """Passes timed so that the longest stage takes `target_s`.

    Parameters
    ----------
    passes
        Of every stage in their order.
    seconds
        Of every pass, alike.
    target_s
        Seconds of the pipeline: busy and idle, without what comes after it. At least the busy seconds of each stage.
    """
    network = _network(pipeline, passes, seconds)
    whole = pipeline.schedule not in ("zb-h2", "zb-v")  # these run into the next step: each stage in its own frame

    def took(delay: float) -> tuple[float, list[Array], list[Array]]:
        starts, ends = _run(network, pipeline.stages, passes, delay)
        spans = [float(e[-1] - (0.0 if whole else s[0])) for s, e in zip(starts, ends, strict=True)]
        return max(spans), starts, ends

    length, starts, ends = took(0.0)
    if abs(length - target_s) <= 1e-9 * target_s or pipeline.stages == 1:
        return Timeline(passes, starts, ends, 0.0)
    low, high = (0.0, target_s) if length < target_s else (-target_s, 0.0)
    for _ in range(_ROUNDS):
        middle = (low + high) / 2.0
        length, starts, ends = took(middle)
        if abs(length - target_s) <= 1e-12 * target_s:
            break
        low, high = (middle, high) if length < target_s else (low, middle)
    return Timeline(passes, starts, ends, middle)


def _network(pipeline: Pipeline, passes: list[list[Pass]], seconds: list[list[float]]) -> _Network:
    """Passes sorted so that each comes after those it waits for."""
    at = [0] * pipeline.stages
    number: dict[Pass, int] = {}
    found = _Network([], [], [], [])
    left = sum(map(len, passes))
    while left:
        before = left
        for stage, own in enumerate(passes):
            while at[stage] < len(own):
                one = own[at[stage]]
                ahead = pipeline.before(one)
                if any(other not in number for other in ahead):
                    break
                waits = [(number[other], pipeline.stage_of(other.chunk) != stage) for other in ahead]
                number[one] = len(found.stage)
                found.stage.append(stage)
                found.place.append(at[stage])
                found.seconds.append(seconds[stage][at[stage]])
                found.waits_for.append(waits)
                at[stage] += 1
                left -= 1
        if left == before:
            raise AssertionError("an order of passes in which none can run")
    return found


def _run(network: _Network, stages: int, passes: list[list[Pass]], delay: float) -> tuple[list[Array], list[Array]]:
    """Starts and ends of all passes with a delay between stages."""
    starts = [np.zeros(len(own)) for own in passes]
    ends = [np.zeros(len(own)) for own in passes]
    free = [0.0] * stages
    ended: list[float] = []
    for stage, place, took, waits in zip(network.stage, network.place, network.seconds, network.waits_for, strict=True):
        start = free[stage]
        for other, away in waits:
            ready = ended[other] + delay if away else ended[other]
            start = max(start, ready)
        end = start + took
        free[stage] = end
        ended.append(end)
        starts[stage][place], ends[stage][place] = start, end
    return starts, ends
