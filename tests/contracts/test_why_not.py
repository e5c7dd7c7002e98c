"""Why nothing is feasible: the nearest designs are the nearest, and what a relaxation is said to free, it frees."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import sweep
from model.layout import OFFLOADS, Layout
from model.step import training_step
from model.workload import Training
from sweep import catalogue
from sweep.asking import ask
from sweep.cases import cases
from sweep.chosen import chosen_row
from sweep.errors import NothingFeasible
from sweep.limits import share_over, shares_over
from sweep.near_misses import near_misses
from sweep.relaxations import WhyNot, question_of
from sweep.study import parse

TRAINED = """
question = "too slow"
chips = [16]
[[workloads]]
model = "llama-3-8b"
sequence = "4096 token"
batch = 64
[[designs]]
system = "dgx-h100"
[constraints]
step_time_s = "<= 1 s"
"""
LARGE = """
question = "too large"
chips = [8]
[[workloads]]
model = "llama-3.1-405b"
sequence = "4096 token"
batch = 64
[[designs]]
system = "dgx-h100"
"""
SERVED = """
question = "too fast"
phase = "decode"
chips = [16]
[[workloads]]
model = "deepseek-v2"
[[designs]]
system = "dgx-h200"
[traffic]
input_tokens = "4096 token"
output_tokens = "1024 token"
[serving]
weight_format = "fp8"
[targets]
tpot = "<= 2 ms"
"""


def test_shares_are_of_the_limit() -> None:
    """Of memory, of the host's, of a bound that is 0; what is not known meets no limit."""
    system, stack = catalogue.system("dgx-h100"), catalogue.stack("megatron-2025")
    assert system.host is not None
    small = replace(system, host=replace(system.host, memory_bytes=1e9))
    training = Training(catalogue.architecture("llama-3.1-405b"), 4096)
    layout = Layout(tensor_parallel=8, data_parallel=2, global_batch=16, offload=1 << OFFLOADS.index("optimizer"))
    cost = training_step(small, stack, training, layout)
    shares = shares_over(cost, stack, small, (("step_time_s", "<=", 1.0), ("mfu", ">=", 2.0)))
    room = stack.usable_memory * small.chip.hbm_bytes
    assert shares["hbm_bytes"] == pytest.approx(float(cost.memory.total) / room - 1.0)
    assert shares["host_bytes"] == pytest.approx(float(cost.memory.host_bytes) / 1e9 - 1.0)
    assert shares["limit_step_time_s"] == pytest.approx(float(cost.step_time) - 1.0)
    assert shares["limit_mfu"] == pytest.approx(1.0 - float(cost.model_flops_utilisation) / 2.0)
    assert share_over([1.0, -1.0, np.nan], "<=", 0.0).tolist() == [1.0, 0.0, np.inf]


def why(text: str) -> WhyNot:
    """Why a study has no feasible design."""
    found = ask(text, "sweep try", {}).why_not
    assert found is not None
    return found


def count_of(text: str, *overrides: str) -> int:
    """Feasible layouts of a study, each looked at."""
    answered = ask(text, "sweep try", {}, [*overrides, "search.rows=feasible"])
    study = parse(answered.study.text)
    case = cases(study)[0][0]
    shares = near_misses(question_of(study), case, 1 << 30).shares
    return int(np.count_nonzero(np.all([share <= 0 for share in shares.values()], axis=0)))


@pytest.mark.parametrize(("text", "limit"), [(TRAINED, "constraints.step_time_s"), (SERVED, "targets.tpot")])
def test_a_relaxed_limit_frees_as_many_as_is_said(text: str, limit: str) -> None:
    """With the limit that is told so many layouts are feasible; a little less than the nearest needs, none is."""
    first = why(text).relaxations[0]
    assert first.exact
    assert first.to.startswith("relax ")
    relaxed = first.to.rpartition(" to ")[2]
    assert count_of(text, f"{limit}=<= {relaxed}") == first.frees > 0
    least = min(sum(one.over.values()) for one in why(text).nearest)
    given = 1.0 if text is TRAINED else 2e-3
    assert count_of(text, f"{limit}=<= {given * (1.0 + least) * 0.999} s") == 0


def test_memory_is_relaxed_by_its_factor() -> None:
    """On a chip with so many times the memory layouts are feasible, and as many."""
    found = why(LARGE)
    memory = next(one for one in found.relaxations if one.what == "hbm_bytes")
    own = catalogue.entry("chips", "h100").value("hbm_bytes")
    bigger = f"designs.change.chip.hbm_bytes={own * memory.factor} B"
    assert count_of(LARGE, bigger) == pytest.approx(memory.frees, rel=0.02)
    assert found.broken == {"hbm_bytes": found.layouts}


