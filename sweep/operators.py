"""The model's operators against measured ones: collectives, dispatch and combine, matmuls, attention, row by row.

One parameter set per chip and machine; a group of errors is a kind of operator on a chip.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from sweep.operator_forms import Operation, predicted_seconds
from sweep.operator_rows import Row, operations
from sweep.prediction import Prediction
from sweep.published import InexpressibleError


def predict(rows: Iterable[Row]) -> list[Prediction]:
    """Predictions for every row, in their order; the reason where there is none."""
    predictions: list[Prediction] = []
    found: list[Operation] = []
    places: list[int] = []
    for row in rows:
        blank = Prediction(
            str(row.get("id")), f"{row.get('kind')}, {row.get('chip_key')}", "seconds", None, None, None, None, None
        )
        try:
            read = operations(row)
        except InexpressibleError as reason:
            predictions.append(replace(blank, reason=str(reason)))
            continue
        for one in read:
            places.append(len(predictions))
            found.append(one)
            predictions.append(
                replace(blank, group=one.group, quantity=one.quantity, measured=one.measured, chosen=one.assumed)
            )
    for at, one, seconds in zip(places, found, predicted_seconds(found), strict=True):
        predictions[at] = replace(
            predictions[at], predicted=float(seconds), error=float(seconds) / one.measured - 1.0, measured_how=one.kind
        )
    return predictions
