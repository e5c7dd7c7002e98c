"""What `explain` says holds: bounds around the estimate, and a time that rests on what it is said to rest on."""

from __future__ import annotations

import math
from io import StringIO

import numpy as np
import pytest

import sweep
from model.step import training_step
from sweep import catalogue
from sweep.designs import Design, changed, number_at
from sweep.evidence import Evidence, evidence_of
from sweep.explanation import Explanation, explain_layout
from sweep.shares import GROUPS, group_of, tree_of
from sweep.uncertainty.contenders import training_contender

LAYOUTS = (
    ("llama-3.1-405b", "gb200-nvl72", 1152, "tp=8,pp=8,vp=2"),
    ("llama-3.1-405b", "dgx-h100", 1024, "tp=8,cp=2,pp=4"),
    ("deepseek-v3", "cloudmatrix-384", 768, "tp=2,ep=16,pp=4"),
    ("deepseek-v3", "atlas-910d-supernode", 768, "tp=1,ep=8,pp=8"),
    ("llama-3-8b", "hgx-h20", 64, "tp=1,zero=3"),
)
STACKS = ("megatron-2022", "megatron-bridge-2026", "torchtitan-2025", "cann-2025", "metaseq")


def explained(model: str, system: str, chips: int, layout: str, stack: str | None = None) -> Explanation:
    """A layout taken apart."""
    return explain_layout(
        model=model, system=system, chips=chips, layout=layout, batch=2304, sequence=4096, number_format="bf16",
        stack=stack, banded=False,
    )  # fmt: skip


def evidence(found: Explanation) -> Evidence:
    """What a layout's time rests on."""
    design = Design("one", found.system.name, found.stack.name, (found.chips,))
    return evidence_of(training_contender(design, found.stack, found.training, found.layout))


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: f"{layout[0]}-{layout[1]}")
@pytest.mark.parametrize("stack", [None, *(name for name in STACKS if name in catalogue.names("stacks"))])
def test_the_estimate_lies_between_all_hidden_and_none(layout: tuple[str, str, int, str], stack: str | None) -> None:
    """The roofline is under the step with all traffic hidden, that under the estimate, that under no overlap."""
    found = explained(*layout, stack)
    least, most = found.between_s
    step = float(found.cost.step_time)
    assert found.bound_s <= least * (1 + 1e-9)
    assert least <= step <= most
    said = found.as_json()
    assert said["roofline_share"] == pytest.approx(found.bound_s / step)
    assert (said["full_overlap_s"], said["no_overlap_s"]) == (least, most)


def test_traffic_makes_the_ends_apart() -> None:
    """With traffic to hide the ends differ; on a single rank nothing is there to hide."""
    least, most = explained("llama-3.1-405b", "dgx-h100", 1024, "tp=8,pp=4").between_s
    assert most > 1.05 * least
    least, most = explain_layout(
        model="llama-3-8b", system="dgx-h100", chips=1, layout="", batch=8, sequence=4096, number_format="bf16",
        stack=None, banded=False,
    ).between_s  # fmt: skip
    assert most < 1.02 * least


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: f"{layout[0]}-{layout[1]}")
def test_elasticities_are_what_a_changed_machine_shows(layout: tuple[str, str, int, str]) -> None:
    """A machine with 2 % more memory bandwidth is faster by the elasticity that is told."""
    found = explained(*layout)
    rests = evidence(found)
    paths = {"hbm_bandwidth": "chip.hbm_bandwidth", "peak_flops.bf16": "chip.peak_flops.bf16"}
    for one in rests.numbers:
        path = paths.get(one.number.rpartition(": ")[2])
        if path is None:
            continue
        now = number_at(found.system, path)
        assert now is not None
        steps = [
            float(training_step(changed(found.system, path, now * math.exp(by)), found.stack, found.training,
                                found.layout).step_time)
            for by in (0.02, -0.02)
        ]  # fmt: skip
        assert (math.log(steps[0]) - math.log(steps[1])) / 0.04 == pytest.approx(one.elasticity, abs=2e-3)
    assert any(one.number.endswith("peak_flops.bf16") for one in rests.numbers)


