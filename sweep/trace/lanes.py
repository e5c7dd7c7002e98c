"""Slices on lanes, written in the trace event format that Perfetto and Chrome read.

Source: "Trace Event Format", complete events (ph "X") in microseconds; processes are stages, threads are lanes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

# Lanes of a stage in the order that they are drawn in.
LANES = ("passes", "compute", "tensor", "context", "expert", "pipeline", "data", "host", "host link")


class Slice(NamedTuple):
    """Something that a lane does from a start to an end, in seconds."""

    group: int  # a stage
    lane: str  # one of LANES
    name: str
    start_s: float
    end_s: float
    facts: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Trace:
    """Slices of a step with what has to be known about them."""

    slices: tuple[Slice, ...]  # of each lane in order
    groups: Mapping[int, str]  # names of stages
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def end_s(self) -> float:
        """When the last slice ends."""
        return max(one.end_s for one in self.slices)

    def text(self) -> str:
        """The trace as JSON. Times are whole nanoseconds, so that slices that touch do not overlap."""
        events: list[dict[str, Any]] = []
        for number, (group, name) in enumerate(self.groups.items()):
            events.append(_named("process_name", group, 0, name))
            events.append({"ph": "M", "name": "process_sort_index", "pid": group, "args": {"sort_index": number}})
            used = {one.lane for one in self.slices if one.group == group}
            events += [_named("thread_name", group, LANES.index(lane), lane) for lane in LANES if lane in used]
        ended: dict[tuple[int, str], int] = {}
        for one in self.slices:
            start = max(round(one.start_s * 1e9), ended.get((one.group, one.lane), 0))  # rounding is no overlap
            end = ended[one.group, one.lane] = max(start, round(one.end_s * 1e9))
            events.append(_event(one, start, end))
        whole = {"displayTimeUnit": "ms", "otherData": dict(self.facts), "traceEvents": events}
        return json.dumps(whole, allow_nan=False, separators=(",", ":")) + "\n"


def _named(what: str, group: int, lane: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "name": what, "pid": group, "tid": lane, "args": {"name": name}}


def _event(one: Slice, start: int, end: int) -> dict[str, Any]:
    """A slice from a start to an end in nanoseconds."""
    event = {
        "ph": "X", "name": one.name, "cat": one.lane, "pid": one.group, "tid": LANES.index(one.lane),
        "ts": start / 1e3, "dur": (end - start) / 1e3,
    }  # fmt: skip
    return event | ({"args": dict(one.facts)} if one.facts else {})


def in_turn(group: int, start_s: float, parts: Iterable[tuple[str, str, float]]) -> list[Slice]:
    """Slices one after the other: lane, name and seconds of each; those of no time are left out."""
    found = []
    for lane, name, seconds in parts:
        if seconds > 0.0:
            found.append(Slice(group, lane, name, start_s, start_s + seconds))
            start_s += seconds
    return found
