"""`sweep validate`: the model held against published measurements."""

from __future__ import annotations

import json as json_text
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

if TYPE_CHECKING:
    from sweep.prediction import GroupError, Prediction


def validate(
    *files: Path,
    json: Annotated[bool, Parameter(negative="")] = False,
    all_cases: Annotated[bool, Parameter(name="--all", negative="")] = False,
    operators: Annotated[bool, Parameter(negative="")] = False,
    html: Annotated[bool | Path, Parameter(negative="")] = False,
) -> None:
    """Hold the model against published measurements: error per case, mean, median, maximum by group.

    Parameters
    ----------
    files
        JSON Lines files of cases; their form is in docs/validation-cases.md.
    json
        Print one JSON object: `cases` and `groups`.
    all_cases
        List every case, and every column of the groups; without it, the groups and the cases without a prediction.
    operators
        The files hold measured operators (collectives, dispatch and combine, matmuls, attention), not cases.
    html
        Write a page as well: predicted against measured, residuals, bands, worst misses. A FILE.html may follow; else
        the page is validation.html here.
    """
    from sweep.errors import InputError, Problem
    from sweep.validation import predict, read_cases

    files, page = _page_file(files, html)
    if not files:
        raise InputError([Problem("validate", "FILES", "needs at least one file of cases", None, "give CASES.jsonl")])
    if operators:
        from sweep.operators import predict as predict_operators

        predictions = predict_operators(read_cases(files))
    else:
        predictions = [one for case in read_cases(files) for one in predict(case)]
    if page is not None:
        _write_page(page, predictions, files)
    if json:
        from sweep.validation_answer import as_json

        sys.stdout.write(json_text.dumps(as_json(predictions), allow_nan=False) + "\n")
        return
    _show(predictions, all_cases)


PAGE = Path("validation.html")


def _page_file(files: tuple[Path, ...], html: bool | Path) -> tuple[tuple[Path, ...], Path | None]:
    """Files of cases, and the file that the page goes to; what follows `--html` may be a file of cases too."""
    if isinstance(html, Path):
        return (files, html) if html.suffix.lower() in (".html", ".htm") else ((*files, html), PAGE)
    return files, PAGE if html else None


def _write_page(file: Path, predictions: Sequence[Prediction], files: Sequence[Path]) -> None:
    from sweep.errors import InputError, Problem
    from sweep.validation_page import validation_page

    text = validation_page(predictions, files)
    try:
        file.write_text(text, encoding="utf-8", errors="replace")
    except OSError as failure:
        remedy = "name a file in a folder that exists and may be written"
        raise InputError([Problem("validate", "--html", f"cannot be written: {failure}", str(file), remedy)]) from None
    sys.stderr.write(f"page: {file}\n")


def _show(predictions: Sequence[Prediction], all_cases: bool) -> None:
    from collections import Counter

    from sweep.commands.terminal import console as opened
    from sweep.prediction import summarise

    console = opened(140, folds=True)
    if all_cases:
        console.print(_cases_table(predictions))
    groups = summarise(predictions)
    console.print(_groups_table(groups, all_cases))
    for one in groups:
        if one.remark:
            console.print(f"{one.group}, {one.quantity}: {one.remark}")
    _show_ranking(console, predictions)
    _show_memory(console, predictions)
    missing = Counter(one.reason for one in predictions if one.reason)
    for reason, count in missing.most_common():
        console.print(f"{count:5d} not predicted: {reason}")
    guessed = sum(1 for one in predictions if one.chosen)
    if guessed:
        console.print(f"{guessed:5d} predicted with something that the source leaves open (see --all, column 'chosen')")


def _show_ranking(console: Any, predictions: Sequence[Prediction]) -> None:
    from sweep.ranking import rankings, summed

    for same_release, of in ((True, "the same software"), (False, "releases of a framework mixed")):
        total = summed(rankings(predictions, same_release))
        if total is not None:
            tau = (
                "no pairs beyond noise" if total.tau is None else f"Kendall's tau {total.tau:.2f}, {total.pairs} pairs"
            )
            console.print(
                f"order of layouts, {of}: {total.groups} groups, {tau}, regret {100 * total.regret:.1f} % "
                f"(worst {100 * total.worst_regret:.1f} %)"
            )


def _show_memory(console: Any, predictions: Sequence[Prediction]) -> None:
    from sweep.memory_cases import checked

    check = checked(predictions)
    if check.ran_but_not_predicted:
        console.print(
            f"{len(check.ran_but_not_predicted):5d} of {check.ran} ran, but are predicted not to fit in memory"
        )
    if check.ran_out:
        wrong = len(check.ran_out_but_predicted)
        console.print(f"{wrong:5d} of {check.ran_out} ran out of memory, but are predicted to fit")


def _percent(value: float) -> str:
    return f"{100 * value:+.1f} %"


def _cases_table(predictions: Sequence[Prediction]) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("case", "quantity", "measured", "predicted", "error", "10 to 90 %", "stack", "taken for", "chosen"):
        left = heading in ("case", "quantity", "stack", "taken for", "chosen")
        table.add_column(heading, justify="left" if left else "right")
    for one in predictions:
        if one.predicted is None or one.measured is None or one.error is None:
            continue
        scale, digits = (1e9, 2) if one.quantity == "memory_bytes" else (1.0, 3)
        table.add_row(
            one.id, one.quantity.replace("_bytes", "_gb"), f"{one.measured / scale:.{digits}f}",
            f"{one.predicted / scale:.{digits}f}", _percent(one.error), _band(one, scale, digits), one.stack or "",
            one.stack_why or "", one.chosen or "",
        )  # fmt: skip
    return table


def _band(one: Prediction, scale: float, digits: int) -> str:
    if one.low is None or one.high is None:
        return ""
    text = f"{one.low / scale:.{digits}f} to {one.high / scale:.{digits}f}"
    return text if one.covered else f"{text} (outside)"


def _groups_table(groups: Sequence[GroupError], wide: bool) -> Any:
    from rich.table import Table

    naive = wide and any(one.roofline is not None for one in groups)
    bands = wide and any(one.coverage is not None for one in groups)
    table = Table(box=None, pad_edge=False)
    table.add_column("group")
    table.add_column("quantity")
    headings = ["cases", "mean |error|", *(["median"] if wide else []), "90 %", "max", "bias"]
    for heading in (*headings, *(["in band"] if bands else []), *(["roofline", "constant"] if naive else [])):
        table.add_column(heading, justify="right")
    for one in groups:
        errors = [one.mean_absolute_error, *([one.median] if wide else []), one.p90, one.max]
        held = ["" if one.coverage is None else f"{100 * one.coverage:.0f} %"] if bands else []
        bound = ["" if error is None else f"{100 * error:.1f} %" for error in (one.roofline, one.constant)]
        table.add_row(
            one.group, one.quantity, str(one.n), *(f"{100 * error:.1f} %" for error in errors), _percent(one.bias),
            *held, *(bound if naive else []),
        )  # fmt: skip
    return table
