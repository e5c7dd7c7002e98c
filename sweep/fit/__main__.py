"""Fit the constants of training to published runs, and hold the fit against runs that it was not made with.

    python -m sweep.fit CASES...          # fit, write the catalogue and the errors, print both
    python -m sweep.fit CASES... --check  # fit, and fail where the catalogue holds other constants

The plan (sweep/fit/plan.toml) says which constants are free, within what bounds and how alike they are expected to be;
everything else in the catalogue is a fact, or comes from measured operators.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from sweep.errors import InputError
from sweep.fit.confirm import confirmed
from sweep.fit.left_out import LEFT, predicted_without, shares
from sweep.fit.minimum import minimum
from sweep.fit.record import ERRORS, Fitted, Line, errors_text, held_free, lines, table, write
from sweep.fit.runs import held_errors, linear, runs_of, start, unknowns

_SAME = 0.03  # a constant of the catalogue is the fitted one within this
_SAME_LOSS = 0.005  # or all of them fit as well within this: hardly a run knows of some
_ROUNDS = 4  # of asking what is confirmed, each about the last one's constants, until the answer stays


def main(arguments: Sequence[str]) -> int:
    """Fit; write, or with --check only compare."""
    from sweep.validation import read_cases

    check = "--check" in arguments
    files = [Path(one) for one in arguments if one != "--check"]
    try:
        runs = runs_of(read_cases(files))
    except InputError as fault:
        sys.stderr.write(f"{fault}\n")
        return 2
    of = unknowns(runs)
    before = held_free(of)
    model = held = linear(runs, of, start(of, before))
    for _ in range(1 if check else _ROUNDS):
        kept = confirmed(model, of, runs, before=before)
        model = linear(runs, of, minimum(runs, of, model.point, kept))
        settled = np.array_equal(kept, before)
        if settled:
            break
        before = kept
    found = lines(of, model, model.point, kept)
    if check:
        as_well = settled and held.loss * (1.0 - _SAME_LOSS) <= model.loss
        stale = [text for line in found if (text := _stale(line))] if not as_well else []
        sys.stdout.write("\n".join(stale) + "\n" if stale else "the catalogue holds the fitted constants\n")
        return 1 if stale else 0
    write(found)
    # a new process reads the catalogue as it is written now
    with ProcessPoolExecutor(1, get_context("spawn")) as fresh:
        in_sample = np.array(fresh.submit(held_errors, files).result())
    without = {what: predicted_without(what, model, of, runs) for what in LEFT}
    own = sum(1 for node, free in zip(of.nodes, kept, strict=True) if free and len(node) > 2)
    fit = Fitted(len(runs), len(of.free), int(kept.sum()) - own, own, tuple(shares(runs, in_sample, without)))
    ERRORS.write_text(errors_text(fit), encoding="utf-8")
    sys.stdout.write(f"{fit.shared} shared and {fit.own} own constants on {fit.runs} runs\n\n{table(fit)}")
    return 0


def _stale(line: Line) -> str:
    """How a file differs from a line of the fit; empty where it does not."""
    import tomllib

    from model.units import SECONDS, parse

    at = tomllib.loads(line.file.read_text(encoding="utf-8"))
    for step in line.table.split(".") if line.table else ():
        at = at.get(step, {})
    held = at.get(line.name)
    place = f"{line.file.parent.name}/{line.file.name}: {f'{line.table}.' if line.table else ''}{line.name}"
    if line.value is None:
        return f"{place} is stated, and no run confirms it" if held is not None else ""
    value = held["value"] if isinstance(held, dict) else held
    value = parse(value, SECONDS) if isinstance(value, str) else value
    if value is None or abs(float(value) - line.value) > _SAME * max(abs(line.value), 0.1):
        return f"{place} is {value}, fitted {line.value:g}"
    return ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
