"""By how much layouts are over their limits, as shares of these: of memory, and of the bounds that a study sets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from model.cost import StepCost
from model.layout import Array
from model.stack import Stack
from model.system import System
from model.units import show
from sweep.columns import QUANTITIES

LIMIT = "limit_"  # before the name of a quantity that a study bounds
HBM = "hbm_bytes"
HOST = "host_bytes"
SEQUENCES = "engine_sequences"
INSTANCES = "instances"
_WORDS = {HBM: "HBM", HOST: "host memory", SEQUENCES: "sequences of the engine", INSTANCES: "chips"}

Limits = tuple[tuple[str, str, float], ...]  # quantity, sense ("<=" or ">="), bound in SI units


def rule_word(name: str) -> str:
    """A rule as people name it: a target by its key, as in "tpot"."""
    quantity = name.removeprefix(LIMIT)
    if quantity in ("tpot_s", "ttft_s", "tpot_p99_s", "ttft_p99_s"):
        return quantity.removesuffix("_s")
    return _WORDS.get(name, quantity)


def over_text(violations: Mapping[str, float]) -> str:
    """Broken rules, each with its excess in the rule's unit, as in "HBM over by 61 GB; tpot over by 3 ms"."""
    return "; ".join(
        f"{rule_word(name)} over by {show(excess, rule_unit(name))}" for name, excess in violations.items()
    )


def rule_unit(name: str) -> str:
    """The unit that a rule's excess is in; empty for a number."""
    if name in (HBM, HOST):
        return "byte"
    quantity = QUANTITIES.get(name.removeprefix(LIMIT))
    return quantity.dimension.unit if quantity else ""


def share_over(value: Any, sense: str, limit: float) -> Array:
    """By how much of its limit a value is over it (any shape); 0 where it is within, infinite where it is unknown."""
    excess = np.asarray(value, float) - limit if sense == "<=" else limit - np.asarray(value, float)
    return np.asarray(np.nan_to_num(np.maximum(excess / (abs(limit) or 1.0), 0.0), nan=np.inf))


def shares_over(cost: StepCost, stack: Stack, system: System, limits: Limits) -> dict[str, Array]:
    """Rule -> the share of its limit by which each layout of a cost is over it; 0 where it is met.

    Memory is that of a rank that may be planned, and of its host; other rules of layouts count in units of their own.
    """
    host = system.host.memory_bytes if system.host else 1.0
    room = {HBM: stack.usable_memory * system.chip.hbm_bytes, HOST: host}
    found: dict[str, Array] = {
        name: np.maximum(np.asarray(excess, float) / room.get(name, 1.0), 0.0)
        for name, excess in cost.violations.items()
    }
    for name, sense, bound in limits:
        found[LIMIT + name] = share_over(QUANTITIES[name].read(cost), sense, bound)
    return found
