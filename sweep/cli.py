"""The command line. Every command is named by its import path, so that `sweep --help` imports none of them.

Standard output carries the result, standard error the progress. Exit codes: 0 done, 2 bad input,
3 nothing feasible, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import sys

from cyclopts import App

from sweep.errors import InputError, NothingFeasible

BAD_INPUT = 2
NOTHING_FEASIBLE = 3
INTERRUPTED = 130

# command -> (import path, the line that `sweep --help` shows)
COMMANDS = {
    "run": ("sweep.commands.run:run", "Run a study, or continue it: the answer, then where the rows are."),
    "plan": (
        "sweep.commands.plan:plan",
        "What a study would run: axes, legal layouts, what drops the rest, time.",
    ),
    "explain": (
        "sweep.commands.explain:explain",
        "Take one layout apart: time, memory, energy, what bounds it.",
    ),
    "validate": ("sweep.commands.validate:validate", "Hold the model against published measurements."),
    "list": (
        "sweep.commands.catalogue:list_entries",
        "Names in the catalogue: chips, systems, models, stacks.",
    ),
    "show": ("sweep.commands.catalogue:show", "One entry of the catalogue, with the source of every number."),
    "digest": ("sweep.commands.digest:digest", "Hash of a run's rows: equal for equal results."),
}


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("matrixsweep")
    except PackageNotFoundError:
        return "unknown (not installed)"


def application() -> App:
    """Build the application with every command registered by its import path."""
    app = App(
        name="sweep",
        help="Sweep designs of AI clusters (chip, fabric, power, size, layout) and compare their steps.",
        help_format="plaintext",  # Markdown would be imported for nothing
        version=_version,
        help_epilogue="Exit codes: 0 done, 2 bad input, 3 nothing feasible. Progress goes to stderr.",
    )
    for name, (path, line) in COMMANDS.items():
        app.command(path, name=name, help=line)
    return app


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    from cyclopts import CycloptsError

    try:
        code = application()(arguments, exit_on_error=False, print_error=True, result_action="return_value")
    except InputError as error:
        sys.stderr.write(f"{error}\n")
        code = BAD_INPUT
    except NothingFeasible as answer:
        sys.stderr.write(f"{answer}\n")
        code = NOTHING_FEASIBLE
    except CycloptsError:
        code = BAD_INPUT  # cyclopts has printed what was wrong
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BrokenPipeError:  # the reader of a pipe, such as `head`, has seen enough
        sys.stderr.close()
        code = 0
    except OSError as failure:  # no room, no permission, no folder: what is done stays, and the command can go on
        sys.stderr.write(f"{failure.filename or 'sweep'}: {failure.strerror or failure}\n")
        code = BAD_INPUT
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
