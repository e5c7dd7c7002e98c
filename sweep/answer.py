"""The answer of a run: for every workload, design and size the best layout, and how many chips do the same work.

Equal throughput: a design's tokens per second at its sizes are joined by straight lines in logarithms of both; the
size at which it reaches the reference design's throughput is read off them. Beyond the sizes of a study nothing is
invented: the answer then says more than the largest, or fewer than the smallest.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from model import units
from model.reliability import days_to_train
from sweep.cases import Case
from sweep.columns import QUANTITIES, SETS, Quantity
from sweep.limits import rule_unit
from sweep.study import Study

Row = dict[str, Any]
NEAR = 0.01  # share of the best that counts as near it


@dataclass(frozen=True, slots=True)
class Answer:
    """Rows of the answer, cases without a feasible layout, and remarks."""

    rows: list[Row]
    failed: list[Row]
    remarks: tuple[str, ...]


def answer(study: Study, cases: Sequence[Case], outcomes: Mapping[int, Mapping[str, Any]]) -> Answer:
    """Put the outcomes of cases together.

    Parameters
    ----------
    study
        The study.
    cases
        Its cases, in order.
    outcomes
        What the search of each case came to, by the case's number.
    """
    rows: list[Row] = []
    failed: list[Row] = []
    ends: dict[tuple[Any, ...], dict[str, Row]] = {}
    sampled: dict[tuple[Any, ...], Mapping[str, Any]] = {}
    for case in cases:
        best = outcomes[case.index]["best"]
        if case.corner != "nominal" and case.method == "exact":
            ends.setdefault(_key(case), {})[case.corner] = best or {}
        elif case.method == "optuna" and len(study.search.methods) > 1:
            if case.corner == "nominal":
                sampled[_key(case)] = outcomes[case.index]
        elif case.corner == "nominal" and best is None:
            failed.append(_failure(case, outcomes[case.index]))
        elif case.corner == "nominal":
            # null where the study sets no limit
            rows.append(
                dict.fromkeys(SETS[study.phase].limits) | dict(best) | {"proof": _proof(study, outcomes[case.index])}
            )
    by_number = {case.index: case for case in cases}
    for row in rows:
        key = _key(by_number[row["case"]])
        add_totals(row)
        _add_band(study, row, ends.get(key, {}))
        _add_gap(study, row, sampled.get(key))
    if study.phase == "training":
        _add_equal(study, rows)
    return Answer(rows, failed, (*_remarks(study, rows), *_proven(study, cases, outcomes)))


def _proof(study: Study, outcome: Mapping[str, Any]) -> Row:
    """Why no layout of the case is better: how many were looked at, and what the rest could have reached at best."""
    sign, bound = QUANTITIES[study.search.objective].sign, outcome.get("bound")
    return {
        "layouts": outcome["layouts"],
        "evaluated": outcome["evaluated"],
        "pruned": outcome.get("pruned", {}),
        "pruned_at_best": None if bound is None else sign * bound,
    }


def _proven(study: Study, cases: Sequence[Case], outcomes: Mapping[int, Mapping[str, Any]]) -> Iterator[str]:
    """How the best layouts of all cases are known to be the best."""
    exact = [outcomes[case.index] for case in cases if case.method == "exact"]
    layouts, evaluated = (sum(outcome[name] for outcome in exact) for name in ("layouts", "evaluated"))
    cut: dict[str, int] = {}
    for outcome in exact:
        for rule, count in outcome.get("pruned", {}).items():
            cut[rule] = cut.get(rule, 0) + count
    if cut:
        shares = ", ".join(f"{count / layouts:.1%} by the {rule}" for rule, count in sorted(cut.items()))
        seen = f"of {layouts:,} legal layouts {evaluated:,} were evaluated"
        if study.phase == "training":
            yield f"Proven: {seen}; bounds exclude the rest: {shares}."
        else:  # a pass with prompts in it is taken to be no shorter than one without: nearly always so, not proven
            yield f"Bounded: {seen}; the rest would not serve more without prompts, a tenth to spare: {shares}."


def _key(case: Case) -> tuple[Any, ...]:
    return (case.design.label, case.work, case.chips, case.trial)


def _failure(case: Case, outcome: Mapping[str, Any]) -> Row:
    return {
        "design": case.design.label,
        "model": case.model,
        "number_format": case.number_format,
        "work": case.work.name,
        "chips": case.chips,
        "layouts": outcome["layouts"],
        "broken": outcome["broken"],
        "nearest": outcome["nearest"],
        "reason": why_not(outcome),
    }


def told(value: Any) -> Any:
    """Plain values as JSON has them: what is not finite, a time without failures say, is null."""
    if isinstance(value, Mapping):
        return {name: told(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [told(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def why_not(outcome: Mapping[str, Any]) -> str:
    """Which rule keeps a case from having any feasible layout, and by how much."""
    if not outcome["layouts"]:
        return "no legal layout: the ranks, the batch and the model's dimensions do not divide (see sweep plan)"
    blocking = [(name, count) for name, count in outcome["broken"].items() if count]
    if not blocking:
        return "every layout meets each limit alone, none meets all"
    blocking.sort(key=lambda item: (outcome["nearest"][item[0]] <= 0, -item[1]))  # rules that no layout meets first
    told = []
    for name, count in blocking:
        excess = outcome["nearest"][name]
        by = f", the nearest is {units.show(excess, rule_unit(name))} over" if excess > 0 else ""
        told.append(f"{count:,} break {name.replace('_', ' ')}{by}")
    return f"of {outcome['layouts']:,} layouts " + "; ".join(told)


def _add_band(study: Study, row: Row, ends: Mapping[str, Row]) -> None:
    """Throughput and the objective at both ends of the ranges of a machine that rests on rumour."""
    for corner in ("low", "high"):
        if corner in ends:
            row[f"tokens_per_s_{corner}"] = ends[corner].get("tokens_per_s")
            row[f"{study.search.objective}_{corner}"] = ends[corner].get(study.search.objective)


def add_totals(row: Row) -> None:
    """Days, energy and money of the whole training, where the study says how many tokens it has."""
    tokens = row.get("training_tokens")
    if not tokens:
        return
    cost = row["usd_per_million_tokens"]
    days = float(days_to_train(tokens, row["tokens_per_s"], row["goodput"]))
    row["training_days"] = days
    row["training_mwh"] = row["power_w"] * days * 24.0 / 1e6
    row["training_usd"] = None if cost is None else cost * tokens / 1e6


def _add_gap(study: Study, row: Row, outcome: Mapping[str, Any] | None) -> None:
    """What sampling the layouts lost against searching them all, and how soon it was near."""
    if outcome is None:
        return
    name = study.search.objective
    sampled = outcome["best"] or {}
    row["sampled"] = sampled.get(name)
    times = _over(sampled[name], row[name]) if sampled else None
    row["sampled_gap"] = None if times is None else abs(times - 1.0)
    row["sampled_trials"] = outcome["evaluated"]  # every trial is a layout of its own
    best = row[name]
    near = (trial + 1 for trial, value in outcome["improvements"] if value == best or abs(value - best) <= NEAR * best)
    row["sampled_trials_to_1pct"] = next(near, None)


# -------------------------------------------------------------------------------------------- equal throughput
def chips_for(target: float, sizes: Sequence[tuple[int, float]]) -> tuple[float | None, str]:
    """Chips that a design needs for a throughput, and how to say it.

    Parameters
    ----------
    target
        Tokens per second to reach.
    sizes
        Chips and tokens per second of the design, ascending.
    """
    if not sizes:
        return None, "?"
    if target > max(rate for _, rate in sizes):
        return None, f"> {sizes[-1][0]:,}"
    if target < sizes[0][1]:
        return None, f"< {sizes[0][0]:,}"
    for (chips, rate), (more, faster) in itertools.pairwise(sizes):
        if rate <= target <= faster:
            share = 0.0 if faster == rate else math.log(target / rate) / math.log(faster / rate)
            needed = chips * (more / chips) ** share
            return needed, f"{needed:,.0f}"
    return float(sizes[0][0]), f"{sizes[0][0]:,}"


def _add_equal(study: Study, rows: list[Row]) -> None:
    """Chips that each design needs for the throughput of the reference design at the same place in its sizes."""
    groups: dict[tuple[str, str], dict[str, list[Row]]] = {}
    for row in rows:
        if row["trial"] < 0:
            group = groups.setdefault((row["model"], row["number_format"]), {})
            group.setdefault(row["design"], []).append(row)
    for (model, _), designs in groups.items():
        reference = designs.get(study.reference) or groups.get((model, "bf16"), {}).get(study.reference)
        if not reference:
            continue
        for own in designs.values():
            curve = sorted((row["chips"], row["tokens_per_s"]) for row in own)
            for row in own:
                match = _same_size(row, reference)
                if match is None:
                    continue
                needed, text = chips_for(match["tokens_per_s"], curve)
                row["reference_chips"] = match["chips"]
                row["reference_number_format"] = match["number_format"]
                row["chips_equal_throughput"] = needed
                row["chips_equal_throughput_text"] = text


def _same_size(row: Row, reference: Iterable[Row]) -> Row | None:
    """The reference design's row whose size is nearest to a row's, within a third."""
    nearest = min(reference, key=lambda other: abs(math.log(other["chips"] / row["chips"])))
    return nearest if abs(math.log(nearest["chips"] / row["chips"])) < math.log(4 / 3) else None


def _remarks(study: Study, rows: list[Row]) -> tuple[str, ...]:
    remarks = []
    if any(row.get("reference_number_format", row["number_format"]) != row["number_format"] for row in rows):
        remarks.append(f"{study.reference} does not run every number format: its bf16 stands for the others.")
    if len({row["design"] for row in rows if "chips_equal_throughput_text" in row}) > 1:
        remarks.append(
            f"Equal: chips for the throughput of {study.reference} at that size, interpolated between a design's own "
            "sizes (straight lines in logarithms)."
        )
    remarks += _cheapest(study, rows)
    if any(row["scenario"] for row in rows):
        remarks.append(
            "Rumour: the machine exists in rumour or on a roadmap only. Its numbers are what was rumoured, not the "
            "middle of what is likely: read its band."
        )
    return tuple(remarks)


def _cheapest(study: Study, rows: Sequence[Row]) -> Iterator[str]:
    """At which of its sizes each design trains the most for a dollar, where a whole training is asked for."""
    groups: dict[tuple[str, str], dict[str, list[Row]]] = {}
    for row in rows:
        if row.get("training_usd") is not None:
            groups.setdefault((row["model"], row["number_format"]), {}).setdefault(row["design"], []).append(row)
    for (model, number_format), designs in groups.items():
        best = [min(own, key=lambda row: row["training_usd"]) for own in designs.values() if len(own) > 1]
        told = [f"{row['design']} {row['chips']:,} chips, {units.show(row['training_usd'], 'USD')}" for row in best]
        if told:
            yield f"{model}, {number_format}: a dollar trains the most at {'; '.join(told)}."


def headlines(study: Study, rows: Sequence[Row]) -> list[str]:
    """The answer in a line for each model and number format: designs at their largest size, the best first."""
    quantity = QUANTITIES[study.search.objective]
    groups: dict[tuple[str, str], dict[str, Row]] = {}
    for row in sorted(rows, key=lambda row: row["chips"]):
        groups.setdefault((row["model"], row["number_format"]), {})[row["design"]] = row
    lines = []
    for (model, number_format), largest in groups.items():
        base = largest.get(study.reference)
        texts = []
        for row in sorted(largest.values(), key=lambda row: quantity.sign * row[quantity.name]):
            value, rumour = standing(row, base, quantity)
            layout = f" chips, {layout_text(row)}" if len(rows) == 1 else ""
            texts.append(f"{row['design']} {value} on {row['chips']:,}{layout}{rumour}")
        lines.append(f"{model}, {number_format}: {'; '.join(texts)}")
    return lines


def standing(row: Mapping[str, Any], base: Mapping[str, Any] | None, quantity: Quantity) -> tuple[str, str]:
    """A row's value and its ratio to the reference's, and whether its machine is a rumour."""
    times = None if base is None or base is row else _over(row[quantity.name], base[quantity.name])
    ratio = "" if times is None else f" ({times:.2f} x)"
    value = units.show(row[quantity.name], quantity.dimension.unit)
    if not row["scenario"]:
        return f"{value}{ratio}", ""
    ends = [row.get(f"{quantity.name}_{end}") for end in ("p10", "p90")]
    known = [units.show(end, quantity.dimension.unit) for end in ends if end is not None]
    return f"{value}{ratio}", f", rumour ({' to '.join(known)})" if len(known) == len(ends) else ", rumour"


def _over(value: float, base: float) -> float | None:
    """A ratio; none to nothing, as what is rented costs to buy, or to what has no end."""
    return value / base if 0.0 < abs(base) < math.inf and abs(value) < math.inf else None


def band_text(row: Mapping[str, Any], name: str = "tokens_per_s") -> str:
    """The 10 to 90 % band of a row, as tables have it; empty without one."""
    if f"{name}_p10" not in row:
        return ""
    unit = QUANTITIES[name].dimension.unit
    ends = (row[f"{name}_p10"], row[f"{name}_p90"])
    return " to ".join("none" if end is None else units.show(end, unit).removesuffix(unit).strip() for end in ends)


def bands_text(bands: Mapping[str, Mapping[str, float | None]], share: float | None) -> list[str]:
    """The bands of one layout of a rumoured machine in words, and what share of the first rests on rumour."""
    if not bands:
        return []
    told_bands = [
        f"{name} {band_text({f'{name}_{edge}': value for edge, value in band.items()}, name)} "
        f"{QUANTITIES[name].dimension.unit}".rstrip()
        for name, band in bands.items()
    ]
    rests = "" if share is None else f"; {share:.0%} of the variance of {next(iter(bands))} rests on rumours"
    return [f"10 to 90 %: {'; '.join(told_bands)}{rests}"]


def layout_text(row: Mapping[str, Any]) -> str:
    """A layout in one line: degrees that are not 1, then the options in use."""
    degrees = [f"{name}{row[name]}" for name in ("tp", "cp", "pp", "vp", "dp", "ep", "etp") if row[name] != 1]
    degrees.append(f"mbs{row['mbs']}")
    if row["zero"]:
        degrees.append(f"zero{row['zero']}")
    if row["recompute"] != "none":
        degrees.append("full-rc" if row["recompute"] == "full" else "sel-rc")
    if row["schedule"] not in ("1f1b", "interleaved"):
        degrees.append(str(row["schedule"]))
    return " ".join(degrees)
