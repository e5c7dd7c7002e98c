"""The journal of a run: added to, never written anew, and repaired where a crash left it damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweep.errors import InputError
from sweep.mirror import Mirror, close_storage, open_storage, own_journal
from sweep.trials import Choice, Trial, quiet

VARIABLES = {"tp": Choice((1, 2, 4, 8))}


def records(count: int) -> list[Trial]:
    return [
        {"generation": number // 4, "trial": number, "source": "sampler", "params": {"tp": 2 ** (number % 4)},
         "values": [float(number)], "constraints": {"hbm_bytes": -1.0}}
        for number in range(count)
    ]  # fmt: skip


def mirrored(path: Path, count: int) -> int:
    """Offer the first trials of a study to the journal of a run, and return how many were added."""
    with quiet():
        mirror = Mirror(own_journal(path), "run")
        with mirror:
            mirror.add("case", VARIABLES, ("tokens_per_s",), records(count))
    assert not mirror.lost
    return mirror.added


def values(path: Path) -> list[float]:
    import optuna

    with quiet():
        storage = open_storage(str(path))
        found = [trial.value for trial in optuna.load_study(study_name="run case", storage=storage).trials]
        close_storage(storage)
    return found


def test_trials_are_added_once(tmp_path: Path) -> None:
    """What the journal has stays as it is, byte for byte; only trials that it lacks are added."""
    journal = tmp_path / "optuna.journal"
    assert mirrored(journal, 8) == 8
    before = journal.read_bytes()
    assert mirrored(journal, 8) == 0
    assert journal.read_bytes() == before
    assert mirrored(journal, 12) == 4
    assert journal.read_bytes().startswith(before)
    assert values(journal) == [float(number) for number in range(12)]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.999])
def test_a_journal_cut_anywhere_is_completed(tmp_path: Path, share: float) -> None:
    """Wherever a crash cut it, with its lock left behind, the same trials are in it in the end."""
    journal = tmp_path / "optuna.journal"
    mirrored(journal, 12)
    whole = journal.read_bytes()
    journal.write_bytes(whole[: int(share * len(whole))])
    (tmp_path / "optuna.journal.lock").symlink_to(journal)
    mirrored(journal, 12)
    assert values(journal) == [float(number) for number in range(12)]


@pytest.mark.parametrize("damage", [b"garbled\n", b'{"op_code": 99}\n', b"[1, 2]\n", b"\xff\xfe\n"])
def test_a_damaged_journal_of_a_run_is_begun_anew(tmp_path: Path, damage: bytes) -> None:
    """A line in the middle that means nothing costs the copy, not the run: its own files hold every trial."""
    journal = tmp_path / "optuna.journal"
    mirrored(journal, 8)
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:4], damage, *lines[5:]]))
    mirrored(journal, 12)
    assert values(journal) == [float(number) for number in range(12)]


def test_a_damaged_journal_of_the_user_is_left_alone(tmp_path: Path) -> None:
    """One given by --storage may hold other studies: it is refused with its line, and nothing in it changes."""
    journal = tmp_path / "mine.journal"
    mirrored(journal, 8)
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:4], b"garbled\n", *lines[5:]]))
    before = journal.read_bytes()
    with pytest.raises(InputError, match="line 5 of the journal is damaged"), quiet():
        open_storage(str(journal))
    assert journal.read_bytes() == before
