"""The configuration file: read safely, its keys by any of the names that models give them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sweep.errors import InputError, Problem, nearest, problem
from sweep.hugging_face.families import AROUND, FAMILIES, REFUSED, Family

_MOST_BYTES = 20_000_000
_MOST = 10**8  # of any size or count
_INSIDE = ("text_config", "language_config", "llm_config")
_REMEDY = "write the record by hand (docs/import.md), or name a family it is like: --like llama"


def config_file(path: Path) -> Path:
    """The file to read: the path itself, or `config.json` in it."""
    return path / "config.json" if path.is_dir() else path


def read_json(file: Path) -> dict[str, Any]:
    """An object of a JSON file. Raises InputError where there is none."""
    try:
        if file.stat().st_size > _MOST_BYTES:
            raise problem(file, "", f"is larger than {_MOST_BYTES:,} bytes", None, "give a model's config.json")
        raw = json.loads(file.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        near = nearest(file.name, [one.name for one in file.parent.glob("*.json")]) if file.parent.is_dir() else ""
        raise problem(file, "", "no such file", None, near if "mean" in near else "") from None
    except (OSError, UnicodeDecodeError) as failure:
        raise problem(file, "", f"cannot be read: {failure}") from None
    except (ValueError, RecursionError) as failure:
        reason = str(failure) if isinstance(failure, ValueError) else "nested too deeply"
        raise problem(file, "", f"not JSON: {reason}", None, "give a model's config.json") from None
    if not isinstance(raw, dict):
        raise problem(file, "", "must hold an object", type(raw).__name__, "give a model's config.json")
    return raw


@dataclass(slots=True)
class Config:
    """The keys of a language model, with the problems found in them so far.

    Attributes
    ----------
    keys
        Of the language model; `at` is where they stand in the file.
    whole
        Of the file.
    notes
        What was left out or taken for something else.
    """

    file: str
    model_type: str
    family: Family
    keys: Mapping[str, Any]
    at: str = ""
    whole: Mapping[str, Any] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def wrong(self, key: str, rule: str, value: object = None, remedy: str = "") -> None:
        """Add a problem."""
        self.problems.append(Problem(self.file, f"{self.at}{key}", rule, value, remedy))

    def find(self, *names: str) -> tuple[str, Any]:
        """The first of several names that has a value, and the value; dots lead into tables."""
        for name in names:
            value: Any = self.keys
            for step in name.split("."):
                value = value.get(step) if isinstance(value, Mapping) else None
            if value is not None:
                return name, value
        given = next((name for name in names if name in self.family.defaults), None)
        return (names[0], None) if given is None else (given, self.family.defaults[given])

    def number(self, *names: str, least: int = 1) -> int | None:
        """A whole number by any of its names; of a list for every layer the one that all share. None without one."""
        name, value = self.find(*names)
        if isinstance(value, list):
            if len(set(map(repr, value))) != 1:
                self.wrong(name, "must be the same in all layers", value if len(value) < 9 else f"{len(value)} values",
                           "layers of unequal shapes cannot be expressed")  # fmt: skip
                return None
            value = value[0]
        if value is None:
            return None
        if isinstance(value, float) and abs(value) < _MOST and value == round(value):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= _MOST:
            self.wrong(name, f"must be a whole number from {least} to {_MOST:,}", _short(value))
            return None
        return value

    def needed(self, *names: str) -> int:
        """A whole number that must be there; 1 with a problem where it is not."""
        found = self.number(*names)
        if found is None and self.find(*names)[1] is None:
            self.wrong(names[0], "missing", None, f"one of {', '.join(names)}" if len(names) > 1 else _REMEDY)
        return found or 1

    def flag(self, *names: str, otherwise: bool) -> bool:
        """A truth value."""
        name, value = self.find(*names)
        if value is None:
            return otherwise
        if not isinstance(value, bool):
            self.wrong(name, "must be true or false", _short(value))
            return otherwise
        return value

    def words(self, name: str) -> list[str]:
        """A list of words for every layer; none where there is none."""
        _, value = self.find(name)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value) or len(value) > 10_000:
            self.wrong(name, "must be a list of texts", _short(value))
            return []
        return value

    def checked(self) -> None:
        """Raise InputError with every problem found."""
        if self.problems:
            raise InputError(self.problems)


def _short(value: object) -> object:
    text = repr(value)
    return value if len(text) < 80 else f"{text[:77]}..."


def read_config(file: Path, like: str | None = None) -> Config:
    """The language model's part of a configuration file.

    Parameters
    ----------
    file
        A `config.json`.
    like
        A family to read it as, in place of its own `model_type`.

    Raises
    ------
    InputError
        For an architecture that the cost model cannot express, and for an unknown one, with the nearest known names.
    """
    whole = read_json(file)
    shown = str(file)
    keys, at = whole, ""
    outer = whole.get("model_type")
    inside = next((name for name in _INSIDE if isinstance(whole.get(name), dict)), None)
    _refuse(shown, "model_type", outer, whole)
    if inside is not None:
        keys, at = {"model_type": outer, **whole[inside]}, f"{inside}."
        _refuse(shown, f"{at}model_type", keys.get("model_type"), keys)
    kind = like if like is not None else keys.get("model_type")
    if like is None and not isinstance(kind, str):
        raise problem(shown, f"{at}model_type", "missing" if kind is None else "must be a text", _short(kind),
                      "--like names a family to read it as")  # fmt: skip
    if kind not in FAMILIES:
        where = "--like" if like is not None else f"{at}model_type"
        raise problem(shown, where, "no known architecture", _short(kind), f"{nearest(str(kind), FAMILIES)}; {_REMEDY}")
    found = Config(shown, str(kind), FAMILIES[str(kind)], keys, at, whole)
    others = [name for name in ("vision_config", "audio_config", "visual", "vision_tower") if name in whole]
    if others or outer in AROUND - {"gemma3", "llama4"}:
        found.notes.append("Only the language model is read; what encodes images or sound is left out.")
    return found


def _refuse(file: str, key: str, kind: object, keys: Mapping[str, Any]) -> None:
    """Refuse what the cost model cannot express, by its name or by what its keys say."""
    remedy = "import a decoder-only transformer"
    if isinstance(kind, str) and kind in REFUSED:
        raise problem(file, key, f"cannot be expressed: {kind} {REFUSED[kind]}", kind, remedy)
    if keys.get("is_encoder_decoder") is True:
        raise problem(
            file, "is_encoder_decoder", "cannot be expressed: has an encoder beside its decoder", True, remedy
        )
    types = keys.get("layer_types") or keys.get("layers_block_type")
    if isinstance(types, list):
        strange = [one for one in types if not (isinstance(one, str) and one.endswith(_ATTENTIONS))]
        if strange:
            rule = "cannot be expressed: only layers of full or sliding attention can"
            raise problem(file, "layer_types", rule, _short(strange[0]), remedy)


_ATTENTIONS = ("full_attention", "sliding_attention", "chunked_attention")
