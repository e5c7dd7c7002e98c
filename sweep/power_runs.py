"""The run behind a measured power: the cost of a published training or serving case on a machine cut to the meter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from model.serving.memory import most_sequences
from model.serving.rates import decode_cost, prefill_cost, serving_cost
from model.system import System
from sweep.published import InexpressibleError
from sweep.serving_cases import ServingQuestion, serving_question
from sweep.training_cases import Changes, evaluated

Cut = Callable[[System], System]


@dataclass(frozen=True, slots=True)
class Run:
    """A run and the layout of it that is taken."""

    system: System
    cost: Any  # StepCost or ServingCost
    row: int
    ranks: float
    stack: str
    chosen: str | None
    trains: bool


def trained(case: Mapping[str, Any], cut: Cut) -> Run:
    """A training case: what it leaves open is chosen as `sweep validate` does for step times."""
    from sweep.case_schema import read  # pydantic is slow to import

    run = evaluated(read(case), Changes(machine=cut))
    return Run(run.system, run.cost, run.row, float(run.ranks), run.stack, run.chosen, trains=True)


def served(case: Mapping[str, Any], cut: Cut) -> Run:
    """A serving case at its stated batch, or at the largest that memory and the engine allow."""
    from sweep.case_schema import read_serving

    case = read_serving(case)
    asked = serving_question(case)
    asked = replace(asked, system=cut(asked.system))
    if asked.batch is None:
        asked = replace(asked, instance=asked.instance.with_(batch=_room(asked)))
    with np.errstate(all="ignore"):  # layouts that do not fit give no number, and are not taken
        cost: Any
        given = (asked.system, asked.engine, asked.serving, asked.instance)
        if asked.way == "prefill":
            cost = prefill_cost(*given)
        elif asked.way == "decode":
            cost = decode_cost(*given, asked.context)
        else:
            cost = serving_cost(*given)
        rate = np.asarray(cost.tokens_per_second / cost.energy.ranks, float).reshape(-1)
    if not np.isfinite(rate).any():
        raise InexpressibleError("by the model's count not one sequence fits in memory")
    ranks = asked.chips * asked.system.chip.ranks_per_package
    if str(case.get("chip")).endswith("_die"):
        ranks = asked.chips
    chosen = ", ".join(asked.chosen) or None
    return Run(asked.system, cost, int(np.nanargmax(rate)), float(ranks), asked.engine.name, chosen, trains=False)


def _room(asked: ServingQuestion) -> Any:
    """Sequences that memory and the engine allow; not a number where none fits."""
    requests, groups = asked.serving.requests, np.asarray(asked.instance.data_parallel, float)
    longest = requests.input_tokens + (requests.output_tokens if asked.way != "prefill" else 0.0)
    fits = most_sequences(asked.system, asked.engine, asked.serving, asked.instance, longest)
    room = np.floor(np.minimum(np.minimum(fits, asked.engine.max_sequences * groups), asked.most))
    return np.where(room >= 1.0, room, np.nan)
