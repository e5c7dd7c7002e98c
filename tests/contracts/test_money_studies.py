"""Studies that ask for power, money and certainty: sizes from limits, numbers that are changed, machines varied."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest

from model.money import capital
from model.power import rated_power
from model.system import System
from sweep import catalogue
from sweep.certainty import BAND, contender
from sweep.cli import main
from sweep.columns import SETS
from sweep.designs import changed, changes_of, changes_text, dimension_of, machine, number_at
from sweep.errors import InputError
from sweep.running import Finished, run_study
from sweep.study import Study, divides_well, parse
from sweep.uncertainty.contenders import values
from sweep.uncertainty.points import nominal

TRAINING = """
name = "money"
question = "what does it take?"
SIZES
[[workloads]]
model = "llama-3-8b"
sequence = "8192 token"
batch = 768
[[designs]]
label = "920"
system = "atlas-920-supernode"
[[designs]]
label = "H20"
system = "hgx-h20"
[layout]
tensor_parallel = [1, 2]
context_parallel = 1
pipeline_parallel = 1
micro_batch = 1
recompute = ["none", "full"]
"""
SERVING = """
name = "served"
question = "what does it take?"
phase = "decode"
SIZES
[[workloads]]
model = "llama-3-8b"
[traffic]
input_tokens = "1024 token"
output_tokens = "256 token"
[targets]
tpot = "<= 40 ms"
[[designs]]
label = "920"
system = "atlas-920-supernode"
[[designs]]
label = "H20"
system = "hgx-h20"
[layout]
tensor_parallel = [1, 2]
pipeline_parallel = 1
context_parallel = 1
"""


def study_of(text: str, sizes: str, more: str = "") -> Study:
    return parse(text.replace("SIZES", sizes) + more)


def problems(text: str) -> list[tuple[str, str]]:
    """Key and sentence of every problem of a study."""
    with pytest.raises(InputError) as caught:
        parse(text, "study.toml")
    return [(problem.key, problem.sentence()) for problem in caught.value.problems]


# ------------------------------------------------------------------------------------------------ sizes
@pytest.mark.parametrize("text", [TRAINING, SERVING], ids=["training", "serving"])
@pytest.mark.parametrize("name", ["power", "budget"])
def test_sizes_are_the_most_that_a_limit_allows(text: str, name: str) -> None:
    """A size fits its limit, one unit more of what divides well does not, and a note says what was taken."""
    limits = [2e6, 30e6] if name == "power" else [50e6, 700e6]
    unit = "W" if name == "power" else "USD"
    written = json.dumps([f"{limit / 1e6:g} M{unit}" for limit in limits])
    study = study_of(text, f"{name} = {written}\n")
    assert len(study.notes) == len(limits) * len(study.designs)
    for design in study.designs:
        system = machine(design)
        for limit, chips in zip(limits, design.chips, strict=True):
            takes = float((rated_power if name == "power" else capital)(system, chips).total)
            count, rest = divmod(chips, system.unit_packages)
            most = int(limit / (takes / count))
            assert takes <= limit
            assert rest == 0
            assert count == (divides_well(most) if study.phase == "training" else most)
            said = "feed" if name == "power" else "buy"
            assert any(design.label in note and f"{said} {most:,} units" in note for note in study.notes)


@pytest.mark.parametrize("most", [1, 2, 7, 16, 100, 383, 12_345, 10**7])
def test_what_divides_well_is_near_the_most(most: int) -> None:
    """The number is one of 1, 3, 5, 9, 15, 45 times a power of two, and more than three quarters of what fits."""
    found = divides_well(most)
    odd = found >> ((found & -found).bit_length() - 1)
    assert odd in (1, 3, 5, 9, 15, 45)
    assert 0.75 * most < found <= most


@pytest.mark.parametrize("text", [TRAINING, SERVING], ids=["training", "serving"])
@pytest.mark.parametrize(
    ("sizes", "key", "words"),
    [
        ('power = ["100 kW"]', "power", "920: one unit of 384 chips takes"),
        ('budget = ["1 MUSD"]', "budget", "920: one unit of 384 chips takes"),
        ('budget = ["50 MUSD"]\nprices = "rental"', "budget", "is rented: nothing is bought"),
        ('power = ["1e300 W"]', "power", "at most"),
        ('power = ["9 MB"]', "power[0]", "is in byte; expected W"),
        ("budget = []", "budget", "at least 1 item"),
        ('budget = "5 MUSD"', "budget", "valid list"),
        ('budget = ["-5 MUSD"]', "budget[0]", "not over 0"),
    ],
)
def test_a_limit_that_gives_no_size_is_told(text: str, sizes: str, key: str, words: str) -> None:
    """A unit too dear or too hungry, a machine that is rented, a limit without bounds: by the limit's key."""
    found = problems(text.replace("SIZES", sizes))
    assert {name for name, _ in found} == {key}
    assert words in found[0][1]


