"""`sweep run`: run a study, or continue it, and print its answer."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import Annotated, Any

from cyclopts import Parameter

from sweep.cli import FAILED
from sweep.errors import STOPPED, NothingFeasible, exit_code
from sweep.failures import FOLDER
from sweep.finished import as_object, page_of, why_of
from sweep.running import Finished, run_study
from sweep.study import Study, load
from sweep.tables import answer_table, certainty_tables

_SHOWN = 10  # failed cases listed in the message


def run(
    study: Path,
    *,
    out: str = "runs",
    workers: Annotated[int | None, Parameter(negative="")] = None,
    address: str | None = None,
    max_workers: Annotated[int | None, Parameter(negative="")] = None,
    dashboard: bool = False,
    storage: str | None = None,
    all_sizes: Annotated[bool, Parameter(name="--all")] = False,
    report: bool = True,
    overrides: Annotated[list[str] | None, Parameter(name="--set", negative="")] = None,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> int:
    """Run a study, or continue it where it was stopped.

    Parameters
    ----------
    study
        The study file.
    out
        Folder of run folders: a path, or a URL such as s3://bucket/runs.
    workers
        Worker processes on this machine: one a core unless given; 0 stays in this process.
    address
        A running Ray cluster instead, as in 10.0.0.5:6379, or auto for that of RAY_ADDRESS, as in a Ray job; its
        workers must see the run folder.
    max_workers
        CPUs of that cluster to use at most, and to ask for where it can grow.
    dashboard
        Start Ray's dashboard too.
    storage
        Where optuna-dashboard finds the trials while the run goes on, instead of a journal in the run folder: a
        journal file, sqlite:///FILE, postgresql+psycopg://USER@HOST/DATABASE or grpc://HOST:PORT.
    all_sizes
        Print every column of the answer.
    report
        Write the report of the run, report.html, into its folder.
    overrides
        Changes to the study as path=value, as in search.objective=mfu, chips=96,192 or designs[0].chips=384; it may be
        given several times. The run keeps the study as changed.
    as_json
        Print one JSON object: run, digest, answer, failed, report, why_not.
    """
    asked = load(study, overrides or [])
    try:
        finished = run_study(asked, out, workers, address, dashboard, storage, max_workers)
    except KeyboardInterrupt as stop:
        changes = "".join(f" --set {quote(one)}" for one in overrides or [])
        sys.stderr.write(f"\n{STOPPED}: sweep run {study}{changes}\n")
        return exit_code(stop)
    if not as_json:
        show(finished, wide=all_sizes)
    page = _page(asked, finished) if report else None
    why = why_of(asked, finished)
    if as_json:
        sys.stdout.write(json.dumps(as_object(finished, page, why), allow_nan=False) + "\n")
    elif page is not None:
        sys.stdout.write(f"Charts, sources and errors: {page}\n")
    if finished.failed:
        sys.stderr.write(_failures(finished))
        return FAILED
    if report and page is None:
        return FAILED
    if why is not None:
        raise NothingFeasible("\n".join(why.lines()))
    return 0


def _page(study: Study, finished: Finished) -> str | None:
    """Where the report is; None, and a line that says so, where it cannot be written: the rows are kept."""
    try:
        return page_of(study, finished)
    except OSError as failure:
        reason = failure.strerror or failure
        sys.stderr.write(
            f"{finished.path}: the report cannot be written ({reason}); every row is kept, and "
            f"`sweep report {quote(str(finished.path))}` writes it when there is room\n"
        )
        return None


def show(finished: Finished, wide: bool) -> None:
    """Print the answer, then what it rests on, then where the rows are."""
    from sweep.commands.terminal import console as opened

    console = opened(200)
    for line in finished.headlines:
        console.print(line)
    if finished.answer.rows:
        for table in answer_table(finished.answer.rows, wide):
            console.print(table)
    for table in certainty_tables(finished.certainty, wide):
        console.print(table)
    if finished.answer.rows:
        for row in finished.answer.failed:
            console.print(f"no feasible layout: {_what(row)}: {row['reason']}")
    for failure in finished.failed:
        console.print(f"failed: {_what(failure)}: {failure['reason']}")
    for text in (*finished.notes, *finished.answer.remarks):
        console.print(text)
    folder = str(finished.path)
    console.print(f"\n{folder}{'' if '?' in folder else '/'}   digest {finished.digest[:16]}")
    if finished.answer.rows:
        row = finished.answer.rows[0]["row"]
        named = f"{folder}#{row}" if quote(folder) == folder else quote(f"{folder}#{row}")
        console.print(f"One layout taken apart: sweep explain {named}")


def _failures(finished: Finished) -> str:
    """The one message of a run of which tasks failed."""
    cases = {row["case"]: row for row in finished.failed}
    lines = [f"  {_what(row)}: {row['reason']}; see {row['file']}" for row in list(cases.values())[:_SHOWN]]
    if len(cases) > _SHOWN:
        lines.append(f"  and {len(cases) - _SHOWN} more, in {FOLDER}/")
    given_up = f"; {finished.untried} others were not tried, as nothing succeeded" if finished.untried else ""
    count = "1 case" if len(cases) == 1 else f"{len(cases)} cases"
    first = f"{finished.path}: {count} failed{given_up}; the rest is kept, and the same command tries them again"
    return "\n".join([first, *lines]) + "\n"


def _what(row: Mapping[str, Any]) -> str:
    names = ("design", "work") if "work" in row and "reason" in row else ("design", "model", "number_format")
    named = [str(row[name]) for name in names if name in row]
    size = [f"{row['chips']} chips"] if "chips" in row else [f"case {row.get('case')}"]
    return ", ".join([*named, *size])
