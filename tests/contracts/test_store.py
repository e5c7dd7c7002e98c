"""What is stored is whole or not there, damage is always seen, and nothing leads out of the run folder."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sweep
from sweep import store
from sweep.cases import Case, Question, cases, records
from sweep.cli import main
from sweep.columns import CODED, TRAINING, plain
from sweep.errors import InputError
from sweep.running import run_study
from sweep.search import search_range
from sweep.store import DamagedPartError, Place, RunFolder, place
from sweep.store.claims import LAPSES_AFTER_S, Lease
from sweep.store.data_set import matching
from sweep.store.manifest import ManifestFile, ManifestSegments, is_sound, manifest_lines, sound_lines
from sweep.store.parts import part_number, read_table
from sweep.study import parse

STUDY = """
name = "kept"
question = "Is every row there?"
chips = [8, 16]
[[workloads]]
model = "llama-3-8b"
sequence = "8192 token"
batch = 128
[[designs]]
system = "hgx-h20"
[layout]
context_parallel = 1
[search]
rows = "all"
[constraints]
power_w = "<= 20 kW"
"""
Rows = dict[str, Any]


@pytest.fixture(scope="module")
def asked() -> tuple[Question, Case]:
    """A question and its larger case."""
    study = parse(STUDY)
    listed, _ = cases(study)
    return Question(study.axes, study.search, study.constraints, 0, (("study", "kept"),)), listed[1]


@pytest.fixture(scope="module")
def rows(asked: tuple[Question, Case]) -> Rows:
    """Every row of the case, as a search has them."""
    question, case = asked
    known = records(question, case)
    found, _ = search_range(question, known, 0, known.space.count)
    assert found is not None
    assert len(found["layout_id"]) > 1000
    return found


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with all rows."""
    return Path(run_study(parse(STUDY), tmp_path_factory.mktemp("finished"), workers=0).path)


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, to be damaged."""
    return Path(shutil.copytree(finished, tmp_path / "runs" / finished.name))


# ----------------------------------------------------------------------------------------------------------- places
def test_a_place_shows_and_repeats_no_secret() -> None:
    """Keys and passwords of a URL open the file system, and are in nothing that is shown; where it answers is."""
    secret = place("s3://AKIAKEY12345:pass@word@bucket/runs/a?endpoint_override=127.0.0.1:9&scheme=http&token=t0ken")
    assert str(secret) == repr(secret) == "s3://bucket/runs/a?endpoint_override=127.0.0.1:9&scheme=http"
    assert str(secret / "designs") == "s3://bucket/runs/a/designs?endpoint_override=127.0.0.1:9&scheme=http"
    assert str(place("abfs://container:key@account.dfs.core.windows.net/x")) == (
        "abfs://container@account.dfs.core.windows.net/x"
    )
    with pytest.raises(InputError) as refused:
        secret.exists()
    for word in ("AKIAKEY12345", "pass", "t0ken"):
        assert word not in str(refused.value)


def test_a_place_travels_as_text() -> None:
    """A place is pickled as its URL and path, is equal afterwards, and opens its file system anew."""
    first = place("memory://travels/a") / "b"
    first.parent.mkdir()
    first.write_text("here")
    again = pickle.loads(pickle.dumps(first))
    assert again == first
    assert again.read_text() == "here"
    assert (again.name, again.parent.name, again.parent.parent.path) == ("b", "a", "")


def test_local_places_are_paths(tmp_path: Path) -> None:
    """Paths, file URLs and places name the same file; a URL is no file of this machine."""
    here = place(tmp_path / "a")
    assert here == place(f"file://{tmp_path}/a") == place(str(tmp_path / "a")) == place(here)
    here.write_text("x")
    assert Path(here).read_text() == "x"
    assert [one.name for one in place(tmp_path).iterdir()] == ["a"]
    with pytest.raises(TypeError):
        os.fspath(place("memory://a/b"))


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("nothing://a/b", "Protocol not known"),
        ("s3://bucket/a?no=such", "Unexpected query parameter"),
        ("ftp://127.0.0.1:1/a", "refused"),
        pytest.param(
            "az://container/a", "adlfs", marks=pytest.mark.skipif(find_spec("adlfs") is not None, reason="installed")
        ),
    ],
)
def test_a_place_that_cannot_be_opened_is_told_before_anything_is_computed(
    url: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong or unreachable URL, or one whose package is missing, is one error with a remedy and exit code 2."""
    study = tmp_path / "study.toml"
    study.write_text(STUDY)
    with pytest.raises(SystemExit) as ended:
        main(["run", str(study), "--workers", "0", "--out", url])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert told in said
    assert url.partition("?")[0].partition("/a")[0] in said


