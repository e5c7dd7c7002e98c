"""The catalogue: every number has a source, every file loads, corners are ordered, mistakes are named."""

import json
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from model.chip import Chip
from model.money import capital
from model.power import rated_power, within
from model.serving.stack import ServingStack
from model.stack import Stack
from sweep import catalogue, provenance
from sweep.catalogue import CORNERS, KINDS, SOURCE_KINDS
from sweep.commands.catalogue import list_entries, show
from sweep.errors import InputError

EVERY = [(kind, name) for kind in KINDS for name in catalogue.names(kind)]
CHIPS = {
    *("ascend-910b1", "ascend-910b2", "ascend-910b3", "ascend-910b4", "ascend-910c"),
    *("ascend-910d", "ascend-920", "ascend-950pr", "ascend-950dt", "ascend-960"),
    *("ascend-970", "a100-40", "a100-80", "h100", "h800", "h20", "h200", "b200", "b300"),
    *("gb200", "gb300", "rubin", "mi300x", "mi355x", "tpu-v4", "tpu-v5e", "tpu-v5p"),
    *("tpu-v6e", "tpu-v7x"),
}
SYSTEMS = {
    *("cloudmatrix-384", "atlas-800t-a2", "atlas-950-superpod", "atlas-910d-supernode"),
    *("atlas-920-supernode", "gb200-nvl72", "gb300-nvl72", "vr-nvl72", "dgx-a100"),
    *("dgx-h100", "dgx-h800", "dgx-h200", "dgx-b200", "hgx-b300", "hgx-h20", "mi300x-node"),
    *("mi355x-node", "tpu-v4-pod", "tpu-v5e-pod", "tpu-v5p-pod", "tpu-v6e-pod"),
    "tpu-v7x-pod",
}
SCENARIOS = {"chips": {"ascend-910d", "ascend-920"}, "systems": {"atlas-910d-supernode", "atlas-920-supernode"}}


# ---------------------------------------------------------------------------------------------- completeness
@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_every_number_says_where_it_comes_from(kind: catalogue.Kind, name: str) -> None:
    """Every value of every file has a source and a kind of source."""
    for path, one in catalogue.entry(kind, name).quantities.items():
        assert len(one.source) >= 3, path
        assert one.kind in SOURCE_KINDS, path


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_what_is_not_re_checked_is_no_datasheet_value(kind: catalogue.Kind, name: str) -> None:
    """A figure from memory, or one that nothing published supports, never passes for an official or measured one."""
    for path, one in catalogue.entry(kind, name).quantities.items():
        if one.placeholder or "not re-checked" in one.source:
            assert one.kind not in ("datasheet", "measured"), path


def test_every_chip_and_system_that_studies_name_is_there() -> None:
    """The Ascend generations and the machines they are compared with are all in the catalogue."""
    assert set(catalogue.names("chips")) >= CHIPS
    assert set(catalogue.names("systems")) >= SYSTEMS


@pytest.mark.parametrize("name", catalogue.names("chips"))
@pytest.mark.parametrize("corner", CORNERS)
def test_every_chip_can_run_what_it_has_a_peak_for(name: str, corner: catalogue.Corner) -> None:
    """A chip is complete at every corner: each peak has matmul constants and an energy, and all is positive."""
    chip = catalogue.chip(name, corner)
    assert set(chip.peak_flops) == set(chip.calibration.matmul) == set(chip.power.joule_per_flop)
    assert 0 < chip.power.idle_w < chip.power.board_w
    assert min(chip.hbm_bytes, chip.hbm_bandwidth, *chip.peak_flops.values()) > 0
    for constants in chip.calibration.matmul.values():
        assert 0 < constants.peak_fraction <= 1
        assert 0 < constants.sustained_clock <= 1


