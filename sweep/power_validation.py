"""Measured power against the model: watts, joules and what a cap costs, at the boundary that the meter had.

A case says which machine ran what, up to which boundary its power was metered, how it was cooled and which cap was in
force (sweep/power_cases.py, docs/power.md). The machine is cut to the boundary, and the cost model does the rest. What
cannot be asked is listed with its reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from model.energy import Energy
from model.power import peak_power, rated_power, within
from model.system import System
from sweep import catalogue
from sweep.chip_names import CHIP_SYSTEMS
from sweep.errors import InputError, nearest
from sweep.power_cases import is_power, read_power_case
from sweep.power_runs import Run, served, trained
from sweep.prediction import Prediction
from sweep.published import InexpressibleError, number

__all__ = ["is_power", "predict_power"]


@dataclass(frozen=True, slots=True)
class _Drawn:
    """What a run draws at its boundary, and does; everything per second and of all of its chips."""

    chips: float
    units: float
    watts: float
    peak_w: float = float("nan")
    tokens: float = float("nan")
    flops: float = float("nan")  # of the model
    utilisation: float = float("nan")
    speed: float = float("nan")  # of whatever the run does, in units of its own
    stack: str | None = None
    chosen: str | None = None


def predict_power(case: Mapping[str, Any]) -> list[Prediction]:
    """Predictions for every quantity that a power case measures."""
    blank = Prediction(str(case.get("id")), "not readable", "power_w", None, None, None, None, None, None)
    try:
        return _predicted(read_power_case(case), blank)
    except InexpressibleError as reason:
        return [replace(blank, group="not power", reason=str(reason))]
    except (ValueError, InputError) as fault:
        return [replace(blank, reason=str(fault))]


# ------------------------------------------------------------------------------------------------ asking the model
def _chip(case: Mapping[str, Any]) -> str:
    """The chip of a case, or of its system."""
    return str(case.get("chip") or catalogue.entry("systems", case["system"]).facts["chip"])


def _group(case: Mapping[str, Any]) -> str:
    """Boundary, chip and state, as in "node power H100 training"."""
    label = str(case.get("chip") or case.get("system")).upper().removesuffix("_SXM").replace("_", " ")
    capped = " capped" if case.get("power_cap_w") else ""
    return f"{case['boundary']} power {label} {case['state']}{capped}"


def _predicted(case: Mapping[str, Any], blank: Prediction) -> list[Prediction]:
    rules = (str(case["note"]),) if case.get("note") else ()
    blank = replace(
        blank, group=case.get("group") or _group(case), grade=case.get("grade"), chip=_chip(case), rules=rules
    )
    found = []
    for quantity, measured in case["measured"].items():
        one = replace(blank, quantity=quantity, measured=measured)
        try:
            value, drawn = _quantity(case, quantity)
        except (InexpressibleError, ValueError, InputError) as reason:
            found.append(replace(one, reason=str(reason)))
            continue
        if not measured or not np.isfinite(value):
            found.append(replace(one, reason="the numbers of the case give no finite value"))
            continue
        found.append(
            replace(
                one,
                predicted=value,
                error=value / measured - 1.0,
                stack=drawn.stack,
                chosen=", ".join(filter(None, (*case["assumed"], drawn.chosen))) or None,
            )
        )
    return found


def _quantity(case: Mapping[str, Any], quantity: str) -> tuple[float, _Drawn]:
    """The model's value of a quantity, and the run that it is of."""
    if quantity not in QUANTITIES:
        raise InexpressibleError(f"{quantity!r} is not a quantity of power; {nearest(quantity, QUANTITIES)}")
    drawn = _drawn(case, case.get("power_cap_w"))
    return float(QUANTITIES[quantity](case, drawn)), drawn


def _piece(case: Mapping[str, Any], drawn: _Drawn) -> float:
    """How many pieces of the boundary a run holds: power is given of one."""
    return {"chip": drawn.chips, "node": drawn.units}.get(case["boundary"], 1.0)


def _rating(case: Mapping[str, Any], drawn: _Drawn) -> float:
    """Watts that a piece is rated at: as stated, or with every chip at its cap and every part at its rating."""
    if case.get("rating_w"):
        return float(case["rating_w"])
    machine = within(_machine(case), case["boundary"], case.get("cooling"))
    return float(rated_power(machine, drawn.chips).total) / _piece(case, drawn)


def _relative(case: Mapping[str, Any], drawn: _Drawn) -> float:
    return drawn.speed / _drawn(case, case.get("reference_cap_w")).speed


def _relative_energy(case: Mapping[str, Any], drawn: _Drawn) -> float:
    whole = _drawn(case, case.get("reference_cap_w"))
    return (drawn.watts / drawn.speed) / (whole.watts / whole.speed)


def _joules(case: Mapping[str, Any], drawn: _Drawn) -> float:
    if not case.get("tokens"):
        raise InexpressibleError("tokens is not stated")
    return drawn.watts / drawn.tokens * float(case["tokens"])


