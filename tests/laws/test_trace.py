"""Laws of the timeline of a step: it ends when the cost model says, and its passes are those of the schedule."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.layout import SCHEDULES
from model.pipeline import PipelineTimes, bubble_seconds
from sweep.chosen import Chosen, chosen_answer, chosen_layout
from sweep.cli import main
from sweep.explanation import Explanation
from sweep.trace.lanes import LANES, Trace
from sweep.trace.orders import Durations, Pipeline, orders
from sweep.trace.serving import trace_of_passes
from sweep.trace.timing import timeline
from sweep.trace.training import trace_of_step

# These overlap with the next step: each stage's span is the step's, not the whole's.
APART = ("zb-h2", "zb-v")
LAYOUTS = {
    "no pipeline": ("llama-3.1-70b", 64, 128, "tp=8"),
    "1f1b": ("llama-3.1-405b", 512, 256, "tp=8,pp=8"),
    "few microbatches": ("llama-3.1-405b", 512, 24, "tp=8,pp=8"),
    "mixture": ("deepseek-v3", 1024, 2048, "tp=2,pp=8,ep=32"),
    "context": ("llama-3.1-70b", 64, 32, "tp=4,cp=2,pp=2,recompute=full"),
    "interleaved": ("llama-3.1-405b", 512, 256, "tp=8,pp=8,vp=2"),
    "odd groups": ("llama-3.1-405b", 512, 8 * 21, "tp=8,pp=8,vp=2"),
    "many microbatches": ("llama-3.1-70b", 64, 80_000, "tp=2,pp=4"),
    "many, interleaved": ("llama-3.1-405b", 512, 40_000, "tp=8,pp=8,vp=4"),
    "many, both ways": ("llama-3.1-405b", 512, 160_000, "tp=8,pp=8,schedule=dualpipe"),
    "many stages": ("llama-3.1-405b", 1024, 8192, "tp=1,pp=64"),
    **{
        name: ("llama-3.1-405b", 512, 256, f"tp=8,pp=8,schedule={name}" + (",vp=2" if name == "zb-v" else ""))
        for name in SCHEDULES
        if name not in ("1f1b", "interleaved")
    },
}
each_layout = pytest.mark.parametrize("name", LAYOUTS)


@cache
def traced(name: str) -> tuple[Explanation, Trace]:
    """A layout and its trace."""
    model, chips, batch, layout = LAYOUTS[name]
    chosen = chosen_layout(
        command="test", model=model, system="dgx-h100", chips=chips, layout=layout, batch=batch, sequence=8192,
        number_format="bf16", stack=None,
    )  # fmt: skip
    assert isinstance(chosen.found, Explanation)
    return chosen.found, trace_of_step(chosen.found)


def spans(trace: Trace) -> dict[int, tuple[float, float]]:
    """Start and end of each stage."""
    found: dict[int, tuple[float, float]] = {}
    for one in trace.slices:
        start, end = found.get(one.group, (one.start_s, one.end_s))
        found[one.group] = (min(start, one.start_s), max(end, one.end_s))
    return found


@each_layout
def test_the_timeline_ends_with_the_step(name: str) -> None:
    """The last slice ends at the predicted step time; of schedules that run into the next step, every stage's span."""
    found, trace = traced(name)
    step = float(found.cost.step_time)
    if SCHEDULES[int(found.layout.schedule)] in APART:
        longest = max(end - start for start, end in spans(trace).values())
    else:
        longest = trace.end_s
    assert longest == pytest.approx(step, rel=1e-9)
    assert min(one.start_s for one in trace.slices) == pytest.approx(0.0, abs=1e-9)


@each_layout
def test_nothing_overlaps_on_a_lane(name: str) -> None:
    """On each lane of each stage a slice starts when the one before it has ended; in the file to the nanosecond."""
    found, trace = traced(name)
    last: dict[tuple[int, str], float] = {}
    for one in trace.slices:
        assert one.start_s >= last.get((one.group, one.lane), 0.0) - 1e-12 * float(found.cost.step_time)
        last[one.group, one.lane] = one.end_s
    lanes: dict[tuple[int, int], list[tuple[float, float]]] = defaultdict(list)
    for event in json.loads(trace.text())["traceEvents"]:
        if event["ph"] == "X":
            lanes[event["pid"], event["tid"]].append((event["ts"], event["dur"]))
    for own in lanes.values():
        for (start, took), (then, _) in pairwise(sorted(own)):
            assert took >= 0 and round(start * 1e3) + round(took * 1e3) <= round(then * 1e3)