@pytest.mark.parametrize("name", catalogue.names("systems"))
@pytest.mark.parametrize("corner", CORNERS)
def test_every_system_is_complete(name: str, corner: catalogue.Corner) -> None:
    """A system has tiers that grow outwards, each with every collective, and a stack that exists."""
    system = catalogue.system(name, corner)
    ranks = [tier.ranks for tier in system.tiers]
    assert ranks == sorted(ranks)
    for tier in system.tiers:
        assert set(tier.efficiency) == {"all_reduce", "all_gather", "reduce_scatter", "all_to_all", "point_to_point"}
        assert all(0 < reached <= 1 for reached in tier.efficiency.values())
    assert system.tiers[0].ranks <= system.unit_packages * system.chip.ranks_per_package * 32
    assert catalogue.default_stack(name) in catalogue.names("stacks")
    assert catalogue.default_engine(name) in catalogue.names("engines")


@pytest.mark.parametrize("name", catalogue.names("systems"))
def test_a_torus_has_as_many_ranks_as_its_shape(name: str) -> None:
    """The axes of a torus multiply to its ranks."""
    for tier in catalogue.system(name).tiers:
        if tier.topology == "torus":
            product = 1
            for length in tier.shape:
                product *= length
            assert product == tier.ranks


def test_frameworks_of_the_published_runs_have_a_stack() -> None:
    """Each framework that published runs name is described by at least one stack."""
    known = set()
    for name in catalogue.names("stacks"):
        known |= set(catalogue.entry("stacks", name).facts["frameworks"])
    assert known >= {
        *("nemo", "megatron-bridge", "megatron-core", "megatron-lm", "llm-foundry", "maxtext", "mindspeed"),
        *("mindformers", "mlperf", "deepseek", "llama3-meta", "fms-fsdp", "jax-toolbox", "yafsdp", "primus"),
    }
    assert catalogue.stacks_of("megatron-bridge")[0] == "megatron-bridge-2026"
    assert catalogue.stacks_of("megatron-lm", 2021) == ["megatron-2021"]


@pytest.mark.parametrize(
    ("kind", "read", "record", "name"),
    [("stacks", catalogue.stack, Stack, name) for name in catalogue.names("stacks")]
    + [("engines", catalogue.engine, ServingStack, name) for name in catalogue.names("engines")],
)
def test_software_holds_what_its_file_says(kind: catalogue.Kind, read: Any, record: Any, name: str) -> None:
    """Its record has the values of its file and of those it is like, and the defaults of the record for the rest."""
    found, line = read(name), catalogue.lineage(catalogue.entry(kind, name))
    default = record(name=name)
    for field in fields(record):
        stated = [one.value(field.name) for one in line if field.name in one.quantities]
        if stated:
            assert getattr(found, field.name) == stated[0]
        elif field.name not in ("name", "year"):
            assert getattr(found, field.name) == getattr(default, field.name)


@pytest.mark.parametrize("name", catalogue.names("systems"))
def test_the_engine_of_a_system_runs_on_its_chip(name: str) -> None:
    """A system's own engine is one of those for the vendor of its chip."""
    vendor = catalogue.entry("chips", catalogue.system(name).chip.name).facts["vendor"]
    assert vendor in catalogue.entry("engines", catalogue.default_engine(name)).facts["vendors"]


# ----------------------------------------------------------------------------------------- rumours and traps
def test_rumoured_parts_are_marked_as_scenarios() -> None:
    """The 910D, the 920 and their supernodes, and nothing else, are scenarios."""
    for kind in ("chips", "systems"):
        names = catalogue.names(kind)
        assert {name for name in names if catalogue.entry(kind, name).facts.get("scenario")} == SCENARIOS[kind]
    assert {name for name in catalogue.names("systems") if catalogue.is_scenario(name)} == SCENARIOS["systems"]


