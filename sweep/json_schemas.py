"""JSON Schemas of what people write: study files, catalogue entries, measured cases. Editors check by them.

They describe files as they are written, not what is read from them: a number with a unit is a text, an axis is a
number, a list or bounds. What a schema cannot say (names of entries, sums, units of another dimension) the command that
reads the file still tells.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from model import units
from model.chip import FORMATS, TRAINING_FORMATS
from model.layout import RECOMPUTE_MODULES
from sweep import case_schema, catalogue_schema, serving_schema, study_schema
from sweep.catalogue import KINDS, SOURCE_KINDS
from sweep.columns import QUANTITIES, SETS, TRAINING

Fragment = dict[str, Any]
DIALECT = "https://json-schema.org/draft/2020-12/schema"
STUDIES = ("study", "training-study", "serving-study")
CASES = {
    "training-case": "_Case",
    "serving-case": "_ServingCase",
    "power-case": "_PowerCase",
}
NAMES = (*STUDIES, *KINDS, *CASES)


def _one_or_more(one: Fragment) -> Fragment:
    """A value or a list of them."""
    return {"anyOf": [one, {"type": "array", "items": one, "minItems": 1}]}


def _words(known: tuple[str, ...]) -> Fragment:
    return _one_or_more({"enum": list(known)})


def _joined(known: tuple[str, ...]) -> Fragment:
    """Words joined by "+", with the single ones for an editor to offer."""
    word = "|".join(known)
    return _one_or_more({"type": "string", "pattern": f"^({word})(\\+({word}))*$", "examples": list(known)})


def _text_of(dimension: units.Dimension) -> Fragment:
    """A number with a unit; a bare number where there is no dimension."""
    if not dimension.unit:
        return {"type": ["number", "string"]}
    return {"type": "string", "examples": [dimension.example], "description": f"with a unit, in {dimension.unit}"}


_COUNT: Fragment = {"type": "integer", "minimum": 1}
_DEGREES: Fragment = {
    "anyOf": [
        _COUNT,
        {"type": "array", "items": _COUNT, "minItems": 1},
        {
            "type": "object",
            "properties": {"min": _COUNT, "max": _COUNT},
            "additionalProperties": False,
            "minProperties": 1,
        },
    ],
    "description": "a number, a list, or bounds as in { min = 1, max = 16 }",
}
_SERVED = tuple(dict.fromkeys(name for phase, one in SETS.items() if phase != "training" for name in one.quantities))
_BOUND: Fragment = {"type": "string", "pattern": "^\\s*(<=|>=)", "examples": ["<= 50 ms"]}
# What readers of the study's keys accept, by module and name.
_READERS: Mapping[str, Fragment] = {
    "study_schema._tokens": _text_of(units.TOKENS),
    "study_schema._batch": {"anyOf": [_COUNT, _text_of(units.TOKENS)]},
    "study_schema._formats": _words(tuple(TRAINING_FORMATS)),
    "study_schema._quantities": _words(TRAINING.quantities),
    "study_schema._degrees": _DEGREES,
    "study_schema._switch": _one_or_more({"type": "boolean"}),
    "study_schema._stages": _one_or_more({"enum": [0, 1, 2, 3]}),
    "study_schema._recompute": _joined(("none", "selective", *RECOMPUTE_MODULES)),
    "study_schema._power_of_two": {"enum": [1 << n for n in range(4, 21)]},
    "study_schema._rows": {
        "type": "string",
        "pattern": study_schema.ROWS.pattern,
        "examples": ["best", "pareto", "feasible", "all", "top:20"],
    },
    "serving_schema._tokens": _text_of(units.TOKENS),
    "serving_schema._chunks": _one_or_more({"type": "string", "examples": ["engine", "4096 token"]}),
    "serving_schema._batches": {"anyOf": [{"const": "best"}, _one_or_more(_COUNT)]},
    "serving_schema._formats": _words(tuple(FORMATS)),
    "serving_schema._quantities": _words(_SERVED),
    "serving_schema._quantity": {"enum": list(_SERVED)},
    "serving_schema._counts.<locals>.read": _one_or_more({"type": "integer", "minimum": 0}),
    "serving_schema._targets.<locals>.read": _one_or_more(_BOUND),
    "case_schema._label": {"type": ["string", "number"]},
    "case_schema._texts": {"anyOf": [{"type": "array"}, {"type": "string"}]},
}


def _accepted(reader: Callable[[Any], Any]) -> Fragment | None:
    """What a reader of text accepts; None where the type behind it says so itself."""
    if isinstance(given := getattr(reader, "keywords", {}).get("given"), dict):
        return _value_with_source(given)
    name = f"{reader.__module__.rpartition('.')[2]}.{reader.__qualname__}"
    if name in _READERS:
        return _READERS[name]
    around = inspect.getclosurevars(reader).nonlocals
    if isinstance(around.get("dimension"), units.Dimension):
        return _text_of(around["dimension"])
    if "known" in around:
        known = tuple(around["known"])
        if "_masks" in name:
            return _joined(("none", *known))
        return {"enum": list(known)} if "_format" in name else _words(known)
    return None


# ------------------------------------------------------------------------------------------------- the catalogue
def _plain_value(given: Mapping[str, Any]) -> Fragment:
    """What stands under `value`."""
    reader = given["reader"]
    reader = getattr(reader, "keywords", {}).get("reader") or reader  # what reads a number before its range is seen
    inner = getattr(reader, "func", reader)
    words = getattr(reader, "keywords", {})
    name = inner.__name__
    if "dimension" in words:
        return _text_of(words["dimension"])
    if name == "choice":
        return {"enum": list(words["options"])}
    if name == "choices":
        return {"type": "array", "items": {"enum": list(words["options"])}}
    plain: dict[str, Fragment] = {
        "whole": {"type": "integer"},
        "flag": {"type": "boolean"},
        "wholes": {"type": "array", "items": {"type": "integer"}},
        "tiles": {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}},
    }
    return plain.get(name, {})


def _value_with_source(given: Mapping[str, Any]) -> Fragment:
    """A value of the catalogue with where it comes from."""
    value = _plain_value(given)
    return {
        "type": "object",
        "properties": {
            "value": value,
            "low": value,
            "high": value,
            "source": {"type": "string", "minLength": 3},
            "kind": {"enum": list(SOURCE_KINDS)},
            "note": {"type": "string"},
            "placeholder": {"type": "boolean"},
        },
        "required": ["value", "source", "kind"],
        "additionalProperties": False,
    }


class _AsWritten(GenerateJsonSchema):
    """Schemas of what stands in files, ahead of the readers that turn it into numbers."""

    def function_before_schema(self, schema: Any) -> JsonSchemaValue:
        """What the reader accepts, or the type behind it."""
        accepted = _accepted(schema["function"]["function"])
        return self.generate_inner(schema["schema"]) if accepted is None else dict(accepted)

    def default_schema(self, schema: Any) -> JsonSchemaValue:
        """Without the default: it is what the reader makes of one, not what a file would write."""
        return self.generate_inner(schema["schema"])


def _form(model: Any, title: str) -> Fragment:
    made: Fragment = model.model_json_schema(schema_generator=_AsWritten)
    return {"$schema": DIALECT, **made, "title": title}


def as_written(model: Any) -> Fragment:
    """Forms of the keys of a table, by key."""
    found: Fragment = model.model_json_schema(schema_generator=_AsWritten)["properties"]
    return found


# ------------------------------------------------------------------------------------------------------- schemas
def schema(name: str) -> Fragment:
    """The schema of one of NAMES.

    "study" is that of any study: by its phase that of training or of serving.
    """
    if name == "study":
        return _any_study()
    if name in STUDIES:
        serving = name == "serving-study"
        made = _form(serving_schema.ServingStudyTable if serving else study_schema.StudyTable, f"A {name}")
        return _with_quantities(made, _SERVED if serving else TRAINING.quantities)
    if name in CASES:
        return _form(getattr(case_schema, CASES[name]), f"A {name.replace('-', ' ')}")
    made = _form(catalogue_schema.schema(name), f"An entry of {name}")
    return _bare(made) if name == "models" else made


def _with_quantities(made: Fragment, quantities: tuple[str, ...]) -> Fragment:
    """A study's objective and constraints by the names of quantities."""
    for one in made["$defs"].values():
        if "objective" in one.get("properties", {}):
            one["properties"]["objective"] = {"enum": list(quantities)}
    limit = {"anyOf": [_BOUND, {"type": "array", "items": _BOUND}]}
    made["properties"]["constraints"] = {
        "type": "object",
        "properties": {name: {**limit, "description": QUANTITIES[name].meaning} for name in quantities},
        "additionalProperties": False,
    }
    return made


