"""Why predictions are off: causes on record in sweep/misses.toml, each for the predictions that its pattern takes in.

A cause was tested, and `tested` says how, or it is unexplained. `python -m sweep.misses FILE...` prints the table of
docs/accuracy.md for the cases of the files.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from sweep.prediction import Prediction

RECORD = Path(__file__).parent / "misses.toml"
MISSED = 0.20
_GRADES = ("A", "B")
_KEYS = ("id", "stack", "chip", "kind", "quantity", "family", "model", "framework", "task", "number_format", "chosen")
Numbered = TypeVar("Numbered", bound="tuple[int, Prediction]")


@dataclass(frozen=True, slots=True)
class Cause:
    """Why the predictions of a pattern are off.

    `where` maps names of _KEYS to shell patterns, of which one must match, whatever the case of letters; `sign` is
    "over" or "under" where only predictions too large or too small are meant.
    """

    summary: str
    where: Mapping[str, tuple[str, ...]]
    sign: str = ""
    tested: str = ""  # how it was tested; empty where the miss is unexplained

    def holds_for(self, one: Prediction) -> bool:
        """Whether a prediction is one of the pattern's."""
        error = one.error or 0.0
        if self.sign and (error > 0.0) != (self.sign == "over"):
            return False
        return all(_matches(_value(one, key), patterns) for key, patterns in self.where.items())

    @property
    def where_text(self) -> str:
        """The pattern in words."""
        parts = [f"{key} {' or '.join(f'`{one}`' for one in patterns)}" for key, patterns in self.where.items()]
        return ", ".join(
            [*parts, *([f"predicted too {'large' if self.sign == 'over' else 'small'}"] if self.sign else [])]
        )


def _value(one: Prediction, key: str) -> str:
    if key in ("id", "stack", "chip", "kind", "quantity", "chosen"):
        return str(getattr(one, key) or "").lower()
    return str((one.stated or {}).get(key, "")).lower()


def _matches(value: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(value, pattern.lower()) for pattern in patterns)


@cache
def recorded() -> tuple[Cause, ...]:
    """Every cause on record.

    Raises ValueError where the record has a key that is not known, or a cause without a pattern.
    """
    found = []
    known = {field.name for field in fields(Cause)}
    for raw in tomllib.loads(RECORD.read_text(encoding="utf-8"))["miss"]:
        strange = [*(set(raw) - known), *(set(raw.get("where", ())) - set(_KEYS))]
        if (
            strange
            or not raw.get("where")
            or not raw.get("summary")
            or raw.get("sign", "") not in ("", "over", "under")
        ):
            raise ValueError(f"{RECORD.name}: {raw.get('summary') or raw}: {', '.join(strange) or 'not complete'}")
        where = {key: _several(value) for key, value in raw["where"].items()}
        found.append(Cause(raw["summary"], where, raw.get("sign", ""), raw.get("tested", "")))
    return tuple(found)


def _several(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(map(str, value))


def is_missed(one: Prediction) -> bool:
    """Whether a prediction of grade A or B is off by more than a fifth of the measured value."""
    return one.error is not None and abs(one.error) > MISSED and one.grade in _GRADES


def missed(rows: Iterable[Numbered]) -> list[Numbered]:
    """Those of numbered predictions that are missed."""
    return [row for row in rows if is_missed(row[1])]


def causes(one: Prediction) -> list[Cause]:
    """The causes on record for a prediction."""
    return [cause for cause in recorded() if cause.holds_for(one)]


def table(predictions: Sequence[Prediction]) -> str:
    """The table of causes with the number of predictions that each takes in, and their errors."""
    lines = ["| misses over 20 % | where | rows | errors | tested how |", "| --- | --- | ---: | ---: | --- |"]
    wrong = [one for one in predictions if is_missed(one)]
    for cause in recorded():
        errors = [one.error or 0.0 for one in wrong if cause.holds_for(one)]
        ends = [f"{100 * end:+.0f}" for end in (min(errors), max(errors))] if errors else []
        span = f"{' to '.join(dict.fromkeys(ends))} %" if ends else ""
        tested = cause.tested or "**unexplained**"
        lines.append(f"| {cause.summary} | {cause.where_text} | {len(errors)} | {span} | {tested} |")
    return "\n".join(lines)


def main(files: Sequence[str]) -> None:
    """Print the table for the cases of some files, and below it what has no cause on record."""
    from sweep.validation import predict, read_cases

    predictions = [one for case in read_cases([Path(file) for file in files]) for one in predict(case)]
    sys.stdout.write(table(predictions) + "\n")
    for one in predictions:
        if is_missed(one) and not causes(one):
            sys.stderr.write(f"no cause: {one.id} {one.quantity} {100 * (one.error or 0.0):+.1f} % {one.stack}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
