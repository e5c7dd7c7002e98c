"""What a cluster of instances serves: instances at their working points, as many as the chips hold or a load needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from model.architecture import Architecture
from model.energy import Energy
from model.layout import Array
from model.serving.cost import ServingCost
from model.serving.instance import Instance
from model.serving.memory import ServingMemory, instance_memory, most_sequences
from model.serving.passes import PassTime
from model.serving.rates import decode_cost, prefill_cost, serving_cost
from model.serving.stack import ServingStack
from model.serving.workload import Serving
from model.system import System
from sweep import catalogue
from sweep.axes import InstanceAxes
from sweep.cases import Case, Question
from sweep.designs import machine
from sweep.instances import InstanceProblem, InstanceSpace, Rows, instance_space
from sweep.work import TARGETS, Phase, ServingWork

Costs = Callable[[System, ServingStack, Serving, Instance], ServingCost]
COSTS: Mapping[Phase, Costs] = {"prefill": prefill_cost, "decode": decode_cost, "serving": serving_cost}
_TILES = (64, 128, 256)  # rows of a matmul's tiles: the largest batch may cost one more tile than a smaller one
_LATENCIES = {"ttft_s", "ttft_p99_s", "tpot_s", "tpot_p99_s", "tokens_per_s_per_user"}
_FINE, _STEPS = 16, 8  # batches one by one up to here, then so many for each doubling


@dataclass(frozen=True, slots=True)
class ServedRecords:
    """The records of the cost model that a case of serving stands for."""

    system: System
    engine: ServingStack
    architecture: Architecture
    work: ServingWork
    phase: Phase  # of this space: a disaggregated deployment has one for prompts and one for decoding
    ranks: int  # of the cluster
    limits: tuple[tuple[str, float], ...]  # most that a latency may be
    space: InstanceSpace

    @property
    def longest(self) -> float:
        """Tokens of a request that is about to end."""
        requests = self.work.requests
        return requests.input_tokens + (0.0 if self.phase == "prefill" else requests.output_tokens)


def constraints_of(question: Question, case: Case) -> tuple[tuple[str, str, float], ...]:
    """Bounds on quantities: those of the study, and the targets of the case."""
    assert isinstance(case.work, ServingWork), "targets are those of serving"
    return (*question.constraints, *((name, "<=", most) for name, most in case.work.targets))


def served_records(question: Question, case: Case, phase: Phase | None = None) -> ServedRecords:
    """Look a case up in the catalogue and list its instances, of its own phase or of one side of it."""
    work = case.work
    assert isinstance(work, ServingWork), "instances are those of serving"
    phase = phase or work.phase
    system = machine(case.design, case.corner)
    engine = catalogue.engine(case.design.stack, case.design.extra)
    shape = catalogue.architecture(case.model, case.design.extra)
    ranks = case.chips * system.chip.ranks_per_package
    problem = InstanceProblem(shape, ranks, phase, engine.chunk, work.redundant, work.drafts)
    most: dict[str, float] = {}
    for name, sense, limit in constraints_of(question, case):
        if name in TARGETS and sense == "<=":
            most[name] = min(limit, most.get(name, np.inf))
    limits = tuple((name, limit) for name, limit in most.items() if phase != "decode" or name.startswith("tpot"))
    space = instance_space(problem, _axes(question, axes_of(question, case), phase, engine, work))
    return ServedRecords(system, engine, shape, work, phase, ranks, limits, space)


def axes_of(question: Question, case: Case) -> InstanceAxes:
    """What the instances of a case vary over: as its design says, or else the study."""
    return case.design.served.axes or question.axes


def _axes(
    question: Question, axes: InstanceAxes, phase: Phase, engine: ServingStack, work: ServingWork
) -> InstanceAxes:
    """The axes of a case with the batches to look at: none where the best one is to be solved."""
    if axes.batch and phase == work.phase:
        return axes
    search = question.search
    wanted = search.pareto if search.rows == "pareto" else (search.objective,)
    if phase == "prefill":
        new = work.requests.input_tokens * (1.0 - work.requests.prefix_hit)
        chunk = max(n or engine.chunk for n in axes.chunk)
        batches = tuple(sorted({1, max(1, int(chunk // new))}))  # more prompts at a time only wait for each other
    elif _LATENCIES.isdisjoint(wanted):
        batches = ()
    else:
        batches = ladder(engine.max_sequences)
    return InstanceAxes(
        **{name: getattr(axes, name) for name in InstanceAxes.__slots__ if name != "batch"}, batch=batches
    )


def ladder(most: int) -> tuple[int, ...]:
    """Batches of an attention group, one by one at first, then in steps of a twelfth or less."""
    found = set(range(1, min(_FINE, most) + 1)) | {most}
    step = 0
    while (value := round(_FINE * 2.0 ** (step / _STEPS))) < most:
        found.add(value)
        step += 1
    return tuple(sorted(found))


# ------------------------------------------------------------------------------------------------ working points
def cost_of(known: ServedRecords, instance: Instance, redundant: Array) -> ServingCost:
    """Cost of flat instances in the phase of the records; `redundant` experts are the same for all."""
    serving = known.work.serving(known.architecture, int(redundant[0]))
    return COSTS[known.phase](known.system, known.engine, serving, instance)


def at_work(known: ServedRecords, numbers: Array) -> tuple[Instance, Rows, ServingCost]:
    """Instances of these numbers at their batches, and what they cost. The numbers have the same redundant experts."""
    instance, more = known.space.take(numbers)
    if not known.space.batches:
        instance = instance.with_(batch=best_batch(known, instance, more["redundant"]))
    instance = instance.with_(batch=np.maximum(np.asarray(instance.batch), 1))  # one that does not fit breaks a limit
    return instance, more, cost_of(known, instance, more["redundant"])


def most_in_flight(known: ServedRecords, instance: Instance, redundant: Array) -> Array:
    """Requests in flight that memory and the engine allow."""
    serving = known.work.serving(known.architecture, int(redundant[0]))
    chunk = 0.0 if known.phase == "decode" else float(known.engine.chunk)
    fits = most_sequences(known.system, known.engine, serving, instance, known.longest, chunk)
    return np.asarray(np.floor(np.minimum(fits, known.engine.max_sequences * np.asarray(instance.data_parallel))))


def best_batch(known: ServedRecords, instance: Instance, redundant: Array) -> Array:
    """The batch of the most tokens/s within memory, engine and targets: the largest, or one below that fills tiles.

    With prompts in the same pass tiles are full anyway. 0 where not one request fits.
    """
    most = most_in_flight(known, instance, redundant)
    best = np.zeros(len(most), np.int64)
    alive = np.flatnonzero(most >= 1)
    if not len(alive):
        return best
    some, copies = instance.take(alive), redundant[alive]
    found = largest(lambda at, batch: _excess(known, some.take(at), copies[at], batch), most[alive].astype(np.int64))
    best[alive] = found if known.phase == "serving" else _filled(known, some, copies, found)
    return best


def _excess(known: ServedRecords, instance: Instance, redundant: Array, batch: Array) -> Array:
    """Largest share by which a latency is over its limit; negative where all are met."""
    return over_limits(known, cost_of(known, instance.with_(batch=batch), redundant))


def over_limits(known: ServedRecords, cost: ServingCost) -> Array:
    """Largest share by which a latency is over its limit; negative where all are met."""
    worst: Array = np.full(np.shape(cost.step_time), -1.0)
    for name, limit in known.limits:
        value = np.asarray(getattr(cost, name.removesuffix("_s")))
        worst = np.maximum(worst, np.where(np.isnan(value), -1.0, value / limit - 1.0))
    return worst


def largest(excess: Callable[[Array, Array], Array], most: Array) -> Array:
    """The largest whole number from 1 to `most` at which a growing function is at most 0; 0 where there is none.

    False position between a number that is within and one that is not, every third round in the middle.

    Parameters
    ----------
    excess
        Of places and a number at each.
    most
        Whole numbers, 1 or more.
    """
    low, high = np.zeros(len(most), np.int64), most.copy()
    places = np.arange(len(most))
    at_high = excess(places, high)
    low = np.where(at_high <= 0, high, low)
    left = places[at_high > 0]
    at_low = np.full(len(most), -1.0)
    if len(left):
        first = excess(left, np.ones(len(left), np.int64))
        at_low[left] = first
        low[left] = np.where(first <= 0, 1, 0)
        high[left] = np.where(first <= 0, high[left], 1)
    left, turn = left[high[left] - low[left] > 1], 0
    while len(left):
        below, above = at_low[left], at_high[left]
        share = np.full(len(left), 0.5) if turn % 3 == 2 else below / np.minimum(below - above, -1e-300)
        middle = np.clip((low[left] + (high[left] - low[left]) * share).astype(np.int64), low[left] + 1, high[left] - 1)
        value = excess(left, middle)
        over = value > 0
        low[left], high[left] = np.where(over, low[left], middle), np.where(over, middle, high[left])
        at_low[left], at_high[left] = np.where(over, below, value), np.where(over, value, above)
        left, turn = left[high[left] - low[left] > 1], turn + 1
    return low


def _filled(known: ServedRecords, instance: Instance, redundant: Array, most: Array) -> Array:
    """Of the largest batch and those below it that end with a tile of rows the one of the most tokens/s."""
    best, fastest = most, np.zeros(len(most))
    share = np.asarray(instance.data_parallel) * instance.pipeline_parallel * instance.micro_batches
    for rows in (1, *_TILES):
        step = np.maximum(rows * share // (1 + np.asarray(instance.draft_tokens)), 1)
        step = step if rows > 1 else np.ones_like(most)
        batch = np.where(most >= step, most // step * step, most)
        cost = cost_of(known, instance.with_(batch=np.maximum(batch, 1)), redundant)
        rate = np.where((batch >= 1) & (over_limits(known, cost) <= 0), cost.tokens_per_second, 0.0)
        best, fastest = np.where(rate > fastest, batch, best), np.maximum(rate, fastest)
    return best


# ------------------------------------------------------------------------------------------------ the cluster
@dataclass(frozen=True, slots=True)
class Served:
    """What a cluster serves: rates of all its instances, latencies of one request, time and memory of an instance."""

    system: System
    layout: dict[str, Array]
    ttft: Array
    ttft_p99: Array
    tpot: Array
    tpot_p99: Array
    tokens_per_second: Array
    requests_per_second: Array
    power: Array
    packages: Array  # that the rates are divided by
    chips_used: Array
    time: PassTime
    memory: ServingMemory
    violations: dict[str, Array]

    @property
    def per_user(self) -> Array:
        """Output tokens/s that one request sees."""
        return np.asarray(1.0 / self.tpot)

    @property
    def tokens_per_joule(self) -> Array:
        """Tokens for a joule at the building's meter."""
        return np.asarray(self.tokens_per_second / self.power)

    @property
    def energy_per_token(self) -> Array:
        """Joules for a token at the building's meter."""
        return np.asarray(self.power / self.tokens_per_second)


