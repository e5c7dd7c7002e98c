"""The answer of a study with outer variables: for every design the trials that no other trial beats."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from model import units
from sweep.answer import Answer, Row, add_totals, why_not
from sweep.columns import QUANTITIES
from sweep.designs import Design, changes_of, dimension_of, machine, number_at
from sweep.keep import front
from sweep.study import OUTER_PLAIN, Outer, Study


def outer_answer(study: Study, outcomes: Mapping[int, Mapping[str, Any]]) -> Answer:
    """The best trials of each design, workload and number format: one, or a front of several objectives."""
    assert study.outer is not None, "the study has no outer variables"
    groups: dict[tuple[str, str, str], list[Row]] = {}
    failed: list[Row] = []
    for index in sorted(outcomes):
        best = outcomes[index]["best"]
        if best is not None:
            row = dict(best)
            add_totals(row)
            groups.setdefault((row["model"], row["design"], row["number_format"]), []).append(row)
        else:
            failed.append({"case": index, "reason": why_not(outcomes[index])})
    rows = []
    for group in groups.values():
        read = [(QUANTITIES[name].sign, name) for name in study.outer.objectives]
        values = np.asarray([[sign * row[name] for sign, name in read] for row in group])
        chosen = front(values, np.asarray([row["trial"] for row in group]))
        rows += sorted((group[i] for i in chosen), key=lambda row: (read[0][0] * row[read[0][1]], row["trial"]))
    share = f"{len(failed)} of {len(outcomes)} trials have no feasible layout." if failed else ""
    kept = "no other trial of the design beats them" if len(study.outer.objectives) > 1 else "the best of each design"
    told = (f"Rows: {kept}.", share, *_standings(study, study.outer, groups))
    return Answer(rows, [] if rows else failed, tuple(text for text in told if text))


# ------------------------------------------------------------------------------------------ what it would have to be
def _standings(study: Study, outer: Outer, groups: Mapping[tuple[str, str, str], list[Row]]) -> Iterator[str]:
    """Of each varied design and each that stands beside it: which trials beat it, and what they have in common."""
    if not outer.designs:
        return
    for (model, label, number_format), trials in groups.items():
        if label not in outer.designs:
            continue
        for (other_model, other, other_format), fixed in groups.items():
            if other_model == model and other not in outer.designs and other_format == number_format:
                yield _standing(study, outer, trials, _best(outer, fixed))


def _best(outer: Outer, rows: Sequence[Row]) -> Row:
    """The best row by the first objective."""
    sign = QUANTITIES[outer.objectives[0]].sign
    return min(rows, key=lambda row: sign * row[outer.objectives[0]])


def _standing(study: Study, outer: Outer, trials: Sequence[Row], fixed: Row) -> str:
    """How many trials beat a row in every objective, between which values, and the one nearest to the catalogue."""
    read = [(QUANTITIES[name].sign, name) for name in outer.objectives]
    beating = [row for row in trials if all(sign * row[name] < sign * fixed[name] for sign, name in read)]
    names = ", ".join(outer.objectives)
    text = f"{trials[0]['design']} ({trials[0]['model']}) beats {fixed['design']} in {names} "
    if not beating:
        alone = [f"{sum(s * row[n] < s * fixed[n] for row in trials):,} in {n}" for s, n in read]
        return f"{text}in none of {len(trials):,} trials ({', '.join(alone)})."
    values = [_proposed(outer, row) for row in beating]
    spans = []
    for variable in outer.variables:
        ends = [_shown(variable.name, end(one[variable.name] for one in values)) for end in (min, max)]
        spans.append(f"{variable.name} {' to '.join(ends)}")
    design = next(one for one in study.designs if one.label == trials[0]["design"])
    nearest = min(range(len(beating)), key=lambda i: (_distance(design, values[i]), beating[i]["trial"]))
    own = ", ".join(f"{name} {_shown(name, value)}" for name, value in values[nearest].items())
    return (
        f"{text}in {len(beating):,} of {len(trials):,} trials, with {'; '.join(spans)}. "
        f"Nearest to the catalogue: {own}."
    )


def _proposed(outer: Outer, row: Row) -> dict[str, float]:
    """The values of a trial's variables."""
    found = {**dict(changes_of(row)), "chips": row["chips"], "batch": row.get("gbs", 0)}
    return {variable.name: found[variable.name] for variable in outer.variables}


def _shown(name: str, value: float) -> str:
    """A value of a variable as people read it."""
    return f"{value:,}" if name in OUTER_PLAIN else units.show(value, dimension_of(name).unit)


def _distance(design: Design, values: Mapping[str, float]) -> float:
    """Sum of the logarithms of what is changed; what the catalogue sets to nothing, or not at all, is not counted."""
    system = machine(design)
    known = {path: number_at(system, path) or 0.0 for path in values if path not in OUTER_PLAIN}
    return sum(abs(math.log(values[path] / own)) for path, own in known.items() if own > 0.0)
