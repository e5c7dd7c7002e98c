"""In which order each pipeline stage works through its passes, for every schedule of model/pipeline.py.

1F1B, GPipe and interleaving follow fixed orders (arXiv:2104.04473 and Megatron-Core's schedules). Zero-bubble schedules
(arXiv:2401.10241) and DualPipe (arXiv:2412.19437) are filled greedily under their limits of activations: a backward
first, then a forward, and weight gradients where nothing else can run.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple


class Pass(NamedTuple):
    """A pass of one microbatch through one model chunk: forward F, backward B, or its weight gradients W."""

    kind: str
    chunk: int  # in the order of the model; behind those of one direction the chunks of the other, in DualPipe
    microbatch: int


@dataclass(frozen=True, slots=True)
class Durations:
    """Seconds of a pass through one chunk of the stage that sets the pace."""

    forward: float
    backward: float  # all of it where weight gradients are no pass of their own
    weights: float = 0.0

    def of(self, kind: str) -> float:
        """Seconds of a kind of pass."""
        return self.forward if kind == "F" else self.backward if kind == "B" else self.weights


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A pipeline's shape under a schedule.

    Attributes
    ----------
    depth
        Chunks that a microbatch passes one after the other.
    directions
        2 in DualPipe, where half of the microbatches enter at the last stage; 1 elsewhere.
    """

    schedule: str
    stages: int
    chunks: int  # of a stage
    microbatches: int

    @property
    def directions(self) -> int:
        """Ways in which microbatches travel."""
        return 2 if self.schedule == "dualpipe" else 1

    @property
    def depth(self) -> int:
        """Chunks that a microbatch passes."""
        return self.stages * (1 if self.directions == 2 else self.chunks)

    @property
    def splits_backward(self) -> bool:
        """Whether weight gradients are passes of their own."""
        return self.schedule in ("zb-h1", "zb-h2", "zb-v", "dualpipe")

    def stage_of(self, chunk: int) -> int:
        """Stage that holds a chunk."""
        way, place = divmod(chunk, self.depth)
        if way:
            return self.stages - 1 - place
        if self.schedule == "zb-v" and place >= self.stages:
            return 2 * self.stages - 1 - place
        return place % self.stages

    def before(self, one: Pass) -> list[Pass]:
        """Passes that must have ended before one can start."""
        place = one.chunk % self.depth
        if one.kind == "F":
            return [one._replace(chunk=one.chunk - 1)] if place else []
        if one.kind == "W":
            return [one._replace(kind="B")]
        own = one._replace(kind="F")
        return [own] if place == self.depth - 1 else [one._replace(chunk=one.chunk + 1), own]


def orders(pipeline: Pipeline, durations: Durations) -> list[list[Pass]]:
    """Passes of every stage in their order."""
    p, m, v = pipeline.stages, pipeline.microbatches, pipeline.chunks
    if pipeline.schedule == "gpipe":
        return [[Pass("F", i, n) for n in range(m)] + [Pass("B", i, n) for n in reversed(range(m))] for i in range(p)]
    if pipeline.schedule == "1f1b":
        return [_alternating([("F", i, n) for n in range(m)], [("B", i, n) for n in range(m)], p - 1 - i)
                for i in range(p)]  # fmt: skip
    if pipeline.schedule == "interleaved" and m % p == 0:
        return [_interleaved(i, p, v, m) for i in range(p)]
    return _greedy(pipeline, durations)


def _alternating(forward: list[tuple[str, int, int]], backward: list[tuple[str, int, int]], ahead: int) -> list[Pass]:
    """So many forwards ahead, then forwards and backwards in turn, then the backwards that are left."""
    ahead = min(ahead, len(forward))
    turns = [one for pair in zip(forward[ahead:], backward, strict=False) for one in pair]
    left = backward[len(forward) - ahead :]
    return [Pass(*one) for one in (*forward[:ahead], *turns, *left)]


