"""What goes wrong on real machines, done to a real Ray: nothing is lost, nothing is doubled, and it is said clearly."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from sweep import scheduler
from sweep.cli import main
from sweep.cluster import _environment
from sweep.running import run_study
from sweep.scheduler import run_steps
from sweep.study import parse

STUDY = """
name = "faults"
question = "Is anything lost?"
chips = {chips}
[[workloads]]
model = "llama-3-8b"
sequence = "8192 token"
batch = 128
[[designs]]
system = "hgx-h20"
[search]
rows = "{rows}"
"""
SIZES = [8, 16, 24, 32, 40, 48, 64, 80]
RAISES, DIES = 24, 64  # chips of the cases that are poisoned
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "5eed" * 16}
NODE = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 80 << 20}
FEW, MANY = {"worker": 5, "driver": 1, "raylet": 1}, {"worker": 17, "driver": 2, "raylet": 2}


def study(folder: Path, chips: list[int] = SIZES, rows: str = "top:3") -> Path:
    file = folder / "study.toml"
    file.write_text(STUDY.format(chips=chips, rows=rows))
    return file


def parts(out: Path) -> dict[str, bytes]:
    """The data set of the only run in a folder, byte by byte."""
    return {part.name: part.read_bytes() for part in out.glob("*/designs/case-*.parquet")}


def sweep(*arguments: object, capsys: pytest.CaptureFixture[str] | None = None) -> tuple[int, str, str]:
    """The command line in this process: exit code, and what it wrote."""
    with pytest.raises(SystemExit) as ended:
        main([str(one) for one in arguments])
    assert capsys is not None
    written = capsys.readouterr()
    assert "Traceback" not in written.out + written.err
    return int(ended.value.code or 0), written.out, written.err


@pytest.fixture(autouse=True)
def short_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Sockets of Ray lie in the folder for temporary files, and the length of their paths is limited."""
    folder = Path(tempfile.mkdtemp(prefix="sw", dir="/tmp"))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


# ------------------------------------------------------------------------------------------------ tasks that raise
def poisoned(shared: scheduler.Shared, steps: tuple[scheduler.Step, ...], patience_s: float) -> list[scheduler.Ran]:
    """What a worker runs, with a case that raises and one that takes its process down."""
    whole = scheduler.run_case

    def run_case(question: Any, case: Any, *places: Any) -> scheduler.Report:
        if case.chips == DIES:
            os._exit(1)
        if case.chips == RAISES:
            raise ValueError("a negative number of bytes")
        return whole(question, case, *places)

    scheduler.run_case = run_case  # type: ignore[assignment]
    try:
        return run_steps(shared, steps, patience_s)
    finally:
        scheduler.run_case = whole


@pytest.mark.slow
def test_poisoned_cases_are_told_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One case raises, one kills its worker each time: both are named with inputs, and tried again later."""
    file, out = study(tmp_path), tmp_path / "runs"
    with monkeypatch.context() as patched:
        patched.setattr(scheduler, "run_steps", poisoned)
        code, output, errors = sweep("run", file, "--out", out, "--workers", 2, "--json", capsys=capsys)
    found = json.loads(output)
    assert code == 1
    assert {row["chips"] for row in found["answer"]} == set(SIZES) - {RAISES, DIES}
    told = {row["chips"]: row for row in found["failed"]}
    assert set(told) == {RAISES, DIES}
    assert told[RAISES]["reason"].startswith("ValueError: a negative number of bytes (")
    assert "test_faults.py" in told[RAISES]["reason"]
    assert "WorkerCrashedError" in told[DIES]["reason"]
    for row in told.values():
        written = Path(found["run"], row["file"]).read_text()
        assert f"chips: {row['chips']}" in written and "model: llama-3-8b" in written
    assert "raise ValueError" in Path(found["run"], told[RAISES]["file"]).read_text()
    assert "2 cases failed; the rest is kept, and the same command tries them again" in errors
    kept = {part: part.stat().st_mtime_ns for part in Path(found["run"], "designs").iterdir()}

    code, output, errors = sweep("run", file, "--out", out, "--workers", 0, "--json", capsys=capsys)
    assert (code, json.loads(output)["failed"]) == (0, [])
    assert kept.items() <= {part: part.stat().st_mtime_ns for part in Path(found["run"], "designs").iterdir()}.items()
    assert not Path(found["run"], "failures").exists()
    sweep("run", file, "--out", tmp_path / "undisturbed", "--workers", 0, capsys=capsys)
    assert parts(out) == parts(tmp_path / "undisturbed")


def test_a_failed_case_of_a_cut_run_is_told_without_ray(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A piece that raises is told with its range of layouts; the other pieces are kept for the next try."""
    from sweep import kinds

    monkeypatch.setattr(kinds, "FULL_TASK", 300)
    text = STUDY.format(chips=[64], rows="top:3") + "prune = false\n"
    (tmp_path / "study.toml").write_text(text)
    real = scheduler.run_piece

    def second_raises(question: Any, case: Any, first: int, last: int, part: Path) -> scheduler.Report:
        if seen.append(first) is None and len(seen) == 2:
            raise MemoryError("no room for an array")
        return real(question, case, first, last, part)

    seen: list[int] = []
    with monkeypatch.context() as patched:
        patched.setattr(scheduler, "run_piece", second_raises)
        code, output, _ = sweep(
            "run", tmp_path / "study.toml", "--out", tmp_path / "a", "--workers", 0, "--json", capsys=capsys
        )
    (told,) = json.loads(output)["failed"]
    assert code == 1
    assert told["layouts"][0] == seen[1] < told["layouts"][1]
    assert len(seen) > 3
    again: list[int] = []
    monkeypatch.setattr(scheduler, "run_piece", lambda *task: (again.append(task[2]), real(*task))[1])
    assert sweep("run", tmp_path / "study.toml", "--out", tmp_path / "a", "--workers", 0, capsys=capsys)[0] == 0
    assert again == [seen[1]]
    sweep("run", tmp_path / "study.toml", "--out", tmp_path / "b", "--workers", 0, capsys=capsys)
    assert parts(tmp_path / "a") == parts(tmp_path / "b")


