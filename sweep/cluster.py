"""Where tasks run: a Ray of our own on this machine, a Ray cluster by its address, or this very process.

All three take the same tasks and give the same results; a run's rows do not depend on the choice.
"""

from __future__ import annotations

import fcntl
import logging
import os
import queue
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout, suppress
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from sweep.errors import STOPPED, RunStopped, problem
from sweep.failures import Raised

Work = Callable[..., Any]
# Freed temporaries stay with the process (2 to 4 times faster blocks), and every task keeps to its own core.
WORKER_ENVIRONMENT = {
    "MALLOC_TRIM_THRESHOLD_": "1073741824",
    "MALLOC_MMAP_THRESHOLD_": "1073741824",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
# What the driver needs of any Ray, which would start a task again for ever when memory runs out, and wait for two
# minutes for a machine that does not take what was sent to it.
_DRIVER_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_task_oom_retries": "5",
    "RAY_grpc_client_keepalive_timeout_ms": "20000",
}
_LOCAL_ENVIRONMENT = _DRIVER_ENVIRONMENT | {
    "RAY_AUTH_MODE": "token",  # of this run only, see below: no other user of the machine can send tasks
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # this is what makes every server of Ray listen on loopback alone
    "RAY_task_events_report_interval_ms": "0",  # the history of tasks would grow without bound
    "RAY_automatic_object_spilling_enabled": "0",  # nothing that travels is large
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
_JOINING_ENVIRONMENT = _DRIVER_ENVIRONMENT | {
    "RAY_NUM_REDIS_GET_RETRIES": "4",  # Ray asks a cluster that refuses the token once a second, twenty times
    "RAY_OVERRIDE_JOB_RUNTIME_ENV": "1",  # within a Ray job, what the job sets stays, and the rest is added
}
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SHOW_CURSOR = "\x1b[?25h"  # a live block of progress hides it
_FOLDER = "sweep-"
_ANSWER_S = 5.0
_SLOTS_FOR_S = 5.0  # how long the size of a cluster is taken as known
_OBJECT_STORE_BYTES = 80 << 20  # results are lines of text; rows never travel
_RETRIES = 5  # of a task whose worker dies
_WINDOW = 2  # tasks under way for every slot: enough to hide the way to a worker, few enough to stop soon
# A Ray task costs 2 ms of all of Ray's processes together, of which 0.6 ms in this one; a task of this length keeps the
# former under 5 %, and one of the latter length for every slot keeps this process at a third of a core.
_TASK_S = 0.25
_TASK_S_OF_A_SLOT = 0.002


class Pool(Protocol):
    """Runs tasks. A handle stands for a task under way."""

    @property
    def slots(self) -> int:
        """Tasks that run at once."""

    @property
    def window(self) -> int:
        """Tasks under way at most, those that wait for a slot included."""

    @property
    def task_s(self) -> float:
        """Seconds that a task should take at least, for what it costs to be small beside it."""

    def put(self, value: Any) -> Any:
        """Give a value that many tasks read to all workers, once; what is returned stands for it in `submit`."""

    def submit(self, work: Work, *arguments: Any, elsewhere: bool = False) -> Any:
        """Start a task and return its handle; `elsewhere` where the machines that it was sent to do not answer."""

    def wait(self, timeout_s: float) -> list[tuple[Any, Any]]:
        """Handles of tasks that ended, with what each returned or Raised, after at most `timeout_s`."""

    def forget(self, handle: Any) -> None:
        """Stop caring for a task."""

    def want(self, tasks: int) -> None:
        """Say how many tasks could run at once, so that a cluster which can grow does."""


class InProcess:
    """A pool that runs a task in this process when it is waited for."""

    slots = 1
    window = 1
    task_s = 0.0

    def __init__(self) -> None:
        self._waiting: dict[int, tuple[Work, tuple[Any, ...]]] = {}
        self._next = 0

    def put(self, value: Any) -> Any:
        """The value itself."""
        return value

    def submit(self, work: Work, *arguments: Any, elsewhere: bool = False) -> int:
        """Remember a task."""
        self._next += 1
        self._waiting[self._next] = (work, arguments)
        return self._next

    def wait(self, timeout_s: float) -> list[tuple[int, Any]]:
        """Run the oldest task."""
        handle = next(iter(self._waiting))
        work, arguments = self._waiting.pop(handle)
        return [(handle, _attempt(work, *arguments))]

    def forget(self, handle: int) -> None:
        """Drop a task."""
        self._waiting.pop(handle, None)

    def want(self, tasks: int) -> None:
        """Nothing can grow here."""


class RayPool:
    """A pool of Ray tasks, on at most `most` CPUs."""

    def __init__(self, most: int | None = None) -> None:
        import ray

        self._ray: Any = ray
        self._most = most
        self._remote: Any = ray.remote(num_cpus=1, max_retries=_RETRIES)(_attempt)
        self._under_way: dict[Any, None] = {}
        self._ended: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._cpus, self._asked = 1, -_SLOTS_FOR_S
        self._wanted, self._wanted_at = 0, -_SLOTS_FOR_S

    @property
    def slots(self) -> int:
        """CPUs of the cluster, which may grow."""
        if time.monotonic() - self._asked > _SLOTS_FOR_S:
            self._asked = time.monotonic()
            self._cpus = max(1, int(self._ray.cluster_resources().get("CPU", 1)))
        return self._cpus if self._most is None else min(self._cpus, self._most)

    @property
    def window(self) -> int:
        """Two tasks a CPU, and never more than may run at once where that is limited."""
        return _WINDOW * self.slots if self._most is None else min(_WINDOW * self.slots, self._most)

    @property
    def task_s(self) -> float:
        """Longer for more workers, as one process feeds them all."""
        return max(_TASK_S, _TASK_S_OF_A_SLOT * self.slots)

    def put(self, value: Any) -> Any:
        """Put a value into the object store; a node fetches it once."""
        return self._ray.put(value)

    def submit(self, work: Work, *arguments: Any, elsewhere: bool = False) -> Any:
        """Start a Ray task."""
        # Spread is another queue of Ray's: its tasks go to other workers than those held for the default one.
        remote = self._remote.options(scheduling_strategy="SPREAD") if elsewhere else self._remote
        handle = remote.remote(work, *arguments)
        self._under_way[handle] = None
        # ray.wait looks at every task each time it is called; this costs the same for any number of tasks.
        handle.future().add_done_callback(lambda future: self._ended.put((handle, future)))
        return handle

    def wait(self, timeout_s: float) -> list[tuple[Any, Any]]:
        """Wait for the next task to end, and take what else has ended."""
        ended = []
        with suppress(queue.Empty):
            ended.append(self._ended.get(timeout=timeout_s))
            while True:
                ended.append(self._ended.get_nowait())
        results = []
        for handle, future in ended:
            if handle in self._under_way:
                del self._under_way[handle]
                failure = future.exception()
                results.append((handle, future.result() if failure is None else self._lost(failure)))
        return results

    def _lost(self, failure: BaseException) -> Raised:
        """A task that Ray itself gave up."""
        if isinstance(failure, self._ray.exceptions.RuntimeEnvSetupError):
            raise RunStopped(f"the cluster cannot set the environment of a task up: {failure}")
        return Raised.of(failure, lost=True)

    def forget(self, handle: Any) -> None:
        """Stop waiting for a task; what it writes is the same as its double's."""
        self._under_way.pop(handle, None)

    def want(self, tasks: int) -> None:
        """Ask a cluster that can grow for CPUs, up to the limit; without one, Ray's own queue says what it lacks."""
        wanted = min(tasks, self._most or 0)
        if wanted != self._wanted and time.monotonic() - self._wanted_at > _SLOTS_FOR_S:
            self._request(wanted)

    def release(self) -> None:
        """Let a cluster shrink again."""
        if self._wanted:
            self._request(0)

    def _request(self, cpus: int) -> None:
        from ray.autoscaler.sdk import request_resources

        self._wanted, self._wanted_at = cpus, time.monotonic()
        request_resources(num_cpus=cpus)


def _attempt(work: Work, *arguments: Any) -> Any:
    """What a task returns, or what it raised."""
    try:
        return work(*arguments)
    except Exception as failure:  # whatever it is, it is told, and the rest goes on
        return Raised.of(failure)


@contextmanager
def pool(
    workers: int | None, address: str | None = None, dashboard: bool = False, max_workers: int | None = None
) -> Iterator[Pool]:
    """Open a pool, and stop whatever was started for it at the end.

    Parameters
    ----------
    workers
        Worker processes on this machine; None for one a core; 0 to stay in this process, without Ray.
    address
        A running Ray cluster, as in "10.0.0.5:6379", or "auto" for that of RAY_ADDRESS, which Ray sets for its jobs;
        its workers must see the run folder under the same path.
    dashboard
        Whether to start Ray's dashboard.
    max_workers
        CPUs to use of a cluster at most, and to ask for where it can grow.
    """
    if workers is not None and workers < 0:
        raise problem("--workers", "", "must be 0 or more", workers, "0 stays in this process")
    if max_workers is not None and (address is None or max_workers < 1):
        raise problem("--max-workers", "", "must be 1 or more, and needs --address", max_workers, "see --workers")
    if address is not None:
        with _joined(address, max_workers) as joined:
            yield joined
    elif workers == 0:
        from sweep.blocks import keep_freed_memory

        keep_freed_memory()
        yield InProcess()
    else:
        with _own(workers or os.cpu_count() or 1, dashboard) as own:
            yield own


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Settings of Ray for the processes that start within, and for this one."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        _settings_read_again()
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        _settings_read_again()


def _settings_read_again() -> None:
    """Ray reads its settings and its token once a process, which may run several studies."""
    with suppress(ImportError, AttributeError):  # private names: without them, the first study's settings stay
        raylet: Any = import_module("ray._raylet")
        raylet.Config.initialize("")
        raylet.AuthenticationTokenLoader.instance().reset_cache()


@contextmanager
def _ends_at_once(folder: str) -> Iterator[None]:
    """Where a request to end the process is acted on, end it with all that Ray started for it, and without Ray's help.

    Such a request often reaches every process of a job, and without its servers Ray can neither start nor end in order.
    """

    def end(number: int, _: FrameType | None) -> None:
        for children in Path("/proc/self/task").glob("*/children"):
            for child in children.read_text().split():
                with suppress(ProcessLookupError):
                    os.kill(int(child), signal.SIGKILL)  # Ray's other processes end with these
        shutil.rmtree(folder, ignore_errors=True)
        sys.stderr.write(f"\n{_SHOW_CURSOR if sys.stderr.isatty() else ''}{STOPPED}\n")
        sys.stderr.flush()
        os._exit(128 + number)

    in_main = threading.current_thread() is threading.main_thread()
    numbers = (signal.SIGTERM, signal.SIGHUP) if in_main else ()
    before = {number: handler for number in numbers if callable(handler := signal.getsignal(number))}
    for number in before:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _signals_held(held: Collection[int] = _ENDING) -> Iterator[None]:
    """Act on Ctrl-C and the like after the block: Ray may crash when it is interrupted while it starts or ends."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    arrived: list[int] = []
    # Those of this program: neither ignored nor deadly.
    own: dict[int, Any] = {number: handler for number in _ENDING if callable(handler := signal.getsignal(number))}
    set_handler = signal.signal

    def refuse(number: int, handler: Any) -> Any:  # Ray's own handlers would end the process in the middle
        return own[number] if number in own else set_handler(number, handler)

    for number in own.keys() & set(held):
        set_handler(number, lambda number, _: arrived.append(number))
    signal.signal = refuse  # type: ignore[assignment]
    try:
        yield
    finally:
        signal.signal = set_handler
        for number, handler in own.items():
            signal.signal(number, handler)
    if arrived:
        signal.raise_signal(arrived[0])


@contextmanager
def _silent_ray() -> Iterator[None]:
    """Keep Ray's remarks on workers off standard output, which carries the result; what matters of them is told."""
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
        yield


@contextmanager
def _own(workers: int, dashboard: bool) -> Iterator[Pool]:
    """A Ray on this machine, on loopback, with a token of its own, in a folder that is deleted at the end."""
    token = {"RAY_AUTH_TOKEN": secrets.token_hex(32)}
    with _environment(_LOCAL_ENVIRONMENT | WORKER_ENVIRONMENT | token):
        import ray

        with _folder() as folder, _silent_ray(), _ends_at_once(folder):
            try:
                with _signals_held({signal.SIGINT}):
                    _start_own(workers, dashboard, folder)
                yield RayPool()
            finally:
                with _signals_held({signal.SIGINT}):
                    ray.shutdown()


@contextmanager
def _folder() -> Iterator[str]:
    """A folder for Ray's files. Those that killed runs have left are deleted: nobody holds their locks any more."""
    for left in Path(tempfile.gettempdir()).glob(f"{_FOLDER}*"):
        with suppress(OSError), (left / ".lock").open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left, ignore_errors=True)
    folder = tempfile.mkdtemp(prefix=_FOLDER)
    try:
        with Path(folder, ".new").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            Path(folder, ".new").rename(Path(folder, ".lock"))  # seen only when it is held
            yield folder
    finally:
        with _signals_held({signal.SIGINT}):
            shutil.rmtree(folder, ignore_errors=True)