@each_layout
def test_the_parts_of_the_slowest_stage_are_those_of_the_step(name: str) -> None:
    """What a lane of the stage that sets the pace adds up to is the cost model's part, what is not drawn included."""
    found, trace = traced(name)
    times = found.times()
    sums: dict[int, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for one in trace.slices:
        if one.lane != "passes":
            sums[one.group][one.name] += one.end_s - one.start_s
    m, skipped = trace.facts["microbatches"], trace.facts["microbatches_not_drawn"]
    slowest = max(sums, key=lambda stage: sums[stage]["compute"])
    for part in ("compute", "tensor", "context", "expert", "host", "offload"):
        assert sums[slowest][part] == pytest.approx(times[part] * (m - skipped) / m, rel=1e-7, abs=1e-12)
    assert sums[slowest]["send"] == pytest.approx(times["transfer"] * (m - skipped) / m, rel=1e-7, abs=1e-12)
    assert sums[slowest]["gradients and parameters"] == pytest.approx(times["data"], abs=1e-9)
    assert sums[slowest]["optimizer"] == pytest.approx(times["optimizer"], abs=1e-9)


@each_layout
def test_every_microbatch_passes_once_and_in_order(name: str) -> None:
    """Each chunk of a stage sees every microbatch once each way, its forwards in order, forward before backward."""
    _, trace = traced(name)
    seen: dict[tuple[int, int, str], list[int]] = defaultdict(list)
    at: dict[tuple[int, int, str, int], float] = {}
    for one in trace.slices:
        if one.lane == "passes" and "pass" in one.facts:
            key = (one.group, one.facts["chunk"], one.facts["pass"])
            seen[key].append(one.facts["microbatch"])
            at[*key, one.facts["microbatch"]] = one.start_s
    m, skipped = trace.facts["microbatches"], trace.facts["microbatches_not_drawn"]
    ways = 2 if trace.facts["schedule"] == "dualpipe" else 1
    for (stage, chunk, kind), numbers in seen.items():
        assert len(set(numbers)) == len(numbers) == (m - skipped) // ways, (stage, chunk, kind)
        if kind == "forward":
            assert numbers == sorted(numbers)
        else:
            both = set(numbers) & set(seen[stage, chunk, "forward"])
            assert all(at[stage, chunk, "forward", n] < at[stage, chunk, kind, n] for n in both)
    assert {number for numbers in seen.values() for number in numbers} <= set(range(m))
    assert (skipped == 0) == (not [one for one in trace.slices if "microbatches" in one.facts])


@pytest.mark.parametrize("name", ["1f1b", "gpipe", "interleaved", "dualpipe", "mixture"])
def test_a_stage_waits_for_the_one_before(name: str) -> None:
    """A forward starts after the chunk before it, a backward after the chunk behind it."""
    _, trace = traced(name)
    assert trace.facts["delay_between_stages_s"] >= 0
    ends = {(one.facts["chunk"], one.facts["pass"], one.facts["microbatch"]): (one.start_s, one.end_s)
            for one in trace.slices if one.lane == "passes"}  # fmt: skip
    depth = max(chunk for chunk, _, _ in ends) + 1
    depth //= 2 if trace.facts["schedule"] == "dualpipe" else 1
    checked = 0
    for (chunk, kind, number), (start, _) in ends.items():
        place = chunk % depth
        ahead = chunk - 1 if kind == "forward" else chunk + 1
        if (kind == "forward" and place) or (kind == "backward" and place < depth - 1):
            assert start >= ends[ahead, kind, number][1] - 1e-9
            checked += 1
    assert checked > 100


@pytest.mark.parametrize("name", [name for name in LAYOUTS if name.startswith("many")])
def test_long_steps_stay_small(name: str) -> None:
    """However many microbatches or stages, a trace has at most so many slices, and says what it leaves out."""
    _, trace = traced(name)
    assert len(trace.slices) < 70_000
    left_out = trace.facts["microbatches_not_drawn"] + trace.facts["stages_not_drawn"]
    assert left_out > 0


def test_lanes_are_those_of_the_resources() -> None:
    """A mixture's step has compute, tensor, expert, pipeline, data and host lanes, each named once a stage."""
    _, trace = traced("mixture")
    events = json.loads(trace.text())["traceEvents"]
    names = [event["args"]["name"] for event in events if event["name"] == "thread_name" and event["pid"] == 0]
    assert len(names) == len(set(names)) and set(names) <= set(LANES)
    assert {"passes", "compute", "tensor", "expert", "pipeline", "data", "host"} <= set(names)
    stages = [event["args"]["name"] for event in events if event["name"] == "process_name"]
    assert stages == [f"stage {number}" for number in range(8)]


# ---------------------------------------------------------------------------------------------- schedules by themselves
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(("p", "m"), [(2, 4), (4, 12), (8, 32)])
def test_equal_passes_take_about_what_the_formula_says(schedule: str, p: int, m: int) -> None:
    """With equal passes and no transfers stages need a delay of no more than a third of a microbatch's time.

    1F1B, GPipe and interleaving need none: their formulas are those of the schedule.
    """
    v = 2 if schedule in ("interleaved", "zb-v") else 1
    pipeline = Pipeline(schedule, p, v, m)
    share = p / pipeline.depth
    splits = pipeline.splits_backward
    one = Durations(share, share if splits else 2 * share, share)
    passes = orders(pipeline, one)
    seconds = [[one.of(own.kind) for own in row] for row in passes]
    times = PipelineTimes(p, v, m, 3.0, 1 / 3, 1 / 3, 3.0 * (p - 1))
    formula = 3.0 * m + float(bubble_seconds(SCHEDULES.index(schedule), times))
    timed = timeline(pipeline, passes, seconds, formula)
    allowed = 1.001 if splits else 1e-12
    assert abs(timed.delay_s) <= allowed
    assert all((end[:-1] <= start[1:] + 1e-12).all() for start, end in zip(timed.starts, timed.ends, strict=True))


@settings(max_examples=150, deadline=None)
@given(
    schedule=st.sampled_from(SCHEDULES),
    half=st.integers(1, 4),
    m=st.integers(1, 12),
    v=st.integers(1, 3),
    parts=st.tuples(st.floats(0.2, 1.0), st.floats(0.5, 2.0), st.floats(0.2, 1.0)),
)
def test_any_pipeline_ends_when_its_formula_says(
    schedule: str, half: int, m: int, v: int, parts: tuple[float, float, float]
) -> None:
    """Any stages, chunks and microbatches: every pass runs once, from time 0, and the end is the formula's."""
    p = 2 * half if schedule == "dualpipe" else half + 1
    m += m % 2 if schedule == "dualpipe" else 0
    pipeline = Pipeline(schedule, p, v if schedule == "interleaved" else 2 if schedule == "zb-v" else 1, m)
    forward, backward, weights = (part * p / pipeline.depth for part in parts)
    one = Durations(forward, backward if pipeline.splits_backward else backward + weights, weights)
    passes = orders(pipeline, one)
    kinds = 3 if pipeline.splits_backward else 2
    assert sum(map(len, passes)) == len({own for row in passes for own in row}) == pipeline.depth * m * kinds
    whole = sum(parts)
    times = PipelineTimes(p, pipeline.chunks, m, whole, parts[0] / whole, parts[2] / whole, (p - 1) * whole)
    formula = m * whole + float(bubble_seconds(SCHEDULES.index(schedule), times))
    timed = timeline(pipeline, passes, [[one.of(own.kind) for own in row] for row in passes], formula)
    assert min(start[0] for start in timed.starts) >= 0.0
    spans = [end[-1] - (start[0] if schedule in APART else 0.0)
             for start, end in zip(timed.starts, timed.ends, strict=True)]  # fmt: skip
    assert max(spans) == pytest.approx(formula, rel=1e-9)
    assert abs(timed.delay_s) < whole


def test_interleaving_follows_megatrons_order() -> None:
    """Two stages, two chunks, four microbatches: the order of Megatron-Core's schedule."""
    first, last = orders(Pipeline("interleaved", 2, 2, 4), Durations(1.0, 2.0))
    text = [f"{one.kind}{one.chunk}.{one.microbatch}" for one in first]
    assert text[:8] == ["F0.0", "F0.1", "F2.0", "F2.1", "F0.2", "B2.0", "F0.3", "B2.1"]
    assert [f"{one.kind}{one.chunk}.{one.microbatch}" for one in last][:4] == ["F1.0", "F1.1", "F3.0", "B3.0"]


# ----------------------------------------------------------------------------------------------------------- serving
def served(layout: Mapping[str, Any]) -> Chosen:
    """The best decoding instances of a question."""
    from sweep.asking import toml

    text = toml(
        {"workloads": {"model": "llama-3.1-70b"}, "designs": {"system": "dgx-h100"},
         "traffic": {"input_tokens": "4096 token", "output_tokens": "1024 token"},
         "serving": {"weight_format": "fp8"}, "layout": layout},
        {"question": "?", "phase": "decode", "chips": [8]},
    )  # fmt: skip
    return chosen_answer(text, "test", {})


@pytest.mark.parametrize("stages", [1, 2])
def test_a_pass_takes_its_mean_time(stages: int) -> None:
    """Each pass of an instance takes the step's time through its stages, without overlap on a stage."""
    found = served({"pipeline_parallel": stages}).found
    assert not isinstance(found, Explanation)
    trace = trace_of_passes(found)
    step = float(found.costs["decode"].step_time.reshape(-1)[0])
    for number in range(stages):
        own = [one for one in trace.slices if one.facts.get("pass") == number]
        assert max(o.end_s for o in own) - min(o.start_s for o in own) == pytest.approx(step)
    assert trace.end_s == pytest.approx(step * (2 * stages - 1) / stages)


# ---------------------------------------------------------------------------------------------------- the command
WORDS = ("trace", "--model", "llama-3.1-70b", "--system", "dgx-h100", "--chips", "64", "--layout", "tp=8,pp=2",
         "--batch", "32")  # fmt: skip


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command."""
    with pytest.raises(SystemExit) as stop:
        main(list(words))
    out = capsys.readouterr()
    assert isinstance(stop.value.code, int)
    return stop.value.code, out.out, out.err


def test_the_trace_goes_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    """Without --output standard output holds the trace and nothing else."""
    code, out, err = run(capsys, *WORDS)
    assert (code, err) == (0, "")
    assert json.loads(out)["otherData"]["stages"] == 2


def test_the_trace_goes_to_a_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """With --output the file holds the trace; --json says what is in it."""
    file = tmp_path / "step.json"
    code, out, _ = run(capsys, *WORDS, "--output", str(file), "--json")
    told = json.loads(out)
    assert code == 0 and told["end_s"] == pytest.approx(told["step_time_s"])
    assert len(json.loads(file.read_text(encoding="utf-8"))["traceEvents"]) > told["slices"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("trace",), "--model"),
        (("trace", "runs/none#1"), "not the folder of a run"),
        ((*WORDS[:-4], "--layout", "tp=8,pp=2,mbs=3", "--batch", "32"), "microbatches"),
        ((*WORDS[:-4], "--layout", "tp=8,pq=2"), "unknown axis"),
        ((*WORDS[:-4], "--layout", "tp=8,pp=8,schedule=dualpipe", "--batch", "31"), "even number"),
        ((*WORDS, "--output", "/no/such/folder/t.json"), "No such file"),
    ],
)
def test_bad_input_is_told(capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str) -> None:
    """What is missing or wrong is told, with exit code 2."""
    code, out, err = run(capsys, *words)
    assert (code, out) == (2, "") and said in err and "Traceback" not in err
