"""Powers of arrays that round alike for one value and for many.

`**` and np.power take a product or a root where the exponent is one number such as 2 or 0.5, and the general power
where it is an array of them: one value in a thousand then differs in its last bit, and a layout alone costs another
number than the same layout in a list. Source: numpy 2, numpy/_core/src/umath/loops_umath_fp.dispatch.c.src (exponents
of stride 0) and numpy/_core/src/multiarray/number.c.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def power(base: Any, exponent: Any) -> Any:
    """`base` to the power of `exponent` (numbers or arrays, which broadcast), by the general power wherever it is."""
    return np.float_power(base, exponent)
