"""Which layouts can run at all: divisibility and framework rules, each as an excess that is positive where broken.

Rules: Megatron-Core's argument checks (megatron/training/arguments.py) and MoE parallel folding (arXiv:2504.14960).
Memory is judged in model/step.py, in bytes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from model.layout import SCHEDULES, Array, Layout
from model.workload import Training

_INTERLEAVED = SCHEDULES.index("interleaved")
_ZERO_BUBBLE_V = SCHEDULES.index("zb-v")
_DUAL_PIPE = SCHEDULES.index("dualpipe")


def _rest(a: Any, b: Any) -> Array:
    """Remainder of a / b."""
    return np.asarray(np.mod(a, b))


def _shape_rules(training: Training, layout: Layout) -> dict[str, Array]:
    """Rules on how the model's dimensions divide."""
    model = training.architecture
    t, c = np.asarray(layout.tensor_parallel), np.asarray(layout.context_parallel)
    p, v = np.asarray(layout.pipeline_parallel), np.asarray(layout.virtual_stages)
    key_rule = np.zeros_like(t)
    if model.latent is None:
        kv = model.key_value_heads
        key_rule = np.minimum(_rest(kv, t), _rest(t, kv))
    around = np.where(np.asarray(layout.context_exchange) == 0, 0, _rest(model.heads, t * c))
    return {
        "heads_over_tp": _rest(model.heads, t),
        "kv_heads_over_tp": key_rule,
        "feed_forward_over_tp": _rest(model.feed_forward, t),
        "sequence_over_2cp": np.where(c > 1, _rest(training.sequence, 2 * c), 0),
        "sequence_over_tp": np.where(
            np.asarray(layout.sequence_parallel) > 0, _rest(training.sequence // np.maximum(c, 1), t), 0
        ),
        "heads_for_all_to_all": around,
        "stages_over_layers": np.maximum(p * v - model.layers - model.mtp_layers, 0),
    }


def _expert_rules(training: Training, layout: Layout) -> dict[str, Array]:
    """Rules on how experts divide."""
    e, et = np.asarray(layout.expert_parallel), np.asarray(layout.expert_tensor_parallel)
    experts = training.architecture.experts
    inside = np.asarray(layout.tensor_parallel) * layout.context_parallel * layout.data_parallel
    if experts is None:
        return {"expert_ranks": np.asarray(e * et - 1)}
    return {
        "expert_ranks": _rest(inside, e * et),
        "experts_over_ep": _rest(experts.experts, e),
        "tp_with_ep_needs_sequence_parallel": np.where(
            (e > 1) & (np.asarray(layout.tensor_parallel) > 1) & (np.asarray(layout.sequence_parallel) == 0), 1, 0
        ),
        "expert_width_over_etp": _rest(experts.hidden, et),
    }


def _batch_rules(layout: Layout) -> dict[str, Array]:
    """Rules on microbatches and schedules."""
    p, v = np.asarray(layout.pipeline_parallel), np.asarray(layout.virtual_stages)
    schedule = np.asarray(layout.schedule)
    whole = np.asarray(layout.micro_batch) * layout.data_parallel
    batch_rest = _rest(layout.global_batch, whole)
    m = np.asarray(layout.global_batch) // np.maximum(whole, 1)
    interleaved = schedule == _INTERLEAVED
    chunks = np.where(interleaved | (schedule == _ZERO_BUBBLE_V), 0, v - 1)
    chunks = np.where((schedule == _ZERO_BUBBLE_V) & (v != 2), 1, chunks)
    return {
        "batch_over_replicas": batch_rest,
        "microbatches_over_pp": np.where(interleaved & (v > 1) & (batch_rest == 0), _rest(m, p), 0),
        "chunks_need_interleaving": chunks,
        "chunks_need_stages": np.where(p > 1, 0, v - 1),
        "dual_pipe": np.where(
            (schedule == _DUAL_PIPE) & (p > 1), np.mod(p, 2) + np.mod(m, 2) + np.maximum(2 * p - m, 0), 0
        ),
        "zero_with_pipeline": np.where((np.asarray(layout.zero_stage) >= 2) & (p > 1), 1, 0),
        "sequence_parallel_needs_tp": np.where(
            (np.asarray(layout.sequence_parallel) > 0) & (np.asarray(layout.tensor_parallel) <= 1), 1, 0
        ),
    }


def rules(training: Training, layout: Layout) -> dict[str, Array]:
    """Rule name -> excess of every layout; integers, positive where broken."""
    return _shape_rules(training, layout) | _expert_rules(training, layout) | _batch_rules(layout)


def legal(training: Training, layout: Layout) -> Array:
    """Where no rule is broken."""
    ok: Any = True
    for excess in rules(training, layout).values():
        ok = ok & (excess <= 0)
    return np.broadcast_to(np.asarray(ok), layout.shape)


def violations(training: Training, layout: Layout) -> dict[str, Array]:
    """Broken rules only (rules that hold everywhere are left out), as excesses."""
    return {name: excess for name, excess in rules(training, layout).items() if np.any(excess > 0)}
