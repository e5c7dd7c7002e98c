r"""Users who start together: how long their first prompts wait for each other.

A closed loop of N users begins with N prompts at once. Each attention group works through its share in P passes of
`chunk` prompt tokens. Prompt i of p passes each is done with the pass in which i p ends, (P + p + 1) / 2 passes in the
mean, and decodes beside the others where the engine mixes them. Of a run in which each user asks K times, one request
in K waits like this; later prompts come one by one, as requests of unlike length end.

Source: first come, first served, in chunks as of Sarathi-Serve, arXiv:2403.02310; checked against an engine simulated
pass by pass.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from model.serving.instance import Instance
from model.serving.passes import forward_pass
from model.serving.shares import Batch
from model.serving.stack import ServingStack
from model.serving.workload import Serving
from model.system import System


def first_wave_wait(system: System, stack: ServingStack, serving: Serving, instance: Instance, context: Any) -> Any:
    """Mean seconds from the start to the first token of `instance.batch` users, less those of one user alone.

    `context` is the mean number of tokens in the cache of a sequence that decodes (arrays broadcast).
    """
    requests = serving.requests
    new = requests.input_tokens * (1.0 - requests.prefix_hit)
    groups, stages = np.asarray(instance.data_parallel, float), np.asarray(instance.pipeline_parallel, float)
    chunk = np.where(np.asarray(instance.chunk) > 0, instance.chunk, stack.chunk).astype(float)
    users = np.asarray(instance.batch, float)
    own = np.maximum(users / groups, 1.0) * new  # tokens of a busy group
    size = np.minimum(own, chunk)

    def seconds(tokens: Any, busy: Any, decoding: Any) -> Any:
        prompts = np.maximum(tokens / new, 1.0) * busy
        before = requests.input_tokens * requests.prefix_hit + np.maximum(new - tokens, 0.0) / 2.0
        batch = Batch(decoding, context, tokens * busy, prompts, before)
        return forward_pass(system, stack, serving, instance, batch).seconds / stages

    passes = np.maximum(own / size, 1.0)
    decoding = np.where(stack.mixes_prompts & (passes > 1.0), users / stages / 2.0, 0.0)
    whole = seconds(size, np.minimum(users, groups), decoding) * np.minimum((passes + new / size + 1.0) / 2.0, passes)
    alone = np.minimum(new, chunk)
    return np.maximum(whole - seconds(alone, 1.0, 0.0) * np.maximum(new / alone, 1.0), 0.0)
