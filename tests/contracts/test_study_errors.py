"""A study file with mistakes is refused with every mistake named: file, key, rule, value, remedy."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sweep.errors import InputError
from sweep.explanation import explain_layout
from sweep.study import load, parse, round_batch

GOOD = """
question = "which?"
chips = [16]
[[workloads]]
model = "llama-3-8b"
sequence = "8192 token"
batch = 128
[[designs]]
system = "hgx-h20"
"""


SERVED = """
question = "how?"
chips = [8]
[[workloads]]
model = "llama-3-8b"
[traffic]
input_tokens = "1024 token"
output_tokens = "256 token"
[[designs]]
system = "hgx-h20"
"""


def problems(text: str) -> dict[str, str]:
    """Key -> sentence of every problem of a study."""
    with pytest.raises(InputError) as caught:
        parse(text, "study.toml")
    assert all(problem.file == "study.toml" for problem in caught.value.problems)
    return {problem.key: problem.sentence() for problem in caught.value.problems}


def test_a_good_study_is_read() -> None:
    """The smallest study needs a question, a size, a workload and a design."""
    study = parse(GOOD)
    assert study.designs[0].label == "hgx-h20"
    assert study.designs[0].stack
    assert study.workloads[0].batch == 128
    assert study.search.rows == "best"


@pytest.mark.parametrize(
    ("before", "after", "key", "words"),
    [
        ('sequence = "8192 token"', "sequence = 8192", "workloads[0].sequence", "needs a unit, as in '4096 token'"),
        ('"8192 token"', '"8192 s"', "workloads[0].sequence", "is in s; expected token"),
        ('"8192 token"', '"8192 tokes"', "workloads[0].sequence", "unknown unit 'tokes'"),
        ("batch = 128", "batch = 0", "workloads[0].batch", "at least one sequence"),
        ("batch = 128", "batch = 99999999999999999999", "workloads[0].batch", "at most"),
        ("batch = 128", 'batch = "0.4 token"', "workloads[0].batch", "not a whole number of tokens"),
        ('"8192 token"', '"1e300 token"', "workloads[0].sequence", "not a whole number of tokens"),
        ("chips = [16]", "chips = [99999999999999999999]", "chips[0]", "less than or equal to"),
        (
            '"hgx-h20"', '"hgx-h20"\nchange = { "tiers.nvlink.ranks_in_use" = 9 }',
            'designs[0].change."tiers.nvlink.ranks_in_use"', "nvlink (8)",
        ),
        ('"hgx-h20"', '"hgx-h20"\npower_cap = "0 W"', "designs[0].power_cap", "not over 0"),
        ("batch = 128", "batch = 128\nexpert_imbalance = inf", "workloads[0].expert_imbalance", "finite"),
        ("batch = 128", "batch = 1.5", "workloads[0].batch", "neither a number of sequences nor tokens"),
        ('question = "which?"', "", "question", "missing"),
        ("chips = [16]", "chips = []", "chips", "at least 1 item"),
        ("chips = [16]", "chips = [-16]", "chips[0]", "greater than 0"),
        ("chips = [16]", 'chips = ["16"]', "chips[0]", "must be a valid integer"),
        ("chips = [16]", "", "designs[0].chips", "give chips = [...] here or at the top"),
        ("chips = [16]", "chips = [16]\nsede = 1", "sede", "did you mean 'seed'?"),
        ("chips = [16]", "chips = [16]\nseed = -1", "seed", "greater than or equal to 0"),
        ("batch = 128", "batch = 128\ncontxt = 3", "workloads[0].contxt", "unknown key"),
        ('"llama-3-8b"', '"llama-3-8"', "workloads[0].model", "did you mean 'llama-3-8b'"),
        ('"hgx-h20"', '"hgx-h2"', "designs[0].system", "did you mean 'hgx-h20'"),
        ('"hgx-h20"', '"hgx-h20"\nstack = "megatron-x"', "designs[0].stack", "no stack of this name"),
        ('"hgx-h20"', '"hgx-h20"\nnumber_format = "fp7"', "designs[0].number_format", "did you mean"),
        ('"hgx-h20"', '"hgx-h20"\npower_cap = 400', "designs[0].power_cap", "needs a unit, as in '700 W'"),
        ('"hgx-h20"', '"hgx-h20"\nprices = "chine"', "designs[0].prices", "did you mean 'china'"),
        ('"hgx-h20"', '"hgx-h20"\nprices = ""', "designs[0].prices", "in the catalogue"),
        ('"hgx-h20"', '"hgx-h20"\noperation = "carefull"', "designs[0].operation", "did you mean 'careful-2026'"),
        ("chips = [16]", 'chips = [16]\nprices = "lst"', "prices", "did you mean 'list'"),
        ("chips = [16]", 'chips = [16]\noperation = "llama-2024"', "operation", "did you mean 'llama3-2024'"),
        ("chips = [16]", "chips = [16]\nprices = 3", "prices", "must be a valid string"),
        ("batch = 128", "batch = 128\ntokens = 15e12", "workloads[0].tokens", "needs a unit, as in '4096 token'"),
        ("batch = 128", 'batch = 128\ntokens = "15 TB"', "workloads[0].tokens", "expected token"),
        ("batch = 128", 'batch = 128\ntokens = "0 token"', "workloads[0].tokens", "not over 0"),
        ("chips = [16]", "power = [16]", "power[0]", "needs a unit"),
        ("chips = [16]", 'budget = ["16 EUR"]', "budget[0]", "unknown unit 'EUR'"),
        ("chips = [16]", 'chips = [16]\nbudgt = ["1 MUSD"]', "budgt", "did you mean 'budget'?"),
        (
            '"hgx-h20"', '"hgx-h20"\nchange = { "chip.hbm_bandwith" = "4 TB/s" }',
            'designs[0].change."chip.hbm_bandwith"', "did you mean 'chip.hbm_bandwidth'",
        ),
        (
            '"hgx-h20"', '"hgx-h20"\nchange = { "chip.hbm_bandwidth" = "4 TB" }',
            'designs[0].change."chip.hbm_bandwidth"', "is in byte; expected byte/s",
        ),
        (
            '"hgx-h20"', '"hgx-h20"\nchange = { "tiers.nowhere.bandwidth" = "4 TB/s" }',
            'designs[0].change."tiers.nowhere.bandwidth"', "not one of the machine's",
        ),
    ],
)  # fmt: skip
def test_each_mistake_is_named(before: str, after: str, key: str, words: str) -> None:
    """A mistake gives one problem at its own key, whose sentence says the rule or the remedy."""
    assert before in GOOD
    found = problems(GOOD.replace(before, after, 1))
    assert list(found) == [key]
    assert words in found[key]


@pytest.mark.parametrize(
    ("addition", "key", "words"),
    [
        ("[layout]\ntp = 8", "layout.tp", "write 'tensor_parallel'"),
        ("[layout]\ntensor_parallel = { most = 8 }", "layout.tensor_parallel", "bounds { min = 1, max = 16 }"),
        ("[layout]\ntensor_parallel = [0]", "layout.tensor_parallel", "positive whole numbers"),
        ("[layout]\nzero_stage = 4", "layout.zero_stage", "ZeRO stages 0 to 3"),
        ("[layout]\nschedule = '1f2b'", "layout.schedule", "did you mean '1f1b'"),
        ("[layout]\nrecompute = ['norms']", "layout.recompute", "did you mean 'norm'"),
        ("[layout]\nsequence_parallel = 1", "layout.sequence_parallel", "true, false"),
        ("[search]\nrows = 'top:0'", "search.rows", "'top:20'"),
        ("[search]\nrows = 'pareto'", "search.pareto", "at least two quantities"),
        ("[search]\nobjective = 'tokens'", "search.objective", "did you mean 'tokens_per_s'"),
        ("[search]\nmethod = 'magic'", "search.method", "'exact'"),
        ("[constraints]\npower = '<= 1 MW'", "constraints.power", "did you mean 'power_w'"),
        ("[constraints]\npower_w = '1 MW'", "constraints.power_w", "as in '<= 700 W'"),
        ("[constraints]\npower_w = '<= 1 MB'", "constraints.power_w", "is in byte; expected W"),
        ("[outer]\ntrials = 0\nvariables = { chips = [8] }", "outer.trials", "greater than 0"),
        ("[outer]\ntrials = 4\nvariables = { chip = [8] }", 'outer.variables."chip"', "not a number that a study"),
        (
            "[outer]\ntrials = 4\nvariables = { chips = { low = 64, high = 8 } }",
            "outer.variables.chips", "low must be below high",
        ),
        ("[search]\nsampler = 'cmaes'", "search.sampler", "'cma_es'"),
        ("[search]\nneighbours = 1.5", "search.neighbours", "less than or equal to 1"),
        ("[search]\nbaselines = 'tp=8'", "search.baselines", "must be a valid list"),
        ("[search]\nbaselines = ['tp=2', 'tpp=8']", "search.baselines[1]", "unknown axis, but got 'tpp'; did you mean"),
        ("[search]\nbaselines = ['tp=some']", "search.baselines[0]", "tp: must be a positive whole number"),
        (
            "[search]\nmethod = 'optuna'\ntrials = 1\nbaselines = ['tp=2', 'tp=4']",
            "search.baselines", "search.trials = 1 must be at least their number, but got 2",
        ),
        (
            "[search]\nmethod = 'both'\nsampler = 'cma_es'\nrows = 'pareto'\npareto = ['tokens_per_s', 'power_w']",
            "search.sampler", "takes a single objective, but got 'cma_es'; for 2 take one of tpe, gp, nsga2, nsga3",
        ),
        (
            "[outer]\ntrials = 4\nsampler = 'cma_es'\nobjectives = ['mfu', 'power_w']\nvariables = { chips = [8] }",
            "outer.sampler", "takes a single objective",
        ),
        (
            "[outer]\ntrials = 4\nsampler = 'brute_force'\n"
            "variables = { 'chip.hbm_bandwidth' = { low = '1 TB/s', high = '2 TB/s' } }",
            'outer.variables."chip.hbm_bandwidth"', "list the choices",
        ),
        (
            "[outer]\ntrials = 4\nvariables = { chips = [8] }\nbaselines = [{ chips = 8 }, { chip = 1, chips = 8 }]",
            "outer.baselines[1].chip", "did you mean 'chips'?",
        ),
        (
            "[outer]\ntrials = 4\nvariables = { chips = [8, 16], batch = [64] }\nbaselines = [{ chips = 8 }]",
            "outer.baselines[0]", "batch is missing",
        ),
        (
            "[outer]\ntrials = 4\nvariables = { chips = [8, 16] }\nbaselines = [{ chips = 12 }]",
            "outer.baselines[0].chips", "12 is not among what the study offers",
        ),
        (
            "[outer]\ntrials = 4\nvariables = { 'chip.hbm_bandwidth' = { low = '1 TB/s', high = '2 TB/s' } }\n"
            "baselines = [{ 'chip.hbm_bandwidth' = 1.5 }]",
            'outer.baselines[0]."chip.hbm_bandwidth"', "needs a unit",
        ),
        (
            "[outer]\ntrials = 1\nvariables = { chips = [8, 16] }\nbaselines = [{ chips = 8 }, { chips = 16 }]",
            "outer.baselines", "outer.trials = 1 must be at least their number, but got 2",
        ),
        (
            '[uncertainty]\nquantities = ["ttft_s"]', "uncertainty.quantities", "'ttft_s' is not a quantity",
        ),
        (
            "[outer]\ntrials = 2\ndesigns = ['hgx-h2']\nvariables = { chips = [8, 16] }",
            "outer.designs[0]", "no design has this label, but got 'hgx-h2'; did you mean 'hgx-h20'?",
        ),
        (
            "[outer]\ntrials = 2\ndesigns = 'hgx-h20'\nvariables = { chips = [8, 16] }",
            "outer.designs", "must be a valid list",
        ),
        (
            "[outer]\ntrials = 2\nvariables = { 'operation.repair' = ['1 h'] }",
            'outer.variables."operation.repair"', "did you mean 'operation.repair_s'",
        ),
        (
            "[outer]\ntrials = 2\nvariables = { 'parts.CX9.watts' = ['1 W'] }",
            'outer.variables."parts.CX9.watts"', "not one of the machine's",
        ),
        ("[outer]\ntrials = 2\nvariables = { chips = [8] }\n[uncertainty]", "uncertainty", "leave out one"),
        ("[uncertainty]\npoints = 100", "uncertainty.points", "100 is not a power of two from 16 to 1048576"),
        ("[uncertainty]\npoints = 8", "uncertainty.points", "not a power of two"),
        ("[uncertainty]\npoints = 64.0", "uncertainty.points", "not a power of two"),
        ("[uncertainty]\npoint = 64", "uncertainty.point", "did you mean 'points'?"),
        ("[uncertainty]\nlayouts = 0", "uncertainty.layouts", "greater than or equal to 1"),
        ("[uncertainty]\nsensitivities = -1", "uncertainty.sensitivities", "greater than or equal to 0"),
        ("[uncertainty]\nquantities = ['usd']", "uncertainty.quantities", "'usd' is not a quantity"),
        ("[constraints]\ncapital_usd = '<= 4 MW'", "constraints.capital_usd", "expected USD"),
        ("[constraints]\nfloor_m2 = '<= 4'", "constraints.floor_m2", "needs a unit"),
    ],
)  # fmt: skip
def test_each_mistake_in_an_optional_table_is_named(addition: str, key: str, words: str) -> None:
    """Tables that a study may leave out are checked as strictly."""
    found = problems(GOOD + addition)
    assert list(found) == [key]
    assert words in found[key]


@pytest.mark.parametrize(
    ("top", "addition", "key", "words"),
    [
        ('prices = "rental"', '[search]\nobjective = "capital_usd"', "search.objective", "is rented"),
        ('operation = "none"', '[uncertainty]\nquantities = ["mtbf_s"]', "uncertainty.quantities", "never fails"),
        ('operation = "none"', '[constraints]\nmtbf_s = ">= 5 h"', "constraints", "never fails"),
    ],
)
def test_what_a_machine_does_not_have_decides_nothing(top: str, addition: str, key: str, words: str) -> None:
    """No study seeks, bounds or draws a quantity that one of its designs does not have."""
    found = problems(top + GOOD + addition)
    assert list(found) == [key]
    assert words in found[key]


def test_a_budget_buys_what_has_a_price() -> None:
    """No size follows from a budget for a machine that is rented."""
    found = problems('budget = ["5 MUSD"]\nprices = "rental"' + GOOD.replace("chips = [16]", ""))
    assert list(found) == ["budget"]
    assert "is rented" in found["budget"]


def test_all_mistakes_are_reported_at_once() -> None:
    """Unknown names, wrong units and unknown keys come in one report, each with its key."""
    wrong = GOOD.replace("8192 token", "8192").replace("hgx-h20", "hgx-h2").replace("chips", "chps")
    found = problems(wrong)
    assert {"workloads[0].sequence", "designs[0].system", "chps"} <= set(found)


def test_mistakes_in_every_new_key_come_together() -> None:
    """Names, sizes, changes and outer designs: one report, each at its key and once, whatever else is wrong."""
    text = GOOD.replace("chips = [16]", 'chips = [16]\npower = ["1 MW"]\nprices = "lst"\noperation = "nobody"')
    text = text.replace("batch = 128", "batch = 128\nexpert_imbalance = 1.0").replace("llama-3-8b", "llama-3-8")
    text += """
