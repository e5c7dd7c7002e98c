"""The schedules' closed forms against a small event simulation of the same schedules, which knows nothing of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.layout import SCHEDULES, Layout
from model.pipeline import SCHEDULE_RULES, PipelineTimes, bubble_seconds, in_flight, weight_copies
from model.stages import split
from sweep import catalogue

Task = tuple[bool, int, int]  # forward or not, chunk, microbatch

stages_ = st.integers(2, 12)
seconds_ = st.tuples(st.floats(0.1, 3.0), st.floats(0.1, 3.0))


def one_f_one_b(stages: int, microbatches: int) -> list[list[Task]]:
    """Order of a stage's work in 1F1B: fill, alternate, drain."""
    orders = []
    for stage in range(stages):
        fill = min(stages - stage - 1, microbatches)
        order = [(True, 0, n) for n in range(fill)]
        for n in range(microbatches - fill):
            order += [(True, 0, fill + n), (False, 0, n)]
        orders.append(order + [(False, 0, n) for n in range(microbatches - fill, microbatches)])
    return orders


def interleaved(stages: int, microbatches: int, chunks: int) -> list[list[Task]]:
    """Order of a stage's work in Megatron's interleaved 1F1B: microbatches in groups of p, chunk by chunk."""
    groups = range(0, microbatches, stages)
    ahead = [(c, n) for g in groups for c in range(chunks) for n in range(g, g + stages)]
    back = [(chunks - 1 - c, n) for c, n in ahead]
    total = microbatches * chunks
    orders = []
    for stage in range(stages):
        fill = min(2 * (stages - stage - 1) + (chunks - 1) * stages, total)
        order: list[Task] = [(True, *ahead[i]) for i in range(fill)]
        for i in range(total - fill):
            order += [(True, *ahead[fill + i]), (False, *back[i])]
        orders.append(order + [(False, *back[i]) for i in range(total - fill, total)])
    return orders


def gpipe(stages: int, microbatches: int) -> list[list[Task]]:
    """Order of a stage's work in GPipe: all forwards, then all backwards."""
    every = range(microbatches)
    return [[(True, 0, n) for n in every] + [(False, 0, n) for n in every] for _ in range(stages)]


def simulate(
    orders: Sequence[Sequence[Task]], chunks: int, forward_s: float, backward_s: float
) -> tuple[float, list[int]]:
    """Seconds until the last task ends, and the chunks of microbatches that each stage holds at its peak.

    A forward waits for the same microbatch on the stage before, a backward for that on the stage behind; the first and
    last stages of neighbouring chunks are neighbours. A stage does its tasks in order, one at a time.
    """
    stages, ends = len(orders), {}
    place, clock = [0] * len(orders), [0.0] * len(orders)
    held, peak = [0] * len(orders), [0] * len(orders)
    while any(at < len(order) for at, order in zip(place, orders, strict=True)):
        moved = False
        for stage, order in enumerate(orders):
            while place[stage] < len(order):
                ahead, chunk, n = order[place[stage]]
                depth = chunk * stages + stage
                if ahead:
                    needs = (True, depth - 1, n) if depth else None
                else:
                    needs = (False, depth + 1, n) if depth + 1 < stages * chunks else (True, depth, n)
                if needs is not None and needs not in ends:
                    break
                start = max(clock[stage], ends[needs] if needs else 0.0)
                clock[stage] = ends[ahead, depth, n] = start + (forward_s if ahead else backward_s)
                held[stage] += 1 if ahead else -1
                peak[stage] = max(peak[stage], held[stage])
                place[stage] += 1
                moved = True
        assert moved, "the order of tasks deadlocks"
    return max(clock), peak


def equal_stages(
    stages: int, chunks: int, microbatches: int, forward: float, backward: float, weight: float
) -> PipelineTimes:
    """Times of a pipeline whose stages are all alike and whose transfers are free."""
    other = (stages - 1) * (forward + backward)
    whole = forward + backward
    values = (stages, chunks, microbatches, whole, forward / whole, weight / whole, other)
    return PipelineTimes(*(np.asarray(float(value)) for value in values))


