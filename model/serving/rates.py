r"""What a stream of requests makes of an instance: prefill, decode, both in one instance, or apart.

Prefill works through prompts in chunks; decode takes a step for all sequences in flight, 1 + a + a^2 + ... tokens each
where drafts are accepted with probability a. With both in one instance (continuous batching), n sequences that emit
A tokens a step finish n A / O requests a step, each of which brings a prompt of I tokens: a share of the passes carry
prompt tokens, and the mean step follows from its own rate as a fixed point. Little's law closes it: the requests in
flight are the rate x (time to first token + output x time per token).

Sources: Orca, OSDI 2022; Sarathi-Serve, arXiv:2403.02310; DistServe, arXiv:2401.09670; the arithmetic of
arXiv:2506.12708, sections 4 and 5.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from model.energy import Energy
from model.matmul import smooth_maximum
from model.powers import power
from model.serving.cost import ServingCost
from model.serving.instance import Instance
from model.serving.memory import ServingMemory, cache_bytes, instance_memory, most_sequences
from model.serving.passes import PassCost, PassTime, forward_pass
from model.serving.queueing import mean_wait, occupancy_quantile, wait_quantile
from model.serving.shares import Batch
from model.serving.stack import ServingStack
from model.serving.workload import Serving
from model.system import System

_NOT = np.asarray(np.nan)
_ROUNDS = 14  # of the fixed point: the bracket is at rounding error then
_NEAR = 1e-9  # of what is looked for
_GAUSS = ((0.5 - np.sqrt(0.15), 5.0 / 18.0), (0.5, 8.0 / 18.0), (0.5 + np.sqrt(0.15), 5.0 / 18.0))


def accepted_tokens(draft_tokens: Any, acceptance: float) -> Any:
    """Mean tokens that a step emits for a sequence: the sampled one, and the drafts before the first refusal."""
    drafts = np.asarray(draft_tokens, float)
    if acceptance >= 1.0:
        return 1.0 + drafts
    return (1.0 - power(acceptance, drafts + 1.0)) / (1.0 - acceptance)


def _energy(system: System, instance: Instance, seconds: Any, cost: PassCost) -> Energy:
    """Energy of one pass by every stage of a pipeline."""
    power, stages, time = system.chip.power, np.asarray(instance.pipeline_parallel, float), cost.time
    return Energy(
        system,
        seconds,
        instance.ranks,
        cost.matrix_joules * stages,
        cost.hbm_bytes * stages * power.joule_per_hbm_byte,
        cost.link_bytes * stages * power.joule_per_link_byte,
        time.linear + time.attention + time.experts + time.vector,
        time.tensor + time.context + time.exchange + time.transfer,
    )


def _over(system: System, stack: ServingStack, used: ServingMemory) -> dict[str, Any]:
    """Bytes over the share of HBM that may be planned; negative: bytes left."""
    return {"hbm_bytes": used.total - stack.usable_memory * system.chip.hbm_bytes}


# ------------------------------------------------------------------------------------------------ one phase alone
def _chunked(stack: ServingStack, serving: Serving, instance: Instance, chunk: Any) -> tuple[Batch, Any]:
    """The mean pass of `instance.batch` prompts in chunks of `chunk` tokens, and how many passes they take."""
    requests = serving.requests
    new = requests.input_tokens * (1.0 - requests.prefix_hit)
    groups, prompts = np.asarray(instance.data_parallel, float), np.asarray(instance.batch, float)
    own = np.maximum(prompts / groups, 1.0)  # prompts of a busy group
    tokens = own * new
    size = np.where(np.asarray(chunk) > 0, np.minimum(np.asarray(chunk, float), tokens), tokens)
    passes = np.ceil(tokens / size - 1e-9)
    each = tokens / passes  # of a group in a pass
    together = np.maximum(each / new, 1.0)  # prompts of a group in a pass
    busy = np.minimum(prompts, groups)
    before = requests.input_tokens * requests.prefix_hit + np.maximum(new - each, 0.0) / 2.0
    return Batch(prompt_tokens=each * busy, prompts=together * busy, cached=before), passes


def prefill_cost(system: System, stack: ServingStack, serving: Serving, instance: Instance) -> ServingCost:
    """Prompts only: `instance.batch` of them at a time, each attention group in chunks of `instance.chunk` tokens.

    The time to first token is without waiting; a pipeline works on as many chunks as it has stages.
    """
    batch, passes = _chunked(stack, serving, instance, instance.chunk)
    cost = forward_pass(system, stack, serving, instance, batch)
    stages = np.asarray(instance.pipeline_parallel, float)
    prompts = np.asarray(instance.batch, float)
    interval = cost.seconds / stages
    first = cost.seconds + (passes - 1.0) * interval + stack.request_s
    rate = prompts / (passes * interval)
    used = instance_memory(
        stack, serving, instance, prompts, serving.requests.input_tokens, batch.prompt_tokens / instance.data_parallel
    )
    tokens = prompts * serving.requests.input_tokens / passes
    return ServingCost(
        batch=prompts, ttft=first, ttft_p99=first, tpot=_NOT, tpot_p99=_NOT, requests_per_second=rate,
        tokens_per_second=rate * serving.requests.input_tokens, step_time=cost.seconds, time=cost.time, memory=used,
        energy=_energy(system, instance, cost.seconds, cost), tokens=tokens * stages,
        packages=instance.ranks * system.packages_per_rank, violations=_over(system, stack, used),
    )  # fmt: skip


def mean_context(serving: Serving) -> float:
    """Mean tokens in the cache of a sequence that decodes: its prompt and half of its output."""
    return serving.requests.input_tokens + serving.requests.output_tokens / 2.0


def _decode_pass(
    system: System, stack: ServingStack, serving: Serving, instance: Instance, sequences: Any, context: Any
) -> PassCost:
    """One pass of the sequences of an instance; each stage of a pipeline works on its share of them."""
    share = np.asarray(sequences, float) / np.asarray(instance.pipeline_parallel, float)
    return forward_pass(system, stack, serving, instance, Batch(sequences=share, context=context))


def decode_cost(
    system: System, stack: ServingStack, serving: Serving, instance: Instance, context: Any = None
) -> ServingCost:
    """Decoding only: `instance.batch` sequences with `context` tokens each in the cache (default: the mean)."""
    context = mean_context(serving) if context is None else context
    sequences = np.asarray(instance.batch, float)
    cost = _decode_pass(system, stack, serving, instance, sequences, context)
    emitted = accepted_tokens(instance.draft_tokens, serving.acceptance)
    rate = sequences * emitted / cost.seconds
    used = instance_memory(stack, serving, instance, sequences, context)
    tpot = cost.seconds / emitted
    return ServingCost(
        batch=sequences, ttft=_NOT, ttft_p99=_NOT, tpot=tpot, tpot_p99=tpot,
        requests_per_second=rate / serving.requests.output_tokens, tokens_per_second=rate, step_time=cost.seconds,
        time=cost.time, memory=used, energy=_energy(system, instance, cost.seconds, cost), tokens=sequences * emitted,
        packages=instance.ranks * system.packages_per_rank, violations=_over(system, stack, used),
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------ both in one
@dataclass(frozen=True, slots=True)
class _Mix:
    """The mean pass of an instance that decodes n sequences and takes in the prompts that follow from that."""

    decode: PassCost
    prompt: PassCost  # a pass with prompts in it
    share: Any  # of the passes that carry prompts
    mean_s: Any
    outside_s: Any  # of it, for a front end that is slower than the engine
    passes: Any  # that a prompt takes
    busy: Any  # share of the room for prompt tokens that is used


def _mixed(
    system: System, stack: ServingStack, serving: Serving, instance: Instance, sequences: Any, context: Any
) -> _Mix:
    requests = serving.requests
    groups = np.asarray(instance.data_parallel, float)
    stages = np.asarray(instance.pipeline_parallel, float)
    emitted = accepted_tokens(instance.draft_tokens, serving.acceptance)
    chunk = np.where(np.asarray(instance.chunk) > 0, instance.chunk, stack.chunk).astype(float)
    new = requests.input_tokens * (1.0 - requests.prefix_hit)
    arriving = sequences / stages / groups * emitted / requests.output_tokens * new  # tokens of a group and pass
    size = np.clip(arriving, np.minimum(new, chunk), chunk)
    own = np.minimum(arriving / size, 1.0)
    share = 1.0 - power(1.0 - own, groups)  # a pass waits for whichever group has prompts
    together = np.minimum(arriving, chunk) * groups / np.maximum(share, 1e-12)
    before = requests.input_tokens * requests.prefix_hit + np.maximum(new - size, 0.0) / 2.0
    prompts = np.maximum(together / np.minimum(new, chunk), 1.0)
    decoding = Batch(sequences=sequences / stages, context=context)
    decode = forward_pass(system, stack, serving, instance, decoding)
    both = Batch(
        sequences=sequences / stages if stack.mixes_prompts else 0.0,
        context=context,
        prompt_tokens=together,
        prompts=prompts,
        cached=before,
    )
    prompt = forward_pass(system, stack, serving, instance, both)
    apart = 0.0 if stack.mixes_prompts else decode.seconds
    mean = (1.0 - share) * decode.seconds + share * (prompt.seconds + apart)
    leaving = sequences / stages / groups * emitted * stack.output_s  # each group has a front end of its own
    outside = np.maximum(smooth_maximum(mean, leaving) - mean, 0.0)
    passes, busy = np.ceil(new / chunk - 1e-9), np.minimum(arriving / chunk, 1.0)
    return _Mix(decode, prompt, share, mean + outside, outside, passes, busy)


def serving_cost(
    system: System, stack: ServingStack, serving: Serving, instance: Instance, context: Any = None
) -> ServingCost:
    """Prompts and decoding in one instance with `instance.batch` requests in flight, each followed by the next.

    Tails: the 99th percentile of the time per token is that of a batch as full as it is 1 % of the time; that of the
    first token follows from the wait (model/serving/queueing.py).
    """
    context = mean_context(serving) if context is None else context
    requests = serving.requests
    flying = np.asarray(instance.batch, float)
    emitted = accepted_tokens(instance.draft_tokens, serving.acceptance)

    def state(decoding: Any) -> tuple[_Mix, Any, Any, Any]:
        """The mix, first-token times, and how many requests in flight are too many for so many that decode."""
        mix = _mixed(system, stack, serving, instance, decoding, context)
        first, first_p99 = _first_token(stack, serving, instance, mix)
        lifetime = mix.mean_s * requests.output_tokens / emitted
        return mix, first, first_p99, decoding * (1.0 + first / lifetime) - flying

    chunk = np.where(np.asarray(instance.chunk) > 0, instance.chunk, stack.chunk).astype(float)
    new = requests.input_tokens * (1.0 - requests.prefix_hit)
    room = np.asarray(instance.data_parallel, float) * instance.pipeline_parallel * chunk
    most = np.minimum(flying, room * requests.output_tokens / (emitted * new))  # beyond it prompts would pile up
    decoding = _root(lambda count: state(count)[3], most)
    mix, first, first_p99, _ = state(decoding)
    rate = decoding * emitted / mix.mean_s
    tpot = mix.mean_s / emitted
    # what Little's law leaves for the first token: where prompts pile up, all the time that the others decode
    left = flying * requests.output_tokens / rate - tpot * requests.output_tokens - first
    first, first_p99 = first + np.maximum(left, -0.5 * first), first_p99 + np.maximum(left, -0.5 * first)
    fuller = occupancy_quantile(decoding, flying)
    slowest = _mixed(system, stack, serving, instance, fuller, context).mean_s / emitted
    used = instance_memory(stack, serving, instance, flying, context, np.where(mix.share > 0, stack.chunk, 0.0))
    cost = _mean_pass(mix, stack)
    return ServingCost(
        batch=flying, ttft=first, ttft_p99=first_p99, tpot=tpot, tpot_p99=np.maximum(slowest, tpot),
        requests_per_second=rate / requests.output_tokens, tokens_per_second=rate, step_time=mix.mean_s,
        time=cost.time, memory=used, energy=_energy(system, instance, mix.mean_s, cost), tokens=decoding * emitted,
        packages=instance.ranks * system.packages_per_rank, violations=_over(system, stack, used),
    )  # fmt: skip


def _root(excess: Callable[[Any], Any], most: Any) -> Any:
    """Where a growing function that is below 0 at 0 and above it at `most` passes through 0.

    False position, with the weight of an end that stays halved each time (the Illinois rule): it converges faster than
    halving alone, and never leaves the bracket; each third round halves. `most` itself where it is below 0 there.
    Source: Dowell and Jarratt, BIT 11, 1971.
    """
    low, high = np.zeros_like(most), most
    above = excess(most)
    reached = above > 0  # else it stays below 0 up to `most`
    below = -np.abs(above) - most
    stayed = np.zeros_like(most)
    middle = most
    found = ~reached
    for at in range(_ROUNDS):
        weight = np.where(reached, below / (below - np.where(reached, above, 1.0)), 1.0)
        there = low + (high - low) * (weight if at % 3 else np.minimum(weight, 0.5))
        middle = np.where(found, middle, there)  # what is found stays, whatever stands beside it
        value = excess(middle)
        found = found | (np.abs(value) <= _NEAR * most)
        if np.all(found):
            break
        over = value > 0
        above = np.where(over, value, above * np.where(stayed == -1, 0.5, 1.0))
        below = np.where(over, below * np.where(stayed == 1, 0.5, 1.0), value)
        low, high = np.where(over, low, middle), np.where(over, middle, high)
        stayed = np.where(over, 1, -1)
    return middle


def _first_token(stack: ServingStack, serving: Serving, instance: Instance, mix: _Mix) -> tuple[Any, Any]:
    """Mean time to first token and its 99th percentile: the pass at work, the queue, the passes of the prompt."""
    between = mix.prompt.seconds + (0.0 if stack.mixes_prompts else mix.decode.seconds)
    stages = np.asarray(instance.pipeline_parallel, float)
    service = mix.prompt.seconds + (mix.passes - 1.0) * between / stages
    wait = mean_wait(mix.busy, mix.passes * between / stages, serving.requests.variation)
    rest = mix.mean_s * stack.admission_passes + service + stack.request_s
    return rest + wait, rest + wait_quantile(mix.busy, wait, 0.99)


def _mean_pass(mix: _Mix, stack: ServingStack) -> PassCost:
    """The mean of passes with and without prompts."""
    alone = 1.0 if not stack.mixes_prompts else 1.0 - mix.share

    def mean(decode: Any, prompt: Any) -> Any:
        return alone * decode + mix.share * prompt

    decode, prompt = mix.decode, mix.prompt
    names = PassTime.__dataclass_fields__
    time = PassTime(*(mean(getattr(decode.time, name), getattr(prompt.time, name)) for name in names))
    return PassCost(
        replace(time, fixed=time.fixed + mix.outside_s),
        mean(decode.matrix_joules, prompt.matrix_joules),
        mean(decode.hbm_bytes, prompt.hbm_bytes),
        mean(decode.link_bytes, prompt.link_bytes),
    )


# ------------------------------------------------------------------------------------------------ a fixed batch
@dataclass(frozen=True, slots=True)
class StaticCost:
    """A batch that starts together: seconds of its prompts, of everything, and per output token after the first."""

    ttft: Any
    total_s: Any
    tpot: Any
    waves: Any  # 1 where all sequences fit in memory; else they take turns


def static_cost(system: System, stack: ServingStack, serving: Serving, instance: Instance) -> StaticCost:
    """`instance.batch` requests that start together and run to their end.

    The decode steps are summed over a growing context by Gauss's rule with three points.
    """
    requests = serving.requests
    total = np.asarray(instance.batch, float)
    fits = most_sequences(system, stack, serving, instance, requests.input_tokens + requests.output_tokens)
    waves = np.maximum(total / np.maximum(np.minimum(fits, stack.max_sequences * instance.data_parallel), 1.0), 1.0)
    sequences = total / waves
    chunk = np.where(np.asarray(instance.chunk) > 0, instance.chunk, stack.chunk)
    batch, passes = _chunked(stack, serving, instance.with_(batch=sequences), chunk)
    cost = forward_pass(system, stack, serving, instance, batch)
    stages = np.asarray(instance.pipeline_parallel, float)
    prompts = cost.seconds + (passes - 1.0) * cost.seconds / stages + stack.request_s
    mean: Any = 0.0
    for place, weight in _GAUSS:
        context = requests.input_tokens + place * requests.output_tokens
        mean = mean + weight * _decode_pass(system, stack, serving, instance, sequences, context).seconds
    tpot = mean / accepted_tokens(instance.draft_tokens, serving.acceptance)
    seconds = waves * (prompts + (requests.output_tokens - 1.0) * tpot)
    return StaticCost(ttft=prompts, total_s=seconds, tpot=tpot, waves=waves)


# ------------------------------------------------------------------------------------------------ apart
def transfer_seconds(system: System, serving: Serving, prefill: Instance, layers_hidden: bool = True) -> Any:
    """Seconds until the cache of a prompt has reached the instance that decodes it, after its last layer was computed.

    Each rank sends its share over the outermost tier that joins the instances; layers leave as they are computed, so
    that only the last one is waited for unless `layers_hidden` is False.
    """
    tier = system.tiers[-1]
    rate = tier.bandwidth * tier.efficiency["point_to_point"] / tier.oversubscription
    held = cache_bytes(serving, prefill, serving.requests.input_tokens)
    stages = np.asarray(prefill.pipeline_parallel, float)
    layers = np.ceil(serving.architecture.layers / stages) if layers_hidden else 1.0
    return tier.latency_s + held / rate / layers


@dataclass(frozen=True, slots=True)
class Pairing:
    """Whole instances for prompts and for decoding that keep up with each other."""

    prefill_instances: Any
    decode_instances: Any
    requests_per_second: Any
    prefill_busy: Any  # share of the prefill instances' rate that is used
    decode_busy: Any


def paired(prefill_rate: Any, decode_rate: Any, prefill_ranks: Any, decode_ranks: Any, ranks: Any) -> Pairing:
    """The whole instances that serve the most requests/s on `ranks` ranks.

    Rates are requests/s of one instance. The balance is where both sides serve the same; the best of the whole numbers
    around it, taken from either side with all that is left to the other, is the best of all.
    """
    prefill_rate, decode_rate = np.asarray(prefill_rate, float), np.asarray(decode_rate, float)
    small, large = np.asarray(prefill_ranks, float), np.asarray(decode_ranks, float)
    share = ranks / (small * decode_rate + large * prefill_rate)  # of the balance in parts of instances
    best: Pairing | None = None
    for more in (-1.0, 0.0, 1.0):
        first = np.maximum(np.floor(share * decode_rate) + more, 0.0)
        second = np.maximum(np.floor(share * prefill_rate) + more, 0.0)
        for prefills, decodes in (
            (first, np.floor((ranks - first * small) / large + 1e-9)),
            (np.floor((ranks - second * large) / small + 1e-9), second),
        ):
            one = _pairing(prefills, decodes, prefill_rate, decode_rate)
            best = one if best is None else _better(one, best)
    assert best is not None
    return best


def _pairing(prefills: Any, decodes: Any, prefill_rate: Any, decode_rate: Any) -> Pairing:
    able = (prefills >= 1.0) & (decodes >= 1.0)
    served = np.where(able, np.minimum(prefills * prefill_rate, decodes * decode_rate), 0.0)
    return Pairing(
        np.where(able, prefills, 0.0), np.where(able, decodes, 0.0), served,
        np.where(able, served / np.maximum(prefills * prefill_rate, 1e-30), 0.0),
        np.where(able, served / np.maximum(decodes * decode_rate, 1e-30), 0.0),
    )  # fmt: skip


def _better(one: Pairing, other: Pairing) -> Pairing:
    wins = one.requests_per_second > other.requests_per_second
    names = Pairing.__dataclass_fields__
    return Pairing(*(np.where(wins, getattr(one, name), getattr(other, name)) for name in names))
