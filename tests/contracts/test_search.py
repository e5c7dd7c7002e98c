"""What a search keeps does not depend on how it is cut, ordered or pruned."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from model.evaluate import evaluate_training
from model.layout import SCHEDULES
from sweep import catalogue
from sweep.bounds import bound_values, floor_costs, node_floors, point_floors
from sweep.cases import Case, Question, cases, records
from sweep.columns import QUANTITIES, TRAINING
from sweep.keep import best, front, select
from sweep.search import search_range
from sweep.study import Search, Study, load, parse

STUDY = """
question = "small"
chips = [{chips}]
[[workloads]]
model = "{model}"
sequence = "4096 token"
batch = {batch}
[[designs]]
system = "{system}"
[layout]
tensor_parallel = [1, 2, 8]
context_parallel = [1, 2]
virtual_stages = {{ max = 3 }}
micro_batch = [1, 2]
expert_tensor_parallel = [1, 2]
schedule = ["1f1b", "interleaved", "zb-h1", "zb-v", "dualpipe"]
overlap_off = ["none", "expert+data"]
offload = ["none", "optimizer", "activations"]
"""
SMALL_MODELS = ("llama-3-8b", "llama-3-70b", "qwen3-30b-a3b", "deepseek-v2", "gpt-oss-120b", "mixtral-8x7b")
MACHINES = [
    ("cloudmatrix-384", "qwen3-235b-a22b", 384, 768),
    ("gb200-nvl72", "llama-3-70b", 72, 144),
    ("dgx-h800", "deepseek-v2", 64, 128),
    ("hgx-h20", "llama-3-8b", 16, 64),
]


def small(system: str, model: str, chips: int, batch: int) -> tuple[Study, Case]:
    study = parse(STUDY.format(system=system, model=model, chips=chips, batch=batch))
    return study, cases(study)[0][0]


def question(study: Study, **changes: object) -> Question:
    return Question(study.axes, replace(study.search, **changes), study.constraints, study.seed)


def kept(asked: Question, case: Case, cuts: int = 1) -> dict[str, np.ndarray]:
    """The rows kept of a case searched in this many pieces."""
    from sweep.keep import merged

    known = records(asked, case)
    edges = np.linspace(0, known.space.count, cuts + 1).astype(int)
    found = [search_range(asked, known, int(a), int(b)) for a, b in pairwise(edges)]
    parts = [rows for rows, _ in found]
    tallies = [tally for _, tally in found]
    assert sum(tally.layouts for tally in tallies) == known.space.count
    assert sum(tally.evaluated + sum(tally.pruned.values()) for tally in tallies) == known.space.count
    rows = merged([part for part in parts if part is not None])
    chosen = select(asked.search, rows)
    return {name: values[chosen] for name, values in rows.items()}


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert np.array_equal(one[name], other[name]), name


@st.composite
def instances(draw: st.DrawFn) -> tuple[Study, Case]:
    """Any machine, with any model on few chips, and an option space of its own."""

    def some(values: tuple[object, ...], most: int = 3) -> str:
        return json.dumps(draw(st.lists(st.sampled_from(values), min_size=1, max_size=most, unique=True)))

    system = draw(st.sampled_from(catalogue.names("systems")))
    machine = catalogue.system(system)
    chips = machine.unit_packages * draw(st.sampled_from((1, 1, 2))) if machine.unit_packages <= 16 else 16
    text = STUDY.partition("[layout]")[0].format(
        system=system, model=draw(st.sampled_from(SMALL_MODELS)), chips=chips, batch=draw(st.sampled_from((24, 64, 96)))
    )
    text += f"""[layout]
    tensor_parallel = {some((1, 2, 4, 8))}
    context_parallel = {some((1, 2, 4), 2)}
    micro_batch = {some((1, 2, 4), 2)}
    virtual_stages = {{ max = {draw(st.integers(1, 4))} }}
    expert_tensor_parallel = {some((1, 2), 1)}
    recompute = {some(("none", "selective", "full", "norm", "core_attention+activation"))}
    zero_stage = {some((0, 1, 2, 3))}
    schedule = {some(SCHEDULES)}
    overlap_off = {some(("none", "tensor", "expert+data", "data"), 2)}
    offload = {some(("none", "optimizer", "activations", "optimizer+activations"), 2)}
    """
    study = parse(text)
    listed = cases(study)[0]
    assume(listed)
    return study, listed[0]


def enumerated(asked: Question, case: Case) -> dict[str, np.ndarray]:
    """Every layout on its own row of one flat list: no meshes, no bounds, no blocks."""
    known = records(asked, case)
    cost = evaluate_training(known.system, known.stack, known.training, known.space.decode(0, known.space.count))
    shape = (known.space.count,)
    found = {name: np.broadcast_to(np.asarray(QUANTITIES[name].read(cost)), shape) for name in TRAINING.quantities}
    return found | {"layout_id": np.arange(known.space.count), "feasible": cost.feasible}


FRONTS = [("tokens_per_s", "hbm_used_bytes"), ("energy_per_token_j", "tokens_per_s_per_chip", "power_w")]


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.filter_too_much])
@given(instances(), st.sampled_from(sorted(TRAINING.quantities)), st.sampled_from(FRONTS), st.integers(1, 9))
def test_the_search_finds_what_enumeration_finds(
    instance: tuple[Study, Case], objective: str, pareto: tuple[str, ...], top: int
) -> None:
    """Random machines, models and option spaces: the proven best rows are those of looking at every single layout."""
    study, case = instance
    count = records(question(study), case).space.count
    assume(0 < count < 150_000)
    every = enumerated(question(study), case)
    fits = np.flatnonzero(every["feasible"])
    for search in (
        replace(study.search, rows="top", top=top, objective=objective),
        replace(study.search, rows="pareto", pareto=pareto),
    ):
        wanted = fits[select(search, {name: values[fits] for name, values in every.items()})] if len(fits) else fits
        for prune in (True, False):
            asked = Question(study.axes, replace(search, prune=prune), (), 0)
            rows, tally = search_range(asked, records(asked, case), 0, count)
            found = [] if rows is None else rows["layout_id"].tolist()
            assert found == wanted.tolist(), (search.rows, prune)
            assert tally.layouts == count == tally.evaluated + sum(tally.pruned.values())
            for name in TRAINING.quantities if rows is not None else ():
                assert np.array_equal(rows[name], every[name][wanted]), name


@pytest.mark.parametrize("machine", MACHINES, ids=lambda m: m[0])
@pytest.mark.parametrize(
    "objective",
    [
        "tokens_per_s",
        "mfu",
        "energy_per_token_j",
        "tokens_per_s_per_watt",
        "usd_per_million_tokens",
        "useful_tokens_per_s",
    ],
)
def test_pruning_loses_no_row(machine: tuple[str, str, int, int], objective: str) -> None:
    """The best layouts found with bounds are those found by looking at every layout, bit for bit."""
    study, case = small(*machine)
    pruned = question(study, rows="top", top=20, objective=objective)
    whole = question(study, rows="top", top=20, objective=objective, prune=False)
    same(kept(pruned, case), kept(whole, case))


MONEY = ("usd_per_million_tokens", "useful_tokens_per_s", "tokens_per_s_per_watt", "power_peak_w")


@pytest.mark.parametrize("machine", MACHINES[2:], ids=lambda m: m[0])
@pytest.mark.parametrize("objective", MONEY)
def test_pruning_loses_no_row_of_money_and_power(machine: tuple[str, str, int, int], objective: str) -> None:
    """Bounds of money, failures and power hold, with limits too that cut through the space."""
    study, case = small(*machine)
    free = kept(question(study, rows="top", top=200, objective=objective), case)
    name = "power_w" if objective == "usd_per_million_tokens" else "usd_per_million_tokens"
    limit = float(np.median(free[name]))
    limits = ((name, "<=", limit), ("capital_usd", "<=", 1e15), ("floor_m2", "<=", 1e9))
    pruned, whole = (
        replace(question(study, rows="top", top=20, objective=objective, prune=prune), constraints=limits)
        for prune in (True, False)
    )
    found = kept(pruned, case)
    same(found, kept(whole, case))
    assert 0 < len(found[name]) <= 20
    assert (found[name] <= limit).all()


@settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.filter_too_much])
@given(
    instances(),
    st.sampled_from(MONEY),
    st.sampled_from(("capital_usd", "power_w", "floor_m2", "usd_per_million_tokens")),
    st.sampled_from((0.5, 0.97, 1.0, 1.2)),
    st.sampled_from(("list", "rental", "us")),
)
def test_limits_of_money_and_power_hold_where_bounds_cut(
    instance: tuple[Study, Case], objective: str, limited: str, share: float, prices: str
) -> None:
    """Any machine under any prices: with a limit about the best layout's value the search is that of every layout."""
    study, case = instance
    case = replace(case, design=replace(case.design, prices=prices))
    count = records(question(study), case).space.count
    assume(0 < count < 60_000)
    every = enumerated(question(study), case)
    fits = np.flatnonzero(every["feasible"])
    assume(len(fits))
    limit = share * float(np.median(every[limited][fits]))
    meets = fits[every[limited][fits] <= limit]
    for prune in (True, False):
        search = replace(study.search, rows="top", top=4, objective=objective, prune=prune)
        asked = Question(study.axes, search, ((limited, "<=", limit),), 0)
        rows, tally = search_range(asked, records(asked, case), 0, count)
        wanted = meets[select(search, {name: values[meets] for name, values in every.items()})] if len(meets) else meets
        assert ([] if rows is None else rows["layout_id"].tolist()) == wanted.tolist(), prune
        assert tally.layouts == count


