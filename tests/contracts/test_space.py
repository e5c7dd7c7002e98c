"""The space of layouts holds every legal layout once, and nothing else."""

from __future__ import annotations

import itertools
import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from model.architecture import Architecture, Experts, LatentAttention
from model.layout import OVERLAPS, SCHEDULES, SHORT, Layout, mask_of, recompute_code
from model.legality import legal
from model.workload import Training
from sweep.axes import Axes, Degrees, Problem
from sweep.space import layout_space

SELECTIVE = ("core_attention",)
DENSE = Architecture("dense", 6, 64, 12, 4, 8, 96, 1000)
LATENT = Architecture("latent", 7, 64, 8, 8, 8, 96, 1000, latent=LatentAttention(16, 8, 8, 4, 8), mtp_layers=1)
MIXED = Architecture("mixed", 4, 64, 8, 2, 8, 96, 1000, experts=Experts(12, 2, 48, dense_layers=1))
NARROW = Axes(
    tensor_parallel=Degrees(high=8),
    context_parallel=Degrees(high=4),
    virtual_stages=Degrees(high=3),
    expert_tensor_parallel=Degrees(high=2),
    micro_batch=Degrees(high=3),
    recompute=(("none",), ("full",)),
)
FIELDS = list(SHORT)
LAID = ("tensor_parallel", "context_parallel", "pipeline_parallel", "data_parallel")


def divisors(number: int) -> list[int]:
    return [d for d in range(1, number + 1) if number % d == 0]


def offered(degrees: Degrees, candidates: list[int]) -> list[int]:
    if degrees.values is not None:
        return [c for c in candidates if c in degrees.values]
    return [c for c in candidates if degrees.low <= c <= degrees.high]


def brute_force(problem: Problem, axes: Axes) -> set[tuple[int, ...]]:
    """Every combination of all values, filtered by the cost model's own rules of legality."""
    shape, ranks, batch = problem.architecture, problem.ranks, problem.global_batch
    experts = shape.experts
    values = {
        "tensor_parallel": offered(axes.tensor_parallel, divisors(ranks)),
        "context_parallel": offered(axes.context_parallel, divisors(ranks)),
        "pipeline_parallel": offered(axes.pipeline_parallel, divisors(ranks)),
        "virtual_stages": sorted({1, *offered(axes.virtual_stages, list(range(1, 20)))}),
        "data_parallel": offered(axes.data_parallel, divisors(ranks)),
        "expert_parallel": offered(axes.expert_parallel, divisors(experts.experts)) if experts else [1],
        "expert_tensor_parallel": (offered(axes.expert_tensor_parallel, divisors(experts.hidden)) if experts else [1]),
        "micro_batch": offered(axes.micro_batch, divisors(batch)),
        "global_batch": [batch],
        "sequence_parallel": [0, 1],
        "recompute": sorted({recompute_code(SELECTIVE if m == ("selective",) else m) for m in axes.recompute}),
        "zero_stage": list(axes.zero_stage),
        "schedule": list(range(len(SCHEDULES))),
        "context_exchange": [0, 1],
        "rank_order": [0, 1],
        "overlap_off": sorted({code & part for code in axes.overlap_off for part in range(1 << len(OVERLAPS))}),
        "offload": sorted({0, *axes.offload}),
    }
    laid = [*itertools.product(*(values.pop(name) for name in LAID))]
    laid = [degrees for degrees in laid if math.prod(degrees) == ranks]  # before the rest, to keep it small
    which, *mesh = np.meshgrid(np.arange(len(laid)), *values.values(), indexing="ij", sparse=False)
    ours = np.asarray(laid, np.int64).reshape(-1, len(LAID))[which.reshape(-1)].T
    rest = {name: axis.reshape(-1) for name, axis in zip(values, mesh, strict=True)}
    flat = Layout(**dict(zip(LAID, ours, strict=True)), **rest)
    flat = flat.take(np.flatnonzero(legal(Training(shape, problem.sequence), flat)))
    rows = (tuple(int(v) for v in row) for row in zip(*(getattr(flat, name) for name in FIELDS), strict=True))
    return {row for row in rows if once(dict(zip(FIELDS, row, strict=True)), problem, axes)}


