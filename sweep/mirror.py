"""The trials of a run in an Optuna storage, for optuna-dashboard while the run goes on.

A mirror: the run's own files are the record, nothing reads the storage back, and a run whose storage is lost goes on
without it. A thread of its own adds finished trials, so that a slow storage holds nothing up; those that the storage
has from an earlier process are not added again.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from sweep.errors import problem
from sweep.trial_log import TrialLog, readable
from sweep.trials import Trial, Variable, direction, shown

if TYPE_CHECKING:
    import optuna

_ANSWER_S = 5.0  # how long a storage may take to answer at first
_LOOK_S = 1.0  # between two looks at the logs of workers
_PATIENCE_S = 60.0  # at the end, without a single trial added, before the rest is given up
_HURRY_S = 2.0  # the same where the run is stopped
_TELL_S = 10.0
Variables = Mapping[str, Variable]
_DRIVERS = {"grpc": ("grpcio", "grpc"), "postgresql+psycopg": ("psycopg[binary]", "psycopg"),
            "postgresql": ("psycopg2-binary", "psycopg2"), "mysql+pymysql": ("pymysql", "pymysql")}  # fmt: skip


# --------------------------------------------------------------------------------------------------- storages
def open_storage(url: str) -> optuna.storages.BaseStorage:
    """The storage of a URL, once it answers.

    Raises
    ------
    InputError
        Where a driver is missing, the URL is of no known kind, or nothing answers.
    """
    scheme = url.partition("://")[0] if "://" in url else ""
    package, module = _DRIVERS.get(scheme, ("", ""))
    if module and find_spec(module) is None:
        raise problem("--storage", "", f"needs the package {package!r}", safe(url), f'pip install "{package}"')
    try:
        if scheme == "grpc":
            return _grpc(url)
        if scheme in ("", "journal"):
            return _journal(Path(url.removeprefix("journal://")))
        return _database(url, scheme)
    except Exception as failure:  # of any driver
        raise problem(
            "--storage", "", f"cannot be used: {_sentence(failure, url)}", safe(url),
            "give a journal file, sqlite:///FILE, postgresql+psycopg://USER@HOST/DATABASE or grpc://HOST:PORT",
        ) from None  # fmt: skip


def close_storage(storage: optuna.storages.BaseStorage) -> None:
    """Give connections back."""
    storage.remove_session()
    if engine := getattr(storage, "engine", None):
        engine.dispose()
    if close := getattr(storage, "close", None):  # of the proxy
        close()


def own_journal(path: Path) -> optuna.storages.BaseStorage:
    """The journal in a run folder, which this process alone writes: one that is damaged is begun anew."""
    for leftover in path.parent.glob(f"{path.name}.lock*"):  # of a process that was killed
        leftover.unlink(missing_ok=True)
    try:
        return _journal(path)
    except OSError:
        raise
    except Exception:  # all that it says is in the other files of the run
        path.unlink()
        return _journal(path)


def _journal(path: Path) -> optuna.storages.BaseStorage:
    """A journal file; a torn last line is cut. Raises ValueError where another line is damaged."""
    import optuna
    from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        lock = JournalFileSymlinkLock(str(path))
        lock.acquire()
        try:
            _end_after_last_line(path)
        finally:
            lock.release()
    return optuna.storages.JournalStorage(JournalFileBackend(str(path)))


def _end_after_last_line(path: Path) -> None:
    """Cut a torn last line; Optuna itself would append to it. Raises ValueError where another line is damaged."""
    end = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                break
            try:
                json.loads(line)
            except ValueError:
                raise ValueError(f"line {number} of the journal is damaged") from None
            end += len(line)
    if end < path.stat().st_size:
        with path.open("r+b") as file:
            file.truncate(end)


def _grpc(url: str) -> optuna.storages.BaseStorage:
    import optuna

    address = urlsplit(url)
    if not address.hostname or not address.port:
        raise ValueError("host and port are missing")
    storage = optuna.storages.GrpcStorageProxy(host=address.hostname, port=address.port)
    storage.wait_server_ready(timeout=_ANSWER_S)
    return storage


def _database(url: str, scheme: str) -> optuna.storages.BaseStorage:
    import optuna

    wait = {"connect_timeout": int(_ANSWER_S)} if scheme.startswith(("postgresql", "mysql")) else {}
    return optuna.storages.RDBStorage(url, engine_kwargs={"connect_args": wait})


def safe(url: str) -> str:
    """A URL without the password in it."""
    secret = _password(url)
    return url.replace(f":{secret}@", ":***@") if secret else url


def _password(url: str) -> str:
    return url.partition("://")[2].rpartition("@")[0].partition(":")[2]


def _sentence(failure: BaseException, url: str) -> str:
    """What a failure says, in a line, without the password; of a database, what its driver says."""
    told = getattr(failure, "orig", None) or failure.__cause__ or failure
    said = str(told).strip().splitlines() or [type(told).__name__]
    secret = _password(url)
    return said[0].replace(secret, "***") if secret else said[0]


# ---------------------------------------------------------------------------------------------------- mirroring
@dataclass(slots=True)
class _Followed:
    """A log that a worker writes: what was read of it, and of which file."""

    log: TrialLog
    file: int = 0  # inode: a log that is finished may be replaced
    offset: int = 0


@dataclass(slots=True)
class _Copy:
    """A study in the storage."""

    study: optuna.Study
    trials: int


class Mirror:
    """Adds the trials of a run to a storage, in a thread of its own."""

    def __init__(self, storage: optuna.storages.BaseStorage, run: str, url: str = "") -> None:
        self._storage, self._run, self._url = storage, run, url
        self._offered: queue.SimpleQueue[tuple[str, Variables, Sequence[str], list[Trial]] | None] = queue.SimpleQueue()
        self._followed: dict[str, _Followed] = {}
        self._copies: dict[str, _Copy] = {}
        self._ending, self._leaving = threading.Event(), threading.Event()
        self._moved = time.monotonic()  # when a trial was added last
        self.added = 0
        self.lost = ""  # why the storage is done without
        self._thread = threading.Thread(target=self._work, name="mirror", daemon=True)

    def __enter__(self) -> Mirror:
        """Start."""
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *failure: object) -> None:
        """Wait until all trials are added; not where the run is stopped, as the next one adds them."""
        self._ending.set()
        self._offered.put(None)  # wakes it
        if kind is not None:
            self._leaving.set()
            self._thread.join(_HURRY_S)
            return
        self._moved = told = time.monotonic()
        while self._thread.is_alive():
            self._thread.join(0.05)
            now = time.monotonic()
            if now - self._moved > _PATIENCE_S and not self.lost:
                self._leaving.set()
                self._lose(TimeoutError(f"no trial was added for {_PATIENCE_S:.0f} s"))
                return
            if now - told > _TELL_S:
                told = now
                sys.stderr.write(f"adding trials to the storage: {self.added:,}\n")

    def add(self, name: str, variables: Variables, objectives: Sequence[str], records: Sequence[Trial]) -> None:
        """Offer trials of a study, all from the first on, in order, in any number of calls."""
        self._offered.put((name, variables, tuple(objectives), list(records)))

    def follow(self, name: str, log: TrialLog) -> None:
        """Look at a log that a worker writes until the end of the run. Before the mirror is started."""
        self._followed[name] = _Followed(log)

    # ------------------------------------------------------------------------------------------- in the thread
    def _work(self) -> None:
        try:
            while True:
                last = self._ending.is_set()  # what was offered before is taken up in this round
                self._take_offered(0.0 if last else _LOOK_S)
                for name, followed in self._followed.items():
                    self._look(name, followed, whole=last)
                if last or self._leaving.is_set():
                    return
        except Exception as failure:  # whatever a storage raises, the run goes on
            self._lose(failure)
        finally:
            with suppress(Exception):
                close_storage(self._storage)

    def _take_offered(self, wait_s: float) -> None:
        try:
            one = self._offered.get(timeout=wait_s) if wait_s else self._offered.get_nowait()
            while one is not None and not self._leaving.is_set():
                self._put(*one)
                one = self._offered.get_nowait()
        except queue.Empty:
            return

    def _look(self, name: str, followed: _Followed, whole: bool) -> None:
        axes = followed.log.axes()
        if axes is None:
            return
        here = followed.log.place.local
        if here is None:  # one object a generation
            self._put(name, axes[0], axes[1], list(followed.log.records()))
        elif here.exists():
            self._read_on(name, axes, followed, here, whole)

    def _read_on(
        self, name: str, axes: tuple[Variables, Sequence[str]], followed: _Followed, log: Path, whole: bool
    ) -> None:
        """Take up what was appended to a log on this machine."""
        with log.open("rb") as file:
            here = os.fstat(file.fileno()).st_ino
            if whole or here != followed.file:
                followed.file, followed.offset = here, 0
            file.seek(followed.offset)
            text = file.read()
        text = text[: text.rfind(b"\n") + 1]
        followed.offset += len(text)
        if text:
            self._put(name, axes[0], axes[1], list(readable(text.splitlines())))

    def _put(self, name: str, variables: Variables, objectives: Sequence[str], records: Sequence[Trial]) -> None:
        """Add the records that the storage lacks, each after the one before it."""
        copy = self._copies.get(name)
        if copy is None:
            copy = self._copies[name] = self._copy(name, objectives)
        for record in records:
            if record["trial"] == copy.trials and not self._leaving.is_set():
                copy.study.add_trial(shown(record, variables))
                copy.trials += 1
                self.added += 1
                self._moved = time.monotonic()

    def _copy(self, name: str, objectives: Sequence[str]) -> _Copy:
        import optuna

        name = f"{self._run} {name}"
        try:
            study = optuna.load_study(study_name=name, storage=self._storage)
        except KeyError:  # no study of this name yet; a journal would note every attempt to make one that is there
            directions = [direction(objective) for objective in objectives]
            study = optuna.create_study(study_name=name, storage=self._storage, directions=directions)
        trials = len(study.get_trials(deepcopy=False))
        if not trials:
            study.set_metric_names(list(objectives))
        return _Copy(study, trials)

    def _lose(self, failure: BaseException) -> None:
        self.lost = _sentence(failure, self._url)
        sys.stderr.write(
            f"the storage of the trials is lost: {self.lost}; the run goes on without it, and the same command "
            "adds what is missing\n"
        )