@pytest.mark.parametrize("machine", MACHINES, ids=lambda m: m[0])
def test_no_layout_is_beyond_the_bounds_of_its_node_and_point(machine: tuple[str, str, int, int]) -> None:
    """No layout of a sample of nodes has a better value of any quantity than its node's and its point's bounds."""
    study, case = small(*machine)
    known = records(question(study), case)
    nodes = np.unique(np.random.default_rng(0).integers(0, len(known.space.offsets) - 1, 40))
    listing = known.space.listing(nodes)
    costs = floor_costs(known, nodes)
    floors = node_floors(known, nodes, costs)
    assert np.array_equal(listing.nodes, nodes)
    of_points = point_floors(known, listing, costs)
    of_nodes = floors.take(listing.node[listing.stage])
    numbers = listing.first.repeat(listing.sizes) + np.concatenate([np.arange(n) for n in listing.sizes])
    cost = evaluate_training(known.system, known.stack, known.training, known.space.take(numbers))
    for name, quantity in ((one, QUANTITIES[one]) for one in TRAINING.quantities):
        value = np.broadcast_to(quantity.sign * np.asarray(quantity.read(cost)), numbers.shape)
        for bounds in (of_nodes, of_points):
            best = bound_values(known, bounds, (name,))[:, 0].repeat(listing.sizes)
            assert (value >= best).all(), name