def bubble(schedule: str, times: PipelineTimes) -> float:
    """The model's idle seconds of a schedule."""
    return float(bubble_seconds(SCHEDULES.index(schedule), times))


def flying(schedule: str, stages: int, chunks: int, microbatches: int) -> tuple[float, float]:
    """The model's microbatches in flight on the first and the last stage."""
    ends = (0.0, float(stages - 1))
    shape = (SCHEDULES.index(schedule), float(stages), float(chunks), float(microbatches))
    first, last = (in_flight(*shape, stage) for stage in ends)
    return float(first), float(last)


@pytest.mark.parametrize(("schedule", "orders"), [("1f1b", one_f_one_b), ("gpipe", gpipe)])
@given(stages=stages_, microbatches=st.integers(1, 30), seconds=seconds_)
def test_the_formula_is_the_simulated_step(schedule, orders, stages, microbatches, seconds) -> None:
    """m (F + B) plus the bubble is when the last of the simulated stages ends, for any number of microbatches."""
    forward, backward = seconds
    makespan, peak = simulate(orders(stages, microbatches), 1, forward, backward)
    idle = bubble(schedule, equal_stages(stages, 1, microbatches, forward, backward, 0.0))
    assert microbatches * (forward + backward) + idle == pytest.approx(makespan, rel=1e-9)
    assert flying(schedule, stages, 1, microbatches) == (peak[0], peak[-1])


@settings(max_examples=60)
@given(stages=stages_, chunks=st.integers(2, 5), groups=st.integers(1, 5), seconds=seconds_)
def test_interleaving_divides_the_simulated_bubble(stages, chunks, groups, seconds) -> None:
    """With v chunks a stage the bubble is 1/v of 1F1B's, and the simulated schedule ends exactly then."""
    forward, backward = seconds
    microbatches = groups * stages
    orders = interleaved(stages, microbatches, chunks)
    makespan, peak = simulate(orders, chunks, forward / chunks, backward / chunks)
    times = equal_stages(stages, chunks, microbatches, forward, backward, 0.0)
    idle = bubble("interleaved", times)
    assert idle == pytest.approx(bubble("1f1b", times) / chunks)
    assert microbatches * (forward + backward) + idle == pytest.approx(makespan, rel=1e-9)
    held = flying("interleaved", stages, chunks, microbatches)
    assert held == pytest.approx((peak[0] / chunks, peak[-1] / chunks))


@given(stages=stages_, microbatches=st.integers(1, 60), seconds=st.floats(0.1, 3.0))
def test_zero_bubble_schedules_idle_less(stages, microbatches, seconds) -> None:
    """With F, input and weight gradients alike, H1 idles no longer than 1F1B, H2 no longer than H1, V not at all."""
    times = equal_stages(stages, 1, microbatches, seconds, 2 * seconds, seconds)
    rounding = 1e-9 * seconds * stages
    assert bubble("zb-h1", times) <= bubble("1f1b", times) + rounding
    assert bubble("zb-h2", times) <= bubble("zb-h1", times) + rounding
    enough = equal_stages(stages, 2, 2 * stages, seconds, 2 * seconds, seconds)
    assert bubble("zb-v", enough) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("schedule", SCHEDULES)
@given(
    stages=st.integers(1, 6).map(lambda half: 2 * half),
    microbatches=st.integers(1, 60),
    seconds=st.tuples(st.floats(0.1, 3.0), st.floats(0.1, 3.0), st.floats(0.0, 3.0)),
)
def test_no_schedule_beats_its_dependencies(schedule, stages, microbatches, seconds) -> None:
    """A microbatch passes every stage forward and back, and the last stage serves all of them before the way back.

    Weight gradients are not on that path. Two chunks a stage, or two directions, shorten it to one microbatch's way.
    """
    forward, inputs, weight = seconds
    one_way = schedule not in ("zb-v", "dualpipe")
    microbatches += 0 if one_way else stages * (schedule == "dualpipe")
    times = equal_stages(stages, 2 if schedule == "zb-v" else 1, microbatches, forward, inputs + weight, weight)
    idle = bubble(schedule, times)
    path = (stages + (microbatches - 1 if one_way else 0)) * (forward + inputs)
    assert idle >= 0.0
    assert microbatches * (forward + inputs + weight) + idle >= path * (1 - 1e-9)


