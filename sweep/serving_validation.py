"""Predictions of published serving runs: each quantity that a case measures, from one evaluation of the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from model.serving.cost import ServingCost
from model.serving.first_wave import first_wave_wait
from model.serving.memory import most_sequences
from model.serving.rates import (
    accepted_tokens,
    decode_cost,
    mean_context,
    prefill_cost,
    serving_cost,
    static_cost,
)
from sweep.prediction import Prediction
from sweep.published import InexpressibleError, model_kind
from sweep.roofline import Roofline
from sweep.serving_cases import (
    ServingQuestion,
    is_serving,
    measured_quantities,
    serving_group_of,
    serving_question,
)

__all__ = ["answers", "is_serving", "predict_serving"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model says of a question, an array of layouts each; of these `fastest` orders which is taken."""

    quantities: Mapping[str, Any]
    fastest: Any  # the least is taken
    batch: Any
    parts: Mapping[str, Any] | None = None
    memory: Any = None  # bytes of the fullest rank at that batch
    limited: Any = False  # the batch is what memory and the engine allow, below what the case states

    @property
    def taken(self) -> int:
        """The layout that is taken: the fastest.

        Raises InexpressibleError where none has a finite time.
        """
        times = np.asarray(self.fastest, float).reshape(-1)
        if not np.isfinite(times).any():
            raise InexpressibleError("the numbers of the case give no finite time")
        return int(np.nanargmin(np.where(np.isfinite(times), times, np.nan)))


def predict_serving(case: Mapping[str, Any]) -> list[Prediction]:
    """Predictions for every quantity that a serving case measures."""
    from sweep.case_schema import read_serving  # pydantic is slow to import

    blank = Prediction(str(case.get("id")), "not readable", "", None, None, None, None, None, None)
    try:
        case = read_serving(case)
    except ValueError as fault:
        return [replace(blank, reason=str(fault))]
    blank = replace(
        blank, group=serving_group_of(case), grade=case.get("grade"), kind=model_kind(case), chip=str(case.get("chip"))
    )
    said: list[str] = []
    measured: dict[str, float] = {}
    try:
        measured = measured_quantities(case, said)
        question = serving_question(case)
        with np.errstate(all="ignore"):  # what is not finite is refused below
            return _predicted(question, blank, measured, said)
    except InexpressibleError as reason:
        quantities = measured or {"": float("nan")}
        return [
            replace(blank, quantity=name, measured=value if measured else None, reason=str(reason))
            for name, value in quantities.items()
        ]


def answers(question: ServingQuestion) -> Answer:
    """What the model says of a question.

    Raises InexpressibleError where its numbers give no finite time.
    """
    return _ANSWERS[question.way](question)


def _predicted(
    question: ServingQuestion, blank: Prediction, measured: dict[str, float], said: list[str]
) -> list[Prediction]:
    answer = answers(question)
    row = answer.taken
    batch = _at(answer.batch, row)
    naive = _naive(question, batch)
    latency = _latency(question, measured)
    if latency is not None:
        measured = {**measured, "latency_s": latency}
    found = []
    chosen = _filled(question, answer, row)
    planned = question.engine.usable_memory * question.system.chip.hbm_bytes
    room = None if answer.memory is None else _at(answer.memory, row) / planned
    for quantity, value in measured.items():
        if quantity not in answer.quantities:
            raise InexpressibleError(f"{quantity} is not a quantity of a run of the kind {question.way!r}")
        predicted = _at(answer.quantities[quantity], row)
        if not 0.0 < predicted < np.inf:
            raise InexpressibleError("the numbers of the case give no finite time")
        bound = naive.get(quantity)
        found.append(
            replace(
                blank, quantity=quantity, measured=value, predicted=predicted, error=predicted / value - 1.0,
                stack=question.engine.name, rules=(*question.rules, *said), chosen=chosen,
                parts=None if answer.parts is None else {k: _at(v, row) for k, v in answer.parts.items()},
                memory=room, ran=True, roofline_error=bound / value - 1.0 if bound and np.isfinite(bound) else None,
            )
        )  # fmt: skip
    return found


def _at(values: Any, row: int) -> float:
    values = np.asarray(values, float)
    return float(values if values.ndim == 0 else values.reshape(-1)[min(row, values.size - 1)])


