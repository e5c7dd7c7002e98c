"""The page of `sweep validate`: how wrong the model is on the cases of some files, and what it could not be asked.

Everything in it comes from the predictions and from the files' bytes; texts of cases are shown as texts.
"""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Iterable, Sequence
from hashlib import sha256
from math import log
from pathlib import Path

from sweep.memory_cases import checked
from sweep.misses import causes, missed
from sweep.page import Block, Chart, Choice, Fact, Facts, Notes, Section, Table, Text, page
from sweep.prediction import GroupError, Prediction, summarise
from sweep.ranking import rankings, summed
from sweep.validation_charts import (
    DIMENSIONS,
    Row,
    coverage,
    note_of,
    parts_of_misses,
    parts_text,
    percent,
    predicted_against_measured,
    residuals_by,
    said_of,
    value_text,
    words_of,
)

_FACTS = 6
_WORST = 20
_MOST_ROWS = 400  # of a table
_LEAST_FOR_RESIDUALS = 3


def validation_page(predictions: Sequence[Prediction], files: Sequence[Path]) -> str:
    """The HTML of the page."""
    notes = Notes([note_of(one) for one in predictions])
    rows = [(at, one) for at, one in enumerate(predictions) if one.error is not None]
    groups = summarise(predictions)
    sections = [
        Section("How wrong it is", list(_summary(predictions, groups))),
        *_charts(rows, notes),
        Section("Order of layouts", list(_ranking(predictions))),
        Section("Does it fit?", list(_memory(predictions))),
        Section("Worst misses", list(_misses(rows, notes))),
        Section("What was not predicted", list(_reasons(predictions))),
        Section("Versions and files", [_versions(), _digests(files)]),
    ]
    names = ", ".join(file.name for file in files)
    return page("Predicted and measured", [one for one in sections if one.blocks], f"sweep validate {names}")


# ------------------------------------------------------------------------------------------------------------ summary
def _summary(predictions: Sequence[Prediction], groups: Sequence[GroupError]) -> Iterable[Block]:
    cases = {one.id for one in predictions}
    predicted = {one.id for one in predictions if one.predicted is not None}
    yield Text(f"{len(predicted):,} of {len(cases):,} cases are predicted.{_answer(groups)}", strong=True)
    whole = sorted((one for one in groups if one.group == "all"), key=lambda one: -one.n)
    yield Facts([
        Fact(words_of(one.quantity), f"{100 * one.mean_absolute_error:.1f} %", f"mean error over {one.n:,}; median "
             f"{100 * one.median:.1f} %, bias {percent(one.bias)}")
        for one in whole[:_FACTS]
    ])  # fmt: skip
    yield Text(
        "Error is predicted / measured - 1; means are of its size, bias is its mean with sign. Beside it stand the "
        "errors of two guesses on the same cases: peaks alone (FLOPs and bytes at the chip's rates), and those peaks "
        "times the one constant that suits all cases best, as a single MFU would."
    )
    columns = ("group", "quantity", "cases", "mean error", "median", "90 %", "max", "bias", "in band", "peaks alone",
               "one constant")  # fmt: skip
    yield Table(columns, [_group_row(one) for one in whole])
    apart = [one for one in groups if one.group != "all"]
    yield Table(columns, [_group_row(one) for one in apart], caption=f"The same by group, {len(apart)} in all")
    remarks = [f"{one.group}, {one.quantity}: {one.remark}" for one in groups if one.remark]
    if remarks:
        yield Table(
            ("remark on bands",), [(remark,) for remark in remarks], folded="Where bands hold too few or too many"
        )


def _answer(groups: Sequence[GroupError]) -> str:
    whole = [one for one in groups if one.group == "all"]
    if not whole:
        return " Nothing was measured that can be compared."
    most = max(whole, key=lambda one: one.n)
    error = f"{100 * most.mean_absolute_error:.1f} % on average"
    answer = f" Over {most.n:,} of them the {words_of(most.quantity)} is off by {error}"
    if most.roofline is not None:
        answer += f", peaks alone by {100 * most.roofline:.0f} %"
    return answer + "."