@pytest.mark.parametrize("name", sorted(SCENARIOS["chips"]))
def test_a_rumoured_chip_has_no_official_number(name: str) -> None:
    """Each performance number of a rumoured chip is a rumour or a placeholder, and has a range."""
    for path, one in catalogue.entry("chips", name).quantities.items():
        assert one.kind not in ("datasheet", "measured"), path
        if one.role == "performance":
            assert one.kind == "rumour" or one.placeholder, path
            assert one.low < one.value <= one.high, path


def test_a_910c_package_is_two_ranks() -> None:
    """The 910C's 752 TFLOP/s, 128 GiB and 3.2 TB/s are of the package; a rank is one of its two dies."""
    chip = catalogue.chip("ascend-910c")
    assert chip.ranks_per_package == 2
    assert chip.peak_flops["bf16"] == pytest.approx(376e12)
    assert chip.hbm_bytes == 64 * 2**30
    assert chip.hbm_bandwidth == pytest.approx(1.6e12)
    assert not chip.supports("fp8")
    bus = catalogue.system("cloudmatrix-384").tiers[0]
    assert bus.ranks == 768
    assert bus.bandwidth == pytest.approx(196e9)


@pytest.mark.parametrize(
    ("name", "one_direction"),
    [("dgx-a100", 300e9), ("dgx-h100", 450e9), ("dgx-h800", 200e9), ("dgx-b200", 900e9), ("gb200-nvl72", 900e9),
     ("vr-nvl72", 1800e9), ("atlas-800t-a2", 196e9), ("mi300x-node", 448e9), ("tpu-v5p-pod", 540e9)],
)  # fmt: skip
def test_links_count_one_direction(name: str, one_direction: float) -> None:
    """Bandwidths are half of the bidirectional headlines."""
    assert catalogue.system(name).tiers[0].bandwidth == pytest.approx(one_direction)


def test_peaks_are_dense() -> None:
    """Peaks leave out the doubling by sparsity, and a missing format is missing."""
    peaks = {name: catalogue.chip(name).peak_flops for name in catalogue.names("chips")}
    assert peaks["h100"]["bf16"] == pytest.approx(989.4e12)
    assert peaks["gb200"]["fp4"] == pytest.approx(10e15)
    assert peaks["mi300x"]["bf16"] == pytest.approx(1307.4e12)
    assert peaks["b300"]["int8"] < 0.1 * peaks["b300"]["bf16"]
    assert "fp8" not in peaks["a100-80"]


def test_no_matrix_engine_is_faster_than_its_peak() -> None:
    """Burst fraction times sustained clock stays below the datasheet's peak on every chip and number format."""
    for name in catalogue.names("chips"):
        for constants in catalogue.chip(name).calibration.matmul.values():
            assert 0.0 < constants.peak_fraction * constants.sustained_clock < 1.0


# ---------------------------------------------------------------------------------------------------- corners
def speeds(chip: Chip) -> list[float]:
    """Numbers of a chip that are better when larger."""
    matmul = [constants.peak_fraction for constants in chip.calibration.matmul.values()]
    clocks = [constants.sustained_clock for constants in chip.calibration.matmul.values()]
    return [*chip.peak_flops.values(), chip.hbm_bytes, chip.hbm_bandwidth, *matmul, *clocks]


@pytest.mark.parametrize("name", catalogue.names("systems"))
def test_performance_corners_are_ordered_and_leave_power_alone(name: str) -> None:
    """Every performance number at "low" is at most nominal, at "high" at least; no power number moves."""
    low, nominal, high = (catalogue.system(name, corner) for corner in ("low", "nominal", "high"))
    for worst, middle, best in zip(speeds(low.chip), speeds(nominal.chip), speeds(high.chip), strict=True):
        assert worst <= middle <= best
    for worst_tier, tier, best_tier in zip(low.tiers, nominal.tiers, high.tiers, strict=True):
        assert worst_tier.bandwidth <= tier.bandwidth <= best_tier.bandwidth
        assert worst_tier.ranks <= tier.ranks <= best_tier.ranks
        assert worst_tier.latency_s >= tier.latency_s >= best_tier.latency_s
        for kind, reached in tier.efficiency.items():
            assert worst_tier.efficiency[kind] <= reached <= best_tier.efficiency[kind]
    assert low.chip.power == nominal.chip.power == high.chip.power
    assert low.parts == nominal.parts == high.parts


