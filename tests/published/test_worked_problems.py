"""docs/worked-problems.md: what paper says, what the model says, and what the page says are one number."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "worked-problems.md").read_text(encoding="utf-8")
PROBLEMS = {section.partition("\n")[0]: section for section in re.split(r"^## ", PAGE, flags=re.M)[1:]}  # title -> text


def test_every_section_is_a_problem() -> None:
    """Six or more, each with one block and one answer."""
    assert len(PROBLEMS) >= 6
    for title, text in PROBLEMS.items():
        assert text.count("```python problem\n") == 1, title
        assert len(re.findall(r"\*\*([\d.]+)\*\*", text)) == 1, title


@pytest.mark.parametrize("title", PROBLEMS)
def test_paper_model_and_page_agree(title: str) -> None:
    """The block runs, its two numbers agree, and the answer is theirs to three figures."""
    text = PROBLEMS[title]
    (block,) = re.findall(r"```python problem\n(.*?)^```", text, re.M | re.S)
    found: dict[str, Any] = {}
    exec(compile(block, "docs/worked-problems.md", "exec"), found)
    assert found["by_model"] == pytest.approx(found["by_hand"], rel=found["within"])
    (answer,) = re.findall(r"\*\*([\d.]+)\*\*", text)
    for own in (found["by_hand"], found["by_model"]):
        assert f"{own / found['unit']:.3g}" == answer
