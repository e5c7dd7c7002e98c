"""Tables of everything that users write and read, from the sources of truth: `python -m sweep.reference`.

`python -m sweep.reference docs` writes them into the pages of a folder, between the lines
`<!-- reference: NAME -->` and `<!-- end of reference -->`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from sweep import case_schema, catalogue_schema, columns
from sweep.catalogue import KINDS
from sweep.cli import COMMANDS
from sweep.field_meanings import meaning
from sweep.json_schemas import CASES, schema

_MARK = re.compile(r"(<!-- reference: ([\w -]+) -->\n)(.*?)(<!-- end of reference -->)", re.S)
_MOST_WORDS = 6  # of a list of choices
_LIMITS = ("violation_hbm_bytes", "violation_engine_sequences", "violation_instances")


def table(heads: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    """A table of Markdown."""
    lines = [heads, tuple("---" for _ in heads), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)


# ------------------------------------------------------------------------------------------------------ what is read
def verbs() -> str:
    """The commands."""
    return table(("command", "does"), ((f"`sweep {name}`", line) for name, (_, line) in COMMANDS.items()))


def data_set() -> str:
    """Every column of the data set, and the phases that have it."""
    phases: dict[str, list[str]] = {}
    for phase, own in columns.SETS.items():
        names = (*own.identity, *own.layout, *own.quantities, "bound_by", *own.parts, "feasible")
        for name in (*names, *(_LIMITS if phase != "training" else _LIMITS[:1])):
            phases.setdefault(name, []).append(phase)

    def rows() -> Iterator[tuple[str, ...]]:
        for name, own in phases.items():
            unit, told = columns.describe(name)
            yield f"`{name}`", unit, "all" if len(own) == len(columns.SETS) else ", ".join(own), told

    return table(("column", "unit", "phases", "meaning"), rows())


# --------------------------------------------------------------------------------------------------- what is written
def study_keys(name: str) -> str:
    """Every key of a study of training or of serving, and what may stand there."""
    whole = schema(name)
    inner = whole["$defs"]

    def rows() -> Iterator[tuple[str, ...]]:
        for key, form in whole["properties"].items():
            found = _definition(form, inner)
            if found is None:
                yield f"`{key}`", _written(form), "yes" if key in whole.get("required", ()) else ""
                continue
            at = f"[[{key}]]" if _is_list(form) else f"[{key}]"
            for own, part in found.get("properties", {}).items():
                yield f"`{at} {own}`", _written(part), "yes" if own in found.get("required", ()) else ""

    return table(("key", "what stands there", "needed"), rows())


def _is_list(form: Mapping[str, Any]) -> bool:
    return form.get("type") == "array"


def _definition(form: Mapping[str, Any], inner: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The table that a key of a study leads to."""
    for one in (form, form.get("items", {}), *form.get("anyOf", ())):
        if "$ref" in one:
            found: Mapping[str, Any] = inner[one["$ref"].rpartition("/")[2]]
            return found
    return None


def _written(form: Mapping[str, Any]) -> str:
    """What may stand in a place, in a few words."""
    if "enum" in form or "const" in form:
        words = [str(word).lower() if isinstance(word, bool) else str(word)
                 for word in form.get("enum", [form.get("const")])]  # fmt: skip
        return ", ".join(f"`{word}`" for word in words[:_MOST_WORDS]) + (", ..." if len(words) > _MOST_WORDS else "")
    if "anyOf" in form and "description" not in form:
        parts = [_written(one) for one in form["anyOf"] if one.get("type") != "null"]
        parts = ["a list of them" if part == f"a list of: {parts[0]}" else part for part in parts]
        return ", or ".join(dict.fromkeys(part for part in parts if part))
    kind = form.get("type")
    if kind == "array":
        return f"a list of: {_written(form.get('items', {})) or 'values'}"
    if kind == "string" and form.get("examples"):
        return f'as in `"{form["examples"][0]}"`'
    if form.get("description"):
        return str(form["description"])
    if "$ref" in form:
        return "a table"
    types = {"string": "a text", "integer": "a whole number", "number": "a number", "boolean": "true or false",
             "object": "a table"}  # fmt: skip
    return " or ".join(types.get(one, one) for one in ([kind] if isinstance(kind, str) else kind or []))


# ------------------------------------------------------------------------------------------------------ the catalogue
def fields_of(kind: str) -> Iterator[tuple[str, Any]]:
    """Path and form of every key of an entry of a kind; tables that repeat are told once."""
    yield from _fields(catalogue_schema.schema(kind), "")


def _fields(model: Any, above: str) -> Iterator[tuple[str, Any]]:
    for key, field in model.model_fields.items():
        inner = catalogue_schema.inner_table(field.annotation)
        if inner is None or inner is catalogue_schema.Written:
            yield f"{above}{key}", field
        else:
            yield from _fields(inner, f"{above}{key}.")


def entry_keys(kind: str) -> str:
    """Every key of an entry."""

    def rows() -> Iterator[tuple[str, ...]]:
        for path, field in fields_of(kind):
            sourced = catalogue_schema.inner_table(field.annotation) is catalogue_schema.Written
            unit = catalogue_schema.dimension_of(_named(path)).unit if sourced else "text"
            yield f"`{path}`", unit, "yes" if field.is_required() else "", meaning(kind, path)

    return table(("key", "unit", "needed", "meaning"), rows())


def _named(path: str) -> str:
    """The part of a path that its dimension follows from."""
    *above, name = path.split(".")
    return above[-1] if above and above[-1] in ("peak_flops", "joule_per_flop", "efficiency") else name


def case_keys(name: str) -> str:
    """Every field of a measured case that is read."""

    def rows(model: type[BaseModel], above: str) -> Iterator[tuple[str, ...]]:
        for key, field in model.model_fields.items():
            inner = catalogue_schema.inner_table(field.annotation)
            at = f"{above}{field.alias or key}"
            if inner is not None:
                yield from rows(inner, f"{at}.")
            else:
                form = schema_of(model).get(field.alias or key, {})
                yield f"`{at}`", _written(form)

    return table(("field", "what stands there"), rows(getattr(case_schema, CASES[name]), ""))


def schema_of(model: type[BaseModel]) -> Mapping[str, Any]:
    """Forms of the keys of a table."""
    from sweep.json_schemas import as_written

    return as_written(model)


TABLES: dict[str, Callable[[], str]] = {
    "commands": verbs,
    "columns": data_set,
    "keys of a study of training": lambda: study_keys("training-study"),
    "keys of a study of serving": lambda: study_keys("serving-study"),
    **{f"keys of {kind}": lambda kind=kind: entry_keys(kind) for kind in KINDS},  # type: ignore[misc]
    **{f"fields of a {name}": lambda name=name: case_keys(name) for name in CASES},  # type: ignore[misc]
}


def written_anew(page: str) -> str:
    """A page with every marked table as it is now. Raises KeyError for a mark of no table."""
    return _MARK.sub(lambda found: f"{found.group(1)}{TABLES[found.group(2)]()}\n{found.group(4)}", page)


def main(arguments: list[str]) -> None:
    """Print all tables, or write them into the pages of a folder."""
    if not arguments:
        sys.stdout.write("\n\n".join(f"{name}\n\n{made()}" for name, made in TABLES.items()) + "\n")
    for file in (file for folder in arguments for file in sorted(Path(folder).glob("*.md"))):
        text = file.read_text(encoding="utf-8")
        file.write_text(written_anew(text), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
