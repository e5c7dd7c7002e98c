"""Draws docs/figures/ascend_generations.svg from a run of the headline study: throughput against power, by design.

Usage: python docs/figures/ascend_generations.py RUN
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

COLOURS = {"910C CloudMatrix": "#c7362f", "910D": "#e58a2b", "920": "#c9a227", "H20": "#7a8b99", "H800": "#3b6ea5",
           "GB200 NVL72": "#3d8a4e"}  # fmt: skip
WIDTH, HEIGHT, LEFT, TOP, GAP = 430, 330, 62, 58, 74


@dataclass(frozen=True, slots=True)
class Point:
    """The best layout of a design at a size, with the throughput at both ends of its machine's ranges."""

    chips: int
    power_w: float
    tokens_per_s: float
    low: float
    high: float


def points(run: Path, model: str, number_format: str) -> dict[str, list[Point]]:
    """Best rows of every design, smallest machine first."""
    import pyarrow.parquet as pq

    table = pq.read_table(run / "designs").to_pandas()
    table = table[(table.model == model) & (table.number_format == number_format) & table.feasible]
    best = table.sort_values(["tokens_per_s", "layout_id"], ascending=[False, True])
    best = best.drop_duplicates(["design", "corner", "chips"])
    found: dict[str, list[Point]] = {}
    for design in COLOURS:
        mine = best[best.design == design].set_index(["corner", "chips"])
        for chips in sorted(set(best[(best.design == design) & (best.corner == "nominal")].chips)):
            here = mine.loc[("nominal", chips)]
            ends = [
                float(mine.loc[(corner, chips)].tokens_per_s) if (corner, chips) in mine.index else here.tokens_per_s
                for corner in ("low", "high")
            ]
            found.setdefault(design, []).append(Point(chips, here.power_w, here.tokens_per_s, *ends))
    return found


def _scale(low: float, high: float, start: float, length: float) -> Callable[[float], float]:
    return lambda value: start + length * (math.log10(value) - math.log10(low)) / (math.log10(high) - math.log10(low))


def _ticks(low: float, high: float) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [m * 10.0**d for d in decades for m in (1, 3) if low <= m * 10.0**d <= high]


def _short(value: float) -> str:
    for scale, letter in ((1e6, "M"), (1e3, "k")):
        if value >= scale:
            return f"{value / scale:g}{letter}"
    return f"{value:g}"


def panel(title: str, data: dict[str, list[Point]], left: float) -> list[str]:
    """One chart: tokens/s against megawatts, both logarithmic, with the range of rumoured designs."""
    everything = [p for line in data.values() for p in line]
    x_low, x_high = min(p.power_w for p in everything) * 0.8, max(p.power_w for p in everything) * 1.25
    y_low, y_high = min(p.low for p in everything) * 0.8, max(p.high for p in everything) * 1.25
    x, y = _scale(x_low, x_high, left, WIDTH), _scale(y_low, y_high, TOP + HEIGHT, -HEIGHT)
    out = [f'<text x="{left}" y="{TOP - 14}" class="t">{title}</text>']
    for value in _ticks(x_low, x_high):
        out += [f'<line x1="{x(value):.1f}" y1="{TOP}" x2="{x(value):.1f}" y2="{TOP + HEIGHT}" class="g"/>',
                f'<text x="{x(value):.1f}" y="{TOP + HEIGHT + 16}" class="a m">{_short(value)}W</text>']  # fmt: skip
    for value in _ticks(y_low, y_high):
        out += [f'<line x1="{left}" y1="{y(value):.1f}" x2="{left + WIDTH}" y2="{y(value):.1f}" class="g"/>',
                f'<text x="{left - 6}" y="{y(value) + 4:.1f}" class="a e">{_short(value)}</text>']  # fmt: skip
    for design, line in data.items():
        out += _line(design, line, x, y)
    return out


def _line(design: str, line: Sequence[Point], x: Callable[[float], float], y: Callable[[float], float]) -> list[str]:
    colour, rumoured = COLOURS[design], any(p.low != p.high for p in line)
    out = []
    if rumoured:
        band = [(x(p.power_w), y(p.high)) for p in line] + [(x(p.power_w), y(p.low)) for p in reversed(line)]
        shape = " ".join(f"{a:.1f},{b:.1f}" for a, b in band)
        out.append(f'<polygon points="{shape}" fill="{colour}" opacity="0.13"/>')
    path = " ".join(f"{x(p.power_w):.1f},{y(p.tokens_per_s):.1f}" for p in line)
    dash = ' stroke-dasharray="5 4"' if rumoured else ""
    out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>')
    out += [f'<circle cx="{x(p.power_w):.1f}" cy="{y(p.tokens_per_s):.1f}" r="3" fill="{colour}"/>' for p in line]
    return out


def figure(run: Path) -> str:
    """The whole picture as SVG text."""
    total = LEFT + 2 * WIDTH + GAP + 20
    legend, at = [], float(LEFT)
    for design, colour in COLOURS.items():
        label = f"{design} (rumour)" if design in ("910D", "920") else design
        legend += [f'<rect x="{at:.0f}" y="12" width="14" height="5" fill="{colour}"/>',
                   f'<text x="{at + 19:.0f}" y="19" class="a">{label}</text>']  # fmt: skip
        at += 40 + 7.2 * len(label)
    style = ("text{font-family:Helvetica,Arial,sans-serif;fill:#222}.t{font-size:14px;font-weight:600}"
             ".a{font-size:12px}.m{text-anchor:middle}.e{text-anchor:end}.g{stroke:#ddd;stroke-width:1}")  # fmt: skip
    body = [
        *legend,
        *panel("DeepSeek-V3, bf16: tokens/s against power", points(run, "deepseek-v3", "bf16"), LEFT),
        *panel(
            "Llama 3.1 405B, bf16: tokens/s against power", points(run, "llama-3.1-405b", "bf16"), LEFT + WIDTH + GAP
        ),
    ]
    size = f'width="{total}" height="{TOP + HEIGHT + 30}" viewBox="0 0 {total} {TOP + HEIGHT + 30}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{style}</style>'
    return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *body, "</svg>", ""])


if __name__ == "__main__":
    (Path(__file__).parent / "ascend_generations.svg").write_text(figure(Path(sys.argv[1])), encoding="utf-8")