def idle_power(system: System, ranks: Any) -> Array:
    """Watts at the meter of ranks that do nothing, with their share of hosts and network."""
    return Energy(system, 1.0, ranks, 0.0, 0.0, 0.0).total


def packages_of(system: System, ranks: Any) -> Array:
    """Whole packages that so many ranks take."""
    return np.ceil(np.asarray(ranks, float) / system.chip.ranks_per_package - 1e-9)


def instances_of(known: ServedRecords, requests_per_second: Any, ranks: Array) -> tuple[Array, Array]:
    """Instances at work, as many as carry the load or else as fit, and how many of them do not fit."""
    room = known.ranks // ranks
    load = known.work.requests_per_second
    if load is None:
        return room, np.zeros_like(room)
    needed = np.ceil(load / np.maximum(requests_per_second, 1e-30) - 1e-9)
    return needed, np.maximum(needed - room, 0)


def memory_excess(known: ServedRecords, instance: Instance, redundant: Array, cost: ServingCost) -> Array:
    """Bytes over what may be planned with requests that are about to end; those of a prefill pass as they are."""
    if known.phase == "prefill":
        return np.asarray(cost.violations["hbm_bytes"])
    serving = known.work.serving(known.architecture, int(redundant[0]))
    chunk = 0.0 if known.phase == "decode" else float(known.engine.chunk)
    used = instance_memory(known.engine, serving, instance, cost.batch, known.longest, chunk)
    over = np.asarray(used.total - known.engine.usable_memory * known.system.chip.hbm_bytes)
    return np.where(over < 1.0, np.minimum(over, 0.0), over)  # less than a byte is rounding


