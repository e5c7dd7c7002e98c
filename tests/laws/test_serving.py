"""What any serving model must obey: monotone latencies, sums that close, targets that bind, memory that bounds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.architecture import Architecture
from model.chip import FORMATS
from model.serving import rates
from model.serving.attention import sparse_prompt_attention
from model.serving.balance import active_share, busiest_active, expected_maximum, imbalance
from model.serving.instance import Instance
from model.serving.memory import instance_memory, most_sequences
from model.serving.passes import forward_pass
from model.serving.queueing import mean_wait, wait_quantile
from model.serving.shares import Batch
from model.serving.stack import ServingStack
from model.serving.workload import Balance, Requests, Serving
from model.system import System
from sweep import catalogue

ROWS = 120
TOLERANCE = 1e-9
SYSTEMS = [name for name in catalogue.names("systems") if catalogue.system(name).chip.hbm_bytes > 30e9]
MODELS = ("llama-3-8b", "llama-3-70b", "deepseek-r1", "qwen3-30b-a3b", "gpt-oss-120b", "mixtral-8x7b", "kimi-k2")


@dataclass(frozen=True)
class Served:
    """A machine, an engine, a model and instances of it."""

    system: System
    stack: ServingStack
    serving: Serving
    instance: Instance

    def __repr__(self) -> str:
        return f"<{self.serving.architecture.name} on {self.system.name}, {self.serving.requests}, {self.stack}>"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self))


def _instances(model: Architecture, chooser: np.random.Generator) -> Instance:
    """Instances that divide the model evenly, at random batches."""
    tensor = chooser.choice([t for t in (1, 2, 4, 8, 16) if model.heads % t == 0], ROWS)
    groups = chooser.choice((1, 2, 8, 32), ROWS)
    experts = model.experts.experts if model.experts else 1
    return Instance(
        tensor_parallel=tensor,
        pipeline_parallel=chooser.choice([p for p in (1, 2, 4) if model.layers % p == 0], ROWS),
        data_parallel=groups,
        expert_parallel=np.gcd(tensor * groups, experts) if experts > 1 else np.ones(ROWS, np.int64),
        micro_batches=chooser.choice((1, 2), ROWS),
        draft_tokens=chooser.choice((0, 1, 3), ROWS),
        batch=np.maximum(1, (2.0 ** chooser.uniform(0, 10, ROWS)).astype(int)),
        chunk=chooser.choice((0, 512, 4096), ROWS),
    )


@st.composite
def served(draw: st.DrawFn) -> Served:
    """Any machine with any of the models, some engine and some traffic."""
    system = catalogue.system(draw(st.sampled_from(SYSTEMS)))
    model = catalogue.architecture(draw(st.sampled_from(MODELS)))
    form = draw(st.sampled_from([name for name in FORMATS if system.chip.supports(name)]))
    requests = Requests(
        input_tokens=draw(st.sampled_from((32.0, 1000.0, 4096.0, 30000.0))),
        output_tokens=draw(st.sampled_from((2.0, 256.0, 2048.0))),
        prefix_hit=draw(st.sampled_from((0.0, 0.5))),
    )
    balance = Balance(draw(st.sampled_from(("perfect", "poisson", "power_law"))), exponent=0.6)
    stack = ServingStack(
        "any", layer_s=draw(st.sampled_from((0.0, 2e-5))), mixes_prompts=draw(st.booleans()),
        exchange=draw(st.sampled_from(("all_to_all", "gather"))), decode_overlap=draw(st.sampled_from((0.0, 0.6))),
        tensor_layout=draw(st.sampled_from(("columns_rows", "weight_stationary_2d"))),
    )  # fmt: skip
    chooser = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    serving = Serving(model, requests, form, kv_bytes=draw(st.sampled_from((1.0, 2.0))), balance=balance)
    return Served(system, stack, serving, _instances(model, chooser))


def seconds(case: Served, **batch: Any) -> Any:
    """Seconds of a pass of every instance."""
    return forward_pass(case.system, case.stack, case.serving, case.instance, Batch(**batch)).seconds


def never_below(more: Any, less: Any, what: str) -> None:
    """`more` is at least `less` in every row."""
    worst = int(np.argmin(more - less * (1.0 - TOLERANCE)))
    assert np.all(more >= less * (1.0 - TOLERANCE)), (what, worst, more[worst], less[worst])


@settings(max_examples=25, deadline=None)
@given(served())
def test_decode_takes_longer_with_more_context_and_more_sequences(case: Served) -> None:
    """A step never gets shorter by a longer context, nor by more sequences."""
    batch = np.asarray(case.instance.batch, float)
    base = seconds(case, sequences=batch, context=2000.0)
    never_below(seconds(case, sequences=batch, context=9000.0), base, "context")
    never_below(seconds(case, sequences=4.0 * batch, context=2000.0), base, "sequences")


@settings(max_examples=25, deadline=None)
@given(served())
def test_prompts_take_longer_when_they_are_longer(case: Served) -> None:
    """Neither more tokens nor more of them in the cache shorten a pass; decoding sequences beside them add to it."""
    base = seconds(case, prompt_tokens=4000.0, prompts=2.0)
    never_below(seconds(case, prompt_tokens=8000.0, prompts=2.0), base, "tokens")
    never_below(seconds(case, prompt_tokens=4000.0, prompts=2.0, cached=5000.0), base, "cached")
    batch = np.asarray(case.instance.batch, float)
    with_both = seconds(case, prompt_tokens=4000.0, prompts=2.0, sequences=batch, context=1000.0)
    never_below(with_both, base, "decoding beside")


@settings(max_examples=20, deadline=None)
@given(served())
def test_no_pass_beats_the_weights_and_the_arithmetic(case: Served) -> None:
    """A step reads the weights that it uses, and multiplies each token with the active ones, at the peaks at best."""
    model, chip = case.serving.architecture, case.system.chip
    instance = case.instance.with_(draft_tokens=0)
    batch = np.asarray(instance.batch, float)
    plain = replace(case, instance=instance)
    took = seconds(plain, sequences=batch, context=1000.0)
    best = max(chip.peak_flops.values())
    narrow = min(FORMATS[name].weight_bytes for name in (case.serving.weight_format, case.serving.experts_in))
    attention = model.layers * model.attention_parameters
    flops = 2.0 * (attention + model.dense_layers * model.dense_feed_forward_parameters) * batch
    ranks = np.asarray(instance.tensor_parallel, float)
    arithmetic = flops / (np.asarray(instance.stage_ranks, float) * best)
    reading = narrow * (attention / ranks) / chip.hbm_bandwidth
    never_below(took, arithmetic, "arithmetic")
    never_below(took, reading, "reading")


@settings(max_examples=25, deadline=None)
@given(served())
def test_parts_of_a_pass_are_positive_and_add_up(case: Served) -> None:
    """No part is negative or unknown, and the total is their sum; so is the energy's and the memory's."""
    for cost in (
        rates.decode_cost(case.system, case.stack, case.serving, case.instance),
        rates.prefill_cost(case.system, case.stack, case.serving, case.instance),
        rates.serving_cost(case.system, case.stack, case.serving, case.instance),
    ):
        for record in (cost.time, cost.memory, cost.energy.split):
            for name, part in record.parts().items():
                assert np.all(np.isfinite(part)), name
                assert np.all(np.asarray(part) >= -1e-12), name
        assert np.allclose(cost.energy.total, cost.energy.split.total, rtol=1e-9)
        assert np.all(cost.power >= case.system.chip.power.idle_w)
        assert np.allclose(cost.time.total, cost.step_time, rtol=1e-9)


@settings(max_examples=25, deadline=None)
@given(served(), st.sampled_from(("hbm_bandwidth", "peak_flops", "bandwidth")))
def test_more_of_a_resource_never_slows(case: Served, what: str) -> None:
    """Twice the HBM bandwidth, the peak or the links: no pass takes longer."""
    chip = case.system.chip
    if what == "bandwidth":
        tiers = tuple(replace(tier, bandwidth=2.0 * tier.bandwidth) for tier in case.system.tiers)
        better = replace(case.system, tiers=tiers)
    elif what == "peak_flops":
        peaks = {name: 2.0 * peak for name, peak in chip.peak_flops.items()}
        better = replace(case.system, chip=replace(chip, peak_flops=peaks))
    else:
        better = replace(case.system, chip=replace(chip, hbm_bandwidth=2.0 * chip.hbm_bandwidth))
    batch = np.asarray(case.instance.batch, float)
    load = {"sequences": batch, "context": 3000.0, "prompt_tokens": 3000.0, "prompts": 1.0}
    never_below(seconds(case, **load), seconds(replace(case, system=better), **load), what)


@settings(max_examples=25, deadline=None)
@given(served())
def test_memory_bounds_the_batch(case: Served) -> None:
    """What fits, fits; one sequence more in every attention group does not."""
    fits = most_sequences(case.system, case.stack, case.serving, case.instance, 4000.0)
    room = case.stack.usable_memory * case.system.chip.hbm_bytes
    groups = np.asarray(case.instance.data_parallel, float)
    used = instance_memory(case.stack, case.serving, case.instance, fits, 4000.0).total
    more = instance_memory(case.stack, case.serving, case.instance, fits + groups, 4000.0).total
    assert np.all((used <= room * (1.0 + 1e-9)) | (fits == 0))
    assert np.all(more > room * (1.0 - 1e-6))


@settings(max_examples=15, deadline=None)
@given(served())
def test_one_row_and_many_give_the_same(case: Served) -> None:
    """A list of instances, and each alone, bit for bit."""
    flat = case.instance.flat()
    many = rates.serving_cost(case.system, case.stack, case.serving, flat)
    for row in (0, ROWS // 2, ROWS - 1):
        one = rates.serving_cost(case.system, case.stack, case.serving, flat.take(row))
        assert np.broadcast_to(many.tpot, (ROWS,))[row] == one.tpot
        assert np.broadcast_to(many.energy.total, (ROWS,))[row] == one.energy.total


@pytest.mark.parametrize("groups", [2, 8])
@pytest.mark.parametrize("drafts", [0, 1])
def test_an_open_mesh_and_the_flat_list_give_the_same(groups: int, drafts: int) -> None:
    """What all instances share may stand once or in every row: bit for bit the same, over enough rows to tell."""
    system, model = catalogue.system("dgx-b200"), catalogue.architecture("deepseek-r1")
    requests = Requests(input_tokens=30000.0, output_tokens=2000.0, prefix_hit=0.5, variation=0.5)
    serving = Serving(model, requests, "fp8", kv_bytes=2.0, balance=Balance("poisson"), acceptance=0.7)
    mesh = Instance(
        tensor_parallel=8, data_parallel=groups, expert_parallel=8 * groups, draft_tokens=drafts,
        batch=np.geomspace(1.0, 4000.0, 6000), chunk=4096,
    )  # fmt: skip
    for cost in (rates.serving_cost, rates.static_cost):
        once, each = (cost(system, ServingStack("any"), serving, form) for form in (mesh, mesh.flat()))
        for name in ("tpot", "ttft"):
            assert np.array_equal(getattr(once, name), getattr(each, name)), name


@settings(max_examples=15, deadline=None)
@given(served())
def test_requests_in_flight_are_those_that_decode_and_those_that_wait(case: Served) -> None:
    """Little's law: rate x time in the system is the number of requests in flight."""
    cost = rates.serving_cost(case.system, case.stack, case.serving, case.instance)
    lifetime = cost.ttft + cost.tpot * case.serving.requests.output_tokens
    assert np.allclose(cost.requests_per_second * lifetime, cost.batch, rtol=0.02)


