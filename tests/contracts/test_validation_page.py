"""The page of `sweep validate --html`: everything in it, nothing of a case's text taken for markup."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sweep.cli import main
from sweep.stated import family_of
from sweep.validation import predict, read_cases
from sweep.validation_page import validation_page
from tests.contracts.test_page import Elements

PUBLISHED = Path(__file__).parents[1] / "published"
HOSTILE = "</script><img src=x onerror=alert(1)><b>&lt;"


def some(name: str, count: int) -> list[dict[str, Any]]:
    """Shipped cases spread over a file."""
    cases = read_cases([PUBLISHED / name])
    return cases[:: max(len(cases) // count, 1)][:count]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cases of all kinds, one of them hostile in every text, one without layers, one that is not a run."""
    cases = [*some("training_cases.jsonl", 24), *some("serving_cases.jsonl", 12), *some("power_rows.jsonl", 8)]
    hostile = {**cases[0], "id": HOSTILE, "model": HOSTILE, "grade": "A", "target": {"step_time_s": 1e-3}}
    hostile |= {"software": {**cases[0]["software"], "release": HOSTILE}, "flags": [HOSTILE], "task": HOSTILE}
    cases += [hostile, {"id": HOSTILE + "2", "chip": HOSTILE, "target": {"step_time_s": 1.0}}]
    path = tmp_path_factory.mktemp("cases") / "<b>cases&.jsonl"
    path.write_text("\n".join(map(json.dumps, cases)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def elements(file: Path) -> Elements:
    """The page of those cases, taken apart."""
    predictions = [one for case in read_cases([file]) for one in predict(case)]
    return Elements(validation_page(predictions, [file]))


def test_texts_of_cases_are_shown_as_texts(elements: Elements) -> None:
    """No element and no handler comes from a case."""
    assert not [tag for tag, own in elements.tags if tag in ("img", "b") or any(key.startswith("on") for key in own)]
    assert HOSTILE in "".join(elements.words)


def test_every_part_is_there(elements: Elements, file: Path) -> None:
    """Headings of every part, the reasons, the versions and the file's name and digest."""
    text = "".join(elements.words)
    for heading in ("How wrong it is", "Predicted against measured", "Where the errors are", "Do the bands hold?",
                    "Does it fit?", "Worst misses", "What was not predicted", "Versions and files"):  # fmt: skip
        assert heading in text
    assert "SHA-256" in text
    assert file.name in text
    for case in read_cases([file]):
        assert str(case["id"]) in text


def test_the_order_of_layouts_is_told_where_several_were_measured() -> None:
    """Runs of one task on one machine that differ in their layout: how often the faster one is predicted faster."""
    predictions = [one for case in read_cases([PUBLISHED / "training_cases.jsonl"]) for one in predict(case)]
    text = "".join(Elements(validation_page(predictions, [])).words)
    assert "Order of layouts" in text


def figures(elements: Elements) -> list[dict[str, Any]]:
    """The charts' data."""
    kinds = [own.get("id") or "" for tag, own in elements.tags if tag == "script"]
    held = zip(kinds, elements.scripts, strict=True)
    return [json.loads(text) for kind, text in held if kind.startswith("figure-")]


def test_charts_are_such_that_plotly_knows_them(elements: Elements) -> None:
    """Every figure has traces, and plotly accepts each property of it."""
    import plotly.graph_objects as go

    found = figures(elements)
    assert len(found) > 10
    for figure in found:
        assert figure["data"]
        text = json.dumps(figure).replace('"ink"', '"black"')  # the page's own name for the colour of its text
        assert go.Figure(json.loads(text)).data


def test_points_lead_to_their_notes(elements: Elements) -> None:
    """Each point's number is that of a note, which names the case and both values."""
    kinds = [own.get("id") or "" for tag, own in elements.tags if tag == "script"]
    (notes,) = (json.loads(text) for kind, text in zip(kinds, elements.scripts, strict=True) if kind == "notes-1")
    scatter = figures(elements)[0]
    marks = [trace for trace in scatter["data"] if trace.get("mode") == "markers"]
    for trace in marks:
        for number, measured, predicted in zip(trace["customdata"], trace["x"], trace["y"], strict=True):
            assert measured > 0.0
            assert predicted > 0.0
            assert "measured" in notes["texts"][number]


@pytest.mark.parametrize(
    ("words", "page"),
    [(["CASES", "--html"], "validation.html"), (["--html", "CASES"], "validation.html"),
     (["CASES", "--html", "own.html"], "own.html"), (["--html", "own.htm", "CASES", "--json"], "own.htm")],
)  # fmt: skip
def test_where_the_page_goes(
    words: list[str], page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A name that ends as pages do is the page's; anything else after the option is a file of cases."""
    monkeypatch.chdir(tmp_path)
    cases = tmp_path / "few.jsonl"
    cases.write_text("\n".join(map(json.dumps, some("training_cases.jsonl", 4))), encoding="utf-8")
    with pytest.raises(SystemExit) as ended:
        main(["validate", *(str(cases) if word == "CASES" else word for word in words)])
    assert ended.value.code == 0
    written = tmp_path / page
    assert written.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    said = capsys.readouterr()
    assert page in said.err
    if "--json" in words:
        assert set(json.loads(said.out)) == {"cases", "groups", "ranking", "memory"}


def test_a_page_that_cannot_be_written_is_said(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One error with the file and a remedy, exit code 2."""
    with pytest.raises(SystemExit) as ended:
        main(["validate", str(file), "--html", str(tmp_path / "no" / "where.html")])
    assert ended.value.code == 2
    assert "where.html" in capsys.readouterr().err


def test_nothing_measured_is_a_page_too() -> None:
    """Cases that cannot be predicted give a page that says so."""
    text = "".join(Elements(validation_page(predict({"id": "a", "chip": "none"}), [])).words)
    assert "0 of 1 cases are predicted" in text


@pytest.mark.parametrize(
    ("model", "family"),
    [
        ("DeepSeek-V3/R1", "deepseek"), ("DeepSeek-V3 671B (w/ MTP)", "deepseek"), ("Meta-Llama-3-8B", "llama"),
        ("meta-llama/Llama-3.1-70B", "llama"), ("01-ai/Yi-34B", "yi"), ("openai/gpt-oss-120b", "gpt-oss"),
        ("175B", None), (None, None),
    ],
)  # fmt: skip
def test_families_are_read_from_names(model: str | None, family: str | None) -> None:
    """The letters that a name begins with, behind a maker's; a stroke between two models is no maker's."""
    assert family_of(model) == family