def _group_row(one: GroupError) -> tuple[str, ...]:
    sizes = (one.mean_absolute_error, one.median, one.p90, one.max)
    rest = (one.coverage, one.roofline, one.constant)
    shares = ["" if value is None else f"{100 * value:.{0 if at == 0 else 1}f} %" for at, value in enumerate(rest)]
    return (one.group, one.quantity, str(one.n), *(f"{100 * v:.1f} %" for v in sizes), percent(one.bias), *shares)


# ------------------------------------------------------------------------------------------------------------- charts
def _charts(rows: Sequence[Row], notes: Notes) -> list[Section]:
    by_quantity: dict[str, list[Row]] = {}
    for row in rows:
        by_quantity.setdefault(row[1].quantity, []).append(row)
    ordered = sorted(by_quantity, key=lambda name: -len(by_quantity[name]))
    if not ordered:
        return []
    scatter = [(words_of(name), [predicted_against_measured(by_quantity[name], notes)]) for name in ordered]
    residuals: list[tuple[str, list[Block]]] = []
    for name in ordered:
        if len(by_quantity[name]) >= _LEAST_FOR_RESIDUALS:
            kept = {by: residuals_by(by, by_quantity[name], notes) for by in DIMENSIONS}
            residuals.append((words_of(name), [Choice("Errors by", [(by, [chart]) for by, chart in kept.items()])]))
    bands = [(words_of(name), [chart]) for name in ordered if (chart := coverage(by_quantity[name])) is not None]
    sections = [Section("Predicted against measured", [Choice("Quantity", scatter)])]
    if residuals:
        sections.append(Section("Where the errors are", [Choice("Quantity", residuals)]))
    if bands:
        sections.append(Section("Do the bands hold?", [Choice("Quantity", bands)]))
    return sections


# ------------------------------------------------------------------------------------------- ranking, memory, misses
def _ranking(predictions: Sequence[Prediction]) -> Iterable[Block]:
    found = rankings(predictions)
    total = summed(found)
    if total is None:
        return
    facts = [Fact("Groups", str(total.groups), f"{total.ranked} with layouts that differ by more than noise")]
    if total.tau is not None:
        facts.append(Fact("Kendall's tau", f"{total.tau:.2f}", f"mean over groups; {total.pairs} pairs"))
    facts.append(Fact("Regret", f"{100 * total.regret:.1f} %", f"mean; the worst {100 * total.worst_regret:.1f} %"))
    mixed = summed(rankings(predictions, same_release=False))
    if mixed is not None and mixed.tau is not None and mixed.groups != total.groups:
        facts.append(
            Fact(
                "Releases mixed", f"{mixed.tau:.2f}", f"tau of {mixed.ranked} groups; regret {100 * mixed.regret:.1f} %"
            )
        )
    yield Text(
        "Where one model was measured in several layouts on the same chips with the same software: does the model put "
        "them into the same order, and how much slower than the best is the layout that it would have chosen?"
    )
    yield Facts(facts)
    yield Table(
        ("group", "quantity", "layouts", "pairs", "tau", "regret", "the model's choice", "measured best"),
        [
            (one.group, one.quantity, one.layouts, one.pairs, "" if one.tau is None else f"{one.tau:.2f}",
             f"{100 * one.regret:.1f} %", one.chosen, one.best)
            for one in found[:_MOST_ROWS]
        ],
        folded=f"All {len(found)} groups",
    )  # fmt: skip


