"""An imported model as a file of the catalogue, its parameters beside what the repository says of them."""

from __future__ import annotations

import re
import tomllib
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

from model.architecture import Architecture
from sweep.errors import problem
from sweep.hugging_face.config import Config, config_file, read_config, read_json
from sweep.hugging_face.shape import architecture

_NAME = re.compile(r"^[a-z0-9][a-z0-9._-]{0,99}$")
_SIZE = re.compile(r"(?<![\w.])(?:(\d+)x)?(\d+(?:\.\d+)?)([bmt])(?:-a(\d+(?:\.\d+)?)b)?(?![\w])", re.I)
_SCALE = {"m": 1e6, "b": 1e9, "t": 1e12}
_BYTES = {"float32": 4, "float": 4, "bfloat16": 2, "float16": 2, "half": 2, "float8_e4m3fn": 1}
_CLOSE = 0.03  # a count within this of what is said agrees with it
_PARTS = ("latent", "experts", "sparse", "low_rank")


@dataclass(frozen=True, slots=True)
class Imported:
    """A model read from its configuration.

    Attributes
    ----------
    said
        Where the number of parameters is told -> that number.
    notes
        What was left out or taken for something else.
    """

    name: str
    title: str
    file: Path
    model_type: str
    shape: Architecture
    said: dict[str, float]
    notes: tuple[str, ...]

    def differences(self) -> dict[str, float]:
        """The count over each number said, less 1."""
        return {source: self.shape.parameters / value - 1.0 for source, value in self.said.items()}

    def lines(self) -> list[str]:
        """The count and what it is held against, for people."""
        active = f", {_count(self.shape.active_parameters)} active" if self.shape.experts else ""
        found = [f"{self.title}: {_count(self.shape.parameters)} parameters{active} ({self.model_type})"]
        for source, value in self.said.items():
            off = self.shape.parameters / value - 1.0
            agrees = "agrees" if abs(off) <= _CLOSE else "DIFFERS: check the shapes"
            found.append(f"  {source} says {_count(value)}: {_off(off)}, {agrees}")
        return [*found, *(f"  {note}" for note in self.notes)]

    def toml(self) -> str:
        """The file of the catalogue."""
        lines = [f"title = {_text(self.title)}", f"source = {_text(f'{self.file.name} of {self.title}')}",
                 'kind = "datasheet"']  # fmt: skip
        if self.notes:
            lines.append(f"note = {_text(' '.join(self.notes))}")
        lines += ["", "[architecture]", *_keys(self.shape, ("name", *_PARTS))]
        for part in _PARTS:
            record = getattr(self.shape, part)
            if record is not None:
                lines += ["", f"[architecture.{part}]", *_keys(record, ())]
        return "\n".join(lines) + "\n"

    def as_json(self) -> dict[str, Any]:
        """The object that `sweep import --json` prints."""
        return {
            "name": self.name,
            "model_type": self.model_type,
            "parameters": self.shape.parameters,
            "active_parameters": self.shape.active_parameters,
            "said": self.said,
            "differences": self.differences(),
            "notes": list(self.notes),
            "record": self.toml(),
        }


def imported(path: Path, name: str | None = None, like: str | None = None) -> Imported:
    """Read a model.

    Parameters
    ----------
    path
        A `config.json`, or a folder with one.
    name
        Of the entry; by default the repository's or the folder's.
    like
        A family to read it as.

    Raises
    ------
    InputError
        With every problem of the file.
    """
    from sweep.catalogue_schema import read

    file = config_file(path)
    config = read_config(file, like)
    title = _title(config, file)
    own = _slug(title) if name is None else name
    if not _NAME.match(own):
        rule = "must be small letters, digits, dots, dashes and underscores"
        raise problem("sweep import", "--as", rule, own, "as in my-model-7b")
    shape = architecture(config, own)
    found = Imported(own, title, file, config.model_type, shape, _said(config, file, own), tuple(config.notes))
    read("models", tomllib.loads(found.toml()), f"models/{own}.toml")
    return found


def written(found: Imported, folder: Path) -> Path:
    """Write a model into a folder of catalogue entries; never over an entry that is there."""
    target = folder / "models" / f"{found.name}.toml"
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with target.open("x", encoding="utf-8") as file:
            file.write(found.toml())
    except FileExistsError:
        raise problem(target, "", "is there already", None, "name it anew with --as, or remove the file") from None
    return target


# ---------------------------------------------------------------------------------------------------------- names
def _title(config: Config, file: Path) -> str:
    """Name of the model: of its repository, or of the folder that the file lies in."""
    given = config.whole.get("_name_or_path")
    words = given if isinstance(given, str) else ""
    last = words.replace("\\", "/").rstrip("/").rpartition("/")[2]
    parent = file.resolve().parent.name if file.name == "config.json" else file.stem
    for one in (last, parent):
        plain = "".join(c for c in one if c.isprintable()).strip()[:100]
        if plain and plain not in (".", "..") and _slug(plain) != "model":
            return plain
    return config.model_type


def _slug(title: str) -> str:
    return re.sub(r"[^a-z0-9._]+", "-", title.lower()).strip("-._")[:100] or "model"


def _said(config: Config, file: Path, name: str) -> dict[str, float]:
    """Numbers of parameters that the repository tells: of its weights, and by its name."""
    found: dict[str, float] = {}
    index = file.parent / "model.safetensors.index.json"
    if index.is_file():
        facts = read_json(index).get("metadata")
        facts = facts if isinstance(facts, dict) else {}
        counted, size = facts.get("total_parameters"), facts.get("total_size")
        kind = str(config.keys.get("torch_dtype", config.keys.get("dtype", config.whole.get("torch_dtype"))))
        if weights := _number(counted):
            found["the index of the weights"] = weights
        elif (bytes_ := _number(size)) and config.whole.get("quantization_config") is None and kind in _BYTES:
            found[f"the size of the weights in {kind}"] = bytes_ / _BYTES[kind]
    match = _SIZE.search(name.replace("_", "-")) or _SIZE.search(_title(config, file).replace("_", "-"))
    if match and not match.group(1):  # "8x7B" is not 56 billion: the attention is shared
        found["its name"] = float(match.group(2)) * _SCALE[match.group(3).lower()]
    return {source: value for source, value in found.items() if value > 0}


def _number(value: object) -> float:
    """A number over 0 as it may be told; 0 for anything else."""
    return float(value) if isinstance(value, int | float) and value is not True and 0 < value < 1e18 else 0.0


# ----------------------------------------------------------------------------------------------------------- text
def _count(value: float) -> str:
    for unit, scale in (("T", 1e12), ("B", 1e9), ("M", 1e6)):
        if value >= scale:
            return f"{value / scale:.4g} {unit}"
    return f"{value:,.0f}"


def _off(share: float) -> str:
    """A difference in percent; nothing is no difference in either direction."""
    return f"{share:+.1%}".replace("-0.0%", "+0.0%")


def _text(value: str) -> str:
    """A TOML string; what a terminal or a file cannot hold is left out."""
    import json

    plain = value.encode("utf-8", "ignore").decode("utf-8")
    return json.dumps("".join(c for c in plain if c.isprintable()), ensure_ascii=False)


def _keys(record: Any, left_out: tuple[str, ...]) -> list[str]:
    """Keys of a record that differ from its defaults."""
    lines = []
    for field in fields(record):
        value = getattr(record, field.name)
        if field.name in left_out or (field.default is not MISSING and value == field.default):
            continue
        lines.append(f"{field.name} = {str(value).lower() if isinstance(value, bool) else value}")
    return lines
