"""Studies of serving: what their files say, turned into works with targets and axes of instances."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from model.serving.workload import Balance, Requests
from sweep import catalogue
from sweep.axes import InstanceAxes
from sweep.columns import SETS
from sweep.designs import HowServed
from sweep.errors import nearest
from sweep.serving_schema import ServingDesignTable, ServingStudyTable
from sweep.study_checker import Checker
from sweep.study_schema import DesignTable, StudyTable
from sweep.work import ServingWork, ServingWorkload, Workload


class ServingChecker(Checker):
    """Turns a table of a serving study into a study."""

    form = ServingStudyTable

    def axes(self, table: StudyTable) -> Any:
        """What the instances vary over."""
        return InstanceAxes(**{f.name: getattr(table.layout, f.name) for f in fields(InstanceAxes)})

    def own_axes(self, table: StudyTable, given: ServingDesignTable) -> InstanceAxes | None:
        """The study's axes with what a design says of its own."""
        if given.layout is None:
            return None
        own = {name: getattr(given.layout, name) for name in given.layout.model_fields_set}
        merged: InstanceAxes = replace(self.axes(table), **own)
        return merged

    def stack(self, key: str, given: DesignTable) -> str | None:
        """The design's engine, or the system's default."""
        assert isinstance(given, ServingDesignTable), "the table has the form of this checker"
        if given.stack is not None:
            self.wrong(f"{key}.stack", "is of training", given.stack, "a design that serves has an engine")
            return None
        if given.engine is not None and not self.known(f"{key}.engine", given.engine, "engines"):
            return None
        return given.engine or catalogue.default_engine(given.system, self.extra)

    def served(self, table: StudyTable, given: DesignTable) -> HowServed:
        """How the design serves where it is not as the workload does."""
        assert isinstance(given, ServingDesignTable), "the table has the form of this checker"
        own = (given.expert_format, given.attention_format, given.kv_format, given.redundant_experts)
        return HowServed(*own, self.own_axes(table, given))

    def workloads(self, table: StudyTable) -> tuple[Workload, ...]:
        """What is served, at every target."""
        assert isinstance(table, ServingStudyTable), "the table has the form of this checker"
        traffic, how = table.traffic, table.serving
        if table.outer is not None and "batch" in table.outer.variables:
            self.wrong("outer.variables.batch", "is of training; the batch of an instance follows from its targets")
        if traffic.rate is not None and traffic.load is not None:
            self.wrong("traffic.load", "a study has a load or a rate of requests, not both", None, "leave out one")
        tokens = traffic.input_tokens if table.phase == "prefill" else traffic.output_tokens
        load = traffic.load if traffic.rate is None else traffic.rate * tokens
        self.phase(table)
        workloads: list[Workload] = []
        for i, one in enumerate(table.workloads):
            self.known(f"workloads[{i}].model", one.model, "models")
            first = ServingWork(
                one.model,
                table.phase,
                Requests(traffic.input_tokens, traffic.output_tokens, traffic.prefix_hit, traffic.variation),
                how.weight_format[0],
                how.expert_format,
                how.attention_format,
                how.attention_core,
                how.kv_format,
                how.acceptance,
                Balance(how.balance, how.balance_exponent),
                how.redundant_experts,
                how.draft_tokens,
                load,
            )
            targets = {f"{name}_s": getattr(table.targets, name) for name in type(table.targets).model_fields}
            given = tuple((name, limits) for name, limits in targets.items() if limits)
            workloads.append(ServingWorkload(first, how.weight_format, given))
        return tuple(workloads)

    def phase(self, table: ServingStudyTable) -> None:
        """Note targets and deployments that the phase does not have."""
        known = SETS[table.phase].quantities
        for name in type(table.targets).model_fields:
            if getattr(table.targets, name) and f"{name}_s" not in known:
                self.wrong(f"targets.{name}", f'phase = "{table.phase}" has no such latency', None, "leave it out")
        given = {"layout": table.layout} | {f"designs[{i}].layout": one.layout for i, one in enumerate(table.designs)}
        for key, layout in given.items():
            if layout is not None and table.phase != "serving" and layout.deployment != (0,):
                self.wrong(f"{key}.deployment", 'is for phase = "serving"', None, "leave it out")
        for key, names in (
            ("search.objective", (table.search.objective,)),
            ("search.pareto", table.search.pareto),
            ("outer.objectives", table.outer.objectives if table.outer else ()),
            ("uncertainty.quantities", table.uncertainty.quantities if table.uncertainty else ()),
        ):
            for name in names:
                if name not in known:
                    rule = f'is no quantity of phase = "{table.phase}"'
                    self.wrong(key, rule, name, nearest(name, known))
