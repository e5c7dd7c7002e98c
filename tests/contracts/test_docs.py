"""The pages under docs/: links lead somewhere, nothing that users meet is left out, and what they show runs.

`python -m tests.contracts.test_docs` writes the tables of columns and of flags anew, `python -m sweep.reference docs`
those of the reference.
"""

from __future__ import annotations

import ast
import inspect
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest

from model.chip import (
    FORMATS,
    TRAINING_FORMATS,
    AttentionCalibration,
    Calibration,
    DecodeCalibration,
    MatmulCalibration,
    MemoryCalibration,
)
from model.cost import EnergyParts, MemoryParts, TimeParts
from model.layout import CONTEXT_EXCHANGES, RANK_ORDERS, RECOMPUTE_MODULES, SCHEDULES
from model.money import CapitalParts, SpendingParts
from model.power import BOUNDARIES, COOLING
from model.prices import Prices
from model.reliability import Availability, FailureParts, Operation
from model.serving.stack import ServingStack
from model.silicon import SiliconParts
from model.stack import Stack
from model.system import Tier
from sweep import catalogue, columns, serving_schema, study_schema
from sweep.catalogue import CORNERS, KINDS, SOURCE_KINDS
from sweep.catalogue_schema import read as read_entry
from sweep.chip_names import CHIP_SYSTEMS
from sweep.cli import COMMANDS
from sweep.designs import dimension_of
from sweep.flags import RULES, FlagRule
from sweep.launch.export import OTHER_NAMES, SERVERS, TRAINERS
from sweep.launch.options import options
from sweep.power_cases import STATES
from sweep.power_validation import QUANTITIES
from sweep.prediction import GroupError, Prediction
from sweep.recipes import recipes
from sweep.study import load, parse
from sweep.trace.lanes import LANES
from sweep.uncertainty.distributions import RELATIVE_SD
from sweep.validation import predict
from sweep.work import KV_BYTES

ROOT = Path(__file__).resolve().parents[2]
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [*DOCS, *(page for page in (ROOT / "README.md",) if page.exists())]
TEXT = {page.name: page.read_text(encoding="utf-8") for page in DOCS}
ALL = "\n".join(TEXT.values())
TABLES = {
    "workloads": study_schema.WorkloadTable,
    "designs": study_schema.DesignTable,
    "layout": study_schema.LayoutTable,
    "search": study_schema.SearchTable,
    "outer": study_schema.OuterTable,
    "uncertainty": study_schema.UncertaintyTable,
}
SERVING_TABLES = {
    "traffic": serving_schema.TrafficTable,
    "targets": serving_schema.TargetsTable,
    "serving": serving_schema.ServingTable,
    "layout": serving_schema.InstanceTable,
}
# of training alone
TRAINED = ("step_time_s", "mfu", "power_peak_w", "mtbf_s", "goodput", "useful_tokens_per_s")
SERVING_VIOLATIONS = ("violation_hbm_bytes", "violation_engine_sequences", "violation_instances")
PROSE_WIDTH = 120
CALIBRATED = ("matmul", "attention", "memory", "decode")  # records of their own inside of a calibration

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


# ------------------------------------------------------------------------------------------------ what a page holds
def blocks(page: str) -> Iterator[tuple[str, str]]:
    """Language line and content of every fenced block."""
    for found in re.finditer(r"^```([^\n]*)\n(.*?)^```$", page, re.M | re.S):
        yield found.group(1).strip(), found.group(2)


def without_code(page: str) -> str:
    """A page's prose, tables and headings."""
    return re.sub(r"^```.*?^```$", "", page, flags=re.M | re.S)


