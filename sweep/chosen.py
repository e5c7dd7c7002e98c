"""The one row or layout that a command is about: a row of a run, its best row, or a layout given in words."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sweep.columns import QUANTITIES
from sweep.errors import NothingFeasible, problem

if TYPE_CHECKING:
    from sweep.explanation import Explanation
    from sweep.relaxations import WhyNot
    from sweep.serving_explanation import ServedExplanation
    from sweep.store import Place

_OBJECTIVE = "tokens_per_s"  # of a study that names none


@dataclass(frozen=True, slots=True)
class Chosen:
    """What a command is about, and where it comes from in words."""

    found: Explanation | ServedExplanation
    origin: str


def chosen_row(reference: str, banded: bool = False) -> Chosen:
    """A row given as RUN#ROW, or the best row of RUN by its study's objective.

    `banded`: with how sure it is, and what it rests on, which takes a second.

    Raises
    ------
    InputError
        Where the run or the row does not exist.
    NothingFeasible
        Where no row of the run is feasible.
    """
    from sweep.explanation import explain_row

    if "#" in reference:
        return Chosen(explain_row(reference, banded), f"row {reference}")
    from sweep.store import find_run, place

    run = find_run(place(reference))
    number, quantity = best_row(run)
    whole = f"{reference.rstrip('/')}#{number}"
    return Chosen(explain_row(whole, banded), f"row {whole}, the best of the run by {quantity}")


def best_row(run: Place) -> tuple[int, str]:
    """Place of the best feasible row of a run, counted from 0, and the quantity that it is best by.

    Machines as they are nominally; of equal rows the first. Raises NothingFeasible, with why, where no row is.
    """
    from sweep.store.parts import read_table

    try:
        study = tomllib.loads((run / "study.toml").read_bytes().decode("utf-8"))
    except (OSError, ValueError, RecursionError) as failure:
        raise problem(run, "study.toml", f"cannot be read: {failure}") from None
    named = study.get("outer", {}).get("objectives") or study.get("search", {}).get("objective") or _OBJECTIVE
    quantity = QUANTITIES[named if isinstance(named, str) else named[0]]
    before, best, at = 0, np.inf, -1
    from sweep.store import parts_of

    for part in parts_of(run):
        rows = read_table(part, [quantity.name, "feasible", "corner"])
        values = quantity.sign * np.asarray(rows[quantity.name].to_numpy(), float)
        legal = np.asarray(rows["feasible"].to_numpy(), bool) & (
            np.asarray(rows["corner"].to_pylist(), object) == "nominal"
        )
        values = np.where(legal & ~np.isnan(values), values, np.inf)
        if len(values) and values.min() < best:
            best, at = float(values.min()), before + int(values.argmin())
        before += rows.num_rows
    if at < 0:
        raise NothingFeasible("\n".join(why_not_of(run).lines()))
    return at, quantity.name


def why_not_of(run: Place) -> WhyNot:
    """Why a run has no feasible row."""
    from sweep.relaxations import why_nothing
    from sweep.running import kept

    with kept(run) as found:
        return why_nothing(found.study, found.answer.failed)


def chosen_layout(**given: Any) -> Chosen:
    """A layout given in words, as `sweep explain` takes it. Raises InputError with what is missing or wrong."""
    from sweep.explanation import explain_layout

    return Chosen(explain_layout(**given, banded=False), "the layout on the command line")


def chosen_answer(text: str, command: str, options: dict[str, str]) -> Chosen:
    """The best row of a study that is answered in this process.

    Parameters
    ----------
    text
        The study.
    command
        Its name in messages.
    options
        Key of the study -> option that it came from.

    Raises
    ------
    InputError
        With every problem, by the options.
    NothingFeasible
        Where no layout meets the targets.
    """
    from sweep.asking import ask
    from sweep.explanation import explain_found

    answered = ask(text, command, options)
    if answered.why_not is not None:
        raise NothingFeasible("\n".join(answered.why_not.lines()))
    row = answered.answer.rows[0]
    notes = "".join(f"; {note.partition(': ')[2]}" for note in answered.notes if note.startswith(f"{row['design']}: "))
    return Chosen(explain_found(row, None, banded=False), f"the best layout found for the question{notes}")
