"""The report of a run: the answer first, then what it rests on, in one page."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import PurePath
from shlex import quote
from typing import Any

from model import units
from sweep import serving_answer, store
from sweep.answer import band_text
from sweep.cases import Case, Question, cases
from sweep.columns import QUANTITIES
from sweep.page import Block, Chart, Choice, Code, Fact, Facts, Section, Side, Table, Text, page
from sweep.report import errors, grid, nothing, parallel, pareto, scaling, sources, stacks, tornado
from sweep.report.scan import places_of, rows_at, scan
from sweep.report.view import Row, View, heading, name_of, row_layout
from sweep.running import Finished, Kept, as_kept, kept
from sweep.store import Place
from sweep.study import Study

FILE = "report.html"
_COMPARISON = "What is compared"
_RESTS, _LEADERS = 2, 4  # comparisons, and designs of each, of which it is said what they rest on


def write(run: str | PathLike[str] | Place) -> Place:
    """Write the report of a run into its folder, and return where it is. Raises InputError as `sweep.running.kept`."""
    with kept(run) as found:
        target = found.path / FILE
        target.write_text(report(found))
        return target


def write_finished(study: Study, finished: Finished) -> Place:
    """Write the report of a run that has just ended, and return where it is."""
    target = finished.path / FILE
    target.write_text(report(as_kept(study, finished)))
    return target


def report(found: Kept) -> str:
    """The HTML of a run's report; called inside of the block of `kept`."""
    state = "" if found.complete else " This run is not finished: what is done is shown."
    subtitle = f"{found.study.question.strip()}{state}"
    return page(found.study.name, sections(found), subtitle, _footer(found))


def sections(found: Kept) -> list[Section]:
    """The parts of a run's report; called inside of the block of `kept`."""
    told = _Told(found, tuple(_views(found)), *_space(found))
    return [section for make in _SECTIONS for section in make(told) if section.blocks]


@dataclass(frozen=True, slots=True)
class _Told:
    """What every section starts from."""

    found: Kept
    views: tuple[View, ...]
    cases: Sequence[Case]
    question: Question

    def each(self, make: Callable[[View], Chart | str | Sequence[Block] | None]) -> list[Block]:
        """Blocks of each comparison, one of which is shown at a time."""
        options = []
        for view in self.views:
            made = make(view)
            blocks = [Text(made)] if isinstance(made, str) else [made] if isinstance(made, Chart) else list(made or ())
            if blocks:
                options.append((view.title, blocks))
        return [Choice(_COMPARISON, options)] if options else []


def _space(found: Kept) -> tuple[Sequence[Case], Question]:
    study = found.study
    listed = [] if study.outer else cases(study)[0]
    return listed, Question(study.axes, study.search, study.constraints, study.seed, (), study.phase)


def _title(row: Row) -> str:
    return serving_answer.title_of(row) if "phase" in row else f"{row['model']}, {row['number_format']}"


def _views(found: Kept) -> Iterator[View]:
    study = found.study
    pairs = pareto.pairs_of(study)
    seen = scan(found.path, _title, study.decides_by[0], pairs)
    answer = found.answer.rows
    rows = rows_at(found.path, [*places_of(seen), *(row["row"] for row in answer)])
    by_title: dict[str, dict[int, Row]] = {}
    for place, row in rows.items():
        by_title.setdefault(_title(row), {})[place] = row
    labels = [design.label for design in study.designs]
    for title, one in seen.items():
        own = [row for row in answer if _title(row) == title]
        yield View(title, study, one, by_title.get(title, {}), own, pairs, _commands(found), labels)


def _commands(found: Kept) -> str:
    """What goes on from a row."""
    run = quote(f"{where(found.path)}#{{row}}")
    return f"sweep explain {run}\nsweep export {run}"


def where(path: Place) -> str:
    """A run's folder as commands name it: from the folder that runs are in, whoever's machine it was."""
    return str(PurePath(path.parent.name, path.name)) if path.local is not None else str(path)


