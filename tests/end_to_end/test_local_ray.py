"""The Ray that a run starts on this machine: on loopback alone, nothing in its store but what all tasks read."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from sweep.cases import Question, cases
from sweep.cluster import _folder, pool
from sweep.progress import Progress
from sweep.scheduler import Scheduler
from sweep.store import RunFolder
from sweep.study import parse
from tests.end_to_end.hosts import text

LISTENING = "0A"
# 127.0.0.1, the same seen as IPv6, and ::1
LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}


@pytest.fixture
def short_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Sockets of Ray lie in the folder for temporary files, and the length of their paths is limited."""
    folder = tempfile.mkdtemp(prefix="sw", dir="/tmp")
    monkeypatch.setattr(tempfile, "tempdir", folder)
    yield
    shutil.rmtree(folder, ignore_errors=True)


def family(root: int) -> set[int]:
    """A process and its descendants."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    found, more = set[int](), {root}
    while more:
        found |= more
        more = {pid for pid, parent in parents.items() if parent in found} - found
    return found


def listening(pids: set[int]) -> set[str]:
    """Addresses at which processes wait for connections, as the kernel writes them."""
    own = set()
    for pid in pids:
        with suppress(OSError):
            for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                with suppress(OSError):
                    own.add(str(descriptor.readlink()))
    found = set()
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        for line in table.read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTENING and f"socket:[{fields[9]}]" in own:
                found.add(fields[1].partition(":")[0])
    return found


def stored() -> Any:
    """What Ray says of its object store."""
    import ray
    from ray._private.internal_api import get_memory_info_reply, get_state_from_address

    return get_memory_info_reply(get_state_from_address(ray.get_runtime_context().gcs_address)).store_stats


def test_what_a_killed_run_left_is_deleted_by_the_next(short_names: None) -> None:
    """A folder that no process holds goes; one of a living run, and one of something else, stay."""
    place = Path(tempfile.gettempdir())
    for name in ("sweep-left", "sweep-other"):
        (place / name).mkdir()
    (place / "sweep-left" / ".lock").touch()
    with _folder() as living, _folder() as second:
        assert {one.name for one in place.iterdir()} == {"sweep-other", Path(living).name, Path(second).name}
    assert [one.name for one in place.iterdir()] == ["sweep-other"]


@pytest.mark.slow
def test_a_run_listens_on_loopback_and_stores_next_to_nothing(tmp_path: Path, short_names: None) -> None:
    """No port is open to other machines; all tasks together put one small object, and nothing is ever spilled."""
    study = parse(text(40))
    listed, _ = cases(study)
    question = Question(study.axes, study.search, (), 0, (("study_file", study.text),))
    folder = RunFolder(tmp_path / "run")
    folder.open("", {}, {})
    try:
        with pool(1) as opened:
            progress = Progress("local", study.search.objective, len(listed))
            assert len(Scheduler(folder, question, opened, progress).work_off(listed)) == len(listed)
            addresses, store = listening(family(os.getpid())), stored()
    finally:
        folder.close()
    assert addresses
    assert addresses <= LOOPBACK
    assert store.spilled_bytes_total == 0
    assert store.cumulative_created_objects <= 3
    assert store.cumulative_created_bytes < 1 << 20
    assert store.object_store_bytes_avail <= 80 << 20
