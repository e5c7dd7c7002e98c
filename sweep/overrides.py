"""Changes to a study from outside of its file: `path=value`, as in "search.objective=mfu" or "chips=96,192".

A path is dotted, through tables to a key: "targets.tpot". In a list of tables the place or the label may stand in
brackets, "designs[0].chips" or "designs[910C].chips"; without them every table of the list is meant. What follows
`change`, `variables` or `constraints` is one name, dots and all: "designs.change.chip.hbm_bandwidth=4 TB/s".

The changed study is written anew, so that what a run keeps is the study as it ran.
"""

from __future__ import annotations

import re
import tomllib
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from sweep.errors import InputError, Problem, nearest
from sweep.toml_text import toml_tables, toml_text

FLAG = "--set"
_STEP = re.compile(r"^([A-Za-z0-9_-]+)(?:\[([^\]]*)\])?$")
_RANGE = ("low", "high", "log")
_DOT = re.compile(r"\.(?![^\[]*\])")  # outside of brackets
_ITEM = re.compile(r"^(?:[<>]=\s*)?[\w./+-]+(?: [\w/.$]+)?$")  # of a list without quotes


class _WrongError(ValueError):
    """A rule that an override breaks, the value that broke it, and a remedy."""

    def __init__(self, rule: str, value: object = None, remedy: str = "") -> None:
        super().__init__(rule)
        self.rule, self.value, self.remedy = rule, value, remedy


def with_overrides(text: str, overrides: Sequence[str], shown: str = "study") -> str:
    """The text of a study with overrides; unchanged where there are none.

    Parameters
    ----------
    text
        The study file.
    overrides
        As "path=value"; later ones win. A value is TOML, or a text where it is none: quotes may be left out.
    shown
        What stands for the file in messages.

    Raises
    ------
    InputError
        With every override that names no key of a study.
    """
    if not overrides:
        return text
    raw = toml_tables(text, shown)
    problems = []
    # what the phase is decides which keys there are
    for one in sorted(overrides, key=lambda one: not one.strip().startswith("phase")):
        path, _, value = one.partition("=")
        path = path.strip()
        if path.endswith(("<", ">")):  # "constraints.power_w<=20 MW"
            path, value = path[:-1].strip(), f"{path[-1]}= {value.strip()}"
        try:
            if "=" not in one:
                raise _WrongError("needs a value behind '='", one, "as in search.objective=mfu")
            _set(raw, _form(raw), path, value.strip())
        except _WrongError as wrong:
            problems.append(Problem(FLAG, path, wrong.rule, wrong.value, wrong.remedy))
    if problems:
        raise InputError(problems)
    heading = list(_first_comment(text)) + [f"# {FLAG} {' '.join(one.split())}" for one in overrides]
    return "\n".join(heading) + "\n" + toml_text(raw)


def _first_comment(text: str) -> Iterator[str]:
    """The comment that a file opens with."""
    for line in text.lstrip().splitlines():
        if not line.startswith("#"):
            return
        yield line


def value_of(text: str) -> Any:
    """A value of the command line: TOML, several values with commas between them, or else a text."""
    for written in (text, f"[{text}]") if text else ():
        try:
            found = tomllib.loads(f"value = {written}")
        except (ValueError, RecursionError):
            continue
        if set(found) == {"value"}:
            return found["value"]
    items = [item.strip() for item in text.split(",")]
    return items if len(items) > 1 and all(_ITEM.match(item) for item in items) else text


def _form(raw: Mapping[str, Any]) -> type[BaseModel]:
    from sweep.study import checker_of

    return checker_of(raw.get("phase", "training")).form


def _set(raw: dict[str, Any], form: type[BaseModel], path: str, text: str) -> None:
    """Set the key at a path in the tables of a study, lists of tables included."""
    steps = _DOT.split(path)
    value = value_of(text)
    at: list[dict[str, Any]] = [raw]
    inside: Any = form
    while steps:
        match = _STEP.match(steps[0])
        name, place = (match.group(1), match.group(2)) if match else (steps[0], None)
        if name not in inside.model_fields:
            raise _WrongError("no key of a study", None, _near(form, path, name))
        table, several, free = _what(inside.model_fields[name].annotation)
        steps = steps[1:]
        if place is not None and not several:
            raise _WrongError("is no list of tables", f"[{place}]", "leave out the brackets")
        if free and steps:
            _set_free(at, name, steps, value)
            return
        if not steps:
            if several or (table is not None and not isinstance(value, dict)):
                raise _WrongError(
                    "is a table; a key of it is set", None, f"as in {path}.{next(iter(table.model_fields))}"
                )
            for one in at:
                one[name] = _as_kept(one.get(name), inside.model_fields[name].annotation, value, text)
            return
        if table is None:
            raise _WrongError("is a value, and has no keys", None, f"write {path.removesuffix('.' + '.'.join(steps))}")
        at = _chosen(at, name, place) if several else [one.setdefault(name, {}) for one in at]
        inside = table


