"""`sweep dashboard`: the trials of a run in optuna-dashboard."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from sweep.errors import problem

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

_PACKAGE = "optuna-dashboard"
_JOURNAL = "optuna.journal"


def dashboard(
    run: str | None = None,
    *,
    storage: str | None = None,
    host: str = "127.0.0.1",
    port: Annotated[int, Parameter(negative="")] = 8080,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Show the trials of a run in optuna-dashboard, until Ctrl-C; also while the run goes on.

    Parameters
    ----------
    run
        The folder of a run: a path or a URL.
    storage
        Another Optuna storage instead, as `sweep run --storage` takes it.
    host
        Address to listen on. Only this machine reaches 127.0.0.1; whoever reaches another may change the storage.
    port
        Port to listen on; 0 takes a free one.
    as_json
        Print one JSON object when it listens: url.
    """
    if (run is None) == (storage is None):
        raise problem("dashboard", "RUN", "needs either the folder of a run or --storage", run, "give one of them")
    try:
        from optuna_dashboard import wsgi
    except ImportError:
        remedy = f'pip install "matrixsweep[dashboard]", or pip install {_PACKAGE}'
        raise problem("dashboard", "", f"needs the package {_PACKAGE!r}", None, remedy) from None
    with ExitStack() as opened:
        server = _server(wsgi(_opened(run, storage, opened)), host, port)
        opened.callback(server.server_close)
        url = f"http://{host}:{server.server_port}/"
        sys.stdout.write(f"{json.dumps({'url': url}) if as_json else url}\n")
        sys.stdout.flush()
        sys.stderr.write("Ctrl-C ends it.\n")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return


def _opened(run: str | None, storage: str | None, opened: ExitStack) -> BaseStorage:
    """The trials of a run, or another storage."""
    from sweep.mirror import close_storage, open_storage
    from sweep.trials import quiet

    with quiet():
        if storage is not None:
            found = open_storage(storage)
            opened.callback(close_storage, found)
            return found
        assert run is not None, "one of the two is given"
        return _journal_of(run, opened)


def _journal_of(run: str, opened: ExitStack) -> BaseStorage:
    """The journal of a run, of elsewhere as a copy."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    from sweep import store

    journal = store.find_run(run) / _JOURNAL
    if not journal.exists():
        rule = "the run has no trials of Optuna"
        raise problem(
            journal.parent, _JOURNAL, rule, None, "for studies with [outer] or a sampled method; see sweep report"
        )
    file = journal.local
    if file is None:
        file = Path(opened.enter_context(TemporaryDirectory(prefix="sweep-")), _JOURNAL)
        file.write_bytes(journal.read_bytes())
    return JournalStorage(JournalFileBackend(str(file)))


def _server(application: Any, host: str, port: int) -> Any:
    """A server of its own for each request's thread, that listens on one address and logs nothing."""
    from socketserver import ThreadingMixIn
    from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

    class Server(ThreadingMixIn, WSGIServer):
        daemon_threads = True

    class Quiet(WSGIRequestHandler):
        def log_message(self, *_: Any) -> None:
            """Nothing."""

    try:
        return make_server(host, port, application, Server, Quiet)
    except OSError as failure:
        rule = f"cannot listen there: {failure.strerror or failure}"
        raise problem("dashboard", "--port", rule, f"{host}:{port}", "give --port 0 for a free one") from None