def test_a_url_that_needs_fsspec_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without fsspec, which is optional, the remedy names it."""
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(InputError, match="pip install fsspec"):
        place("memory://a/b").exists()


@pytest.mark.parametrize("root", ["", "memory://patterns"])
def test_patterns_name_folders_of_any_file_system(root: str, tmp_path: Path) -> None:
    """A pattern names what it names in a shell."""
    base = place(root or tmp_path)
    for name in ("runs/b-1", "runs/a-1", "runs/a-2", "runs/.hidden", "other/a-1"):
        (base / name).mkdir()
        (base / name / "x").write_text("")
    assert [one.name for one in matching(base / "runs" / "a-*")] == ["a-1", "a-2"]
    assert [one.name for one in matching(base / "runs" / "*")] == ["a-1", "a-2", "b-1"]
    assert [one.parent.name for one in matching(base / "*" / "a-1")] == ["other", "runs"]
    assert not list(matching(base / "nothing" / "*"))


# ------------------------------------------------------------------------------------------------------------ parts
def test_a_part_holds_the_rows_bit_for_bit(asked: tuple[Question, Case], rows: Rows, tmp_path: Path) -> None:
    """What a search goes on with is what it wrote; readers see the texts of codes and the columns of the case."""
    question, case = asked
    part = tmp_path / store.part_name(case)
    assert store.write_part(part, question, case, rows) == len(rows["layout_id"])
    again = store.read_part(part)
    assert again is not None
    assert set(again) == set(rows)
    for name, values in rows.items():
        assert np.array_equal(again[name], np.asarray(values)), name
    shown = pq.read_table(part).to_pandas()
    for name in CODED.keys() & rows.keys():
        assert shown[name].tolist() == [plain(name, code) for code in rows[name]]
    assert set(shown["chips"]) == {case.chips}
    assert set(shown["design"]) == {case.design.label}
    unset = [name for name in TRAINING.limits if name not in rows]
    assert shown[unset].isna().all(axis=None)


def slow_digest(run: Path) -> str:
    """The digest as docs/results.md words it, one value at a time."""
    tables = [pq.read_table(part) for part in sorted((run / "designs").glob("case-*.parquet"))]
    size = sum(table.num_rows for table in tables)
    whole = hashlib.sha256(str(size).encode())
    for name in sorted(tables[0].column_names):
        hasher = hashlib.sha256()
        for table in tables:
            column = table.sort_by([("case", "ascending"), ("layout_id", "ascending")])[name]
            if "dictionary" in str(column.type):
                hasher.update("".join(f"{text}\0" for text in column.to_pylist()).encode())
            else:
                hasher.update(column.to_numpy().tobytes())
        whole.update(f"{name}={hasher.hexdigest()};".encode())
    return whole.hexdigest()


def put(folder: Path, asked: tuple[Question, Case], rows: Rows, edges: list[int], order: Any = slice(None)) -> Path:
    """The rows as parts of a run, cut at `edges`."""
    (folder / "designs").mkdir(parents=True)
    for first, last in zip([0, *edges], [*edges, len(rows["layout_id"])], strict=True):
        cut = {name: np.asarray(values)[first:last][order] for name, values in rows.items()}
        name = store.part_name(asked[1], first if edges else None)
        store.write_part(folder / "designs" / name, *asked, cut)
    return folder


def test_the_digest_is_of_the_rows_alone(asked: tuple[Question, Case], rows: Rows, tmp_path: Path) -> None:
    """Equal for any cut into files and any order within them, as the documentation words it; one bit changes it."""
    whole = put(tmp_path / "whole", asked, rows, [])
    expected = store.digest(whole)
    assert expected == slow_digest(whole)
    assert store.digest(put(tmp_path / "cut", asked, rows, [1, 300, 301, 900])) == expected
    turned = put(tmp_path / "turned", asked, rows, [500], order=slice(None, None, -1))
    assert store.digest(turned) == expected
    for name in ("step_time_s", "recompute", "layout_id", "feasible"):
        other = {column: np.array(values) for column, values in rows.items()}
        values = other[name]
        if name == "step_time_s":
            values[7] = np.nextafter(values[7], np.inf)
        elif name == "feasible":
            values[7] = not values[7]
        else:
            values[-1] += 1
        assert store.digest(put(tmp_path / name, asked, other, [])) != expected


@settings(max_examples=80, deadline=None)
@given(place_of_damage=st.floats(0, 1, exclude_max=True), kind=st.sampled_from(["cut", "bit", "zeros"]))
def test_damage_anywhere_in_a_part_is_seen(finished: Path, place_of_damage: float, kind: str) -> None:
    """Cut short, a flipped bit or lost blocks, anywhere: a part is told to be damaged, or its rows are as they were."""
    source = min((finished / "designs").iterdir(), key=lambda part: part.stat().st_size)
    content = bytearray(source.read_bytes())
    at = int(place_of_damage * len(content))
    if kind == "cut":
        del content[at:]
    elif kind == "bit":
        content[at] ^= 1 << (at % 8)
    else:
        content[at : at + 4096] = bytes(len(content[at : at + 4096]))
    damaged = place("memory://damage") / source.name
    damaged.write_bytes(bytes(content))
    try:
        found = read_table(damaged)
    except DamagedPartError as told:
        assert str(damaged) in str(told)
        assert pickle.loads(pickle.dumps(told)).found == told.found
    else:
        assert kind != "cut"
        expected = pq.read_table(source)
        assert found.column_names == expected.column_names
        assert found.cast(expected.schema).equals(expected)  # all but notes in the file's margins


@pytest.mark.parametrize("damage", ["empty", "cut", "garbage", "page"])
def test_damage_is_told_and_computed_again(run: Path, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`sweep digest`, `explain` and `load` name the damaged part; `sweep run` makes it anew, with the same rows."""
    expected = store.digest(run)
    part = sorted((run / "designs").iterdir())[0]
    content = bytearray(part.read_bytes())
    if damage == "page":
        content[200] ^= 4  # inside the first page: what stands at the end of the file is whole
        part.write_bytes(content)
    else:
        part.write_bytes({"empty": b"", "cut": content[:-9], "garbage": b"\xff\x00PAR1" * 99}[damage])
    for command in (["digest", str(run)], ["explain", f"{run}#0"]):
        with pytest.raises(SystemExit) as ended:
            main(command)
        said = capsys.readouterr().err
        assert ended.value.code == 2
        assert part.name in said
        assert "run the study again" in said
    with pytest.raises(InputError, match="damaged"):
        sweep.load(run)
    again = run_study(parse(STUDY), run.parent, workers=0)
    assert again.fresh
    assert again.digest == expected