def _what(annotation: Any) -> tuple[Any, bool, bool]:
    """What a key holds: the form of its table or tables, whether a list of them, and whether its keys are free."""
    found = [one for one in _alternatives(annotation) if one is not type(None)]
    for one in found:
        if isinstance(one, type) and issubclass(one, BaseModel):
            return one, False, False
        arguments = typing.get_args(one)
        if typing.get_origin(one) is list and isinstance(arguments[0], type) and issubclass(arguments[0], BaseModel):
            return arguments[0], True, False
        if typing.get_origin(one) is dict:
            return None, False, True
    return None, False, False


def _alternatives(annotation: Any) -> Iterator[Any]:
    """The types that a value may be of."""
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) is typing.Annotated:
        yield from _alternatives(arguments[0])
    elif arguments and typing.get_origin(annotation) not in (list, dict, tuple, typing.Literal):
        for one in arguments:
            yield from _alternatives(one)
    else:
        yield annotation


def _as_kept(before: Any, annotation: Any, value: Any, text: str) -> Any:
    """The value; the text itself where only texts are taken, and a list of one where lists are or one stood there."""
    kinds = {typing.get_origin(one) or one for one in _alternatives(annotation)} - {type(None)}
    if kinds == {str} and not isinstance(value, str):
        return text
    if not isinstance(value, list) and (kinds == {list} or isinstance(before, list)):
        return [value]
    return value


def _set_free(at: Sequence[dict[str, Any]], name: str, steps: Sequence[str], value: Any) -> None:
    """Set a key of a table whose keys are names, dots and all; the ends of a range stand below its name."""
    of_range = len(steps) > 1 and steps[-1] in _RANGE and name == "variables"
    key = ".".join(steps[:-1] if of_range else steps)
    for one in at:
        table = one.setdefault(name, {})
        if not of_range:
            listed = isinstance(table.get(key), list | dict) or name == "variables"
            table[key] = [value] if listed and not isinstance(value, list | dict) else value
        elif isinstance(table.get(key), dict):
            table[key][steps[-1]] = value
        else:
            table[key] = {steps[-1]: value}


def _chosen(at: Sequence[dict[str, Any]], name: str, place: str | None) -> list[dict[str, Any]]:
    """The tables of a list that a step means."""
    listed = [one for table in at for one in table.get(name, [])]
    if not listed:
        raise _WrongError("the study has none", None, f"write a [[{name}]] into the file")
    if place is None:
        return listed
    labels = [str(one.get("label") or one.get("system") or one.get("model") or "") for one in listed]
    if place.isdigit() and int(place) < len(listed):
        return [listed[int(place)]]
    found = [one for one, label in zip(listed, labels, strict=True) if label == place.strip("'\"")]
    if not found:
        known = [*labels, *(str(i) for i in range(len(listed)))] if place.isdigit() else labels
        raise _WrongError(f"no {name[:-1]} of this place or label", place, nearest(place, known))
    return found


def paths(form: type[BaseModel], before: str = "") -> Iterator[str]:
    """Every path of a study, of lists of tables without brackets."""
    for name, field in form.model_fields.items():
        table, _, _ = _what(field.annotation)
        if table is None:
            yield before + name
        else:
            yield from paths(table, f"{before}{name}.")


def _near(form: type[BaseModel], path: str, name: str) -> str:
    """The known paths that are like an unknown one, by the whole or by its last name."""
    known = list(paths(form))
    plain = re.sub(r"\[[^\]]*\]", "", path)
    last = plain.rpartition(".")[2]
    same = [one for one in known if one.rpartition(".")[2] == last]
    if same:
        return "did you mean " + " or ".join(repr(one) for one in same[:3]) + "?"
    by_whole = nearest(plain, known)
    if by_whole.startswith("did"):
        return by_whole
    by_name = nearest(last, {one.rpartition(".")[2]: one for one in known})
    ends = re.findall(r"'([^']+)'", by_name) if by_name.startswith("did") else []
    full = [one for end in ends for one in known if one.rpartition(".")[2] == end]
    return "did you mean " + " or ".join(repr(one) for one in full[:3]) + "?" if full else by_whole
