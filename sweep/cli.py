"""The command line. Every command is named by its import path, so that `sweep --help` imports none of them.

The first page is printed without the library that reads the commands, which takes ten times as long to import.

Standard output carries the result, standard error the progress. Exit codes: 0 done, 1 something failed and the same
command tries it again, 2 bad input, 3 nothing feasible, 130 stopped by Ctrl-C, 143 by SIGTERM.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from types import FrameType
from typing import TYPE_CHECKING

from sweep.errors import InputError, NothingFeasible, RunStopped, Terminated, exit_code

if TYPE_CHECKING:
    from cyclopts import App

FAILED = 1
BAD_INPUT = 2
NOTHING_FEASIBLE = 3

ABOUT = "Sweep designs of AI clusters (chip, fabric, power, size, layout) and compare their steps."
CODES = "Exit codes: 0 done, 1 failed, 2 bad input, 3 nothing feasible. Progress goes to stderr."
FIRST_PAGE: tuple[list[str], ...] = ([], ["--help"], ["-h"])  # the arguments that ask for it

# command -> (import path, the line that `sweep --help` shows)
COMMANDS = {
    "run": ("sweep.commands.run:run", "Run a study, or continue it: the answer, then where the rows are."),
    "plan": (
        "sweep.commands.plan:plan",
        "What a study would run: axes, legal layouts, what drops the rest, time.",
    ),
    "try": ("sweep.commands.questions:try_", "One question without a file, and the study that would repeat it."),
    "size": (
        "sweep.commands.questions:size",
        "The smallest cluster for a load within latency targets; of several machines the cheapest.",
    ),
    "explain": (
        "sweep.commands.explain:explain",
        "Take one layout apart: time, memory, energy, what bounds it.",
    ),
    "compare": ("sweep.commands.compare:compare", "Designs side by side: only what differs, with ratios."),
    "validate": ("sweep.commands.validate:validate", "Hold the model against published measurements."),
    "list": (
        "sweep.commands.catalogue:list_entries",
        "Names in the catalogue: chips, systems, models, stacks, engines.",
    ),
    "show": ("sweep.commands.catalogue:show", "One entry of the catalogue, with the source of every number."),
    "export": (
        "sweep.commands.export:export",
        "The launch script of a layout: Megatron, MindSpeed, torchtitan, vLLM, SGLang, TensorRT-LLM.",
    ),
    "trace": ("sweep.commands.trace:trace", "A step as a timeline for Perfetto: a lane for every resource and stage."),
    "import": ("sweep.commands.import_:import_", "A Hugging Face config.json as a model of the catalogue."),
    "schema": ("sweep.commands.schema:schema", "JSON Schemas of studies, catalogue entries and cases, for editors."),
    "report": ("sweep.commands.report:report", "Write a run's report: one page that opens offline."),
    "dashboard": ("sweep.commands.dashboard:dashboard", "Show a run's trials in optuna-dashboard."),
    "digest": ("sweep.commands.digest:digest", "Hash of a run's rows: equal for equal results."),
}


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("matrixsweep")
    except PackageNotFoundError:
        return "unknown (not installed)"


def first_page(width: int = 80) -> str:
    """What `sweep --help` prints: every command with its line, no wider than the terminal."""
    from textwrap import TextWrapper

    def fill(text: str, first: str = "", rest: str = "") -> str:
        return TextWrapper(width, first, rest, break_on_hyphens=False).fill(text)

    aside = max(map(len, COMMANDS)) + 4
    lines = [fill(line, f"  {name}".ljust(aside), " " * aside) for name, (_, line) in COMMANDS.items()]
    parts = (
        "Usage: sweep COMMAND",
        fill(ABOUT),
        "\n".join(["Commands:", *lines]),
        fill("`sweep COMMAND --help` tells a command's options, `sweep --version` the version."),
        fill(CODES),
    )
    return "\n\n".join(parts) + "\n"


def application() -> App:
    """Build the application with every command registered by its import path."""
    from cyclopts import App

    app = App(
        name="sweep",
        help=ABOUT,
        help_format="plaintext",  # Markdown would be imported for nothing
        version=_version,
        help_epilogue=CODES,
    )
    for name, (path, line) in COMMANDS.items():
        app.command(path, name=name, help=line)
    return app


@contextmanager
def _ends_in_order() -> Iterator[None]:
    """Let the signals that end a process do so in order: a Ray of the run's own is stopped, its folder deleted."""

    def end(number: int, frame: FrameType | None) -> None:
        raise Terminated(number)

    taken = []
    with suppress(ValueError):  # not the main thread, whose business signals are
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is signal.SIG_DFL:  # under nohup, SIGHUP stays ignored
                signal.signal(number, end)
                taken.append(number)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # where the locale lacks a character, a question mark is enough
    with _ends_in_order():
        code = _run(arguments)
    sys.exit(code if isinstance(code, int) else 0)


def _run(arguments: list[str] | None) -> object:
    """The exit code of a command."""
    if (sys.argv[1:] if arguments is None else arguments) in FIRST_PAGE:
        from shutil import get_terminal_size

        sys.stdout.write(first_page(min(max(get_terminal_size().columns - 1, 40), 120)))
        return 0
    from cyclopts import CycloptsError

    try:
        return application()(arguments, exit_on_error=False, print_error=True, result_action="return_value")
    except InputError as error:
        sys.stderr.write(f"{error}\n")
        return BAD_INPUT
    except NothingFeasible as answer:
        sys.stderr.write(f"{answer}\n")
        return NOTHING_FEASIBLE
    except RunStopped as reason:
        sys.stderr.write(f"{reason}\n")
        return FAILED
    except CycloptsError:
        return BAD_INPUT  # cyclopts has printed what was wrong
    except KeyboardInterrupt as stop:
        return exit_code(stop)
    except BrokenPipeError:  # the reader of a pipe, such as `head`, has seen enough
        sys.stderr.close()
        return 0
    except OSError as failure:  # no permission, no folder: what is done stays, and the command can go on
        from sweep.failures import is_no_space

        sys.stderr.write(f"{failure.filename or 'sweep'}: {failure.strerror or failure}\n")
        return FAILED if is_no_space(failure) else BAD_INPUT


if __name__ == "__main__":
    main()
