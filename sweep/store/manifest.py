"""The manifest of a run: one line of JSON for every task that is done.

On this machine it is a file that grows, each line forced to disk. Object stores cannot add to a file, so elsewhere it
is a folder of numbered segments, each written once. Reading takes both, so that a run folder may be moved. What is
damaged counts as work not done, and no line can make a reader leave the run folder.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Protocol
from uuid import uuid4

from sweep.columns import MAY_LACK, SETS
from sweep.store.parts import part_number
from sweep.store.places import Place
from sweep.store.reading import ahead

Line = dict[str, Any]
FILE = "manifest.jsonl"
SEGMENTS = "manifest"
_LARGEST = 1 << 62
_FIRST_S = 1.0  # a segment holds the lines of a second, or of a five-hundredth of the run where that is longer:
_SHARE = 1 / 500  # some thousand segments after hours, and as little work to be done again after a crash
_BYTES = 4 << 20


# ------------------------------------------------------------------------------------------------------- reading
def manifest_lines(run: Place) -> Iterator[Line]:
    """The sound lines of a run's manifest in the order of writing."""
    segments = [run / SEGMENTS / info.base_name for info in (run / SEGMENTS).infos() if _is_segment(info.base_name)]
    for content in ahead(_content, [run / FILE, *segments]):
        yield from sound_lines(content)


def sound_lines(content: bytes) -> Iterator[Line]:
    """Whole lines that say what lines of a manifest say; a torn last one and damaged ones are passed over."""
    for text in content.split(b"\n")[:-1]:
        with suppress(ValueError, RecursionError):  # no JSON, no text, a number of a million digits, a deep nest
            line = json.loads(text)
            if is_sound(line):
                yield line


def _content(file: Place) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        return b""


def _is_segment(name: str) -> bool:
    return name[:8].isdigit() and name.endswith(".jsonl")


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= _LARGEST


def _is_range(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_count, value)) and value[0] <= value[1]


def _is_improvement(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and _is_count(value[0]) and isinstance(value[1], int | float)


def _is_step(value: Any) -> bool:
    inside = isinstance(value, list) and len(value) == 3
    return inside and _is_count(value[0]) and all(type(end) is int and -2 <= end <= _LARGEST for end in value[1:])


def _has_numbers(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(one, int | float) for one in value.values())


def _is_row(value: Any) -> bool:
    if value is None:
        return True
    if not isinstance(value, dict) or not all(isinstance(one, str | int | float | None) for one in value.values()):
        return False
    known = [[name for name in one.quantities if name not in MAY_LACK] for one in SETS.values()]
    numbers = any(all(isinstance(value.get(name), int | float) for name in names) for names in known)
    return numbers and _is_count(value.get("case")) and _is_count(value.get("layout_id"))


# What a line may say of these keys; others are left to those who read them.
_KEYS: Mapping[str, Callable[[Any], bool]] = {
    "done": lambda value: isinstance(value, str),
    "track": lambda value: isinstance(value, str),
    "generation": _is_count,
    "case": _is_count,
    "part": lambda value: isinstance(value, str) and part_number(value) is not None,
    "step": _is_step,
    "cut": lambda value: isinstance(value, list) and all(map(_is_range, value)),
    "best": _is_row,
    "broken": _has_numbers,
    "pruned": _has_numbers,
    "nearest": _has_numbers,
    "improvements": lambda value: isinstance(value, list) and all(map(_is_improvement, value)),
    "trials": lambda value: (
        _is_count(value) or (isinstance(value, list) and all(isinstance(one, dict) for one in value))
    ),
    **dict.fromkeys(("rows", "layouts", "evaluated", "feasible"), _is_count),
}
_NEEDED = {"case": ("case", "rows", "best"), "step": ("case", "step"), "generation": ("track", "generation", "trials")}


def is_sound(line: Any) -> bool:
    """Whether a value read from a manifest has the form of a line."""
    if not isinstance(line, dict) or "done" not in line:
        return False
    if not all(check(line[key]) for key, check in _KEYS.items() if key in line):
        return False
    if not all(key in line for key in _NEEDED.get(line["done"], ())):
        return False
    return line["done"] != "step" or "cut" in line or not line.get("rows") or "part" in line


# ------------------------------------------------------------------------------------------------------- writing
class Manifest(Protocol):
    """A manifest that this process adds to."""

    def add(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Add lines."""

    def beat(self) -> None:
        """Do what is due by now; called once a second."""

    def close(self) -> None:
        """Make sure that every line is stored, and end."""


def _text(lines: Iterable[Mapping[str, Any]]) -> bytes:
    return "".join(json.dumps(line, default=float) + "\n" for line in lines).encode()


class ManifestFile:
    """A file of this machine; lines are on disk when `add` returns."""

    def __init__(self, run: Place) -> None:
        self._file = os.open(run / FILE, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        size = os.fstat(self._file).st_size
        with open(self._file, "rb", closefd=False) as file:
            os.ftruncate(self._file, _whole(file, size))  # a torn last line would spoil the next one

    def add(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Add lines and force them to disk; where there is no room, none of them stays."""
        before, rest = os.fstat(self._file).st_size, memoryview(_text(lines))
        try:
            while rest:
                rest = rest[os.write(self._file, rest) :]
            os.fsync(self._file)
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._file, before)
            raise

    def beat(self) -> None:
        """Nothing is ever due."""

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)


def _whole(file: Any, size: int) -> int:
    """Bytes up to the end of the last whole line."""
    end = size
    while end:
        start = max(0, end - (1 << 16))
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            return int(start + found + 1)
        end = start
    return 0


class ManifestSegments:
    """Numbered segments in a folder of any file system. Lines wait for a moment, so that segments stay few."""

    def __init__(self, run: Place, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder, self._clock = run / SEGMENTS, clock
        self._folder.mkdir()
        numbers = [int(info.base_name[:8]) for info in self._folder.infos() if _is_segment(info.base_name)]
        self._next = max(numbers, default=0) + 1
        self._owner = uuid4().hex[:8]  # two processes, should the second ever get in, write different segments
        self._waiting: list[bytes] = []
        self._began = self._since = clock()

    def add(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Add lines; they are stored within moments, or when the run is closed."""
        if not self._waiting:
            self._since = self._clock()
        added = list(lines)
        self._waiting.append(_text(added))
        if any(line.get("done") in ("run", "generation") for line in added) or sum(map(len, self._waiting)) > _BYTES:
            self.store()

    def beat(self) -> None:
        """Store the waiting lines once the first of them has waited long enough."""
        now = self._clock()
        if now - self._since >= max(_FIRST_S, _SHARE * (now - self._began)):
            self.store()

    def store(self) -> None:
        """Store the waiting lines as one segment."""
        if self._waiting:
            (self._folder / f"{self._next:08d}-{self._owner}.jsonl").write_bytes(b"".join(self._waiting))
            self._next += 1
            self._waiting.clear()

    def close(self) -> None:
        """Store what still waits."""
        self.store()
