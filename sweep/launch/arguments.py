"""A launch: commands with their arguments, and what the framework cannot express."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Value = str | int | float | bool | Sequence[str]
_WIDTH = 110


@dataclass(slots=True)
class Arguments:
    """Arguments as they are collected, with what had to be left out and why."""

    given: dict[str, Value] = field(default_factory=dict)
    lacking: list[str] = field(default_factory=list)  # what the layout has and the framework has not
    remarks: list[str] = field(default_factory=list)  # what a reader must know to use it

    def set(self, option: str, value: Value = True) -> None:
        """Give an option; True is a switch without a value."""
        self.given[option] = value

    def when(self, condition: object, option: str, value: Value = True) -> None:
        """Give an option if a condition holds."""
        if condition:
            self.set(option, value)

    def lacks(self, what: str) -> None:
        """Say what the framework cannot express."""
        self.lacking.append(what)

    def remark(self, what: str) -> None:
        """Say what a reader must know."""
        self.remarks.append(what)


@dataclass(frozen=True, slots=True)
class Command:
    """One program to start.

    Attributes
    ----------
    title
        What it is, in a few words.
    program
        The words before the options, as they stand in a shell script.
    arguments
        Option -> value.
    configuration
        Keys of the file that the framework reads beside its options; dots nest them.
    role
        What it does among several, each of which starts on hosts of its own; empty for the only one.
    """

    title: str
    program: str
    arguments: Mapping[str, Value]
    configuration: Mapping[str, Value] = field(default_factory=dict)
    role: str = ""

    def lines(self) -> list[str]:
        """Lines of a shell script that start it."""
        lines = []
        if self.configuration:
            lines += ["cat > config.yaml <<'YAML'", yaml(self.configuration).rstrip("\n"), "YAML"]
        return [*lines, " \\\n    ".join([self.program, *_packed([*self.words(), '"$@"'])])]

    def words(self) -> list[str]:
        """Options with their values, quoted for a shell."""
        return [_shown(option, value) for option, value in self.arguments.items()]


@dataclass(frozen=True, slots=True)
class Launch:
    """What to start for a row.

    Attributes
    ----------
    framework, release, source
        Whose options these are, and where they are documented.
    job
        What is launched, in a line or two.
    variables
        Variables of the shell script with their defaults.
    lacking
        What the layout has and the framework cannot express.
    remarks
        What has to be known, or is left to the reader.
    """

    name: str
    framework: str
    release: str
    source: str
    job: tuple[str, ...]
    commands: tuple[Command, ...]
    variables: Mapping[str, str] = field(default_factory=dict)
    lacking: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    def script(self) -> str:
        """The launch as a shell script."""
        lines = ["#!/usr/bin/env bash", *_comment(self.job)]
        lines += _comment([f"Options of {self.framework} {self.release}: {self.source}."])
        if self.lacking:
            lines += ["#", *_comment([f"{self.framework} cannot express:"]), *_comment(self.lacking, "#   - ")]
        if self.remarks:
            lines += ["#", *_comment(self.remarks)]
        lines += ["set -euo pipefail", ""]
        lines += [f"{name}=${{{name}:-{shlex.quote(value)}}}" for name, value in self.variables.items()]
        if len(self.commands) == 1:
            lines += ["", *_comment([self.commands[0].title]), *self.commands[0].lines()]
            return "\n".join(lines) + "\n"
        lines += [
            f"ROLE=${{ROLE:-{self.commands[0].role}}}",
            "",
            *_comment(["What these hosts do:"]),
            'case "$ROLE" in',
        ]
        for command in self.commands:
            lines += [f"{command.role})", *_comment([command.title]), *command.lines(), ";;"]
        roles = " or ".join(command.role for command in self.commands)
        lines += ["*)", f'echo "ROLE must be {roles}" >&2', "exit 2", ";;", "esac"]
        return "\n".join(lines) + "\n"

    def as_json(self) -> dict[str, Any]:
        """The object that `sweep export --json` prints."""
        return {
            "framework": self.framework,
            "release": self.release,
            "source": self.source,
            "job": list(self.job),
            "commands": [
                {
                    "title": one.title,
                    "role": one.role,
                    "program": one.program,
                    "arguments": dict(one.arguments),
                    "configuration": dict(one.configuration),
                }
                for one in self.commands
            ],
            "not_expressed": list(self.lacking),
            "remarks": list(self.remarks),
        }


def _shown(option: str, value: Value) -> str:
    """An option with its value: --name value, or name=value for a key of a configuration."""
    if not option.startswith("-") and ":" not in option:
        return f"{option}={_override(value)}"
    if value is True:
        return option
    if isinstance(value, bool | int | float):
        return f"{option} {str(value).lower()}"
    words = [value] if isinstance(value, str) else list(value)
    return f"{option} {' '.join(_quoted(word) for word in words)}"


def _override(value: Value) -> str:
    if isinstance(value, bool | int | float):
        return str(value).lower()
    return shlex.quote(value if isinstance(value, str) else f"[{','.join(value)}]")


def _quoted(word: str) -> str:
    """A word for a shell; a variable of the script stays one."""
    return f'"{word}"' if word.startswith("$") and word[1:].isidentifier() else shlex.quote(word)


def _packed(words: Sequence[str]) -> list[str]:
    """Words in lines of a readable width."""
    lines: list[str] = []
    for word in words:
        if lines and len(lines[-1]) + len(word) < _WIDTH:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def _comment(sentences: Sequence[str], start: str = "# ") -> list[str]:
    """Sentences as comment lines; a line break in a name must not end the comment."""
    import textwrap

    indent = "#" + " " * (len(start) - 1)
    plain = [" ".join(sentence.split()) for sentence in sentences]
    return [
        line
        for sentence in plain
        for line in textwrap.wrap(sentence, 116, initial_indent=start, subsequent_indent=indent, break_long_words=False)
    ]


def yaml(keys: Mapping[str, Value]) -> str:
    """A YAML mapping; dots in keys nest, and texts are quoted as in JSON, which YAML reads."""
    import json

    nested: dict[str, Any] = {}
    for path, value in keys.items():
        *above, last = path.split(".")
        table = nested
        for step in above:
            table = table.setdefault(step, {})
        table[last] = value

    def lines(table: Mapping[str, Any], indent: str) -> list[str]:
        found = []
        for key, value in table.items():
            if isinstance(value, dict):
                found += [f"{indent}{key}:", *lines(value, indent + "  ")]
            else:
                found.append(f"{indent}{key}: {json.dumps(value)}")
        return found

    return "\n".join(lines(nested, "")) + "\n"
