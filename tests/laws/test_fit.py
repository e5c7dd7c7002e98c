"""The fit of training's constants: what is there is found, what is not confirmed dropped, files keep what is theirs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from sweep.fit.confirm import confirmed
from sweep.fit.constants import Constant, Free, plan, tuned
from sweep.fit.record import Line, written
from sweep.fit.regression import SCALE, Bounds, Linear, expected_errors, loss, solved, whole_loss
from sweep.fit.runs import Run, Unknowns, changed, errors_at, runs_of, start, unknowns
from sweep.training_cases import evaluated, step_seconds
from sweep.validation import read_cases

CASES = Path(__file__).parents[1] / "published" / "training_cases.jsonl"


def linear(slopes: np.ndarray, truth: np.ndarray, noise: float = 0.0, widths: float = 10.0, seed: int = 0) -> Linear:
    """Rows that a linear model with the unknowns `truth` explains up to a noise, about the point 0."""
    rows, unknowns = slopes.shape
    errors = -slopes @ truth + noise * np.random.default_rng(seed).standard_normal(rows)
    zero = np.zeros(unknowns)
    return Linear(errors, slopes, np.ones(rows), zero, zero, np.full(unknowns, widths))


@given(some.integers(0, 2**32 - 1), some.integers(1, 6))
def test_unknowns_are_recovered_from_exact_rows(seed: int, unknowns: int) -> None:
    """With wide priors and no noise the unknowns come back, although some rows are far off."""
    draw = np.random.default_rng(seed)
    slopes, truth = draw.standard_normal((60, unknowns)), draw.uniform(-0.3, 0.3, unknowns)
    model = linear(slopes, truth)
    model.residuals[:3] += 2.0  # what a few wrong rows do is bounded
    assert solved(model) == pytest.approx(truth, abs=0.02)


@given(some.floats(0.01, 1.0), some.floats(-1.0, 1.0))
def test_without_rows_the_prior_stands(width: float, expected: float) -> None:
    """Unknowns that no row moves are what is expected of them, from wherever the fit starts."""
    model = Linear(np.zeros(4), np.zeros((4, 1)), np.ones(4), np.array([0.7]), np.array([expected]), np.array([width]))
    assert solved(model) == pytest.approx([expected])


@given(some.integers(0, 2**32 - 1))
def test_a_solution_has_less_loss_than_its_neighbours(seed: int) -> None:
    """Loss and prior together rise in every direction."""
    draw = np.random.default_rng(seed)
    model = linear(draw.standard_normal((30, 3)), draw.uniform(-0.3, 0.3, 3), noise=0.1, widths=0.2, seed=seed)

    def whole(point: np.ndarray) -> float:
        errors = expected_errors(model, point)
        fit = float(np.sum(2.0 * (np.sqrt(1.0 + (errors / SCALE) ** 2) - 1.0)))
        return fit + float(np.sum((point / model.widths) ** 2))

    best = solved(model)
    for step in np.vstack([np.eye(3), -np.eye(3)]) * 0.01:
        assert whole(best) <= whole(best + step)


@given(some.integers(0, 2**32 - 1), some.floats(0.01, 0.3))
def test_constants_stay_within_their_bounds(seed: int, high: float) -> None:
    """A sum of unknowns that rows push beyond its bound stays there, and the rest is fitted as well as that allows."""
    draw = np.random.default_rng(seed)
    free = linear(draw.standard_normal((60, 3)), np.array([0.4, 0.3, -0.2]))
    sums, limits = np.array([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]), np.array([high, 1.0])
    bounded = replace(free, bounds=Bounds(sums, -np.ones(2), limits, np.full(2, 0.1)))
    found = solved(bounded)
    assert found[:2].sum() == pytest.approx(high, abs=0.02)
    for step in (np.array([0.01, -0.01, 0.0]), np.array([0.0, 0.0, 0.01])):
        for way in (step, -step):
            there = found + way
            assert whole_loss(free, expected_errors(free, found), found) <= whole_loss(
                free, expected_errors(free, there), there
            )
    loose = solved(replace(free, bounds=Bounds(sums, -np.ones(2), np.ones(2), np.full(2, 0.1))))
    assert loose == pytest.approx(solved(free), abs=1e-9)


@pytest.mark.parametrize("part", [0, 300, 500, 700])
def test_sets_of_constants_at_once_are_those_one_by_one(part: int) -> None:
    """A run with arrays of constants takes the times that each set gives alone, to the last bit."""
    (run,) = runs_of(read_cases([CASES])[part : part + 1])
    of = unknowns([run])
    points = [start(of) + step * of.widths for step in (0.0, 0.05, -0.05)]
    at_once = errors_at([run], of, points)[0]
    assert len(set(at_once)) > 1
    first = evaluated(run.case, changed(run, of.values(points[0])))
    for found, point in zip(at_once, points, strict=True):
        alone = step_seconds(run.case, first, changed(run, of.values(point)))
        assert found == np.log(float(alone[0]) / run.measured)


def runs(count: int, record: str) -> list[Run]:
    """Runs of one stack on four families of models."""
    return [
        Run({}, f"{record}-{at}", "A", "dense", record, (record, "kind"), "chip", "chip", f"family{at % 4}", 1.0, False)
        for at in range(count)
    ]


def two_stacks(own: float, per_family: float, seed: int) -> tuple[Linear, Unknowns, list[Run]]:
    """One constant of a kind and of its stack `new`, whose runs want another value by `own`, or each family another."""
    constant = Constant("stacks", "slowdown", 1.0, 0.5, 0.2, 0.5, 2.0, "log", "for a test")
    free = tuple(Free(constant, name, ("slowdown", "kind", name)) for name in ("old", "new"))
    nodes = (("slowdown",), ("slowdown", "kind"), ("slowdown", "kind", "old"), ("slowdown", "kind", "new"))
    reach = np.array([[1.0, 1.0, 1.0, 0.0], [1.0, 1.0, 0.0, 1.0]])
    members = runs(40, "old") + runs(16, "new")
    draw = np.random.default_rng(seed)
    wanted = {f"family{at}": per_family * draw.standard_normal() for at in range(4)}
    errors = np.array([
        0.01 * draw.standard_normal() - (own + wanted[run.family] if run.framework == "new" else 0.0) for run in members
    ])  # fmt: skip
    slopes = np.array([reach[int(run.framework == "new")] for run in members])
    of = Unknowns(free, nodes, reach)
    return Linear(errors, slopes, np.ones(len(members)), np.zeros(4), of.expected, of.widths), of, members


@pytest.mark.parametrize("seed", range(5))
def test_a_constant_of_ones_own_is_kept_where_all_runs_left_out_want_it(seed: int) -> None:
    """The stack that is 10 % slower on every family of models gets a constant, the other stays with its kind."""
    model, of, members = two_stacks(0.1, 0.0, seed)
    kept = confirmed(model, of, members)
    assert kept[of.nodes.index(("slowdown", "kind", "new"))]
    point = solved(model, moving=kept)
    assert loss(expected_errors(model, point), model.weights) < 0.1 * loss(model.residuals, model.weights)


def test_what_one_family_of_models_wants_is_not_kept() -> None:
    """Where every family wants something else, runs left out rarely gain: the stack stays with its kind."""
    kept = [confirmed(model, of, members)[3] for model, of, members in (two_stacks(0.0, 0.1, at) for at in range(12))]
    assert sum(map(bool, kept)) <= 4


def test_what_was_confirmed_needs_less_to_stay() -> None:
    """Among stacks that are a little slower some gain too little for a constant, and keep one that they have."""
    came, stayed = 0, 0
    for seed in range(40):
        model, of, members = two_stacks(0.003, 0.0, seed)
        own = np.array([len(node) < 3 or node[-1] == "new" for node in of.nodes])
        first, again = confirmed(model, of, members), confirmed(model, of, members, before=own)
        assert np.all(first <= again)
        came, stayed = came + int(first[3]), stayed + int(again[3])
    assert came < stayed < 40


def test_files_keep_what_a_fit_does_not_write() -> None:
    """A constant is replaced where it stands, keeps the width of its range, is added or taken away; the rest stays."""
    text = (
        'title = "A chip"\n\n[matmul.bf16]\npeak_fraction = { value = 0.9, source = "s", kind = "datasheet" }\n'
        'sustained_clock = { value = 0.8, low = 0.72, high = 0.88, source = "s", kind = "derived" }\n\n[memory]\n'
        'vector_launch_s = { value = "4 us", source = "s", kind = "estimated" }\n'
    )
    file = Path("chip.toml")
    new = written(
        text,
        [
            Line(file, "matmul.bf16", "sustained_clock", 0.9, "fit"),
            Line(file, "memory", "vector_launch_s", None, ""),
            Line(file, "memory", "vector_fraction", 0.75, "fit"),
        ],
    )
    assert 'sustained_clock = { value = 0.9, low = 0.81, high = 0.99, source = "fit", kind = "derived" }' in new
    assert 'vector_fraction = { value = 0.75, source = "fit", kind = "derived" }' in new
    assert "vector_launch_s" not in new
    assert new.splitlines()[:4] == text.splitlines()[:4]


def test_the_plan_can_be_read() -> None:
    """Every constant of the plan lies in its bounds, and on its own scale."""
    for one in plan():
        assert one.low <= one.expected <= one.high
        assert one.width > 0.0
        assert one.outward(one.inward(one.expected)) == pytest.approx(one.expected)
        assert one.low > 0.0 or one.scale == "linear"


def test_tuning_changes_one_record_alone() -> None:
    """Constants of another record change nothing, nested ones are found by their path."""
    record = {"matmul": {"bf16": {"clock": 0.8}}}
    values = {("calibrations", "a", "matmul.bf16.clock"): 0.9, ("calibrations", "b", "matmul.bf16.clock"): 0.7}
    assert tuned(record, "a", "calibrations", values) == {"matmul": {"bf16": {"clock": 0.9}}}
    assert tuned(record, "c", "calibrations", values) == record
