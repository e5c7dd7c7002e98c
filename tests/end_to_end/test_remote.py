"""Runs on an object store: a server that speaks S3, on loopback, and file systems that fsspec opens."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import sweep
from sweep import store
from sweep.cli import main
from sweep.errors import InputError
from sweep.running import run_study
from sweep.store import Place, RunFolder, place
from sweep.store.manifest import manifest_lines
from sweep.study import parse

STUDY = """
name = "afar"
question = "Are the rows the same far away?"
chips = [64, 128, 256, 384, 512]
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
OUTER = """
[outer]
trials = 4
generation = 2
[outer.variables]
chips = [8, 16, 32]
"""
SMALL = STUDY.replace("[64, 128, 256, 384, 512]", "[512]")
KEY, SECRET = "AKIDKEYOFTHETEST", "s3cretOfTheTest"


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Host and port of an S3 server with one bucket, `sweep-test`."""
    address = f"127.0.0.1:{free_port()}"
    host, port = address.split(":")
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", host, "-p", port],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                request = urllib.request.Request(f"http://{address}/sweep-test", method="PUT")
                urllib.request.urlopen(request, timeout=5).close()
                break
            except OSError:
                assert process.poll() is None, "the server ended"
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield address
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def s3(server: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Place:
    """A folder of the test's own on the server; the keys are in the environment, as users have them."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_ENDPOINT_URL": f"http://{server}",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    # The port is in the URL too, as a file system is opened once a URL and another module's server has another port.
    parameters = f"?endpoint_override={server}&scheme=http&region=us-east-1"
    return place(f"s3://sweep-test/{request.node.name.partition('[')[0]}{parameters}")


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The same studies run on this machine: study text -> digest."""
    folder = tmp_path_factory.mktemp("local")
    return {text: run_study(parse(text), folder, workers=0) for text in (STUDY, SMALL)}


def start(tmp_path: Path, out: Place, workers: int, text: str = STUDY) -> subprocess.Popen[str]:
    """`sweep run` as a process of its own."""
    file = tmp_path / "study.toml"
    file.write_text(text)
    command = [sys.executable, "-m", "sweep.cli", "run", str(file), "--out", str(out), "--workers", str(workers)]
    return subprocess.Popen([*command, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            env={**os.environ, "TMPDIR": "/tmp"})  # fmt: skip


def everything(folder: Place) -> dict[str, bytes]:
    """All files below a folder."""
    found: dict[str, bytes] = {}
    for info in folder.infos():
        one = folder / info.base_name
        if info.is_file:
            found[one.path] = one.read_bytes()
        else:
            found |= everything(one)
    return found


def only(folder: Place) -> Place:
    (found,) = folder.iterdir()
    return found


def test_a_run_on_s3_is_the_run_on_disk(
    s3: Place, local: dict[str, Any], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Run, digest, explain and load by URL; the same rows, answer and catalogue, and no claim is left."""
    study = tmp_path / "study.toml"
    study.write_text(SMALL)

    def command(*words: str) -> str:
        with pytest.raises(SystemExit) as ended:
            main(list(words))
        output = capsys.readouterr()
        assert ended.value.code == 0, output.err
        return output.out

    found = json.loads(command("run", str(study), "--out", str(s3), "--workers", "0", "--json"))
    expected = local[SMALL]
    assert found["digest"] == expected.digest
    assert found["answer"] == expected.answer.rows
    assert found["run"] == str(s3 / expected.path.name)
    again = json.loads(command("run", str(study), "--out", str(s3), "--workers", "0", "--json"))
    assert again == found
    assert command("digest", found["run"]).strip() == expected.digest
    assert command("explain", f"{found['run']}#3", "--json") == command("explain", f"{expected.path}#3", "--json")
    loaded = sweep.load(str(s3 / "*"))
    assert loaded.equals(sweep.load(Path(expected.path)))
    here = {name.removeprefix(expected.path.path) for name in everything(expected.path)}
    there = {name.removeprefix((s3 / expected.path.name).path) for name in everything(s3)}
    # the library wrote the one and the command line the other, with a report
    assert {name for name in here ^ there if not name.startswith("/manifest")} == {"/.lock", "/report.html"}