def once(row: dict[str, int], problem: Problem, axes: Axes) -> bool:
    """Whether a layout is the one that stands for all that cost the same, and its options are the study's."""
    pipeline = row["pipeline_parallel"] > 1
    schedule, chunks = SCHEDULES[row["schedule"]], row["virtual_stages"]
    if pipeline:
        wanted = row["schedule"] in axes.schedule and (schedule == "interleaved") == (chunks > 1 and schedule != "zb-v")
        wanted = wanted and bool(offered(axes.virtual_stages, [chunks]))
    else:
        wanted = schedule == "1f1b"
    replicas = row["data_parallel"] * row["context_parallel"]
    shards = row["expert_parallel"] * row["expert_tensor_parallel"]
    alone = replicas == 1 and row["tensor_parallel"] == shards

    effects = {"tensor": row["tensor_parallel"] > 1, "expert": row["expert_parallel"] > 1, "data": not alone}
    felt = mask_of((name for name in problem.overlaps if effects[name]), OVERLAPS, "overlap")

    def chosen(value: int, effect: bool, neutral: int, values: tuple[int, ...]) -> bool:
        return value in values if effect else value == neutral

    return (
        wanted
        and chosen(row["sequence_parallel"], row["tensor_parallel"] > 1, 0, axes.sequence_parallel)
        and chosen(row["context_exchange"], row["context_parallel"] > 1, 0, axes.context_exchange)
        and chosen(row["zero_stage"], not alone, min(axes.zero_stage), axes.zero_stage)
        and chosen(row["rank_order"], pipeline and row["data_parallel"] > 1, 0, axes.rank_order)
        and row["overlap_off"] in {code & felt for code in axes.overlap_off}
        and row["offload"] in (axes.offload if problem.host else {0} & set(axes.offload))
    )


def listed(problem: Problem, axes: Axes) -> list[tuple[int, ...]]:
    space = layout_space(problem, axes)
    if not space.count:
        return []
    flat = space.decode(0, space.count)
    columns = [np.broadcast_to(getattr(flat, name), (space.count,)).tolist() for name in FIELDS]
    return list(zip(*columns, strict=True))


problems = st.builds(
    Problem,
    architecture=st.sampled_from([DENSE, LATENT, MIXED]),
    sequence=st.sampled_from([8, 24, 60]),
    ranks=st.sampled_from([1, 2, 4, 6, 8, 12]),
    global_batch=st.sampled_from([1, 4, 6, 12]),
    selective=st.just(SELECTIVE),
    overlaps=st.sampled_from([(), ("tensor",), ("expert", "data"), OVERLAPS]),
    host=st.booleans(),
)
degrees = st.one_of(
    st.builds(Degrees, values=st.lists(st.integers(1, 6), min_size=1, max_size=3).map(lambda v: tuple(sorted(set(v))))),
    st.builds(Degrees, high=st.integers(2, 8)),
)
narrowings = st.builds(
    Axes,
    tensor_parallel=degrees,
    context_parallel=st.just(Degrees(high=4)),
    pipeline_parallel=st.one_of(degrees, st.just(Degrees())),
    virtual_stages=degrees,
    data_parallel=st.one_of(degrees, st.just(Degrees())),
    expert_parallel=st.just(Degrees(high=6)),
    expert_tensor_parallel=st.just(Degrees(high=2)),
    micro_batch=st.just(Degrees(high=2)),
    sequence_parallel=st.sampled_from([(0,), (1,), (0, 1)]),
    recompute=st.sampled_from([(("none",),), (("none",), ("selective",))]),
    zero_stage=st.sampled_from([(0,), (1, 3), (0, 1, 2)]),
    schedule=st.sampled_from([(0,), (2,), (0, 2), (0, 1, 2, 5, 6)]),
    context_exchange=st.sampled_from([(0,), (1,), (0, 1)]),
    rank_order=st.sampled_from([(0,), (1,), (0, 1)]),
    overlap_off=st.sampled_from([(0,), (5,), (0, 7)]),
    offload=st.sampled_from([(0,), (1,), (0, 3)]),
)


@settings(deadline=None, max_examples=15)
@given(problems)
def test_the_space_is_the_product_of_all_values_filtered_by_the_rules(problem: Problem) -> None:
    """Enumeration by expansion finds the layouts that brute force finds, each once."""
    found = listed(problem, NARROW)
    assert len(found) == len(set(found))
    assert set(found) == brute_force(problem, NARROW)


