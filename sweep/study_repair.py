"""A study whose form is wrong, with what is wrong taken out, so that names and numbers in the rest are looked at too.

What is needed and cannot be read gets a stand-in. Whatever the check of the rest says about a stand-in, or about what
follows from one, is no news and is left out: no mistake is told that the file does not have.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import ValidationError

from sweep.errors import Problem
from sweep.study_schema import StudyTable

Path = tuple[str | int, ...]
_TRIES = 6  # a repair may show what the first look did not
_TOKENS = "1024 token"
_TRAINED = {"model": "llama-3-8b", "sequence": _TOKENS, "batch": 1024}
_MANY = 1_000_000
# Keys that a study cannot do without; "*" is any place in a list.
_STAND_INS: dict[Path, Any] = {
    ("question",): "?",
    ("chips",): [64],
    ("workloads",): [_TRAINED],
    **{("workloads", "*", key): value for key, value in _TRAINED.items()},
    ("designs",): [{"system": "dgx-h100"}],
    ("designs", "*", "system"): "dgx-h100",
    ("designs", "*", "chips"): [64],
    ("traffic",): {"input_tokens": _TOKENS, "output_tokens": _TOKENS},
    ("traffic", "input_tokens"): _TOKENS,
    ("traffic", "output_tokens"): _TOKENS,
    ("outer", "trials"): _MANY,
    ("outer", "variables"): {"chips": [64]},
    ("search", "trials"): _MANY,
}
_SIZES = ("chips", "power", "budget")
# What is said of several keys of a table together, told at one of them.
_TOGETHER = {
    "search": ("search.baselines", "search.sampler", "search.pareto"),
    "outer": ("outer.baselines", "outer.sampler"),
}


def repaired(raw: dict[str, Any], form: type[StudyTable]) -> tuple[StudyTable | None, list[Path]]:
    """The study without what breaks its form, and where something was taken out; None where that is all of it."""
    kept = copy.deepcopy(raw)
    spoiled: list[Path] = []
    for _ in range(_TRIES):
        try:
            return form.model_validate(kept), spoiled
        except ValidationError as failure:
            for error in failure.errors(include_url=False):
                path = _in(kept, error["loc"])
                if error["type"] == "extra_forbidden":
                    _put(kept, path, None)
                elif path:
                    spoiled.append(path)
                    stand_in = _stand_in(path)
                    if stand_in is not None and path[0] == "workloads" and form is not StudyTable:
                        stand_in = [{"model": "llama-3-8b"}] if path == ("workloads",) else stand_in
                    _put(kept, path, copy.deepcopy(stand_in))
    return None, spoiled


def _in(raw: Any, location: Sequence[str | int]) -> Path:
    """The path of a key in the file that an error is about: up to the last key, as items of a list stand or fall."""
    path: list[str | int] = []
    for step in location:
        known = isinstance(raw, dict) or (isinstance(raw, list) and isinstance(step, int) and step < len(raw))
        if not known:
            break
        path.append(step)
        raw = raw.get(step) if isinstance(raw, dict) else raw[step]
    if path[:2] == ["outer", "variables"]:
        path = path[:3]  # a range without an end is no variable
    while path and isinstance(path[-1], int):
        path.pop()
    return tuple(path)


def _stand_in(path: Path) -> Any:
    """What stands for a key that is needed; None where the key can be left out."""
    return _STAND_INS.get(tuple("*" if isinstance(step, int) else step for step in path))


def _put(raw: Any, path: Path, value: Any) -> None:
    """Set a key, or take it out."""
    if not path:
        return
    for step in path[:-1]:
        try:
            raw = raw[step]
        except (KeyError, IndexError, TypeError):  # what held it has been taken out before
            return
    if not isinstance(raw, dict):
        return
    if value is None:
        raw.pop(path[-1], None)
    else:
        raw[path[-1]] = value


def still_true(problems: Iterable[Problem], spoiled: Sequence[Path]) -> list[Problem]:
    """Problems of the repaired study that are problems of the file too."""
    hidden = {_key(path) for path in spoiled}
    exact: set[str] = set()
    for path in spoiled:
        if path[0] in ("designs", "workloads") and len(path) == 3 and _stand_in(path) is not None:
            hidden.add(_key(path[:2]))  # all that is said of the machine is said of the stand-in
        if path[0] == "designs" and path[2:] in ((), ("system",), ("label",)):
            hidden |= {"reference", "outer.designs"}
        if path[0] in _TOGETHER:
            exact |= set(_TOGETHER[str(path[0])])
        if path[0] in _SIZES:
            exact |= set(_SIZES)
    sizes = any(path[0] in _SIZES or path[:2] == ("outer", "variables") for path in spoiled)
    return [
        one for one in problems
        if one.key not in exact and not any(_within(one.key, key) for key in hidden)
        and not (sizes and re.fullmatch(r"designs\[\d+\]\.chips", one.key))
    ]  # fmt: skip


def _key(path: Path) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).lstrip(".")


def _within(key: str, table: str) -> bool:
    return key == table or key.startswith((f"{table}.", f"{table}["))
