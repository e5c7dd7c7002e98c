"""The kinds of work that a study can be about, each with its space and its search; every task starts from here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from model.system import System
from sweep.cases import Case, Question, records
from sweep.keep import Columns
from sweep.search import Tally, search_range
from sweep.serving_search import search_served, serving_case
from sweep.study import Search
from sweep.work import TrainingWork

# Layouts of a task: a second or so, short enough to cancel and to balance, long enough to hide what a task costs.
FULL_TASK = 1 << 24
STORED_TASK = 1 << 18  # every row is kept in memory until the part is written
# Points of a task of serving: a point is a batch found by some ten evaluations, or by some hundreds.
_SERVED_TASK = {"prefill": 1 << 18, "decode": 1 << 16, "serving": 1 << 62}
# These follow from the step time of a case alone: bounds on it leave so little that a case is never cut.
_FOLLOW_TIME = ("tokens_per_s", "tokens_per_s_per_chip", "mfu", "step_time_s", "energy_per_token_j")
_WHOLE = 1 << 62


class Numbered(Protocol):
    """A space whose points have numbers from 0 to `count` - 1."""

    @property
    def count(self) -> int:
        """Points."""

    @property
    def points(self) -> int:
        """Points without their options."""

    @property
    def dropped(self) -> Mapping[str, int]:
        """Rule -> combinations that it is the first to drop."""

    @property
    def combinations(self) -> int:
        """Of all axes, before any rule."""

    @property
    def degrees(self) -> Mapping[str, tuple[int, ...]]:
        """Values that legal points have."""


@dataclass(frozen=True, slots=True)
class Known:
    """A case looked up in the catalogue: its machine and its space, ready to be searched."""

    question: Question
    case: Case
    records: Any

    @property
    def system(self) -> System:
        """The machine."""
        return self.records.system  # type: ignore[no-any-return]

    @property
    def space(self) -> Numbered:
        """All that there is to look at."""
        return self.records.space  # type: ignore[no-any-return]

    def search(self, first: int, last: int) -> tuple[Columns | None, Tally]:
        """The rows to keep of the points numbered `first` to `last` - 1, and what was seen."""
        if isinstance(self.case.work, TrainingWork):
            return search_range(self.question, self.records, first, last)
        return search_served(self.records, first, last)


def known_case(question: Question, case: Case) -> Known:
    """Look a case up."""
    training = isinstance(case.work, TrainingWork)
    return Known(question, case, records(question, case) if training else serving_case(question, case))


def task_size(question: Question) -> int:
    """Points of a task at most."""
    search = question.search
    if question.phase != "training":
        return _SERVED_TASK[question.phase]
    if search.rows in ("feasible", "all"):
        return STORED_TASK
    return _WHOLE if prunes_well(search) else FULL_TASK


def prunes_well(search: Search) -> bool:
    """Whether bounds leave few layouts of training to look at."""
    return search.prune and search.rows in ("best", "top") and search.objective in _FOLLOW_TIME