OUTER = """
[outer]
trials = 9
generation = 3
objectives = ["tokens_per_s"]
variables = { chips = [8, 16, 24, 32], batch = [128, 256] }
"""


def test_what_rests_on_a_failed_trial_waits_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trial that fails stops the trials of its design alone; tried again, all are those of an undisturbed run."""
    text = STUDY.format(chips=[8], rows="best").replace("chips = [8]\n", "")
    text = text.replace("[search]", '[[designs]]\nsystem = "dgx-h800"\n[search]') + OUTER
    real = scheduler.run_case

    def fifth_raises(question: Any, case: Any, *places: Any) -> scheduler.Report:
        if case.design.system == "hgx-h20" and case.trial == 4:
            raise FloatingPointError("not a number")
        return real(question, case, *places)

    with monkeypatch.context() as patched:
        patched.setattr(scheduler, "run_case", fifth_raises)
        broken = run_study(parse(text), tmp_path / "a", workers=0)
    (told,) = broken.failed
    assert (told["trial"], told["reason"].partition(" (")[0]) == (4, "FloatingPointError: not a number")
    lines = [json.loads(line) for line in (broken.path / "manifest.jsonl").read_text().splitlines()]
    told_generations = [line["track"].partition(" ")[0] for line in lines if line["done"] == "generation"]
    assert told_generations.count("hgx-h20") == 1
    assert told_generations.count("dgx-h800") == 3
    again = run_study(parse(text), tmp_path / "a", workers=0)
    assert again.failed == ()
    assert again.digest == run_study(parse(text), tmp_path / "b", workers=0).digest


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_full_disk_stops_a_run_that_goes_on_later(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], workers: int
) -> None:
    """One clear message with a remedy, in the driver as in a worker; with room made, the same command finishes."""
    file, still, disk = study(tmp_path, [16, 32, 40, 48], rows="all"), tmp_path / "undisturbed", tmp_path / "disk"
    sweep("run", file, "--out", still, "--workers", 0, "--no-report", capsys=capsys)
    pages = {one: -(-one.stat().st_size // 4096) for one in still.rglob("*") if one.is_file()}
    of_parts = sum(count for one, count in pages.items() if one.suffix == ".parquet")
    room = sum(pages.values()) - of_parts // 2 + len(list(still.rglob("*")))  # KiB times 4: half of the parts fit
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={4 * room}k", "tmpfs", str(disk)]
    mounted = subprocess.run(mount, capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted: {mounted.stderr.decode().strip()}")
    try:
        code, _, errors = sweep("run", file, "--out", disk, "--workers", workers, "--no-report", capsys=capsys)
        assert code == 1
        assert "the disk is full" in errors
        assert "Make room" in errors
        done = done_cases(disk)
        assert 0 < done < 4
        subprocess.run(["mount", "-o", "remount,size=200m", str(disk)], check=True)
        assert sweep("run", file, "--out", disk, "--workers", 0, "--no-report", capsys=capsys)[0] == 0
        assert parts(disk) == parts(still)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


# --------------------------------------------------------------------------------------------------------- signals
def start(folder: Path, *options: object, **environment: str) -> subprocess.Popen[str]:
    """A run in a process and a session of its own, that is interrupted as from a terminal."""
    return subprocess.Popen(
        [sys.executable, "-m", "sweep.cli", "run", str(folder / "study.toml"), "--json", *map(str, options)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": tempfile.gettempdir()} | environment,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def of_session(session: int) -> list[int]:
    """Living processes of a session."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                after = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(after[3]) == session and after[0] != "Z":
                    found.append(int(entry.name))
    return found


