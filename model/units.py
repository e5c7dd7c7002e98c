"""Units at the border: text such as "3.2 TB/s" becomes an SI float, and floats become readable text.

Inside the framework every quantity is a float in SI base units: bytes, bytes per second per direction,
FLOP, FLOP/s (dense), seconds, watts, joules, hertz, US dollars, tokens. Text with a unit is read here and nowhere
else; a bare number is refused for a field that has a dimension.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

_DECIMAL = {"": 1.0, "n": 1e-9, "u": 1e-6, "µ": 1e-6, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12,
            "P": 1e15, "E": 1e18, "p": 1e-12}  # fmt: skip
_BINARY = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50}

# dimension -> (base unit as written, words that mean it with their factor)
_BASES: dict[str, dict[str, float]] = {
    "byte": {"B": 1.0, "byte": 1.0, "bytes": 1.0, "bit": 0.125},
    "byte/s": {"B/s": 1.0, "byte/s": 1.0, "bit/s": 0.125, "bps": 0.125},
    "FLOP": {"FLOP": 1.0},
    "FLOP/s": {"FLOP/s": 1.0, "FLOPS": 1.0, "op/s": 1.0},
    "s": {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "year": 31557600.0, "years": 31557600.0},
    "W": {"W": 1.0},
    "J": {"J": 1.0, "Wh": 3600.0},
    "J/FLOP": {"J/FLOP": 1.0},
    "J/byte": {"J/B": 1.0, "J/byte": 1.0, "J/bit": 8.0},
    "Hz": {"Hz": 1.0},
    "USD": {"USD": 1.0, "$": 1.0},
    "USD/J": {"USD/J": 1.0, "USD/kWh": 1.0 / 3.6e6, "USD/MWh": 1.0 / 3.6e9},
    "USD/W/s": {"USD/W/s": 1.0, "USD/kW/month": 12.0 / (1e3 * 31557600.0)},  # of a building's capacity
    "USD/byte": {"USD/B": 1.0, "USD/GB": 1e-9, "USD/GiB": 2.0**-30},
    "USD/s": {"USD/s": 1.0, "USD/h": 1.0 / 3600.0},
    "1/m2": {"/m2": 1.0, "/cm2": 1e4},
    "1/s": {"/s": 1.0, "/h": 1.0 / 3600.0, "/day": 1.0 / 86400.0, "/year": 1.0 / 31557600.0, "FIT": 1e-9 / 3600.0},
    "m2": {"m2": 1.0, "mm2": 1e-6, "cm2": 1e-4},
    "token": {"token": 1.0, "tokens": 1.0},
    "token/s": {"token/s": 1.0, "tokens/s": 1.0},
    "token/J": {"token/J": 1.0, "token/s/W": 1.0, "tokens/J": 1.0, "tokens/s/W": 1.0},
    "request/s": {"request/s": 1.0, "requests/s": 1.0},
}
_NUMBER = re.compile(r"^\s*([+-]?(?:\d[\d_ ]*)?(?:\.\d+)?(?:[eE][+-]?\d+)?)\s*([^\d\s].*?)?\s*$")


class UnitError(ValueError):
    """A text that is not a number with a unit of the expected dimension."""


@dataclass(frozen=True, slots=True)
class Dimension:
    """A physical dimension: its SI base unit and an example for error messages."""

    unit: str
    example: str


BYTES = Dimension("byte", "64 GiB")
BANDWIDTH = Dimension("byte/s", "3.2 TB/s")
FLOPS = Dimension("FLOP/s", "752 TFLOP/s")
SECONDS = Dimension("s", "5 us")
WATTS = Dimension("W", "700 W")
JOULES = Dimension("J", "1.2 J")
JOULES_PER_FLOP = Dimension("J/FLOP", "0.8 pJ/FLOP")
JOULES_PER_BYTE = Dimension("J/byte", "40 pJ/B")
HERTZ = Dimension("Hz", "1.8 GHz")
DOLLARS = Dimension("USD", "20 kUSD")
DOLLARS_PER_JOULE = Dimension("USD/J", "0.06 USD/kWh")
DOLLARS_PER_WATT_SECOND = Dimension("USD/W/s", "60 USD/kW/month")
DOLLARS_PER_BYTE = Dimension("USD/byte", "10 USD/GB")
DOLLARS_PER_SECOND = Dimension("USD/s", "2 USD/h")
DENSITY = Dimension("1/m2", "0.1 /cm2")
RATE = Dimension("1/s", "0.05 /year")
AREA = Dimension("m2", "665 mm2")
TOKENS = Dimension("token", "4096 token")
TOKENS_PER_SECOND = Dimension("token/s", "1000 token/s")
TOKENS_PER_JOULE = Dimension("token/J", "2 token/J")
REQUESTS_PER_SECOND = Dimension("request/s", "20 request/s")
NUMBER = Dimension("", "0.82")

_ALL = (
    BYTES, BANDWIDTH, FLOPS, SECONDS, WATTS, JOULES, JOULES_PER_FLOP, JOULES_PER_BYTE, HERTZ, DOLLARS,
    DOLLARS_PER_JOULE, DOLLARS_PER_WATT_SECOND, DOLLARS_PER_BYTE, DOLLARS_PER_SECOND, DENSITY, RATE, AREA, TOKENS,
    TOKENS_PER_SECOND, TOKENS_PER_JOULE, REQUESTS_PER_SECOND, NUMBER,
)  # fmt: skip
DIMENSIONS = {d.unit: d for d in _ALL}


def _factor(unit: str, words: dict[str, float]) -> float | None:
    if unit in words:
        return words[unit]
    for word, scale in words.items():
        if unit.endswith(word):
            prefix = unit[: -len(word)]
            if prefix in _DECIMAL:
                return _DECIMAL[prefix] * scale
            if prefix in _BINARY and word in ("B", "byte", "bytes", "B/s", "byte/s"):
                return _BINARY[prefix] * scale
    return None


def _dimension_of(unit: str) -> str | None:
    return next((name for name, words in _BASES.items() if _factor(unit, words) is not None), None)


def parse(text: str | float | int, dimension: Dimension) -> float:
    """Read `text` as a quantity of `dimension` and return it in SI base units.

    Raises UnitError where the unit is missing, unknown or of another dimension.
    """
    if dimension is NUMBER:
        if isinstance(text, bool) or not isinstance(text, int | float):
            raise UnitError(f"{text!r} is not a plain number, as in {NUMBER.example}")
        return float(text)
    if not isinstance(text, str):
        raise UnitError(f"{text!r} needs a unit, as in '{dimension.example}'")
    match = _NUMBER.match(text)
    if match is None or not match.group(1):
        raise UnitError(f"{text!r} is not a number with a unit, as in '{dimension.example}'")
    value = float(match.group(1).replace("_", "").replace(" ", ""))
    unit = (match.group(2) or "").strip()
    if not unit:
        raise UnitError(f"{text!r} needs a unit, as in '{dimension.example}'")
    factor = _factor(unit, _BASES[dimension.unit])
    if factor is not None:
        return value * factor
    other = _dimension_of(unit)
    if other is not None:
        raise UnitError(f"{text!r} is in {other}; expected {dimension.unit}, as in '{dimension.example}'")
    raise UnitError(f"{text!r} has an unknown unit '{unit}'; expected {dimension.unit}, as in '{dimension.example}'")


_PREFIXES = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""),
             (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"), (1e-12, "p"))  # fmt: skip
_WRITTEN = {"byte": "B", "byte/s": "B/s", "J/byte": "J/B", "m2": "m2"}


# units that people write, where a prefix of the base unit would not do
_SHOWN = {"USD/J": "USD/kWh", "USD/W/s": "USD/kW/month", "USD/byte": "USD/GiB", "USD/s": "USD/h", "1/m2": "/cm2",
          "1/s": "/year"}  # fmt: skip


def show(value: float, unit: str, digits: int = 3) -> str:
    """Write an SI value with a decimal prefix, as in show(3.2e12, "byte/s") == "3.2 TB/s"."""
    written = _WRITTEN.get(unit, unit)
    if unit in ("", "token"):
        return f"{value:.{digits}g} {written}".strip() if abs(value) < 1e5 else f"{value:,.0f} {written}".strip()
    if value == 0 or not math.isfinite(value):
        return f"{value:g} {written}"
    if unit == "m2":
        return f"{value * 1e6:.{digits}g} mm2" if abs(value) < 0.01 else f"{value:.{digits}g} m2"
    if unit in _SHOWN:
        return f"{value / _BASES[unit][_SHOWN[unit]]:.{digits}g} {_SHOWN[unit]}"
    if unit == "s" and abs(value) >= _BASES["s"]["year"]:
        return f"{value / _BASES['s']['year']:.{digits}g} years"
    if unit in ("USD", "token/J") and abs(value) < 1e3:
        return f"{value:.{digits}g} {written}"  # nobody counts milli-dollars, and a milli-token looks like a million
    scale, prefix = next(((s, p) for s, p in _PREFIXES if abs(value) >= s * 0.9995), _PREFIXES[-1])
    return f"{value / scale:.{max(digits, len(str(int(abs(value / scale)))))}g} {prefix}{written}"
