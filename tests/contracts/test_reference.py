"""What users meet is in the docs and in a test: commands, columns, charts, keys of studies and of entries."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from model.architecture import Architecture, Experts, LatentAttention, LowRankProjections, SparseAttention
from model.serving.stack import ServingStack
from model.stack import Stack
from sweep import catalogue, columns, serving_schema, study_schema
from sweep.asking import ask
from sweep.catalogue import KINDS, Entry
from sweep.catalogue_schema import Written, inner_table
from sweep.cli import COMMANDS
from sweep.errors import InputError
from sweep.field_meanings import meaning
from sweep.reference import TABLES, fields_of, main, written_anew

ROOT = Path(__file__).resolve().parents[2]
DOCS = {page.name: page.read_text(encoding="utf-8") for page in sorted((ROOT / "docs").glob("*.md"))}
TESTS = "\n".join(file.read_text(encoding="utf-8") for file in sorted((ROOT / "tests").rglob("*.py")))
CODE = "\n".join(file.read_text(encoding="utf-8") for name in ("report", "validation_page.py", "validation_charts.py")
                 for file in sorted([*(ROOT / "sweep" / name).glob("*.py")] or [ROOT / "sweep" / name]))  # fmt: skip
SHAPES = (Architecture, Experts, LatentAttention, SparseAttention, LowRankProjections)
# Keys that people read and the cost model does not, each with why.
NOT_READ = {
    "year": "when it came", "links.": "as listed by the vendor; tiers say what a rank gets",
    "cost.hour_usd": "of rent as listed", "cost.network_usd": "as listed", "published.": "held against it",
    "tolerance": "of a test", "price_usd": "of a chip or unit priced by its basis",
}  # fmt: skip


# ------------------------------------------------------------------------------------------------------ the docs
@pytest.mark.parametrize("page", DOCS)
def test_tables_of_the_reference_are_those_of_the_code(page: str) -> None:
    """`python -m sweep.reference docs` has nothing to write."""
    assert written_anew(DOCS[page]) == DOCS[page], "run python -m sweep.reference docs"


def test_the_page_holds_every_table(capsys: pytest.CaptureFixture[str]) -> None:
    """Each table once, and the command prints them all."""
    assert sorted(re.findall(r"<!-- reference: (.*) -->", DOCS["reference.md"])) == sorted(TABLES)
    main([])
    printed = capsys.readouterr().out
    assert all(made() in printed for made in TABLES.values())


@pytest.mark.parametrize("kind", KINDS)
def test_every_key_of_an_entry_has_a_meaning(kind: str) -> None:
    """Nothing is listed without a word."""
    assert [path for path, _ in fields_of(kind) if not meaning(kind, path)] == []


def test_every_section_of_the_pages_is_described() -> None:
    """Charts of the report and of the validation page are in the docs and in a test by their headings."""
    sections = set(re.findall(r'Section\(\s*"([^"]+)"', CODE))
    assert len(sections) > 12
    described = DOCS["report.md"] + DOCS["validation-cases.md"]
    assert [name for name in sorted(sections) if name not in described] == []
    assert [name for name in sorted(sections) if f'"{name}"' not in TESTS] == []


# ---------------------------------------------------------------------------------------------------- the tests
def test_every_command_is_called_by_a_test() -> None:
    """By its word on the command line."""
    assert [verb for verb in COMMANDS if f'"{verb}"' not in TESTS and f"sweep {verb} " not in TESTS] == []


def keys_of_studies() -> Iterator[str]:
    """Keys of all tables of studies."""
    for form in (study_schema.StudyTable, serving_schema.ServingStudyTable):
        for table in (form, *form.tables.values(), study_schema.RangeTable):
            yield from table.model_fields


def test_every_key_of_a_study_is_used_by_a_test_or_a_study() -> None:
    """In a study that a test checks, or in one that is shipped and run by a test."""
    studies = "\n".join(file.read_text(encoding="utf-8") for file in (ROOT / "studies").glob("*.toml"))
    words = set(re.findall(r"\w+", TESTS + studies))
    assert [key for key in dict.fromkeys(keys_of_studies()) if key not in words] == []


def test_every_number_of_a_machine_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Building the machines of the catalogue asks for every number of their entries, but for those of NOT_READ."""
    asked: set[tuple[str, str]] = set()
    plain = Entry.value
    whose = re.compile(r"^(rents|packages|machines|margins)\.(.+)\.")  # a chip of no machine here is as any other

    def value(self: Entry, path: str, corner: Any = "nominal") -> Any:
        asked.add((self.kind, path))
        return plain(self, path)

    monkeypatch.setattr(Entry, "value", value)
    for name in catalogue.names("systems"):
        for prices in catalogue.names("prices"):
            with contextlib.suppress(InputError):  # a basis that has no price of the machine
                catalogue.system(name, lambda _, path: path, prices=prices, operation="careful-2026")
    for name in catalogue.names("operations"):
        catalogue.system("dgx-h100", lambda _, path: path, operation=name)
    unread = set()
    read = {(kind, whose.sub(r"\1.", path)) for kind, path in asked}
    for kind in ("chips", "calibrations", "systems", "fabrics", "prices", "processes", "memories", "operations"):
        own = {path for name in catalogue.names(kind) for path in catalogue.entry(kind, name).quantities}
        unread |= {f"{kind}: {path}" for path in own if (kind, whose.sub(r"\1.", path)) not in read}
    assert {one for one in unread if not any(word in one for word in NOT_READ)} == set()


