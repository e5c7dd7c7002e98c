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


def commands(page: str) -> list[str]:
    """Lines of a page that begin with a prompt in its console blocks, in order and once each."""
    blocks = re.findall(r"^```console\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    lines = [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]
    return list(dict.fromkeys(lines))


def sections() -> dict[str, list[str]]:
    """Heading of a section to its commands, but for those that a test of their own runs."""
    texts = re.split(r"^## ", README.read_text(encoding="utf-8"), flags=re.MULTILINE)
    found = {text.partition("\n")[0]: [one for one in commands(text) if one not in SHOWN] for text in texts}
    return {heading: asked for heading, asked in found.items() if asked}


def test_the_readme_shows_the_commands_that_matter() -> None:
    """The two make targets and each command of `sweep` that a new user meets are shown."""
    asked = commands(README.read_text(encoding="utf-8"))
    shown = " ".join(asked)
    assert all(f"sweep {verb}" in shown for verb in ("run", "plan", "list", "show", "explain", "validate"))
    assert asked[:2] == ["make run", "make test"]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with all of the checkout but its results: other tests that run the same studies are not in the way."""
    for entry in ROOT.iterdir():
        if entry.name != "runs":
            (tmp_path / entry.name).symlink_to(entry)
    return tmp_path


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("heading", sections())
def test_the_commands_of_a_section_work(heading: str, checkout: Path) -> None:
    """Typed one after the other in the root of a checkout with the environment active, each ends with exit code 0.

    In the order of the section and in one folder: a query reads what the run above it wrote.
    """
    for command in sections()[heading]:
        line = LOOKED_AT.get(command, command)
        shell = f". .venv/bin/activate && {line}" if (ROOT / ".venv").exists() else line
        done = subprocess.run(["bash", "-c", shell], cwd=checkout, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}\n{done.stderr[-2000:]}"
        assert done.stdout or "activate" in command


def test_the_readme_shows_the_first_study_as_it_is() -> None:
    """The study that the README prints is the file that it names."""
    study = (ROOT / "studies" / "first_study.toml").read_text(encoding="utf-8")
    assert f"```toml\n{study}```" in README.read_text(encoding="utf-8")
