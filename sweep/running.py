"""Running a study from its file to its answer; the command line only prints what comes out here."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from os import PathLike
from pathlib import Path
from typing import Any

import model
import sweep
from sweep import provenance, residuals, serving_answer, store
from sweep.answer import Answer, answer, headlines, told
from sweep.cases import Case, Question, cases, round_size
from sweep.certainty import add_bands, comparisons, kept_rows
from sweep.cluster import Pool, pool
from sweep.designs import machine
from sweep.errors import problem
from sweep.failures import OutOfSpace, is_no_space
from sweep.mirror import Mirror, open_storage, own_journal
from sweep.outer import mirror_outer, search_outer
from sweep.progress import Progress
from sweep.sampled import baseline_notes
from sweep.samplers import must_be_installed
from sweep.scheduler import Scheduler
from sweep.store import DamagedPartError, Place, RunFolder
from sweep.store.parts import part_name, read_table
from sweep.study import Study, parse
from sweep.trial_log import FOLDER, TrialLog
from sweep.trials import quiet

_CERTAINTY = "uncertainty.json"
_PACKAGES = ("matrixsweep", "numpy", "optuna", "pyarrow", "ray", "scipy")


@dataclass(frozen=True, slots=True)
class Finished:
    """A finished run."""

    path: Place
    digest: str
    answer: Answer
    headlines: tuple[str, ...]  # the answer in a few lines
    notes: tuple[str, ...]
    fresh: bool  # computed now, not taken from an earlier run
    failed: tuple[Mapping[str, Any], ...] = ()  # what is told of every task that raised
    untried: int = 0  # cases given up because every other one failed
    certainty: tuple[Mapping[str, Any], ...] = ()  # comparisons at many points of what designs rest on


@cache
def code_fingerprint() -> str:
    """Hash of the code that decides the rows: the cost model and this package, without the catalogue and pictures."""
    root = Path(str(sweep.__file__)).parents[1]
    files = [
        file.relative_to(root)
        for package in (model, sweep)
        for file in sorted(Path(str(package.__file__)).parent.rglob("*.py"))
        if not {"commands", "page", "report"} & set(file.parts)
    ]
    return store.fingerprint(part for file in files for part in (file.as_posix().encode(), (root / file).read_bytes()))


@cache
def commit() -> str:
    """The commit of the checkout that this code is from, with "+" where it was changed; empty elsewhere."""
    root = Path(str(sweep.__file__)).parents[1]
    if not (root / ".git").exists():
        return ""
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=True)
        state = subprocess.run(
            ["git", "status", "--porcelain", "--", "model", "sweep"],
            cwd=root, capture_output=True, text=True, check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return ""
    return head.stdout.strip() + ("+" if state.stdout.strip() else "")


def versions() -> dict[str, str]:
    """Versions of what the rows depend on."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def entries_of(study: Study) -> dict[str, str]:
    """Text of every catalogue entry that a study rests on."""
    entries: dict[str, str] = {}
    trains = study.phase == "training"
    for design in study.designs:
        for workload in study.workloads:
            names = (design.system, workload.model, design.stack)
            entries |= provenance.entries_used(
                *names, design.extra, "stacks" if trains else "engines", design.prices or None,
                [("operations", design.operation)] if design.operation else [],
            )  # fmt: skip
    return dict(sorted(entries.items()))