# ------------------------------------------------------------------------------------------------------- sections
def _answer(told: _Told) -> Iterator[Section]:
    found = told.found
    blocks: list[Block] = []
    if not found.answer.rows:
        blocks.append(Text("No design has a feasible layout.", strong=True))
    blocks += [Text(_headline(view), strong=True) for view in told.views if view.leaders]
    if told.views and told.views[0].leaders:
        blocks.append(_facts(told.views[0]))
    blocks += told.each(_answer_table)
    remarks = [Text(text) for text in (*found.notes, *found.answer.remarks)]
    blocks += remarks[:1] if len(remarks) == 1 else [_folded(found)] if remarks else []
    yield Section("Answer", blocks)


def _folded(found: Kept) -> Block:
    return Code("\n".join((*found.notes, *found.answer.remarks)), folded="What to know of these numbers")


def _headline(view: View) -> str:
    """The best design of a comparison and the number asked for, and how far the others are."""
    best, *others = view.leaders
    name = view.objective.name
    unit = view.objective.dimension.unit
    size = "" if "phase" in best and best.get("load_tokens_per_s") else f" on {best['chips']:,} chips"
    value = "none" if best[name] is None else units.show(best[name], unit)
    text = f"{view.title}: {best['design']}{_rumour(best)} has the {_best_word(view)} {name_of(name)}, {value}{size}"
    behind = [f"{row['design']}{_rumour(row)} {row[name] / best[name]:.2f} x" for row in others
              if row[name] is not None and best[name]]  # fmt: skip
    return f"{text}, {row_layout(best)}." + (f" Beside it: {', '.join(behind)}." if behind else "")


def _best_word(view: View) -> str:
    return "most" if view.objective.better == "more" else "least"


def _rumour(row: Row) -> str:
    return " (rumour)" if row["scenario"] else ""


def _facts(view: View) -> Facts:
    """A few numbers of the first comparison's best design."""
    best = view.leaders[0]
    names = [view.objective.name, "tokens_per_s", "tokens_per_s_per_chip", "mfu", "tpot_s", "ttft_s", "power_w",
             "energy_per_token_j", "usd_per_million_tokens", "hbm_used_bytes"]  # fmt: skip
    facts: list[Fact] = []
    for name in dict.fromkeys(names):
        value = best.get(name)
        if value is not None and len(facts) < 6:
            unit = QUANTITIES[name].dimension.unit
            band = band_text(best, name)
            text = f"{value:.1%}" if name == "mfu" else units.show(value, unit)
            facts.append(Fact(name_of(name), text, f"10 to 90 %: {band}" if band else ""))
    bound = str(best["bound_by"])
    parts = {name: best[name] for name in best if name.startswith("time_") and name.endswith("_s") and best[name]}
    share = parts.get(f"time_{bound}_s", 0.0) / sum(parts.values()) if parts else 0.0
    facts.append(Fact("largest part of the time", bound, f"{share:.0%}"))
    return Facts(facts)


def _answer_table(view: View) -> list[Block]:
    if not view.answer:
        return [Text("No design has a feasible layout here.")]
    name = view.objective.name
    bands = any(band_text(row, name) for row in view.answer)
    others = [one for one in ("tokens_per_s", "power_w", "energy_per_token_j", "usd_per_million_tokens") if one != name]
    if view.study.phase != "training":
        others = ["tpot_s" if view.study.phase != "prefill" else "ttft_s", *others[1:]]
    heads = [heading(one) for one in (name, *others)]
    columns = ["design", "chips", heads[0], *(["10 to 90 %"] if bands else []), *heads[1:], "layout", "row"]
    rows = []
    for row in view.answer:
        cells = [f"{row['design']}{_rumour(row)}", f"{row['chips']:,}", _cell(row, name)]
        cells += [band_text(row, name)] if bands else []
        cells += [_cell(row, one) for one in others]
        rows.append([*cells, row_layout(row), f"#{row['row']}"])
    table = Table(columns, rows, folded=f"Every size: {len(rows)} rows" if len(rows) > 8 else "")
    return [table]


def _cell(row: Row, name: str) -> str:
    value = row.get(name)
    return "" if value is None else units.show(value, QUANTITIES[name].dimension.unit)


def _why_not(told: _Told) -> Iterator[Section]:
    failed = told.found.answer.failed
    if failed:
        question = told.question if told.cases else None
        title = "Why nothing fits" if not told.found.answer.rows else "What does not fit"
        yield Section(title, nothing.blocks(failed, told.cases, question))