@pytest.mark.parametrize(
    ("sizes", "keys"),
    [
        ('chips = [384]\npower = ["9 MW"]', ["power"]),
        ('chips = [384]\nbudget = ["99 MUSD"]', ["budget"]),
        ('power = ["9 MW"]\nbudget = ["99 MUSD"]', ["budget"]),
        ('chips = [384]\npower = ["9 MW"]\nbudget = ["99 MUSD"]', ["power", "budget"]),
    ],
)
def test_sizes_are_given_once(sizes: str, keys: list[str]) -> None:
    """Chips, power and budget: one of them; each further one is a problem of its own."""
    found = problems(TRAINING.replace("SIZES", sizes))
    assert [key for key, _ in found] == keys
    assert all("sizes are given once" in sentence for _, sentence in found)


def test_sizes_are_given_once_beside_outer_variables() -> None:
    """A size that Optuna proposes is not one that power feeds."""
    more = "[outer]\ntrials = 2\nvariables = { chips = [384] }\n"
    assert [key for key, _ in problems(TRAINING.replace("SIZES", 'power = ["9 MW"]') + more)] == ["power"]


# ------------------------------------------------------------------------------------------------ any number
def leaves(at: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, float]]:
    """Dotted path and value of every number of a record."""
    if is_dataclass(at) and not isinstance(at, type):
        for one in fields(at):
            yield from leaves(getattr(at, one.name), (*path, one.name))
    elif isinstance(at, Mapping):
        for name, value in at.items():
            yield from leaves(value, (*path, name))
    elif isinstance(at, tuple):
        for item in at:
            if is_dataclass(item):
                yield from leaves(item, (*path, item.name))  # type: ignore[attr-defined]
    elif isinstance(at, (int, float)) and not isinstance(at, bool):
        yield ".".join(path), at


def whole(name: str, prices: str = "silicon") -> System:
    return catalogue.system(name, prices=prices, operation="careful-2026")


@pytest.mark.parametrize("name", ["atlas-910d-supernode", "vr-nvl72", "hgx-h20", "trn1"])
def test_every_number_of_a_machine_can_be_changed(name: str) -> None:
    """What is set is read back, of a package where the chip's is: an Ascend 910D package has four ranks."""
    system = whole(name, "list" if name == "trn1" else "silicon")
    paths = [path for path, _ in leaves(system) if path != "chip.ranks_per_package"]
    assert {"prices", "operation", "chip", "tiers", "parts", "facility"} <= {path.partition(".")[0] for path in paths}
    assert len(paths) > 150
    for path in paths:
        dimension_of(path)
        own = number_at(system, path)
        assert own is not None, path
        given = 2.0 * own + 4.0
        assert number_at(changed(system, path, given), path) == pytest.approx(given, rel=1e-12), path
        row = {"changes": changes_text(_design(name, ((path, given),)))}
        assert changes_of(row) == [(path, given)]


def _design(name: str, changes: tuple[tuple[str, float], ...]) -> Any:
    from sweep.designs import Design

    return Design(name, name, "", (), changes=changes)


def test_a_change_moves_one_number_alone() -> None:
    """All other numbers of the machine stay as they are, and the chip's share of a rank is what the model sees."""
    system = whole("atlas-910d-supernode")
    before = dict(leaves(system))
    path = "chip.hbm_bandwidth"
    after = dict(leaves(changed(system, path, 8e12)))
    assert after[path] == 2e12
    assert {name for name in before if before[name] != after[name]} == {path}


