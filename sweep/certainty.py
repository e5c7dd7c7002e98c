"""How sure the answer of a study is: its designs at many points of the numbers that they rest on.

A row of the answer becomes a contender with the best layouts of its case; sweep/uncertainty draws the points. A row of
serving is its cluster of as many instances at the row's working point; of a disaggregated deployment the instances that
decode, and for the time to first token those of prompts: what they gain or lose at a point, the cluster does.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from model.layout import SHORT as TRAINED
from model.layout import Layout
from model.serving.instance import SHORT as SERVED
from model.serving.instance import Instance
from model.workload import Training
from sweep import catalogue
from sweep.answer import Answer, told
from sweep.columns import CODED, QUANTITIES
from sweep.designs import Design, design_of_row, is_scenario
from sweep.serving_explanation import work_of
from sweep.study import Study
from sweep.uncertainty.contenders import Contender, Deployed, cluster_contender, training_contender
from sweep.uncertainty.flips import flips
from sweep.uncertainty.propagation import Assessment, assess
from sweep.uncertainty.sensitivity import Influence, influences, share_on, variance_shares

Row = dict[str, Any]
BAND = ("p10", "p50", "p90")
BAND_POINTS = 256  # of the bands that every answer on rumoured machines has
_OF_PROMPTS = ("ttft_s", "ttft_p99_s")
_TOLD = ("tokens_per_s", "energy_per_token_j", "usd_per_million_tokens")  # of a layout that is taken apart
_COUNTED = "chips_used"  # for a load: as instances do less, more of them carry it
_SHARE_POINTS = 256  # of the indices of variance: to some hundredths
_FLIPPED = 5  # layouts with which the place is sought where two designs meet
RUMOURED = frozenset({"rumour", "placeholder"})


@dataclass(frozen=True, slots=True)
class Comparison:
    """Designs of one size at one piece of work, compared in one quantity.

    Attributes
    ----------
    standings
        A row for each design: its band, and the probability that it is the best.
    rests_on
        Design -> the numbers that its result rests on most: what, the kinds of their sources, elasticity, and Sobol'
        indices: the share of the variance that is theirs alone, and with all that they act together with.
    overtaking
        Values of single numbers at which a design and the one ahead of it change places.
    """

    title: str
    quantity: str
    points: int
    standings: tuple[Row, ...]
    rests_on: Mapping[str, tuple[Row, ...]]
    overtaking: tuple[Row, ...]

    def as_json(self) -> Row:
        """Plain values."""
        return asdict(self)


# ------------------------------------------------------------------------------------------------ rows as contenders
def contender(design: Design, rows: Sequence[Mapping[str, Any]], quantity: str = "tokens_per_s") -> Contender:
    """A design with some rows of one of its cases, the best first, for a quantity that it is asked for.

    Raises InputError for an unknown entry.
    """
    first, extra = rows[0], design.extra
    shape = catalogue.architecture(str(first["model"]), extra)
    if "phase" not in first:
        training = Training(shape, int(first["sequence"]), first["number_format"], float(first["expert_imbalance"]))
        return training_contender(design, catalogue.stack(design.stack, extra), training, _layouts(rows))
    phase, head = first["phase"], ""
    if first["deployment"] == "disaggregated":
        phase, head = ("prefill", "prefill_") if quantity in _OF_PROMPTS else ("decode", "")
    copies = f"{head}redundant"
    alike = [row for row in rows if row["deployment"] == first["deployment"] and row[copies] == first[copies]]
    serving = work_of(dict(first)).serving(shape, int(first[copies]))
    return cluster_contender(design, catalogue.engine(design.stack, extra), serving, _deployed(alike, head), phase)


def _layouts(rows: Sequence[Mapping[str, Any]]) -> Layout:
    return Layout(**{name: np.array([_code(short, row[short]) for row in rows]) for name, short in TRAINED.items()})


def _deployed(rows: Sequence[Mapping[str, Any]], head: str) -> Deployed:
    """The instances of rows, or those of one side: with a load, or apart, on as many ranks as they take."""
    instances = Instance(
        **{name: np.array([row.get(head + short, 0) for row in rows]) for name, short in SERVED.items()}
    )
    count = np.array([row[f"{head}instances"] for row in rows])
    own = [bool(row["load_tokens_per_s"]) or row["deployment"] == "disaggregated" for row in rows]
    ranks = np.where(own, count * instances.ranks, [row["ranks"] for row in rows])
    return Deployed(instances, count, ranks)


def _code(column: str, value: Any) -> int:
    return CODED[column].index(value) if column in CODED else int(value)


# ------------------------------------------------------------------------------------------------ every answer
def add_bands(study: Study, found: Answer) -> Answer:
    """Give rows of rumoured machines the 10 to 90 % band of what is asked for, and the share that rests on rumour."""
    designs = {design.label: design for design in study.designs}
    shares: dict[str, float] = {}
    name = study.decides_by[0]
    for row in found.rows:
        if not row["scenario"]:
            continue
        design = designs[row["design"]]
        if row["trial"] >= 0:  # what Optuna chose of its machine is not drawn
            design = design_of_row(row, design.extra)
        for quantity in dict.fromkeys((*study.decides_by, "tokens_per_s")):
            row |= band_of(contender(design, [row], quantity), quantity, row, study.seed)
        if f"{name}_rumoured_share" in row:
            shares.setdefault(row["design"], row[f"{name}_rumoured_share"])
    if not shares:
        return found
    each = ", ".join(f"{label} {share:.0%}" for label, share in shares.items())
    remark = (
        f"Bands: 10 to 90 % of {BAND_POINTS} draws of all numbers behind a machine and of the model's error. Of the "
        f"variance of {name} rests on rumours and placeholders: {each}."
    )
    return replace(found, remarks=(*found.remarks, remark))


def band_of(one: Contender, quantity: str, row: Mapping[str, Any], seed: int = 0) -> Row:
    """Columns of a row with a quantity's band and the share of its variance that rests on rumours and placeholders.

    Empty where the row or its instance does not have the quantity, or it has no logarithm at some point.
    """
    value, counted = row[quantity], quantity == _COUNTED
    if value is None or (counted and not row["load_tokens_per_s"]):
        return {}
    drawn = "tokens_per_s" if counted else quantity
    try:
        found = assess([one], drawn, BAND_POINTS, seed).standings[0].fixed
        share = share_on(influences(one, drawn, 0), RUMOURED)
    except ValueError:
        return {}
    factors = [edge / found.nominal for edge in (found.low, found.median, found.high)]
    edges = [math.ceil(value / factor) for factor in reversed(factors)] if counted else [value * f for f in factors]
    bands = {f"{quantity}_{name}": told(edge) for name, edge in zip(BAND, edges, strict=True)}
    return bands | {f"{quantity}_rumoured_share": share}


Bands = dict[str, dict[str, float | None]]


def layout_bands(
    design: Design, row: Mapping[str, Any], of: Callable[[str], Contender] | None = None
) -> tuple[Bands, float | None]:
    """Bands of one layout in what people ask for, and the share of the first that rests on rumour.

    None of a machine that exists, nor where the layout does not run.

    Parameters
    ----------
    row
        Values of the quantities as catalogued: a row of a data set, unless `of` makes the contender for a quantity.
    """
    if not is_scenario(design):
        return {}, None
    found: Bands = {}
    shares = []
    for quantity in _TOLD:
        columns = band_of(of(quantity) if of else contender(design, [row], quantity), quantity, row)
        if columns and columns[f"{quantity}_p50"] is not None:
            found[quantity] = {name: columns[f"{quantity}_{name}"] for name in BAND}
            shares.append(columns[f"{quantity}_rumoured_share"])
    return found, shares[0] if shares else None


# ------------------------------------------------------------------------------------------------ where it is asked
def comparisons(study: Study, groups: Iterable[tuple[str, bool, list[list[Row]]]]) -> Iterator[Comparison]:
    """Compare designs as the study asks.

    Parameters
    ----------
    groups
        Title, whether to say what the results rest on, and for each design the best rows of its case.
    """
    asked = study.uncertainty
    assert asked is not None, "the study does not ask for it"
    designs = {design.label: design for design in study.designs}
    for title, wholly, cases in groups:
        for quantity in asked.quantities:
            found = [contender(designs[rows[0]["design"]], rows, quantity) for rows in cases]
            assessment = assess(found, quantity, asked.points, study.seed)
            yield _comparison(study, title, quantity, assessment, found, cases, wholly)


def _comparison(
    study: Study, title: str, quantity: str, assessment: Assessment, found: Sequence[Contender],
    cases: Sequence[Sequence[Row]], wholly: bool,
) -> Comparison:  # fmt: skip
    standings, rests_on = [], {}
    asked = study.uncertainty
    assert asked is not None, "the study does not ask for it"
    few = [_few(one) for one in found]
    for standing, one, some, rows in zip(assessment.standings, found, few, cases, strict=True):
        effects = _influences(one, quantity)
        nominal = standing.band.nominal
        scale = rows[0][quantity] / nominal if 0.0 < abs(nominal) < math.inf else 1.0
        standings.append(
            {
                "design": standing.label, "chips": rows[0]["chips"], "scenario": rows[0]["scenario"],
                "nominal": nominal * scale, "p10": standing.band.low * scale,
                "p50": standing.band.median * scale, "p90": standing.band.high * scale,
                "best": standing.best, "near_best": standing.near_best, "feasible": standing.feasible,
                "rumoured_share": share_on(effects, RUMOURED) if effects else None,
                "unsure_share": share_on(effects) if effects else None,
            }
        )  # fmt: skip
        if wholly:
            rests_on[standing.label] = tuple(_rests_on(some, quantity, effects[: asked.sensitivities], study.seed))
    overtaking = tuple(_overtaking(quantity, standings, few)) if all(rests_on.values()) and wholly else ()
    return Comparison(title, quantity, assessment.points, tuple(standings), rests_on, overtaking)


def _rests_on(one: Contender, quantity: str, effects: Sequence[Influence], seed: int) -> Iterator[Row]:
    """The numbers that do the most: their kinds, elasticities, and shares of the variance, alone and with others."""
    if not effects:
        return
    shares = variance_shares(one, quantity, len(effects), _SHARE_POINTS, seed)
    of_column = {share.columns[0]: share for share in shares if len(share.columns) == 1}
    for effect in effects:
        share = of_column.get(effect.column)
        yield {
            "number": effect.column.text, "kinds": sorted(effect.origins), "elasticity": effect.elasticity,
            "effect": effect.effect, "first_order": None if share is None else told(share.first),
            "total": None if share is None else told(share.total),
        }  # fmt: skip


def _influences(one: Contender, quantity: str) -> tuple[Influence, ...]:
    """What the quantity rests on; nothing where it has no logarithm: a price of 0, a time without end."""
    try:
        return influences(one, quantity)
    except ValueError:
        return ()


def _overtaking(quantity: str, standings: Sequence[Row], found: Sequence[Contender]) -> Iterator[Row]:
    """For each design and the one ahead of it: the single numbers, nearest first, at which they change places."""
    sign = QUANTITIES[quantity].sign
    order = sorted(range(len(found)), key=lambda place: sign * standings[place]["nominal"])
    for ahead, behind in itertools.pairwise(order):
        for flip in flips(found[behind], found[ahead], quantity):
            if flip.factor is None:
                break
            yield {
                "design": standings[behind]["design"], "overtakes": standings[ahead]["design"],
                "number": flip.column.text, "unit": flip.number.quantity.unit, "now": flip.number.quantity.value,
                "value": flip.value, "factor": flip.factor, "inside_range": flip.inside,
                "probability": flip.probability,
            }  # fmt: skip


def _few(one: Contender) -> Contender:
    """A design with the first of its layouts: where two designs meet, the others add a hundredth at most."""
    return one.take(np.arange(min(_FLIPPED, one.layouts.shape[0])))


def kept_rows(tables: Sequence[Any], objective: str, most: int) -> list[Row]:
    """The best feasible rows of the parts of a case, as Arrow tables."""
    sign = QUANTITIES[objective].sign
    rows = [row for table in tables for row in table.to_pylist() if row["feasible"]]
    rows.sort(key=lambda row: (sign * row[objective], row["layout_id"]))
    return rows[:most]