def test_a_larger_cluster_is_named_where_memory_is_short() -> None:
    """The size that is told has feasible layouts, and half of it has none."""
    found = next(one for one in why(LARGE).relaxations if one.what == "instances")
    size = round(8 * found.factor)
    assert f"{size} chips" in found.to
    assert ask(LARGE, "sweep try", {}, [f"chips={size}"]).answer.rows
    assert not ask(LARGE, "sweep try", {}, [f"chips={size // 2}"]).answer.rows


def test_the_nearest_is_the_nearest_of_all() -> None:
    """No layout, of all that there are, misses its limits by less."""
    found = why(TRAINED).nearest[0]
    study = parse(TRAINED)
    every = near_misses(question_of(study), cases(study)[0][0], 1 << 30)
    least = float(np.min(np.sum(list(every.shares.values()), axis=0)))
    assert sum(found.over.values()) == pytest.approx(least, rel=1e-12)
    assert found.row["step_time_s"] == pytest.approx(1.0 + found.over["limit_step_time_s"])


def test_looking_at_few_finds_what_looking_at_all_finds() -> None:
    """The bound of what was left out holds: counts up to there are those of all layouts."""
    study = parse(TRAINED)
    case = cases(study)[0][0]
    few, every = (near_misses(question_of(study), case, most) for most in (1 << 10, 1 << 30))
    assert len(few.numbers) < len(every.numbers)
    assert np.isinf(every.seen)
    reach = few.seen
    counts = [np.count_nonzero(one.worst < reach) for one in (few, every)]
    assert counts[0] == counts[1]


def test_a_machine_that_would_do_is_named() -> None:
    """With so many times of what is told, some of the nearest layouts meet every limit."""
    found = [one for one in why(TRAINED.replace("<= 1 s", "<= 1.4 s")).relaxations if one.what == "FLOP/s"]
    assert found
    path = "designs.change.chip.peak_flops.bf16"
    twice = f"{989.5 * found[0].factor} TFLOP/s"
    assert count_of(TRAINED.replace("<= 1 s", "<= 1.4 s"), f"{path}={twice}") >= 1


def test_the_answer_comes_first_then_the_nearest_then_what_frees() -> None:
    """Lines in the order in which people read them."""
    lines = why(SERVED).lines()
    assert lines[0].startswith("no feasible layout (0 of 473")
    assert lines[1].strip().startswith("Nearest: dgx-h200 on 16 chips")
    assert "tpot" in lines[1]
    assert any(line.strip().startswith("Relax tpot to ") for line in lines)


def test_a_run_without_a_feasible_row_says_why(tmp_path: Path) -> None:
    """The run's object has the reasons, and so has everything that asks for its best row."""
    found = sweep.run(SERVED, out=tmp_path, workers=0, report=False)
    assert found["answer"] == []
    assert found["why_not"]["relaxations"][0]["what"] == "limit_tpot_s"
    assert found["why_not"]["nearest"][0]["design"] == "dgx-h200"
    with pytest.raises(NothingFeasible, match="Relax tpot to"):
        chosen_row(found["run"])


def test_a_load_that_needs_more_chips_names_them() -> None:
    """Of a size the chips that carry the load are told, and they do."""
    asked = {"model": "llama-3-8b", "system": "dgx-h100", "load": "100000 tokens/s", "deployment": "colocated"}
    found = sweep.size(**asked, chips=2)
    told = found["why_not"]["relaxations"][0]
    needed = int(told["to"].split()[1])
    assert sweep.size(**asked, chips=needed)["answer"][0]["chips_used"] <= needed
    unit = 8  # of a machine
    assert not sweep.size(**asked, chips=(needed - 1) // unit * unit)["answer"]


def test_a_study_with_outer_variables_says_why_too(tmp_path: Path) -> None:
    """Its machines as catalogued, at the largest size, stand for the trials."""
    outer = """
[outer]
trials = 2
objectives = ["tokens_per_s"]
[outer.variables]
chips = [8, 16]
"""
    text = TRAINED.replace("chips = [16]", "") + outer
    found = sweep.run(text, out=tmp_path, workers=0, report=False)["why_not"]
    assert found["nearest"][0]["chips"] == 16
    assert found["relaxations"][0]["what"] == "limit_step_time_s"
    assert len(found["reasons"]) == 2