def test_a_name_may_hold_a_dot() -> None:
    """A path goes through "ConnectX-9 1.6T", and says the nearest where the number is not one."""
    text = TRAINING.replace("SIZES", "chips = [72]").replace("atlas-920-supernode", "vr-nvl72")
    good = text.replace('"vr-nvl72"', '"vr-nvl72"\nchange = { "parts.ConnectX-9 1.6T.watts" = "44 W" }')
    (card,) = (part for part in machine(parse(good).designs[0]).parts if part.name == "ConnectX-9 1.6T")
    assert card.watts == 44.0
    ((key, sentence),) = problems(good.replace("1.6T.watts", "1.6T.wats"))
    assert key == 'designs[0].change."parts.ConnectX-9 1.6T.wats"'
    assert "did you mean 'parts.ConnectX-9 1.6T.watts'" in sentence
    ((_, sentence),) = problems(good.replace("1.6T.watts", "1.5T.watts"))
    assert "did you mean 'ConnectX-9 1.6T'?" in sentence


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("operation.repair", "did you mean 'operation.repair_s'"),
        ("prices.lifetime", "did you mean 'prices.lifetime_s'"),
        ("chip.silicon.dies.compute.process.wafer", "'chip.silicon.dies.compute.process.wafer_usd'"),
        ("chip.hbm_bandwith", "did you mean 'chip.hbm_bandwidth'"),
        ("chip.ranks_per_package", "not a number that a study may change"),
        ("operation.asynchronous", "not a number that a study may change"),
        ("chip.power", "as in 'chip.hbm_bandwidth'"),
        ("chip.hbm_bandwidth.low", "as in 'chip.hbm_bandwidth'"),
        ("parts", "not a number"),
        ("tiers.scale-up", "not a number"),
        ("name", "not a number"),
        ("", "not a number"),
    ],
)
def test_a_wrong_path_is_refused_with_the_nearest(path: str, words: str) -> None:
    """What is no number, or may not be changed, is told; only numbers are offered instead."""
    with pytest.raises(ValueError, match="not a number") as caught:
        dimension_of(path)
    assert words in str(caught.value)
    assert ".name'" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "key", "words"),
    [
        ('"chip.silicon.dies.compute.area_m2" = "900 mm2"', "", ""),
        ('"prices.electricity_usd_per_j" = "0.05 USD/kWh"', "", ""),
        ('"operation.chip_failure_rate" = "0.05 /year"', "", ""),
        ('"operation.repair_s" = "72 h"', "", ""),
        ('"operation.repair_s" = "3 W"', 'designs[0].change."operation.repair_s"', "is in W; expected s"),
        ('"prices.rent_usd_per_s" = "2 USD"', 'designs[0].change."prices.rent_usd_per_s"', "expected USD/s"),
        ('"parts.router.watts" = "2 W"', 'designs[0].change."parts.router.watts"', "not one of the machine's"),
        ('"chip.peak_flops.fp3" = "2 TFLOP/s"', 'designs[0].change."chip.peak_flops.fp3"', "not one of the chip's"),
    ],
)
def test_changes_of_prices_and_operation_have_units(change: str, key: str, words: str) -> None:
    """Numbers beside the chip's are changed as the chip's are, with their own units."""
    text = TRAINING.replace("SIZES", 'chips = [384]\nprices = "silicon"')
    text = text.replace('supernode"\n', f'supernode"\nchange = {{ {change} }}\n', 1)
    if not key:
        ((path, value),) = parse(text).designs[0].changes
        assert number_at(machine(parse(text).designs[0]), path) == pytest.approx(value)
        return
    ((found, sentence),) = problems(text)
    assert found == key
    assert words in sentence


# ------------------------------------------------------------------------------------------------ machines varied
OUTER = """
[outer]
designs = ["920"]
trials = 6
generation = 3
sampler = "SAMPLER"
objectives = ["tokens_per_s_per_watt", "usd_per_million_tokens"]
[outer.variables]
VARIABLES
"""
CAP = '"chip.power_cap_w" = { low = "300 W", high = "900 W" }'


def varied(
    tmp_path: Path, variables: str = CAP, sampler: str = "random", text: str = TRAINING, workers: int = 0
) -> Any:
    more = OUTER.replace("SAMPLER", sampler).replace("VARIABLES", variables)
    study = study_of(text, "chips = [384]\n", more)
    return run_study(study, tmp_path / "runs", workers=workers)


def done(finished: Finished) -> list[dict[str, Any]]:
    """The best row of every case."""
    lines = (Path(str(finished.path)) / "manifest.jsonl").read_text().splitlines()
    return [line for line in map(json.loads, lines) if line.get("done") == "case"]


def beaten(rows: list[dict[str, Any]], other: dict[str, Any]) -> int:
    return sum(
        row["tokens_per_s_per_watt"] > other["tokens_per_s_per_watt"]
        and row["usd_per_million_tokens"] < other["usd_per_million_tokens"]
        for row in rows
    )


