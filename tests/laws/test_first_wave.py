"""First tokens of users who start together, against an engine simulated pass by pass."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from model.serving.first_wave import first_wave_wait
from model.serving.instance import Instance
from model.serving.passes import forward_pass
from model.serving.rates import mean_context, serving_cost
from model.serving.shares import Batch
from model.serving.stack import ServingStack
from model.serving.workload import Requests, Serving
from sweep import catalogue

SYSTEM = catalogue.system("dgx-h100")
ROUNDS = 10
CHUNK = 8192


@dataclass(frozen=True)
class Engine:
    """Seconds of a pass by decoding sequences and prompt tokens, and whether it mixes them."""

    sequences: Any
    tokens: Any
    seconds: Any
    mixes: bool

    def __call__(self, sequences: int, tokens: float) -> float:
        """Of one pass, interpolated."""
        columns = [np.interp(tokens, self.tokens, row) for row in self.seconds]
        return float(np.interp(sequences, self.sequences, columns))


def engine(stack: ServingStack, serving: Serving, instance: Instance, users: int) -> Engine:
    """The passes of an instance on a grid."""
    sequences, tokens = np.array([0, 1, users / 4, users / 2, users]), np.array([0.0, 1, 256, 1024, 2048, 4096, CHUNK])
    prompt = serving.requests.input_tokens
    batch = Batch(
        sequences[:, None], mean_context(serving), tokens, np.maximum(tokens / prompt, 1.0),
        np.maximum(prompt - tokens, 0.0) / 2.0,
    )  # fmt: skip
    return Engine(sequences, tokens, forward_pass(SYSTEM, stack, serving, instance, batch).seconds, stack.mixes_prompts)


def first_tokens(run: Engine, users: int, requests: Requests, rounds: int, spread: float) -> Any:
    """Seconds from arrival to first token of each request, in the order of arrival: users ask again when served."""
    draw, total = np.random.default_rng(5), users * rounds
    prompts = requests.input_tokens * draw.uniform(1.0 - spread, 1.0 + spread, total)
    outputs = np.ceil(requests.output_tokens * draw.uniform(1.0 - spread, 1.0 + spread, total))
    came, first = np.zeros(total), np.zeros(total)
    queue, decoding, now, last = list(range(users)), {}, 0.0, users
    while queue or decoding:
        room = CHUNK - (len(decoding) if run.mixes else 0)
        taken = []
        for one in queue:
            size = min(prompts[one], room)
            if size > 0:
                taken.append((one, size))
                room -= size
        steps = 1 if taken else int(min(decoding.values()))
        beside = len(decoding) if run.mixes or not taken else 0
        now += steps * run(beside, sum(size for _, size in taken))
        ended = []
        if beside:
            decoding = {one: left - steps for one, left in decoding.items()}
            ended = [one for one, left in decoding.items() if left <= 0]
        for one, size in taken:
            prompts[one] -= size
            if prompts[one] <= 1e-6:
                queue.remove(one)
                first[one], decoding[one] = now, outputs[one] - 1
        for one in ended:
            del decoding[one]
            if last < total:
                came[last] = now
                queue.append(last)
                last += 1
    return first - came


def asked(users: int, prompt: int, mixes: bool, output: int = 512) -> tuple[ServingStack, Serving, Instance]:
    """A dense model of 70 billion weights on eight chips."""
    stack = replace(catalogue.engine("vllm-2026"), mixes_prompts=mixes, admission_passes=0.0, request_s=0.0)
    serving = Serving(catalogue.architecture("llama-3-70b"), Requests(prompt, output, variation=0.06), "fp8")
    return stack, serving, Instance(tensor_parallel=8, batch=float(users), chunk=CHUNK)


@pytest.mark.parametrize("mixes", [True, False])
@pytest.mark.parametrize("prompt", [500, 1900, 7400])
@pytest.mark.parametrize("users", [8, 32, 128])
def test_the_first_wave_waits_as_long_as_in_an_engine_simulated_pass_by_pass(
    users: int, prompt: int, mixes: bool
) -> None:
    """The mean first token of users who start together, less that of one alone, within 12 %."""
    stack, serving, instance = asked(users, prompt, mixes)
    run = engine(stack, serving, instance, users)
    together = np.mean(first_tokens(run, users, serving.requests, 1, 0.0))
    alone = first_tokens(run, 1, serving.requests, 1, 0.0)[0]
    wait = first_wave_wait(SYSTEM, stack, serving, instance, mean_context(serving))
    assert float(wait) == pytest.approx(together - alone, rel=0.12, abs=0.2 * alone)


@pytest.mark.parametrize("mixes", [True, False])
@pytest.mark.parametrize(
    ("users", "prompt", "output"), [(8, 1024, 512), (32, 1024, 512), (16, 4096, 512), (64, 1024, 1024)]
)
def test_the_mean_first_token_of_a_run_is_that_of_a_simulated_one(
    users: int, prompt: int, output: int, mixes: bool
) -> None:
    """Users who ask ten times each, lengths spread by a tenth: one request in ten waits with the first wave."""
    stack, serving, instance = asked(users, prompt, mixes, output)
    simulated = float(
        np.mean(first_tokens(engine(stack, serving, instance, users), users, serving.requests, ROUNDS, 0.1))
    )
    later = serving_cost(SYSTEM, stack, serving, instance).ttft
    wait = first_wave_wait(SYSTEM, stack, serving, instance, mean_context(serving))
    assert float(later + wait / ROUNDS) == pytest.approx(simulated, rel=0.2)


def test_one_user_waits_for_nobody_and_more_users_wait_longer() -> None:
    """No wait of one alone; it grows with the users."""
    stack, serving, instance = asked(1, 1024, True)
    counts = np.array([1.0, 2.0, 8.0, 64.0, 512.0])
    wait = first_wave_wait(SYSTEM, stack, serving, instance.with_(batch=counts), mean_context(serving))
    assert wait[0] == pytest.approx(0.0, abs=1e-12)
    assert np.all(np.diff(wait) > 0.0)