def _any_study() -> Fragment:
    """Both kinds of study in one schema: the phase says which of the two holds."""
    parts = {"training": schema("training-study"), "serving": schema("serving-study")}
    definitions: Fragment = {}
    for prefix, one in parts.items():
        inner = one.pop("$defs")
        one.pop("$schema")
        definitions |= {f"{prefix}.{key}": _moved(value, prefix) for key, value in inner.items()}
        definitions[prefix] = _moved(one, prefix)
    served = {"properties": {"phase": {"enum": ["prefill", "decode", "serving"]}}, "required": ["phase"]}
    return {
        "$schema": DIALECT,
        "title": "A study",
        "type": "object",
        "if": served,
        "then": {"$ref": "#/$defs/serving"},
        "else": {"$ref": "#/$defs/training"},
        "$defs": definitions,
    }


def _moved(part: Any, prefix: str) -> Any:
    """A schema whose references lead to definitions under a prefix."""
    if isinstance(part, dict):
        return {
            key: value.replace("#/$defs/", f"#/$defs/{prefix}.") if key == "$ref" else _moved(value, prefix)
            for key, value in part.items()
        }
    return [_moved(one, prefix) for one in part] if isinstance(part, list) else part


def _bare(made: Fragment) -> Fragment:
    """Models may write bare values, which then share the file's source."""

    def loosened(part: Any) -> Any:
        if isinstance(part, dict):
            if part.get("required") == ["value", "source", "kind"]:
                return {"anyOf": [part["properties"]["value"], part]}
            return {key: loosened(value) for key, value in part.items()}
        return [loosened(one) for one in part] if isinstance(part, list) else part

    published = made["properties"].pop("published", None)
    found: Fragment = loosened(made)
    if published is not None:
        found["properties"]["published"] = published
    return found