def test_no_secret_is_stored_or_shown(s3: Place, server: str, tmp_path: Path) -> None:
    """Keys in the URL or in the environment are in no file of the run and in nothing that is printed."""
    url = f"s3://{KEY}:{SECRET}@sweep-test/{s3.path}?endpoint_override={server}&scheme=http&region=us-east-1"
    out = place(url)
    process = start(tmp_path, s3, workers=0, text=SMALL)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    file = tmp_path / "study.toml"
    shown = subprocess.run(
        [sys.executable, "-m", "sweep.cli", "run", str(file), "--out", url, "--workers", "0"],
        capture_output=True, text=True, check=True, env={k: v for k, v in os.environ.items() if "KEY" not in k},
    )  # fmt: skip
    told = shown.stdout + shown.stderr
    assert f"sweep explain 's3://sweep-test/{s3.path}/afar-" in told
    for secret in (KEY, SECRET):
        assert secret not in told
        assert secret not in repr(out)
        assert not [name for name, content in everything(s3).items() if secret.encode() in content]


@pytest.mark.slow
def test_killed_resumed_and_refused_on_s3(s3: Place, local: dict[str, Any], tmp_path: Path) -> None:
    """Ray workers write to S3; a second process is refused; the driver is killed; the same command goes on at once."""
    process = start(tmp_path, s3, workers=1)
    deadline = time.monotonic() + 120
    # the first cases have no feasible layout, and so no part
    while not (s3.infos() and any(line["done"] == "case" and line["rows"] for line in manifest_lines(only(s3)))):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with pytest.raises(InputError, match=f"another process is running this study here .process {process.pid} on"):
        RunFolder(only(s3)).open("", {}, {})
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = list(manifest_lines(only(s3)))
    assert not any(line["done"] == "run" for line in before)
    cut = next(iter((only(s3) / "designs").iterdir()))
    cut.write_bytes(cut.read_bytes()[:-100])  # as if the store had lost the end

    resumed = start(tmp_path, s3, workers=2)
    output, errors = resumed.communicate(timeout=240)
    assert resumed.returncode == 0, errors
    assert json.loads(output)["digest"] == local[STUDY].digest
    lines = list(manifest_lines(only(s3)))
    assert lines[: len(before)] == before
    done = [line["case"] for line in lines if line["done"] == "case"]
    assert sorted(set(done)) == list(range(10))
    again = [case for case in done if done.count(case) == 2]
    assert set(again) <= {int(cut.name.removesuffix(".parquet").split("-")[1])}
    assert len(done) <= 11


@pytest.mark.parametrize("damage", ["part", "segment", "both"])
def test_what_an_object_store_lost_is_computed_again(local: dict[str, Any], damage: str) -> None:
    """A truncated part or manifest segment is told by `digest`, counts as work not done, and is made anew."""
    out = place(f"memory://lost-{damage}/runs")
    whole = run_study(parse(SMALL), out, workers=0)
    assert whole.digest == local[SMALL].digest
    if damage != "segment":
        part = store.parts_of(whole.path)[0]
        part.write_bytes(part.read_bytes()[:1000])
        with pytest.raises(InputError, match=f"{part.name}.*\n.*is damaged"):
            store.digest(whole.path)
    if damage != "part":
        for segment in (whole.path / "manifest").iterdir():
            segment.write_bytes(segment.read_bytes()[:40])
    again = run_study(parse(SMALL), out, workers=0)
    assert again.fresh
    assert again.digest == local[SMALL].digest
    assert not run_study(parse(SMALL), out, workers=0).fresh


def test_a_folder_may_be_moved_between_disk_and_store(local: dict[str, Any], tmp_path: Path) -> None:
    """A run begun in one place goes on in another if its folder is copied there, in both directions."""
    run = local[SMALL].path
    there = place("memory://moved/runs") / run.name
    for name, content in everything(run).items():
        (there / name.removeprefix(f"{run.path}/")).write_bytes(content)
    assert not run_study(parse(SMALL), there.parent, workers=0).fresh
    far = run_study(parse(SMALL), place("memory://moved/begun"), workers=0).path
    for name, content in everything(far).items():
        back = tmp_path / run.name / name.removeprefix(f"{far.path}/")
        back.parent.mkdir(parents=True, exist_ok=True)
        back.write_bytes(content)
    assert not run_study(parse(SMALL), tmp_path, workers=0).fresh


def test_trials_of_optuna_are_stored_far_away_too(tmp_path: Path) -> None:
    """A study with outer variables gives the same rows by URL, and its journal is put beside them."""
    text = SMALL.replace("chips = [512]\n", "").replace("deepseek-v3", "llama-3-8b").replace("3840", "128") + OUTER
    here = run_study(parse(text), tmp_path, workers=0)
    there = run_study(parse(text), place("memory://trials/runs"), workers=0)
    assert there.digest == here.digest
    assert there.answer == here.answer
    assert (there.path / "optuna.journal").read_bytes().count(b"\n") == (
        (here.path / "optuna.journal").read_bytes().count(b"\n")
    )
