"""What a report shows is what the run holds: fronts, sums, best of each degree, counts, and why nothing fits."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plotly.graph_objects import Figure

import sweep
from model import units
from sweep.cases import Question, cases, records
from sweep.columns import QUANTITIES
from sweep.degrees import best_of_each
from sweep.page import Block, Chart, Choice, Facts, Section, Side, Table, Text
from sweep.relaxations import why_nothing
from sweep.report import FILE, sections, write
from sweep.report.pages import _views
from sweep.report.scan import FRONT
from sweep.running import kept

from .conftest import HOSTILE, STUDIES

ROOT = Path(__file__).resolve().parents[2]
each_run = pytest.mark.parametrize("name", STUDIES)


def inside(blocks: Any) -> Iterator[Block]:
    """All blocks, those inside of others too."""
    for block in blocks:
        if isinstance(block, Side):
            yield from inside(block.blocks)
        elif isinstance(block, Choice):
            for _, options in block.options:
                yield from inside(options)
        else:
            yield block


def charts(found: list[Section], title: str) -> list[Chart]:
    """The charts of a section."""
    return [block for one in found if one.title == title for block in inside(one.blocks) if isinstance(block, Chart)]


@each_run
def test_plotly_accepts_every_chart_and_each_says_what_it_means(name: str, runs: Any) -> None:
    """Figures are plotly's, and under each stand its meaning and its formula."""
    with kept(runs[name]) as found:
        told = sections(found)
    drawn = [block for one in told for block in inside(one.blocks) if isinstance(block, Chart)]
    assert drawn
    for chart in drawn:
        Figure(json.loads(json.dumps(chart.figure).replace('"ink"', '"#000000"')))  # raises ValueError where it is none
        assert len(chart.meaning) > 40, chart.name
        assert chart.formula, chart.name
        for trace in chart.figure["data"]:
            assert "customdata" not in trace or chart.notes or not isinstance(trace["customdata"][0], int)


@each_run
def test_a_run_has_every_section_that_it_can_have(name: str, runs: Any) -> None:
    """The answer first; each section of the page on reports, or the reason why nothing fits."""
    with kept(runs[name]) as found:
        titles = [one.title for one in sections(found)]
    page = (ROOT / "docs" / "report.md").read_text(encoding="utf-8")
    assert titles[0] == "Answer"
    assert titles[-1] == "Study"
    assert all(f"| {title} |" in page for title in titles)
    drawn = {"Front", "Where the time goes", "Where the memory goes", "Degrees of parallelism",
             "Against the size of the cluster", "What good layouts have in common",
             "What the result rests on"}  # fmt: skip
    assert drawn <= set(titles) if name != "nothing" else "Why nothing fits" in titles


def test_no_row_of_a_design_beats_its_front(runs: Any) -> None:
    """A front of the report against a brute-force comparison of all rows."""
    rows = sweep.load(runs["every_row"])
    with kept(runs["every_row"]) as found:
        (view,) = _views(found)
    for pair in view.pairs:
        better = {name: QUANTITIES[name].sign * rows[name].to_numpy() for name in pair}
        for label, seen in view.seen.designs.items():
            own = np.flatnonzero((rows["design"] == label) & rows["feasible"])
            every = np.stack([better[name][own] for name in pair], axis=1)
            drawn = np.stack([better[name][seen.fronts[pair]] for name in pair], axis=1)
            at_least = np.all(every[None] <= drawn[:, None], axis=2)
            assert not np.any(at_least & np.any(every[None] < drawn[:, None], axis=2)), (label, pair)
            if len(drawn) < FRONT:  # of a longer front some are drawn
                assert np.all(np.any(np.all(drawn[:, None] <= every[None], axis=2), axis=0)), (label, pair)


def test_counts_and_places_are_those_of_the_data_set(runs: Any) -> None:
    """Rows are counted, and each that is drawn is the row of its number."""
    rows = sweep.load(runs["every_row"])
    with kept(runs["every_row"]) as found:
        (view,) = _views(found)
    assert (view.seen.rows, view.seen.feasible) == (len(rows), int(rows["feasible"].sum()))
    for place, row in view.rows.items():
        assert rows.loc[place, ["design", "layout_id", "tokens_per_s"]].tolist() == [
            row["design"], row["layout_id"], row["tokens_per_s"],
        ]  # fmt: skip
    texts = dict(zip((one["row"] for one in view.notes.fields), view.notes.texts, strict=True))
    best = found.answer.rows[-1]
    for column in set(rows.columns) - {"run", "design", "changes"}:
        is_part = column.startswith(("time_", "memory_", "energy_", "violation_")) and column not in QUANTITIES
        if not is_part and best.get(column) is not None:
            assert f"{column} " in texts[best["row"]], column


