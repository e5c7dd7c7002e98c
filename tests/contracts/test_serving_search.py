"""The search of instances: its answers are those of looking at everything one by one, and its laws hold."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.serving.instance import Instance
from model.serving.rates import decode_cost
from sweep import kinds, pairs
from sweep.axes import InstanceAxes
from sweep.cases import Case, Question, cases
from sweep.instances import InstanceProblem, instance_space
from sweep.keep import front
from sweep.kinds import known_case
from sweep.running import run_study
from sweep.served import COSTS, ladder, largest, most_in_flight, over_limits, served_records
from sweep.study import Study, parse

STUDY = """
question = "how fast?"
phase = "decode"
chips = [16]
[[workloads]]
model = "deepseek-v2"
[traffic]
input_tokens = "2048 token"
output_tokens = "512 token"
[serving]
weight_format = "fp8"
redundant_experts = [0, 32]
[targets]
tpot = "<= 40 ms"
[[designs]]
system = "dgx-h200"
"""


def study(*changes: tuple[str, str], more: str = "") -> Study:
    """The study above with some of its text replaced, and more tables."""
    text = STUDY
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    return parse(text + more)


def question(asked: Study, **changes: object) -> Question:
    """What the tasks of a study share, with another search."""
    return Question(
        asked.axes, replace(asked.search, **changes), asked.constraints, asked.seed, phase=asked.phase  # type: ignore[arg-type]
    )  # fmt: skip


def only_case(asked: Study) -> Case:
    """The case of a study of one."""
    (case,), _ = cases(asked)
    return case


def searched(asked: Study, **changes: object) -> dict[str, np.ndarray]:
    """The rows of a study of one case."""
    known = known_case(question(asked, **changes), only_case(asked))
    rows, _ = known.search(0, known.space.count)
    assert rows is not None
    return rows


# ---------------------------------------------------------------------------------------------------- working point
@given(st.lists(st.tuples(st.integers(1, 5000), st.floats(-2, 1), st.floats(1e-6, 3)), min_size=1, max_size=20))
def test_the_largest_number_within_a_limit_is_found(drawn: list[tuple[int, float, float]]) -> None:
    """The largest whole number at which a growing function is at most 0, as counting finds it."""
    most = np.asarray([one[0] for one in drawn])
    start, slope = (np.asarray([one[i] for one in drawn]) for i in (1, 2))

    def excess(at: np.ndarray, number: np.ndarray) -> np.ndarray:
        return np.asarray(start[at] + slope[at] * np.sqrt(number) - 1.0)

    found = largest(excess, most)
    for at, top in enumerate(most):
        within = [n for n in range(1, top + 1) if start[at] + slope[at] * np.sqrt(n) - 1.0 <= 0]
        assert found[at] == max(within, default=0)


@pytest.mark.parametrize("phase", ["decode", "serving"])
def test_one_more_request_breaks_a_limit(phase: str) -> None:
    """The largest batch meets the targets, and one more breaks one, or the memory, or what the engine allows."""
    asked = study(
        ('"decode"', f'"{phase}"'), ("[targets]", '[targets]\nttft = "<= 3 s"') if phase == "serving" else ("", "")
    )
    known = served_records(question(asked), only_case(asked))
    numbers = np.arange(0, known.space.count, 7 if phase == "decode" else 23)
    instance, more = known.space.take(numbers)
    some = np.flatnonzero(more["redundant"] == 0)
    instance, copies = instance.take(some), more["redundant"][some]
    most = most_in_flight(known, instance, copies).astype(int)
    fits = np.flatnonzero(most >= 1)
    instance, most = instance.take(fits), most[fits]
    serving = known.work.serving(known.architecture)

    def over(batch: np.ndarray, at: np.ndarray) -> np.ndarray:
        cost = COSTS[known.phase](known.system, known.engine, serving, instance.take(at).with_(batch=batch))
        return over_limits(known, cost)

    found = largest(lambda at, batch: over(batch, at), most)
    every = np.arange(len(found))
    inside = np.flatnonzero(found >= 1)
    assert len(inside)
    assert (over(found[inside], inside) <= 0).all()
    short = every[found < most]
    assert len(short)
    assert (over(found[short] + 1, short) > 0).all()


def test_a_tighter_target_never_serves_more() -> None:
    """Throughput of the best instances grows with the time that a token may take."""
    best = [
        searched(study(("40 ms", f"{limit} ms")))["tokens_per_s"].max() for limit in (20, 25, 30, 40, 60, 100)
    ]  # fmt: skip
    assert best == sorted(best)
    assert best[0] < best[-1]


# -------------------------------------------------------------------------------------------------------- everything
def test_every_legal_instance_is_listed_once() -> None:
    """The space is what trying all combinations of all degrees finds, by the rules as words have them."""
    asked = study()
    problem = InstanceProblem(
        served_records(question(asked), only_case(asked)).architecture, 16, "decode", 8192, (0, 32)
    )
    space = instance_space(problem, InstanceAxes())
    listed = {tuple(int(space.rows[name][i]) for name in sorted(space.rows)) for i in range(space.size)}
    assert len(listed) == space.size
    found = set()
    shape, powers = problem.architecture, [1, 2, 4, 8, 16]
    assert shape.experts is not None
    degrees = (powers, powers[:4], range(1, 9), range(1, 17), range(1, 9), range(1, 17), (1, 2), (0, 1), (0, 32))
    for tp, cp, pp, ep, etp, dp, halves, drafts, copies in product(*degrees):
        stages = pp in (1, 2, 4, 8) or shape.layers % pp == 0
        whole = tp * cp * dp == ep * etp and tp * cp * dp * pp <= 16
        legal = whole and stages and -(-shape.layers // pp) * (pp - 1) < shape.layers
        legal &= (shape.experts.experts + copies) % ep == 0 and shape.experts.hidden % etp == 0
        legal &= shape.feed_forward % tp == 0 and shape.heads % tp == 0
        legal &= (dp > 1 or (halves == 1 and copies == 0)) and (drafts == 0 or shape.mtp_layers > 0)
        if legal:
            fields = {
                "tensor_parallel": tp, "context_parallel": cp, "pipeline_parallel": pp, "expert_parallel": ep,
                "expert_tensor_parallel": etp, "data_parallel": dp, "micro_batches": halves, "draft_tokens": drafts,
                "redundant": copies, "chunk": 0,
            }  # fmt: skip
            found.add(tuple(fields[name] for name in sorted(fields)))
    assert listed == found


def test_the_answer_is_that_of_trying_every_batch_of_every_instance() -> None:
    """The best of all instances at all batches on a grid is the search's, evaluated one by one."""
    asked = study(
        ("chips = [16]", "chips = [8]"),
        ("[targets]", "[layout]\nbatch = [1, 8, 40, 64, 300]\ncontext_parallel = 1\n[targets]"),
    )
    known = served_records(question(asked), only_case(asked))
    best, ranks = 0.0, 8
    for number in range(known.space.count):
        instance, more = known.space.take(np.asarray([number]))
        one = Instance(**{name: int(getattr(instance, name)[0]) for name in Instance.__slots__})
        serving = known.work.serving(known.architecture, int(more["redundant"][0]))
        cost = decode_cost(known.system, known.engine, serving, one)
        fits = int(one.batch) <= most_in_flight(known, instance, more["redundant"])[0]
        if fits and float(cost.tpot) <= 0.04:
            best = max(best, float(cost.tokens_per_second) * (ranks // int(one.ranks)) / ranks)
    rows = searched(asked)
    assert rows["tokens_per_s_per_chip"][0] == pytest.approx(best, rel=1e-12)
    assert best > 0


def test_a_front_is_the_front_of_all_rows() -> None:
    """No row beats one of the front in rate of a chip and of a user, and none that is not beaten is missing."""
    names = ("tokens_per_s_per_chip", "tokens_per_s_per_user")
    asked = study(("[targets]\n", "[layout]\nbatch = [1, 2, 4, 8, 16, 32, 64, 128]\n[targets]\n"))
    every = searched(asked, rows="all")
    kept = searched(asked, rows="pareto", pareto=names)
    fits = np.flatnonzero(every["feasible"])
    values = -np.stack([every[name][fits] for name in names], axis=1)
    chosen = fits[front(values, every["layout_id"][fits])]
    assert sorted(every["layout_id"][chosen]) == kept["layout_id"].tolist()
    assert len(kept["layout_id"]) > 3


def test_bounds_change_no_answer() -> None:
    """Together: the best instances are the same with and without the bound of decoding alone."""
    for objective, load in (("tokens_per_s_per_chip", ""), ("chips_used", 'load = "4000 token/s"\n')):
        narrow = "[layout]\nexpert_tensor_parallel = 1\npipeline_parallel = 1\ncontext_parallel = 1\n[targets]"
        asked = study(
            ('"decode"', '"serving"'), ("[0, 32]", "0"), ("[serving]", f"{load}[serving]"), ("[targets]", narrow)
        )
        rows = [searched(asked, objective=objective, rows="top", top=3, prune=prune) for prune in (True, False)]
        assert all(np.array_equal(rows[0][name], rows[1][name]) for name in rows[0])


@pytest.mark.parametrize(("ttft", "load"), [("5 s", ""), ("600 ms", ""), ("600 ms", 'load = "3000 token/s"\n')])
def test_pairs_are_the_best_of_all_pairs(ttft: str, load: str) -> None:
    """Apart: no pair of any two instances does better in whole numbers than the one that is found, at any target."""
    asked = study(
        ('"decode"', '"serving"'), ("chips = [16]", "chips = [24]"), ("[0, 32]", "0"),
        ("[serving]", f"{load}[serving]"),
        ("[targets]\n", '[layout]\ndeployment = "disaggregated"\npipeline_parallel = 1\ncontext_parallel = [1, 2]\n'
                        f'[targets]\nttft = "<= {ttft}"\n'),
    )  # fmt: skip
    name = "chips_used" if load else "requests_per_s"
    rows = searched(asked, objective=name)
    known, case = question(asked), only_case(asked)
    both = pairs.Sides(served_records(known, case, "prefill"), served_records(known, case, "decode"), {})
    numbers = np.arange(both.prefill.space.count * both.decode.space.count)
    found = [pairs.joined_at(both, some) for some in np.array_split(numbers, max(1, len(numbers) // 100_000))]
    limits = {"ttft": float(ttft.split()[0]) * (1e-3 if ttft.endswith("ms") else 1.0), "tpot": 0.04}
    best = []
    for one in found:
        fits = np.all([np.asarray(excess) <= 0 for excess in one.violations.values()], axis=0)
        fits &= (one.ttft <= limits["ttft"]) & (one.tpot <= limits["tpot"])
        if fits.any():
            best.append(one.chips_used[fits].min() if load else one.requests_per_second[fits].max())
    assert rows[name][0] == pytest.approx(min(best) if load else max(best), rel=1e-12)
    assert rows["prefill_instances"][0] >= 1


# ------------------------------------------------------------------------------------------------------- whole runs
@cache
def digest(text: str, workers: int, folder: Path) -> str:
    """Digest of a run."""
    return run_study(parse(text), folder / str(workers), workers).digest


def test_rows_are_the_same_for_any_number_of_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, in pieces, and on two workers: the same rows bit for bit."""
    text = STUDY.replace('"<= 40 ms"', '["<= 40 ms", "<= 25 ms"]') + '[search]\nrows = "top:5"\n'
    whole = run_study(parse(text), tmp_path / "whole", 0).digest
    assert run_study(parse(text), tmp_path / "two", 2).digest == whole
    monkeypatch.setitem(kinds._SERVED_TASK, "decode", 100)
    assert run_study(parse(text), tmp_path / "pieces", 0).digest == whole


def test_a_load_is_carried_by_as_few_instances_as_can(tmp_path: Path) -> None:
    """With a load the instances at work carry it, and one fewer would not."""
    asked = study(("[serving]", 'load = "3000 token/s"\n[serving]'))
    rows = searched(asked, objective="chips_used", rows="feasible")
    assert (rows["tokens_per_s"] >= 3000 * (1 - 1e-9)).all()
    fewer = rows["tokens_per_s"] * (rows["instances"] - 1) / rows["instances"]
    assert (fewer < 3000).all()
    assert (rows["chips_used"] == rows["instances"] * rows["tp"] * rows["cp"] * rows["pp"] * rows["dp"]).all()


@given(st.integers(1, 5000))
@settings(max_examples=30)
def test_batches_on_offer_are_close(most: int) -> None:
    """Every batch on offer is at most a tenth above the one before, beyond the first few; the last is the most."""
    offered = ladder(most)
    assert offered[0] == 1
    assert offered[-1] == most
    assert all(b <= max(a + 1, 1.1 * a + 1) for a, b in pairwise(offered))


CHECKED: list[tuple[str, str, str, str]] = [
    ('"decode"', '"decoding"', "phase", "must be one of training, prefill, decode, serving"),
    ('"<= 40 ms"', '"40 ms"', "targets.tpot", "is not a bound"),
    ('"<= 40 ms"', '">= 40 ms"', "targets.tpot", "bound from above"),
    ('"<= 40 ms"', '"<= 40 ms"\nttft = "<= 1 s"', "targets.ttft", "no such latency"),
    ('"<= 40 ms"', '"<= 40 ms"\ntopt = "<= 1 s"', "targets.topt", "did you mean 'tpot'"),
    ('"2048 token"', "2048", "traffic.input_tokens", "needs a unit"),
    ('"512 token"', '"512 token"\nload = "5 token"', "traffic.load", "expected token/s"),
    ('"512 token"', '"512 token"\nload = "5 token/s"\nrate = "2 request/s"', "traffic.load", "not both"),
    ('"512 token"', '"512 token"\nprefix_hit = 1.0', "traffic.prefix_hit", "less than 1"),
    ('"fp8"', '"fp9"', "serving.weight_format", "not a number format"),
    ('"fp8"', '"fp8"\nkv_format = "fp12"', "serving.kv_format", "not a number format"),
    ('"fp8"', '"fp8"\nbalance = "even"', "serving.balance", "perfect"),
    ("[0, 32]", "[-1]", "serving.redundant_experts", "whole number from 0 on"),
    ('"dgx-h200"', '"dgx-h200"\nengine = "vlm-2025"', "designs[0].engine", "did you mean 'vllm-2025'"),
    ('"dgx-h200"', '"dgx-h200"\nstack = "megatron-2025"', "designs[0].stack", "has an engine"),
    ('"dgx-h200"', '"dgx-h200"\n[layout]\ntp = 4', "layout.tp", "write 'tensor_parallel'"),
    ('"dgx-h200"', '"dgx-h200"\n[layout]\ndeployment = "apart"', "layout.deployment", "deployment"),
    ('"dgx-h200"', '"dgx-h200"\n[layout]\ndeployment = "disaggregated"', "layout.deployment", 'phase = "serving"'),
    ('"dgx-h200"', '"dgx-h200"\n[search]\nobjective = "mfu"', "search.objective", "not a quantity of serving"),
    ('"dgx-h200"', '"dgx-h200"\n[search]\nobjective = "ttft_s"', "search.objective", "no quantity of phase"),
    ('"dgx-h200"', '"dgx-h200"\n[search]\nmethod = "optuna"', "search.method", "exact"),
    ('"dgx-h200"', '"dgx-h200"\n[constraints]\nmfu = ">= 0.4"', "constraints.mfu", "not a quantity"),
]  # fmt: skip


@pytest.mark.parametrize(("before", "after", "key", "words"), CHECKED)
def test_mistakes_are_told(before: str, after: str, key: str, words: str) -> None:
    """Each mistake is told by its key, with the rule and a remedy."""
    from sweep.errors import InputError

    assert before in STUDY
    with pytest.raises(InputError) as caught:
        parse(STUDY.replace(before, after, 1), "study.toml")
    told = {problem.key: problem.sentence() for problem in caught.value.problems}
    assert key in told, told
    assert words in told[key], told[key]


def test_all_mistakes_are_told_at_once() -> None:
    """Mistakes of form in several tables, and unknown names beside them, come together."""
    from sweep.errors import InputError

    text = STUDY.replace('"2048 token"', "2048").replace('"<= 40 ms"', '"40"').replace("dgx-h200", "dgx-h2000")
    with pytest.raises(InputError) as caught:
        parse(text)
    keys = {problem.key for problem in caught.value.problems}
    assert {"traffic.input_tokens", "targets.tpot", "designs[0].system"} <= keys