@pytest.mark.parametrize("sampler", ["random", "nsga2"])
def test_only_the_designs_that_are_named_vary(tmp_path: Path, sampler: str) -> None:
    """The others have one case as they are; the remark counts the trials that beat them, and says which values."""
    found = varied(tmp_path, sampler=sampler)
    rows = [line["best"] for line in done(found)]
    mine = [row for row in rows if row["design"] == "920"]
    (fixed,) = (row for row in rows if row["design"] == "H20")
    assert len(mine) == len({row["changes"] for row in mine}) == 6
    assert fixed["changes"] == ""
    (remark,) = (text for text in found.answer.remarks if " beats H20" in text)
    count = beaten(mine, fixed)
    assert count > 0, "else the remark has no values"
    assert f"beats H20 in tokens_per_s_per_watt, usd_per_million_tokens in {count} of 6 trials" in remark
    assert "chip.power_cap_w" in remark
    assert "Nearest to the catalogue" in remark


def test_a_varied_machine_of_rumours_has_bands_about_what_was_chosen(tmp_path: Path) -> None:
    """In every objective; what was chosen is not drawn, so that less rests on rumours than as catalogued."""
    found = varied(tmp_path, '"chip.peak_flops.bf16" = ["900 TFLOP/s"]')
    row = next(row for row in found.answer.rows if row["design"] == "920")
    for name in ("tokens_per_s_per_watt", "usd_per_million_tokens", "tokens_per_s"):
        assert row[f"{name}_p10"] < row[f"{name}_p50"] < row[f"{name}_p90"]
    study = study_of(TRAINING, "chips = [384]\n", "")
    plain = run_study(study, tmp_path / "plain", workers=0).answer.rows
    whole = next(one for one in plain if one["design"] == "920")
    assert row["tokens_per_s_rumoured_share"] < whole["tokens_per_s_rumoured_share"]
    assert any(text.startswith("Bands:") for text in found.answer.remarks)


def test_where_no_trial_beats_another_design_it_says_so(tmp_path: Path) -> None:
    """A supernode of a tenth of the memory bandwidth and half of the power beats nothing."""
    variables = '"chip.peak_flops.bf16" = { low = "40 TFLOP/s", high = "80 TFLOP/s" }'
    found = varied(tmp_path, variables)
    (remark,) = (text for text in found.answer.remarks if " beats H20" in text)
    assert "in none of 6 trials (0 in tokens_per_s_per_watt, 0 in usd_per_million_tokens)" in remark


def test_sizes_and_batches_vary_for_all(tmp_path: Path) -> None:
    """Of a design that stands beside the others its size and its batch are varied, its machine is not."""
    found = varied(tmp_path, f"{CAP}\nbatch = [768, 1536]\nchips = [384, 768]")
    rows = [line["best"] for line in done(found) if line["best"]]
    fixed = [row for row in rows if row["design"] == "H20"]
    assert len(fixed) > 1
    assert all(row["changes"] == "" for row in fixed)
    assert {row["gbs"] for row in fixed} <= {768, 1536}
    assert all("power_cap" in row["changes"] for row in rows if row["design"] == "920")
    (remark,) = (text for text in found.answer.remarks if " beats H20" in text)
    assert "chips 384" in remark
    assert "batch " in remark


def test_a_proposed_cap_holds_over_the_designs_own(tmp_path: Path) -> None:
    """The cap that Optuna proposes is the machine's, and the only one that a row tells."""
    text = TRAINING.replace('supernode"\n', 'supernode"\npower_cap = "500 W"\n', 1)
    found = varied(tmp_path, text=text)
    mine = [line["best"] for line in done(found) if line["best"]["design"] == "920"]
    caps = [changes_of(row) for row in mine]
    assert all(len(cap) == 1 for cap in caps)
    assert len({row["power_w"] for row in mine}) == 6


