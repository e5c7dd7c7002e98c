"""Every picture of the README and the docs anew: python docs/figures/gallery.py [RUNS]

Runs the two studies that the pictures are of into the folder RUNS (runs unless given; what is there already is not
computed again), and draws each picture from them. Needs playwright and a Chromium of the system.
"""

from __future__ import annotations

import sys
from pathlib import Path

import ascend_generations
import report_charts

import sweep

HERE = Path(__file__).parent
STUDIES = HERE.parents[1] / "studies"
# study -> for each call of report_charts its words after the run
PICTURES = {
    "ascend_generations": (
        ("report_time=Stacked time", "report_degrees=TP by"),
        ("--pick=Design=910D", "report_tornado=Tornado"),
    ),
    "deepseek_r1_front": (("report_front=Front of tokens per second per chip",),),
}


def main(arguments: list[str]) -> None:
    """Run the studies and draw."""
    out = arguments[0] if arguments else "runs"
    for study, calls in PICTURES.items():
        run = str(sweep.run(STUDIES / f"{study}.toml", out=out)["run"])
        sweep.write_report(run)  # a finished run keeps the page that it has, which older code may have written
        for words in calls:
            report_charts.main([run, *words])
        if study == "ascend_generations":
            (HERE / "ascend_generations.svg").write_text(ascend_generations.figure(Path(run)), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
