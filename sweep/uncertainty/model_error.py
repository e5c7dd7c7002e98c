"""How far the model itself errs, beside the numbers that it is given: a factor on every time.

The distribution is that of measured over predicted in published runs (sweep/residuals.py). Half of its variance belongs
to the software and the kind of model and is shared by all designs that run them: it cancels where these are compared.
The other half belongs to the chip. Chips of which no run was measured err in what they reach of their peaks as well,
which is drawn with the numbers of their calibrations (sweep/uncertainty/distributions.py) and not a second time here.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Literal

from sweep.residuals import Residual, chip_class, fitted, residual
from sweep.uncertainty.points import Column, Points

ModelKind = Literal["dense", "MoE"]
_SHARED = 0.5  # of the variance: belongs to software and kind of model. An assumption.


@dataclass(frozen=True, slots=True)
class ModelError:
    """Measured time over predicted, and what it is drawn along: half by the software, half by the chip.

    `first` is that of times to first token; None for training.
    """

    time: Residual
    first: Residual | None
    software: Column
    chip: Column

    @property
    def columns(self) -> tuple[Column, Column]:
        """What it is drawn along."""
        return self.software, self.chip

    def factors(self, points: Points) -> tuple[Any, Any]:
        """What predicted times, and times to first token, are to be multiplied by at each point: of shape (P, 1).

        1 where no error is drawn.
        """
        shared, own = points.normal(self.software), points.normal(self.chip)
        if shared is None or own is None:
            return 1.0, 1.0
        normal = (_SHARED**0.5 * shared + (1.0 - _SHARED) ** 0.5 * own)[:, None]
        times = self.time.factor(normal)
        return times, times if self.first is None else self.first.factor(normal)


def model_error(software: str, kind: ModelKind, chip: str, serves: bool = False) -> ModelError:
    """The error of the model for a stack or engine, a kind of model and a chip of the catalogue.

    Raises InputError for another kind of model.
    """
    seen = chip_class(chip) in fitted().classes["serving" if serves else "training"]
    which = chip if seen else None
    return ModelError(
        residual(software, kind, which, "step_time_s", serves),
        residual(software, kind, which, "ttft_s", serves) if serves else None,
        Column("model", f"{software}, {kind}"),
        Column("model", f"{chip}, {kind}"),
    )


_TIMES = ("step_time", "tpot", "tpot_p99", "seconds", "work_s", "exchange_s", "update_s")
_FIRST = ("ttft", "ttft_p99")
_RATES = ("tokens_per_second", "requests_per_second")


def slower(cost: Any, factor: Any, first: Any = 1.0) -> Any:
    """A cost whose times are multiplied by a factor, its rates divided; its energy is that of the longer step.

    Times to first token are multiplied by `first`. The parts of its time stay as predicted. Raises TypeError for what
    is no record.
    """
    if not is_dataclass(cost) or isinstance(cost, type):
        raise TypeError(f"not a record of costs: {cost!r}")
    own: dict[str, Any] = {field.name: getattr(cost, field.name) for field in fields(cost)}
    changes = {name: own[name] * factor for name in _TIMES if name in own}
    changes |= {name: own[name] * first for name in _FIRST if name in own}
    changes |= {name: own[name] / factor for name in _RATES if name in own}
    if "energy" in own:
        changes["energy"] = slower(own["energy"], factor)
    return replace(cost, **changes)
