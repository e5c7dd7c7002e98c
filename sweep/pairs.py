"""Prefill and decode instances apart: which of each side can be in the best pair, and what whole numbers of them serve.

A prefill instance is given at most four fifths of what it can do, so that prompts find it free often enough; how long
they wait for it follows from how busy it is. The first token comes after that wait, the prompt's passes, the transfer
of its cache, and one step of decoding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from model.layout import Array
from model.serving.memory import ServingMemory
from model.serving.passes import PassTime
from model.serving.queueing import mean_wait, wait_quantile
from model.serving.rates import paired, transfer_seconds
from sweep.keep import front
from sweep.served import Served, ServedRecords, at_work, idle_power, layout_columns, memory_excess, packages_of

MOST_BUSY = 0.8  # of a prefill instance: at 0.8 a prompt waits for about 2.5 others like it
_BLOCK = 1 << 12
_PAIRS = 1 << 16  # looked at together

Side = dict[str, Array]  # of flat instances of one side: name -> array


@dataclass(frozen=True)
class Sides:
    """The instances of both sides, and the most that latencies may be."""

    prefill: ServedRecords
    decode: ServedRecords
    limits: Mapping[str, float]

    @cached_property
    def prefills(self) -> Array:
        """Prefill instances that no other of their size beats in rate and times."""
        return _undominated(self.prefill, "ttft", self.limits.get("ttft_s", np.inf))

    @cached_property
    def decodes(self) -> Array:
        """Decode instances that no other of their size beats in rate and times."""
        return _undominated(self.decode, "tpot", self.limits.get("tpot_s", np.inf))


def _undominated(known: ServedRecords, latency: str, limit: float) -> Array:
    """Numbers of the instances that no other of as many ranks beats in requests/s and in all that a request waits for.

    That is, for prompts: their passes with the transfer, and the time of a group for a prompt, which the queue is made
    of; for decoding: the time per token, and the step that the first one takes. They fit and are fast enough; where
    there are none such the others stand for them, so that the answer can say what they break.
    """
    numbers = np.arange(known.space.count)
    if not len(numbers):
        return numbers
    side = _evaluated(known, numbers)
    fits, every = side["excess"] <= 0, np.ones(len(numbers), bool)
    good = next(np.flatnonzero(some) for some in (fits & (side[latency] <= limit), fits, every) if some.any())
    waits = (
        (side["ttft"] + side["transfer"], side["groups"] / side["rate"])
        if known.phase == "prefill"
        else (side["tpot"], side["step"])
    )
    values = np.stack([-side["rate"][good], *(wait[good] for wait in waits)], axis=1)
    ranks, kept = side["ranks"][good], [np.empty(0, np.int64)]
    for size in np.unique(ranks):
        own = np.flatnonzero(ranks == size)
        kept.append(numbers[good[own[front(values[own], own)]]])
    return np.sort(np.concatenate(kept))


def _evaluated(known: ServedRecords, numbers: Array) -> Side:
    """Instances of these numbers at work."""
    copies = known.space.rows["redundant"][numbers // max(1, len(known.space.batches))]
    places, parts = [], []
    for value in np.unique(copies):
        own = np.flatnonzero(copies == value)
        for start in range(0, len(own), _BLOCK):
            places.append(own[start : start + _BLOCK])
            parts.append(_side(known, numbers[places[-1]]))
    order = np.argsort(np.concatenate(places), kind="stable")
    return {name: np.concatenate([part[name] for part in parts])[order] for name in parts[0]}


def _side(known: ServedRecords, numbers: Array) -> Side:
    """Instances of these numbers, which have equally many redundant experts."""
    instance, more, cost = at_work(known, numbers)
    found: dict[str, Any] = {
        "ranks": instance.ranks,
        "rate": cost.requests_per_second,
        "power": cost.power,
        "excess": memory_excess(known, instance, more["redundant"], cost),
        "step": cost.step_time,
        "ttft": cost.ttft,
        "tpot": cost.tpot,
        "groups": instance.data_parallel,
    }
    if known.phase == "prefill":
        serving = known.work.serving(known.architecture)
        found["transfer"] = transfer_seconds(known.system, serving, instance)
    found |= {f"layout.{name}": values for name, values in layout_columns(instance, more).items()}
    found |= {f"time.{name}": part for name, part in cost.time.parts().items()}
    found |= {f"memory.{name}": part for name, part in cost.memory.parts().items()}
    return {name: np.array(np.broadcast_to(values, numbers.shape)) for name, values in found.items()}


def candidates(sides: Sides) -> Iterator[tuple[Array, Served]]:
    """Numbers of all pairs of undominated instances, and what they serve."""
    prefills, decodes = sides.prefills, sides.decodes
    if not len(prefills) or not len(decodes):
        return
    first, second = _evaluated(sides.prefill, prefills), _evaluated(sides.decode, decodes)
    for start in range(0, len(prefills) * len(decodes), _PAIRS):
        place = np.arange(start, min(start + _PAIRS, len(prefills) * len(decodes)))
        one, other = np.divmod(place, len(decodes))
        numbers = prefills[one] * sides.decode.space.count + decodes[other]
        yield numbers, _joined(sides, _taken(first, one), _taken(second, other))


def joined_at(sides: Sides, numbers: Array) -> Served:
    """What pairs of these numbers serve."""
    chosen = []
    for known, own in zip((sides.prefill, sides.decode), np.divmod(numbers, sides.decode.space.count), strict=True):
        unique, back = np.unique(own, return_inverse=True)
        chosen.append(_taken(_evaluated(known, unique), back))
    return _joined(sides, *chosen)


def _taken(side: Side, at: Array) -> Side:
    return {name: values[at] for name, values in side.items()}


def _joined(sides: Sides, first: Side, second: Side) -> Served:
    """As many of both as carry the load, or as serve the most on the cluster's ranks."""
    known = sides.decode
    system, requests, load = known.system, known.work.requests, known.work.requests_per_second
    capable = MOST_BUSY * first["rate"]
    if load is None:
        whole = paired(capable, second["rate"], first["ranks"], second["ranks"], known.ranks)
        prefills, decodes, rate = whole.prefill_instances, whole.decode_instances, whole.requests_per_second
    else:
        prefills, decodes = np.ceil(load / capable - 1e-9), np.ceil(load / second["rate"] - 1e-9)
        rate = np.minimum(prefills * capable, decodes * second["rate"])
    working = prefills * first["ranks"] + decodes * second["ranks"]
    asked = rate if load is None else load
    busy = asked / np.maximum(prefills * first["rate"], 1e-30)
    wait = mean_wait(busy, first["groups"] / first["rate"], requests.variation)
    rest = first["ttft"] + first["transfer"] + second["step"]
    taken = known.ranks if load is None else working
    power = _power(sides, first, prefills, busy) + _power(
        sides, second, decodes, rate / np.maximum(decodes * second["rate"], 1e-30)
    )
    able = (prefills >= 1) & (decodes >= 1)
    columns = {name.removeprefix("layout."): values for name, values in second.items() if name.startswith("layout.")}
    columns |= {
        name.replace("layout.", "prefill_"): values for name, values in first.items() if name.startswith("layout.")
    }
    columns |= {"instances": decodes.astype(np.int64), "prefill_instances": prefills.astype(np.int64)}
    return Served(
        system=known.system,
        layout=columns | {"deployment": np.ones(len(working), np.int64)},
        ttft=rest + wait,
        ttft_p99=rest + wait_quantile(busy, wait, 0.99),
        tpot=second["tpot"],
        tpot_p99=second["tpot"],
        tokens_per_second=np.maximum(rate, 1e-30) * requests.output_tokens,
        requests_per_second=rate,
        power=power + idle_power(system, np.maximum(taken - working, 0)),
        packages=packages_of(system, np.broadcast_to(taken, working.shape)),
        chips_used=packages_of(system, working),
        time=PassTime(**_parts(second, "time.")),
        memory=ServingMemory(**_parts(second, "memory.")),
        violations={
            "hbm_bytes": np.maximum(first["excess"], second["excess"]),
            "engine_sequences": np.zeros(len(working)),
            "instances": np.where(able, np.maximum(working - known.ranks, 0), 1),
        },
    )


def _parts(side: Side, head: str) -> dict[str, Array]:
    return {name.removeprefix(head): values for name, values in side.items() if name.startswith(head)}


def _power(sides: Sides, side: Side, count: Array, busy: Array) -> Array:
    """Watts of instances that are at work for a share of the time."""
    rest = idle_power(sides.decode.system, side["ranks"])
    return np.asarray(count * (busy * side["power"] + (1.0 - busy) * rest))
