"""A study: the question, the designs, what is trained on them, and how to search.

A study file is TOML. It is read here, checked wholly, and every problem is reported at once; what comes out is a frozen
record in SI units.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from model import units
from model.money import capital
from model.power import rated_power
from sweep import catalogue
from sweep.axes import Axes, InstanceAxes
from sweep.columns import SETS
from sweep.designs import (
    DEFAULT_OPERATION,
    DEFAULT_PRICES,
    Design,
    HowServed,
    changed,
    dimension_of,
    machine,
)
from sweep.errors import InputError, Problem, nearest, unique
from sweep.explanation import layout_fields
from sweep.samplers import SAMPLERS
from sweep.study_schema import (
    MOST,
    ROWS,
    DesignTable,
    OuterTable,
    RangeTable,
    SamplerName,
    SearchTable,
    StudyTable,
    bound,
    positive,
    read,
)  # fmt: skip
from sweep.work import Phase, TrainingWorkload, Workload

Sense = Literal["<=", ">="]
# Sequences of a batch given in tokens: a multiple of a power of two that leaves room for factors 3 and 5.
_ODD_FACTORS = (1, 3, 5, 9, 15, 45)
OUTER_PLAIN = ("chips", "batch")
_NEIGHBOURS = 0.5  # as measured by benchmarks/optuna_search.py; a sampler that only spreads is left to spread


@dataclass(frozen=True, slots=True)
class Search:
    """What to look for in the layouts of a case, and which rows to keep."""

    objective: str = "tokens_per_s"
    pareto: tuple[str, ...] = ()
    rows: str = "best"  # best, top, pareto, feasible, all
    top: int = 1
    methods: tuple[str, ...] = ("exact",)
    prune: bool = True
    trials: int = 256
    generation: int = 16
    sampler: SamplerName = "nsga2"
    neighbours: float = 0.0  # share of a generation that is proposed beside the best layouts so far
    baselines: tuple[str, ...] = ()  # layouts that are tried first, as texts


@dataclass(frozen=True, slots=True)
class Variable:
    """An outer variable: a list of choices, or a range."""

    name: str
    choices: tuple[float, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False

    @property
    def whole(self) -> bool:
        """Whether it counts something."""
        return self.name in OUTER_PLAIN

    def number(self, value: Any) -> float:
        """A value of the study file in SI units. Raises ValueError with the rule that it breaks."""
        if not self.whole:
            return positive(units.parse(value, dimension_of(self.name)), value)
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST:
            raise ValueError(f"{value!r} is not a positive whole number")
        return value

    def offers(self, value: float) -> bool:
        """Whether a value is one of the choices, or in the range."""
        return value in self.choices if self.choices else self.low <= value <= self.high


@dataclass(frozen=True, slots=True)
class Outer:
    """Variables outside the layout, which Optuna proposes."""

    trials: int
    generation: int
    sampler: SamplerName
    objectives: tuple[str, ...]
    variables: tuple[Variable, ...]
    baselines: tuple[tuple[tuple[str, float], ...], ...] = ()  # values of all variables, tried first
    designs: tuple[str, ...] = ()  # labels of those whose machines are varied; none: all

    def varies(self, label: str) -> bool:
        """Whether the numbers of a design's machine are varied; the others stand beside it as they are."""
        return not self.designs or label in self.designs


@dataclass(frozen=True, slots=True)
class Uncertainty:
    """How sure the answer is to be made."""

    points: int
    layouts: int  # the best of each design and size
    quantities: tuple[str, ...]
    sensitivities: int  # numbers told, those that matter most first


@dataclass(frozen=True, slots=True)
class Study:
    """A study as checked. `text` is the file as written."""

    name: str
    question: str
    seed: int
    workloads: tuple[Workload, ...]
    designs: tuple[Design, ...]
    axes: Axes | InstanceAxes
    search: Search
    constraints: tuple[tuple[str, Sense, float], ...] = ()
    outer: Outer | None = None
    phase: Phase = "training"
    reference: str = ""  # label of the design whose throughput the others are to equal
    corners: bool = True  # solve designs that rest on rumour at both ends of their ranges too
    text: str = field(default="", compare=False)
    notes: tuple[str, ...] = field(default=(), compare=False)  # what was rounded or left out, for people
    uncertainty: Uncertainty | None = None

    @property
    def samplers(self) -> dict[str, SamplerName]:
        """Table of the file -> the sampler of Optuna that it uses."""
        if self.outer:
            return {"outer": self.outer.sampler}
        return {"search": self.search.sampler} if "optuna" in self.search.methods else {}


