"""Values of a catalogue file that are no quantities with a unit: whole numbers, words, flags, and lists of them."""

from __future__ import annotations

from typing import Any


def whole(raw: Any) -> int:
    """A whole number. Raises ValueError."""
    if isinstance(raw, bool) or not isinstance(raw, int):
        raise ValueError(f"{raw!r} is not a whole number, as in 64")
    return raw


def flag(raw: Any) -> bool:
    """True or false. Raises ValueError."""
    if not isinstance(raw, bool):
        raise ValueError(f"{raw!r} is not true or false")
    return raw


def choice(raw: Any, options: tuple[str, ...]) -> str:
    """One of some words. Raises ValueError."""
    if raw not in options:
        raise ValueError(f"{raw!r} is not one of {', '.join(options)}")
    return str(raw)


def choices(raw: Any, options: tuple[str, ...]) -> tuple[str, ...]:
    """Some of some words. Raises ValueError."""
    if not isinstance(raw, list):
        raise ValueError(f"{raw!r} is not a list of {', '.join(options)}")
    return tuple(choice(item, options) for item in raw)


def wholes(raw: Any) -> tuple[int, ...]:
    """Several whole numbers. Raises ValueError."""
    if not isinstance(raw, list):
        raise ValueError(f"{raw!r} is not a list of whole numbers")
    return tuple(whole(item) for item in raw)


def tiles(raw: Any) -> tuple[tuple[int, ...], ...]:
    """Pairs of whole numbers. Raises ValueError."""
    if not isinstance(raw, list) or not all(isinstance(tile, list) and len(tile) == 2 for tile in raw):
        raise ValueError(f"{raw!r} is not a list of pairs, as in [[256, 128], [128, 128]]")
    return tuple(wholes(tile) for tile in raw)
