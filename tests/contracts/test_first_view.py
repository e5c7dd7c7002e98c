"""The first view of every answer is small, and help is there at once."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.table import Table

import sweep
from sweep.catalogue import KINDS
from sweep.cli import COMMANDS, FIRST_PAGE, main
from sweep.tables import FIRST_VIEW, answer_table, certainty_tables

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 5
# CPU time over that of an interpreter that does nothing, which takes 0.02 s: so 0.2 s.
HELP_RATIO, MODEL_RATIO = 10.0, 10.0


def test_the_first_view_has_seven_columns() -> None:
    """Of training with everything that a row may have: bands, equal chips, sampling, changes, the whole training."""
    row = dict(sweep.try_(model="llama-3-8b", system="dgx-h100", chips=8, batch=64)["answer"][0])
    full = row | {
        "tokens_per_s_p10": 1.0, "tokens_per_s_p90": 2.0, "chips_equal_throughput_text": "7", "sampled_gap": 0.1,
        "sampled_trials_to_1pct": None, "changes": "chip.hbm_bandwidth=4e12", "training_tokens": 1e12,
        "training_days": 3.0, "training_mwh": 2.0, "training_usd": 1.0, "row": 0,
    }  # fmt: skip
    narrow, wide = (list(answer_table([full, row | {"row": 1}], wide=wide)) for wide in (False, True))
    assert all(len(table.columns) <= FIRST_VIEW for table in narrow)
    assert len(wide[0].columns) > FIRST_VIEW
    kept = [str(column.header) for column in narrow[0].columns]
    assert (kept[0], kept[-1]) == ("design", "layout")
    assert {"chips", "tokens/s"} <= set(kept)
    assert set(kept) <= {str(column.header) for column in wide[0].columns}


@pytest.mark.parametrize("loaded", [False, True])
def test_the_first_view_of_serving_has_seven_columns(loaded: bool) -> None:
    """With every latency, with a load and without."""
    asked: dict[str, Any] = {"model": "llama-3-8b", "system": "dgx-h100", "chips": 8, "ttft": "2 s", "tpot": "40 ms"}
    found = sweep.size(**asked, load="5000 tokens/s") if loaded else sweep.try_(**asked, phase="serving")
    (table,) = answer_table(found["answer"])
    kept = [str(column.header) for column in table.columns]
    assert len(kept) <= FIRST_VIEW
    assert {"design", "tokens/s", "TTFT", "TPOT", "layout"} <= set(kept)
    assert ("used" in kept) == loaded


def test_a_band_is_of_the_rate_that_it_stands_beside() -> None:
    """Designs of several number formats are compared by their tokens per second and chip, and so are their bands."""
    found = sweep.try_(model="llama-3-8b", system="dgx-h100", chips=8, phase="decode", tpot="40 ms")["answer"][0]
    ends = {"tokens_per_s_p10": 8e4, "tokens_per_s_p90": 16e4, "tokens_per_s_per_chip_p10": 1e4,
            "tokens_per_s_per_chip_p90": 2e4, "row": 0}  # fmt: skip
    told = []
    for other in ("fp8", "int8"):
        (table,) = answer_table([found | ends, found | ends | {"number_format": other}])
        columns = {str(column.header): list(column.cells) for column in table.columns}
        told.append(("tokens/s" in columns, columns["10 to 90 %"][0]))
    assert found["number_format"] == "fp8"
    assert told == [(True, "80 k to 160 k"), (False, "10 k to 20 k")]


def test_the_first_view_of_bands_has_seven_columns() -> None:
    """Standings of designs whose numbers are uncertain."""
    standing = dict.fromkeys(("nominal", "p10", "p50", "p90", "best", "near_best", "rumoured_share"), 0.5)
    one = {"title": "x", "quantity": "tokens_per_s", "points": 16, "rests_on": {}, "overtaking": (),
           "standings": [standing | {"design": "a", "scenario": False}]}  # fmt: skip
    (narrow,), (wide,) = certainty_tables([one]), certainty_tables([one], wide=True)
    assert len(narrow.columns) == FIRST_VIEW
    assert len(wide.columns) == FIRST_VIEW + 1


PRINTED = [
    *(["list", kind] for kind in KINDS),
    ["show", "h100"],
    ["validate", "cases.jsonl"],
    ["plan", str(ROOT / "studies" / "first_study.toml")],
    ["compare", "dgx-h100 tp=2", "dgx-h100 tp=4", "--model", "llama-3-8b", "--chips", "8", "--batch", "64"],
]


@pytest.mark.parametrize("command", PRINTED, ids=lambda command: " ".join(command[:2]).rpartition("/")[2])
def test_no_command_prints_a_wide_table(command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every table that a command without options makes has seven columns at most."""
    monkeypatch.chdir(tmp_path)
    cases = (ROOT / "tests" / "published" / "training_cases.jsonl").read_text().splitlines()
    Path("cases.jsonl").write_text("\n".join(cases[:10]))
    made: list[Table] = []
    plain = Table.add_row

    def add_row(table: Table, *cells: Any, **more: Any) -> None:
        made.append(table)
        plain(table, *cells, **more)

    monkeypatch.setattr(Table, "add_row", add_row)
    with pytest.raises(SystemExit) as ended:
        main(command)
    assert not ended.value.code
    assert made or command[0] == "plan"
    assert all(len(table.columns) <= FIRST_VIEW for table in made)


def cpu_seconds(*arguments: str) -> float:
    """CPU seconds of an interpreter, which a busy machine stretches less than the clock."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def ratio(arguments: tuple[str, ...], base: tuple[str, ...] = ("-c", "pass")) -> float:
    """The least of what a command takes over the least of what another does, run in turn."""
    rounds = [(cpu_seconds(*arguments), cpu_seconds(*base)) for _ in range(ROUNDS)]
    return min(one for one, _ in rounds) / min(other for _, other in rounds)


def test_help_is_there_at_once() -> None:
    """`sweep --help` takes less than ten interpreters that do nothing."""
    assert ratio(("-m", "sweep.cli", "--help")) < HELP_RATIO


@pytest.mark.parametrize("arguments", FIRST_PAGE, ids=" ".join)
def test_the_first_page_has_every_command(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each with its line, within the width of the terminal; nobody has to know how to ask for it."""
    monkeypatch.setenv("COLUMNS", "60")
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    printed = capsys.readouterr().out
    assert not ended.value.code
    assert all(len(line) < 60 for line in printed.splitlines())
    words = " ".join(printed.split())
    assert all(f" {name} {line} " in words for name, (_, line) in COMMANDS.items())


def test_the_packages_are_imported_at_once() -> None:
    """`import model` and `import sweep` import next to nothing: what is needed is imported as it is called."""
    assert ratio(("-c", "import model")) < MODEL_RATIO
    assert ratio(("-c", "import sweep")) < MODEL_RATIO


def test_the_cost_model_costs_little_more_than_numpy() -> None:
    """All that a training step needs, beside numpy, which is the only library that it imports."""
    assert ratio(("-c", "import model.step"), ("-c", "import numpy")) < 3.0


@pytest.mark.parametrize("verb", COMMANDS)
def test_every_verb_prints_json_and_explains_itself(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each command has --json, and a first sentence in its help."""
    with pytest.raises(SystemExit) as ended:
        main([verb, "--help"])
    told = capsys.readouterr().out
    assert not ended.value.code
    assert "--json" in told
    assert COMMANDS[verb][1].endswith(".")
