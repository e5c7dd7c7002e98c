"""Text with units becomes SI floats, and back, as an independent library reads it."""

from __future__ import annotations

import pint
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model import units

ORACLE = pint.UnitRegistry()
# how pint writes what we write, and the SI unit to compare in
PAIRS = [
    ("TB/s", "terabyte/second", units.BANDWIDTH, "byte/second"),
    ("GiB", "gibibyte", units.BYTES, "byte"),
    ("Gbit/s", "gigabit/second", units.BANDWIDTH, "byte/second"),
    ("us", "microsecond", units.SECONDS, "second"),
    ("kW", "kilowatt", units.WATTS, "watt"),
    ("mm2", "millimeter**2", units.AREA, "meter**2"),
    ("GHz", "gigahertz", units.HERTZ, "hertz"),
    ("kWh", "kilowatt*hour", units.JOULES, "joule"),
    ("pJ/bit", "picojoule/bit", units.JOULES_PER_BYTE, "joule/byte"),
    ("/year", "1/year", units.RATE, "1/second"),
    ("cm2", "centimeter**2", units.AREA, "meter**2"),
    ("/cm2", "centimeter**-2", units.DENSITY, "meter**-2"),
]


@pytest.mark.parametrize(("ours", "theirs", "dimension", "base"), PAIRS)
@given(value=st.floats(1e-3, 1e4))
def test_a_text_is_read_as_another_library_reads_it(
    ours: str, theirs: str, dimension: units.Dimension, base: str, value: float
) -> None:
    """A number with a unit is the same quantity in SI base units as in pint."""
    read = units.parse(f"{value!r} {ours}", dimension)
    assert read == pytest.approx(float(ORACLE.Quantity(value, theirs).to(base).magnitude), rel=1e-12)


@given(
    value=st.floats(1e-11, 1e19),
    name=st.sampled_from(["byte/s", "W", "s", "byte", "FLOP/s", "J", "USD/J", "USD/W/s", "USD/byte", "USD/s", "1/m2"]),
)
def test_what_is_shown_reads_back(value: float, name: str) -> None:
    """A shown quantity, with enough digits, parses to the same value."""
    dimension = units.DIMENSIONS[name]
    assert units.parse(units.show(value, name, digits=15), dimension) == pytest.approx(value, rel=1e-9)


@pytest.mark.parametrize(
    ("text", "dimension", "words"),
    [
        ("3.2 TB", units.BANDWIDTH, ("byte/s", "3.2 TB/s")),
        (700, units.WATTS, ("needs a unit", "700 W")),
        ("50", units.SECONDS, ("needs a unit", "us")),
        ("5 parsec", units.SECONDS, ("unknown unit 'parsec'",)),
        ("many", units.BYTES, ("not a number",)),
        (True, units.NUMBER, ("not a plain number",)),
    ],
)
def test_a_wrong_text_says_what_was_expected(text: object, dimension: units.Dimension, words: tuple[str, ...]) -> None:
    """A missing, unknown or wrong unit is told with what was expected and an example."""
    with pytest.raises(units.UnitError) as found:
        units.parse(text, dimension)  # type: ignore[arg-type]
    assert all(word in str(found.value) for word in words)