prices = "chine"
change = { "operation.repair" = "2 h" }
[[designs]]
label = "second"
system = "hgx-h2"
operation = "carefull"
[[designs]]
label = "third"
system = "hgx-h20"
[constraints]
capital_usd = "<= 3 W"
[outer]
trials = 2
designs = ["secnd", "second"]
variables = { "chip.hbm_bandwith" = ["4 TB/s"] }
"""
    with pytest.raises(InputError) as caught:
        parse(text, "study.toml")
    assert sorted(problem.key for problem in caught.value.problems) == sorted(
        [
            "power", "prices", "operation", "workloads[0].model", "designs[0].prices",
            'designs[0].change."operation.repair"', "designs[1].system", "designs[1].operation",
            "constraints.capital_usd", "outer.designs[0]", 'outer.variables."chip.hbm_bandwith"',
        ]
    )  # fmt: skip


def test_names_are_checked_in_a_file_of_the_wrong_form_too() -> None:
    """Where tables break their form, unknown prices and operations are still told."""
    text = GOOD.replace("chips = [16]", 'chips = "16"\nprices = "lst"').replace(
        "batch = 128", "batch = 128\ntokens = 3"
    )
    found = problems(text + 'prices = "chine"\noperation = "carefull"\n')
    assert set(found) == {"chips", "workloads[0].tokens", "prices", "designs[0].prices", "designs[0].operation"}


def test_a_wrong_form_hides_nothing_else() -> None:
    """Where a table breaks its form, names, changes and bounds in the rest are told with it, and nothing is made up."""
    text = GOOD.replace("chips = [16]", 'chips = "16"\nseed = -1').replace('"llama-3-8b"', '"llama-3-8"')
    text = (
        text.replace("batch = 128", "batch = 1.5")
        + """change = { "chip.hbm_bandwith" = "4 TB/s" }
