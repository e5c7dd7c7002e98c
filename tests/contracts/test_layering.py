"""The layers hold: what each package may import, where it may print, and how large a piece may grow."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODEL = sorted((ROOT / "model").rglob("*.py"))
SWEEP = sorted((ROOT / "sweep").rglob("*.py"))
MODEL_MAY_IMPORT = {*sys.stdlib_module_names, "numpy", "model"}
# Slow to import: `sweep --help` must not pay for them, so the functions that need them import them.
IMPORTED_LATE = {"jinja2", "optuna", "pandas", "plotly", "pyarrow", "ray", "scipy"}
LONGEST_FILE = 500
LONGEST_FUNCTION = 80


def each(files: list[Path]) -> pytest.MarkDecorator:
    """Run the test once for each file, under its name."""
    return pytest.mark.parametrize("file", files, ids=lambda file: str(file.relative_to(ROOT)))


def syntax(file: Path) -> ast.Module:
    """Parse a file."""
    return ast.parse(file.read_text(encoding="utf-8"), filename=str(file))


def imported(node: ast.AST, package: str) -> list[str]:
    """Top-level packages that one statement imports; a relative import is of `package`."""
    if isinstance(node, ast.Import):
        return [name.name.partition(".")[0] for name in node.names]
    if isinstance(node, ast.ImportFrom):
        return [package if node.level else (node.module or "").partition(".")[0]]
    return []


def for_types_only(node: ast.AST) -> bool:
    """Whether a statement is `if TYPE_CHECKING:`, whose body never runs."""
    return isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}


def run_on_import(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node that runs when the module is imported: all but the bodies of functions."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        yield node
        if isinstance(node, ast.If) and for_types_only(node):
            for alternative in node.orelse:
                yield alternative
                yield from run_on_import(alternative)
        else:
            yield from run_on_import(node)


@each(MODEL)
def test_the_model_imports_only_numpy_and_the_standard_library(file: Path) -> None:
    """The cost model stands alone: it can be read, tested and shipped to a worker without the rest."""
    foreign = {
        f"line {node.lineno}: {name}"
        for node in ast.walk(syntax(file))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in imported(node, "model")
        if name not in MODEL_MAY_IMPORT
    }
    assert not foreign


@each(SWEEP)
def test_heavy_libraries_are_imported_inside_functions(file: Path) -> None:
    """Importing a module of `sweep` loads no heavy library, so that the command line answers at once."""
    heavy = {
        f"line {node.lineno}: {name}"
        for node in run_on_import(syntax(file))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in imported(node, "sweep")
        if name in IMPORTED_LATE
    }
    assert not heavy


@each([file for file in MODEL + SWEEP if not file.name.startswith("cli")])
def test_only_the_command_line_prints(file: Path) -> None:
    """Standard output is the result of a command, so only the modules of the command line write to it."""
    prints = [
        f"line {node.lineno}"
        for node in ast.walk(syntax(file))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert not prints


@each(MODEL + SWEEP)
def test_a_file_can_be_read_in_one_sitting(file: Path) -> None:
    """A file that grows past the limit holds two subjects, and is split by them."""
    assert len(file.read_text(encoding="utf-8").splitlines()) <= LONGEST_FILE


@each(MODEL + SWEEP)
def test_a_function_fits_on_a_screen_or_two(file: Path) -> None:
    """A function that grows past the limit, its docstring included, does more than its name says."""
    too_long = {
        f"line {node.lineno}: {node.name} has {length} lines"
        for node in ast.walk(syntax(file))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := (node.end_lineno or node.lineno) - node.lineno + 1) > LONGEST_FUNCTION
    }
    assert not too_long


SAMPLE = """
import numpy
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    import pandas
else:
    import pyarrow
try:
    from optuna.samplers import TPESampler
except ImportError:
    pass
class Table:
    import plotly.express as px
    def show(self):
        import ray
from . import sibling
"""


def test_the_walk_sees_what_runs_on_import() -> None:
    """The walk finds imports in branches and classes, and passes over functions and type-only branches."""
    found = {name for node in run_on_import(ast.parse(SAMPLE)) for name in imported(node, "sweep")}
    assert found == {"numpy", "typing", "pyarrow", "optuna", "plotly", "sweep"}


def test_there_is_something_to_check() -> None:
    """The walk finds both packages, so that a moved folder cannot pass unseen."""
    assert MODEL
    assert SWEEP
