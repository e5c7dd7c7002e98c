"""Which records have constants of their own: those of which runs that were not fitted to say so.

A record's own addition to its kind is kept where it lowers the loss of the record's runs, each predicted by constants
fitted to the others: its runs are split by family of models and chip (or framework), in turn left out. What is not
confirmed stays with the kind, so that no constant serves the rows that it was fitted to alone. One that the catalogue
holds already needs less to stay than another to come: else fits of the same runs go to and fro between near equals.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from sweep.fit.regression import Linear, loss, solved
from sweep.fit.runs import Run, Unknowns

LEAST_GAIN = 0.05  # of the loss that is left out, from which an own constant counts as confirmed
STAYS = 0.02  # from which one that was confirmed before stays so
_FOLDS = 5
_FEW = 3  # kinds of runs below which sizes tell them apart too
_ROUNDS = 2


def confirmed(model: Linear, of: Unknowns, runs: Sequence[Run], rows: Any = None, before: Any = None) -> Any:
    """(nodes,) mask of the unknowns that are free: all but a record's own that nothing confirms.

    Parameters
    ----------
    rows : (n,) mask of the runs that may be looked at; all.
    before : (nodes,) mask of what was confirmed in an earlier fit of the same runs; nothing.
    """
    rows = np.ones(len(runs), bool) if rows is None else rows
    gains = np.where(np.zeros(len(of.nodes), bool) if before is None else before, STAYS, LEAST_GAIN)
    kept = np.array([not _is_own(node) for node in of.nodes])
    for _ in range(_ROUNDS):
        point = solved(model, rows, kept)
        for record in dict.fromkeys(node[-1] for node in of.nodes if _is_own(node)):
            at = np.array([_is_own(node) and node[-1] == record for node in of.nodes])
            base = np.where(at, model.expected, point)
            kept = (kept & ~at) | _of_record(model, runs, rows, at, base, record, gains)
    return kept


def _is_own(node: tuple[str, ...]) -> bool:
    """Whether an unknown belongs to one record: below the field and the kind of record."""
    return len(node) > 2


def _of_record(
    model: Linear, runs: Sequence[Run], rows: Any, candidates: Any, base: Any, record: str, gains: Any
) -> Any:
    """(nodes,) mask of a record's own constants, added one by one as long as the runs left out gain enough."""
    at = np.flatnonzero(rows & np.array([record in (*run.stacks, run.calibration) for run in runs]))
    columns = np.flatnonzero(candidates)
    moves = np.any(model.slopes[np.ix_(at, columns)] != 0.0, axis=0)  # the others no run of the record knows of
    columns = columns[moves]
    folds = list(_folds([runs[index] for index in map(int, at)]))
    kept = np.zeros(len(columns), bool)
    if len(folds) > 1 and len(columns):
        own = model.among(at, columns, base)
        best, gained = _left_out(own, folds, kept), True
        while gained and not kept.all():
            tried = {node: _left_out(own, folds, kept | _at(node, kept)) for node in map(int, np.flatnonzero(~kept))}
            enough = {node: lost for node, lost in tried.items() if lost <= best * (1.0 - gains[columns[node]])}
            gained = bool(enough)
            if gained:
                node = min(enough, key=lambda one: enough[one])
                kept[node], best = True, enough[node]
    found = np.zeros(len(candidates), bool)
    found[columns[kept]] = True
    return found


def _at(node: int, like: Any) -> Any:
    return np.arange(len(like)) == node


def _left_out(own: Linear, folds: Sequence[Any], moving: Any) -> float:
    """Loss of a record's runs, each part predicted with constants fitted to the others."""
    errors = own.residuals.copy()
    if moving.any():
        for fold in folds:
            point = solved(own, ~fold, moving, own.point)
            errors[fold] += own.slopes[fold] @ (point - own.point)
    return loss(errors, own.weights)


def _folds(runs: Sequence[Run]) -> Iterator[Any]:
    """Masks of the parts that a record's runs are split into: by models and chips, else by sizes of model and job."""
    labels = [(run.family, run.chip, run.framework, 0, 0) for run in runs]
    if len(set(labels)) < _FEW:
        labels = [(*label[:3], *_sizes(run)) for label, run in zip(labels, runs, strict=True)]
    order = sorted(set(labels))
    part = np.array([order.index(label) % _FOLDS for label in labels])
    for fold in range(min(_FOLDS, len(order))):
        yield part == fold


def _sizes(run: Run) -> tuple[int, int]:
    return int((run.case.get("arch") or {}).get("hidden") or 0), int(run.case.get("num_chips") or 0)