def prepare(
    study: Study, out: str | PathLike[str] | Place
) -> tuple[RunFolder, Question, dict[str, Any], dict[str, str]]:
    """The run folder of a study, named by what its rows depend on, and what every task shares."""
    entries, found = entries_of(study), versions()
    facts = {
        "study": study.name,
        "seed": study.seed,
        "study_sha256": store.fingerprint([study.text.encode()]),
        "catalogue_sha256": store.fingerprint(t.encode() for item in entries.items() for t in item),
        "code_sha256": code_fingerprint(),
        "libraries": {name: found[name] for name in ("numpy", "optuna")},  # the last bits of a row are theirs
    }
    if study.uncertainty is not None:  # kept in the folder beside the rows
        facts |= {"residuals_sha256": store.fingerprint([residuals.DATA.read_bytes()]), "scipy": found["scipy"]}
    name = store.fingerprint([json.dumps(facts, sort_keys=True).encode()])[:10]
    facts |= {"commit": commit(), "versions": found}
    metadata: dict[str, str] = {
        "study": study.name,
        "question": study.question,
        "seed": str(study.seed),
        "commit": commit(),
        "code": code_fingerprint(),
        "catalogue": str(facts["catalogue_sha256"]),
        "versions": json.dumps(found, sort_keys=True),
        "study_file": study.text,
    }
    question = Question(study.axes, study.search, study.constraints, study.seed, tuple(metadata.items()), study.phase)
    return RunFolder(store.place(out).resolve() / f"{study.name}-{name}"), question, facts, entries


def run_study(
    study: Study,
    out: str | PathLike[str] | Place,
    workers: int | None = None,
    address: str | None = None,
    dashboard: bool = False,
    storage: str | None = None,
    max_workers: int | None = None,
) -> Finished:
    """Run a study, or continue it, or read it back where it is finished.

    Parameters
    ----------
    study
        The study.
    out
        Folder of run folders: a path or a URL.
    workers, address, dashboard, max_workers
        Where tasks run; see `sweep.cluster.pool`.
    storage
        URL of an Optuna storage for the trials, instead of a journal in the run folder; see `sweep.mirror`.
    """
    for table, name in study.samplers.items():
        must_be_installed(table, name)
    opened = _opened(study, storage)
    folder, question, facts, entries = prepare(study, out)
    listed, notes = ([], study.notes) if study.outer else cases(study)
    notes += baseline_notes(question, listed)
    run = _Run(study, folder, question, listed, opened, lambda: pool(workers, address, dashboard, max_workers))
    try:
        folder.open(study.text, facts, entries)
        try:
            return _finished(run, notes)
        finally:
            folder.close()
    except OSError as failure:
        if is_no_space(failure):
            raise OutOfSpace(folder.path, str(failure)) from None
        raise


@dataclass(frozen=True, slots=True)
class Kept:
    """What a run folder holds, read back without computing anything.

    Attributes
    ----------
    study
        The study as run, with the catalogue entries that the run kept.
    outcomes
        What the search of each case that is done came to, by the case's number.
    complete
        Whether no case is left to do.
    """

    path: Place
    study: Study
    answer: Answer
    outcomes: Mapping[int, Mapping[str, Any]]
    headlines: tuple[str, ...]
    notes: tuple[str, ...]
    certainty: tuple[Mapping[str, Any], ...]
    digest: str
    complete: bool


@contextmanager
def kept(run: str | PathLike[str] | Place) -> Iterator[Kept]:
    """A run, finished or not, as its folder has it; its machines are good inside of the block.

    Raises InputError where there is no run, where its study is not one for this version, or where a part is damaged.
    """
    path = store.find_run(run)
    text, name = (path / "study.toml").read_text(), json.loads((path / store.FACTS).read_text())["study"]
    with store.kept_catalogue(path) as entries:
        study = parse(text, str(path / "study.toml"), name, entries=entries)
        listed, notes = ([], study.notes) if study.outer else cases(study)
        question = Question(study.axes, study.search, study.constraints, study.seed, (), study.phase)
        read = _Run(study, RunFolder(path), question, listed, None, lambda: pool(0))
        outcomes = _outcomes(read.folder)
        _must_be_the_same(path, listed, outcomes)
        found = add_bands(study, _read_back(read))
        lines_of = headlines if study.phase == "training" else serving_answer.headlines
        lines = () if study.outer else tuple(lines_of(study, found.rows))
        sure: tuple[Mapping[str, Any], ...] = ()
        if (path / _CERTAINTY).exists():
            with suppress(ValueError):
                sure = tuple(json.loads((path / _CERTAINTY).read_text()))
        digest, whole = store.digest(path), store.is_finished(path)
        yield Kept(path, study, found, outcomes, (*lines, *_front(read)), notes, sure, digest, whole)


