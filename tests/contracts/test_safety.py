"""Files of others are data: nothing in them is run, and no path in them leads out of its folder."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

from sweep import catalogue, store
from sweep.cli import main
from sweep.errors import InputError
from sweep.running import run_study
from sweep.store.manifest import is_sound
from sweep.study import load, parse

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted([*(ROOT / "model").rglob("*.py"), *(ROOT / "sweep").rglob("*.py")])
# They make objects, or run code, from what they read.
FORBIDDEN_IMPORTS = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "yaml", "code", "codeop"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen"}
FORBIDDEN_METHODS = (".read_pickle", ".to_pickle")
STUDY = """
question = "which?"
chips = [8, 16, 24]
[[workloads]]
model = "llama-3-8b"
sequence = "8192 token"
batch = 128
[[designs]]
system = "hgx-h20"
[search]
rows = "top:2"
"""


def runs(call: ast.Call) -> bool:
    """Whether a call could run what it is given."""
    name = ast.unparse(call.func)
    keywords = {keyword.arg for keyword in call.keywords}
    by_value = name.endswith("import_module") and not isinstance(call.args[0], ast.Constant)
    named = name in FORBIDDEN_CALLS or name.endswith(FORBIDDEN_METHODS)
    return named or by_value or bool(keywords & {"shell", "allow_pickle"})


def forbidden(tree: ast.AST) -> list[str]:
    """What a module does that could run what it reads."""
    found = []
    for node in ast.walk(tree):
        modules = [name.name for name in node.names] if isinstance(node, ast.Import) else []
        modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        if any(name.partition(".")[0] in FORBIDDEN_IMPORTS for name in modules):
            found.append(ast.unparse(node))
        if isinstance(node, ast.Call) and runs(node):
            found.append(ast.unparse(node))
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_nothing_read_is_run(file: Path) -> None:
    """No module unpickles, evaluates or hands a text to a shell."""
    assert forbidden(ast.parse(file.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "line",
    ["import pickle", "from yaml import load", "eval(x)", "np.load(f, allow_pickle=True)", "pd.read_pickle(f)",
     "subprocess.run(x, shell=True)", "import_module(x)", "os.system(x)"],
)  # fmt: skip
def test_the_walk_sees_what_could_run(line: str) -> None:
    """The walk above can fail."""
    assert forbidden(ast.parse(line))


def test_code_in_a_run_folder_is_not_run(tmp_path: Path) -> None:
    """Python, pickles and YAML tags beside or in the files of a run are text."""
    finished = run_study(parse(STUDY), tmp_path, workers=0)
    trap = tmp_path / "trap"
    (Path(finished.path) / "sitecustomize.py").write_text(f"open({str(trap)!r}, 'w')")
    (Path(finished.path) / "designs" / "__init__.py").write_text(f"open({str(trap)!r}, 'w')")
    with (Path(finished.path) / "manifest.jsonl").open("a") as manifest:
        manifest.write(f"!!python/object/apply:os.system ['touch {trap}']\n")
        manifest.write('{"done": "case", "case": {"__reduce__": "os.system"}}\n')
    assert run_study(parse(STUDY), tmp_path, workers=0).digest == finished.digest
    assert not trap.exists()


REPORT: dict[str, Any] = {"layouts": 1, "evaluated": 1, "feasible": 1, "pruned": {}, "bound": None, "rows": 1,
                          "broken": {}, "nearest": {}, "best": None, "part": "case-000000.parquet"}  # fmt: skip


@pytest.mark.parametrize(
    "line",
    [
        [],
        "case",
        {"done": "case", "case": 0},
        {"done": "case", "case": "../../x", **REPORT},
        {"done": "case", "case": -1, **REPORT},
        {"done": "case", "case": 0, **REPORT, "part": "../../x.parquet"},
        {"done": "case", "case": 0, **REPORT, "part": "/etc/passwd"},
        {"done": "case", "case": 0, **REPORT, "part": "case-000000.parquet\n../x"},
        {"done": "case", "case": 0, **REPORT, "best": {"design": "x"}},
        {"done": "case", "case": 0, **REPORT, "rows": "1"},
        {"done": "step", "step": [0, 0], **REPORT},
        {"done": "step", "step": [0, "x", 1], **REPORT},
        {"done": "step", "step": [0, 0, 9], **REPORT, "part": "..\\..\\x"},
        {"done": "step", "step": [0, -1, -1], "cut": [[0, "9"]]},
        {"done": "generation", "track": "a", "generation": 0, "trials": "x"},
        {"done": "generation", "track": ["a"], "generation": 0, "trials": []},
    ],
)
def test_a_line_that_this_program_does_not_write_counts_as_nothing(tmp_path: Path, line: object) -> None:
    """Work that such a line claims is done again; no path in it is followed."""
    assert not is_sound(line)
    finished = run_study(parse(STUDY), tmp_path, workers=0)
    manifest = Path(finished.path) / "manifest.jsonl"
    whole = [json.loads(text) for text in manifest.read_text().splitlines()]
    assert all(is_sound(one) for one in whole)
    outside = tmp_path / "x.parquet"
    outside.write_bytes(b"mine")
    manifest.write_text("".join(json.dumps(one) + "\n" for one in [line, *whole[1:]]))
    assert run_study(parse(STUDY), tmp_path, workers=0).digest == finished.digest
    assert outside.read_bytes() == b"mine"


@pytest.mark.parametrize("given", ["../mine", "/tmp", "../../etc", "inside/../../mine", "linked"])
def test_a_study_reads_no_entries_outside_its_folder(
    tmp_path: Path, given: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A catalogue above the study, at an absolute path or behind a link is an error with a remedy, code 2."""
    (tmp_path / "mine" / "chips").mkdir(parents=True)
    folder = tmp_path / "studies"
    (folder / "inside").mkdir(parents=True)
    (folder / "linked").symlink_to(tmp_path / "mine")
    (folder / "study.toml").write_text(f'catalogue = "{given}"\n{STUDY}')
    with pytest.raises(SystemExit) as ended:
        main(["run", str(folder / "study.toml"), "--out", str(tmp_path / "runs")])
    errors = capsys.readouterr().err
    assert ended.value.code == 2
    assert "must lie in the folder of the study file, or below it" in errors
    assert "put the entries beside the study" in errors
    assert not (tmp_path / "runs").exists()