def test_trials_of_a_whole_training_have_its_totals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Days and dollars of each trial, in the table too."""
    from sweep.commands.run import show

    found = varied(tmp_path, text=TRAINING.replace("batch = 768", 'batch = 768\ntokens = "1 Ttoken"'))
    for row in found.answer.rows:
        assert row["training_days"] * 86400.0 * row["useful_tokens_per_s"] == pytest.approx(1e12)
    show(found, wide=False)
    assert "the whole training" in capsys.readouterr().out


def test_trials_are_the_same_after_a_kill(tmp_path: Path) -> None:
    """A run folder as a kill in the second generation leaves it, with half a line, comes to the same digest."""
    once = varied(tmp_path, sampler="nsga2")
    folder = Path(str(once.path))
    lines = (folder / "manifest.jsonl").read_text().splitlines(keepends=True)
    first = next(i for i, line in enumerate(lines) if '"done": "generation"' in line)
    kept, lost = lines[: first + 2], lines[first + 2 :]
    assert any('"done": "case"' in line for line in lost)
    (folder / "manifest.jsonl").write_text("".join(kept) + lost[0][: len(lost[0]) // 2])
    cases = {json.loads(line)["case"] for line in kept if '"done": "case"' in line}
    for part in list((folder / "designs").iterdir()):
        if int(part.name.removeprefix("case-").partition(".")[0]) not in cases:
            part.unlink()
    again = varied(tmp_path, sampler="nsga2")
    assert again.fresh
    assert again.digest == once.digest
    assert again.answer == once.answer


@pytest.mark.slow
def test_trials_are_the_same_for_other_workers(tmp_path: Path) -> None:
    """In this process or by two workers: one digest."""
    assert len({varied(tmp_path / str(n), sampler="nsga2", workers=n).digest for n in (0, 2)}) == 1


# ------------------------------------------------------------------------------------------------ how sure
SURE = """
[search]
objective = "useful_tokens_per_s"
rows = "top:5"
[uncertainty]
points = 64
layouts = 5
sensitivities = 3
quantities = ["tokens_per_s", "usd_per_million_tokens"]
"""


def no_nan(text: str) -> Any:
    """What a command prints as JSON, which has no NaN and no infinity."""

    def refuse(name: str) -> None:
        raise AssertionError(name)

    return json.loads(text, parse_constant=refuse)


def swept(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    with pytest.raises(SystemExit) as ended:
        main([str(one) for one in arguments])
    told = capsys.readouterr()
    assert not ended.value.code, told.err
    return str(told.out)


def checked(standings: list[dict[str, Any]]) -> None:
    """Bands hold their medians, probabilities are probabilities."""
    assert sum(row["best"] for row in standings) == pytest.approx(1.0)
    for row in standings:
        assert row["p10"] <= row["p50"] <= row["p90"]
        assert row["p10"] < row["p90"]
        assert 0.0 <= row["best"] <= row["near_best"] <= 1.0
        assert 0.0 <= row["rumoured_share"] <= row["unsure_share"] <= 1.0


def test_a_whole_training_with_its_certainty(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Totals follow from what counts; bands, shares and places are kept, and read back the same."""
    tokens = 15e12
    text = TRAINING.replace("SIZES", "chips = [384, 768]").replace("batch = 768", 'batch = 1536\ntokens = "15 Ttoken"')
    file = tmp_path / "money.toml"
    file.write_text(text + SURE)
    command = ("run", file, "--out", tmp_path, "--workers", 0)
    found = no_nan(swept(capsys, *command, "--json"))
    assert [(row["design"], row["chips"]) for row in found["answer"]] == [
        ("920", 384), ("920", 768), ("H20", 384), ("H20", 768),
    ]  # fmt: skip
    for row in found["answer"]:
        seconds = row["training_days"] * 86400.0
        assert seconds * row["useful_tokens_per_s"] == pytest.approx(tokens)
        assert row["useful_tokens_per_s"] == pytest.approx(row["goodput"] * row["tokens_per_s"])
        assert row["training_usd"] == pytest.approx(row["usd_per_million_tokens"] * tokens / 1e6)
        assert row["training_usd"] == pytest.approx(row["usd_per_chip_hour"] * row["chips"] * seconds / 3600.0)
        assert row["training_mwh"] == pytest.approx(row["power_w"] * seconds / 3.6e9)
        names = [f"{name}_{edge}" for name in ("useful_tokens_per_s", "tokens_per_s") for edge in BAND]
        if row["design"] == "920":
            for name in ("useful_tokens_per_s", "tokens_per_s"):
                low, middle, high = (row[f"{name}_{edge}"] for edge in BAND)
                assert low < middle < high
            assert 0.0 < row["tokens_per_s_rumoured_share"] < 1.0
        else:
            assert not set(names) & set(row)
    assert any("a dollar trains the most at" in note for note in found["notes"])
    assert any(note.startswith("Bands:") and "920" in note for note in found["notes"])

    compared = found["uncertainty"]
    assert [one["quantity"] for one in compared] == ["tokens_per_s", "usd_per_million_tokens"] * 2
    for one in compared:
        assert one["points"] == 64
        checked(one["standings"])
        assert [row["design"] for row in one["standings"]] == ["920", "H20"]
        by_design = {row["design"]: row for row in found["answer"] if row["chips"] == one["standings"][0]["chips"]}
        for row in one["standings"]:
            assert row["nominal"] == pytest.approx(by_design[row["design"]][one["quantity"]])
    assert not compared[0]["rests_on"]
    largest = compared[-1]
    assert all(len(numbers) == 3 for numbers in largest["rests_on"].values())
    assert all(row["probability"] <= 1.0 for row in largest["overtaking"])

    kept = Path(found["run"]) / "uncertainty.json"
    written = kept.read_text()
    again = no_nan(swept(capsys, *command, "--json"))
    assert again == found
    assert kept.read_text() == written
    shown = swept(capsys, *command)
    for words in ("the whole training", "10 to 90 %", "64 draws", "what usd_per_million_tokens rests on"):
        assert words in shown, words
    kept.write_text(written[: len(written) // 2])  # as a kill leaves it
    assert no_nan(swept(capsys, *command, "--json")) == found
    assert kept.read_text() == written


def test_certainty_of_a_run_with_failed_cases_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is compared before a failed case is done would be read back as if it were all."""
    from sweep import scheduler

    study = study_of(TRAINING, "chips = [384]", SURE)
    real = scheduler.run_case

    def broken(shared: Any, case: Any, *more: Any) -> Any:
        if case.design.label == "H20":
            raise MemoryError("no room")
        return real(shared, case, *more)

    with monkeypatch.context() as patched:
        patched.setattr(scheduler, "run_case", broken)
        first = run_study(study, tmp_path, workers=0)
    assert first.failed
    assert [len(one["standings"]) for one in first.certainty] == [1, 1]
    again = run_study(study, tmp_path, workers=0)
    assert not again.failed
    assert [len(one["standings"]) for one in again.certainty] == [2, 2]


def test_designs_meet_at_each_place_of_their_sizes(tmp_path: Path) -> None:
    """Two sizes that come to one of a supernode are compared with both of a machine of small units."""
    text = TRAINING.replace("batch = 768", "batch = 2304").replace("[1, 2]", "2")
    found = run_study(
        study_of(text, "chips = [288, 384]\ncorners = false\n", "[uncertainty]\npoints = 16\n"), tmp_path, workers=0
    )
    assert [(row["design"], row["chips"]) for row in found.answer.rows] == [("920", 384), ("H20", 288), ("H20", 384)]
    met = [[(row["design"], row["chips"]) for row in one["standings"]] for one in found.certainty]
    assert met == [[("920", 384), ("H20", 288)], [("920", 384), ("H20", 384)]]


@pytest.mark.parametrize("quantities", [("goodput", "floor_m2", "power_peak_w")])
@pytest.mark.parametrize("records", ['operation = "none"\nprices = "rental"', ""], ids=["rented", "bought"])
def test_what_has_no_logarithm_is_told_without_shares(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], quantities: tuple[str, ...], records: str
) -> None:
    """A machine that costs nothing to buy, a time without failures: JSON has null, and nothing raises."""
    file = tmp_path / "money.toml"
    more = SURE.replace('["tokens_per_s", "usd_per_million_tokens"]', json.dumps(quantities))
    file.write_text(TRAINING.replace("SIZES", f"chips = [384]\n{records}") + more)
    command = ("run", file, "--out", tmp_path, "--workers", 0)
    found = no_nan(swept(capsys, *command, "--json"))
    assert [one["quantity"] for one in found["uncertainty"]] == list(quantities)
    assert (found["answer"][0]["mtbf_s"] is None) == bool(records)
    if not records:
        for one in found["uncertainty"]:
            assert all(row["p10"] <= row["p50"] <= row["p90"] for row in one["standings"])
    assert quantities[0] in swept(capsys, *command)


def test_a_machine_that_always_fails_never_ends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No goodput is left: a training without end, which costs without end, is null in JSON and no traceback."""
    text = TRAINING.replace("SIZES", "chips = [384]\ncorners = false")
    text = text.replace("batch = 768", 'batch = 768\ntokens = "1 Ttoken"')
    rate = 'supernode"\nchange = { "operation.chip_failure_rate" = "1e9 /year" }\n'
    file = tmp_path / "money.toml"
    file.write_text(text.replace('supernode"\n', rate, 1))
    command = ("run", file, "--out", tmp_path, "--workers", 0)
    assert "the whole training" in swept(capsys, *command)
    row = no_nan(swept(capsys, *command, "--json"))["answer"][0]
    assert row["goodput"] == row["useful_tokens_per_s"] == 0.0
    assert (row["training_days"], row["training_usd"], row["usd_per_million_tokens"]) == (None, None, None)


SERVED_SURE = """
[uncertainty]
points = 64
layouts = 3
"""


@pytest.mark.parametrize("phase", ["decode", "colocated", "disaggregated"])
def test_rumoured_machines_that_serve_have_bands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], phase: str
) -> None:
    """Of the instances at their working points; of a disaggregated deployment TTFT rests on those of prompts."""
    text = SERVING.replace("SIZES", "chips = [384]\ncorners = false")
    quantities = ["tokens_per_s_per_chip", "tpot_s"]
    if phase != "decode":
        quantities = ["tokens_per_s_per_chip", "ttft_s"]
        text = text.replace('"decode"', '"serving"').replace("tpot =", 'ttft = "<= 2 s"\ntpot =')
        text += f'deployment = "{phase}"\ndata_parallel = 1\n'
    file = tmp_path / "served.toml"
    file.write_text(f"{text}{SERVED_SURE}quantities = {json.dumps(quantities)}\n")
    found = no_nan(swept(capsys, "run", file, "--out", tmp_path, "--workers", 0, "--json"))
    rows = {row["design"]: row for row in found["answer"]}
    for name in ("tokens_per_s_per_chip", "tokens_per_s"):
        low, middle, high = (rows["920"][f"{name}_{edge}"] for edge in BAND)
        assert low < middle < high
        assert f"{name}_p10" not in rows["H20"]
    assert 0.0 < rows["920"]["tokens_per_s_rumoured_share"] < 1.0
    assert [one["quantity"] for one in found["uncertainty"]] == quantities
    for one in found["uncertainty"]:
        checked(one["standings"])
        for row in one["standings"]:
            assert row["nominal"] == pytest.approx(rows[row["design"]][one["quantity"]])
    told = no_nan(swept(capsys, "explain", f"{found['run']}#{rows['920']['row']}", "--json"))
    assert told["band"]["tokens_per_s"] == {edge: rows["920"][f"tokens_per_s_{edge}"] for edge in BAND}
    assert told["rumoured_share"] == rows["920"]["tokens_per_s_rumoured_share"]
    assert "10 to 90 %: tokens_per_s " in swept(capsys, "explain", f"{found['run']}#{rows['920']['row']}")
    other = no_nan(swept(capsys, "explain", f"{found['run']}#{rows['H20']['row']}", "--json"))
    assert (other["band"], other["rumoured_share"]) == ({}, None)


