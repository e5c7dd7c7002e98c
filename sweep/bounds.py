r"""Lower bounds of what layouts cost, so that most need not be looked at for the best to be proven.

Both levels of a space have bounds. Of a *node*, before its pipelines are listed:

.. math::
    T \ge \frac{m}{p} \, \tau + f = \frac{B \, t \, c}{b \, N} \, \tau + f, \qquad
    D \ge \frac{B}{b} \, t \, c \, d

tau: seconds of the whole model for one microbatch without recomputation, at the fastest options; m microbatches pass p
stages, and the slowest of them takes at least the mean tau / p, so the degree of the pipeline cancels; f: the fixed
time of a step; d: joules of a microbatch on a rank. Of a *point*, the cost model's own step without recomputation, at
the fastest options, without the parts that the other options move (data-parallel traffic, optimizer, waiting for
offloads, transfers through a bubble); and its own memory at the leanest options.

The bounds hold by the model's monotony and need no second model: recomputation never saves time or energy and never
needs memory; ZeRO, the order of the ranks and offloading move only the parts that are left out. Energy follows from
both: the meter's factor times (min(D, cap W) + standing watts T) rises with T, with D and with W, the seconds that the
mean rank's kernels run: m / p times those of the whole model, as tau. docs/search.md has the
proofs; tests compare every bound with the layouts it is for, and searches with and without pruning.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from model.chip import FORMATS
from model.cost import StepCost, gathered
from model.data_parallel import DataCost
from model.energy import Energy
from model.layout import RECOMPUTE_MODULES, Array
from model.memory import memory
from model.money import HOUR_S
from model.outcome import capital_of, racks_of, spending_of
from model.step import LocalCosts, assemble, model_flops_per_token
from model.system import System
from sweep.cases import Records
from sweep.evaluation import chosen_of, layer_costs, places
from sweep.options import OPTION_FIELDS
from sweep.space import Listing

_ROUNDING = 1.0 - 1e-9  # parts are summed in another order than in the step itself
_FASTEST = ("sequence_parallel", "context_exchange", "overlap_off")
_FULL = 1 << RECOMPUTE_MODULES.index("full")
_EXTREMES = [0, _FULL]
_RECOMPUTE = OPTION_FIELDS.index("recompute")
_NO_TRAFFIC = DataCost(*(np.zeros(1) for _ in fields(DataCost)))


@dataclass(frozen=True, slots=True)
class Floors:
    """What every layout of a node or a point takes at least."""

    seconds: Array
    joules: Array
    bytes: Array

    def take(self, index: Array) -> Floors:
        """Some of the rows."""
        return Floors(self.seconds[index], self.joules[index], self.bytes[index])


def _at_values(known: Records, **values: list[int]) -> Records:
    """The records with other values on offer along some option axes, legal or not."""
    offered = dict(zip(OPTION_FIELDS, known.space.values, strict=True))
    offered |= {name: np.array(some, np.int64) for name, some in values.items()}
    return replace(known, space=replace(known.space, values=tuple(offered.values())))


def _least(values: Array, size: int) -> Array:
    """Minimum over all axes but the last."""
    values = np.asarray(values)
    lowest = values.min(axis=tuple(range(values.ndim - 1))) if values.ndim > 1 else values
    return np.broadcast_to(lowest, (size,))


def floor_costs(known: Records, nodes: Array) -> LocalCosts:
    """Layer costs that bounds rest on: without recomputation and with all of it, at the fastest options."""
    extremes = _at_values(known, recompute=_EXTREMES)
    return layer_costs(extremes, nodes, places(extremes, ("recompute", *_FASTEST)))


def _plain(local: LocalCosts) -> LocalCosts:
    """The costs without recomputation."""
    plain: LocalCosts = chosen_of(local, _RECOMPUTE, slice(0, 1))
    return plain


def node_floors(known: Records, nodes: Array, costs: LocalCosts) -> Floors:
    """Bounds of nodes with these `floor_costs`."""
    local = _plain(costs)
    passes = _passes(known, nodes)
    seconds = _least(_microbatch_seconds(known, local), len(nodes)) * passes / known.space.problem.ranks
    seconds = (seconds + known.stack.step_fixed_s) * _ROUNDING
    return Floors(seconds, _metered(known, seconds, _work_floor(known, nodes, local)), np.zeros(len(nodes)))


@dataclass(frozen=True, slots=True)
class _Work:
    """Joules that all ranks spend at least on their work, and seconds that the mean rank's kernels run at least."""

    joules: Array
    seconds: Array

    def take(self, index: Array) -> _Work:
        """Some of the rows."""
        return _Work(self.joules[index], self.seconds[index])


