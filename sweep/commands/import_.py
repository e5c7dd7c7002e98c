"""`sweep import`: a Hugging Face `config.json` as a model of the catalogue."""

from __future__ import annotations

import json as json_text
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def import_(
    config: Path,
    /,
    *,
    name: Annotated[str | None, Parameter(name="--as")] = None,
    like: str | None = None,
    catalogue: Path | None = None,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Read a model's config.json, count its parameters, and write its record of the catalogue.

    Parameters
    ----------
    config
        A config.json, or a folder with one; an index of the weights beside it is held against the count.
    name
        Of the entry; by default the repository's or the folder's.
    like
        A family to read it as, in place of its own model_type, as in llama or deepseek_v3.
    catalogue
        Folder of your own entries, to write the record into: FOLDER/models/NAME.toml. By default the record goes to
        standard output.
    json
        Print one JSON object: name, parameters, active_parameters, said, differences, notes, record, file.
    """
    from sweep.hugging_face.record import imported, written

    found = imported(config, name, like)
    file = None if catalogue is None else written(found, catalogue)
    if json:
        said = found.as_json() | {"file": None if file is None else str(file)}
        sys.stdout.write(json_text.dumps(said, allow_nan=False) + "\n")
        return
    if file is None:
        sys.stdout.write(found.toml())
        sys.stderr.write("\n".join(found.lines()) + "\n")
        return
    sys.stdout.write("\n".join([*found.lines(), f"written to {file}"]) + "\n")
    sys.stdout.write(f'A study takes it with catalogue = "{catalogue}" and model = "{found.name}".\n')
