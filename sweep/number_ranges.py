"""Which numbers a machine, a model or software may have: finite, never negative, and 0 where nothing divides by it.

A latency of nothing, a part without a price, a machine that never fails say something; a memory without bandwidth
does not. What may not be 0 is told by its dimension or its name.
"""

from __future__ import annotations

import math
from typing import Any

from model import units

_NEVER_ZERO = (units.BANDWIDTH, units.FLOPS, units.JOULES_PER_FLOP)
_DIVIDE = frozenset({
    # of a chip, and of the machine
    "cores", "hbm_bytes", "ranks_per_package", "board_w", "array_width", "sustained_clock", "unequal_heads_backward",
    "unit_packages", "per_packages", "ranks", "ranks_in_use", "oversubscription", "efficiency", "pue",
    "conversion_efficiency", "area_m2", "assembly_yield", "cores_good", "clustering", "year",
    # of money
    "lifetime_s", "utilisation",
    # of a model
    "layers", "hidden", "heads", "head_size", "key_value_heads", "vocabulary", "experts", "per_token", "parameters",
    "active_parameters", "key_value_rank", "rope_head", "nope_head", "value_head",
    # of software
    "usable_memory", "buckets", "sequence_batch",
})  # fmt: skip
_SHARES = frozenset({"cooling_fraction", "integration_fraction", "paid_fraction"})  # of which there may be none


def may_be_zero(name: str, dimension: units.Dimension) -> bool:
    """Whether 0 says something under this name, the last part of a path."""
    divides = name in _DIVIDE or name.endswith("_speed") or (name.endswith("_fraction") and name not in _SHARES)
    return dimension not in _NEVER_ZERO and not divides


def in_range(value: float, written: Any, name: str, dimension: units.Dimension) -> float:
    """The value, if a number of this name can have it. Raises ValueError.

    Parameters
    ----------
    value
        In SI units.
    written
        The value as somebody wrote it, for the message.
    name
        Of the key, as in "latency_s".
    dimension
        Of the number.
    """
    if 0.0 < value < math.inf or (value == 0.0 and may_be_zero(name, dimension)):
        return value
    least = "0 or more" if may_be_zero(name, dimension) else "over 0"
    raise ValueError(f"{written!r} is not {least} and finite, as in '{dimension.example}'")
