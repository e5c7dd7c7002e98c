"""The verbs of the command line from Python: each gives the object that its `--json` prints, as plain values.

    import sweep

    run = sweep.run("studies/first_study.toml", workers=0)
    rows = sweep.load(run["run"])                            # a DataFrame
    best = sweep.explain(run["run"])

A study is a path, the text of a study file, a dictionary as TOML would give it, or a `sweep.study.Study`. `overrides`
are as `--set` takes them, in a dictionary: {"search.objective": "mfu", "chips": [96, 192]}.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweep.catalogue import Kind
    from sweep.study import Study

Object = dict[str, Any]
Overrides = Mapping[str, Any] | Sequence[str]


def study_of(study: Study | str | os.PathLike[str] | Mapping[str, Any], overrides: Overrides = ()) -> Study:
    """A study, checked.

    Parameters
    ----------
    study
        A path, the text of a study file, a dictionary, or a study.
    overrides
        Path -> value, or "path=value" each.

    Raises
    ------
    InputError
        With every problem.
    """
    from sweep.overrides import FLAG, with_overrides
    from sweep.study import Study as Checked
    from sweep.study import load, parse
    from sweep.toml_text import toml_text

    changes = _overrides(overrides)
    if isinstance(study, Checked):
        return parse(with_overrides(study.text, changes), "study", study.name) if changes else study
    if isinstance(study, Mapping):
        text = toml_text(study)
    elif isinstance(study, str) and ("\n" in study or "=" in study):
        text = study
    else:
        return load(Path(study), changes)
    return parse(with_overrides(text, changes), f"study with {FLAG}" if changes else "study")


def _overrides(given: Overrides) -> list[str]:
    from sweep.toml_text import toml_value

    if isinstance(given, Mapping):
        return [f"{path}={toml_value(value)}" for path, value in given.items()]
    return list(given)


def _plain(value: Any) -> Any:
    """The value as JSON has it: lists for tuples, and null for what is not finite."""
    from sweep.answer import told

    return json.loads(json.dumps(told(value), allow_nan=False))


# ------------------------------------------------------------------------------------------------ studies
def run(
    study: Study | str | os.PathLike[str] | Mapping[str, Any],
    *,
    out: str | os.PathLike[str] = "runs",
    workers: int | None = None,
    address: str | None = None,
    max_workers: int | None = None,
    storage: str | None = None,
    report: bool = True,
    overrides: Overrides = (),
) -> Object:
    """Run a study, continue it, or read it back where it is finished; see `sweep run`.

    Where nothing is feasible `answer` is empty, and `why_not` says why.
    """
    from sweep.finished import as_object, page_of, why_of
    from sweep.running import run_study

    asked = study_of(study, overrides)
    finished = run_study(asked, out, workers, address, False, storage, max_workers)
    page = page_of(asked, finished) if report else None
    found: Object = _plain(as_object(finished, page, why_of(asked, finished)))
    return found


def plan(
    study: Study | str | os.PathLike[str] | Mapping[str, Any],
    *,
    workers: int | None = None,
    overrides: Overrides = (),
) -> Object:
    """What a study would run; see `sweep plan`."""
    from sweep.planning import plan_study

    asked = study_of(study, overrides)
    found: Object = _plain({"study": asked.name} | plan_study(asked, workers or os.cpu_count() or 1).as_object())
    return found


def try_(*, overrides: Overrides = (), **question: Any) -> Object:
    """One question without a file: `model`, `system`, `chips` and what else `sweep try` takes."""
    from sweep.questions import how_fast

    return _asked("sweep try", how_fast(**question), overrides)


def size(*, overrides: Overrides = (), **question: Any) -> Object:
    """The smallest cluster for a load and targets: `model`, `system`, `load` and what else `sweep size` takes."""
    from sweep.questions import how_small

    return _asked("sweep size", how_small(**question), overrides)


def _asked(command: str, text: str, overrides: Overrides) -> Object:
    from sweep.asking import ask
    from sweep.questions import options_of
    from sweep.sizing import cheapest_first

    answered = ask(text, command, options_of(text), _overrides(overrides))
    found: Object = _plain((cheapest_first(answered) if command == "sweep size" else answered).as_json())
    return found


# ------------------------------------------------------------------------------------------------ designs
def explain(
    row: str | os.PathLike[str] | None = None,
    *,
    model: str | None = None,
    system: str | None = None,
    chips: int | None = None,
    layout: str | None = None,
    batch: int = 1024,
    sequence: int = 4096,
    number_format: str = "bf16",
    stack: str | None = None,
) -> Object:
    """Take a row of a run, its best row, or a layout apart; see `sweep explain`.

    Raises NothingFeasible where no row of the run is feasible.
    """
    from sweep.chosen import chosen_row
    from sweep.explanation import explain_layout

    if row is not None:
        found: Any = chosen_row(str(row), banded=True).found
    else:
        found = explain_layout(
            model=model, system=system, chips=chips, layout=layout, batch=batch, sequence=sequence,
            number_format=number_format, stack=stack,
        )  # fmt: skip
    plain: Object = _plain(found.as_json())
    return plain


def compare(*designs: str | os.PathLike[str], **asked: Any) -> Object:
    """Put designs side by side: rows of runs, runs, or words; see `sweep compare`, whose options `asked` are."""
    from sweep.comparison import Asked, compared

    found: Object = _plain(compared([str(one) for one in designs], Asked(**asked)).as_json())
    return found


def export(row: str | os.PathLike[str] | None = None, *, to: str | None = None, **layout: Any) -> Object:
    """The launch script of a row, or of a layout of training as `sweep.explain` takes it; see `sweep export`."""
    from sweep.launch.export import launch

    chosen = _chosen(row, "sweep export", layout)
    found: Object = _plain(launch(chosen.found, chosen.origin, to).as_json())
    return found


def write_trace(file: str | os.PathLike[str], row: str | os.PathLike[str] | None = None, **layout: Any) -> Object:
    """Write the timeline of a row, or of a layout of training, for Perfetto; see `sweep trace`."""
    from sweep.trace.timeline import written

    found: Object = _plain(written(_chosen(row, "sweep trace", layout), Path(file)))
    return found


def _chosen(row: str | os.PathLike[str] | None, command: str, layout: Mapping[str, Any]) -> Any:
    from sweep.chosen import chosen_layout, chosen_row

    if row is not None:
        return chosen_row(str(row))
    usual = {"model": None, "system": None, "chips": None, "layout": None, "batch": 1024, "sequence": 4096,
             "number_format": "bf16", "stack": None}  # fmt: skip
    return chosen_layout(command=command, **{**usual, **layout})


# ------------------------------------------------------------------------------------------------ runs
def digest(run: str | os.PathLike[str]) -> Object:
    """Hash of a run's rows; see `sweep digest`."""
    from sweep import store

    found = store.find_run(str(run))
    return {"run": str(found), "digest": store.digest(found)}


