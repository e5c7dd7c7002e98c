"""Keeping a second process out of a run folder.

On this machine an advisory lock of the file system does it, which the kernel lets go of when a process ends. Elsewhere
a process writes a claim, renews it, and looks for the claims of others *after* writing its own: of two processes at
least one sees the other, whatever their timing, so no conditional writes are needed. A claim that is not renewed
lapses.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

from sweep.errors import InputError, problem
from sweep.store.places import Place

RENEWED_EVERY_S = 15.0
LAPSES_AFTER_S = 90.0
_TRIES = 6  # of processes that start at the same moment
_LOOKS, _LOOK_S = 10, 0.05
FOLDER = "_claims"


class Claim(Protocol):
    """The right to write a run folder."""

    def beat(self) -> None:
        """Do what is due by now; called once a second. Raises InputError where the right is lost."""

    def release(self) -> None:
        """Let another process have the folder."""


def _taken(run: Place, who: str, remedy: str) -> InputError:
    return problem(run, "", f"another process is running this study here{who}", None, remedy)


class FileLock:
    """A lock on a file of this machine."""

    def __init__(self, run: Place) -> None:
        self._file = os.open(run / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as failure:
            os.close(self._file)
            if isinstance(failure, BlockingIOError):
                raise _taken(run, "", "wait for it") from None
            raise

    def beat(self) -> None:
        """Nothing is ever due."""

    def release(self) -> None:
        """Let go of the lock."""
        os.close(self._file)


@dataclass(frozen=True, slots=True)
class _Other:
    """A claim of another process."""

    place: Place
    said: dict[str, Any]
    age_s: float

    @property
    def lapsed(self) -> bool:
        """Whether its process is gone, or has not been heard of for long."""
        return self.age_s > LAPSES_AFTER_S or _has_ended(self.said)

    @property
    def who(self) -> str:
        """Whose claim it is, for people."""
        return f" (process {self.said.get('pid', '?')} on {self.said.get('host', 'an unknown machine')}, {self._seen})"

    @property
    def _seen(self) -> str:
        return f"last heard of {max(0.0, self.age_s):.0f} s ago"


class Lease:
    """A claim that lies beside the results and is renewed."""

    def __init__(self, run: Place, clock: Callable[[], float] = time.monotonic) -> None:
        self._run, self._clock = run, clock
        self._mine = run / FOLDER / f"{uuid4().hex}.json"
        (run / FOLDER).mkdir()
        try:
            self._take()
        except BaseException:
            with suppress(OSError):
                self._mine.unlink(missing_ok=True)
            raise

    def _take(self) -> None:
        for _ in range(_TRIES):
            self._write(holds=False)
            others = self._others()
            living = [other for other in others if not other.lapsed]
            if not living:
                for gone in others:
                    gone.place.unlink(missing_ok=True)
                self._write(holds=True)
                return
            holder = next((other for other in living if other.said.get("holds")), None)
            self._mine.unlink(missing_ok=True)
            if holder is not None:
                break
            time.sleep(random.uniform(0.1, 1.5))  # both saw each other: neither has it, and they try again apart
        remedy = f"wait for it; if it was killed, its claim lapses {LAPSES_AFTER_S:.0f} s after it was last heard of"
        raise _taken(self._run, (holder or living[0]).who, remedy)

    def _write(self, holds: bool) -> None:
        said = {"holds": holds, "renewed": time.time(), "host": socket.gethostname(), "pid": os.getpid(), **_self()}
        self._mine.write_text(json.dumps(said) + "\n")
        self._renewed = self._clock()

    def _others(self) -> list[_Other]:
        infos = (self._run / FOLDER).infos()
        own = next((info for info in infos if info.base_name == self._mine.name), None)
        found = []
        for info in infos:
            claim = self._run / FOLDER / info.base_name
            if claim == self._mine or not info.base_name.endswith(".json"):
                continue
            said = _said(claim)
            if said is None:
                continue  # gone meanwhile
            if own is not None and own.mtime is not None and info.mtime is not None:
                age = (own.mtime - info.mtime).total_seconds()  # both by the store's clock
            else:
                renewed = said.get("renewed")
                age = time.time() - renewed if isinstance(renewed, int | float) else LAPSES_AFTER_S + 1
            found.append(_Other(claim, said, age))
        return found

    def beat(self) -> None:
        """Renew the claim when it is due. Raises InputError where another process has taken it over."""
        silent = self._clock() - self._renewed
        if silent < RENEWED_EVERY_S:
            return
        if not self._mine.exists():
            self._lose("another process took it over")
        try:
            self._write(holds=True)
        except OSError as failure:
            if silent > LAPSES_AFTER_S - RENEWED_EVERY_S:
                self._lose(f"it could not be renewed: {failure}")

    def _lose(self, why: str) -> None:
        rule = f"this process has lost the run folder after {LAPSES_AFTER_S:.0f} s without a sign of life"
        raise problem(self._run, "", f"{rule}: {why}", None, "the same command goes on when it is free")

    def release(self) -> None:
        """Take the claim back."""
        with suppress(OSError):  # it lapses by itself
            self._mine.unlink(missing_ok=True)


def _said(claim: Place) -> dict[str, Any] | None:
    """What a claim says; nothing where it is damaged, None where it is gone."""
    for _ in range(_LOOKS):
        try:
            said = json.loads(claim.read_bytes())
        except FileNotFoundError:
            return None
        except ValueError:
            time.sleep(_LOOK_S)  # it may be half written, where a file system shows that
        else:
            return said if isinstance(said, dict) else {}
    return {}


# ------------------------------------------------------------------------------------------- processes of a machine
@cache
def _machine() -> str | None:
    """What tells this machine, since it was started, from every other; None where that cannot be known."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}-{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return None


def _started(pid: int) -> str | None:
    """When a process of this machine was started, in the kernel's ticks; None where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


def _self() -> dict[str, Any]:
    return {"machine": _machine(), "started": _started(os.getpid())}


def _has_ended(said: dict[str, Any]) -> bool:
    """Whether a claim is of a process of this very machine that is no more: nobody need wait for it to lapse."""
    pid, machine = said.get("pid"), said.get("machine")
    if machine is None or machine != _machine() or type(pid) is not int:
        return False
    return _started(pid) != said.get("started")
