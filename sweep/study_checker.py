"""Turns a study file that fits its form into a study: names, numbers and sizes checked, every problem collected."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from model import units
from model.money import capital
from model.power import rated_power
from model.reliability import mtbf
from model.system import System
from sweep import catalogue
from sweep.axes import Axes
from sweep.columns import SETS
from sweep.designs import (
    DEFAULT_OPERATION,
    DEFAULT_PRICES,
    Design,
    HowServed,
    changed,
    dimension_of,
    machine,
    number_of,
)
from sweep.errors import InputError, Problem, nearest, unique
from sweep.explanation import layout_fields
from sweep.price_basis import unknown_names
from sweep.samplers import SAMPLERS
from sweep.study import (
    OUTER_PLAIN,
    Outer,
    Search,
    Sense,
    Study,
    Uncertainty,
    Variable,
    divides_well,
    round_batch,
)
from sweep.study_schema import (
    MOST_CHIPS,
    ROWS,
    DesignTable,
    OuterTable,
    RangeTable,
    SamplerName,
    SearchTable,
    StudyTable,
    bound,
)  # fmt: skip
from sweep.work import TrainingWorkload, Workload

_SIZES = ("chips", "power", "budget")
# Records of a machine that a study names: key, kind in the catalogue, and which where it names none.
_RECORDS: tuple[tuple[str, catalogue.Kind, str], ...] = (
    ("prices", "prices", DEFAULT_PRICES),
    ("operation", "operations", DEFAULT_OPERATION),
)
_NEIGHBOURS = 0.5  # as measured by benchmarks/optuna_search.py; a sampler that only spreads is left to spread


class Checker:
    """Turns a table that fits the schema into a study, collecting what the names and numbers in it break."""

    form: type[StudyTable] = StudyTable

    def __init__(self, shown: str, extra: Path | None) -> None:
        self.shown = shown
        self.extra = extra
        self.problems: list[Problem] = []
        self.notes: list[str] = []

    def wrong(self, key: str, rule: str, value: object = None, remedy: str = "") -> None:
        """Note a problem."""
        self.problems.append(Problem(self.shown, key, rule, value, remedy))

    def known(self, key: str, name: object, kind: catalogue.Kind) -> bool:
        """Note a problem unless the catalogue has an entry of this name."""
        names = catalogue.names(kind, self.extra if self.extra and self.extra.is_dir() else None)
        if isinstance(name, str) and name not in names:
            self.wrong(key, f"no {kind[:-1]} of this name in the catalogue", name, nearest(name, names))
            return False
        return True

    def names_of_raw(self, raw: Mapping[str, Any]) -> list[Problem]:
        """Unknown names in a file that does not fit the schema, so that all is said at once."""
        for key, kind, _ in _RECORDS:
            self.known(key, raw.get(key), kind)
        named: list[tuple[str, str, catalogue.Kind]] = [
            ("workloads", "model", "models"),
            ("designs", "system", "systems"),
            *(("designs", key, kind) for key, kind, _ in _RECORDS),
        ]
        named += [("designs", "stack", "stacks"), ("designs", "engine", "engines")]
        for table, key, kind in named:
            entries = raw.get(table)
            for i, one in enumerate(entries if isinstance(entries, list) else []):
                if isinstance(one, dict):
                    self.known(f"{table}[{i}].{key}", one.get(key), kind)
        return self.problems

    def problems_of_raw(self, raw: dict[str, Any]) -> list[Problem]:
        """What names and numbers break in a file that does not fit the schema, as far as they can be read."""
        from sweep.study_repair import repaired, still_true

        table, spoiled = repaired(raw, self.form)
        if table is None or ("catalogue",) in spoiled:
            return self.names_of_raw(raw)
        try:
            self.study(table, "", "")
        except InputError as failure:
            self.problems = still_true(failure.problems, spoiled)
        return self.names_of_raw(raw)

    def study(self, table: StudyTable, text: str, name: str) -> Study:
        """The whole study. Raises InputError with every problem."""
        if table.catalogue is not None and self.extra is None:
            rule, remedy = "must lie in the folder of the study file, or below it", "put the entries beside the study"
            self.wrong("catalogue", rule, table.catalogue, remedy)
            raise InputError(self.problems)
        if self.extra is not None and not self.extra.is_dir():
            self.wrong("catalogue", "must be a folder of catalogue entries", table.catalogue)
            raise InputError(self.problems)
        first, *more = [*(name for name in _SIZES if getattr(table, name) is not None), ""]
        for name in filter(None, more):
            self.wrong(name, f"sizes are given once, and {first} gives them", None, f"leave out {name}")
        designs = self.designs(table)
        workloads = self.workloads(table)
        constraints = self.constraints(table.constraints, SETS[table.phase].quantities)
        outer = self.outer(table, table.outer, designs) if table.outer else None
        uncertainty = self.uncertainty(table)
        search = self.search(table)
        labels = _labels(table)
        if table.reference is not None and table.reference not in labels:
            self.wrong("reference", "no design has this label", table.reference, nearest(table.reference, labels))
        if not self.problems:
            self.must_be_known(table, designs)
        if self.problems:
            raise InputError(unique(self.problems))
        return Study(
            name=table.name or name,
            question=table.question.strip(),
            seed=table.seed,
            workloads=workloads,
            designs=designs,
            axes=self.axes(table),
            search=search,
            constraints=constraints,
            outer=outer,
            phase=table.phase,
            reference=table.reference or labels[0],
            corners=table.corners,
            text=text,
            notes=tuple(self.notes),
            uncertainty=uncertainty,
        )

    def must_be_known(self, table: StudyTable, designs: tuple[Design, ...]) -> None:
        """Note a problem for every quantity that the study decides by and that a design does not have."""
        search = table.search
        asked: dict[str, Iterable[str]] = {
            "search.objective": (search.objective,),
            "search.pareto": search.pareto if search.rows.startswith("pareto") else (),
            "constraints": table.constraints,
            "outer.objectives": table.outer.objectives if table.outer else (),
            "uncertainty.quantities": table.uncertainty.quantities if table.uncertainty else (),
        }
        for design in designs:
            lacking = not_known(machine(design))
            for key, names in asked.items():
                for name in names:
                    if name in lacking:
                        self.wrong(key, f"{design.label} {lacking[name]}", name, "leave it out, or the design")

    def uncertainty(self, table: StudyTable) -> Uncertainty | None:
        """How sure the answer is to be made; of the objective where no quantity is named."""
        given = table.uncertainty
        if given is None:
            return None
        if table.outer is not None:
            self.wrong("uncertainty", "is of the designs as they are, and [outer] varies them", None, "leave out one")
        if "chips_used" in given.quantities:
            rule = "follows from what an instance does"
            self.wrong("uncertainty.quantities", rule, "chips_used", "write 'tokens_per_s_per_chip'")
        objective = table.search.objective
        quantities = given.quantities or ("tokens_per_s_per_chip" if objective == "chips_used" else objective,)
        return Uncertainty(given.points, given.layouts, quantities, given.sensitivities)

    def axes(self, table: StudyTable) -> Any:
        """What the layouts vary over."""
        return Axes(**{f.name: getattr(table.layout, f.name) for f in fields(Axes)})

    def stack(self, key: str, given: DesignTable) -> str | None:
        """The design's software, or the system's default; None where there is no such."""
        if given.stack is not None and not self.known(f"{key}.stack", given.stack, "stacks"):
            return None
        return given.stack or catalogue.default_stack(given.system, self.extra)

    def served(self, table: StudyTable, given: DesignTable) -> HowServed:
        """How the design serves."""
        return HowServed()

    def designs(self, table: StudyTable) -> tuple[Design, ...]:
        """Designs with their defaults filled in."""
        designs: list[Design] = []
        labels = _labels(table)
        for key, kind, _ in _RECORDS:
            self.known(key, getattr(table, key), kind)
        for i, one in enumerate(table.designs):
            key = f"designs[{i}]"
            chips = tuple(one.chips or table.chips or ())
            sized = table.power or table.budget or (table.outer and "chips" in table.outer.variables)
            if not chips and not sized:
                remedy = "give chips = [...] here or at the top of the file, or power or budget at the top"
                self.wrong(f"{key}.chips", "missing", None, remedy)
            label = labels[i]
            if label in labels[:i]:
                self.wrong(f"{key}.label", "labels must differ", label, "give this design a label of its own")
            known = self.known(f"{key}.system", one.system, "systems")
            records = self.records_of(key, table, one)
            changes = self.changes(key, one.change)
            stack = self.stack(key, one) if known else None
            if stack is None or records is None:
                continue
            own = (one.number_format, one.power_cap, changes, self.extra, self.served(table, one))
            design = Design(label, one.system, stack, chips, *own, *records)
            if self.applies(key, design):
                designs.append(design if chips else self.sized(table, design))
        return tuple(designs)

    def records_of(self, key: str, table: StudyTable, given: DesignTable) -> tuple[str, str] | None:
        """Price basis and operation of a design; None where a name is unknown.

        Where no basis is named and the default has no price of the machine, the design has no prices.
        """
        before = len(self.problems)
        found = []
        for name, kind, default in _RECORDS:
            own = getattr(given, name)
            found.append(own or getattr(table, name) or default)
            self.known(f"{key}.{name}" if own is not None else name, own if own is not None else found[-1], kind)
        known = len(self.problems) == before
        if known and not (given.prices or table.prices):
            found[0] = self.default_prices(given.system)
        elif known:
            self.problems += [one for one in unknown_names(found[0], self.extra) if one not in self.problems]
        return (found[0], found[1]) if known else None

    def default_prices(self, system: str) -> str:
        """The default basis; none where it lacks a price of a machine of one's own, which a note then says."""
        try:
            catalogue.system(system, extra=self.extra, prices=DEFAULT_PRICES)
        except InputError as failure:  # of a machine that cannot be read it is told once more as the design is made
            self.notes.append(f"{system} has no prices: {failure.problems[0].sentence()}")
            return ""
        return DEFAULT_PRICES

    def sized(self, table: StudyTable, design: Design) -> Design:
        """The design at sizes that the study's power feeds, or that its budget buys: as many whole units."""
        unit, system = machine(design).unit_packages, machine(design)
        if table.budget and "capital_usd" in not_known(system):
            self.wrong("budget", f"{design.label} {not_known(system)['capital_usd']}", None, "give chips or power")
            return design
        each = float(rated_power(system, unit).total) if table.power else float(capital(system, unit).total)
        name, limits, unit_of = ("power", table.power, "W") if table.power else ("budget", table.budget or [], "USD")
        sizes = []
        for limit in limits or []:
            most = int(limit / each)
            if most * unit > MOST_CHIPS:
                rule = f"{design.label}: a study has {MOST_CHIPS:,} chips at most, and that is more"
                self.wrong(name, rule, units.show(limit, unit_of), "give less")
                continue
            if not most:
                rule = f"{design.label}: one unit of {unit} chips takes {units.show(each, unit_of)}"
                self.wrong(name, rule, units.show(limit, unit_of), "give more")
                continue
            count = divides_well(most) if table.phase == "training" else most
            sizes.append(count * unit)
            self.notes.append(
                f"{design.label}: {units.show(limit, unit_of)} "
                f"{'feed' if table.power else 'buy'} {most:,} units of {unit}, {units.show(each, unit_of)} each"
                + (f"; {count:,} are taken, which divide well" if count < most else "")
            )
        return replace(design, chips=tuple(sizes))

    def changes(self, key: str, given: Mapping[str, Any]) -> tuple[tuple[str, float], ...]:
        """Changes to a machine, in SI units."""
        read_changes = []
        for path, value in given.items():
            try:
                read_changes.append((path, number_of(path, value)))
            except ValueError as failure:
                self.wrong(f'{key}.change."{path}"', str(failure))
        return tuple(read_changes)

    def applies(self, key: str, design: Design) -> bool:
        """Whether the changes name parts that the machine has; note a problem where they do not."""
        try:
            system = machine(replace(design, changes=(), power_cap_w=None))
        except InputError as failure:
            self.problems += failure.problems
            return False
        before = len(self.problems)
        for path, value in design.changes:
            try:
                changed(system, path, value)
            except ValueError as failure:
                self.wrong(f'{key}.change."{path}"', str(failure))
        return len(self.problems) == before

    def workloads(self, table: StudyTable) -> tuple[Workload, ...]:
        """Workloads, with a batch in tokens turned into sequences."""
        workloads: list[Workload] = []
        for i, one in enumerate(table.workloads):
            key = f"workloads[{i}]"
            self.known(f"{key}.model", one.model, "models")
            batch = one.batch
            if isinstance(batch, float):
                batch = round_batch(batch / one.sequence)
                self.notes.append(
                    f"{one.model}: a batch of {units.show(one.batch, 'token')} is taken as {batch} sequences, "
                    f"{batch * one.sequence / 1e6:.4g} Mtoken, which divides well"
                )
            asked = (one.model, one.sequence, batch, one.number_format, one.expert_imbalance, one.tokens or 0.0)
            workloads.append(TrainingWorkload(*asked))
        return tuple(workloads)

    def constraints(self, given: Mapping[str, Any], known: tuple[str, ...]) -> tuple[tuple[str, Sense, float], ...]:
        """Bounds on quantities of the study's phase, in SI units."""
        bounds = []
        for name, text in given.items():
            try:
                bounds.append(bound(name, text, known))
            except ValueError as failure:
                self.wrong(f"constraints.{name}", str(failure))
        return tuple(bounds)  # type: ignore[arg-type]

    def search(self, table: StudyTable) -> Search:
        """How to search, with "top:K" taken apart."""
        given = table.search
        match = ROWS.match(given.rows)
        top = int(match.group(2)) if match and match.group(2) else 1
        rows = given.rows.partition(":")[0]
        if rows == "pareto" and len(given.pareto) < 2:
            self.wrong(
                "search.pareto", "rows = 'pareto' needs at least two quantities", list(given.pareto),
                "write pareto = ['tokens_per_s', 'power_w']",
            )  # fmt: skip
        methods = ("exact", "optuna") if given.method == "both" else (given.method,)
        if "optuna" in methods:
            self.sampler("search", given.sampler, len(given.pareto) if rows == "pareto" else 1)
            self.count("search", given.trials, len(given.baselines))
        neighbours = given.neighbours
        if neighbours is None:
            neighbours = _NEIGHBOURS if SAMPLERS[given.sampler].searches else 0.0
        return Search(
            given.objective, given.pareto, rows, top, methods, given.prune, given.trials, given.generation,
            given.sampler, neighbours, self.layouts(given),
        )  # fmt: skip

    def sampler(self, table: str, name: SamplerName, objectives: int) -> None:
        """Note a problem where a sampler cannot do what it is asked to."""
        if objectives > 1 and not SAMPLERS[name].several:
            others = ", ".join(one.name for one in SAMPLERS.values() if one.several and one.searches)
            self.wrong(f"{table}.sampler", "takes a single objective", name, f"for {objectives} take one of {others}")

    def count(self, table: str, trials: int, baselines: int) -> None:
        """Note a problem where the baselines alone are more than the trials."""
        if baselines > trials:
            self.wrong(f"{table}.baselines", f"{table}.trials = {trials} must be at least their number", baselines)

    def layouts(self, given: SearchTable) -> tuple[str, ...]:
        """Baselines among the layouts; whether they are legal is known for each case alone."""
        for i, text in enumerate(given.baselines):
            try:
                layout_fields(text)
            except InputError as failure:
                for one in failure.problems:
                    self.wrong(f"search.baselines[{i}]", f"{one.key}: {one.rule}", one.value, one.remedy)
        return tuple(given.baselines)

    def outer(self, table: StudyTable, given: OuterTable, designs: tuple[Design, ...]) -> Outer:
        """Outer variables in SI units."""
        variables: list[Variable] = []
        for name in _SIZES[1:]:
            if getattr(table, name) is not None and "chips" in given.variables:
                self.wrong(
                    name, "sizes are given once, and outer.variables.chips gives them", None, f"leave out {name}"
                )
        self.sampler("outer", given.sampler, len(given.objectives))
        self.count("outer", given.trials, len(given.baselines))
        for name, values in given.variables.items():
            key = f"outer.variables.{name}" if name in OUTER_PLAIN else f'outer.variables."{name}"'
            try:
                dimension = None if name in OUTER_PLAIN else dimension_of(name)  # raises where there is no such path
                if name.endswith(".ranks_in_use"):
                    raise ValueError("sets the unit that sizes are whole numbers of: give it in a design's change")
                variables.append(_variable(name, values))
                for design in designs if dimension is not None else ():
                    if not given.designs or design.label in given.designs:
                        changed(machine(design), name, 1.0)
                if given.sampler == "brute_force" and not (variables[-1].choices or variables[-1].whole):
                    self.wrong(key, "brute_force goes through lists, and this is a range", None, "list the choices")
            except ValueError as failure:
                self.wrong(key, str(failure))
        baselines = [self.baseline(i, one, given, variables) for i, one in enumerate(given.baselines)]
        labels = _labels(table)
        for i, label in enumerate(given.designs):
            if label not in labels:
                self.wrong(f"outer.designs[{i}]", "no design has this label", label, nearest(label, labels))
        return Outer(
            given.trials, given.generation, given.sampler, given.objectives, tuple(variables), tuple(baselines),
            tuple(given.designs),
        )  # fmt: skip

    def baseline(
        self, i: int, values: Mapping[str, Any], given: OuterTable, variables: list[Variable]
    ) -> tuple[tuple[str, float], ...]:
        """Values of all outer variables, in SI units."""
        key = f"outer.baselines[{i}]"
        for name in values:
            if name not in given.variables:
                self.wrong(f"{key}.{name}", "not one of the study's variables", None, nearest(name, given.variables))
        found = []
        for variable in variables:
            if variable.name not in values:
                self.wrong(key, f"{variable.name} is missing; a baseline gives every variable")
                continue
            try:
                value = variable.number(values[variable.name])
                if not variable.offers(value):
                    raise ValueError(
                        f"{values[variable.name]!r} is not among what the study offers: take one of its values"
                    )
                found.append((variable.name, value))
            except ValueError as failure:
                name = variable.name if variable.whole else f'"{variable.name}"'
                self.wrong(f"{key}.{name}", str(failure))
        return tuple(found)


