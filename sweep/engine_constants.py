"""Which constants of the serving engines are free, how far they may move, and their place in the catalogue's files."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

import numpy as np

from model import units
from model.serving.stack import ServingStack
from sweep import catalogue

DATA = catalogue.DATA / "engine_constants.toml"
_DIGITS = 3  # of a fitted number: more is not known


@dataclass(frozen=True, slots=True)
class Constant:
    """A free constant. It is fitted as ln(value + floor), in which its steps are alike whatever its size."""

    name: str
    prior: float
    spread: float  # standard deviation of what runs may move it by
    floor: float
    kinds: tuple[str, ...]

    def encoded(self, value: Any) -> Any:
        """The number that is fitted."""
        return np.log(np.asarray(value, float) + self.floor)

    def decoded(self, number: Any) -> Any:
        """The value of the engine; never below 0."""
        return np.maximum(np.exp(np.asarray(number, float)) - self.floor, 0.0)

    @property
    def in_seconds(self) -> bool:
        """Whether it is a time."""
        return self.name.endswith("_s")


@dataclass(frozen=True, slots=True)
class Plan:
    """What is fitted: constants, and engines by kind and framework."""

    constants: tuple[Constant, ...]
    framework: Mapping[str, str]  # of an engine: "server: vllm"
    kept: Mapping[str, tuple[str, ...]]  # constants of an engine that are not fitted

    def kind(self, engine: str) -> str:
        """Kind of an engine."""
        return self.framework[engine].split(":")[0]

    def free(self, engine: str) -> tuple[Constant, ...]:
        """Constants that are fitted for an engine."""
        kept = self.kept.get(engine, ())
        return tuple(one for one in self.constants if self.kind(engine) in one.kinds and one.name not in kept)


def _plain(text: Any) -> float:
    return float(text) if isinstance(text, int | float) else float(units.parse(text, units.SECONDS))


@cache
def plan() -> Plan:
    """The file of free constants, read."""
    with DATA.open("rb") as file:
        read = tomllib.load(file)
    kinds = tuple(read["kinds"])
    constants = tuple(
        Constant(
            name, _plain(one["prior"]), float(one["spread"]), _plain(one.get("floor", 0.0)),
            tuple(one.get("kinds", kinds)),
        )
        for name, one in read["constants"].items()
    )  # fmt: skip
    framework = {
        engine: f"{kind}: {name}"
        for kind, one in read["kinds"].items()
        for name, engines in one["frameworks"].items()
        for engine in engines
    }
    unknown = {one.name for one in constants} - {one.name for one in fields(ServingStack)}
    if unknown or set(framework) != set(catalogue.names("engines")):
        raise ValueError(f"{DATA.name} does not match the engines of the catalogue: {unknown or 'engines'}")
    return Plan(constants, framework, {name: tuple(names) for name, names in read["kept"].items()})


def rounded(constant: Constant, value: float) -> float:
    """A value as it is written: what is below its floor is nothing."""
    return 0.0 if value < 0.02 * constant.floor else float(f"{value:.{_DIGITS}g}")


def _text(constant: Constant, value: float) -> str:
    if not constant.in_seconds:
        return f"{value:.{_DIGITS}g}" if value % 1 else f"{value:.1f}"
    unit, scale = ("ms", 1e3) if value >= 1e-3 else ("us", 1e6)
    return f'"{value * scale:.{_DIGITS}g} {unit}"'


def written(text: str, values: Mapping[str, float], sources: Mapping[str, str], of: Plan) -> str:
    """The text of an engine's file with these values in it, each where it stood, new ones at the end."""
    constants = {one.name: one for one in of.constants}
    for name, value in values.items():
        shown = _text(constants[name], rounded(constants[name], value))
        line = f'{name} = {{ value = {shown}, source = "{sources[name]}", kind = "derived" }}'
        place = re.search(rf"^{name} = .*$", text, re.M)
        text = text[: place.start()] + line + text[place.end() :] if place else text.rstrip("\n") + f"\n{line}\n"
    return text
