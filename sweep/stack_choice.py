"""Which software stack of the catalogue a measured training run was made with: by framework, release, chip, layout."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from sweep import catalogue
from sweep.chip_names import CHIP_SYSTEMS
from sweep.errors import spelling
from sweep.published import is_fully_sharded


@dataclass(frozen=True, slots=True)
class StackChoice:
    """A stack record and why it was taken."""

    name: str
    why: str


# Software of a run on a chip is taken to be at most so many years younger than the chip where nothing else dates it.
_AGE = 3
# Benchmark suites and placeholders: not the name of a framework.
_NO_FRAMEWORK = ("other", "unknown", "none", "custom", "inhouse", "proprietary")


def choose_stack(case: Mapping[str, Any]) -> StackChoice:
    """The stack of a case: of its framework and year; else the nearest by kind and year.

    A framework is looked up as it is spelled, then by the words of its name, then by the words of the case's flags,
    release and source. Kinds (fsdp, megatron, xla, ascend, neuron) are frameworks of the catalogue that stand for
    others like them.
    """
    stated = str((case.get("software") or {}).get("framework") or "other")
    framework, how = _framework(stated, case)
    vendor = _vendor(case)
    if framework is None or not catalogue.stacks_of(framework, vendor=vendor):
        framework, how = _kind(stated, case)
    year, dated = _dated(framework, case)
    name, gap = _of_year(framework, year, vendor)
    why = f"{how}; {dated}" if how else dated
    return StackChoice(name, why + (f", nearest to it {gap}" if gap else ""))


# ------------------------------------------------------------------------------------------------- framework
@cache
def _known() -> Mapping[str, str]:
    """Frameworks of all stacks, by how names are compared."""
    every = (one for name in catalogue.names("stacks") for one in catalogue.entry("stacks", name).facts["frameworks"])
    return {spelling(one): one for one in every}


def _framework(stated: str, case: Mapping[str, Any]) -> tuple[str | None, str]:
    """The framework of a case among those known, and how it was found; None where nothing names one."""
    flags = [str(flag) for flag in case.get("flags") or []]
    if any("maxtext" in flag.lower() for flag in flags):
        return "maxtext", "" if spelling(stated) == "maxtext" else "the flags name maxtext"
    known = _known().get(spelling(stated))
    if known:
        return known, ""
    said = _named_in(stated)
    if said:
        return said, f"framework {stated!r} is read as {said}"
    if spelling(stated) not in _NO_FRAMEWORK:
        return None, ""
    software, source = case.get("software") or {}, case.get("source") or {}
    titles = [source.get(key) for key in ("title", "repo")] if isinstance(source, Mapping) else [source]
    for place, texts in (("flags", flags), ("release", [software.get("release")]), ("source", titles)):
        said = next((found for text in texts if (found := _named_in(str(text or ""), _AMBIGUOUS))), None)
        if said:
            return said, f"the {place} name{'s' if place != 'flags' else ''} {said}"
    return None, ""


# Names of kinds, which a text may add to the framework's own, and names that mean something else outside of the field
# for the framework: a model, a benchmark, a library below.
_KINDS = frozenset({"fsdp", "fsdp2", "megatron", "xla", "ascend", "neuron", "pytorch"})
_AMBIGUOUS = _KINDS | {"deepseek", "llama3meta", "mlperf", "transformers", "accelerate", "huggingface", "hf", "peft"}


def _named_in(text: str, without: frozenset[str] = frozenset()) -> str | None:
    """The framework with the longest name that stands in a text as whole words; names of kinds come last."""
    words = [word for word in re.split(r"[^a-z0-9]+", text.lower()) if word]
    runs = {"".join(words[a:b]): b - a for a in range(len(words)) for b in range(a + 1, min(a + 4, len(words)) + 1)}
    hits = [name for name in _known() if name in runs and name not in without]
    if not hits:
        return None
    return _known()[max(hits, key=lambda name: (name not in _KINDS, len(name)))]


# ------------------------------------------------------------------------------------------------------ kind
def _vendor(case: Mapping[str, Any]) -> str:
    return str(_chip_entry(case).facts["vendor"])


def _chip_entry(case: Mapping[str, Any]) -> catalogue.Entry:
    system, sold_with = CHIP_SYSTEMS[str(case["chip"])]
    return catalogue.entry("chips", sold_with or str(catalogue.entry("systems", system).facts["chip"]))


_VENDOR_KINDS = {"Huawei": "ascend", "Google": "xla", "AWS": "neuron"}


def _kind(stated: str, case: Mapping[str, Any]) -> tuple[str, str]:
    """The kind of an unknown framework, and why: by its chip, its name, how it shards."""
    vendor = _vendor(case)
    said = f"framework {stated!r} has no record" + (f" on chips of {vendor}" if _framework(stated, case)[0] else "")
    by_chip = _VENDOR_KINDS.get(vendor)
    if by_chip:
        return by_chip, f"{said}: {by_chip}, by the chip"
    name = spelling(stated)
    if any(word in name for word in ("jax", "xla", "flax")):
        return "jax-toolbox", f"{said}: jax on GPUs, by its name"
    split = any(int(case.get(key) or 1) > 1 for key in ("tp", "pp", "cp", "ep"))
    if is_fully_sharded(case) or "fsdp" in name or "zero" in name:
        return "fsdp", f"{said}: fsdp, by how weights are sharded"
    if split or case.get("tp"):
        return "megatron", f"{said}: megatron, by its layout"
    return "fsdp", f"{said}: fsdp, no layout is stated"


# ------------------------------------------------------------------------------------------------------ year
_BRANCH = re.compile(r"\br0\.(\d+)")  # release branches of Megatron-LM and Megatron-Core
_CALENDAR = re.compile(r"\b(2[0-9])\.(?:0[1-9]|1[0-2])\b")  # releases numbered by year and month


def _year(framework: str, case: Mapping[str, Any]) -> int | None:
    """Year of a case's software: stated, or read from how each project numbers its releases.

    The release may stand in the case's software, in its flags, or in the title and section of its source. Calendar
    versions ("25.04", "24.11.1") name the year; MLPerf Training 3 to 5 are of 2023 to 2025; Megatron's branches up to
    r0.10 are of 2024 or before. Other numbering says nothing.
    """
    software, source = case.get("software") or {}, case.get("source") or {}
    if software.get("year"):
        return int(software["year"])
    release = str(software.get("release") or "")
    if framework == "mlperf" and release.split(".")[0].isdigit():
        return 2020 + int(release.split(".")[0])
    title = source.get("title") if isinstance(source, dict) else source
    said = " ".join(
        map(str, (software.get("framework"), release, *(case.get("flags") or []), title, case.get("table_or_section")))
    )
    calendar, branch = _CALENDAR.search(said), _BRANCH.search(said)
    if calendar:
        return 2000 + int(calendar.group(1))
    if branch:
        return 2024 if int(branch.group(1)) <= 10 else 2025
    return None


def _dated(framework: str, case: Mapping[str, Any]) -> tuple[int, str]:
    """Year of the software and where it comes from: the case, or the chip that it ran on."""
    year = _year(framework, case)
    if year is not None:
        return year, f"{framework} of {year}"
    launched = round(_chip_entry(case).value("year"))
    return launched + _AGE, f"{framework}, undated: of {launched + _AGE} or before, on a chip of {launched}"


def _of_year(framework: str, year: int, vendor: str) -> tuple[str, str]:
    """The newest stack of a framework that covers a year, or the one whose years are nearest; and then its years.

    Of stacks on the chips of a vendor, where the framework has such.
    """
    covering = catalogue.stacks_of(framework, year, vendor=vendor)
    if covering:
        return covering[0], ""
    every = catalogue.stacks_of(framework, vendor=vendor) or catalogue.stacks_of(framework)
    name = min(every, key=lambda one: _years_apart(one, year))
    facts = catalogue.entry("stacks", name).facts
    last = facts.get("to_year")
    return name, f"is {name}" + (f" ({facts['from_year']} to {last})" if last else f" (from {facts['from_year']})")


def _years_apart(name: str, year: int) -> tuple[int, int]:
    facts = catalogue.entry("stacks", name).facts
    first, last = int(facts["from_year"]), int(facts.get("to_year", 9999))
    return max(first - year, year - last, 0), -first