def _filled(question: ServingQuestion, answer: Answer, row: int) -> str | None:
    """What was open, with the values that were taken."""
    instance = question.instance
    texts = []
    for one in question.chosen:
        if one == "layout":
            fields = {"tp": instance.tensor_parallel, "dp": instance.data_parallel, "ep": instance.expert_parallel}
            texts.append(", ".join(f"{name}={_at(value, row):.0f}" for name, value in fields.items()))
        elif one == "batch":
            texts.append(f"batch={_at(answer.batch, row):.0f}")
        else:
            texts.append(one)
    if _at(answer.limited, row):
        texts.append(f"batch={_at(answer.batch, row):.0f} (all that memory or the engine allows)")
    return ", ".join(texts) or None


def _latency(question: ServingQuestion, measured: Mapping[str, float]) -> float | None:
    """Seconds of a whole request, where both of its parts are measured."""
    if question.way != "concurrent" or not {"ttft_s", "tpot_s"} <= set(measured):
        return None
    return measured["ttft_s"] + measured["tpot_s"] * (question.serving.requests.output_tokens - 1.0)


# ------------------------------------------------------------------------------------------------ kinds of run
def _given(question: ServingQuestion) -> tuple[Any, Any, Any, Any]:
    return question.system, question.engine, question.serving, question.instance


def _parts(cost: ServingCost) -> Mapping[str, Any]:
    shape = np.shape(cost.step_time)
    return {part: np.broadcast_to(value, shape) for part, value in cost.time.parts().items()}


def _prefill(question: ServingQuestion) -> Answer:
    cost = prefill_cost(*_given(question))
    rate = cost.tokens_per_second / question.chips
    done = {"ttft_s": cost.ttft, "total_time_s": cost.ttft, "tokens_per_s_per_chip": rate, "step_time_s": cost.ttft}
    return Answer(done, 1.0 / rate, cost.batch, _parts(cost), cost.memory.total)


# Engines cut the cache in blocks and let a request wait again when it runs out, so that a run at a stated concurrency
# is limited by its mean lengths; and no more than the model's count of memory is known to.
_FITS_WITHIN = 1.1


def _room(question: ServingQuestion, phase: Any) -> Any:
    """Sequences that memory and the engine allow."""
    requests = question.serving.requests
    longest = requests.input_tokens + (requests.output_tokens if phase != "prefill" else 0.0)
    fits = most_sequences(question.system, question.engine, question.serving, question.instance, longest)
    groups = np.asarray(question.instance.data_parallel, float)
    room = np.floor(np.minimum(np.minimum(fits, question.engine.max_sequences * groups), question.most))
    return np.floor(np.asarray(room) * (1.0 - question.engine.batching_loss) + 1e-9)


def _room_in_mean(question: ServingQuestion) -> Any:
    """Sequences of mean length that memory allows with a margin, and the engine's own limit."""
    engine = replace(question.engine, usable_memory=_FITS_WITHIN * question.engine.usable_memory)
    context = mean_context(question.serving)
    room = most_sequences(question.system, engine, question.serving, question.instance, context)
    return np.minimum(room, engine.max_sequences * np.asarray(question.instance.data_parallel))


def _open_batch(question: ServingQuestion, phase: Any) -> ServingQuestion:
    """The question at the largest batch that memory and the engine allow."""
    room = _room(question, phase)
    if not np.any(room >= 1.0):
        raise InexpressibleError("by the model's count not one sequence fits in memory")
    return replace(question, instance=question.instance.with_(batch=np.where(room >= 1.0, room, np.nan)))


def _decode(question: ServingQuestion) -> Answer:
    if question.batch is None:
        question = _open_batch(question, "decode")
    context = question.context
    cost = decode_cost(*_given(question), context)
    steps = question.serving.requests.output_tokens
    done = {
        "tpot_s": cost.tpot, "step_time_s": cost.step_time, "total_time_s": cost.tpot * steps,
        "tokens_per_s_per_chip": cost.tokens_per_second / question.chips,
        "layer_s": _layer(question, cost),
    }  # fmt: skip
    return Answer(done, 1.0 / cost.tokens_per_second, cost.batch, _parts(cost), cost.memory.total)


def _layer(question: ServingQuestion, cost: ServingCost) -> Any:
    """Seconds that one more layer adds to a step."""
    model = question.serving.architecture
    deeper = replace(question.serving, architecture=replace(model, layers=model.layers + 1))
    more = decode_cost(question.system, question.engine, deeper, question.instance, question.context)
    return more.step_time - cost.step_time


def _static(question: ServingQuestion) -> Answer:
    if question.batch is None:
        raise InexpressibleError("the batch is not stated")
    cost = static_cost(*_given(question))
    output = question.serving.requests.output_tokens
    rate = question.batch * output / cost.total_s / question.chips
    done = {
        "total_time_s": cost.total_s, "ttft_s": cost.ttft, "tpot_s": cost.tpot, "tokens_per_s_per_chip": rate,
    }  # fmt: skip
    batch = question.batch / cost.waves
    return Answer(done, cost.total_s, batch, limited=np.asarray(cost.waves) > 1.0)