def _memory(predictions: Sequence[Prediction]) -> Iterable[Block]:
    check = checked(predictions)
    if check.right is None:
        return
    yield Facts([
        Fact("Judged right", f"{100 * check.right:.1f} %", "of runs whose memory is counted"),
        Fact("Ran, but predicted not to fit", str(len(check.ran_but_not_predicted)), f"of {check.ran:,} runs"),
        Fact("Ran out, but predicted to fit", str(len(check.ran_out_but_predicted)), f"of {check.ran_out:,} runs"),
    ])  # fmt: skip
    wrong = {*check.ran_but_not_predicted, *check.ran_out_but_predicted}
    listed = {one.id: one for one in predictions if one.id in wrong and one.memory is not None}
    if listed:
        yield Table(
            ("case", "group", "went", "predicted over what may be planned", "largest parts"),
            [
                (one.id, one.group, "ran" if one.ran else "out of memory", f"{one.memory or 0.0:.2f}", _bytes_text(one))
                for one in sorted(listed.values(), key=lambda one: -(one.memory or 0.0))[:_MOST_ROWS]
            ],
            folded=f"All {len(listed)}",
        )


def _bytes_text(one: Prediction) -> str:
    parts = sorted((one.memory_parts or {}).items(), key=lambda item: -item[1])[:3]
    return ", ".join(f"{name} {value_text(value, 'memory_bytes')}" for name, value in parts if value > 0.0)


def _misses(rows: Sequence[Row], notes: Notes) -> Iterable[Block]:
    worst = sorted(missed(rows), key=lambda row: -abs(log(max(1.0 + (row[1].error or 0.0), 1e-9))))
    if not worst:
        return
    known = [(at, one, causes(one)) for at, one in worst]
    unlisted = sum(not found for _, _, found in known)
    yield Text(
        f"{len(worst):,} predictions of grade A and B are off by more than 20 %; "
        f"{len(worst) - unlisted:,} have a cause on record, {unlisted:,} have none."
    )
    chart: Chart | None = parts_of_misses([(at, one) for at, one, _ in known[:_WORST]], notes)
    if chart is not None:
        yield chart
    yield Table(
        ("case", "quantity", "predicted", "measured", "error", "cause", "largest parts"),
        [
            (one.id, one.quantity, value_text(one.predicted, one.quantity), value_text(one.measured, one.quantity),
             percent(one.error), "; ".join(cause.summary for cause in found) or "none on record", parts_text(one, 3))
            for _, one, found in known[:_MOST_ROWS]
        ],
    )  # fmt: skip


def _reasons(predictions: Sequence[Prediction]) -> Iterable[Block]:
    left = [one for one in predictions if one.reason]
    if not left:
        yield Text("Every case is predicted.")
        return
    counts = Counter(one.reason for one in left)
    yield Table(("reason", "cases"), counts.most_common(), caption=f"{len(left):,} are listed with their reason.")
    yield Table(
        ("case", "grade", "group", "model", "reason"),
        [(one.id, one.grade or "", one.group, said_of(one, "model"), one.reason) for one in left[: 5 * _MOST_ROWS]],
        folded="Every case that was not predicted",
    )


# ----------------------------------------------------------------------------------------------------------- versions
def _versions() -> Table:
    from importlib.metadata import PackageNotFoundError, version

    rows = [("Python", platform.python_version())]
    for name in ("matrixsweep", "numpy", "plotly"):
        try:
            rows.append((name, version(name)))
        except PackageNotFoundError:
            rows.append((name, "not installed as a package"))
    folder = Path(__file__).parent / "catalogue_data"
    together = sha256()
    for file in sorted(folder.rglob("*.toml")):
        together.update(file.relative_to(folder).as_posix().encode() + b"\0" + file.read_bytes())
    rows.append(("catalogue, SHA-256 of all entries", together.hexdigest()))
    return Table(("what", "version"), rows)


def _digests(files: Sequence[Path]) -> Table:
    rows = []
    for file in files:
        content = file.read_bytes()
        rows.append((file.name, f"{sum(bool(line.strip()) for line in content.splitlines()):,}",
                     sha256(content).hexdigest()))  # fmt: skip
    return Table(("file of cases", "lines", "SHA-256"), rows)