[[designs]]
system = 3
label = "second"
change = { "tiers.nowhere.bandwidth" = "4 TB/s" }
[search]
rows = "pareto"
pareto = 3
objective = "tokens"
[constraints]
capital_usd = "<= 3 W"
"""
    )
    assert set(problems(text)) == {
        "chips", "seed", "workloads[0].model", "workloads[0].batch", 'designs[0].change."chip.hbm_bandwith"',
        "designs[1].system", "search.pareto", "search.objective", "constraints.capital_usd",
    }  # fmt: skip


@pytest.mark.parametrize(("phase", "word"), [("servin", "serving"), (3, "training"), ("decoding", "training")])
def test_an_unknown_phase_is_the_only_problem_of_a_good_study(phase: object, word: str) -> None:
    """The other tables are checked as those of the phase that they are of."""
    text = SERVED if word == "serving" else GOOD
    found = problems(f"phase = {phase!r}\n{text}")
    assert list(found) == ["phase"]
    assert "one of training, prefill, decode, serving" in found["phase"] and f"write phase = '{word}'" in found["phase"]


@pytest.mark.parametrize(
    ("path", "value", "may"),
    [
        ("tiers.nvlink.latency_s", "0 us", True), ("chip.power.idle_w", "0 W", True), ("parts.CPU.watts", "0 W", True),
        ("operation.chip_failure_rate", "0 /year", True), ("facility.cooling_fraction", 0, True),
        ("prices.electricity_usd_per_j", "0 USD/kWh", True), ("chip.hbm_bandwidth", "0 TB/s", False),
        ("chip.peak_flops.bf16", "0 TFLOP/s", False), ("chip.cores", 0, False), ("facility.pue", 0, False),
        ("tiers.nvlink.latency_s", "-1 us", False), ("operation.repair_s", "inf s", False),
    ],
)  # fmt: skip
def test_a_change_may_be_nothing_where_nothing_divides_by_it(path: str, value: object, may: bool) -> None:
    """A network without latency is a question; a memory without bandwidth is not."""
    text = GOOD + f'change = {{ "{path}" = {json.dumps(value)} }}\n'
    if may:
        (change,) = parse(text).designs[0].changes
        assert change == (path, 0.0)
    else:
        assert list(problems(text)) == [f'designs[0].change."{path}"']


def test_everything_wrong_with_a_command_line_is_told_at_once() -> None:
    """Names, numbers and the layout's axes come together."""
    with pytest.raises(InputError) as caught:
        explain_layout(model="lama", system="dgx-h10", chips=0, layout="tp=8,tp=4,zero=7,sp=2,xx=1", batch=8,
                       sequence=0, number_format="fp7", stack="mega")  # fmt: skip
    assert [one.key for one in caught.value.problems] == [
        "--model", "--system", "--stack", "--format", "--chips", "--sequence", "tp", "zero", "sp", "xx",
    ]  # fmt: skip
    assert all(one.remedy for one in caught.value.problems if one.key.startswith(("--model", "--sys", "--stack")))


