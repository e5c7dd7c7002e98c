"""Constants of the serving engines, fitted together to published runs, and how far they err on runs left out.

    python -m sweep.engine_fit CASES...          # one round: fit, write the engines and the errors, print the errors
    python -m sweep.engine_fit CASES... --check  # fit, and fail where the catalogue's constants are others

What is free stands in sweep/catalogue_data/engine_constants.toml; how it is fitted, in sweep/engine_solve.py. One
round takes errors as linear about the present constants and goes no farther than that holds; rounds are repeated until
--check passes.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from model.layout import Array
from sweep import catalogue
from sweep.engine_constants import Plan, plan, rounded, written
from sweep.engine_rows import SUBJECTS, Row, errors_with, rows_of
from sweep.engine_solve import Problem, left_out, problem, unconfirmed, values
from sweep.residuals import is_rate

DATA = catalogue.DATA / "engine_fit.toml"
REACH = 0.5  # of ln(value + floor), that a round moves a constant by
SETTLED = 0.1  # of the same: constants that move by less are what they were

# What is left out in turn -> key of a row.
WAYS: Mapping[str, Callable[[Row], str]] = {
    "engine": lambda row: row.framework,
    "chip": lambda row: row.chip,
    "model": lambda row: row.model,
}
_HEAD = """# Written by sweep.engine_fit: errors of predictions of published serving runs, in sample and left out.
# `engine`, `chip` and `model`: of rows of a framework, a chip or a model family that the fit did not see.

