"""Reports in a real browser: drawn without errors, asking nothing of the network, with hover, click, phone and dark.

`SCREENSHOTS=folder python -m pytest tests/report/test_in_a_browser.py` leaves pictures there. Without playwright or a
Chromium of the system the tests are skipped and say so; `.ci/run` installs one where it may.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import sweep
from sweep.report import FILE

from .conftest import HOSTILE

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: no page is opened")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: no page is opened in a browser")

SIZES = {"phone": (390, 844), "laptop": (1366, 768), "projector": (1920, 1080)}
# Of the software that draws WebGL without a graphics card; it says how fast it is, not that anything is wrong.
_SLOW = re.compile(r"GPU stall due to ReadPixels|software WebGL|SwiftShader", re.I)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium."""
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


class Opened:
    """A report in a tab, and what went wrong in it."""

    def __init__(self, browser: Any, file: Path, size: str = "laptop", ground: str = "light") -> None:
        width, height = SIZES[size]
        self.context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=ground, offline=True, has_touch=size == "phone"
        )
        self.page = self.context.new_page()
        self.problems: list[str] = []
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.problems.append(f"dialog {dialog.message}"), dialog.dismiss()))
        self.page.on("request", self._asked)
        self.page.goto(file.as_uri())

    def _heard(self, message: Any) -> None:
        if message.type in ("error", "warning") and not _SLOW.search(message.text):
            self.problems.append(message.text)

    def _asked(self, request: Any) -> None:
        if not request.url.startswith(("file:", "data:", "blob:")):
            self.problems.append(f"asked for {request.url}")

    def draw_all(self) -> None:
        """Scroll through the page until every chart that is shown is drawn."""
        for chart in self.page.locator(".chart:visible").all():
            chart.scroll_into_view_if_needed()
            name = chart.get_attribute("id")
            self.page.wait_for_selector(f"#{name}[data-drawn]")

    def picture(self, name: str) -> None:
        """Keep a picture of the whole page, where pictures are asked for."""
        if "SCREENSHOTS" in os.environ:
            self.page.evaluate("scrollTo(0, 0)")
            self.page.wait_for_timeout(300)
            self.page.screenshot(path=Path(os.environ["SCREENSHOTS"], f"{name}.png"), full_page=True)

    def close(self) -> None:
        """Close the tab; nothing must have gone wrong in it."""
        self.context.close()
        assert self.problems == []


@pytest.mark.parametrize(
    ("name", "size", "ground"),
    [
        ("every_row", "laptop", "light"),
        ("unsure", "projector", "dark"),
        ("front", "phone", "dark"),
        ("varied", "phone", "light"),
        ("nothing", "projector", "light"),
    ],
)
def test_every_chart_is_drawn(name: str, size: str, ground: str, browser: Any, runs: Any) -> None:
    """All that is shown is drawn, within the width of the screen, and nothing is asked of the network."""
    opened = Opened(browser, runs[name] / FILE, size, ground)
    opened.draw_all()
    page = opened.page
    charts = page.locator(".chart:visible")
    assert charts.count() >= (2 if name == "nothing" else 8)
    for chart in charts.all():
        assert chart.locator("svg.main-svg").count() > 0
        box = chart.bounding_box()
        assert box["width"] > 0.8 * min(SIZES[size][0], 330)
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= SIZES[size][0]
    assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size][0]
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    assert dark == (ground == "dark")
    opened.picture(f"{name}-{size}-{ground}")
    opened.close()


def centred(page: Any, name: str) -> None:
    """Scroll to a chart and wait until it is drawn."""
    page.evaluate(f"document.getElementById('{name}').scrollIntoView({{ block: 'center' }})")
    page.wait_for_selector(f"#{name}[data-drawn]")
    page.wait_for_timeout(300)  # until it stands still


def points(page: Any) -> Any:
    """The marks of the designs' fronts in the first chart."""
    return page.locator("#chart-1 .scatterlayer .trace .points path")


