"""Where tasks run: a Ray of our own on this machine, a Ray cluster by its address, or this very process.

All three take the same tasks and give the same results; a run's rows do not depend on the choice.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from sweep.errors import problem

Work = Callable[..., dict[str, Any]]
# Freed temporaries stay with the process (2 to 4 times faster blocks), and every task keeps to its own core.
WORKER_ENVIRONMENT = {
    "MALLOC_TRIM_THRESHOLD_": "1073741824",
    "MALLOC_MMAP_THRESHOLD_": "1073741824",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
_LOCAL_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",  # of this run only, see below: no other user of the machine can send tasks
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # this is what makes every server of Ray listen on loopback alone
    "RAY_task_events_report_interval_ms": "0",  # the history of tasks would grow without bound
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
_ANSWER_S = 5.0
_SLOTS_FOR_S = 5.0  # how long the size of a cluster is taken as known
_OBJECT_STORE_BYTES = 80 << 20  # results are lines of text; rows never travel


class Pool(Protocol):
    """Runs tasks. A handle stands for a task under way."""

    @property
    def slots(self) -> int:
        """Tasks that run at once."""

    def submit(self, work: Work, *arguments: Any) -> Any:
        """Start a task and return its handle."""

    def wait(self, timeout_s: float) -> list[tuple[Any, dict[str, Any]]]:
        """Handles and results of tasks that ended, after at most `timeout_s`."""

    def forget(self, handle: Any) -> None:
        """Stop caring for a task."""


class InProcess:
    """A pool that runs a task in this process when it is waited for."""

    slots = 1

    def __init__(self) -> None:
        self._waiting: dict[int, tuple[Work, tuple[Any, ...]]] = {}
        self._next = 0

    def submit(self, work: Work, *arguments: Any) -> int:
        """Remember a task."""
        self._next += 1
        self._waiting[self._next] = (work, arguments)
        return self._next

    def wait(self, timeout_s: float) -> list[tuple[int, dict[str, Any]]]:
        """Run the oldest task."""
        handle = next(iter(self._waiting))
        work, arguments = self._waiting.pop(handle)
        return [(handle, work(*arguments))]

    def forget(self, handle: int) -> None:
        """Drop a task."""
        self._waiting.pop(handle, None)


class RayPool:
    """A pool of Ray tasks."""

    def __init__(self) -> None:
        import ray

        self._ray: Any = ray
        self._remote: Any = ray.remote(num_cpus=1, max_retries=5)(_call)
        self._under_way: dict[Any, None] = {}
        self._slots, self._asked = 1, -_SLOTS_FOR_S

    @property
    def slots(self) -> int:
        """CPUs of the cluster, which may grow."""
        if time.monotonic() - self._asked > _SLOTS_FOR_S:
            self._asked = time.monotonic()
            self._slots = max(1, int(self._ray.cluster_resources().get("CPU", 1)))
        return self._slots

    def submit(self, work: Work, *arguments: Any) -> Any:
        """Start a Ray task."""
        handle = self._remote.remote(work, *arguments)
        self._under_way[handle] = None
        return handle

    def wait(self, timeout_s: float) -> list[tuple[Any, dict[str, Any]]]:
        """Wait for the next task to end."""
        if not self._under_way:
            time.sleep(timeout_s)
            return []
        ready, _ = self._ray.wait(list(self._under_way), num_returns=1, timeout=timeout_s)
        results = []
        for handle in ready:
            self._under_way.pop(handle)
            results.append((handle, self._ray.get(handle)))
        return results

    def forget(self, handle: Any) -> None:
        """Stop waiting for a task; what it writes is the same as its double's."""
        self._under_way.pop(handle, None)


def _call(work: Work, *arguments: Any) -> dict[str, Any]:
    return work(*arguments)


@contextmanager
def pool(workers: int | None, address: str | None = None, dashboard: bool = False) -> Iterator[Pool]:
    """Open a pool, and stop whatever was started for it at the end.

    Parameters
    ----------
    workers
        Worker processes on this machine; None for one a core; 0 to stay in this process, without Ray.
    address
        A running Ray cluster, as in "10.0.0.5:6379"; its workers must see the run folder under the same path.
    dashboard
        Whether to start Ray's dashboard.
    """
    if workers is not None and workers < 0:
        raise problem("--workers", "", "must be 0 or more", workers, "0 stays in this process")
    if address is not None:
        with _joined(address) as joined:
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
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _own(workers: int, dashboard: bool) -> Iterator[Pool]:
    """A Ray on this machine, on loopback, with a token of its own, in a folder that is deleted at the end."""
    token = {"RAY_AUTH_TOKEN": secrets.token_hex(32)}
    with _environment(_LOCAL_ENVIRONMENT | WORKER_ENVIRONMENT | token):
        import ray

        folder = tempfile.mkdtemp(prefix="sweep-")
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
            yield RayPool()
        finally:
            ray.shutdown()
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _joined(address: str) -> Iterator[Pool]:
    """A running Ray cluster. The code of this process travels to its workers."""
    _must_answer(address)
    mode = os.environ.get("RAY_AUTH_MODE") or _auth_mode()
    with _environment({"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": mode}):
        import ray

        import model
        import sweep

        try:
            ray.init(
                address=address,
                log_to_driver=False,
                logging_level=logging.ERROR,
                runtime_env={"py_modules": [model, sweep], "env_vars": WORKER_ENVIRONMENT},
            )
        except (ConnectionError, RuntimeError, ValueError) as failure:
            remedy = f"check that it runs and uses the same RAY_AUTH_MODE (here: {mode})"
            raise problem("--address", "", f"no Ray cluster answers: {failure}", address, remedy) from None
        try:
            yield RayPool()
        finally:
            ray.shutdown()


def _must_answer(address: str) -> None:
    """Ray itself would wait for minutes for a cluster that is not there."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise problem("--address", "", "must be host:port of a Ray cluster's head", address, "as in 10.0.0.5:6379")
    try:
        socket.create_connection((host, int(port)), timeout=_ANSWER_S).close()
    except OSError as failure:
        raise problem(
            "--address", "", f"nothing answers there: {failure}", address, "start it: ray start --head"
        ) from None


def _auth_mode() -> str:
    """How clusters are entered unless RAY_AUTH_MODE says it: by a token where this user has one."""
    has_token = "RAY_AUTH_TOKEN" in os.environ or (Path.home() / ".ray" / "auth_token").exists()
    return "token" if has_token else "disabled"
