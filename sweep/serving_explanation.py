"""A row of serving taken apart: its instances' passes by cause, their memory and energy, what bounds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from model.architecture import Architecture
from model.serving.cost import ServingCost
from model.serving.instance import SHORT, Instance
from model.serving.stack import ServingStack, all_hidden, none_hidden
from model.serving.workload import Balance, Requests
from model.system import System
from model.units import show
from sweep import catalogue, provenance
from sweep.answer import bands_text
from sweep.designs import design_of_row, machine_of_row
from sweep.limits import over_text
from sweep.served import COSTS
from sweep.serving_answer import latency_name, layout_text, targets_of
from sweep.work import TARGETS, Phase, ServingWork

if TYPE_CHECKING:
    from sweep.evidence import Evidence


@dataclass(frozen=True, slots=True)
class ServedExplanation:
    """A row with the costs of its instances: one, or those of prompts and those that decode."""

    row: dict[str, Any]
    system: System
    engine: ServingStack
    architecture: Architecture
    costs: dict[str, ServingCost]  # "serving", "prefill", "decode"
    rumours: tuple[str, ...]
    bands: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)  # 10, 50, 90 % of a rumoured machine
    rumoured_share: float | None = None  # of the variance of tokens/s
    between_s: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # passes, all traffic hidden, and none
    evidence: Evidence | None = None  # what the time rests on; of instances apart, that of those that decode

    def bound_by(self) -> dict[str, str]:
        """The cause that takes most of a pass, of each kind of instance."""
        return {name: max(times, key=lambda part: times[part]) for name, times in self.times().items()}

    def times(self) -> dict[str, dict[str, float]]:
        """Seconds of a pass by cause."""
        return {name: _floats(cost.time.parts()) for name, cost in self.costs.items()}

    def violations(self) -> dict[str, float]:
        """Broken limits and by how much."""
        found = {k.removeprefix("violation_"): v for k, v in self.row.items() if k.startswith("violation_")}
        return {name: float(excess) for name, excess in found.items() if excess is not None and excess > 0}

    def as_json(self) -> dict[str, Any]:
        """The object that `sweep explain --json` prints."""
        row = self.row
        kept = ("system", "model", "phase", "chips", "tokens_per_s", "tokens_per_s_per_chip", "power_w",
                "energy_per_token_j", "ttft_s", "ttft_p99_s", "tpot_s", "tpot_p99_s", "deployment")  # fmt: skip
        return {
            **{name: row[name] for name in kept if name in row},
            "engine": self.engine.name,
            "layout": layout_text(row),
            "time_s": self.times(),
            "memory_bytes": {name: _floats(cost.memory.parts()) for name, cost in self.costs.items()},
            "energy_j": {name: _floats(cost.energy.parts()) for name, cost in self.costs.items()},
            "bound_by": self.bound_by(),
            "feasible": not self.violations(),
            "violations": self.violations(),
            "rumours": list(self.rumours),
            "band": self.bands,
            "rumoured_share": self.rumoured_share,
            "full_overlap_s": {name: ends[0] for name, ends in self.between_s.items()},
            "no_overlap_s": {name: ends[1] for name, ends in self.between_s.items()},
            **(self.evidence.as_json() if self.evidence else {}),
        }

    def headline(self) -> str:
        """The answer in four lines."""
        row = self.row
        latencies = [f"{latency_name(name)} {show(row[name], 's')}" for name in TARGETS if name in row]
        bounds = ", ".join(f"{name} by {part}" for name, part in self.bound_by().items())
        passes = "; ".join(
            f"{name}: full overlap {show(low, 's')} - estimate {show(sum(self.times()[name].values()), 's')} - "
            f"no overlap {show(high, 's')}"
            for name, (low, high) in self.between_s.items()
        )
        broken = over_text(self.violations())
        return (
            f"{row['model']} on {row['chips']} chips of {row['system']} ({self.engine.name}): {layout_text(row)}\n"
            f"{row['tokens_per_s']:,.0f} tokens/s, {row['tokens_per_s_per_chip']:,.0f} a chip, "
            f"{', '.join(latencies)}, {show(row['power_w'], 'W')}, {row['energy_per_token_j']:.3g} J/token\n"
            f"a pass of {passes}\n"
            f"bound: {bounds}; targets: {', '.join(targets_of(row)) or 'none'}; "
            f"{'does NOT meet them: ' + broken if broken else 'met'}"
        )

    def tables(self) -> list[tuple[str, str, dict[str, float]]]:
        """Title, unit and parts of each breakdown."""
        found = []
        for name, cost in self.costs.items():
            found += [
                (f"time of a pass of {name}", "s", _floats(cost.time.parts())),
                (f"memory of the fullest rank of {name}", "byte", _floats(cost.memory.parts())),
                (f"energy of a pass of {name}", "J", _floats(cost.energy.parts())),
            ]
        return found

    def sources(self) -> dict[str, str]:
        """Part of the time -> the number that it follows most, and the kind of its source."""
        of_parts = self.evidence.of_parts if self.evidence else {}
        return {part: f"{one.number.rpartition(': ')[2]} ({one.kind})" for part, one in of_parts.items()}

    def remarks(self) -> list[str]:
        """What a reader must know about the inputs."""
        name = self.system.name
        known = [f"{len(self.rumours)} numbers of {name} are rumours: see sweep show {name}"] if self.rumours else []
        rests = self.evidence.lines() if self.evidence else []
        return [*known, *bands_text(self.bands, self.rumoured_share), *rests]


def explain_served(row: dict[str, Any], extra: Path | None = None, banded: bool = True) -> ServedExplanation:
    """Explain a row of serving; `extra` is a folder of the catalogue entries that it rests on.

    `banded`: with how sure a rumoured machine's numbers are, which takes a second.
    """
    system, engine = machine_of_row(row, extra), catalogue.engine(row["stack"], extra)
    phases: dict[str, tuple[Phase, str]] = {row["phase"]: (row["phase"], "")}
    if row["deployment"] == "disaggregated":
        phases = {"prefill": ("prefill", "prefill_"), "decode": ("decode", "")}
    shape, work = catalogue.architecture(row["model"], extra), work_of(row)
    serving = {name: work.serving(shape, int(row[f"{head}redundant"])) for name, (_, head) in phases.items()}

    def costs_of(how: ServingStack) -> dict[str, ServingCost]:
        return {
            name: COSTS[phase](system, how, serving[name], instance_of(row, head))
            for name, (phase, head) in phases.items()
        }

    costs = costs_of(engine)
    from sweep.certainty import contender, layout_bands
    from sweep.evidence import evidence_of

    kinds = provenance.source_kinds(system.name, extra)
    rumours = tuple(path for path, kind in kinds.items() if kind == "rumour")
    wanted = banded and row["corner"] == "nominal"
    design = design_of_row(row, extra)
    bands, share = layout_bands(design, row) if wanted else ({}, None)
    between = _between(costs, costs_of(all_hidden(engine)), costs_of(none_hidden(engine)))
    rests = evidence_of(contender(design, [row])) if wanted else None
    return ServedExplanation(row, system, engine, shape, costs, rumours, bands, share, between, rests)


def _between(*costs: Mapping[str, ServingCost]) -> dict[str, tuple[float, float]]:
    """The least and the most seconds of each kind of pass."""
    seconds = {name: [sum(_floats(cost[name].time.parts()).values()) for cost in costs] for name in costs[0]}
    return {name: (min(of), max(of)) for name, of in seconds.items()}


def instance_of(row: dict[str, Any], head: str = "") -> Instance:
    """The instance of a row, or its prefill instance."""
    return Instance(**{name: np.asarray(row.get(head + short, 0)) for name, short in SHORT.items()})


def work_of(row: dict[str, Any]) -> ServingWork:
    """What a row serves."""
    requests = Requests(row["input_tokens"], row["output_tokens"], row["prefix_hit"], row["variation"])
    return ServingWork(
        row["model"], row["phase"], requests, row["number_format"], row["expert_format"], row["attention_format"],
        row["attention_core"], row["kv_format"], row["acceptance"], Balance(row["balance"], row["balance_exponent"]),
        load=row["load_tokens_per_s"] or None,
        targets=tuple((name, row[f"target_{name}"]) for name in TARGETS if row[f"target_{name}"]),
    )  # fmt: skip


def _floats(parts: dict[str, Any]) -> dict[str, float]:
    return {name: float(np.asarray(value).reshape(-1)[0]) for name, value in parts.items()}
