"""The locked requirements are complete, pinned and hashed, and an audit that did not run is not passed off as one."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
HASH = "--hash=sha256:" + "0" * 64


@pytest.fixture(scope="module")
def auditing() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", ROOT / "requirements" / "audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("lock", "wrong"),
    [
        (f"numpy==2.4.6 \\\n    {HASH}\n", []),
        (f"# a remark\nNumPy==2.4.6 ; python_version < '4' \\\n    {HASH}\n", []),
        ("numpy==2.4.6\n", ["no SHA-256"]),
        (f"numpy>=2 \\\n    {HASH}\n", ["not pinned", "numpy of pyproject.toml is not locked"]),
        (f"numpy @ https://example.org/numpy.whl {HASH}\n", ["not pinned", "is not locked"]),
        ("numpy==2.4.6 --hash=md5:00\n", ["no SHA-256"]),
        ("", ["numpy of pyproject.toml is not locked"]),
    ],
)
def test_a_gap_in_a_lock_is_found(auditing: ModuleType, tmp_path: Path, lock: str, wrong: list[str]) -> None:
    """Every requirement by == and SHA-256, every direct one there."""
    file = tmp_path / "py311.txt"
    file.write_text(lock)
    found = auditing.gaps([file], ["numpy"])
    assert len(found) == len(wrong)
    assert all(words in said for words, said in zip(wrong, found, strict=True))


def test_no_lock_is_a_gap(auditing: ModuleType) -> None:
    """An empty folder does not pass."""
    assert auditing.gaps([], ["numpy"])


def auditor(folder: Path, answer: str, code: int) -> str:
    """A program that answers as pip-audit would, from a service that this test need not reach."""
    tool = folder / "python"
    tool.write_text(f"#!{sys.executable}\nprint({answer!r})\nraise SystemExit({code})\n")
    tool.chmod(0o755)
    return str(tool)


HOLE = {"name": "numpy", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": ["2"]}]}
CLEAN = {"name": "ray", "version": "3", "vulns": []}
UNKNOWN = {"name": "ray", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("answer", "holes", "said"),
    [
        ({"dependencies": [HOLE, CLEAN]}, 1, "1 vulnerabilities in 2 locked releases"),
        ({"dependencies": [CLEAN]}, 0, "0 vulnerabilities in 1 locked releases"),
        ({"dependencies": [CLEAN, UNKNOWN]}, 0, "1 unknown: not found"),
        ({"dependencies": [UNKNOWN]}, 0, "DID NOT RUN"),
        ({"error": "no network"}, 0, "DID NOT RUN"),
    ],
)
def test_what_an_audit_says(
    auditing: ModuleType, tmp_path: Path, answer: dict[str, object], holes: int, said: str
) -> None:
    """A vulnerability is told; a service that knows nothing, or does not answer, is no clean bill."""
    lock = tmp_path / "py311.txt"
    lock.write_text("")
    found, line = auditing.audit(auditor(tmp_path, json.dumps(answer), 1 if holes else 0), [lock])
    assert len(found) == holes
    assert said in line