def anchors(page: str) -> set[str]:
    """Names of a page's headings, as links write them."""
    titles = re.findall(r"^#+ (.*)$", without_code(page), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def codes(page: str) -> set[str]:
    """Everything that a page's prose and tables write as code."""
    return set(re.findall(r"`([^`\n]+)`", without_code(page)))


def table_rows(page: str, first_cell: str) -> list[list[str]]:
    """Rows of the table whose first heading cell is `first_cell`."""
    rows: list[list[str]] = []
    inside = False
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")] if line.startswith("|") else []
        if cells and cells[0] == first_cell:
            inside = True
        elif not cells:
            inside = False
        elif inside and not set(line) <= set("|- "):
            rows.append(cells)
    return rows


def columns_of_data_set() -> list[str]:
    """Names of the data set's columns in their order; constraints add `violation_limit_` and the quantity's name."""
    own = columns.TRAINING
    return [*own.identity, *own.layout, *own.quantities, "bound_by", *own.parts, "violation_hbm_bytes", "feasible"]


def serving_table() -> str:
    """The table of columns in docs/serving.md."""
    own = columns.SETS["serving"]
    lines = ["| column of serving | unit | meaning |", "| --- | --- | --- |"]
    for name in (*own.identity, *own.layout, *own.quantities, "bound_by", *own.parts, *SERVING_VIOLATIONS, "feasible"):
        if name not in columns.IDENTITY_MEANINGS:
            unit, meaning = columns.describe(name)
            lines.append(f"| `{name}` | {unit} | {meaning} |")
    return "\n".join(lines)


def column_table() -> str:
    """The table of columns in docs/results.md."""
    lines = ["| column | unit | meaning |", "| --- | --- | --- |"]
    for name in columns_of_data_set():
        unit, meaning = columns.describe(name)
        lines.append(f"| `{name}` | {unit} | {meaning} |")
    return "\n".join(lines)


def engine_fields() -> str:
    """The table of docs/engines.md: every field of an engine with its default and the comment beside it in the code."""
    source = inspect.getsource(ServingStack)
    lines = ["| field of an engine | default | meaning |", "| --- | --- | --- |"]
    for field in fields(ServingStack):
        comment = re.search(rf"^    {field.name}: [^#\n]*# (.*)$", source, re.M)
        lines.append(f"| `{field.name}` | {shown(field.default)} | {comment.group(1) if comment else ''} |")
    return "\n".join(lines)


def engine_list() -> str:
    """The other table there: every engine of the catalogue."""
    lines = ["| engine | years | variant | runs on | frameworks |", "| --- | --- | --- | --- | --- |"]
    for name in catalogue.names("engines"):
        facts = catalogue.entry("engines", name).facts
        years = f"{facts['from_year']} to {facts.get('to_year', 'now')}"
        cells = (years, facts.get("variant", ""), ", ".join(facts["vendors"]), ", ".join(facts["frameworks"]))
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(lines)


# A stack that no rule leaves as it is, to see what each changes.
_OTHER = Stack("other", host_layer_s=0.7, host_moe_layer_s=0.7, moe_sync_s=0.7, expert_overlap=0.7, dispatch="per_rank",
               permute_passes=0.7, loss_bytes_per_logit=0.7, tensor_overlap=0.0, gradient_overlap=0.0,
               fused_norm=False, fused_activation=False, fused_rotary=False, gather_overlap=False)  # fmt: skip


def changes_of(rule: FlagRule) -> str:
    """What a rule of sweep/flags.py sets, as the table in docs/validation-cases.md writes it."""
    after = rule.change(_OTHER, recipes())
    names = [field.name for field in fields(Stack) if getattr(after, field.name) != getattr(_OTHER, field.name)]
    return ", ".join(f"`{name}` {shown(getattr(after, name))}" for name in names)


def shown(value: Any) -> str:
    """A value of a record as the pages write it."""
    if value is MISSING:
        return "required"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ", ".join(value) or "none"
    return value if isinstance(value, str) else f"{value:.12g}"


# ------------------------------------------------------------------------------------------------------------- form
@each_page
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    """A relative link names a file that exists and, with an anchor, a heading in it."""
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name}: {target} leads nowhere"
        if anchor:
            assert anchor in anchors(file.read_text(encoding="utf-8")), f"{page.name}: no heading #{anchor} in {path}"


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_prose_fits_the_width(page: Path) -> None:
    """Lines of prose are at most 120 characters long; tables and code may be longer."""
    for line in without_code(page.read_text(encoding="utf-8")).splitlines():
        assert line.startswith("|") or len(line) <= PROSE_WIDTH, f"{page.name}: {line}"


@each_page
def test_files_that_pages_name_exist(page: Path) -> None:
    """A module or file of the repository that a page names is there."""
    for code in codes(page.read_text(encoding="utf-8")):
        if re.fullmatch(r"(model|sweep|tests|studies|benchmarks|docs)/[\w./-]*", code):
            assert (ROOT / code).exists(), f"{page.name}: {code} does not exist"


def test_every_page_is_in_the_index() -> None:
    """The index links to every other page."""
    for page in DOCS:
        assert page.name == "index.md" or f"({page.name})" in TEXT["index.md"], page.name


