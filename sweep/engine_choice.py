"""Which serving engine of the catalogue a measured case ran on: by framework, release, chip and how it was run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from model.serving.stack import ServingStack
from sweep import catalogue

# Names that a project goes by in texts -> its name among the engines' frameworks.
_PROJECTS = {"vllm": "vllm", "sglang": "sglang", "trtllm": "tensorrt-llm", "tensorrt-llm": "tensorrt-llm"}
_RELEASE = re.compile(r"\b(vllm|sglang|trtllm|tensorrt-llm)\b[^()\d;]{0,24}\(?v?(\d+)\.(\d+)", re.I)
_BARE_RELEASE = re.compile(r"v?(\d+)\.(\d+)")
_NAMED_FIRST = re.compile(r"(vllm|sglang|trtllm|tensorrt-llm)\b", re.I)
# First release of a year: (release, year), the newest first. Release pages of the projects.
_YEARS = {
    "vllm": (((0, 14), 2026), ((0, 7), 2025), ((0, 2), 2024)),
    "sglang": (((0, 5), 2026), ((0, 4), 2025), ((0, 1), 2024)),
    "tensorrt-llm": (((1, 0), 2026), ((0, 17), 2025), ((0, 8), 2024), ((0, 5), 2023)),
}
_SECOND_HAND = re.compile(r"quoting another source", re.I)
_LARGE = 8  # ranks of an expert group that fit in a node
_EAGER = re.compile(r"enforce-eager|\beager mode\b|^eager$", re.I)


@dataclass(frozen=True, slots=True)
class Choice:
    """An engine and why it was taken, where it was not named."""

    name: str
    engine: ServingStack
    why: str | None  # None: the case names its framework


def _said(case: Mapping[str, Any]) -> str:
    """Texts in which a release may stand: notes and the title and section of the source."""
    source = case.get("source") or {}
    title = source.get("title") if isinstance(source, Mapping) else source
    return " ; ".join(str(text) for text in (case.get("notes"), title, case.get("table_or_section")) if text)


def framework_of(case: Mapping[str, Any]) -> str | None:
    """Framework of a case as engines are called, or None where it is unknown or the source quotes somebody else."""
    if _SECOND_HAND.search(str(case.get("transcription") or "")):
        return None
    known = {one for name in catalogue.names("engines") for one in catalogue.entry("engines", name).facts["frameworks"]}
    stated = (case.get("software") or {}).get("framework")
    for one in (stated, case.get("group")):
        if one in known:
            return str(one)
    named = _NAMED_FIRST.match(str(case.get("notes") or "")) or _NAMED_FIRST.match(str(stated or ""))
    return _PROJECTS[named.group(1).lower()] if named else None


def year_of(case: Mapping[str, Any], framework: str | None) -> int | None:
    """Year of the software: that of its release, as records are split by releases; else as it is stated."""
    software = case.get("software") or {}
    project = next((name for name in _YEARS if framework and framework.startswith(name[:4])), None)
    if framework and framework.startswith("trtllm"):
        project = "tensorrt-llm"
    stated = _BARE_RELEASE.match(str(software.get("release") or ""))
    if stated and project:
        return _released(project, int(stated.group(1)), int(stated.group(2)))
    if software.get("year"):
        return int(software["year"])
    found = _RELEASE.search(_said(case))
    if found:
        return _released(_PROJECTS[found.group(1).lower()], int(found.group(2)), int(found.group(3)))
    return None


def _released(project: str, major: int, minor: int) -> int:
    return next((year for since, year in _YEARS[project] if (major, minor) >= since), _YEARS[project][-1][1])


def _variant(case: Mapping[str, Any]) -> str | None:
    """How the engine was run, as far as engines differ by it."""
    features = case.get("features") or {}
    texts = [str(features.get("exec_mode") or ""), str(case.get("notes") or ""), *map(str, case.get("flags") or [])]
    # a source's notes may speak of all of its chips: what they say of others does not count
    if any(_EAGER.search(text) for text in texts) and "graphs on" not in str(case.get("notes") or ""):
        return "eager"
    return "large_ep" if int(case.get("ep") or 0) > _LARGE or int(case.get("dp") or 0) > _LARGE else None


def choose(case: Mapping[str, Any], system_name: str) -> Choice:
    """The engine of a case on a machine: of its framework, year and variant; else the nearest, with the reason."""
    vendor = catalogue.entry("chips", catalogue.system(system_name).chip.name).facts["vendor"]
    framework, variant = framework_of(case), _variant(case)
    year = year_of(case, framework)
    own = _usable(framework, year, vendor) or _usable(framework, None, vendor)
    default = catalogue.entry("engines", catalogue.default_engine(system_name))

    def rank(name: str) -> tuple[bool, bool, bool, bool, bool, int]:
        facts = catalogue.entry("engines", name).facts
        kin = bool(set(facts["frameworks"]) & set(default.facts["frameworks"]))
        unasked = facts.get("variant") == "eager" and variant != "eager"
        same = facts.get("variant") == variant
        suits = same or (variant is None and facts.get("variant") == "large_ep")  # what runs many nodes runs one
        return not unasked, suits, name == default.name, kin, same, int(facts["from_year"])

    if own:
        name = max(own, key=rank)
        return Choice(name, catalogue.engine(name), None)
    every = [name for name in catalogue.names("engines") if vendor in catalogue.entry("engines", name).facts["vendors"]]
    fitting = [name for name in every if _covers(name, year)] or every
    name = max(fitting, key=rank)
    known = case.get("group") or (case.get("software") or {}).get("framework") or "unknown"
    return Choice(name, catalogue.engine(name), f"engine nearest to {known!r}")


def _covers(name: str, year: int | None) -> bool:
    facts = catalogue.entry("engines", name).facts
    return year is None or int(facts["from_year"]) <= year <= int(facts.get("to_year", 9999))


def _usable(framework: str | None, year: int | None, vendor: str) -> list[str]:
    """Engines of a framework and year on the chips of a vendor; without a year, only the newest of each variant."""
    if framework is None:
        return []
    names = [
        name
        for name in catalogue.engines_of(framework, year)
        if vendor in catalogue.entry("engines", name).facts["vendors"]
    ]
    if year is not None or not names:
        return names
    newest = int(catalogue.entry("engines", names[0]).facts["from_year"])
    current = [name for name in names if "to_year" not in catalogue.entry("engines", name).facts]
    return current or [name for name in names if int(catalogue.entry("engines", name).facts["from_year"]) == newest]