@pytest.mark.parametrize("schedule", SCHEDULES)
@given(
    stages=st.integers(1, 6).map(lambda half: 2 * half),
    microbatches=st.integers(1, 60),
    seconds=st.tuples(st.floats(0.1, 3.0), st.floats(0.1, 3.0), st.floats(0.0, 3.0)),
    faster=st.tuples(*[st.floats(0.2, 1.0)] * 3),
)
def test_faster_work_never_lengthens_the_step(schedule, stages, microbatches, seconds, faster) -> None:
    """Shortening the forward, the input gradients or the weight gradients of every stage never lengthens the step."""
    microbatches += stages * (schedule == "dualpipe")
    ends = []
    for forward, inputs, weight in (seconds, tuple(s * f for s, f in zip(seconds, faster, strict=True))):
        times = equal_stages(stages, 1, microbatches, forward, inputs + weight, weight)
        ends.append(microbatches * (forward + inputs + weight) + bubble(schedule, times))
    assert ends[1] <= ends[0] * (1 + 1e-9)


@given(stages=stages_, microbatches=st.integers(1, 60))
def test_no_stage_holds_more_than_there_is(stages, microbatches) -> None:
    """No stage holds more microbatches than the step has, or fewer than one."""
    for schedule in SCHEDULES:
        for chunks in (1, 2, 4) if schedule == "interleaved" else (1,):
            first, last = flying(schedule, stages, chunks, microbatches * (stages if schedule == "interleaved" else 1))
            limit = microbatches * (stages if schedule == "interleaved" else 1)
            assert 1 / chunks <= last <= first <= limit, schedule


def test_every_schedule_has_a_rule() -> None:
    """The rules cover the schedules of a layout, no more and no less, and only DualPipe holds weights twice."""
    assert set(SCHEDULE_RULES) == set(SCHEDULES)
    copies = {name: float(weight_copies(code)) for code, name in enumerate(SCHEDULES)}
    assert copies == {name: 2.0 if name == "dualpipe" else 1.0 for name in SCHEDULES}


def test_without_stages_there_is_no_bubble() -> None:
    """One stage never waits for another."""
    times = equal_stages(1, 1, 8, 1.0, 2.0, 1.0)
    assert {name: bubble(name, times) for name in SCHEDULES} == dict.fromkeys(SCHEDULES, 0.0)


@given(st.integers(1, 12), st.integers(1, 4), st.integers(0, 30), st.booleans())
def test_stages_hold_the_layers_dealt_to_them(stages: int, chunks: int, more: int, mixtures: bool) -> None:
    """Dealing chunks to stages one by one gives the first, second and last stage's layers, and all of the model's."""
    chunks = chunks if stages > 1 else 1
    layers = stages * chunks + more
    base, longer = divmod(layers, stages * chunks)
    dealt = [sum(base + (chunk < longer) for chunk in range(i, stages * chunks, stages)) for i in range(stages)]
    model = replace(catalogue.architecture("deepseek-v3" if mixtures else "llama-3-8b"), layers=layers)
    if model.experts is not None:
        model = replace(model, experts=replace(model.experts, dense_layers=min(3, layers)))
    found = split(model, Layout(pipeline_parallel=stages, virtual_stages=chunks))
    second = min(1, stages - 1)
    assert sum(dealt) == layers and max(dealt[1:] or dealt) == dealt[second]
    for stage, place in zip((found.first, found.middle, found.last), (0, second, -1), strict=True):
        assert stage.dense + stage.mixture == dealt[place]