def test_the_estimated_share_follows_the_kinds_of_sources() -> None:
    """A machine of rumours rests on them; one of datasheets and measurements hardly does; shares are shares."""
    shares = {layout[1]: evidence(explained(*layout)).estimated_share for layout in LAYOUTS}
    assert all(0.0 <= share <= 1.0 for share in shares.values())
    assert shares["atlas-910d-supernode"] > 0.5 > 0.2 > shares["gb200-nvl72"]


def test_every_number_that_is_told_has_a_source() -> None:
    """Kind, value and source of each stand in the catalogue."""
    rests = evidence(explained(*LAYOUTS[0]))
    for one in rests.numbers:
        entry, _, path = one.number.partition(": ")
        kind, _, name = entry.partition("/")
        quantity = catalogue.entry(kind, name).quantities[path]  # type: ignore[arg-type]
        assert (one.source, one.value) == (quantity.source, quantity.text())
        assert one.source
    sizes = [abs(one.elasticity) for one in rests.numbers]
    assert sizes == sorted(sizes, reverse=True)


def test_the_tree_holds_every_part_once() -> None:
    """Groups add up to the whole, and every part of a step, a pass and their memory and energy has a line."""
    from rich.console import Console

    parts = {"compute": 6.0, "tensor": 2.0, "data": 1.0, "bubble": 0.5, "host": 0.5, "offload": 0.0}
    printed = StringIO()
    Console(width=120, file=printed).print(tree_of("time", "s", parts, {"tensor": "hccs"}))
    lines = printed.getvalue().splitlines()
    told = {line.strip("│├└─ ").split()[0]: line for line in lines[1:]}
    assert set(told) == {"compute", "traffic", "tensor", "data", "waiting", "bubble", "host"}
    assert "30.0%" in told["traffic"]
    assert "hccs" in told["tensor"]
    assert "60.0%" in told["compute"]
    assert len({part for own in GROUPS.values() for part in own}) == sum(len(own) for own in GROUPS.values())
    assert group_of("host", "s") == "waiting"
    assert group_of("host", "J") == "around them"


def test_the_tree_leaves_out_what_rounding_leaves() -> None:
    """A part of a step that is 1e-16 of it is none; shares have no unit and no whole beside them."""
    from rich.console import Console

    printed = StringIO()
    console = Console(width=120, file=printed)
    console.print(tree_of("time", "s", {"compute": 10.0, "host": 1e-15, "bubble": 1e-6}))
    console.print(tree_of("where the weeks go", "", {"useful": 0.9, "restart": 0.1}))
    told = printed.getvalue()
    assert "host" not in told
    assert "bubble" in told
    assert "where the weeks go\n" in told
    assert [line.split()[1:3] for line in told.splitlines()[-2:]] == [["useful", "90.0%"], ["restart", "10.0%"]]


def test_a_pass_of_serving_has_its_ends_too() -> None:
    """Each kind of pass lies between all traffic hidden and none, and says what it rests on."""
    from sweep.chosen import chosen_answer
    from sweep.questions import OPTIONS, how_fast

    text = how_fast(model="deepseek-v2", system="dgx-h200", chips=16, phase="decode", tpot="40 ms")
    found = chosen_answer(text, "test", OPTIONS).found
    said = found.as_json()
    for name, parts in said["time_s"].items():
        whole = sum(parts.values())
        assert said["full_overlap_s"][name] <= whole <= said["no_overlap_s"][name]
    assert np.all([sum(parts.values()) > 0 for parts in said["time_s"].values()])


def test_explain_says_it_all() -> None:
    """The object of a layout has the ends, the share of the roofline and what it rests on."""
    said = sweep.explain(model="llama-3-8b", system="dgx-h100", chips=8, layout="tp=2", batch=64)
    assert said["full_overlap_s"] <= said["step_time_s"] <= said["no_overlap_s"]
    assert 0.0 < said["roofline_share"] < 1.0
    assert 0.0 <= said["estimated_time_share"] <= 1.0
    assert {"number", "kind", "value", "source", "elasticity", "part"} == set(said["rests_on"][0])
    assert said["part_rests_on"]["compute"].startswith(("chips/", "calibrations/"))