def wait_until(condition: Callable[[], object], limit_s: float, what: str) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "moment"), [(signal.SIGINT, "gcs"), (signal.SIGTERM, "raylet")])
def test_a_run_that_is_ended_while_ray_starts_leaves_nothing_behind(
    tmp_path: Path, short_names: Path, number: signal.Signals, moment: str
) -> None:
    """Ctrl-C and SIGTERM, to the whole session as from a terminal or a batch system: a message, and no process."""
    study(tmp_path)
    process = start(tmp_path, "--out", tmp_path / "runs", "--workers", 1)
    folders = f"sweep-*/session_*/logs/{moment}*.out" if moment == "raylet" else "sweep-*/session_*"
    wait_until(lambda: list(short_names.glob(folders)) or process.poll() is not None, 60, "Ray does not start")
    os.killpg(process.pid, number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert errors.strip().startswith("stopped; what is done is kept, and the same command goes on")
    assert len(errors.strip().splitlines()) == 1
    wait_until(lambda: not of_session(process.pid), 15, "processes are left behind")
    assert not list(short_names.glob("sweep-*"))


def test_a_plain_locale_is_no_error() -> None:
    """Where the terminal has ASCII alone, other characters become question marks."""
    environment = os.environ | {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    command = [sys.executable, "-m", "sweep.cli", "list", "chips"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert "? rumour" in done.stdout


# ------------------------------------------------------------------------------------------ a cluster with a token
@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes of one CPU each, on loopback, that only the bearer of a token enters."""
    folder = tempfile.mkdtemp(prefix="sw", dir="/tmp")
    with _environment(TOKEN | {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}):
        from ray.cluster_utils import Cluster

        started = Cluster(initialize_head=True, head_node_args=NODE | {"temp_dir": folder})
        started.worker = started.add_node(**NODE)  # type: ignore[attr-defined]
        started.wait_for_nodes()
        yield started
        started.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
def test_a_cluster_with_a_token_refuses_others(cluster: Any, tmp_path: Path) -> None:
    """The wrong token, or none, is one clear error within seconds."""
    study(tmp_path)
    address = ("--address", cluster.address)
    with pytest.MonkeyPatch.context() as patched:
        for name in TOKEN:
            patched.delenv(name)
        began = time.monotonic()
        wrong = start(tmp_path, "--out", tmp_path / "a", *address, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="bad0" * 16)
        none = start(tmp_path, "--out", tmp_path / "b", *address, HOME=str(tmp_path))
    for process, mode in ((wrong, "token"), (none, "disabled")):
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 2, errors
        assert f"RAY_AUTH_MODE (here: {mode})" in errors
        assert "Traceback" not in errors
    assert time.monotonic() - began < 20


def children(parent: int, name: bytes) -> list[int]:
    """Descendants of a process whose command line begins with a name."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    family = {parent}
    for _ in range(4):
        family |= {pid for pid, above in parents.items() if above in family}
    found = []
    for pid in sorted(family):
        with suppress(OSError):
            if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(name):
                found.append(pid)
    return found


def done_cases(out: Path) -> int:
    return sum(manifest.read_bytes().count(b'"done": "case"') for manifest in out.glob("*/manifest.jsonl"))


class Faults:
    """Kills parts of a run on a cluster, in a seeded order, each time after it has got on."""

    def __init__(self, cluster: Any, folder: Path, wanted: dict[str, int]) -> None:
        self.cluster, self.folder, self.out, self.wanted = cluster, folder, folder / "runs", wanted
        self.dice = random.Random(20)
        self.killed = dict.fromkeys(wanted, 0)
        self.run = self.begin()

    def begin(self) -> subprocess.Popen[str]:
        return start(self.folder, "--out", self.out, "--address", self.cluster.address)

    def get_on(self) -> None:
        """Wait until another case is done, and a moment more."""
        before = done_cases(self.out)
        wait_until(lambda: done_cases(self.out) > before, 60, f"no case ends: {self.killed} {self.run.poll()}")
        time.sleep(self.dice.uniform(0.0, 0.3))
        assert self.run.poll() is None, f"the run ended too soon: {self.killed}"

    def kill(self, victim: str) -> None:
        if victim == "driver":
            self.run.kill()
            self.run.communicate()
            self.run = self.begin()
        elif victim == "raylet":
            self.cluster.remove_node(self.cluster.worker, allow_graceful=False)
            self.cluster.worker = self.cluster.add_node(**NODE)
        else:
            raylets = [node.all_processes["raylet"][0].process.pid for node in self.cluster.list_all_nodes()]
            at_work = [pid for raylet in raylets for pid in children(raylet, b"ray::_attempt")]
            for pid in self.dice.sample(at_work, min(len(at_work), self.wanted[victim] - self.killed[victim])):
                os.kill(pid, signal.SIGKILL)
                self.killed[victim] += 1
            return
        self.killed[victim] += 1

    def end(self) -> dict[str, Any]:
        """What the run printed; a task hit more often than Ray starts it again is tried by the same command."""
        output, errors = self.run.communicate(timeout=120)
        if self.run.returncode == 1:
            self.run = self.begin()
            output, errors = self.run.communicate(timeout=120)
        assert self.run.returncode == 0, errors
        assert "Traceback" not in errors
        found: dict[str, Any] = json.loads(output)
        return found


@pytest.mark.slow
@pytest.mark.timeout(280)
@pytest.mark.parametrize(
    ("wanted", "cases"), [(FEW, 60), pytest.param(MANY, 135, marks=pytest.mark.soak)], ids=["few", "many"]
)
def test_kills_at_random_moments_lose_and_double_nothing(
    cluster: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], wanted: dict[str, int], cases: int
) -> None:
    """Workers, raylets and the driver die by SIGKILL, in a seeded order: the rows stay as they should be."""
    text = STUDY.format(chips=[24, 40, 48], rows="top:3").partition("[[designs]]")
    designs = [
        f'[[designs]]\nlabel = "{n}"\nsystem = "hgx-h20"\nchange = {{ "chip.hbm_bandwidth" = "{3 + n / 100} TB/s" }}\n'
        for n in range(cases // 3)
    ]
    (tmp_path / "study.toml").write_text(text[0] + "".join(designs) + '[search]\nrows = "top:3"\n')
    faults = Faults(cluster, tmp_path, wanted)
    while faults.killed != wanted:
        faults.get_on()
        faults.kill(faults.dice.choice([victim for victim in wanted if faults.killed[victim] < wanted[victim]]))
    found = faults.end()
    still = tmp_path / "still"
    code, output, _ = sweep("run", tmp_path / "study.toml", "--out", still, "--workers", 0, "--json", capsys=capsys)
    assert code == 0
    assert found["digest"] == json.loads(output)["digest"]
    assert parts(faults.out) == parts(still)
    rows = [row for part in faults.out.glob("*/designs/*.parquet") for row in keys(part)]
    assert len(rows) == len(set(rows)) == 3 * cases


def keys(part: Path) -> list[tuple[int, int]]:
    table = pq.read_table(part, columns=["case", "layout_id"]).to_pydict()
    return list(zip(table["case"], table["layout_id"], strict=True))


def test_a_report_that_cannot_be_written_loses_nothing(tmp_path: Path) -> None:
    """Where there is no room for the page, the answer and the rows are there, and it is written later."""
    file, out = study(tmp_path, [16, 32]), tmp_path / "runs"

    def small_files() -> None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (2 << 20, 2 << 20))  # rows are small, the page is not

    command = [sys.executable, "-m", "sweep.cli", "run", str(file), "--out", str(out), "--workers", "0"]
    found = subprocess.run([*command, "--json"], capture_output=True, text=True, preexec_fn=small_files, check=False)
    assert found.returncode == 1
    (said,) = [line for line in found.stderr.splitlines() if "report" in line]
    told = json.loads(found.stdout)
    assert "cannot be written" in said
    assert f"sweep report {told['run']}" in said
    assert told["answer"]
    assert told["report"] is None
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    assert Path(told["run"], "report.html").exists()


def test_no_room_for_what_is_printed_is_not_bad_input() -> None:
    """A full disk ends a command with 1, which says that it may be tried again."""
    command = [sys.executable, "-m", "sweep.cli", "list", "chips"]
    with Path("/dev/full").open("w") as full:
        found = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (found.returncode, found.stderr) == (1, "sweep: No space left on device\n")