# ------------------------------------------------------------------------------------------------------ completeness
def test_every_column_is_described_as_the_code_describes_it() -> None:
    """The table of columns holds every column with the unit and the meaning that the data set carries."""
    assert column_table() in TEXT["results.md"], "run python -m tests.contracts.test_docs"


def test_engines_stand_as_in_the_catalogue() -> None:
    """The tables of engines and of their fields are those of the code."""
    assert engine_list() in TEXT["engines.md"], "run python -m tests.contracts.test_docs"
    assert engine_fields() in TEXT["engines.md"], "run python -m tests.contracts.test_docs"


def test_every_column_of_serving_is_described_as_the_code_describes_it() -> None:
    """The table of columns of serving holds every column that training has not."""
    assert serving_table() in TEXT["serving.md"], "run python -m tests.contracts.test_docs"


@pytest.mark.parametrize("table", SERVING_TABLES)
def test_every_key_of_a_serving_study_stands_in_the_table_of_its_table(table: str) -> None:
    """Each table of a serving study has a section whose table lists all of its keys and no other."""
    section = re.split(r"^### ", TEXT["serving.md"], flags=re.M)
    own = next(text for text in section if re.match(rf"`\[{table}\]`", text))
    listed = {key for row in table_rows(own, "key") for key in re.findall(r"`(\w+)`", row[0])}
    assert listed == set(SERVING_TABLES[table].model_fields)


def test_what_the_answer_adds_is_described() -> None:
    """Fields of the JSON answer beside the data set's columns are named."""
    added = ["tokens_per_s_low", "tokens_per_s_high", "sampled", "sampled_gap", "reference_chips", "row",
             "reference_number_format", "chips_equal_throughput", "chips_equal_throughput_text"]  # fmt: skip
    assert set(added) <= codes(TEXT["results.md"])


@pytest.mark.parametrize(("record", "heading"), [(Stack, "field of a stack"), (Tier, "field of a tier")])
def test_every_field_of_a_record_stands_with_its_default(record: type, heading: str) -> None:
    """The tables of stacks and tiers hold every field with the default of the code."""
    written = {row[0].strip("`"): row[1] for row in table_rows(TEXT["cost-model.md"], heading)}
    for field in fields(record):
        assert field.name in written, f"{record.__name__}.{field.name} is in no table of docs/cost-model.md"
        if field.name != "name":
            assert written[field.name] == shown(field.default), f"{record.__name__}.{field.name}"


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("cost-model.md", [f.name for r in (MatmulCalibration, AttentionCalibration) for f in fields(r)]),
        ("cost-model.md", [f.name for f in fields(MemoryCalibration)]),
        ("cost-model.md", [f.name for f in fields(Calibration) if f.name not in CALIBRATED]),
        ("operators.md", [f.name for f in fields(DecodeCalibration)]),
        ("cost-model.md", [f.name for r in (TimeParts, MemoryParts, EnergyParts) for f in fields(r)]),
        ("cost-model.md", SCHEDULES),
        ("cost-model.md", RECOMPUTE_MODULES),
        ("cost-model.md", TRAINING_FORMATS),
        ("serving.md", [*FORMATS, *KV_BYTES]),
        ("studies.md", [*SCHEDULES, *RECOMPUTE_MODULES, *CONTEXT_EXCHANGES, *RANK_ORDERS, *TRAINING_FORMATS]),
        ("studies.md", columns.TRAINING.quantities),
        ("serving.md", [name for one in columns.SETS.values() for name in one.quantities if name not in TRAINED]),
        ("studies.md", study_schema.StudyTable.model_fields),
        ("studies.md", study_schema.RangeTable.model_fields),
        ("money.md", [f.name for r in (Prices, CapitalParts, SpendingParts, SiliconParts) for f in fields(r)]),
        ("money.md", catalogue.names("prices")),
        ("catalogue.md", [*KINDS, *SOURCE_KINDS, *CORNERS]),
        ("validation-cases.md", [f.name for f in (*fields(Prediction), *fields(GroupError))]),
        ("reliability.md", [f.name for r in (FailureParts, Availability) for f in fields(r)]),
        ("reliability.md", [f.name for f in fields(Operation) if f.name != "name"]),
        ("reliability.md", catalogue.names("operations")),
        ("architecture.md", [f"sweep {name}" for name in COMMANDS]),
        ("export.md", [*TRAINERS, *SERVERS, *OTHER_NAMES]),
        ("trace.md", LANES),
        ("power.md", [*BOUNDARIES, *COOLING, *STATES, *QUANTITIES]),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(list(value)[:2]),
)
def test_nothing_that_users_meet_is_left_out(page: str, names: Any) -> None:
    """Every field, name and key of a kind is written as code on the page that explains it."""
    missing = [name for name in names if name not in codes(TEXT[page])]
    assert not missing, f"docs/{page} does not mention {', '.join(missing)}"