def as_kept(study: Study, finished: Finished) -> Kept:
    """What a run that has just ended left, without reading its answer once more."""
    outcomes = _outcomes(RunFolder(finished.path))
    return Kept(
        finished.path, study, finished.answer, outcomes, finished.headlines, finished.notes, finished.certainty,
        finished.digest, not finished.failed,
    )  # fmt: skip


def _outcomes(folder: RunFolder) -> dict[int, Mapping[str, Any]]:
    return {line["case"]: line for line in folder.lines() if line.get("done") == "case"}


def _must_be_the_same(path: Place, listed: Sequence[Case], outcomes: Mapping[int, Mapping[str, Any]]) -> None:
    """Refuse a run whose cases another version of this program numbered otherwise."""
    for case in listed:
        best = outcomes.get(case.index, {}).get("best")
        if best and (best["design"], best["chips"]) != (case.design.label, case.chips):
            rule = f"case {case.index} is of another design or size in this version of the program"
            raise problem(path, "", rule, f"{best['design']}, {best['chips']} chips", "run the study again")


@dataclass(frozen=True, slots=True)
class _Run:
    """What a run is made of."""

    study: Study
    folder: RunFolder
    question: Question
    listed: Sequence[Case]
    opened: Callable[[str], Mirror] | None  # a storage for the trials
    open_pool: Callable[[], AbstractContextManager[Pool]]


def _finished(run: _Run, notes: tuple[str, ...]) -> Finished:
    """Compute what the folder lacks, and read the answer back."""
    try:
        return _once(run, notes)
    except DamagedPartError as damage:  # seen only now, when its rows are read
        for part in damage.found:
            part.unlink(missing_ok=True)
        return _once(run, notes)


def _once(run: _Run, notes: tuple[str, ...]) -> Finished:
    path = run.folder.path
    fresh = not store.is_finished(path)
    failed, untried = _compute(run)
    found = add_bands(run.study, _read_back(run))
    lines_of = headlines if run.study.phase == "training" else serving_answer.headlines
    lines = () if run.study.outer else tuple(lines_of(run.study, found.rows))
    sure = _certainty(run, found)
    return Finished(path, store.digest(path), found, (*lines, *_front(run)), notes, fresh, failed, untried, sure)


def _certainty(run: _Run, found: Answer) -> tuple[Mapping[str, Any], ...]:
    """How sure the answer is, where the study asks: from the run folder, or computed and kept there."""
    study = run.study
    if study.uncertainty is None or study.outer is not None or not found.rows:
        return ()
    kept = run.folder.path / _CERTAINTY
    if kept.exists():
        with suppress(ValueError):  # half a file, of a run that was killed in the middle of it
            return tuple(json.loads(kept.read_text()))
    compared = told([one.as_json() for one in comparisons(study, _contests(run, found))])
    if store.is_finished(run.folder.path):  # cases that failed are compared when they are done
        kept.write_text(json.dumps(compared, indent=1) + "\n")
    return tuple(compared)


def _contests(run: _Run, found: Answer) -> Iterator[tuple[str, bool, list[list[dict[str, Any]]]]]:
    """Designs at the same place of their sizes and at the same work, each with the best rows of its case."""
    asked = run.study.uncertainty
    assert asked is not None, "the study does not ask for it"
    best = {row["case"]: row for row in found.rows}
    contests: dict[tuple[str, int], list[Case]] = {}
    for case in run.listed:
        unit = machine(case.design).unit_packages
        for place, asked_for in enumerate(case.design.chips):  # several of its sizes may come to the same whole units
            if case.index in best and round_size(asked_for, unit) == case.chips:
                contests.setdefault((case.work.name, place), []).append(case)
    largest = {work: max(size for own, size in contests if own == work) for work, _ in contests}
    for (work, size), members in contests.items():
        chips = sorted({case.chips for case in members})
        title = f"{work}, {chips[0]:,}{'' if len(chips) == 1 else f' to {chips[-1]:,}'} chips"
        rows = [_best_rows(run, case, asked.layouts) or [dict(best[case.index])] for case in members]
        yield title, size == largest[work], rows


