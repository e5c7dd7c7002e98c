"""How far the model itself errs, beside the numbers that it is given: a factor on every time.

Half of its variance belongs to the software and the kind of model, and is shared by all designs that run them: it
cancels where these are compared. The other half belongs to the chip. Chips whose constants are not fitted to measured
runs err in those constants, which are drawn themselves (sweep/uncertainty/distributions.py).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Literal

import numpy as np

from sweep.uncertainty.points import Column, Points

ModelKind = Literal["dense", "MoE"]
# Standard deviation of log(measured / predicted) of step times: a dense model within 5 % in nine of ten published
# runs, a mixture of experts within 15 % or so.
_LOG_SD: dict[ModelKind, float] = {"dense": 0.04, "MoE": 0.15}
_SHARED = 0.5  # of the variance: belongs to software and kind of model. An assumption.


@dataclass(frozen=True, slots=True)
class ModelError:
    """Measured time over predicted: log-normal, in a part of the software's and a part of the chip's."""

    log_bias: float
    software_sd: float
    chip_sd: float
    software: Column
    chip: Column

    @property
    def columns(self) -> tuple[Column, Column]:
        """What it is drawn along."""
        return self.software, self.chip

    def factor(self, points: Points) -> Any:
        """What a predicted time is to be multiplied by at each point, of shape (P, 1); 1 where no error is drawn."""
        own, shared = points.normal(self.chip), points.normal(self.software)
        if own is None or shared is None:
            return 1.0
        return np.exp(self.log_bias + self.software_sd * shared + self.chip_sd * own)[:, None]


def model_error(software: str, kind: ModelKind, chip: str) -> ModelError:
    """The error of the model for a stack or engine, a kind of model and a chip of the catalogue."""
    log_sd = _LOG_SD[kind]
    return ModelError(
        0.0, log_sd * _SHARED**0.5, log_sd * (1.0 - _SHARED) ** 0.5,
        Column("model", f"{software}, {kind}"), Column("model", f"{chip}, {kind}"),
    )  # fmt: skip


_TIMES = ("step_time", "ttft", "ttft_p99", "tpot", "tpot_p99", "seconds")
_RATES = ("tokens_per_second", "requests_per_second")


def slower(cost: Any, factor: Any) -> Any:
    """A cost whose times are multiplied by a factor, its rates divided; its energy is that of the longer step.

    The parts of its time stay as predicted. Raises TypeError for what is no record.
    """
    if not is_dataclass(cost) or isinstance(cost, type):
        raise TypeError(f"not a record of costs: {cost!r}")
    own: dict[str, Any] = {field.name: getattr(cost, field.name) for field in fields(cost)}
    changes = {name: own[name] * factor for name in _TIMES if name in own}
    changes |= {name: own[name] / factor for name in _RATES if name in own}
    if "energy" in own:
        changes["energy"] = slower(own["energy"], factor)
    return replace(cost, **changes)
