"""Options that frameworks document: one file a framework, with the release and the source it was read from."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_FOLDER = Path(__file__).parent / "option_names"


@dataclass(frozen=True, slots=True)
class Options:
    """What a release of a framework accepts.

    Attributes
    ----------
    names
        Options as they are typed; those without dashes are keys of the framework's YAML.
    choices
        Option -> the values that it takes, where it takes no others.
    """

    framework: str
    release: str
    source: str
    names: frozenset[str]
    choices: Mapping[str, tuple[str, ...]]


@cache
def options(name: str) -> Options:
    """Options of a framework by the name that `sweep export --to` takes, as in "megatron-lm"."""
    raw = tomllib.loads((_FOLDER / f"{name}.toml").read_text(encoding="utf-8"))
    return Options(
        raw["framework"],
        raw["release"],
        raw["source"],
        frozenset(raw["options"]),
        {option: tuple(values) for option, values in raw["choices"].items()},
    )