def test_an_entry_that_is_a_link_to_elsewhere_is_refused(tmp_path: Path) -> None:
    """A file of a study's own catalogue must be in it."""
    secret = tmp_path / "secret.toml"
    secret.write_text("password = 1\n")
    chips = tmp_path / "study" / "mine" / "chips"
    chips.mkdir(parents=True)
    (chips / "h20.toml").symlink_to(secret)
    (tmp_path / "study" / "study.toml").write_text(f'catalogue = "mine"\n{STUDY}')
    with pytest.raises(InputError, match="must not lead out of the catalogue folder"):
        load(tmp_path / "study" / "study.toml")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model", "../models/llama-3-8b"),
        ("system", "../../systems/hgx-h20"),
        ("system", "/etc/passwd"),
        ("name", "../x"),
    ],
)
def test_names_are_no_paths(key: str, value: str) -> None:
    """A separator in a name leads nowhere: there is no such entry, and no such name of a study."""
    text = STUDY.replace('"llama-3-8b"', f'"{value}"') if key == "model" else STUDY
    text = text.replace('"hgx-h20"', f'"{value}"') if key == "system" else text
    text = f'name = "{value}"\n{text}' if key == "name" else text
    with pytest.raises(InputError):
        parse(text)


def test_what_a_run_keeps_of_the_catalogue_has_plain_names(tmp_path: Path) -> None:
    """A run folder holds kinds, and files of entries in them, whatever the study calls its designs."""
    text = STUDY.replace("[[designs]]", '[[designs]]\nlabel = "../../x/y"')
    finished = run_study(parse(text), tmp_path, workers=0)
    folder = Path(finished.path) / "catalogue"
    kept = [file.relative_to(folder) for file in folder.rglob("*.toml")]
    assert kept
    assert all(len(file.parts) == 2 and file.parts[0] in catalogue.KINDS for file in kept)
    assert {file.name for file in tmp_path.iterdir()} == {finished.path.name}
    assert store.is_finished(finished.path)