@given(
    st.floats(0.1, 50), st.floats(0.1, 50), st.sampled_from((2, 16, 32)), st.sampled_from((1, 8, 160)),
    st.integers(200, 5000),
)  # fmt: skip
def test_paired_instances_are_the_best_whole_ones(
    prefill: float, decode: float, small: int, large: int, ranks: int
) -> None:
    """The pairing serves as much as any other whole numbers of instances would, and both sides keep up."""
    found = rates.paired(prefill, decode, small, large, ranks)
    counts = np.arange(1, ranks // small + 1)
    rest = (ranks - counts * small) // large
    best = np.max(np.where(rest >= 1, np.minimum(counts * prefill, rest * decode), 0.0))
    assert found.requests_per_second == pytest.approx(best)
    assert found.prefill_instances * small + found.decode_instances * large <= ranks
    assert max(float(found.prefill_busy), float(found.decode_busy)) == pytest.approx(1.0)


def test_expert_loads() -> None:
    """Perfect balance is 1; chance fades with rows; popularity adds; copies take it off; no rank gets more than all."""
    experts = catalogue.architecture("deepseek-r1").experts
    assert experts is not None
    rows = np.array([1.0, 10.0, 1000.0, 1e6])
    assert np.all(imbalance(Balance("perfect"), experts, 32, rows) == 1.0)
    chance = imbalance(Balance("poisson"), experts, 32, rows)
    assert np.all(np.diff(chance) < 0) and chance[-1] < 1.01
    popular = imbalance(Balance("power_law", 0.6), experts, 32, rows)
    assert np.all(popular > chance)
    helped = imbalance(Balance("power_law", 0.6, redundant=64), experts, 32, rows)
    assert np.all((helped < popular) & (helped >= chance))
    assert np.all(imbalance(Balance("power_law", 3.0), experts, 4, rows) <= 4.0)
    for exponent in (0.0, 0.36, 0.6):  # few tokens visit fewer experts where some are popular; ranks differ by chance
        shares = active_share(experts, np.array([4.0, 64.0, 1e5]), exponent)
        assert np.all(np.diff(shares) > 0) and np.all(
            shares <= active_share(experts, np.array([4.0, 64.0, 1e5])) + 1e-9
        )
    spread = busiest_active(Balance("power_law", 0.36), experts, 8, np.array([4.0, 64.0, 1e5]))
    even = busiest_active(Balance("perfect"), experts, 8, np.array([4.0, 64.0, 1e5]))
    assert np.all(spread[:1] > even[:1]) and np.all(spread <= 32.0)
    exact = {2: 0.5642, 4: 1.0294, 8: 1.4236, 32: 2.0697}  # Harter, Biometrika 48, 1961
    assert all(abs(float(expected_maximum(count)) - mean) < 0.03 for count, mean in exact.items())
    share = active_share(experts, np.array([1.0, 32.0, 1e5]))
    assert share[0] == pytest.approx(8 / 256) and np.all(np.diff(share) > 0) and share[-1] <= 1.0


def test_a_rank_with_few_heads_pads_sparse_attention_to_the_tiles_of_its_chip() -> None:
    """Prompts of sparse latent attention take as long with 8 heads a rank as with 128 on Blackwell, 64 on Hopper."""
    latent = catalogue.architecture("deepseek-r1").latent
    assert latent is not None
    for name, tile in (("dgx-b200", 128), ("dgx-h100", 64)):
        chip = catalogue.system(name).chip
        times = [sparse_prompt_attention(chip, 4096.0, 2048.0, heads, latent).seconds for heads in (8, tile, tile + 1)]
        assert times[0] == pytest.approx(times[1]) and times[2] > 1.9 * times[1]


def test_speculation_counts_accepted_tokens() -> None:
    """1.7 tokens of one draft at 70 %, all of them at certainty, one without drafts."""
    assert rates.accepted_tokens(1, 0.7) == pytest.approx(1.7)
    assert rates.accepted_tokens(3, 0.7) == pytest.approx(1 + 0.7 + 0.49 + 0.343)
    assert rates.accepted_tokens(3, 1.0) == 4.0
    assert rates.accepted_tokens(0, 0.7) == pytest.approx(1.0)


@given(st.floats(0.01, 0.97), st.floats(0.001, 10.0), st.floats(0.0, 2.0))
def test_queues_grow_with_load_and_their_tails_are_longer(busy: float, service: float, variation: float) -> None:
    """Exponential service: the mean is rho S / (1 - rho). The tail lies above the mean once the queue is busy."""
    wait = mean_wait(busy, service, variation)
    assert mean_wait(busy + 0.01, service, variation) > wait
    assert mean_wait(busy, service, 1.0) == pytest.approx(busy * service / (1.0 - busy))
    tail = wait_quantile(busy, wait, 0.99)
    assert tail >= 0.0
    assert busy < 0.1 or tail > wait
