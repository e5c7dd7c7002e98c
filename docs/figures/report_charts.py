"""Pictures of charts as they stand in a run's report: python docs/figures/report_charts.py RUN NAME=CHART ...

Each chart whose name begins with CHART (as those who do not see it are told) is saved as docs/figures/NAME.png, from a
Chromium of the system, driven by playwright. --dark turns the ground dark, --wide=PIXELS sets the width, and
--pick=LIST=NAME picks a name in the lists of that label first.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

HERE = Path(__file__).parent


def main(arguments: list[str]) -> None:
    """Save the charts that are asked for."""
    options = [one for one in arguments if one.startswith("--")]
    run, *charts = [one for one in arguments if not one.startswith("--")]
    width = next((int(one.partition("=")[2]) for one in options if one.startswith("--wide=")), 1000)
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        ground = "dark" if "--dark" in options else "light"
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=ground, device_scale_factor=1.5)
        page.goto((Path(run).resolve() / "report.html").as_uri())
        for one in options:
            if one.startswith("--pick="):
                _, label, picked = one.split("=")
                page.locator(f"select[data-choice='{label}']:visible").first.select_option(picked)
        for one in charts:
            name, _, title = one.partition("=")
            chart = page.locator(f".chart[aria-label^='{title}']:visible").first
            chart.scroll_into_view_if_needed()
            page.locator(f"#{chart.get_attribute('id')}[data-drawn]").wait_for()
            page.wait_for_timeout(500)
            chart.screenshot(path=HERE / f"{name}.png")
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1:])