@pytest.mark.parametrize("second", ["pp", "ep"])
def test_the_best_of_each_degree_is_that_of_all_rows(second: str, runs: Any) -> None:
    """The heatmap's search finds, for each pair of degrees, what the data set of all layouts has."""
    rows = sweep.load(runs["every_row"])
    with kept(runs["every_row"]) as found:
        study = found.study
        question = Question(study.axes, study.search, study.constraints, study.seed)
        for case in cases(study)[0]:
            cells = best_of_each(question, records(question, case), "tokens_per_s", [("tp", second)])["tp", second]
            own = rows[rows["case"] == case.index]
            assert set(cells) == set(zip(own["tp"], own[second], strict=True))
            best = own[own["feasible"]].groupby(["tp", second])["tokens_per_s"].max()
            for pair, cell in cells.items():
                assert (cell.excess == 0) == (pair in best.index)
                if cell.excess == 0:
                    assert cell.value == pytest.approx(best[pair], rel=1e-12)
                    assert cell.broken == ""
                else:
                    assert cell.broken == "hbm_bytes"


@each_run
def test_every_part_of_a_bar_is_explained_under_it(name: str, runs: Any) -> None:
    """A name in the legend of a stack stands in the words below, with what it is."""
    with kept(runs[name]) as found:
        told = sections(found)
    for title in ("Where the time goes", "Where the memory goes"):
        for chart in charts(told, title):
            for trace in chart.figure["data"]:
                assert f"{trace['name']}: " in chart.meaning.lower(), chart.name


def test_a_rumour_is_called_one_wherever_its_design_is_named(runs: Any) -> None:
    """In legends too; the answer gives its band, and the numbers of the answer are of what is compared."""
    with kept(runs["unsure"]) as found:
        told = sections(found)
        views = list(_views(found))
    for title in ("Front", "Against the size of the cluster"):
        for chart in charts(told, title):
            named = [str(trace.get("name")) for trace in chart.figure["data"]]
            named += [str(label) for trace in chart.figure["data"] if trace["type"] == "bar" for label in trace["y"]]
            assert any("910D (rumour)" in one for one in named) == ("bf16" in chart.name), chart.name
            assert "910D" not in named
    (answer,) = (one for one in told if one.title == "Answer")
    assert re.search(r"910D \(rumour\) has .* \(10 to 90 %: [\d.]+ .* to ", str(answer.blocks[0]))
    (choice,) = (block for block in answer.blocks if isinstance(block, Choice))
    for view, (title, blocks) in zip(views, choice.options, strict=True):
        (facts,) = (block for block in blocks if isinstance(block, Facts))
        assert title == view.title
        assert facts.facts[0].value == units.show(view.leaders[0]["tokens_per_s"], "token/s")


def test_stacks_add_up(runs: Any) -> None:
    """The parts of each bar sum to the time of a step, and to the memory of the fullest rank."""
    with kept(runs["every_row"]) as found:
        told = sections(found)
        (view,) = _views(found)
    leaders = {row["row"]: row for row in view.leaders}
    for title, whole in (("Where the time goes", "step_time_s"), ("Where the memory goes", "hbm_used_bytes")):
        chart = charts(told, title)[0]
        sums = np.sum([trace["x"] for trace in chart.figure["data"]], axis=0)
        told_of = chart.figure["data"][0]["customdata"]
        numbers = [int(number) for text in told_of for number in re.findall(r"row #(\d+)", text)]
        known = [
            (total, leaders[number][whole]) for total, number in zip(sums, numbers, strict=True) if number in leaders
        ]
        assert len(known) == len(leaders)
        assert all(total == pytest.approx(own, rel=1e-9) for total, own in known)
    equal = charts(told, "Where the time goes")[1]
    first = np.sum([trace["x"][0] for trace in equal.figure["data"]])
    assert first == pytest.approx(1e6 / view.leaders[0]["tokens_per_s_per_chip"])


def test_why_nothing_fits_names_the_nearest_layouts(runs: Any) -> None:
    """What breaks its limits the least, what it breaks, and what would make layouts feasible, as the command says."""
    with kept(runs["nothing"]) as found:
        assert not found.answer.rows
        why = next(one for one in sections(found) if one.title == "Why nothing fits")
    assert isinstance(why.blocks[0], Text)
    assert "2 cases have no feasible layout" in why.blocks[0].text
    asked = why_nothing(found.study, found.answer.failed)
    near, freed = (block for block in why.blocks if isinstance(block, Table) and not block.folded)
    assert near.columns[-2:] == ("breaks", "bound by")
    assert [row[3] for row in near.rows] == [one.layout for one in asked.nearest]
    for row in near.rows:
        assert re.search(r"the memory of a rank: [\d.]+ GB", row[4])
        assert re.search(r"power w: [\d.]+ kW \(<= 4 kW\)", row[4])
    assert [row[0] for row in freed.rows] == [one.to for one in asked.relaxations]