def layout_columns(instance: Instance, more: Rows) -> dict[str, Array]:
    """Columns of flat instances."""
    return instance.columns() | {"etp": more["expert_tensor_parallel"], "redundant": more["redundant"]}


def served(known: ServedRecords, numbers: Array) -> Served:
    """What the cluster serves with instances of these numbers, prompts and decoding together."""
    instance, more, cost = at_work(known, numbers)
    count, lacking = instances_of(known, cost.requests_per_second, instance.ranks)
    whole = known.ranks if known.work.load is None else count * instance.ranks
    columns = layout_columns(instance, more)
    columns |= {"deployment": np.zeros(len(numbers), np.int64), "instances": count.astype(np.int64)}
    over = np.asarray(instance.batch) - known.engine.max_sequences * np.asarray(instance.data_parallel)
    violations = {
        "hbm_bytes": memory_excess(known, instance, more["redundant"], cost),
        "engine_sequences": over,
        "instances": lacking,
    }
    return replace(alike(cost, instance.ranks, count, whole), layout=columns, violations=violations)


def alike(cost: ServingCost, instance_ranks: Any, count: Any, whole: Any) -> Served:
    """What so many instances of one kind serve on `whole` ranks, of which the rest idles."""
    working = count * instance_ranks
    return Served(
        system=cost.system,
        layout={},
        ttft=cost.ttft,
        ttft_p99=cost.ttft_p99,
        tpot=cost.tpot,
        tpot_p99=cost.tpot_p99,
        tokens_per_second=cost.tokens_per_second * count,
        requests_per_second=cost.requests_per_second * count,
        power=cost.power * count + idle_power(cost.system, np.maximum(whole - working, 0)),
        packages=packages_of(cost.system, np.broadcast_to(whole, np.shape(working))),
        chips_used=packages_of(cost.system, working),
        time=cost.time,
        memory=cost.memory,
        violations=cost.violations,
    )