def _interleaved(stage: int, p: int, v: int, m: int) -> list[Pass]:
    """Megatron-Core's order: p microbatches through every chunk of the stage before the next p."""
    forward, backward = [], []
    for first in range(0, m, p):
        for chunk in range(v):
            for n in range(first, first + p):
                forward.append(("F", chunk * p + stage, n))
                backward.append(("B", (v - 1 - chunk) * p + stage, n))
    ahead = 2 * (p - stage - 1) + (v - 1) * p
    return _alternating(forward, backward, ahead)


# ------------------------------------------------------------------------------------------------------ greedy
def _limit(pipeline: Pipeline) -> Callable[[int, int, list[int]], bool]:
    """Whether a chunk of a stage may take one more microbatch forward, given what each of its chunks holds."""
    p, v = pipeline.stages, pipeline.chunks
    if pipeline.schedule == "dualpipe":
        return lambda stage, chunk, held: held[chunk // p] < p - chunk % p
    if pipeline.schedule == "zb-v":
        return lambda stage, chunk, held: chunk >= p or sum(held) < 2 * p
    if pipeline.schedule in ("zb-h1", "zb-h2"):
        most = p if pipeline.schedule == "zb-h1" else 2 * p - 1
        return lambda stage, chunk, held: sum(held) < most
    # interleaving with a last group of fewer than p microbatches
    return lambda stage, chunk, held: chunk >= p or held[0] < 2 * p - stage + (v - 1) * p


def _greedy(pipeline: Pipeline, durations: Durations) -> list[list[Pass]]:
    """Fill every stage with whatever can run: a backward first, a forward, weight gradients."""
    p, depth = pipeline.stages, pipeline.depth
    kinds = "FBW" if pipeline.splits_backward else "FB"
    allowed = _limit(pipeline)
    found: list[list[Pass]] = [[] for _ in range(p)]
    ready: list[list[tuple[float, int, int, str]]] = [[] for _ in range(p)]  # passes that could run, by when
    held = [[0] * max(pipeline.chunks, pipeline.directions) for _ in range(p)]
    free = [0.0] * p
    each = pipeline.microbatches // pipeline.directions
    for way in range(pipeline.directions):
        for n in range(each):
            heapq.heappush(ready[pipeline.stage_of(way * depth)], (0.0, n, way * depth, "F"))
    wake = [(0.0, stage) for stage in range(p)]
    left = depth * each * pipeline.directions * len(kinds)
    order = {"B": 0, "F": 1, "W": 2}
    while left:
        now, stage = heapq.heappop(wake)
        if now < free[stage]:
            continue
        can = [
            one
            for one in ready[stage]
            if one[0] <= now and (one[3] != "F" or allowed(stage, one[2], held[stage]))
        ]  # fmt: skip
        if not can:
            later = [one[0] for one in ready[stage] if one[0] > now]
            if later:
                heapq.heappush(wake, (min(later), stage))
            continue
        one = min(can, key=lambda pass_: (order[pass_[3]], -pass_[2] % depth, pass_[1]))
        ready[stage].remove(one)
        _, n, chunk, kind = one
        found[stage].append(Pass(kind, chunk, n))
        end = free[stage] = now + durations.of(kind)
        left -= 1
        own = chunk // depth if pipeline.directions == 2 else chunk // p
        held[stage][own] += (kind == "F") - (kind == ("W" if pipeline.schedule.startswith("zb") else "B"))
        for then in _after(pipeline, Pass(kind, chunk, n)):
            other = pipeline.stage_of(then.chunk)
            ready[other].append((end, then.microbatch, then.chunk, then.kind))
            heapq.heappush(wake, (max(end, free[other]), other))
        heapq.heappush(wake, (end, stage))
    return found


def _after(pipeline: Pipeline, one: Pass) -> list[Pass]:
    """Passes that one makes possible."""
    place, depth = one.chunk % pipeline.depth, pipeline.depth
    if one.kind == "F":
        return [one._replace(kind="B")] if place == depth - 1 else [one._replace(chunk=one.chunk + 1)]
    if one.kind == "B":
        weights = [one._replace(kind="W")] if pipeline.splits_backward else []
        return weights + ([one._replace(chunk=one.chunk - 1)] if place else [])
    return []