def _work_floor(known: Records, nodes: Array, local: LocalCosts) -> _Work:
    passes = _passes(known, nodes)
    return _Work(
        _least(_microbatch_joules(known, local), len(nodes)) * passes,
        _least(_kernel_seconds(known, local), len(nodes)) * passes / known.space.problem.ranks,
    )


def _kernel_seconds(known: Records, local: LocalCosts) -> Array:
    """Seconds of the kernels of the whole model for one microbatch."""
    model, ends = known.training.architecture, local.ends
    layers = model.dense_layers * local.dense.compute_s + model.moe_layers * local.mixture.compute_s
    return np.asarray(layers + ends.embedding_s + ends.head_forward_s + ends.head_backward_s)


def _microbatch_seconds(known: Records, local: LocalCosts) -> Array:
    """Forward and backward of the whole model for one microbatch."""
    model, ends = known.training.architecture, local.ends
    layers = model.dense_layers * (local.dense.forward_s + local.dense.backward_s)
    layers = layers + model.moe_layers * (local.mixture.forward_s + local.mixture.backward_s)
    return np.asarray(layers + ends.embedding_s + ends.head_forward_s + ends.head_backward_s)


def _microbatch_joules(known: Records, local: LocalCosts) -> Array:
    """Joules of the work of one microbatch on one rank."""
    model, power = known.training.architecture, known.system.chip.power
    total = local.ends.matrix_joules + local.ends.hbm_bytes * power.joule_per_hbm_byte
    for count, layer in ((model.dense_layers, local.dense), (model.moe_layers, local.mixture)):
        moved = layer.hbm_bytes * power.joule_per_hbm_byte + layer.link_bytes * power.joule_per_link_byte
        total = total + count * (layer.matrix_joules + moved)
    return np.asarray(total)


def _metered(known: Records, seconds: Array, work: _Work) -> Array:
    """Least joules at the meter of steps that take this long and do this work at least."""
    ranks = known.space.problem.ranks
    return np.asarray(Energy(known.system, seconds, ranks, work.joules, 0.0, 0.0, work.seconds).total * _ROUNDING)


def point_floors(known: Records, listing: Listing, costs: LocalCosts) -> Floors:
    """Bounds of the points of a listing, whose nodes have these `floor_costs`."""
    node = listing.node[listing.stage]
    fastest = _at_values(known, recompute=[0], offload=[0], zero_stage=[0], rank_order=[0])
    layout = fastest.space.open_layout(listing.degrees(), places(fastest, OPTION_FIELDS))
    local = gathered(_plain(costs), node)
    cost = assemble(known.system, known.stack, known.training, layout, local, _NO_TRAFFIC)
    seconds = _least(_unavoidable(known, cost, listing), len(node)) * _ROUNDING
    work = _work_floor(known, listing.nodes, _plain(costs)).take(node)
    return Floors(seconds, _metered(known, seconds, work), _memory_floor(known, listing, costs))


def _passes(known: Records, nodes: Array) -> Array:
    """How often some rank of the cluster works on a microbatch in a step, over all pipeline stages as one."""
    degrees = {name: values[nodes] for name, values in known.space.nodes.items()}
    inside = degrees["tensor_parallel"] * degrees["context_parallel"]
    return np.asarray(known.space.problem.global_batch / degrees["micro_batch"] * inside)


def _unavoidable(known: Records, cost: StepCost, listing: Listing) -> Array:
    """The parts of a step that do not depend on ZeRO, on the order of the ranks and on offloading."""
    time, degrees = cost.time, listing.degrees()
    local = time.compute + time.tensor + time.context + time.expert + time.host + time.fixed
    # A bubble idles through the other stages' transfers too, and those depend on the order of the ranks.
    microbatches = known.space.problem.global_batch // (degrees["micro_batch"] * degrees["data_parallel"])
    transfers = (degrees["pipeline_parallel"] - 1) * np.asarray(time.transfer)
    transfers = transfers / (microbatches * degrees["virtual_stages"])
    return np.asarray(local + np.maximum(time.bubble - transfers, 0.0))