def load(path: Path) -> Study:
    """Read and check a study file.

    Raises
    ------
    InputError
        With every problem of the file.
    """
    shown = str(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        near = nearest(path.name, (p.name for p in path.parent.glob("*.toml"))) if path.parent.is_dir() else ""
        raise InputError([Problem(shown, "", "no such file", None, near if "mean" in near else "")]) from None
    except (OSError, UnicodeDecodeError) as failure:
        raise InputError([Problem(shown, "", f"cannot be read: {failure}")]) from None
    return parse(text, shown, path.stem, path.resolve().parent)


def parse(text: str, shown: str = "study", name: str = "study", beside: Path | None = None) -> Study:
    """Check the text of a study file.

    Parameters
    ----------
    text
        The file as written.
    shown
        What stands for the file in messages.
    name
        The study's name where the file gives none.
    beside
        Folder that a relative path in the file starts from.
    """
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as failure:
        raise InputError([Problem(shown, "", f"not TOML: {failure}")]) from None
    checker = checker_of(raw.get("phase", "training"))(shown, _catalogue_folder(raw, (beside or Path.cwd()).resolve()))
    table, problems = read(shown, raw, checker.form)
    if table is None:
        problems += checker.names_of_raw(raw)
        raise InputError(unique(problems))
    return checker.study(table, text, name)


def checker_of(phase: object) -> type[Checker]:
    """Who checks a study of a phase; an unknown one is told as a key of the file."""
    if phase == "training":
        return Checker
    from sweep.serving_study import ServingChecker

    return ServingChecker


def _catalogue_folder(raw: Mapping[str, Any], beside: Path) -> Path | None:
    """The study's own folder of catalogue entries; a study reads nothing outside the folder that it lies in."""
    given = raw.get("catalogue")
    if not isinstance(given, str):
        return None
    folder = (beside / given).resolve()
    return folder if folder.is_relative_to(beside) else None


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
        for table, key, kind in (("workloads", "model", "models"), ("designs", "system", "systems")):
            entries = raw.get(table)
            for i, one in enumerate(entries if isinstance(entries, list) else []):
                if isinstance(one, dict):
                    self.known(f"{table}[{i}].{key}", one.get(key), kind)  # type: ignore[arg-type]
        return self.problems

    def study(self, table: StudyTable, text: str, name: str) -> Study:
        """The whole study. Raises InputError with every problem."""
        if table.catalogue is not None and self.extra is None:
            rule, remedy = "must lie in the folder of the study file, or below it", "put the entries beside the study"
            self.wrong("catalogue", rule, table.catalogue, remedy)
            raise InputError(self.problems)
        if self.extra is not None and not self.extra.is_dir():
            self.wrong("catalogue", "must be a folder of catalogue entries", table.catalogue)
            raise InputError(self.problems)
        given = [name for name in ("chips", "power", "budget") if getattr(table, name) is not None]
        if len(given) > 1:
            self.wrong(given[1], f"sizes are given once, and {given[0]} gives them", None, f"leave out {given[1]}")
        designs = self.designs(table)
        workloads = self.workloads(table)
        constraints = self.constraints(table.constraints, SETS[table.phase].quantities)
        outer = self.outer(table.outer, designs) if table.outer else None
        search = self.search(table)
        labels = [design.label for design in designs]
        if table.reference is not None and table.reference not in labels:
            self.wrong("reference", "no design has this label", table.reference, nearest(table.reference, labels))
        if self.problems:
            raise InputError(self.problems)
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
            uncertainty=self.uncertainty(table),
        )

    def uncertainty(self, table: StudyTable) -> Uncertainty | None:
        """How sure the answer is to be made; of the objective where no quantity is named."""
        given = table.uncertainty
        if given is None:
            return None
        quantities = given.quantities or (table.search.objective,)
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
        for i, one in enumerate(table.designs):
            key = f"designs[{i}]"
            chips = tuple(one.chips or table.chips or ())
            sized = table.power or table.budget or (table.outer and "chips" in table.outer.variables)
            if not chips and not sized:
                remedy = "give chips = [...] here or at the top of the file, or power or budget at the top"
                self.wrong(f"{key}.chips", "missing", None, remedy)
            label = one.label or one.system
            if label in [design.label for design in designs]:
                self.wrong(f"{key}.label", "labels must differ", label, "give this design a label of its own")
            if not self.known(f"{key}.system", one.system, "systems"):
                continue
            stack = self.stack(key, one)
            if stack is None:
                continue
            records = self.records_of(key, table, one)
            if records is None:
                continue
            changes = self.changes(key, one.change)
            own = (one.number_format, one.power_cap, changes, self.extra, self.served(table, one))
            designs.append(Design(label, one.system, stack, chips, *own, *records))
            if self.applies(key, designs[-1]) and not chips:
                designs[-1] = self.sized(key, table, designs[-1])
        return tuple(designs)

    def records_of(self, key: str, table: StudyTable, given: DesignTable) -> tuple[str, str] | None:
        """Price basis and operation of a design; None where a name is unknown."""
        kinds: tuple[tuple[str, catalogue.Kind, str], ...] = (
            ("prices", "prices", DEFAULT_PRICES),
            ("operation", "operations", DEFAULT_OPERATION),
        )
        found, known = [], True
        for name, kind, default in kinds:
            own = getattr(given, name)
            at = f"{key}.{name}" if own else name
            found.append(own or getattr(table, name) or default)
            known = self.known(at, found[-1], kind) and known
        return (found[0], found[1]) if known else None

    def sized(self, key: str, table: StudyTable, design: Design) -> Design:
        """The design at sizes that the study's power feeds, or that its budget buys: as many whole units."""
        unit, system = machine(design).unit_packages, machine(design)
        each = float(rated_power(system, unit).total) if table.power else float(capital(system, unit).total)
        name, limits, unit_of = (
            ("power", table.power, "W") if table.power else ("budget", table.budget or [], "USD")
        )
        sizes = []
        for limit in limits or []:
            most = int(limit / each)
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
                read_changes.append((path, positive(units.parse(value, dimension_of(path)), value)))
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

    def outer(self, given: OuterTable, designs: tuple[Design, ...]) -> Outer:
        """Outer variables in SI units."""
        variables: list[Variable] = []
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
        labels = [design.label for design in designs]
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
                    raise ValueError(f"{values[variable.name]!r} is not among what the study offers")
                found.append((variable.name, value))
            except ValueError as failure:
                name = variable.name if variable.whole else f'"{variable.name}"'
                self.wrong(f"{key}.{name}", str(failure))
        return tuple(found)


