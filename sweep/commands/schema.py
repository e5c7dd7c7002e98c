"""`sweep schema`: JSON Schemas of study files, catalogue entries and measured cases, for editors."""

from __future__ import annotations

import json as json_text
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def schema(
    name: str | None = None,
    *,
    output: Path | None = None,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Print the JSON Schema of a study file, of a kind of catalogue entry, or of a measured case.

    Parameters
    ----------
    name
        study, training-study, serving-study; a kind of entry such as chips, systems or models; training-case,
        serving-case, power-case. By default study.
    output
        File to write it to. A name without an ending is a folder, which takes NAME.schema.json, and all of them where
        no name is given.
    json
        With --output: print the files written as one JSON object. The schema itself is JSON either way.
    """
    from sweep.errors import nearest, problem
    from sweep.json_schemas import NAMES
    from sweep.json_schemas import schema as schema_of

    if name is not None and name not in NAMES:
        raise problem("sweep schema", "NAME", "no schema of this name", name, nearest(name, NAMES))
    if output is None:
        sys.stdout.write(json_text.dumps(schema_of(name or "study"), indent=2) + "\n")
        return
    folder = output.is_dir() or not output.suffix
    wanted = [name] if name is not None else list(NAMES) if folder else ["study"]
    if folder:
        output.mkdir(parents=True, exist_ok=True)
    files = {one: output / f"{one}.schema.json" if folder else output for one in wanted}
    for one, file in files.items():
        file.write_text(json_text.dumps(schema_of(one), indent=2) + "\n", encoding="utf-8")
    if json:
        told = {"files": {one: str(file) for one, file in files.items()}}
        sys.stdout.write(json_text.dumps(told) + "\n")
        return
    for file in files.values():
        sys.stdout.write(f"{file}\n")
