"""Each prediction of grade A and B that is off by more than 20 % has a cause on record, and no record is idle.

`python -m tests.published.test_misses` writes the table of docs/accuracy.md anew.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from sweep.misses import Cause, causes, is_missed, recorded, table
from sweep.prediction import Prediction
from sweep.validation import predict, read_cases
from tests.published import test_bands

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "accuracy.md"
POWER = HERE / "power_rows.jsonl"
HEADING = "| misses over 20 % |"


@cache
def missed() -> tuple[Prediction, ...]:
    """The predictions that are off."""
    powers = (one for case in read_cases([POWER]) for one in predict(case))
    return tuple(one for one in (*test_bands.predictions(), *powers) if is_missed(one))


def written() -> list[str]:
    """Lines of the table on the page."""
    return [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("|")]


def without_numbers(line: str) -> tuple[str, ...]:
    """Cells of a row of the table but those that change with each fit: how many rows, and their errors."""
    cells = tuple(cell.strip() for cell in line.strip("|").split(" | "))
    return (*cells[:2], *cells[4:])


def test_every_miss_has_a_cause_on_record() -> None:
    """What is off by more than a fifth is explained by a cause that was tested, or listed as unexplained."""
    assert not [(one.id, one.quantity, one.error) for one in missed() if not causes(one)]


@pytest.mark.parametrize("cause", recorded(), ids=lambda cause: cause.summary[:40])
def test_no_cause_is_idle(cause: Cause) -> None:
    """A record whose predictions have all become better is gone."""
    assert any(cause.holds_for(one) for one in missed()), "no case is missed for it any more: delete it"


def test_the_page_holds_the_table_of_causes() -> None:
    """docs/accuracy.md lists each cause, where it holds and how it was tested, as the record has them."""
    on_page = {without_numbers(line) for line in written()}
    lacking = [line for line in table([]).splitlines()[2:] if without_numbers(line) not in on_page]
    assert not lacking, "run python -m tests.published.test_misses"
    starts = [at for at, line in enumerate(written()) if line.startswith(HEADING)]
    assert len(starts) == 1


def test_a_pattern_takes_in_what_it_says() -> None:
    """Every key of a pattern must match, one of its patterns each, in any case of letters; and the sign."""
    one = Prediction("Run-7", "group", "step_time_s", 1.0, 1.3, 0.3, "nemo-2025", None, "A", stated={"family": "Grok"})
    assert Cause("x", {"stack": ("megatron-*", "nemo-*"), "family": ("grok",)}).holds_for(one)
    assert not Cause("x", {"stack": ("nemo-2024",), "family": ("grok",)}).holds_for(one)
    assert Cause("x", {"id": ("RUN-*",)}, "over").holds_for(one)
    assert not Cause("x", {"id": ("run-*",)}, "under").holds_for(one)


if __name__ == "__main__":
    every = [*test_bands.predictions(), *(one for case in read_cases([POWER]) for one in predict(case))]
    own = re.compile(rf"^{re.escape(HEADING)}.*\n(\|.*\n)*", re.M)
    PAGE.write_text(own.sub(lambda _: table(every) + "\n", PAGE.read_text(encoding="utf-8")), encoding="utf-8")