def test_the_releases_of_frameworks_are_those_of_the_lists() -> None:
    """The page on exports names the release whose options were read."""
    written = {row[0].strip("`"): row[2] for row in table_rows(TEXT["export.md"], "`--to`")}
    assert written == {name: options(name).release for name in (*TRAINERS, *SERVERS)}


def test_every_path_of_a_machine_that_is_named_can_be_changed() -> None:
    """What the page on studies says may change leads to a number."""
    roots = ("chip.", "tiers.", "parts.", "host.", "facility.")
    named = [code for code in codes(TEXT["studies.md"]) if code.startswith(roots)]
    assert len(named) > 20
    for path in named:
        dimension_of(path)


@pytest.mark.parametrize("table", TABLES)
def test_every_study_key_stands_in_the_table_of_its_table(table: str) -> None:
    """Each table of a study file has a section whose table lists all of its keys and no other."""
    section = re.split(r"^### ", TEXT["studies.md"], flags=re.M)
    own = next(text for text in section if re.match(rf"`\[+{table}\]+`", text))
    listed = {row[0].strip("`") for row in table_rows(own, "key")}
    assert listed == set(TABLES[table].model_fields)


def test_every_flag_rule_stands_with_what_it_changes() -> None:
    """The table of rules holds every rule of sweep/flags.py with the values that it sets."""
    listed = {row[0]: row[2] for row in table_rows(TEXT["validation-cases.md"], "rule")}
    assert listed == {rule.name: changes_of(rule) for rule in RULES}, "run python -m tests.contracts.test_docs"


def test_every_chip_name_of_cases_is_listed() -> None:
    """Names of chips that validation cases use are on their page."""
    ranges = {"ascend_910b2", "ascend_910b3"}  # written as from 910b1 to 910b4
    assert set(CHIP_SYSTEMS) - ranges <= codes(TEXT["validation-cases.md"])


def test_widths_of_numbers_stand_as_in_the_code() -> None:
    """The table of standard deviations holds those of every sort of number and kind of source."""
    page = TEXT["uncertainty.md"]
    written = {tuple(float(cell) for cell in row[1:]) for row in table_rows(page, "sort of number")}
    assert written == {tuple(widths.values()) for widths in RELATIVE_SD.values()}
    (heading,) = re.findall(r"^\| sort of number \| (.*) \|$", page, re.M)
    assert all(heading.split(" | ") == list(widths) for widths in RELATIVE_SD.values())


def test_every_violation_is_explained() -> None:
    """Every rule that a layout may break is in the table of rules."""
    from model.layout import Layout
    from model.legality import rules
    from model.workload import Training

    names: set[str] = {"hbm_bytes"}
    for model in ("llama-3-8b", "deepseek-v3"):
        names |= set(rules(Training(catalogue.architecture(model), 4096), Layout()))
    assert names <= codes(TEXT["cost-model.md"])


# ----------------------------------------------------------------------------------------------------------- it runs
def marked(word: str) -> list[Any]:
    """Blocks whose language line ends in `word`, each under the name of its page."""
    return [
        pytest.param(language.split()[0], content, id=f"{page}-{i}")
        for page, text in TEXT.items()
        for i, (language, content) in enumerate(blocks(text))
        if language.split()[1:] and language.split()[-1] == word
    ]