def test_hover_tells_every_attribute_and_click_the_row(browser: Any, runs: Any) -> None:
    """Where the pointer is, all columns of the row; a click adds what goes on from there."""
    opened = Opened(browser, runs["every_row"] / FILE)
    page = opened.page
    centred(page, "chart-1")
    box = points(page).last.bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(*middle)
    label = page.locator("#chart-1 .hoverlayer .hovertext")
    label.wait_for()
    told = label.text_content()
    rows = sweep.load(runs["every_row"])
    number = int(re.search(r"row #(\d+)", told)[1])
    row = rows.loc[number]
    assert row["design"] in told
    plain = [name for name in rows.columns if not name.startswith(("time_", "memory_", "energy_", "violation_"))]
    for name in set(plain) - {"run", "design", "changes", "training_tokens"}:
        assert row[name] != row[name] or f"{name} " in told, name
    page.mouse.click(*middle)
    panel = page.locator("output.picked:visible")
    panel.wait_for()
    run = f"runs/{runs['every_row'].name}#{number}"
    assert f"row #{number}" in panel.inner_text()
    assert panel.locator("code").all_inner_texts() == [f"sweep explain '{run}'", f"sweep export '{run}'"]
    opened.close()


def test_what_is_picked_is_shown_everywhere(browser: Any, runs: Any) -> None:
    """A comparison picked at one chart is picked at all; the button turns light to dark and charts with it."""
    opened = Opened(browser, runs["unsure"] / FILE)
    page = opened.page
    lists = page.locator("select[data-choice='What is compared']:visible")
    names = lists.first.locator("option").all_inner_texts()
    assert len(names) == 2
    lists.first.select_option(names[1])
    for one in lists.all():
        offered = one.locator("option").all_inner_texts()
        assert names[1] not in offered or one.evaluate("list => list.selectedOptions[0].textContent") == names[1]
    opened.draw_all()
    axis = page.locator(".chart:visible .xtitle").first
    light = axis.evaluate("text => getComputedStyle(text).fill")
    page.locator("#ground").click()
    page.wait_for_timeout(200)
    assert axis.evaluate("text => getComputedStyle(text).fill") != light
    axes = page.locator("select[data-choice='Axes']:visible").first
    before = page.locator(".chart:visible").first.get_attribute("id")
    axes.select_option(index=1)
    opened.draw_all()
    assert page.locator(".chart:visible").first.get_attribute("id") != before
    opened.close()


def test_hostile_names_do_nothing(browser: Any, runs: Any) -> None:
    """Names of a study that would be elements and scripts are read as they are written."""
    opened = Opened(browser, runs["hostile"] / FILE)
    page = opened.page
    opened.draw_all()
    assert page.locator("img, iframe").count() == 0
    assert HOSTILE in page.locator("main").inner_text()
    assert any(
        "<script>" in text or "</script>" in text for text in page.locator("#chart-1 .legendtext").all_text_contents()
    )
    centred(page, "chart-1")
    point = points(page).last.bounding_box()
    page.mouse.move(point["x"] + point["width"] / 2, point["y"] + point["height"] / 2)
    page.locator("#chart-1 .hoverlayer .hovertext").wait_for()
    assert page.locator("#chart-1 .hoverlayer a, #chart-1 .hoverlayer image").count() == 0
    opened.close()


def test_parallel_coordinates_can_be_brushed(browser: Any, runs: Any) -> None:
    """Dragging along an axis keeps the lines that pass there."""
    opened = Opened(browser, runs["every_row"] / FILE)
    page = opened.page
    chart = page.locator(".chart[aria-label^='Parallel']:visible").first
    name = chart.get_attribute("id")
    centred(page, name)
    axis = chart.locator(".axis-brush").last
    kept = axis.locator(".highlight").get_attribute("stroke-dasharray")
    box = axis.locator("rect.background").bounding_box()
    x = box["x"] + box["width"] / 2
    page.mouse.move(x, box["y"] + 0.2 * box["height"])
    page.mouse.down()
    page.mouse.move(x, box["y"] + 0.5 * box["height"], steps=5)
    page.mouse.up()
    assert axis.locator(".highlight").get_attribute("stroke-dasharray") != kept
    opened.close()
