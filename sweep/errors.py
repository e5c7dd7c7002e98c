"""Problems with what the user gave: every one a place, a rule, the value that broke it and a remedy.

All problems of an input are collected and reported at once; the command line prints them without a traceback
and exits with code 2.
"""

from __future__ import annotations

import difflib
import signal
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_VALUE, _RULE = 200, 600  # characters told of a value, and of a rule
STOPPED = "stopped; what is done is kept, and the same command goes on"


@dataclass(frozen=True, slots=True)
class Problem:
    """One broken rule.

    Attributes
    ----------
    file
        Where it was read: a path, or the name of an option.
    key
        The key inside the file, as in "workloads[0].sequence"; empty for the file itself.
    rule
        What must hold, as a sentence without a full stop.
    value
        The value found; None where there is none.
    remedy
        What to write instead.
    """

    file: str
    key: str
    rule: str
    value: object = None
    remedy: str = ""

    def sentence(self) -> str:
        """Rule, value and remedy in one line."""
        got = "" if self.value is None else f", but got {_short(repr(self.value), _VALUE)}"
        remedy = f"; {self.remedy}" if self.remedy else ""
        return f"{_short(self.rule, _RULE)}{got}{remedy}"


def _short(text: str, most: int) -> str:
    """A text without its middle where it is long, as a rule that quotes what somebody pasted."""
    return text if len(text) <= most else f"{text[: most // 2]} ... {text[-most // 3 :]}"


class InputError(Exception):
    """Input that cannot be used. Holds every problem found, never only the first."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(problems)
        self.problems = tuple(problems)

    def __str__(self) -> str:
        """One block a file: its name and the number of problems, then one line a problem."""
        blocks = []
        for file in dict.fromkeys(problem.file for problem in self.problems):
            found = [problem for problem in self.problems if problem.file == file]
            width = min(36, max(len(problem.key) for problem in found))
            count = "1 problem" if len(found) == 1 else f"{len(found)} problems"
            lines = [f"  {problem.key:<{width}}  {problem.sentence()}".rstrip() for problem in found]
            blocks.append("\n".join([f"{file}: {count}", *lines]))
        return "\n".join(blocks)


class NothingFeasible(Exception):  # noqa: N818 - an answer, not an error
    """No design of a study satisfies its constraints. The message says which rule blocks and by how much."""


class RunStopped(Exception):  # noqa: N818 - said to people as it is
    """Something around a run keeps it from going on: no room on a disk, a Ray that does not start."""


class Terminated(KeyboardInterrupt):
    """The process is asked to end by a signal: all is put in order as after Ctrl-C."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def exit_code(stop: KeyboardInterrupt) -> int:
    """The exit code of a command that was stopped."""
    return 128 + (stop.number if isinstance(stop, Terminated) else signal.SIGINT)


def unique(problems: Iterable[Problem]) -> list[Problem]:
    """Each problem once, in order; the values in them need not be hashable."""
    return list({(one.file, one.key, one.sentence()): one for one in problems}.values())


def spelling(name: str) -> str:
    """A name as names are compared: without case, spaces and signs, so that "Megatron-LM" is "megatron_lm"."""
    return "".join(letter for letter in name.lower() if letter.isalnum())


def nearest(word: str, known: Iterable[str]) -> str:
    """A remedy for an unknown name: the nearest known ones, or all of them where few."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=3, cutoff=0.55)
    if close:
        return "did you mean " + " or ".join(repr(name) for name in close) + "?"
    if len(names) <= 12:
        return "known: " + ", ".join(names)
    return f"known: {', '.join(names[:12])} and {len(names) - 12} more"


def problem(file: object, key: str, rule: str, value: object = None, remedy: str = "") -> InputError:
    """Make an error of a single problem."""
    return InputError([Problem(str(file), key, rule, value, remedy)])