@pytest.mark.parametrize(("language", "content"), marked("runnable"))
def test_runnable_blocks_are_valid(language: str, content: str) -> None:
    """Code marked as runnable is valid Python or bash, and its sweep commands exist with their options."""
    if language == "python":
        ast.parse(content)
        return
    assert language == "bash"
    done = subprocess.run(["bash", "-n"], input=content, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    for verb in re.findall(r"^\s*sweep ([a-z]+)", content, re.M):
        assert verb in COMMANDS


@pytest.mark.parametrize(("language", "content"), marked("study"))
def test_studies_on_the_pages_are_accepted(language: str, content: str) -> None:
    """A study that a page shows passes the checks of a study file."""
    assert language == "toml"
    assert parse(content).question


@pytest.mark.parametrize("kind", ["chips", "systems", "models", "stacks", "engines", "operations", "prices"])
def test_entries_on_the_pages_are_accepted(kind: str) -> None:
    """A catalogue entry that a page shows passes the checks of the catalogue."""
    page = "money.md" if kind == "prices" else "catalogue.md"
    content = next(text for language, text in blocks(TEXT[page]) if language == f"toml {kind}")
    _, quantities = read_entry(kind, tomllib.loads(content), f"docs/{page}: {kind}")
    assert quantities


def test_the_case_on_the_page_is_predicted() -> None:
    """The validation case that the page shows can be expressed."""
    content = next(text for language, text in blocks(TEXT["validation-cases.md"]) if language == "json case")
    assert [one.reason for one in predict(json.loads(content))] == [None]


def test_the_power_case_on_the_page_is_predicted() -> None:
    """The measured power that the page shows can be expressed, each of its quantities."""
    content = next(text for language, text in blocks(TEXT["power.md"]) if language == "json power case")
    assert [one.reason for one in predict(json.loads(content))] == [None, None]


def test_the_serving_case_on_the_page_is_predicted() -> None:
    """The serving run that the page shows can be expressed, and nothing of it is left open."""
    content = next(text for language, text in blocks(TEXT["serving-cases.md"]) if language == "json serving case")
    assert [(one.reason, one.chosen) for one in predict(json.loads(content))] == [(None, None)]


@pytest.fixture(scope="module")
def folder_with_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the first study of docs/studies.md, run as the page says."""
    folder = tmp_path_factory.mktemp("docs")
    content = next(text for language, text in blocks(TEXT["studies.md"]) if language == "toml study")
    (folder / "study.toml").write_text(content, encoding="utf-8")
    assert load(folder / "study.toml").name == "study"
    environment: Mapping[str, str] = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "sweep.cli", "run", "study.toml", "--workers", "0"],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


QUERIES = [content for language, content in blocks(TEXT["results.md"]) if language == "python runnable"]


@pytest.mark.parametrize("content", QUERIES, ids=lambda content: content.split()[1])
def test_queries_on_the_page_run(content: str, folder_with_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each query of docs/results.md runs on a fresh run; polars only where it is installed."""
    pytest.importorskip(content.split()[1].partition(".")[0])
    monkeypatch.chdir(folder_with_run)
    exec(compile(content, "docs/results.md", "exec"), {})


def test_the_run_folder_is_as_described(folder_with_run: Path) -> None:
    """Every file and folder of a run stands in the list on the page."""
    run = next((folder_with_run / "runs").iterdir())
    listed = next(content for language, content in blocks(TEXT["results.md"]) if "runs/<study>-<hash>/" in content)
    for item in run.iterdir():
        assert item.name in listed, item.name


def written_anew() -> None:
    """Write the generated tables into the pages: all columns, and what each flag rule changes."""
    text = re.sub(r"^\| column \|.*?\n(?!\|)", lambda _: column_table() + "\n", TEXT["results.md"], flags=re.M | re.S)
    (ROOT / "docs" / "results.md").write_text(text, encoding="utf-8")
    own = re.compile(r"^\| column of serving \|.*?\n(?!\|)", re.M | re.S)
    (ROOT / "docs" / "serving.md").write_text(own.sub(lambda _: serving_table() + "\n", TEXT["serving.md"]), "utf-8")
    text = TEXT["validation-cases.md"]
    for rule in RULES:
        row = re.compile(rf"^(\| {re.escape(rule.name)} \| [^|]* \| )[^|]* \|$", re.M)
        text = row.sub(lambda found, rule=rule: f"{found.group(1)}{changes_of(rule)} |", text)
    (ROOT / "docs" / "validation-cases.md").write_text(text, encoding="utf-8")
    text = TEXT["engines.md"]
    for table in (engine_list(), engine_fields()):
        heading = re.escape(table.split("\n")[0])
        text = re.sub(rf"^{heading}\n(\|.*\n)*", lambda _, table=table: table + "\n", text, flags=re.M)
    (ROOT / "docs" / "engines.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    written_anew()