@pytest.mark.parametrize("objective", SETS["decode"].quantities)
def test_whatever_a_study_of_serving_decides_by_has_a_band_or_none(tmp_path: Path, objective: str) -> None:
    """What is drawn has every quantity that answers have; it is the same cluster, so that nothing is scaled."""
    text = SERVING.replace("SIZES", "chips = [384]").replace("[1, 2]", "2").partition('[[designs]]\nlabel = "H20')[0]
    text += "[layout]\ntensor_parallel = 2\npipeline_parallel = 1\ncontext_parallel = 1\n"
    study = parse(f'{text}[search]\nobjective = "{objective}"\n')
    (row,) = run_study(study, tmp_path, workers=0).answer.rows
    alone = contender(study.designs[0], [row], objective)
    assert values(alone, objective, nominal())[0, 0] == pytest.approx(row[objective])
    if f"{objective}_p10" in row:
        assert row[f"{objective}_p10"] <= row[f"{objective}_p50"] <= row[f"{objective}_p90"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('quantities = ["mfu"]', "is not a quantity of serving"),
        ('quantities = ["chips_used"]', "write 'tokens_per_s_per_chip'"),
        ('quantities = ["ttft_s"]', 'is no quantity of phase = "decode"'),
    ],
)
def test_certainty_of_serving_is_of_its_own_quantities(line: str, words: str) -> None:
    """Not of training's, nor of another phase's, nor of what only a cluster has."""
    ((key, sentence),) = problems(f"{SERVING.replace('SIZES', 'chips = [384]')}{SERVED_SURE}{line}\n")
    assert key == "uncertainty.quantities"
    assert words in sentence