def _front(told: _Told) -> Iterator[Section]:
    def each(view: View) -> list[Block]:
        made = [(f"{name_of(pair[0])} against {name_of(pair[1])}", pareto.chart(view, pair)) for pair in view.pairs]
        options = [(name, [chart]) for name, chart in made if chart is not None]
        return [Choice("Axes", options)] if options else []

    yield Section("Front", told.each(each))


def _time(told: _Told) -> Iterator[Section]:
    yield Section("Where the time goes", told.each(stacks.time_charts))


def _memory(told: _Told) -> Iterator[Section]:
    yield Section("Where the memory goes", told.each(stacks.memory_chart))


def _degrees(told: _Told) -> Iterator[Section]:
    layouts = {index: int(one["layouts"]) for index, one in told.found.outcomes.items()}
    views = [view for view in told.views if view.leaders]
    made = told.each(lambda view: grid.chart(view, told.cases, told.question, layouts) if view in views else None)
    yield Section("Degrees of parallelism", made)


def _sizes(told: _Told) -> Iterator[Section]:
    yield Section(
        "Against the size of the cluster",
        told.each(lambda view: [Side(made)] if (made := scaling.charts(view)) else []),
    )


def _common(told: _Told) -> Iterator[Section]:
    yield Section(
        "What good layouts have in common", told.each(lambda view: parallel.chart(view) if view.answer else None)
    )


def _rests(told: _Told) -> Iterator[Section]:
    designs = {design.label: design for design in told.found.study.designs}
    rests = []
    options = []
    for view in told.views[:_RESTS]:
        own = [one for row in view.leaders[:_LEADERS] if (one := tornado.rests_of(view, row, designs))]
        rests += own
        charts = [(one.row["design"], tornado.chart(view, one)) for one in own]
        blocks = [(name, [Text(made) if isinstance(made, str) else made]) for name, made in charts]
        if blocks:
            options.append((view.title, [Choice("Design", blocks)]))
    blocks_: list[Block] = [Choice(_COMPARISON, options)] if options else []
    tables = (tornado.variance_table(one) for one in told.found.certainty)
    blocks_ += [table for table in tables if table is not None]
    yield Section("What the result rests on", blocks_)
    yield Section("Assumptions", sources.blocks(told.found.study.designs, rests))


def _errors(told: _Told) -> Iterator[Section]:
    study = told.found.study
    latency = {"training": "step_time_s", "prefill": "ttft_s"}.get(study.phase, "tpot_s")
    wanted = [latency, "hbm_used_bytes", "power_w"]
    models = list(dict.fromkeys(workload.model for workload in study.workloads))
    yield Section("How wrong may it be", errors.blocks(study, models, wanted))


def _study(told: _Told) -> Iterator[Section]:
    found = told.found
    facts = json.loads((found.path / store.FACTS).read_text())
    rows: list[list[Any]] = [["run", found.path.name], ["digest of the rows", found.digest]]
    rows += [["commit", facts.get("commit") or "not a checkout"], ["seed", facts["seed"]]]
    rows += [[name, version] for name, version in facts.get("versions", {}).items()]
    rows += [[name.replace("_", " "), text] for name, text in facts.items() if name.endswith("_sha256")]
    command = f"sweep run study.toml\nsweep digest {quote(where(found.path))}\nsweep report {quote(where(found.path))}"
    yield Section("Study", [
        Code((found.path / "study.toml").read_text()), Table(("what", "is"), rows, "What it was run with"),
        Text("The study file above, in a file of its own, gives the same rows with the same versions:"), Code(command),
    ])  # fmt: skip


def _footer(found: Kept) -> str:
    rows = sum(int(one.get("rows") or 0) for one in found.outcomes.values())
    return (
        f"{found.path.name}: {len(found.outcomes):,} cases, {rows:,} rows kept. Every time, byte, watt and dollar is a "
        "prediction of a cost model, none a measurement."
    )


_SECTIONS: Sequence[Callable[[_Told], Iterator[Section]]] = (
    _answer, _why_not, _front, _time, _memory, _degrees, _sizes, _common, _rests, _errors, _study,
)  # fmt: skip