def write_report(run: str | os.PathLike[str]) -> Object:
    """Write the page of a run anew; see `sweep report`."""
    from sweep.report import write

    return {"report": str(write(str(run)))}


# ------------------------------------------------------------------------------------------------ what it rests on
def validate(*files: str | os.PathLike[str], operators: bool = False) -> Object:
    """Hold the model against measurements; see `sweep validate`."""
    from sweep.errors import problem
    from sweep.validation import predict, read_cases
    from sweep.validation_answer import as_json

    if not files:
        raise problem("validate", "FILES", "needs at least one file of cases", None, "give CASES.jsonl")
    cases = read_cases(tuple(Path(file) for file in files))
    if operators:
        from sweep.operators import predict as predict_operators

        predictions = predict_operators(cases)
    else:
        predictions = [one for case in cases for one in predict(case)]
    found: Object = _plain(as_json(predictions))
    return found


def list_(kind: Kind = "systems") -> Object:
    """The entries of a kind in the catalogue; see `sweep list`."""
    from sweep.commands.catalogue import entries_json

    found: Object = _plain(entries_json(kind))
    return found


def show(name: str) -> Object:
    """Everything known about a name; see `sweep show`."""
    from sweep.commands.catalogue import named_json

    found: Object = _plain(named_json(name))
    return found


def import_(
    config: str | os.PathLike[str],
    *,
    name: str | None = None,
    like: str | None = None,
    catalogue: str | os.PathLike[str] | None = None,
) -> Object:
    """A Hugging Face config.json as a model; see `sweep import`."""
    from sweep.hugging_face.record import imported, written

    made = imported(Path(config), name, like)
    file = None if catalogue is None else str(written(made, Path(catalogue)))
    found: Object = _plain(made.as_json() | {"file": file})
    return found


def schema(name: str = "study") -> Object:
    """A JSON Schema; see `sweep schema`."""
    from sweep.errors import nearest, problem
    from sweep.json_schemas import NAMES
    from sweep.json_schemas import schema as schema_of

    if name not in NAMES:
        raise problem("sweep schema", "NAME", "no schema of this name", name, nearest(name, NAMES))
    found: Object = schema_of(name)
    return found