def _start_own(workers: int, dashboard: bool, folder: str) -> None:
    import ray

    try:
        ray.init(
            address="local",
            num_cpus=workers,
            include_dashboard=dashboard,
            log_to_driver=False,
            logging_level=logging.ERROR,
            object_store_memory=_OBJECT_STORE_BYTES,
            _temp_dir=folder,
        )
    except Exception as failure:  # of many kinds: no room, no port, no memory, a folder with too long a name
        remedy = "--workers 0 runs without it, in one process"
        said = Raised.of(failure).sentence()
        raise RunStopped(f"Ray did not start in {folder}: {said}\n{remedy}") from None


@contextmanager
def _joined(address: str, most: int | None) -> Iterator[Pool]:
    """A running Ray cluster. The code of this process travels to its workers."""
    address = _must_answer(address)
    mode = os.environ.get("RAY_AUTH_MODE") or _auth_mode()
    with _silent_ray(), _environment(_JOINING_ENVIRONMENT | {"RAY_AUTH_MODE": mode}):
        import ray

        import model
        import sweep

        joined = None
        try:
            with _signals_held():
                # Folders, not modules: within a Ray job the two environments are joined, and modules cannot be copied.
                packages = [str(Path(str(package.__file__)).parent) for package in (model, sweep)]
                _join(address, mode, {"py_modules": packages, "env_vars": WORKER_ENVIRONMENT})
            joined = RayPool(most)
            yield joined
        finally:
            with _signals_held():
                if joined is not None:
                    joined.release()
                ray.shutdown()