def test_every_field_of_software_and_models_is_of_its_record() -> None:
    """What a stack, an engine or a model may say is a field of the record that the cost model takes."""
    for kind, records in {"stacks": (Stack,), "engines": (ServingStack,), "models": SHAPES}.items():
        own = {field.name for record in records for field in fields(record)}
        numbers = {path.split(".")[-1] for path, field in fields_of(kind) if inner_table(field.annotation) is Written}
        assert {name for name in numbers if name not in own} <= {"parameters", "active_parameters", "tolerance",
                                                                 "active_tolerance"}  # fmt: skip


QUESTIONS = {
    "mixture": """
question = "?"
chips = [256]
corners = true
[[workloads]]
model = "deepseek-v2"
sequence = "8192 token"
batch = 768
tokens = "1 Ttoken"
[[designs]]
system = "dgx-h100"
stack = "megatron-core-eager-2025"
change = { "host.link_bandwidth" = "1 GB/s" }
[[designs]]
system = "atlas-910d-supernode"
chips = [384]
stack = "megatron-core-eager-2025"
change = { "chip.hbm_bandwidth" = "6 TB/s" }
[layout]
tensor_parallel = 2
context_parallel = 2
pipeline_parallel = [2, 4]
expert_parallel = 8
OTHER
""",
    "together": """
question = "?"
phase = "serving"
chips = [64]
[[workloads]]
model = "deepseek-v3"
[traffic]
input_tokens = "2048 token"
output_tokens = "256 token"
load = "500 tokens/s"
prefix_hit = 0.1
[targets]
ttft = "<= 9 s"
ttft_p99 = "<= 99 s"
tpot = "<= 90 ms"
tpot_p99 = "<= 200 ms"
[serving]
weight_format = "fp8"
expert_format = "fp8"
attention_format = "bf16"
redundant_experts = [32]
[[designs]]
system = "dgx-h200"
[layout]
deployment = "DEPLOYMENT"
tensor_parallel = [2]
pipeline_parallel = [1, 2]
draft_tokens = 1
""",
}


def test_every_column_is_filled_by_some_study() -> None:
    """No column of the data set is empty, or 0, whatever is asked."""
    others = ("offload = 'optimizer+activations'", "overlap_off = 'data'\nrecompute = 'full'")
    texts = [QUESTIONS["mixture"].replace("OTHER", one) for one in others]
    texts += [QUESTIONS["together"].replace("DEPLOYMENT", one) for one in ("colocated", "disaggregated")]
    rows = [row for text in texts for row in ask(text, "sweep try", {}).answer.rows]
    assert len(rows) >= len(texts)
    filled = {name for row in rows for name, value in row.items() if value not in (None, 0, 0.0, "", "none", False)}
    known = {name for own in columns.SETS.values()
             for name in (*own.identity, *own.layout, *own.quantities, *own.parts, "bound_by", "feasible")}  # fmt: skip
    assert sorted(known - filled) == []
