"""The shipped fit of training: how far it carries, no constant for one row, and its tables in the documents."""

from __future__ import annotations

import sys
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from sweep import catalogue
from sweep.accuracy_tables import TABLES, Runs, filled
from sweep.fit.constants import plan
from sweep.fit.record import Fitted, fitted
from tests.published import test_serving_runs
from tests.published.test_training_steps import predictions

ROOT = Path(__file__).parents[2]
OWN = "fit to published step times, confirmed on runs left out"
FEWEST = 3  # runs that a record with a constant of its own has for each of them


def share(name: str, fit: Fitted | None = None) -> float:
    """Mean absolute error in sample of a line of the fit's table."""
    return next(one.in_sample for one in (fit or fitted()).shares if one.name == name)


def without(name: str, what: str) -> float:
    """The same with constants from other frameworks, chips or families of models."""
    found = next(one for one in fitted().shares if one.name == name)
    return dict(found.left_out)[what]  # type: ignore[index]


@pytest.mark.parametrize(
    ("rows", "in_sample", "framework"),
    [
        ("A dense", 0.04, 0.07),
        ("A MoE", 0.08, 0.12),
        ("B dense", 0.05, 0.09),
        ("B MoE", 0.05, 0.15),
    ],
)
def test_errors_in_sample_and_of_frameworks_left_out(rows: str, in_sample: float, framework: float) -> None:
    """Mean step-time errors by grade and kind of model, with the shipped constants and without the runs' framework."""
    assert share(rows) <= in_sample
    assert without(rows, "framework") <= framework


def test_errors_of_ascend_and_tpu_rows() -> None:
    """Ascend 910B and TPU rows are within 12 % on average."""
    assert share("910B") <= 0.12
    assert share("TPU") <= 0.12


@cache
def runs_of_records() -> Counter[str]:
    """Predicted runs of every stack and of those that it is like."""
    return Counter(
        entry.name
        for one in predictions()
        if one.quantity == "step_time_s" and one.error is not None and one.stack is not None
        for entry in catalogue.lineage(catalogue.entry("stacks", one.stack))
    )


def own_constants() -> Counter[str]:
    """Constants that stacks have of their own, by stack."""
    fields = {one.field for one in plan() if one.of == "stacks"}
    return Counter(
        name
        for name in catalogue.names("stacks")
        for field, quantity in catalogue.entry("stacks", name).quantities.items()
        if field in fields and quantity.source.startswith(OWN)
    )


def test_no_constant_serves_one_row() -> None:
    """There are several runs for each fitted constant, over all and of every stack that has constants of its own."""
    fit, own = fitted(), own_constants()
    ratio = fit.runs / (fit.shared + fit.own)
    sys.stdout.write(f"{ratio:.1f} runs a constant: {fit.runs} for {fit.shared} shared and {fit.own} own constants\n")
    for name, constants in sorted(own.items()):
        sys.stdout.write(f"{name}: {runs_of_records()[name]} runs for {constants} of its own\n")
        assert runs_of_records()[name] >= FEWEST * constants
    assert own
    assert ratio >= 5.0


def test_the_errors_are_of_the_shipped_constants() -> None:
    """What the fit wrote of all grades in sample is what the catalogue gives now."""
    for grade, kind in (("A", "dense"), ("A", "MoE"), ("B", "dense"), ("B", "MoE")):
        errors = [
            abs(one.error)
            for one in predictions()
            if one.quantity == "step_time_s" and one.error is not None and (one.grade, one.kind) == (grade, kind)
        ]
        assert sum(errors) / len(errors) == pytest.approx(share(f"{grade} {kind}"), abs=0.003)


@pytest.mark.parametrize("file", ["docs/accuracy.md", "README.md"])
def test_the_documents_hold_the_tables(file: str) -> None:
    """Tables of errors are those of now: `python -m sweep.accuracy_tables` writes them."""
    text = (ROOT / file).read_text(encoding="utf-8")
    assert any(f"<!-- table {name} -->" in text for name in TABLES)
    assert filled(text, Runs(predictions(), test_serving_runs.predictions())) == text, (
        f"{file} is stale: python -m sweep.accuracy_tables tests/published/*_cases.jsonl --into {file}"
    )