def test_the_tornado_is_of_the_numbers_that_the_study_asked_for(runs: Any) -> None:
    """Bars to both sides, the largest first, and the shares of the variance of `[uncertainty]`."""
    with kept(runs["unsure"]) as found:
        told = sections(found)
        numbers = [one["number"] for kept_ in found.certainty for own in kept_["rests_on"].values() for one in own]
    chart = charts(told, "What the result rests on")[0]
    data = chart.figure["data"]
    bars = sorted(pair for trace in data for pair in zip(trace["y"], trace["x"], strict=True))
    sizes = [abs(value) for _, value in bars]
    assert sizes[0] >= sizes[-1] > 0
    tables = [block for one in told for block in inside(one.blocks) if isinstance(block, Table)]
    shown = {cell for table in tables for row in table.rows for cell in row}
    assert numbers
    assert set(numbers) <= shown


def test_the_page_holds_study_versions_sources_and_errors(runs: Any) -> None:
    """What a reader needs to repeat it, and how wrong it may be."""
    folder = runs["unsure"]
    text = (folder / FILE).read_text()
    facts = json.loads((folder / "run.json").read_text())
    assert "system = &#34;atlas-910d-supernode&#34;" in text
    assert all(version in text for version in facts["versions"].values())
    assert "scaled from a related part; no public figure" in text
    assert "cases of megatron-bridge-2026" in text
    assert folder.parent.parent.as_posix() not in text, "paths of the machine that wrote it stay there"


def test_assumptions_are_counted_and_those_that_matter_stand_first(runs: Any) -> None:
    """Every number behind the machines once, with its source; the kinds add up to all of them."""
    with kept(runs["unsure"]) as found:
        (told,) = (one for one in sections(found) if one.title == "Assumptions")
    (facts,) = (block for block in told.blocks if isinstance(block, Facts))
    tables = {block.caption or block.folded: block for block in told.blocks if isinstance(block, Table)}
    every = next(table for title, table in tables.items() if re.fullmatch(r"All \d+", title.replace(",", "")))
    assert sum(int(fact.value.replace(",", "")) for fact in facts.facts) == len(every.rows)
    assert len({row[0] for row in every.rows}) == len(every.rows)
    assert all(row[-1] for row in every.rows)
    assert tables["Those that matter most"].rows[0][0] == every.rows[0][0]


def test_errors_stand_for_each_quantity_with_their_bands(runs: Any) -> None:
    """A chart of a quantity holds each design and model once; its bars and the table say the same."""
    with kept(runs["unsure"]) as found:
        (told,) = (one for one in sections(found) if one.title == "How wrong may it be")
    (choice,) = (block for block in told.blocks if isinstance(block, Choice))
    (table,) = (block for block in told.blocks if isinstance(block, Table))
    assert [title for title, _ in choice.options] == ["time of a step", "memory of the fullest rank", "power"]
    for quantity, (chart,) in choice.options:
        assert isinstance(chart, Chart)
        own = [row for row in table.rows if row[2] == quantity]
        (trace,) = chart.figure["data"]
        low = [x - less for x, less in zip(trace["x"], trace["error_x"]["arrayminus"], strict=True)]
        assert [f"{end:.2f}" for end in low] == [row[4].split()[0] for row in own]


def test_hostile_names_are_text(runs: Any) -> None:
    """No element comes of what a study file says."""
    text = (runs["hostile"] / FILE).read_text()
    assert HOSTILE not in text
    assert "&lt;/script&gt;&lt;script&gt;alert(1)" in text
    assert "<img" not in text


def test_an_unfinished_run_has_a_report_that_says_so(runs: Any, tmp_path: Path) -> None:
    """What is done is shown, and that there is more to come."""
    import shutil

    folder = Path(shutil.copytree(runs["hostile"], tmp_path / runs["hostile"].name))
    lines = (folder / "manifest.jsonl").read_text().splitlines()
    (folder / "manifest.jsonl").write_text("\n".join(lines[:1]) + "\n")
    assert write(folder).read_text().count("This run is not finished") == 1
    assert "This run is not finished" not in (runs["hostile"] / FILE).read_text()


def test_the_command_line_writes_reports(tmp_path: Path) -> None:
    """`sweep run` ends with one, unless it is told not to; `sweep report` writes it later."""

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "sweep.cli", *arguments], cwd=tmp_path, text=True,
                              capture_output=True, check=False)  # fmt: skip

    (tmp_path / "nothing.toml").write_text(STUDIES["nothing"])
    done = call("run", "nothing.toml", "--workers", "0", "--no-report", "--json")
    assert done.returncode == 3
    folder = Path(json.loads(done.stdout)["run"])
    assert json.loads(done.stdout)["report"] is None
    assert not (folder / FILE).exists()
    done = call("run", "nothing.toml", "--workers", "0")
    assert f"{FILE}\n" in done.stdout
    first = (folder / FILE).read_text()
    done = call("report", str(folder), "--json")
    assert json.loads(done.stdout) == {"report": str(folder / FILE)}
    assert (folder / FILE).read_text() == first
    done = call("report", "nowhere")
    assert done.returncode == 2
    assert "not the folder of a run" in done.stderr
