"""Machines of one's own that nobody has priced, counted in racks or seen fail: studies run, and say what they lack."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from sweep import catalogue
from sweep.columns import MAY_LACK
from sweep.designs import machine_of_row
from sweep.errors import InputError
from sweep.explanation import explain_row
from sweep.finished import as_object
from sweep.running import run_study
from sweep.study import load

STUDY = """
name = "own"
question = "q"
catalogue = "mine"
chips = [8]
[[workloads]]
model = "llama-3.1-8b"
sequence = "2048 token"
batch = 16
[[designs]]
system = "my-node"
[layout]
tensor_parallel = [2]
context_parallel = 1
"""
SERVED = """
name = "own"
question = "q"
phase = "decode"
catalogue = "mine"
chips = [8]
[[workloads]]
model = "llama-3.1-8b"
[traffic]
input_tokens = "1024 token"
output_tokens = "256 token"
[targets]
tpot = "<= 50 ms"
[[designs]]
system = "my-node"
[layout]
tensor_parallel = [2]
"""
BASIS = """
title = "Mine"
why = "test"
pays = "rent"
[[rents]]
name = "my-chip"
rent_usd_per_s = { value = "2 USD/h", source = "test", kind = "estimated" }
[[rents]]
name = "another-chip"
rent_usd_per_s = { value = "3 USD/h", source = "test", kind = "estimated" }
"""


def without(text: str, *tables: str) -> str:
    """A TOML file without some tables."""
    blocks = re.split(r"(?m)^(?=\[)", text)
    return "".join(one for one in blocks if not re.match(rf"\[+({'|'.join(tables)})[.\]]", one))


def study(folder: Path, text: str) -> Path:
    """A study beside a catalogue with a machine that has neither prices nor racks nor rates of failure."""
    (folder / "mine" / "chips").mkdir(parents=True)
    (folder / "mine" / "systems").mkdir()
    chip = without((catalogue.DATA / "chips" / "h100.toml").read_text(), "cost", "silicon")
    node = without((catalogue.DATA / "systems" / "dgx-h100.toml").read_text(), "cost", "racks")
    node = re.sub(r"(?m)^(failure_rate|price_usd|fault_domain_packages) = .*\n", "", node)
    assert "USD" not in chip + node
    for name in ("my-chip", "another-chip"):
        (folder / "mine" / "chips" / f"{name}.toml").write_text(chip)
    (folder / "mine" / "systems" / "my-node.toml").write_text(node.replace('chip = "h100"', 'chip = "my-chip"'))
    file = folder / "study.toml"
    file.write_text(text)
    return file


@pytest.mark.parametrize("text", [STUDY, SERVED])
def test_a_machine_without_prices_is_studied(tmp_path: Path, text: str) -> None:
    """It has an answer; what is not known of it is empty in the data set and null in JSON, and a note says why."""
    finished = run_study(load(study(tmp_path, text)), tmp_path / "runs", workers=0)
    (row,) = json.loads(json.dumps(as_object(finished), allow_nan=False))["answer"]
    empty = {name for name in MAY_LACK if name in row and row[name] is None}
    assert empty == {"racks", "floor_m2", "capital_usd", "usd_per_chip_hour", "usd_per_million_tokens"}
    kept = pq.read_table(Path(finished.path) / "designs")
    assert all(kept.column(name).null_count == kept.num_rows for name in empty)
    assert any("my-node has no prices" in note for note in finished.notes)


def test_a_machine_that_never_fails_is_told_in_json(tmp_path: Path) -> None:
    """Its time between failures is without end, which JSON cannot say: null, and all of its time counts."""
    finished = run_study(load(study(tmp_path, 'operation = "none"\n' + STUDY)), tmp_path / "runs", workers=0)
    (row,) = json.loads(json.dumps(as_object(finished), allow_nan=False))["answer"]
    assert row["mtbf_s"] is None
    assert row["goodput"] == 1.0


def test_money_is_not_sought_where_there_are_no_prices(tmp_path: Path) -> None:
    """One error for each key that names what the machine does not have; a basis that is named must price it."""
    asked = STUDY + '[search]\nobjective = "usd_per_million_tokens"\n[uncertainty]\nquantities = ["floor_m2"]\n'
    with pytest.raises(InputError) as failure:
        load(study(tmp_path, asked))
    assert {one.key for one in failure.value.problems} == {"search.objective", "uncertainty.quantities"}
    (tmp_path / "study.toml").write_text('prices = "us"\n' + STUDY)
    with pytest.raises(InputError, match="no price of chip 'my-chip'"):
        load(tmp_path / "study.toml")


def test_a_row_is_explained_with_the_prices_of_its_run(tmp_path: Path) -> None:
    """A basis that prices other chips too: the run keeps the entries that it used, not those."""
    file = study(tmp_path, 'prices = "mine"\n' + STUDY)
    (tmp_path / "mine" / "prices").mkdir()
    (tmp_path / "mine" / "prices" / "mine.toml").write_text(BASIS)
    finished = run_study(load(file), tmp_path / "runs", workers=0)
    told = explain_row(f"{finished.path}#0").as_json()
    assert told["spending_usd_per_hour"]["rent"] == pytest.approx(8 * 2.0)


def test_a_basis_that_prices_what_does_not_exist_is_refused(tmp_path: Path) -> None:
    """A slip of the pen in a name would leave another price to hold."""
    file = study(tmp_path, 'prices = "mine"\n' + STUDY)
    (tmp_path / "mine" / "prices").mkdir()
    (tmp_path / "mine" / "prices" / "mine.toml").write_text(BASIS.replace("another-chip", "anther-chip"))
    with pytest.raises(InputError, match=r"rents.*no entry of chips has this name.*'anther-chip'.*did you mean"):
        load(file)


def test_a_row_of_a_run_without_prices_has_a_machine() -> None:
    """Runs that were made before there were prices and failures name neither: their rows are explained without."""
    row = {"design": "H100", "system": "dgx-h100", "stack": "", "changes": "", "corner": "nominal"}
    found = machine_of_row(row)
    assert found.prices is None
    assert found.operation is None
