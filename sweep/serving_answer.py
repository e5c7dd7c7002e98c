"""The answer of a study of serving in words: rates at each target, and the instances that reach them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from model import units
from sweep.answer import standing
from sweep.columns import QUANTITIES
from sweep.study import Study
from sweep.work import TARGETS

Row = Mapping[str, Any]
_SPEEDS = (10, 20, 30, 50, 70, 100, 150)  # tokens per second of a user at which a front is told
_DEGREES = ("tp", "cp", "pp", "dp", "ep", "etp")


def title_of(row: Row) -> str:
    """The model, the phase and the targets: rows of equal titles are compared."""
    lengths = f"{row['input_tokens']:,.0f} in, {row['output_tokens']:,.0f} out"
    return ", ".join([row["model"], row["phase"], lengths, *targets_of(row)])


def targets_of(row: Row) -> list[str]:
    """Targets of a row, as in "TPOT 50 ms"."""
    limits = {name: row[f"target_{name}"] for name in TARGETS if row[f"target_{name}"]}
    load = [f"load {units.show(row['load_tokens_per_s'], 'token/s')}"] if row["load_tokens_per_s"] else []
    return [f"{latency_name(name)} {units.show(limit, 's')}" for name, limit in limits.items()] + load


def latency_name(quantity: str) -> str:
    """A latency as people write it: "TTFT p99" of "ttft_p99_s"."""
    head, _, tail = quantity.removesuffix("_s").partition("_")
    return f"{head.upper()} {tail}".strip()


def grouped(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows by their titles."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(title_of(row), []).append(row)
    return groups


def headlines(study: Study, rows: Sequence[Row]) -> list[str]:
    """The answer in a line for each model and target: designs at their largest size, the best first."""
    quantity = QUANTITIES[study.search.objective]
    lines = []
    for title, group in grouped(rows).items():
        largest: dict[tuple[str, str], Row] = {}
        for row in sorted(group, key=lambda row: row["chips"]):
            largest[row["design"], row["number_format"]] = row
        base = next((row for (label, _), row in largest.items() if label == study.reference), None)
        best_first = sorted(largest.values(), key=lambda row: quantity.sign * row[quantity.name])
        texts = [
            f"{row['design']} {row['number_format']} {''.join(standing(row, base, quantity))}"
            + (f" on {row['chips']:,} chips, {layout_text(row)}" if len(rows) == 1 else "")
            for row in best_first
        ]
        lines.append(f"{title}; {quantity.name}: {'; '.join(texts)}")
    return lines


def front_lines(study: Study, rows: Mapping[str, Sequence[Any]]) -> list[str]:
    """A front of throughput against speed for a user in a line for each design: the best at speeds in between.

    Parameters
    ----------
    study
        The study.
    rows
        Columns of the data set.
    """
    fast = "tokens_per_s_per_user"
    if study.search.rows != "pareto" or len(study.search.pareto) != 2 or fast not in study.search.pareto:
        return []
    other = next(name for name in study.search.pareto if name != fast)
    sign, unit = QUANTITIES[other].sign, QUANTITIES[other].dimension.unit
    points: dict[str, list[tuple[float, float]]] = {}
    kept = ("design", "number_format", "corner", fast, other)
    for design, number_format, corner, speed, value in zip(*(rows[name] for name in kept), strict=True):
        if corner == "nominal":
            points.setdefault(f"{design} {number_format}", []).append((speed, value))
    lines = [f"Front: best {other} where a user sees at least so many tokens per second"]
    for name, found in points.items():
        best = {}
        for speed in _SPEEDS:
            values = [value for own, value in found if own >= speed]
            if values:
                best[speed] = units.show(sign * min(sign * value for value in values), unit)
        top = max(speed for speed, _ in found)
        told = ", ".join(f"{speed}: {text}" for speed, text in best.items())
        lines.append(f"  {name}: {told}; fastest {units.show(top, 'token/s')}")
    return lines


def instance_text(row: Row, head: str = "") -> str:
    """One kind of instance of a row: how many, its degrees that are not 1, and its batch."""
    degrees = [f"{name}{row[head + name]}" for name in _DEGREES if row[head + name] != 1]
    if row[f"{head}redundant"]:
        degrees.append(f"+{row[f'{head}redundant']}")
    if row[f"{head}micro_batches"] > 1:
        degrees.append(f"{row[f'{head}micro_batches']} micro-batches")
    if not head and row["mtp"]:
        degrees.append(f"mtp{row['mtp']}")
    return " ".join([f"{row[f'{head}instances']:,} x", *(degrees or ["1 rank"]), f"batch {row[f'{head}batch']:,}"])


def layout_text(row: Row) -> str:
    """The instances of a row in one line."""
    if row["deployment"] != "disaggregated":
        return instance_text(row)
    return f"prefill {instance_text(row, 'prefill_')}; decode {instance_text(row)}"