QUANTITIES: Mapping[str, Callable[[Mapping[str, Any], _Drawn], float]] = {
    "power_w": lambda case, drawn: drawn.watts / _piece(case, drawn),
    "idle_w": lambda case, drawn: drawn.watts / _piece(case, drawn),
    "peak_power_w": lambda case, drawn: drawn.peak_w / _piece(case, drawn),
    "power_fraction": lambda case, drawn: drawn.watts / _piece(case, drawn) / _rating(case, drawn),
    "peak_power_fraction": lambda case, drawn: drawn.peak_w / _piece(case, drawn) / _rating(case, drawn),
    "energy_j": _joules,
    "energy_per_token_j": lambda case, drawn: drawn.watts / drawn.tokens,
    "energy_per_flop_j": lambda case, drawn: drawn.watts / drawn.flops,
    "relative_throughput": _relative,
    "relative_energy": _relative_energy,
    "tokens_per_s_per_chip": lambda case, drawn: drawn.tokens / drawn.chips,
    "mfu": lambda case, drawn: drawn.utilisation,
}


def _machine(case: Mapping[str, Any]) -> System:
    if case.get("system"):
        return catalogue.system(str(case["system"]))
    name, sold_with = CHIP_SYSTEMS[str(case["chip"])]
    return catalogue.system(name, chip_name=sold_with)


def _cut(case: Mapping[str, Any], system: System, cap_w: float | None) -> System:
    """The machine inside the boundary, with a cap in force."""
    cut = within(system, case["boundary"], case.get("cooling"))
    if cap_w is None:
        return cut
    return replace(cut, chip=replace(cut.chip, power_cap_w=float(cap_w) / cut.chip.ranks_per_package))


def _drawn(case: Mapping[str, Any], cap_w: float | None) -> _Drawn:
    """What the run of a case draws and does with a cap in force."""
    return _STATES[case["state"]](case, cap_w)


def _chips(case: Mapping[str, Any], system: System) -> tuple[float, float]:
    """Packages of a run, and units of the machine: one unit where the case does not say."""
    packages = float(number(case, "num_chips", system.unit_packages))
    if str(case.get("chip")).endswith("_die"):
        packages /= system.chip.ranks_per_package
    return packages, packages / system.unit_packages


def _at_rest(case: Mapping[str, Any], cap_w: float | None) -> _Drawn:
    system = _cut(case, _machine(case), cap_w)
    chips, units = _chips(case, system)
    watts = float(Energy(system, 1.0, chips * system.chip.ranks_per_package, 0.0, 0.0, 0.0).total)
    return _Drawn(chips, units, watts, watts)


def _as_rated(case: Mapping[str, Any], cap_w: float | None) -> _Drawn:
    system = _cut(case, _machine(case), cap_w)
    chips, units = _chips(case, system)
    watts = float(rated_power(system, chips).total)
    return _Drawn(chips, units, watts, watts)


def _compute_bound(case: Mapping[str, Any], cap_w: float | None) -> _Drawn:
    """Kernels that nothing but the matrix clock limits: their speed is the clock."""
    rated = _as_rated(case, cap_w)
    chip = _cut(case, _machine(case), cap_w).chip
    peak = str((case.get("run") or {}).get("number_format") or "bf16")
    if peak not in chip.peak_flops:
        raise InexpressibleError(f"{chip.name} does not compute in {peak}")
    return replace(rated, speed=float(chip.clock(peak)))


def _run_of(case: Mapping[str, Any]) -> dict[str, Any]:
    if not case.get("run"):
        raise InexpressibleError("run is not stated: the training or serving case that was metered")
    shared = {key: case[key] for key in ("chip", "num_chips") if key in case}
    return {**shared, **case["run"]}


def _training(case: Mapping[str, Any], cap_w: float | None) -> _Drawn:
    run = trained(_run_of(case), lambda system: _cut(case, system, cap_w))
    return _of_run(run)


def _serving(case: Mapping[str, Any], cap_w: float | None) -> _Drawn:
    run = served(_run_of(case), lambda system: _cut(case, system, cap_w))
    return _of_run(run)


def _of_run(run: Run) -> _Drawn:
    """The chosen layout of a run; its rank's watts on all chips of the run."""
    cost, row, system = run.cost, run.row, run.system
    shape = np.shape(cost.step_time)

    def at(values: Any) -> float:
        return float(np.broadcast_to(np.asarray(values, float), shape).reshape(-1)[row])

    ranks = at(cost.energy.ranks)
    copies = run.ranks / ranks  # instances of a served model, beside each other
    seconds = at(cost.step_time)
    flops = at(cost.model_flops) / seconds if run.trains else float("nan")
    tokens = copies * (at(cost.tokens) / seconds if run.trains else at(cost.tokens_per_second))
    chips = run.ranks / system.chip.ranks_per_package
    return _Drawn(
        chips=chips,
        units=chips / system.unit_packages,
        watts=copies * at(cost.power),
        peak_w=copies * at(peak_power(cost)),
        tokens=tokens,
        flops=flops,
        utilisation=at(cost.model_flops_utilisation) if run.trains else float("nan"),
        speed=tokens,
        stack=run.stack,
        chosen=run.chosen,
    )


_STATES: Mapping[str, Callable[[Mapping[str, Any], float | None], _Drawn]] = {
    "training": _training, "serving": _serving, "matmul": _compute_bound, "idle": _at_rest, "rated": _as_rated,
}  # fmt: skip