def test_a_change_that_breaks_is_told_once_beside_outer_variables() -> None:
    """A machine that cannot be made is no reason to leave out the rest, nor to say it twice."""
    text = GOOD + 'change = { "parts.nobody.watts" = "2 W" }\n'
    text += "[outer]\ntrials = 2\nvariables = { 'chip.hbm_bandwidth' = ['4 TB/s', '5 W'] }\n"
    found = problems(text)
    assert set(found) == {'designs[0].change."parts.nobody.watts"', 'outer.variables."chip.hbm_bandwidth"'}


def test_labels_differ_and_the_reference_is_one_of_them() -> None:
    """Two designs of one system need labels, and the reference names a label."""
    found = problems('reference = "H200"\n' + GOOD + '[[designs]]\nsystem = "hgx-h20"\n')
    assert set(found) == {"designs[1].label", "reference"}


def test_the_command_line_reports_without_a_traceback(tmp_path: Path) -> None:
    """Bad input ends with code 2, a report on standard error, and nothing on standard output."""
    file = tmp_path / "bad.toml"
    file.write_text(GOOD.replace("batch = 128", "batch = 128\ncontxt = 3").replace("llama-3-8b", "lama"))
    for command in ("run", "plan"):
        done = subprocess.run(
            [sys.executable, "-m", "sweep.cli", command, str(file)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
        assert done.stdout == ""
        assert f"{file}: 2 problems" in done.stderr
        assert "workloads[0].contxt" in done.stderr


@pytest.mark.parametrize("arguments", [["run"], ["run", "no-such-study.toml"], ["nonsense"], ["digest", "nowhere"]])
def test_bad_usage_ends_with_code_2(arguments: list[str]) -> None:
    """A missing file, a missing argument and an unknown command are bad input too."""
    done = subprocess.run([sys.executable, "-m", "sweep.cli", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr or done.stdout


def test_a_file_that_is_not_toml_says_where(tmp_path: Path) -> None:
    """A syntax error names its line."""
    file = tmp_path / "torn.toml"
    file.write_text('question = "a\n')
    with pytest.raises(InputError, match="line 1"):
        load(file)


def test_a_batch_in_tokens_is_rounded_and_said() -> None:
    """Tokens become a number of sequences that many degrees divide, and the study says which."""
    study = parse(GOOD.replace("batch = 128", 'batch = "16 Mtoken"'))
    assert study.workloads[0].batch == 1920
    assert any("1920 sequences" in note for note in study.notes)
    assert round_batch(2048.3) == 2048
    assert round_batch(0.2) == 1
    assert round_batch(11) == 11