@pytest.mark.parametrize("rows", ["best", "top", "pareto", "feasible"])
def test_pieces_give_what_the_whole_gives(rows: str) -> None:
    """A case searched in pieces keeps the rows of the case searched at once."""
    study, case = small(*MACHINES[3])
    asked = question(study, rows=rows, top=7 if rows == "top" else 1, pareto=("tokens_per_s", "hbm_used_bytes"))
    whole = kept(asked, case)
    for cuts in (2, 5):
        same(whole, kept(asked, case, cuts))


@pytest.mark.parametrize("rows", ["top", "pareto", "feasible", "all"])
@pytest.mark.parametrize("prune", [True, False])
def test_a_range_in_which_no_point_starts_holds_nothing(rows: str, prune: bool) -> None:
    """A case may be cut inside the options of a point, its last one too: they belong to the range before."""
    study, case = small(*MACHINES[3])
    asked = question(study, rows=rows, prune=prune, pareto=("tokens_per_s", "hbm_used_bytes"))
    known = records(asked, case)
    count = known.space.count
    found, tally = search_range(asked, known, count - 1, count)
    assert found is None
    assert (tally.layouts, tally.evaluated, tally.pruned) == (0, 0, {})


def test_all_rows_are_all_legal_layouts() -> None:
    """rows = "all" keeps infeasible layouts too, each with its excess over HBM."""
    study, case = small(*MACHINES[3])
    rows = kept(question(study, rows="all"), case)
    assert len(rows["layout_id"]) == records(question(study), case).space.count
    over = rows["violation_hbm_bytes"] > 0
    assert over.any()
    assert np.array_equal(rows["feasible"], ~over)


def test_a_constraint_is_a_named_violation() -> None:
    """A bound of the study is kept as an excess in its own unit, and decides what is feasible."""
    study, case = small(*MACHINES[3])
    free = kept(question(study), case)
    limit = float(free["hbm_used_bytes"][0]) * 0.9
    bound = replace(question(study), constraints=(("hbm_used_bytes", "<=", limit),))
    rows = kept(bound, case)
    assert rows["hbm_used_bytes"][0] <= limit
    assert np.allclose(rows["violation_limit_hbm_used_bytes"], rows["hbm_used_bytes"] - limit)


values = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=60)


@settings(deadline=None)
@given(values)
def test_the_front_is_what_nothing_beats(rows: list[tuple[int, int, int]]) -> None:
    """A row is on the front iff no other is as good everywhere and better somewhere, or equal with a lower number."""
    points, numbers = np.array(rows, float), np.arange(len(rows))
    expected = [
        i for i, own in enumerate(rows)
        if not any(all(a <= b for a, b in zip(other, own, strict=True)) and (other != own or j < i)
                   for j, other in enumerate(rows) if j != i)
    ]  # fmt: skip
    assert sorted(front(points, numbers).tolist()) == expected


@settings(deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.integers(1, 10))
def test_equal_values_go_by_their_number(given_values: list[int], top: int) -> None:
    """The best K are the first K of all rows sorted by value, then number."""
    numbers = np.random.default_rng(len(given_values)).permutation(len(given_values))
    chosen = best(np.array(given_values, float), numbers, top)
    order = sorted(range(len(given_values)), key=lambda i: (given_values[i], numbers[i]))
    assert chosen.tolist() == order[:top]


def test_the_shipped_studies_are_read() -> None:
    """Every study of the repository passes its checks."""
    files = sorted((Path(__file__).parents[2] / "studies").glob("*.toml"))
    assert files
    for file in files:
        assert isinstance(load(file).search, Search)