@pytest.mark.parametrize("name", catalogue.names("systems"))
def test_power_corners_leave_performance_alone(name: str) -> None:
    """The power corners move watts and joules, and no performance number."""
    less, nominal, more = (catalogue.system(name, corner) for corner in ("power_low", "nominal", "power_high"))
    assert speeds(less.chip) == speeds(nominal.chip) == speeds(more.chip)
    assert less.tiers == nominal.tiers == more.tiers
    assert less.chip.power.idle_w <= nominal.chip.power.idle_w <= more.chip.power.idle_w
    assert less.facility.conversion_efficiency >= more.facility.conversion_efficiency


# --------------------------------------------------------------------------------- one's own entries, mistakes
BAD = """
title = "Mine"
vendr = "Mine"
calibration = "h100"
cores = 132
hbm_bytes = { value = "64 GB/s", source = "a page", kind = "datasheet" }
hbm_bandwidth = { value = "3.2 TB/s", low = "4 TB/s", source = "a page", kind = "guess" }
year = { value = 2024, kind = "datasheet" }
ranks_per_package = { value = 1, low = 2, source = "a page", kind = "datasheet" }
[peak_flops]
bf16 = { value = 752e12, source = "a page", kind = "datasheet" }
"""


def own(folder: Path, kind: str, name: str, text: str) -> Path:
    """Write an entry of one's own."""
    (folder / kind).mkdir(exist_ok=True)
    (folder / kind / f"{name}.toml").write_text(text, encoding="utf-8")
    return folder


def test_a_bad_entry_gets_one_error_with_every_problem(tmp_path: Path) -> None:
    """All mistakes of a file are reported at once, each with its key, the rule and what to write."""
    with pytest.raises(InputError) as failure:
        catalogue.chip("mine", extra=own(tmp_path, "chips", "mine", BAD))
    said = {one.key: one.sentence() for one in failure.value.problems}
    assert set(said) == {
        *("vendor", "vendr", "cores", "hbm_bytes.value", "hbm_bandwidth.kind", "year.source", "ranks_per_package"),
        *("peak_flops.bf16.value", "power"),
    }
    assert "did you mean 'vendor'" in said["vendr"]
    assert "byte/s; expected byte" in said["hbm_bytes.value"]
    assert "needs a unit, as in '752 TFLOP/s'" in said["peak_flops.bf16.value"]
    assert "has no source" in said["cores"]
    assert "where the number comes from" in said["year.source"]
    assert "guess" in said["hbm_bandwidth.kind"]
    assert "out of order" in said["ranks_per_package"]
    assert str(tmp_path) in str(failure.value)


@pytest.mark.parametrize(
    ("call", "suggestion"),
    [
        (lambda: catalogue.chip("ascend-910e"), "ascend-910d"),
        (lambda: catalogue.system("cloudmatrix"), "cloudmatrix-384"),
        (lambda: catalogue.names("chip"), "chips"),
        (lambda: catalogue.system("dgx-a100", chip_name="a100"), "a100-80"),
        (lambda: show("gb20"), "gb200"),
    ],
)
def test_an_unknown_name_gets_the_nearest_ones(call: object, suggestion: str) -> None:
    """A name that is not in the catalogue is answered with the names nearest to it."""
    with pytest.raises(InputError, match=f"did you mean.*'{suggestion}'"):
        call()  # type: ignore[operator]


