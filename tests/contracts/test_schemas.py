"""JSON Schemas hold for every file that the framework reads, and find what it refuses by form."""

from __future__ import annotations

import copy
import json
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from sweep import catalogue
from sweep.cli import main
from sweep.json_schemas import NAMES, STUDIES, schema

ROOT = Path(__file__).resolve().parents[2]
STUDY_FILES = sorted((ROOT / "studies").glob("*.toml"))


@cache
def checker(name: str) -> Draft202012Validator:
    """What checks a document by a schema."""
    Draft202012Validator.check_schema(schema(name))
    return Draft202012Validator(schema(name))


def faults(name: str, document: Any) -> list[str]:
    """Where a document breaks a schema."""
    return [
        f"{'.'.join(map(str, one.absolute_path))}: {one.message[:200]}" for one in checker(name).iter_errors(document)
    ]


@pytest.mark.parametrize("name", NAMES)
def test_every_schema_is_one(name: str) -> None:
    """Every schema follows the standard and says what it is of."""
    made = schema(name)
    Draft202012Validator.check_schema(made)
    assert made["title"] and made["$schema"]
    assert json.loads(json.dumps(made)) == made


@pytest.mark.parametrize("file", STUDY_FILES, ids=lambda file: file.stem)
def test_every_study_holds(file: Path) -> None:
    """Every study of the repository holds, by the schema of all studies and by that of its phase."""
    document = tomllib.loads(file.read_text(encoding="utf-8"))
    assert not faults("study", document)
    assert not faults(
        "training-study" if document.get("phase", "training") == "training" else "serving-study", document
    )


@pytest.mark.parametrize("kind", catalogue.KINDS)
def test_every_entry_holds(kind: str) -> None:
    """Every entry of the catalogue holds by the schema of its kind."""
    for name in catalogue.names(kind):  # type: ignore[arg-type]
        document = tomllib.loads(catalogue.entry(kind, name).text)  # type: ignore[arg-type]
        assert not faults(kind, document), name


@pytest.mark.parametrize(
    ("name", "file"),
    [("training-case", "training_cases.jsonl"), ("serving-case", "serving_cases.jsonl"),
     ("power-case", "power_rows.jsonl")],
)  # fmt: skip
def test_every_case_holds(name: str, file: str) -> None:
    """Every measured case of the tests holds."""
    for line in (ROOT / "tests" / "published" / file).read_text(encoding="utf-8").splitlines():
        assert not faults(name, json.loads(line)), line[:80]


def changed(document: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A document with another value at a path."""
    made = copy.deepcopy(document)
    *above, last = path.split(".")
    table: Any = made
    for step in above:
        table = table[int(step)] if step.isdigit() else table.setdefault(step, {})
    table[last] = value
    return made


STUDY = tomllib.loads(next(f for f in STUDY_FILES if f.stem == "first_study").read_text(encoding="utf-8"))
SERVING = tomllib.loads(next(f for f in STUDY_FILES if f.stem == "llama_70b_serving").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("document", "path", "value"),
    [
        (STUDY, "workload", {}),
        (STUDY, "phase", "trainig"),
        (STUDY, "chips", "many"),
        (STUDY, "workloads.0.sequence", 4096),
        (STUDY, "workloads.0.sequenc", "4096 token"),
        (STUDY, "workloads.0.number_format", "fp7"),
        (STUDY, "layout.schedule", "1f1c"),
        (STUDY, "layout.tensor_parallel", {"mx": 4}),
        (STUDY, "layout.tensor_parallel", [0]),
        (STUDY, "layout.recompute", "core_attention+nrm"),
        (STUDY, "layout.zero_stage", 4),
        (STUDY, "search.objective", ["tokens_per_s"]),
        (STUDY, "search.objective", "speed"),
        (STUDY, "search.rows", "top"),
        (STUDY, "constraints.power", "<= 20 MW"),
        (STUDY, "constraints.power_w", "20 MW"),
        (SERVING, "targets.tpot", "50 ms"),
        (SERVING, "traffic.input_tokens", 4096),
        (SERVING, "serving.weight_format", "fp7"),
        (SERVING, "serving.kv_format", ["fp8"]),
        (SERVING, "layout.deployment", "apart"),
        (SERVING, "workloads.0.sequence", "4096 token"),
    ],
)
def test_a_mistake_is_found(document: dict[str, Any], path: str, value: Any) -> None:
    """Unknown keys and words, missing units and wrong forms, in studies of both kinds."""
    assert not faults("study", document)
    assert faults("study", changed(document, path, value)), path


@pytest.mark.parametrize(
    ("kind", "name", "path", "value"),
    [
        ("chips", "h100", "hbm_bandwidth", "3.35 TB/s"),
        ("chips", "h100", "hbm_bandwidth.kind", "rumor"),
        ("chips", "h100", "hbm_bandwidth.value", 3.35e12),
        ("chips", "h100", "hbm_bandwith", {"value": "1 B/s", "source": "abc", "kind": "derived"}),
        ("systems", "dgx-h100", "tiers", []),
        ("models", "llama-3-8b", "architecture.layers", "32"),
        ("models", "llama-3-8b", "architecture.layer", 32),
        ("stacks", "megatron-2025", "dispatch.value", "by_rank"),
    ],
)
def test_a_mistake_in_an_entry_is_found(kind: str, name: str, path: str, value: Any) -> None:
    """Values without a source, bare numbers where a unit is needed, unknown keys and words."""
    document = tomllib.loads(catalogue.entry(kind, name).text)  # type: ignore[arg-type]
    assert faults(kind, changed(document, path, value)), path


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command."""
    with pytest.raises(SystemExit) as stop:
        main(list(words))
    out = capsys.readouterr()
    assert isinstance(stop.value.code, int)
    return stop.value.code, out.out, out.err


def test_the_schema_of_studies_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a name that of any study."""
    code, out, err = run(capsys, "schema")
    assert (code, err) == (0, "") and json.loads(out) == schema("study")


def test_all_schemas_are_written(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A folder takes one file a schema; --json names them."""
    code, out, _ = run(capsys, "schema", "--output", str(tmp_path / "schemas"), "--json")
    files = json.loads(out)["files"]
    assert code == 0 and set(files) == set(NAMES) >= set(STUDIES)
    assert json.loads(Path(files["chips"]).read_text(encoding="utf-8")) == schema("chips")


def test_one_schema_is_written(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A file takes the schema named."""
    file = tmp_path / "m.schema.json"
    code, out, _ = run(capsys, "schema", "models", "--output", str(file))
    assert code == 0 and out == f"{file}\n" and json.loads(file.read_text(encoding="utf-8")) == schema("models")


def test_an_unknown_name_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """With the nearest ones, and exit code 2."""
    code, out, err = run(capsys, "schema", "chip")
    assert (code, out) == (2, "") and "did you mean 'chips'" in err
