"""The answer of a study with outer variables: for every design the trials that no other trial beats."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sweep.answer import Answer, Row, why_not
from sweep.columns import QUANTITIES
from sweep.keep import front
from sweep.study import Study


def outer_answer(study: Study, outcomes: Mapping[int, Mapping[str, Any]]) -> Answer:
    """The best trials of each design, workload and number format: one, or a front of several objectives."""
    assert study.outer is not None, "the study has no outer variables"
    groups: dict[tuple[str, str, str], list[Row]] = {}
    failed: list[Row] = []
    for index in sorted(outcomes):
        best = outcomes[index]["best"]
        if best is not None:
            groups.setdefault((best["model"], best["design"], best["number_format"]), []).append(dict(best))
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
    return Answer(rows, [] if rows else failed, tuple(text for text in (f"Rows: {kept}.", share) if text))