def _best_rows(run: _Run, case: Case, most: int) -> list[dict[str, Any]]:
    """The best rows of a case that the data set holds; none where it holds so many that they are in several parts."""
    part = run.folder.designs / part_name(case)
    return kept_rows([read_table(part)], run.study.search.objective, most) if part.exists() else []


def _front(run: _Run) -> list[str]:
    """A front of serving in words, from the data set."""
    search = run.study.search
    if run.study.phase == "training" or search.rows != "pareto":
        return []
    names = ("design", "number_format", "corner", *search.pareto)
    parts = [read_table(part, names) for part in sorted(run.folder.designs.iterdir(), key=str)]
    rows = {name: [value for part in parts for value in part.column(name).to_pylist()] for name in names}
    return serving_answer.front_lines(run.study, rows)


def _compute(run: _Run) -> tuple[tuple[Mapping[str, Any], ...], int]:
    """Compute what the folder lacks, and copy the trials that a storage lacks.

    Returns what is told of the cases that failed, and how many were not tried.
    """
    study, folder = run.study, run.folder
    fresh = not store.is_finished(folder.path)
    if not fresh and not run.opened:
        return (), 0
    failed: tuple[Mapping[str, Any], ...] = ()
    untried = 0
    with (
        Progress(study.name, study.search.objective, len(run.listed)) as progress,
        _mirrored(study, run.listed, folder, run.opened) as mirror,
    ):
        if fresh:
            with run.open_pool() as workers_pool:
                scheduler = Scheduler(folder, run.question, workers_pool, progress)
                _search(study, scheduler, run.listed, mirror)
            failed, untried = tuple(scheduler.failures), scheduler.untried
        elif study.outer and mirror:
            mirror_outer(study, folder.lines(), mirror)
    if fresh and not failed:
        folder.note({"done": "run"})
    return failed, untried


def _read_back(run: _Run) -> Answer:
    """The answer of the cases that are done."""
    outcomes = _outcomes(run.folder)
    found = _answer(run.study, run.listed, outcomes)
    places = store.row_numbers(run.folder.path, [(row["case"], row["layout_id"]) for row in found.rows])
    for row in found.rows:
        row["row"] = places[row["case"], row["layout_id"]]
    return found


def _opened(study: Study, storage: str | None) -> Callable[[str], Mirror] | None:
    """A mirror in the storage of a URL, for a run by its name; what is wrong with the URL is said at once."""
    if storage is None:
        return None
    if not study.samplers:
        raise problem("--storage", "", "is for trials of Optuna, and this study has none", None, "leave it out")
    with quiet():
        found = open_storage(storage)
    return lambda run: Mirror(found, run, storage)


@contextmanager
def _mirrored(
    study: Study, listed: Sequence[Case], folder: RunFolder, opened: Callable[[str], Mirror] | None
) -> Iterator[Mirror | None]:
    """The mirror of a run's trials while the run goes on; none where Optuna has no part in it."""
    if not study.samplers:
        yield None
        return
    run = folder.path.name
    with quiet(), folder.file("optuna.journal") as journal:
        mirror = opened(run) if opened else Mirror(own_journal(journal), run)
        for case in listed:
            if case.method == "optuna":
                name = f"{case.design.label} {case.work.name} {case.chips} {case.corner}"
                mirror.follow(name, TrialLog(folder.path / FOLDER, case.index))
        with mirror:
            yield mirror


def _search(study: Study, scheduler: Scheduler, listed: Sequence[Case], mirror: Mirror | None) -> None:
    if study.outer is not None and mirror is not None:
        search_outer(study, scheduler, mirror)
    else:
        scheduler.work_off(listed)


def _answer(study: Study, listed: Sequence[Case], outcomes: Mapping[int, Mapping[str, Any]]) -> Answer:
    if study.outer is None:
        return answer(study, [case for case in listed if case.index in outcomes], outcomes)
    from sweep.outer_answer import outer_answer

    return outer_answer(study, outcomes)
