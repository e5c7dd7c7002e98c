"""The trials of a case whose layouts are sampled: one line a trial, on disk after every generation.

    <run>/trials/case-000012.jsonl        what was proposed, what it came to, and the best so far
    <run>/trials/case-000012.axes.json    the objectives, and the values on offer

On object stores, which cannot append, a case's file is a folder of its name with one object a generation, until it is
finished. A worker that is started again goes on after the last whole generation. Two workers may write the same file
at the same time, where a task that hangs is started once more: both append the same lines, and of equal trials the
first counts.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress

from sweep.store import Place
from sweep.trials import TRIAL_KEYS, Choice, Trial

FOLDER = "trials"


class TrialLog:
    """The file of one case."""

    def __init__(self, folder: Place, case: int) -> None:
        self.place = folder / f"case-{case:06d}.jsonl"
        self.axes_place = folder / f"case-{case:06d}.axes.json"
        self._segments = folder / f"case-{case:06d}"

    def begin(self, variables: Mapping[str, Choice], objectives: Sequence[str]) -> None:
        """Write down what the trials are of, and end a line that an earlier process left torn."""
        self.place.parent.mkdir()
        axes = {name: {"values": list(one.values), "ordered": one.ordered} for name, one in variables.items()}
        self.axes_place.write_text(json.dumps({"objectives": list(objectives), "variables": axes}, indent=1) + "\n")
        if self._torn():
            self._append(b"\n")

    def axes(self) -> tuple[dict[str, Choice], tuple[str, ...]] | None:
        """Variables and objectives; None before a worker has begun."""
        if not self.axes_place.exists():
            return None
        found = json.loads(self.axes_place.read_text())
        variables = {name: Choice(tuple(one["values"]), one["ordered"]) for name, one in found["variables"].items()}
        return variables, tuple(found["objectives"])

    def add(self, records: Sequence[Trial]) -> None:
        """Append a generation, on disk when this returns."""
        if self.place.local is not None:
            self._append(_text(records))
        elif records:
            self._segments.mkdir()
            (self._segments / f"{records[0]['trial']:08d}.jsonl").write_bytes(_text(records))

    def generations(self, planned: Sequence[range]) -> list[list[Trial]]:
        """The generations that are whole, from the first on."""
        by_number: dict[int, Trial] = {}
        for record in self.records():
            by_number.setdefault(record["trial"], record)
        found = []
        for numbers in planned:
            if not all(number in by_number for number in numbers):
                break
            found.append([by_number[number] for number in numbers])
        return found

    def records(self) -> Iterator[Trial]:
        """Every readable line; one that is torn counts as not written."""
        if self.place.exists():
            yield from readable(self.place.read_bytes().splitlines())
        elif self.place.local is None:
            for segment in self._segments.iterdir():
                yield from readable(segment.read_bytes().splitlines())

    def finish(self, records: Iterable[Trial]) -> None:
        """Leave the file as an undisturbed worker would: each trial once, in order."""
        whole = _text(records)
        if not self.place.exists() or self.place.read_bytes() != whole:
            self.place.write_bytes(whole)

    def _torn(self) -> bool:
        """Whether the last line has no end."""
        text = self.place.read_bytes() if self.place.local is not None and self.place.exists() else b""
        return bool(text) and not text.endswith(b"\n")

    def _append(self, text: bytes) -> None:
        descriptor = os.open(self.place, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            rest = memoryview(text)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def readable(lines: Iterable[bytes]) -> Iterator[Trial]:
    """The records among lines."""
    for line in lines:
        with suppress(ValueError):
            record = json.loads(line)
            if isinstance(record, dict) and all(key in record for key in TRIAL_KEYS):
                yield record


def _text(records: Iterable[Trial]) -> bytes:
    return "".join(json.dumps(record) + "\n" for record in records).encode()