def not_known(system: System) -> dict[str, str]:
    """Quantities that a machine does not have, each with the reason."""
    lacking: dict[str, str] = {}
    if system.prices is None:
        lacking |= dict.fromkeys(("capital_usd", "usd_per_chip_hour", "usd_per_million_tokens"), "has no prices")
    elif system.prices.rent_usd_per_s is not None:
        lacking["capital_usd"] = "is rented: nothing is bought"
    if system.racks is None:
        lacking |= dict.fromkeys(("racks", "floor_m2"), "has no record of its racks")
    if np.isinf(mtbf(system, 1)):
        lacking["mtbf_s"] = "never fails as it is run"
    return lacking


def _labels(table: StudyTable) -> list[str]:
    """What the designs are called, those with mistakes too."""
    return [one.label or one.system for one in table.designs]


def _variable(name: str, values: list[Any] | RangeTable) -> Variable:
    """One outer variable. Raises ValueError with the rule that it breaks."""
    number = Variable(name).number
    if isinstance(values, list):
        if not values:
            raise ValueError("needs at least one choice")
        return Variable(name, choices=tuple(dict.fromkeys(number(value) for value in values)))
    low, high = number(values.low), number(values.high)
    if values.log and low == 0:
        raise ValueError(f"low = {values.low!r} has no logarithm; it must be over 0, or log = false")
    if not low < high:
        raise ValueError(f"low must be below high, but got low = {values.low!r}, high = {values.high!r}")
    return Variable(name, low=low, high=high, log=values.log)
