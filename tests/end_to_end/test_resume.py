"""The same rows for any number of workers, and after being killed at any moment."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

STUDY = """
name = "resumed"
question = "Do interruptions change a row?"
chips = [64, 128, 256, 384, 512, 768]
[[workloads]]
model = "deepseek-v3"
sequence = "4096 token"
batch = 3840
[[designs]]
system = "hgx-h20"
[[designs]]
system = "dgx-h800"
[layout]
context_parallel = [1, 2, 4]
micro_batch = [1, 2]
[search]
rows = "top:10"
"""


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder with a short name: sockets of Ray lie in it, and the length of their paths is limited."""
    folder = Path(tempfile.mkdtemp(prefix="sw", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def start(folder: Path, out: str, workers: int, text: str = STUDY) -> subprocess.Popen[str]:
    file = folder / "study.toml"
    file.write_text(text)
    command = [sys.executable, "-m", "sweep.cli", "run", str(file), "--out", str(folder / out)]
    return subprocess.Popen(
        [*command, "--workers", str(workers), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(folder)},
        # shells start jobs in the background with interrupts ignored, and children inherit it
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def finish(process: subprocess.Popen[str]) -> dict[str, str]:
    output, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    found: dict[str, str] = json.loads(output)
    return found


def cases_done(folder: Path) -> int:
    manifests = list(folder.glob("*/manifest.jsonl"))
    return sum(manifest.read_text().count('"done": "case"') for manifest in manifests)


def wait_for(condition: object, process: subprocess.Popen[str], limit_s: float = 120.0) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():  # type: ignore[operator]
        assert process.poll() is None, "the run ended before it could be stopped"
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_killed_resumed_and_other_workers_give_the_same_rows(short_folder: Path) -> None:
    """Two workers; one worker killed outright with a torn manifest, then continued; and no Ray at all: one digest."""
    undisturbed = finish(start(short_folder, "a", workers=2))

    process = start(short_folder, "b", workers=1)
    wait_for(lambda: cases_done(short_folder / "b") >= 2, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (manifest,) = (short_folder / "b").glob("*/manifest.jsonl")
    done = cases_done(short_folder / "b")
    assert '"done": "run"' not in manifest.read_text()
    with manifest.open("a") as file:
        file.write('{"done": "case", "case": 9')  # what a crash in mid-line leaves
    stray = manifest.parent / "designs" / "_case-000009.parquet-1"
    stray.write_bytes(b"half a part")

    resumed = finish(start(short_folder, "b", workers=1))
    assert cases_done(short_folder / "b") == 12 > done
    assert not stray.exists()
    without_ray = finish(start(short_folder, "c", workers=0))
    assert resumed["digest"] == undisturbed["digest"] == without_ray["digest"]
    assert Path(resumed["run"]).name == Path(undisturbed["run"]).name

    def rows(found: dict[str, str]) -> list[bytes]:
        return [part.read_bytes() for part in sorted(Path(found["run"], "designs").iterdir())]

    assert rows(resumed) == rows(undisturbed) == rows(without_ray)


@pytest.mark.slow
def test_ctrl_c_leaves_a_run_that_goes_on(short_folder: Path) -> None:
    """An interrupt ends with code 130 and no traceback; the same command finishes, doing only the rest."""
    process = start(short_folder, "a", workers=0)
    wait_for(lambda: cases_done(short_folder / "a") >= 1, process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert "the same command goes on" in errors
    assert finish(start(short_folder, "a", workers=0))["answer"]


def test_large_cases_are_cut_and_joined(short_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A case searched as many tasks leaves the rows of a case searched as one, and no candidate parts."""
    from sweep import kinds
    from sweep.running import run_study
    from sweep.study import parse

    text = STUDY.replace("[64, 128, 256, 384, 512, 768]", "[64]").replace('rows = "top:10"', 'rows = "{rows}"')
    text = text.replace("{rows}", "pareto") + 'pareto = ["tokens_per_s", "power_w", "hbm_used_bytes"]\nprune = false\n'
    whole = run_study(parse(text), short_folder / "whole", workers=0)
    monkeypatch.setattr(kinds, "FULL_TASK", 9000)
    pieces = run_study(parse(text), short_folder / "pieces", workers=0)
    assert pieces.digest == whole.digest
    assert pieces.answer.rows == whole.answer.rows
    assert not list((pieces.path / "_candidates").iterdir())
    lines = (pieces.path / "manifest.jsonl").read_text().splitlines()
    assert sum('"done": "step"' in line for line in lines) > 5


def test_a_run_cut_into_tasks_goes_on_between_them(short_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped between the tasks of one case, a run continues with the tasks that are missing."""
    from sweep import kinds, scheduler
    from sweep.running import run_study
    from sweep.study import parse

    text = STUDY.replace("[64, 128, 256, 384, 512, 768]", "[64]") + "prune = false\n"
    whole = run_study(parse(text), short_folder / "whole", workers=0)
    monkeypatch.setattr(kinds, "FULL_TASK", 9000)
    real = scheduler.run_piece
    calls: list[tuple[int, int]] = []

    def counted(*arguments: object) -> dict[str, object]:
        calls.append((arguments[1].index, arguments[2]))  # type: ignore[attr-defined, arg-type]
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(scheduler, "run_piece", counted)
    with pytest.raises(KeyboardInterrupt):
        run_study(parse(text), short_folder / "pieces", workers=0)
    before = list(calls)
    resumed = run_study(parse(text), short_folder / "pieces", workers=0)
    assert resumed.digest == whole.digest
    assert set(calls[len(before) :]).isdisjoint(before[:3])


SAMPLED = """
name = "sampled"
question = "Do interruptions change a proposal?"
chips = [128]
[[workloads]]
model = "llama-3-8b"
sequence = "8192 token"
batch = 128
[[designs]]
system = "dgx-h100"
[search]
method = "optuna"
sampler = "{sampler}"
trials = 120
generation = 6
rows = "top:10"
baselines = ["tp=8,mbs=1"]
"""


def trials_of(run: Path) -> list[str]:
    """Lines of the one case of a study."""
    log = run / "trials" / "case-000000.jsonl"
    return log.read_text().splitlines(keepends=True) if log.exists() else []


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["tpe", "cma_es"])
def test_a_sampled_case_killed_in_the_middle_goes_on(short_folder: Path, sampler: str) -> None:
    """Killed between generations of one case, its log torn: the same trials and rows, most of them not tried again."""
    text = SAMPLED.format(sampler=sampler)
    undisturbed = finish(start(short_folder, "a", workers=0, text=text))
    process = start(short_folder, "b", workers=0, text=text)
    run = short_folder / "b" / Path(undisturbed["run"]).name
    wait_for(lambda: len(trials_of(run)) >= 30, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = trials_of(run)
    assert 30 <= len(before) < 120
    assert '"done": "case"' not in (run / "manifest.jsonl").read_text()
    log = run / "trials" / "case-000000.jsonl"
    log.write_text("".join(before)[:-40])  # what a crash in mid-line leaves
    stamp = log.stat().st_ino

    process = start(short_folder, "b", workers=0, text=text)
    wait_for(lambda: len(trials_of(run)) > len(before), process)
    assert log.stat().st_ino == stamp  # added to
    assert trials_of(run)[: len(before) - 1] == before[:-1]
    resumed = finish(process)
    assert resumed["digest"] == undisturbed["digest"]
    assert resumed["answer"] == undisturbed["answer"]
    assert trials_of(run) == trials_of(Path(undisturbed["run"]))


OUTER = """
[outer]
trials = 12
generation = 4
sampler = "{sampler}"
objectives = ["tokens_per_s", "power_w"]
[outer.variables]
chips = [8, 16, 32, 64]
batch = [128, 256, 384]
"chip.hbm_bandwidth" = {{ low = "2 TB/s", high = "6 TB/s" }}
"""


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "random"])
def test_proposals_do_not_depend_on_interruptions(
    short_folder: Path, monkeypatch: pytest.MonkeyPatch, sampler: str
) -> None:
    """Stopped in the middle of a generation and continued, Optuna proposes what it would have proposed."""
    from sweep import scheduler
    from sweep.running import run_study
    from sweep.study import parse

    text = STUDY.replace("chips = [64, 128, 256, 384, 512, 768]\n", "").replace("deepseek-v3", "llama-3-8b")
    study = parse(text.replace("batch = 3840", "batch = 128") + OUTER.format(sampler=sampler))
    whole = run_study(study, short_folder / "whole", workers=0)
    real = scheduler.run_case
    calls = []

    def stopped(*arguments: object) -> dict[str, object]:
        calls.append(arguments)
        if len(calls) == 14:  # two designs of four trials: in the second generation
            raise KeyboardInterrupt
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(scheduler, "run_case", stopped)
    with pytest.raises(KeyboardInterrupt):
        run_study(study, short_folder / "stopped", workers=0)
    resumed = run_study(study, short_folder / "stopped", workers=0)
    assert len(calls) == 24 + 1
    assert resumed.digest == whole.digest
    assert resumed.answer == whole.answer


@pytest.mark.parametrize("damage", ["removed", "cut short"])
def test_a_lost_part_is_computed_again(short_folder: Path, damage: str) -> None:
    """A run that was finished and lost a part, or half of one, is whole again after the same command."""
    from sweep.running import run_study
    from sweep.study import parse

    whole = run_study(parse(STUDY), short_folder / damage, workers=0)
    part = sorted((whole.path / "designs").iterdir())[0]
    rows = part.read_bytes()
    if damage == "removed":
        part.unlink()
    else:
        part.write_bytes(rows[: len(rows) // 2])
    again = run_study(parse(STUDY), short_folder / damage, workers=0)
    assert again.fresh and again.digest == whole.digest
    assert part.read_bytes() == rows
