"""Every command that the README shows works as it stands."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.end_to_end.test_transcript import SHOWN

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
# `make test` would start this test again: what it would do is looked at instead.
LOOKED_AT = {"make test": "make --dry-run test"}


def commands() -> list[str]:
    """Lines that begin with a prompt in the console blocks, in order and once each."""
    blocks = re.findall(r"^```console\n(.*?)^```", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    lines = [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]
    return list(dict.fromkeys(lines))


def test_the_readme_shows_the_commands_that_matter() -> None:
    """The two make targets and each command of `sweep` that a new user meets are shown."""
    shown = " ".join(commands())
    assert all(f"sweep {verb}" in shown for verb in ("run", "plan", "list", "show", "explain", "validate"))
    assert commands()[:2] == ["make run", "make test"]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("command", [one for one in commands() if one not in SHOWN])  # those a test of their own runs
def test_a_command_of_the_readme_works(command: str) -> None:
    """The command, typed in the root of a checkout with the environment active, ends with exit code 0."""
    line = LOOKED_AT.get(command, command)
    shell = f". .venv/bin/activate && {line}" if (ROOT / ".venv").exists() else line
    done = subprocess.run(["bash", "-c", shell], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout or "activate" in command


def test_the_readme_shows_the_first_study_as_it_is() -> None:
    """The study that the README prints is the file that it names."""
    study = (ROOT / "studies" / "first_study.toml").read_text(encoding="utf-8")
    assert f"```toml\n{study}```" in README.read_text(encoding="utf-8")