def _memory_floor(known: Records, listing: Listing, costs: LocalCosts) -> Array:
    """Bytes that every layout of a point needs at least: full recomputation, all that can be split or moved away."""
    offered = dict(zip(OPTION_FIELDS, known.space.values, strict=True))
    away = int(np.bitwise_or.reduce(offered["offload"])) if known.space.problem.host else 0
    stages = np.sort(offered["zero_stage"])
    lean = [*stages[stages < 2][-1:].tolist(), *stages[stages >= 2].tolist()]
    last = len(known.space.values[OPTION_FIELDS.index("sequence_parallel")]) - 1  # split, where that is on offer
    leanest = _at_values(
        known, sequence_parallel=[last], recompute=[_FULL], context_exchange=[0], overlap_off=[0], offload=[away],
        zero_stage=lean, rank_order=[0],
    )  # fmt: skip
    degrees = listing.degrees()
    layout = leanest.space.open_layout(degrees, places(leanest, OPTION_FIELDS))
    local = chosen_of(costs, _RECOMPUTE, slice(-1, None))
    local = chosen_of(local, OPTION_FIELDS.index("sequence_parallel"), slice(-1, None))
    for name in ("context_exchange", "overlap_off"):
        local = chosen_of(local, OPTION_FIELDS.index(name), slice(0, 1))
    local = gathered(local, listing.node[listing.stage])
    used = memory(known.stack, known.training, layout, local.dense, local.mixture, local.ends).total
    axis = OPTION_FIELDS.index("zero_stage")
    by_stage = np.moveaxis(np.broadcast_to(used, layout.shape), axis, 0).reshape(len(lean), -1)
    legal = (np.asarray(lean) < 2)[:, None] | (degrees["pipeline_parallel"] == 1)
    return np.asarray(np.where(legal, by_stage, np.inf).min(axis=0) * _ROUNDING)


# ------------------------------------------------------------------------------------------------------ values
def bound_values(known: Records, floors: Floors, names: tuple[str, ...]) -> Array:
    """Rows x quantities: the best value that a layout within the bounds can have, smaller being better."""
    system, training, problem = known.system, known.training, known.space.problem
    tokens = float(problem.global_batch) * problem.sequence
    rate = tokens / floors.seconds
    flops = model_flops_per_token(training.architecture, training.attended)
    peak = problem.ranks * system.chip.peak_flops.get(FORMATS[training.number_format].peak, np.nan)
    at_rest = Energy(system, 1.0, problem.ranks, 0.0, 0.0, 0.0).total * _ROUNDING
    values = {
        "step_time_s": floors.seconds,
        "tokens_per_s": -rate,
        "tokens_per_s_per_chip": -rate / (problem.ranks * system.packages_per_rank),
        "mfu": -rate * flops / peak,
        "tokens_per_s_per_watt": -tokens / floors.joules,
        "power_w": np.broadcast_to(at_rest, floors.seconds.shape),
        "power_peak_w": np.broadcast_to(at_rest, floors.seconds.shape),
        "goodput": np.full(floors.seconds.shape, -1.0),
        "mtbf_s": np.full(floors.seconds.shape, -np.inf),
        "useful_tokens_per_s": -rate,
        "energy_per_token_j": floors.joules / tokens,
        "hbm_used_bytes": floors.bytes,
    }
    if not values.keys() >= set(names):  # money takes as long as all others, and is seldom asked for
        values |= _bought(system, problem.ranks, floors, tokens)
    return np.stack([values[name] for name in names], axis=1)


def _bought(system: System, ranks: int, floors: Floors, tokens: float) -> dict[str, Array]:
    """Least that layouts cost: what stands by the hour for the least time, and the least energy."""
    packages = ranks * system.packages_per_rank
    least = spending_of(system, packages, floors.joules / floors.seconds)  # USD a second, were both met
    spent = np.asarray(least) * _ROUNDING
    racks = np.asarray(racks_of(system, packages)) * _ROUNDING
    floor = racks * (np.nan if system.racks is None else system.racks.rack_floor_m2)
    return {
        "racks": np.broadcast_to(racks, floors.seconds.shape),
        "floor_m2": np.broadcast_to(floor, floors.seconds.shape),
        "capital_usd": np.broadcast_to(capital_of(system, packages) * _ROUNDING, floors.seconds.shape),
        "usd_per_chip_hour": np.broadcast_to(
            spending_of(system, packages, 0.0) / packages * HOUR_S * _ROUNDING, floors.seconds.shape
        ),
        "usd_per_million_tokens": 1e6 * spent * floors.seconds / tokens,
    }
