"""Tasks that raise: what is kept of the exception, what is told of the case, and what a whole run ends with.

A task that raises takes no other along: it is reported with its inputs and left undone, so that the same command tries
it again. Only text travels from worker to driver, never the exception itself, which might not survive the way.
"""

from __future__ import annotations

import errno
import shutil
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sweep
from sweep.cases import Case
from sweep.errors import InputError, Problem, RunStopped
from sweep.store import DamagedPartError, Place

FOLDER = "failures"
_ROOT = Path(str(sweep.__file__)).parents[1]
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


class OutOfSpace(RunStopped):
    """A disk is full."""

    def __init__(self, place: object, said: str) -> None:
        super().__init__(
            f"{place}: the disk is full: {said}\n"
            "What is done is kept. Make room, or move the run folder to a larger disk and give its parent as --out; "
            "then the same command goes on."
        )


@dataclass(frozen=True, slots=True)
class Raised:
    """An exception in a task, as text.

    Attributes
    ----------
    kind, message
        Class and text of the exception.
    place
        Where in this code it was raised, as in "model/step.py:120 in training_step".
    trace
        The whole traceback.
    problems
        Those of an InputError.
    lost
        The worker died; the task itself may be innocent.
    no_space
        A disk was full.
    damaged
        Parts that could not be read, and why.
    """

    kind: str
    message: str
    place: str = ""
    trace: str = ""
    problems: tuple[Problem, ...] = ()
    lost: bool = False
    no_space: bool = False
    damaged: Mapping[Place, str] = field(default_factory=dict)

    @classmethod
    def of(cls, failure: BaseException, lost: bool = False) -> Raised:
        """What is kept of an exception."""
        return cls(
            kind=type(failure).__name__,
            message=str(failure).strip(),
            place=_place(failure),
            trace="".join(traceback.format_exception(failure)),
            problems=_plain(failure) if isinstance(failure, InputError) else (),
            lost=lost,
            no_space=is_no_space(failure),
            damaged=dict(failure.found) if isinstance(failure, DamagedPartError) else {},
        )

    def sentence(self) -> str:
        """The exception in a line."""
        lines = self.message.splitlines()
        text = f"{self.kind}: {lines[0]}" if lines else self.kind
        return f"{text} ({self.place})" if self.place else text


def is_no_space(failure: BaseException) -> bool:
    """Whether an exception says that a disk is full, or that a user's share of it is."""
    return isinstance(failure, OSError) and (
        failure.errno in _NO_SPACE or any(f"[errno {number}]" in str(failure).lower() for number in _NO_SPACE)
    )


def _plain(failure: InputError) -> tuple[Problem, ...]:
    """Its problems with values that surely travel."""
    known = (str, int, float, bool, type(None))
    return tuple(
        Problem(one.file, one.key, one.rule, one.value if isinstance(one.value, known) else repr(one.value), one.remedy)
        for one in failure.problems
    )


def _place(failure: BaseException) -> str:
    """The innermost line of this code, or of any code, that an exception passed through."""
    frames = traceback.extract_tb(failure.__traceback__)
    own = [frame for frame in frames if Path(frame.filename).is_relative_to(_ROOT)] or list(frames)
    if not own:
        return ""
    file = Path(own[-1].filename)
    shown = file.relative_to(_ROOT) if file.is_relative_to(_ROOT) else Path(file.name)
    return f"{shown.as_posix()}:{own[-1].lineno} in {own[-1].name}"


def clear_failures(folder: Place) -> None:
    """Forget the failures of an earlier try."""
    failures = folder / FOLDER
    if failures.local is not None:
        shutil.rmtree(failures.local, ignore_errors=True)
        return
    for file in failures.iterdir():
        file.unlink(missing_ok=True)


def failed_case(case: Case, first: int, last: int, raised: Raised, folder: Place) -> dict[str, Any]:
    """What is told of a case that failed; inputs and traceback go into a file of the run folder."""
    told: dict[str, Any] = {
        "case": case.index,
        "design": case.design.label,
        "system": case.design.system,
        "model": case.model,
        "number_format": case.number_format,
        "chips": case.chips,
        "work": case.work.name,
        "corner": case.corner,
        "method": case.method,
        "trial": case.trial,
        "layouts": [first, last] if first >= 0 else None,  # numbers of the case's layouts; None: all
        "reason": raised.sentence(),
    }
    name = f"case-{case.index:06d}" + (f"-{first:010d}" if first >= 0 else "") + ".txt"
    inputs = "".join(f"{key}: {value}\n" for key, value in told.items())
    inputs += f"{case.work}\nchanges: {dict(case.design.changes)}\n"
    (folder / FOLDER).mkdir()
    (folder / FOLDER / name).write_text(f"{inputs}\n{raised.trace or raised.message}\n")
    return told | {"file": f"{FOLDER}/{name}"}