"""


def errors_of(
    cases: Sequence[Mapping[str, Any]], of: Plan, given: Problem, found: Array, without: Array
) -> dict[str, dict[str, Any]]:
    """Mean absolute errors by grade and quantity: in sample, and with engines, chips and model families left out.

    Each row is predicted anew with the constants that a fit without its engine, chip or family finds.
    """
    given = replace(given, near=None, present=np.zeros(0))
    sets = [{"": found}, *(left_out(given, key, without) for key in WAYS.values())]
    keys: list[Callable[[Row], str]] = [lambda _: "", *WAYS.values()]
    tables = [
        {which: {name: values(of, given.deviations, one, name) for name in of.framework} for which, one in by.items()}
        for by in sets
    ]
    errors = errors_with(
        cases, given.rows, lambda row: [one[key(row)][row.engine] for one, key in zip(tables, keys, strict=True)]
    )
    table: dict[str, dict[str, Any]] = {}
    for grade in ("A", "B"):
        for subject in SUBJECTS:
            chosen = np.array([row.grade == grade and row.subject == subject for row in given.rows])
            if chosen.any():
                table[f"{grade} {subject}"] = {"rows": int(chosen.sum())} | {
                    name: round(_mean_error(given.rows, column, chosen), 3)
                    for name, column in zip(("in_sample", *WAYS), errors.T, strict=True)
                }
    return table


def _mean_error(rows: Sequence[Row], errors: Array, chosen: Array) -> float:
    """Mean of |predicted / measured - 1|, of rates as of times."""
    signs = np.array([-1.0 if is_rate(row.quantity) else 1.0 for row in rows])
    return float(np.mean(np.abs(np.exp(np.clip((signs * errors)[chosen], -3.0, 3.0)) - 1.0)))


def _present(of: Plan) -> dict[str, dict[str, float]]:
    return {
        name: {one.name: float(getattr(catalogue.engine(name), one.name)) for one in of.free(name)}
        for name in of.framework
    }


def fitted(cases: Sequence[Mapping[str, Any]], of: Plan) -> tuple[dict[str, dict[str, float]], dict[str, Any]]:
    """Constants by engine after one round, and the report: counts, shared values, errors."""
    present = _present(of)
    rows = rows_of(cases, of, {name: catalogue.engine(name) for name in of.framework})
    without = unconfirmed(problem(rows, of, present), read()["own"])
    given = problem(rows, of, present, REACH)
    found = given.solve(without=without)
    constants = {name: values(of, given.deviations, found, name) for name in of.framework}
    told = sum(bool(np.any(column)) for column, drop in zip(given.slopes.T, without, strict=True) if not drop)
    own: dict[str, list[str]] = {}
    for one, drop in zip(given.deviations, without, strict=True):
        if one.own and not drop:
            own.setdefault(one.whose, []).append(one.constant)
    report = {
        "counts": {"rows": len(rows), "cases": len({row.id for row in rows}), "constants": told},
        "own": own,
        "errors": errors_of(cases, of, given, found, without),
    }
    return constants, report


def told_text(report: Mapping[str, Any]) -> str:
    """The file of errors."""
    lines = [_HEAD + "[counts]"]
    lines += [f"{key} = {value}" for key, value in report["counts"].items()]
    lines += [
        "",
        "# Constants of a framework that differ from those of its kind, and of the releases of a record from those",
    ]
    lines += ["# of their framework, as runs left out confirm.", "[own]"]
    lines += [f'"{key}" = [{", ".join(f"{name!r}" for name in names)}]' for key, names in report["own"].items()]
    for name, one in report["errors"].items():
        lines += ["", f'[errors."{name}"]', *(f"{key} = {value}" for key, value in one.items())]
    return "\n".join(lines).replace("'", '"') + "\n"


def report_table(report: Mapping[str, Any]) -> str:
    """The errors as a table, as docs/accuracy.md has them."""
    lines = [
        "| grade, quantity | rows | in sample | engine left out | chip left out | model family left out |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, one in report["errors"].items():
        shares = " | ".join(f"{100 * one[key]:.1f} %" for key in ("in_sample", *WAYS))
        lines.append(f"| {name} | {one['rows']} | {shares} |")
    return "\n".join(lines)


def read() -> dict[str, Any]:
    """The report of the last fit."""
    with DATA.open("rb") as file:
        return tomllib.load(file)


def _sources(of: Plan, engine: str, own: Mapping[str, Sequence[str]], counts: Mapping[str, int]) -> dict[str, str]:
    framework = of.framework[engine]
    mine, released = set(own.get(framework, ())), set(own.get(f"{framework}: {engine}", ()))
    among = f"{counts['rows']} quantities of {counts['cases']} published serving runs (docs/accuracy.md)"
    return {
        one.name: f"fit to {among}; "
        + (
            "of these releases"
            if one.name in released
            else f"of {framework.split(': ')[1]}"
            if one.name in mine
            else "shared by its kind"
        )
        for one in of.free(engine)
    }


def _moved(of: Plan, present: Mapping[str, Mapping[str, float]], now: Mapping[str, Mapping[str, float]]) -> list[str]:
    lines = []
    for name, constants in now.items():
        for one in of.free(name):
            was, value = present[name][one.name], rounded(one, constants[one.name])
            step = float(one.encoded(value) - one.encoded(was))
            if abs(step) > SETTLED:
                lines.append(f"{name}: {one.name} is {was:.3g} and would be {value:.3g}")
    return lines


def fit_files(files: Sequence[Path], check: bool) -> int:
    """One round of the fit to files of cases."""
    from sweep.validation import read_cases

    of = plan()
    cases = read_cases(files)
    constants, report = fitted(cases, of)
    moved = _moved(of, _present(of), constants)
    counts = report["counts"]
    sys.stdout.write(report_table(report) + "\n\n")
    sys.stdout.write(f"{counts['constants']} constants on {counts['rows']} rows of {counts['cases']} cases: ")
    sys.stdout.write(f"{counts['rows'] / max(counts['constants'], 1):.1f} rows a constant\n")
    if check:
        sys.stdout.writelines(f"{line}\n" for line in moved)
        return 1 if moved else 0
    for name, found in constants.items():
        file = catalogue.DATA / "engines" / f"{name}.toml"
        text = written(file.read_text(), found, _sources(of, name, report["own"], counts), of)
        file.write_text(text)
    DATA.write_text(told_text(report))
    sys.stdout.write(f"written; {len(moved)} constants moved by more than {SETTLED:.0%}\n")
    return 0


def main(arguments: Sequence[str]) -> int:
    """Fit to files of cases; write the constants, or with --check only compare them."""
    files = [Path(one) for one in arguments if one != "--check"]
    if not files:
        sys.stderr.write("give the files of cases: python -m sweep.engine_fit CASES... [--check]\n")
        return 2
    return fit_files(files, check="--check" in arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
