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

_ROUNDS = 48
_SAME = 1e-11  # relative: two times that are the same


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

    def took(delay: float) -> tuple[float, int, list[Array], list[Array]]:
        """Seconds of the longest stage, how many delays they hold, and all starts and ends."""
        starts, ends, hops = _run(network, pipeline.stages, passes, delay)
        spans = [float(e[-1] - (0.0 if whole else s[0])) for s, e in zip(starts, ends, strict=True)]
        at = int(np.argmax(spans))
        return spans[at], hops[at][1] - (0 if whole else hops[at][0]), starts, ends

    low, high, delay = -np.inf, np.inf, 0.0
    for _ in range(_ROUNDS):  # Newton's: the length is a straight line until another path becomes the longest
        length, slope, starts, ends = took(delay)
        if abs(length - target_s) <= _SAME * target_s:
            break
        low, high = (delay, high) if length < target_s else (low, delay)
        delay += (target_s - length) / max(slope, 1)
        if not low < delay < high:
            delay = (max(low, -target_s) + min(high, target_s)) / 2.0
    return Timeline(passes, starts, ends, delay)


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


def _run(
    network: _Network, stages: int, passes: list[list[Pass]], delay: float
) -> tuple[list[Array], list[Array], list[tuple[int, int]]]:
    """Starts and ends of all passes with a delay between stages, and the delays ahead of each stage's start and end."""
    starts = [np.zeros(len(own)) for own in passes]
    ends = [np.zeros(len(own)) for own in passes]
    free, behind = [0.0] * stages, [0] * stages  # when a stage is free, and the delays on the longest way there
    first: list[int | None] = [None] * stages
    ended: list[float] = []
    ways: list[int] = []
    for stage, place, took, waits in zip(network.stage, network.place, network.seconds, network.waits_for, strict=True):
        start, hops = free[stage], behind[stage]
        for other, away in waits:
            ready = ended[other] + delay if away else ended[other]
            if ready > start:
                start, hops = ready, ways[other] + away
        end = start + took
        free[stage], behind[stage] = end, hops
        if first[stage] is None:
            first[stage] = hops
        ended.append(end)
        ways.append(hops)
        starts[stage][place], ends[stage][place] = start, end
    return starts, ends, [(one or 0, last) for one, last in zip(first, behind, strict=True)]