def _variable(name: str, values: list[Any] | RangeTable) -> Variable:
    """One outer variable. Raises ValueError with the rule that it breaks."""
    number = Variable(name).number
    if isinstance(values, list):
        if not values:
            raise ValueError("needs at least one choice")
        return Variable(name, choices=tuple(dict.fromkeys(number(value) for value in values)))
    low, high = number(values.low), number(values.high)
    if not low < high:
        raise ValueError(f"low must be below high, but got low = {values.low!r}, high = {values.high!r}")
    return Variable(name, low=low, high=high, log=values.log)


def divides_well(most: int) -> int:
    """The largest number up to `most` that many degrees of parallelism divide, as the batches of `round_batch`."""
    return max(odd << power for odd in _ODD_FACTORS for power in range(most.bit_length()) if odd << power <= most)


def round_batch(sequences: float) -> int:
    """The number of sequences nearest to a target that many degrees of parallelism divide.

    One of 1, 3, 5, 9, 15, 45 times a power of two; a small target is only rounded to a whole number.
    """
    if sequences < 16:
        return max(1, round(sequences))
    candidates = [odd << power for odd in _ODD_FACTORS for power in range(int(sequences).bit_length() + 1)]
    return min(candidates, key=lambda candidate: (abs(candidate - sequences), -candidate))