def test_a_dangling_reference_names_the_file_that_makes_it(tmp_path: Path) -> None:
    """A chip whose calibration does not exist is reported with its own file and key."""
    text = catalogue.entry("chips", "h100").text.replace('calibration = "h100"', 'calibration = "h101"')
    with pytest.raises(InputError, match=r"mine\.toml.*\n.*calibration.*'h101'.*did you mean 'h100'"):
        catalogue.chip("mine", extra=own(tmp_path, "chips", "mine", text))


def test_a_chip_without_constants_for_a_peak_is_refused(tmp_path: Path) -> None:
    """A peak that the calibration knows nothing about is an error, not a guess."""
    text = catalogue.entry("chips", "h100").text.replace('calibration = "h100"', 'calibration = "ascend-910c"')
    with pytest.raises(InputError, match="no matmul constants for a peak of the chip, but got 'fp8'"):
        catalogue.chip("mine", extra=own(tmp_path, "chips", "mine", text))


def test_a_file_that_is_not_toml_is_named(tmp_path: Path) -> None:
    """A syntax error is reported as such, with the line."""
    with pytest.raises(InputError, match=r"not TOML.*line 2"):
        catalogue.chip("mine", extra=own(tmp_path, "chips", "mine", 'title = "x"\n= 3\n'))


def test_an_entry_of_ones_own_replaces_the_shipped_one(tmp_path: Path) -> None:
    """A user's folder adds entries and replaces entries by name, for everything built from them."""
    text = catalogue.entry("chips", "ascend-910c").text.replace("3.2 TB/s", "6.4 TB/s")
    extra = own(tmp_path, "chips", "ascend-910c", text)
    own(tmp_path, "chips", "mine", text)
    assert "mine" in catalogue.names("chips", extra)
    assert catalogue.system("cloudmatrix-384", extra=extra).chip.hbm_bandwidth == pytest.approx(3.2e12)
    assert catalogue.system("cloudmatrix-384").chip.hbm_bandwidth == pytest.approx(1.6e12)
    assert (
        provenance.entries_used("cloudmatrix-384", "deepseek-v3", "deepseek", extra)["chips/ascend-910c.toml"] == text
    )


def test_a_system_takes_the_other_chips_that_it_is_sold_with() -> None:
    """The Atlas 800T A2 comes with four bins of the 910B."""
    peaks = [catalogue.system("atlas-800t-a2", chip_name=f"ascend-910b{b}").chip.peak_flops["bf16"] for b in "1234"]
    assert peaks == sorted(peaks, reverse=True)
    assert catalogue.system("atlas-800t-a2").chip.name == "ascend-910b3"


def test_a_result_can_keep_every_file_it_rests_on() -> None:
    """The files behind a result, with those of an alias and of a kind, can be read back from their texts alone."""
    used = provenance.entries_used("cloudmatrix-384", "deepseek-r1", "mindspeed-2025")
    assert set(used) == {
        *("systems/cloudmatrix-384.toml", "chips/ascend-910c.toml", "calibrations/ascend-910c.toml"),
        *("fabrics/roce-400g.toml", "models/deepseek-r1.toml", "models/deepseek-v3.toml"),
        *("stacks/mindspeed-2025.toml", "stacks/ascend.toml"),
    }
    assert all(tomllib.loads(text)["title"] for text in used.values())


def test_the_kinds_of_source_behind_a_system_can_be_asked() -> None:
    """Every number behind a system is listed with its kind, from the chip to the power parts."""
    kinds = provenance.source_kinds("cloudmatrix-384")
    assert kinds["chip.peak_flops.bf16"] == "datasheet"
    assert kinds["chip.power.idle_w"] == "measured"
    assert kinds["calibration.matmul.bf16.sustained_clock"] == "estimated"
    assert {"system.tiers.unified-bus.bandwidth", "fabric roce-400g.efficiency.all_reduce"} <= set(kinds)


