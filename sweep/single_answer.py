"""What stands behind one answer in two lines: where its time goes, and how far such predictions were off."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sweep import catalogue
from sweep.designs import Design, machine
from sweep.residuals import Residual, residual_of

if TYPE_CHECKING:
    from sweep.asking import Answered

_SHOWN = 4  # parts of the time
_LEAST = 0.005  # share of a part that is shown
_TIMES = {"training": ("step_time_s", "time of a step"), "prefill": ("ttft_s", "time to first token")}


def error_of(design: Design, model: str, quantity: str, serving: bool) -> Residual | None:
    """How far predictions of a design's software and chip for this kind of model were from measurements.

    None for a quantity that was never compared.
    """
    kind = "dense" if catalogue.architecture(model, design.extra).experts is None else "MoE"
    return residual_of(design.stack, kind, machine(design).chip.name, quantity, serving)


def lines(answered: Answered) -> list[str]:
    """The lines of an answer that is one row; none of another."""
    if len(answered.answer.rows) != 1:
        return []
    (row,) = answered.answer.rows
    return [line for line in (_time(row), _error(answered, row)) if line]


def _time(row: Mapping[str, Any]) -> str:
    parts = {name.removeprefix("time_").removesuffix("_s"): value for name, value in row.items()
             if name.startswith("time_") and name.endswith("_s") and value}  # fmt: skip
    whole = sum(parts.values())
    largest = sorted(parts.items(), key=lambda part: -part[1])[:_SHOWN]
    told = [f"{name} {value / whole:.0%}" for name, value in largest if value >= _LEAST * whole]
    return f"Time: {', '.join(told)}" if told else ""


def _error(answered: Answered, row: Mapping[str, Any]) -> str:
    study = answered.study
    quantity, name = _TIMES.get(study.phase, ("tpot_s", "time per output token"))
    design = next(one for one in study.designs if one.label == row["design"])
    found = error_of(design, row["model"], quantity, study.phase != "training")
    if found is None:
        return ""
    low, high = found.band(1.0)
    return f"Measured {name} over predicted, 10 to 90 %: {low:.2f} to {high:.2f} ({found.basis})"