@settings(deadline=None, max_examples=15)
@given(problems, narrowings)
def test_a_narrowed_space_is_the_narrowed_product(problem: Problem, axes: Axes) -> None:
    """Whatever a study narrows, its space is what brute force leaves."""
    found = listed(problem, axes)
    assert len(found) == len(set(found))
    assert set(found) == brute_force(problem, axes)


@settings(deadline=None, max_examples=15)
@given(problems, narrowings)
def test_every_dropped_combination_has_a_rule(problem: Problem, axes: Axes) -> None:
    """Legal layouts and those dropped by each rule add up to the product of the axes."""
    space = layout_space(problem, axes)
    assert space.count + sum(space.dropped.values()) == space.combinations


@settings(deadline=None, max_examples=15)
@given(problems, st.data())
def test_a_layout_has_one_number_however_it_is_decoded(problem: Problem, data: st.DataObject) -> None:
    """Blocks cut anywhere, single numbers, listings of nodes in any order and look-up by value agree."""
    space = layout_space(problem, NARROW)
    if not space.count:
        return
    start = data.draw(st.integers(0, space.count - 1))
    stop = data.draw(st.integers(start + 1, space.count))
    block, numbers = space.decode(start, stop), np.arange(start, stop)
    single = space.take(numbers)
    for name in FIELDS:
        assert np.array_equal(getattr(block, name), getattr(single, name))
    assert np.array_equal(space.find(block), numbers)
    nodes = np.array(data.draw(st.lists(st.integers(0, len(space.offsets) - 2), min_size=1, unique=True)))
    listing = space.listing(nodes)
    found = []
    for mesh in listing.meshes():
        layouts = listing.layout(mesh).flat()  # options first, points last: as a mesh numbers its places
        own = mesh.numbers(np.arange(mesh.size))
        assert np.array_equal(space.find(layouts), own)
        found += own.tolist()
    wanted = [np.arange(space.offsets[node], space.offsets[node + 1]) for node in nodes]
    assert sorted(found) == sorted(np.concatenate(wanted).tolist())


def test_an_illegal_layout_has_no_number() -> None:
    """Look-up says -1 for a layout that the space does not hold."""
    space = layout_space(Problem(DENSE, 24, 8, 4, SELECTIVE), NARROW)
    wrong = space.decode(0, 3).with_(micro_batch=np.array([5, 5, 5]))
    assert space.find(wrong).tolist() == [-1, -1, -1]


def test_a_published_layout_is_in_the_space() -> None:
    """Llama 3.1 405B on 16,384 ranks: tp 8, pp 16, dp 128, as published, is among the legal layouts."""
    llama = Architecture("llama-3.1-405b", 126, 16384, 128, 8, 128, 53248, 128256)
    space = layout_space(Problem(llama, 8192, 16384, 2048, SELECTIVE), Axes())
    published = Layout(
        tensor_parallel=np.array([8]), pipeline_parallel=np.array([16]), data_parallel=np.array([128]),
        micro_batch=np.array([1]), global_batch=np.array([2048]), sequence_parallel=np.array([1]),
        virtual_stages=np.array([7]), schedule=np.array([SCHEDULES.index("interleaved")]),
        zero_stage=np.array([1]), **{n: np.array([1]) for n in ("context_parallel", "expert_parallel",
        "expert_tensor_parallel")}, **{n: np.array([0]) for n in ("recompute", "context_exchange", "rank_order",
        "overlap_off", "offload")},
    )  # fmt: skip
    assert space.find(published)[0] >= 0


def test_the_order_is_by_degrees_then_options() -> None:
    """Numbers ascend with the degrees, so that two runs number the layouts alike."""
    rows = listed(Problem(MIXED, 24, 8, 12, SELECTIVE), NARROW)
    order = ["tensor_parallel", "context_parallel", "micro_batch", "expert_parallel", "expert_tensor_parallel",
             "pipeline_parallel"]  # fmt: skip
    keys = [tuple(row[FIELDS.index(name)] for name in order) for row in rows]
    assert keys == sorted(keys)
    assert len(list(itertools.groupby(keys))) == len(set(keys))