# --------------------------------------------------------------------------------------------------- commands
@pytest.mark.parametrize("kind", KINDS)
def test_list_names_every_entry(kind: catalogue.Kind, capsys: pytest.CaptureFixture[str]) -> None:
    """`sweep list` shows every name of a kind, and as JSON one object with every number."""
    list_entries(kind)
    text = capsys.readouterr().out
    assert all(name in text for name in catalogue.names(kind))
    list_entries(kind, json=True)
    assert [one["name"] for one in json.loads(capsys.readouterr().out)["entries"]] == catalogue.names(kind)


def test_show_marks_what_is_rumoured_or_scaled(capsys: pytest.CaptureFixture[str]) -> None:
    """`sweep show` says that a chip is a scenario, marks rumours and counts the placeholders."""
    show("ascend-920")
    text = capsys.readouterr().out
    assert "a scenario: rumoured" in text
    assert "900 TFLOP/s" in text
    assert "of them placeholders" in text
    show("ascend-920", json=True)
    shown = json.loads(capsys.readouterr().out)
    assert [one["kind"] for one in shown["entries"]] == ["chips", "calibrations"]
    assert shown["entries"][0]["quantities"]["peak_flops.bf16"]["kind"] == "rumour"


@pytest.mark.parametrize("name", ["cloudmatrix-384", "dgx-h100", "tpu-v5p-pod"])
def test_a_unit_is_shown_with_its_watts_and_dollars_by_part(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """They add up to the rating and to the price; where a total is published, the gap is named."""
    show(name, json=True)
    (entry,) = json.loads(capsys.readouterr().out)["entries"]
    system = catalogue.system(name, prices="list")
    rated = rated_power(within(system, "system"), system.unit_packages).total
    assert sum(entry["rated_power_w"].values()) == pytest.approx(float(rated))
    assert sum(entry["price_usd"].values()) == pytest.approx(float(capital(system, system.unit_packages).total))
    show(name)
    shown = capsys.readouterr().out
    assert "Rated power of a unit by part" in shown
    assert "Price of a unit by part" in shown
    assert ("gap" in shown) == ("published.power_w" in entry["quantities"])


def test_importing_the_catalogue_reads_nothing() -> None:
    """The module loads without pydantic and without a file, so that commands that need neither stay quick."""
    code = (
        "import sys, sweep.catalogue, sweep.commands.catalogue; print('pydantic' in sys.modules, 'rich' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


# ------------------------------------------------------------------------------------------- how a cluster is run
@pytest.mark.parametrize("name", catalogue.names("operations"))
def test_a_machine_is_run_as_its_record_says(name: str) -> None:
    """The record that a machine is given is that of the file, at the machine's corner; no machine has one unasked."""
    for corner in CORNERS:
        system = catalogue.system("dgx-h100", corner, operation=name)
        assert system.operation == catalogue.operation(name, corner)
    assert catalogue.system("dgx-h100").operation is None


def test_a_run_keeps_the_record_of_how_its_cluster_was_run() -> None:
    """Entries named beside a machine and its software are kept with a result."""
    used = provenance.entries_used(
        "dgx-h100", "llama-3.1-405b", "megatron-2025", further=[("operations", "llama3-2024")]
    )
    assert used["operations/llama3-2024.toml"] == catalogue.entry("operations", "llama3-2024").text


def test_an_unknown_operation_is_refused_with_the_nearest_name() -> None:
    """A mistyped name of an operation gets one sentence with the known one."""
    with pytest.raises(InputError, match="llama3-2024"):
        catalogue.system("dgx-h100", operation="llama3-2025")


@pytest.mark.parametrize("name", catalogue.names("systems"))
def test_parts_of_a_machine_that_stop_a_job_have_a_rate(name: str) -> None:
    """Hosts, boards, NICs and optics of every machine fail; a fault domain is a whole part of the unit."""
    system = catalogue.system(name)
    assert all(part.failure_rate > 0 for part in system.parts if part.group in ("host", "board", "nic", "optics"))
    assert system.unit_packages % (system.fault_domain_packages or system.unit_packages) == 0