# ------------------------------------------------------------------------------------------------ one question
TRY = ("try", "--model", "llama-3-8b", "--system", "atlas-920-supernode", "--chips", 384, "--batch", 768, "--layout",
       "tp=1,pp=1,cp=1")  # fmt: skip
SIZE = ("size", "--model", "llama-3-8b", "--system", "atlas-920-supernode", "--load", "50000 tokens/s",
        "--ttft", "1 s", "--tpot", "40 ms", "--deployment", "colocated", "--chips", 384)  # fmt: skip


@pytest.mark.parametrize(("command", "name"), [(TRY, "tokens_per_s"), (SIZE, "chips_used")])
def test_one_question_about_a_rumoured_machine(
    capsys: pytest.CaptureFixture[str], command: tuple[object, ...], name: str
) -> None:
    """The band stands beside the answer, and the remark below says what it is of and what rests on rumour."""
    found = no_nan(swept(capsys, *command, "--json"))
    (row,) = found["answer"]
    low, middle, high = (row[f"{name}_{edge}"] for edge in BAND)
    assert low <= middle <= high
    assert low < high
    shown = swept(capsys, *command)
    remark = f"rests on rumours and placeholders: atlas-920-supernode {row[f'{name}_rumoured_share']:.0%}"
    assert remark in shown
    assert "10 to 90 %" in shown
    if name == "chips_used":
        assert f"10 to 90 %: {low} to {high} chips" in shown.splitlines()[0]
        assert low <= row["chips_used"] <= high