def test_a_damaged_candidate_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows of an unfinished case may be damaged too, in the middle of a run: they are computed again."""
    from sweep import kinds, scheduler

    text = STUDY.replace('rows = "all"', 'rows = "top:5"\nprune = false').replace("[8, 16]", "[16]")
    whole = run_study(parse(text), tmp_path / "whole", workers=0)
    monkeypatch.setattr(kinds, "FULL_TASK", 400)
    real, ended = scheduler.run_end, []

    def damaging(question: Question, case: Case, pieces: list[Place], part: Place) -> dict[str, Any]:
        if not ended:
            content = bytearray(pieces[1].read_bytes())
            content[200] ^= 4
            pieces[1].write_bytes(bytes(content))
        ended.append(pieces)
        return real(question, case, pieces, part)

    monkeypatch.setattr(scheduler, "run_end", damaging)
    assert run_study(parse(text), tmp_path / "pieces", workers=0).digest == whole.digest
    assert len(ended) == 2


# --------------------------------------------------------------------------------------------------------- manifest
GOOD = {"done": "step", "step": [0, 0, 5], "case": 0, "rows": 3, "part": "case-000000-0000000000.parquet"}
HOSTILE: list[Any] = [
    GOOD | {"part": "../../x"},
    GOOD | {"part": "/etc/passwd"},
    GOOD | {"part": "case-000000.parquet/../../x"},
    GOOD | {"part": "case-000000.parquet\n"},
    GOOD | {"part": ["case-000000.parquet"]},
    GOOD | {"step": [0, 0]},
    GOOD | {"step": [0, 0.5, 1e300]},
    GOOD | {"step": {"a": 1}},
    GOOD | {"rows": -1},
    GOOD | {"rows": 1e400},
    GOOD | {"rows": True},
    GOOD | {"case": "0"},
    GOOD | {"case": -3},
    GOOD | {"case": 1 << 80},
    {key: value for key, value in GOOD.items() if key != "part"},
    {"done": "step", "case": 0, "step": [0, -1, -1], "cut": [[0, 1], [1]]},
    {"done": "step", "case": 0, "step": [0, -1, -1], "cut": [["../x", 1]]},
    {"done": "case"},
    {"done": "case", "case": 0, "rows": 1, "best": "yes"},
    {"done": "case", "case": 0, "rows": 1, "best": {"tokens_per_s": "fast"}},
    {"done": "case", "case": 0, "rows": 0, "best": None, "nearest": {"hbm_bytes": []}},
    {"done": "generation", "track": "x"},
    {"done": 7},
    {},
    [],
    None,
    "done",
    5,
]


@pytest.mark.parametrize("line", HOSTILE, ids=repr)
def test_a_line_that_is_none_counts_as_work_not_done(line: Any) -> None:
    """Wrong types, absurd numbers and names that lead elsewhere make a line unsound; the one they vary is sound."""
    assert is_sound(GOOD)
    assert not is_sound(line)


@given(st.binary(max_size=200))
def test_garbage_between_lines_hides_no_line(garbage: bytes) -> None:
    """Whatever stands between two lines, both are read."""
    line = (json.dumps(GOOD) + "\n").encode()
    found = [one for one in sound_lines(line + garbage + b"\n" + line + b'{"done": "ca') if one == GOOD]
    assert len(found) == 2


def test_absurd_json_is_passed_over() -> None:
    """A number of many digits and a deep nest are no lines, and no traceback."""
    deep, long = b"[" * 200_000, b'{"done": "case", "rows": ' + b"9" * 9000 + b"}"
    assert list(sound_lines(deep + b"\n" + long + b"\n\xff\xfe\n" + json.dumps(GOOD).encode() + b"\n")) == [GOOD]


def test_a_hostile_manifest_leads_nowhere(run: Path) -> None:
    """A run whose manifest names files elsewhere reads, writes and removes nothing there, and ends as it should."""
    expected = store.digest(run)
    outside = run.parent / "x"
    outside.write_bytes(b"not ours")
    before = {file: file.stat().st_mtime_ns for file in run.parent.iterdir() if file != run}
    text = "".join(json.dumps(line) + "\n" for line in HOSTILE if line != [])
    (run / "manifest.jsonl").write_text('{"done": "run"\n' + text + "\x00\xff\n", encoding="utf-8")
    again = run_study(parse(STUDY), run.parent, workers=0)
    assert again.fresh
    assert again.digest == expected
    assert {file: file.stat().st_mtime_ns for file in run.parent.iterdir() if file != run} == before
    assert outside.read_bytes() == b"not ours"


@pytest.mark.parametrize("name", ["../x", "case-1.parquet", "case-000001.parquet.tmp", "_case-000001.parquet", "", "."])
def test_only_parts_have_the_names_of_parts(name: str) -> None:
    """A number is read from the names that parts have, and from no other."""
    assert part_number(name) is None
    assert part_number("case-000012.parquet") == (12, -1)
    assert part_number("case-000012-0000000340.parquet") == (12, 340)


def test_a_torn_line_is_cut_off(tmp_path: Path) -> None:
    """A line that a crash left half is gone when the manifest grows again, however long it is."""
    run = place(tmp_path)
    torn = json.dumps(GOOD) + "\n" + "x" * 200_000
    (tmp_path / "manifest.jsonl").write_text(torn)
    manifest = ManifestFile(run)
    manifest.add([{"done": "run"}])
    manifest.close()
    assert list(manifest_lines(run)) == [GOOD, {"done": "run"}]
    assert (tmp_path / "manifest.jsonl").read_text() == json.dumps(GOOD) + '\n{"done": "run"}\n'


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_segments_hold_the_lines_in_few_files() -> None:
    """Ten hours of a line a second are read back in their order from some 3,000 segments, none held back long."""
    run, clock = place("memory://segments/run"), Clock()
    manifest = ManifestSegments(run, clock)
    waits = []
    for second in range(36_000):
        clock.now = float(second)
        manifest.add([{"done": "note", "second": second}])
        manifest.beat()
        waits.append(len(manifest._waiting))
    manifest.close()
    assert [line["second"] for line in manifest_lines(run)] == list(range(36_000))
    assert len((run / "manifest").infos()) < 3500
    assert max(waits) <= 36_000 / 500 + 2
    again = ManifestSegments(run, clock)
    again.add([{"done": "run"}])
    again.close()
    assert list(manifest_lines(run))[-1] == {"done": "run"}


def test_a_damaged_segment_counts_as_work_not_done() -> None:
    """A segment cut short loses its last lines, one of garbage loses its own, and the others are read."""
    run = place("memory://segments/damaged")
    manifest = ManifestSegments(run)
    for case in range(6):
        manifest.add([{"done": "note", "case": case}])
        if case % 2:
            manifest.store()
    first, second, third = (run / "manifest").iterdir()
    first.write_bytes(first.read_bytes()[:-4])
    second.write_bytes(b"\x00\xff" * 50)
    assert [line["case"] for line in manifest_lines(run)] == [0, 4, 5]
    assert third.exists()


# ----------------------------------------------------------------------------------------------------------- claims
def test_a_second_process_is_refused_and_told_when_it_may_come() -> None:
    """A fresh claim keeps others out with a clear message; a released one does not."""
    run = place("memory://claims/refused")
    first = RunFolder(run)
    first.open("", {}, {})
    with pytest.raises(InputError, match=f"another process.*process {os.getpid()} on .*lapses {LAPSES_AFTER_S:.0f} s"):
        RunFolder(run).open("", {}, {})
    first.close()
    second = RunFolder(run)
    second.open("", {}, {})
    second.close()
    assert not (run / "_claims").infos()


def test_a_claim_is_taken_over_when_its_process_is_gone() -> None:
    """At once on the same machine, after its time from elsewhere, and no sooner; whoever lost it, stops."""
    run, clock = place("memory://claims/over"), Clock()
    code = "import json, os, sweep.store.claims as c; print(json.dumps({**c._self(), 'pid': os.getpid()}))"
    ended = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    here = {"holds": True, "renewed": time.time(), "host": "h", **ended}
    (run / "_claims").mkdir()
    (run / "_claims" / "a.json").write_text(json.dumps(here))
    lease = Lease(run, clock)
    lease.release()
    assert not (run / "_claims").infos()

    elsewhere = here | {"machine": "another"}
    (run / "_claims" / "b.json").write_text(json.dumps(elsewhere))
    with pytest.raises(InputError, match="on h, last heard of"):
        Lease(run, clock)
    (run / "_claims" / "b.json").write_text(json.dumps(elsewhere | {"renewed": time.time() - LAPSES_AFTER_S - 1}))
    lease = Lease(run, clock)
    clock.now += 20
    lease.beat()  # renewed
    (mine,) = (run / "_claims").iterdir()
    mine.unlink()  # what one who takes it over does
    clock.now += 20
    with pytest.raises(InputError, match="lost the run folder"):
        lease.beat()


def test_of_many_that_start_together_one_at_most_has_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever their timing, never two hold a claim at the same moment."""
    monkeypatch.setattr("sweep.store.claims.random", type("Short", (), {"uniform": staticmethod(lambda a, b: 0.01)}))
    run = place("memory://claims/together")
    inside, most, had = [0], [0], [0]
    guard, start = threading.Lock(), threading.Barrier(6)

    def contend() -> None:
        start.wait()
        for _ in range(10):
            try:
                lease = Lease(run)
            except InputError:
                continue
            with guard:
                inside[0] += 1
                had[0] += 1
                most[0] = max(most[0], inside[0])
            time.sleep(0.002)
            with guard:
                inside[0] -= 1
            lease.release()

    threads = [threading.Thread(target=contend) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most[0] == 1
    assert had[0] >= 1


# -------------------------------------------------------------------------------------------------------- full disk
@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[tuple[Path, Callable[[str], None]]]:
    """A real file system with room for 128 KiB, and how to give it more."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=128k", "sweep-test", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small file system needs root and the right to mount")
    try:
        yield folder, lambda size: subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_leaves_nothing_half(
    tiny: tuple[Path, Callable[[str], None]], asked: tuple[Question, Case], rows: Rows
) -> None:
    """A part that finds no room raises what the system says, and neither it nor half of it stays."""
    folder, _ = tiny
    part = folder / store.part_name(asked[1])
    with pytest.raises(OSError, match="No space left") as failure:
        store.write_part(part, *asked, rows)
    assert failure.value.errno == errno.ENOSPC
    assert not list(folder.iterdir())
    manifest = ManifestFile(place(folder))
    with pytest.raises(OSError, match="No space left"):
        manifest.add([{"done": "note", "text": "x" * 200_000}])
    manifest.add([{"done": "run"}])
    manifest.close()
    assert list(manifest_lines(place(folder))) == [{"done": "run"}]


def test_a_run_goes_on_when_there_is_room_again(
    tiny: tuple[Path, Callable[[str], None]], finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Out of room, a run ends with the reason and no traceback; with more room the same command ends as it should."""
    folder, grow = tiny
    study = tmp_path / "study.toml"
    study.write_text(STUDY)
    command = ["run", str(study), "--workers", "0", "--out", str(folder), "--json"]
    with pytest.raises(SystemExit) as ended:
        main(command)
    assert ended.value.code == 1
    assert "No space left" in capsys.readouterr().err
    assert not list(folder.glob("*/designs/_*"))
    grow("64m")
    with pytest.raises(SystemExit) as ended:
        main(command)
    assert ended.value.code == 0
    assert json.loads(capsys.readouterr().out)["digest"] == store.digest(finished)