def _together(question: ServingQuestion) -> Answer:
    """Continuous batching at a stated concurrency, or the most that fits; those beyond it wait outside."""
    asked = question.batch
    if asked is None:
        question = _open_batch(question, "serving")
        limited: Any = False
    else:
        room = _room_in_mean(question)
        taken = np.where(room >= 1.0, np.minimum(asked, room), asked)
        limited = taken < asked
        question = replace(question, instance=question.instance.with_(batch=taken))
    cost = serving_cost(*_given(question))
    output = question.serving.requests.output_tokens
    outside = 0.0 if asked is None else np.maximum(asked - cost.batch, 0.0) / cost.requests_per_second
    burst = 0.0 if asked is None else _in_bursts(question, cost)
    first, tpot = cost.ttft + burst + outside, cost.tpot - burst / output
    done = {
        "tpot_s": tpot, "ttft_s": first, "step_time_s": cost.step_time, "latency_s": first + tpot * (output - 1.0),
        "tokens_per_s_per_chip": cost.tokens_per_second / question.chips,
    }  # fmt: skip
    return Answer(done, 1.0 / cost.tokens_per_second, cost.batch, _parts(cost), cost.memory.total, limited)


# A benchmark with a fixed number of users starts them together. Of the first wave the mean request waits for half of
# the prompts; of a run of so many requests for each user, one in so many is of the first wave. Where a source does not
# say how many there were, or lengths are all alike, so that prompts come together again, an engine's `burst_wait` is
# the share of the first wave's wait in the mean over a run.
def _in_bursts(question: ServingQuestion, cost: ServingCost) -> Any:
    """Seconds that a request waits for other prompts of its burst instead of being held up by them while it decodes."""
    engine, requests = question.engine, question.serving.requests
    wait = first_wave_wait(*_given(question), mean_context(question.serving))
    share = engine.burst_wait if question.rounds is None else 1.0 / question.rounds
    return np.minimum(share * wait, 0.5 * cost.tpot * requests.output_tokens)


_ANSWERS = {
    "prefill": _prefill, "decode": _decode, "static": _static, "concurrent": _together, "offline": _together,
}  # fmt: skip


# ------------------------------------------------------------------------------------------------ the naive bound
def _naive(question: ServingQuestion, batch: float) -> dict[str, float]:
    """The same quantities by peaks alone."""
    serving, requests = question.serving, question.serving.requests
    bound = Roofline(question.system, serving, float(np.asarray(question.instance.ranks).reshape(-1)[0]))
    drafts = float(np.asarray(question.instance.draft_tokens))
    emitted = float(accepted_tokens(drafts, serving.acceptance))
    new = requests.input_tokens * (1.0 - requests.prefix_hit)

    def prompt(count: float) -> float:
        return bound.seconds(count, new, requests.input_tokens - new / 2.0, cached=False)

    if question.way == "prefill":
        first = prompt(batch)
        rate = batch * requests.input_tokens / first / question.chips
        return {"ttft_s": first, "total_time_s": first, "step_time_s": first, "tokens_per_s_per_chip": rate}
    context = mean_context(serving) if question.context is None else question.context
    step = bound.seconds(batch, 1.0 + drafts, context, cached=True)
    tpot = step / emitted
    if question.way == "decode":
        return {"tpot_s": tpot, "step_time_s": step, "layer_s": step / serving.architecture.layers,
                "total_time_s": tpot * requests.output_tokens,
                "tokens_per_s_per_chip": batch / tpot / question.chips}  # fmt: skip
    if question.way == "static":
        asked = question.batch or batch
        total = asked / batch * (prompt(batch) + (requests.output_tokens - 1.0) * tpot)
        return {"total_time_s": total, "ttft_s": prompt(batch), "tpot_s": tpot,
                "tokens_per_s_per_chip": asked * requests.output_tokens / total / question.chips}  # fmt: skip
    tpot += batch * prompt(1.0) / requests.output_tokens  # each request in flight brings its prompt once
    first = prompt(1.0) + step / 2.0
    return {"tpot_s": tpot, "ttft_s": first, "step_time_s": tpot * emitted,
            "latency_s": first + tpot * (requests.output_tokens - 1.0),
            "tokens_per_s_per_chip": batch / tpot / question.chips}  # fmt: skip