def test_a_question_without_a_legal_layout_is_answered(capsys: pytest.CaptureFixture[str]) -> None:
    """More replicas than sequences: exit code 3 and the reason, not a traceback."""
    with pytest.raises(SystemExit) as ended:
        main([str(one) for one in TRY[:-3]] + ["384", "--layout", "tp=1,pp=1,cp=1"])
    assert ended.value.code == 3
    assert "no legal layout" in capsys.readouterr().err


EXPLAIN = ("explain", "--model", "llama-3-8b", "--chips", 384, "--batch", 768)


def test_a_layout_of_a_rumoured_machine_is_taken_apart_with_its_band(capsys: pytest.CaptureFixture[str]) -> None:
    """The band of a layout that is given is that of the same layout found; one that does not run has none."""
    command = (*EXPLAIN, "--system", "atlas-920-supernode")
    (row,) = no_nan(swept(capsys, *TRY, "--json"))["answer"]
    given = ",".join(f"{name}={row[name]}" for name in ("tp", "zero", "mbs", "recompute", "rank_order", "sp"))
    told = no_nan(swept(capsys, *command, "--layout", given, "--json"))
    assert set(told["band"]) == {"tokens_per_s", "energy_per_token_j", "usd_per_million_tokens"}
    assert told["tokens_per_s"] == pytest.approx(row["tokens_per_s"])
    for edge in BAND:
        assert told["band"]["tokens_per_s"][edge] == pytest.approx(row[f"tokens_per_s_{edge}"])
    assert told["rumoured_share"] == pytest.approx(row["tokens_per_s_rumoured_share"])
    for band in told["band"].values():
        assert band["p10"] < band["p50"] < band["p90"]
    shown = swept(capsys, *command, "--layout", given)
    assert f"{told['rumoured_share']:.0%} of the variance of tokens_per_s rests on rumours" in shown.replace("\n", " ")
    for arguments in ((*command, "--layout", "tp=1,zero=0"), (*EXPLAIN, "--system", "hgx-h20", "--layout", "tp=1")):
        plain = no_nan(swept(capsys, *arguments, "--json"))
        assert (plain["band"], plain["rumoured_share"]) == ({}, None)


def test_a_row_of_training_is_taken_apart_with_its_band(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With what the study changed about the machine, and under the prices that it names."""
    text = TRAINING.replace("SIZES", 'chips = [384]\nprices = "china"\ncorners = true')
    text = text.replace('supernode"\n', 'supernode"\nchange = { "chip.hbm_bandwidth" = "6 TB/s" }\n', 1)
    found = run_study(parse(text), tmp_path, workers=0)
    (row,) = (row for row in found.answer.rows if row["design"] == "920")
    told = no_nan(swept(capsys, "explain", f"{found.path}#{row['row']}", "--json"))
    assert told["tokens_per_s"] == pytest.approx(row["tokens_per_s"])
    assert told["usd_per_million_tokens"] == pytest.approx(row["usd_per_million_tokens"])
    assert told["band"]["tokens_per_s"] == pytest.approx({edge: row[f"tokens_per_s_{edge}"] for edge in BAND})
    low = next(n for n in range(9) if _corner(found, n) == "low")
    assert no_nan(swept(capsys, "explain", f"{found.path}#{low}", "--json"))["band"] == {}


def _corner(found: Finished, row: int) -> str:
    from sweep.store import read_row

    return str(read_row(found.path, row)["corner"])


def test_spending_and_weeks_add_up(capsys: pytest.CaptureFixture[str]) -> None:
    """An hour's spending is what a million tokens cost; the shares of the weeks are one."""
    told = no_nan(swept(capsys, *EXPLAIN, "--system", "hgx-h20", "--layout", "tp=2", "--json"))
    assert sum(told["weeks"].values()) == pytest.approx(1.0)
    assert told["weeks"]["useful"] == pytest.approx(told["goodput"])
    millions = told["tokens_per_s"] * told["goodput"] * 3600.0 / 1e6
    assert sum(told["spending_usd_per_hour"].values()) == pytest.approx(told["usd_per_million_tokens"] * millions)
    assert math.isclose(told["goodput"], 1.0, abs_tol=0.05)
