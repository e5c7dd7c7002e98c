"""How far a run is: one live block on a terminal, a plain line now and then elsewhere. Always on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from model import units
from sweep.columns import QUANTITIES
from sweep.search import BY_MEMORY

if TYPE_CHECKING:
    from rich.live import Live

_PLAIN_EVERY_S = 10.0
_LIVE_EVERY_S = 0.2


class Progress:
    """Counts what tasks report. `total` is in cases."""

    def __init__(self, name: str, objective: str, total: int) -> None:
        self.name, self.objective, self.total = name, objective, total
        self.done = 0
        self.failed = 0
        self.layouts = 0
        self.looked_at = 0  # evaluated, or known not to fit
        self.feasible = 0
        self.best: Mapping[str, Any] | None = None
        self._began = time.monotonic()
        self._shown = 0.0
        self._live: Live | None = None

    def __enter__(self) -> Progress:
        """Start showing."""
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(stderr=True), auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(self, *failure: object) -> None:
        """Stop showing."""
        if self._live is not None:
            self._live.stop()

    def saw(self, report: Mapping[str, Any]) -> None:
        """Count a task's report."""
        self.layouts += report.get("layouts", 0)
        self.looked_at += report.get("evaluated", 0) + report.get("pruned", {}).get(BY_MEMORY, 0)
        self.feasible += report.get("feasible", 0)
        best = report.get("best")
        if best is not None and self._beats(best):
            self.best = best

    def _beats(self, row: Mapping[str, Any]) -> bool:
        sign = QUANTITIES[self.objective].sign
        return self.best is None or sign * row[self.objective] < sign * self.best[self.objective]

    def lines(self) -> tuple[str, str]:
        """The two lines of the block."""
        seconds = max(time.monotonic() - self._began, 1e-3)
        share = self.feasible / self.looked_at if self.looked_at else 0.0
        rate = units.show(self.layouts / seconds, "layout/s")
        first = (
            f"{self.name}  {self.done}/{self.total} cases  {clock(seconds)}  {self.layouts:,} layouts  {rate}  "
            f"feasible {share:.1%}"
        ) + (f"  {self.failed} FAILED" if self.failed else "")
        if self.best is None:
            return first, "best so far: none"
        row = self.best
        value = units.show(row[self.objective], QUANTITIES[self.objective].dimension.unit)
        return first, f"best so far: {value}  {row['design']}  {row['chips']} chips  {row['model']}"

    def tick(self) -> None:
        """Show, unless that was done a moment ago."""
        now = time.monotonic()
        if now - self._shown < (_LIVE_EVERY_S if self._live else _PLAIN_EVERY_S):
            return
        if self._shown == 0.0 and self._live is None and now - self._began < _PLAIN_EVERY_S:
            return  # a run of a few seconds needs no lines
        self._shown = now
        if self._live is not None:
            from rich.text import Text

            filled = int(40 * self.done / max(self.total, 1))
            bar = Text("━" * filled, style="green") + Text("━" * (40 - filled), style="dim")
            self._live.update(Text("\n").join([bar, *(Text(line) for line in self.lines())]), refresh=True)
        else:
            sys.stderr.write("  ".join(self.lines()) + "\n")
            sys.stderr.flush()


def clock(seconds: float) -> str:
    """Seconds as m:ss, or h:mm:ss."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
