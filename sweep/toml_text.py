"""The text of a TOML file as plain values, with what is wrong said, and plain values as such a text."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sweep.errors import problem

_BARE = re.compile(r"^[A-Za-z0-9_-]+$")
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r", "\b": "\\b", "\f": "\\f"}


def text_of(file: Path) -> str:
    """The text of a file, without the byte order mark that some editors begin it with.

    Raises OSError, or InputError where it is not UTF-8.
    """
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as failure:
        raise problem(file, "", f"cannot be read: {failure}", None, "save it as UTF-8") from None


def toml_tables(text: str, shown: object) -> dict[str, Any]:
    """The tables of a TOML text; `shown` stands for the file in messages. Raises InputError where it is none."""
    try:
        return tomllib.loads(text.removeprefix("\ufeff"))
    except (ValueError, RecursionError) as failure:
        reason = "nested too deeply" if isinstance(failure, RecursionError) else str(failure).partition(";")[0]
        remedy = 'keys as in name = "text", tables as in [search]'
        raise problem(shown, "", f"not TOML: {reason}", None, remedy) from None


def toml_text(tables: Mapping[str, Any]) -> str:
    """The text of a TOML file with these tables, keys in their order; what is None is left out.

    Raises TypeError for what TOML does not have.
    """
    return "\n".join(_table(tables, "")).strip("\n") + "\n"


def _table(table: Mapping[str, Any], path: str) -> Iterator[str]:
    """Lines of a table: its own values first, then the tables in it."""
    for name, value in table.items():
        if value is not None and not _is_table(value) and not _is_list_of_tables(value):
            yield f"{_key(name)} = {toml_value(value)}"
    for name, value in table.items():
        inner = f"{path}.{_key(name)}" if path else _key(name)
        if _is_table(value):
            yield from ("", f"[{inner}]", *_table(value, inner))
        elif _is_list_of_tables(value):
            for one in value:
                yield from ("", f"[[{inner}]]", *_table(one, inner))


def toml_value(value: Any) -> str:
    """A value as it stands behind a key."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return str(value) if math.isfinite(value) else {math.inf: "inf", -math.inf: "-inf"}.get(value, "nan")
    if isinstance(value, str):
        return '"' + "".join(_character(one) for one in value) + '"'
    if isinstance(value, Mapping):
        own = ", ".join(f"{_key(name)} = {toml_value(one)}" for name, one in value.items() if one is not None)
        return f"{{ {own} }}" if own else "{}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml_value(one) for one in value) + "]"
    if hasattr(value, "isoformat"):  # dates and times, which TOML has
        return str(value.isoformat())
    raise TypeError(f"{value!r} has no form in TOML")


def _character(one: str) -> str:
    return _ESCAPES.get(one) or (f"\\u{ord(one):04x}" if ord(one) < 32 or ord(one) == 127 else one)


def _key(name: str) -> str:
    return name if _BARE.match(name) else toml_value(str(name))


def _is_table(value: Any) -> bool:
    return isinstance(value, Mapping)


def _is_list_of_tables(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(one, Mapping) for one in value)
