"""docs/transcript.md: five questions, one command each, with the answers as the command line gives them.

`python -m tests.end_to_end.test_transcript` writes the answers anew, as after a refit of the constants.
"""

from __future__ import annotations

import os
import re
import resource
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "transcript.md"
MOST_S = 10.0  # of one core, so that a busy machine does not count
NOTHING_FEASIBLE = 3
_BLOCK = re.compile(r"(^```console transcript\n)(\$ (?:[^\n]*\\\n)*[^\n]*\n)(.*?)(^```$)", re.M | re.S)


def commands(page: str) -> list[str]:
    """Commands of the page, each in one line."""
    return [_one_line(found.group(2)) for found in _BLOCK.finditer(page)]


def _one_line(command: str) -> str:
    return " ".join(command.removeprefix("$ ").replace("\\\n", " ").split())


@cache
def answered(command: str) -> tuple[str, int, float]:
    """What a command prints, its exit code, and the seconds of processors that it took."""
    program, *arguments = shlex.split(command)
    assert program == "sweep"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", "sweep.cli", *arguments], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    took = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    lines = "\n".join(line.rstrip() for line in done.stdout.splitlines())
    return f"{lines}\n", done.returncode, took


def written_anew(page: str) -> str:
    """The page with every answer as it is now."""

    def block(found: re.Match[str]) -> str:
        return f"{found.group(1)}{found.group(2)}{answered(_one_line(found.group(2)))[0]}{found.group(4)}"

    return _BLOCK.sub(block, page)


TEXT = PAGE.read_text(encoding="utf-8")
SHOWN = {_one_line(found.group(2)): found.group(3) for found in _BLOCK.finditer(TEXT)}


def test_five_questions_are_asked() -> None:
    """A layout, a machine, a comparison, a reason, a launch: a heading with one command each."""
    assert [command.split()[1] for command in SHOWN] == ["try", "size", "compare", "try", "export"]
    assert len(re.findall(r"^## .*\?$", TEXT, re.M)) == len(SHOWN)


@pytest.mark.parametrize("command", SHOWN, ids=lambda command: " ".join(command.split()[1:5]))
def test_the_answer_is_the_one_on_the_page(command: str) -> None:
    """Character by character; `python -m tests.end_to_end.test_transcript` writes the page anew."""
    said, code, took = answered(command)
    why = "Why does nothing" in TEXT[: TEXT.index(SHOWN[command])].rpartition("\n## ")[2]
    assert code == (NOTHING_FEASIBLE if why else 0)
    assert said == SHOWN[command], "run python -m tests.end_to_end.test_transcript"
    assert took < MOST_S


def test_the_readme_asks_the_same_questions() -> None:
    """A new user finds the five commands in README.md."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    asked = {_one_line(line) for line in re.findall(r"^\$ .*$", readme.replace("\\\n", " "), re.M)}
    assert set(SHOWN) <= asked


if __name__ == "__main__":
    PAGE.write_text(written_anew(TEXT), encoding="utf-8")
