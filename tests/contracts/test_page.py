"""A page of results: all in one file, nothing asked of the network, foreign text shown as text."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser

import pytest

from sweep.page import Chart, Code, Fact, Facts, Section, Table, Text, page, plain, quantity_text
from sweep.page.palette import COLOURS, SYMBOLS

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)> & &lt; \"'\u2028"


class Elements(HTMLParser):
    """Tags and attributes of a page, its text, and the content of its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.scripts: list[str] = []
        self.in_script = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")
            self.in_script = True

    def handle_endtag(self, tag: str) -> None:
        self.in_script &= tag != "script"

    def handle_data(self, data: str) -> None:
        if self.in_script:
            self.scripts[-1] += data
        self.words.append(data)


def figure(label: str = "x") -> dict[str, object]:
    """A small chart as a mapping."""
    trace = {"type": "scatter", "x": [1, 2], "y": [2, 1], "name": plain(label), "customdata": [label, label]}
    return {"data": [trace], "layout": {"template": {"unused": 1}}}


def policy_of(elements: Elements) -> str:
    """The page's Content-Security-Policy."""
    named = (own for tag, own in elements.tags if own.get("http-equiv") == "Content-Security-Policy")
    return str(next(named)["content"])


@pytest.fixture(scope="module")
def hostile() -> Elements:
    """A page that shows hostile text in every place."""
    blocks = [
        Text(HOSTILE), Facts([Fact(HOSTILE, HOSTILE, HOSTILE)]), Table([HOSTILE], [[HOSTILE]], HOSTILE, HOSTILE),
        Code(HOSTILE, HOSTILE), Chart(figure(HOSTILE), HOSTILE, HOSTILE, HOSTILE, folded=HOSTILE),
    ]  # fmt: skip
    return Elements(page(HOSTILE, [Section(HOSTILE, blocks)] * 3, HOSTILE, HOSTILE))


def test_hostile_text_is_shown_as_text(hostile: Elements) -> None:
    """Neither an element nor an attribute comes of what a page is given, and the text stands as it was."""
    assert not [tag for tag, _ in hostile.tags if tag in ("img", "iframe", "object", "embed")]
    assert not [name for _, attributes in hostile.tags for name in attributes if name.startswith("on")]
    assert "".join(hostile.words).count(HOSTILE) > 20


def test_only_its_own_scripts_run(hostile: Elements) -> None:
    """Each script that runs is one whose digest the page's policy names; data elements run nothing."""
    policy = policy_of(hostile)
    kinds = [own.get("type") for tag, own in hostile.tags if tag == "script"]
    running = [text for kind, text in zip(kinds, hostile.scripts, strict=True) if kind is None]
    digests = {b64encode(sha256(text.encode()).digest()).decode() for text in running}
    assert len(running) == 3
    assert digests == set(re.findall(r"'sha256-([^']+)'", policy))
    assert "default-src 'none'" in policy
    assert "unsafe-eval" not in policy


def test_data_of_charts_stay_data(hostile: Elements) -> None:
    """The figure that a page holds reads back as it was given, without plotly's template."""
    kinds = [own.get("type") for tag, own in hostile.tags if tag == "script"]
    held = [text for kind, text in zip(kinds, hostile.scripts, strict=True) if kind == "application/json"]
    assert len(held) == 3
    for text in held:
        content = json.loads(text)
        assert content["data"] == figure(HOSTILE)["data"]
        assert content["layout"] == {}


def test_nothing_is_loaded_from_elsewhere(hostile: Elements) -> None:
    """No element of a page names an address outside of it, and plotly.js is in it once."""
    for tag, attributes in hostile.tags:
        for name in ("src", "href", "action", "data", "poster"):
            address = attributes.get(name)
            assert address is None or address.startswith(("#", "data:,")), f"{tag} {name}={address}"
    assert sum("plotly.js v" in text for text in hostile.scripts) == 1


def test_a_page_without_charts_is_small() -> None:
    """Only a page with a chart holds plotly.js."""
    assert len(page("Title", [Section("One", [Text("few words")])])) < 20_000


def test_functions_built_at_run_time_are_allowed_where_a_chart_needs_them() -> None:
    """Parallel coordinates draw by a library that builds functions; the policy lets it on such a page alone."""
    parallel = {"data": [{"type": "parcoords", "dimensions": []}], "layout": {}}
    assert "'unsafe-eval'" in policy_of(Elements(page("Title", [Section("One", [Chart(parallel, "axes")])])))
    assert "'unsafe-eval'" not in policy_of(Elements(page("Title", [Section("One", [Chart(figure(), "points")])])))


def test_columns_of_numbers_stand_to_the_right() -> None:
    """A column whose cells are numbers, percentages or empty is one of numbers; one word makes it text."""
    table = Table(["a", "b", "c"], [["1.2 %", 3, "x"], ["", "+4.0 %", "1"]])
    assert table.numeric == [True, True, False]


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(0.0123, "s", "12.3 ms"), (12.0, "s", "12 s"), (4.2e4, "s", "4.2e+04 s"), (8.1e10, "B", "81 GB"),
     (0.0, "s", "0 s"), (3.2e-6, "s", "3.2 µs"), (1530.0, "W", "1.53 kW")],
)  # fmt: skip
def test_quantities_are_short(value: float, unit: str, text: str) -> None:
    """Three digits and a prefix."""
    assert quantity_text(value, unit) == text


def _luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("ground", ["#ffffff", "#12161b"])
@pytest.mark.parametrize("colour", COLOURS)
def test_colours_are_seen_on_both_grounds(colour: str, ground: str) -> None:
    """Every colour stands out from white and from the dark ground, by 2 to 1 at least."""
    light, dark = sorted((_luminance(colour), _luminance(ground)), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 2.0


def test_series_have_marks_of_their_own() -> None:
    """There is a mark for each colour, so that series differ without colour too."""
    assert len(set(SYMBOLS)) >= len(COLOURS)