def _join(address: str, mode: str, environment: Mapping[str, Any]) -> None:
    import ray

    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, runtime_env=dict(environment))
    except (ConnectionError, RuntimeError, ValueError) as failure:
        remedy = f"check that it runs, with the same RAY_AUTH_MODE (here: {mode}) and the same token"
        raise problem("--address", "", f"no Ray cluster answers: {failure}", address, remedy) from None


def _must_answer(address: str) -> str:
    """The address, looked up where it is "auto". Ray itself would wait for minutes for a cluster that is not there."""
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS", "")
        if not address:
            raise problem("--address", "", "is auto, but RAY_ADDRESS is not set", None, "give host:port of the head")
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise problem("--address", "", "must be host:port of a Ray cluster's head", address, "as in 10.0.0.5:6379")
    try:
        socket.create_connection((host, int(port)), timeout=_ANSWER_S).close()
    except OSError as failure:
        raise problem(
            "--address", "", f"nothing answers there: {failure}", address, "start it: ray start --head"
        ) from None
    return address


def _auth_mode() -> str:
    """How clusters are entered unless RAY_AUTH_MODE says it: by a token where this user has one."""
    has_token = "RAY_AUTH_TOKEN" in os.environ or (Path.home() / ".ray" / "auth_token").exists()
    return "token" if has_token else "disabled"
