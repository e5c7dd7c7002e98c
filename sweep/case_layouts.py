"""Published training runs as questions to the model: one case in, its workload and the layouts that it may have out.

What a case states is taken; what it leaves open is filled by the rules of its software stack, or by trying the possible
values and keeping the fastest that fits, and every such choice is reported with the prediction.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from model.architecture import Architecture
from model.layout import OFFLOADS, RECOMPUTE_MODULES, SCHEDULES, Layout, mask_of, recompute_code
from model.stack import Stack
from model.workload import Training
from sweep.published import InexpressibleError, architecture, is_fully_sharded, number, number_format
from sweep.recipes import settings
from sweep.rematerialisation import offloaded_share, recomputed

_MODULES = {
    "core_attn": "core_attention",
    "mla_up_proj": "mla_up_projection",
    "layernorm": "norm",
    "moe_act": "activation",
    "mlp": "feed_forward",
    "moe": "experts",
    "shared_experts": "shared_experts",
}


@dataclass(frozen=True, slots=True)
class Question:
    """A case made ready for the model: candidates for what it leaves open, in one layout record."""

    training: Training
    ranks: int
    layouts: Layout  # one row for each way to fill what the case leaves open
    chosen: tuple[str, ...]  # what was left open and is chosen by the model, or assumed


def _recompute(case: Mapping[str, Any], stack: Stack) -> tuple[list[int], bool]:
    """Recompute masks to try, and whether the choice is the model's."""
    modules = list(settings(case).get("recompute_modules") or [])
    flags = case.get("flags") or []
    for flag in flags:
        if isinstance(flag, str) and flag.startswith("recompute modules:"):
            modules = [m.strip() for m in flag.partition(":")[2].split(",")]
    mode = case.get("recompute")
    policy = recomputed(case)
    if policy is not None:
        return [recompute_code(policy)], False
    if mode == "none":
        return [0], False
    if mode == "full":
        return [recompute_code(["full"])], False
    if modules:
        named = [_MODULES.get(m, m) for m in modules]
        return [recompute_code(m for m in named if m in RECOMPUTE_MODULES)], False
    if mode == "selective":
        return [recompute_code(stack.selective_recompute)], False
    steps: tuple[tuple[str, ...], ...] = ((), stack.selective_recompute, stack.wider_recompute, ("full",))
    if stack.recomputes:
        steps = tuple(filter(None, steps))
    return list(dict.fromkeys(map(recompute_code, steps))), True


def _capacity(case: Mapping[str, Any]) -> float:
    """Rows that the experts compute over those routed to them: buffers of a fixed capacity are padded up to it."""
    tuned = (case.get("extra") or {}).get("tuning_params") or {}
    try:
        return max(float(tuned.get("capacity_factor") or 1.0), 1.0)
    except (TypeError, ValueError):
        return 1.0


def _schedule(case: Mapping[str, Any], chunks: int) -> int:
    text = str(case.get("schedule") or "").lower()
    for name in ("dualpipe", "zb-h1", "zb-h2", "zb-v"):
        if name in text or name.replace("-", "") in text:
            return SCHEDULES.index(name)
    return SCHEDULES.index("interleaved" if chunks > 1 else "1f1b")


def _zero_stage(case: Mapping[str, Any], stack: Stack) -> int:
    """Stage of ZeRO: as stated; fully sharded weights without a pipeline, sharded gradients with one."""
    stage = case.get("zero_stage")
    if stage is not None:
        return min(max(int(stage), 0), 3)
    if is_fully_sharded(case):
        return 3 if case.get("pp") in (None, 1) else 2
    # a pipeline of sharded replicas keeps its weights and exchanges gradients after the last microbatch
    return stack.zero_stage if case.get("pp") in (None, 1) else min(stack.zero_stage, 1)


def _chunk_choices(case: Mapping[str, Any], stack: Stack, model: Architecture, stages: int) -> list[int]:
    stated = case.get("vp")
    if stated:
        return [int(stated)]
    schedule = str(case.get("schedule") or "").lower()
    if stages == 1 or (schedule and "interleaved" not in schedule) or not (schedule or stack.interleaves):
        return [1]
    per_stage = max(model.layers // stages, 1)
    return [v for v in range(1, per_stage + 1) if per_stage % v == 0 and v <= 24]


def _microbatches(stack: Stack, batch: int, replicas: int, stages: int) -> list[int]:
    """Sizes to try: powers of two, or the whole batch of a replica where the stack does not accumulate gradients.

    A pipeline always divides its batch.
    """
    if not stack.accumulates and stages == 1 and batch % replicas == 0:
        return [batch // replicas]
    return [b for b in (1, 2, 4, 8, 16) if batch % (b * replicas) == 0]


def _expert_tensor(case: Mapping[str, Any], stack: Stack, tensor: int, ranks: int) -> int:
    """Ranks that share an expert: as stated, else what the stack does, if the ranks of a stage allow it."""
    follows = stack.experts_follow_tensor and ranks % (tensor * number(case, "ep", 1)) == 0
    return number(case, "etp", tensor if follows else 1)


def _rows(case: Mapping[str, Any], stack: Stack, model: Architecture, ranks: int) -> Iterator[dict[str, int]]:
    """Every way to fill what the case leaves open, in order of preference."""
    if case.get("tp") is None and case.get("fsdp") is None and case.get("zero_stage") is None:
        raise InexpressibleError("tp is not stated")
    t, p, c = number(case, "tp", 1), number(case, "pp", 1), number(case, "cp", 1)
    if ranks % (t * p * c):
        raise InexpressibleError(f"tp x pp x cp = {t * p * c} does not divide {ranks} ranks")
    d = ranks // (t * p * c)
    batch = number(case, "global_batch")
    stated = case.get("micro_batch")
    sizes = [int(stated)] if stated else _microbatches(stack, batch, d, p)
    masks, _ = _recompute(case, stack)
    sequence = case.get("sequence_parallel")
    parallel = int(t > 1 and (stack.sequence_parallel if sequence is None else bool(sequence)))
    away = mask_of(["activations"], OFFLOADS, "offload") if offloaded_share(case) else 0
    around = any("a2a" in str(f).lower() or "ulysses" in str(f).lower() for f in case.get("flags") or [])
    for micro in sizes:
        if batch % (micro * d):
            raise InexpressibleError(f"global batch {batch} is not a multiple of micro_batch {micro} x dp {d}")
        for chunks in _chunk_choices(case, stack, model, p):
            if chunks > 1 and not case.get("vp") and (batch // (micro * d)) % p:
                continue
            for mask in masks:
                yield {
                    "tensor_parallel": t, "context_parallel": c, "pipeline_parallel": p, "virtual_stages": chunks,
                    "data_parallel": d, "expert_parallel": number(case, "ep", 1),
                    "expert_tensor_parallel": _expert_tensor(case, stack, t, t * c * d),
                    "micro_batch": micro, "global_batch": batch,
                    "sequence_parallel": parallel, "recompute": mask, "zero_stage": _zero_stage(case, stack),
                    "schedule": _schedule(case, chunks), "context_exchange": int(around and c > 1), "offload": away,
                }  # fmt: skip


def question(case: Mapping[str, Any], stack: Stack, ranks_per_chip: int) -> Question:
    """The workload and candidate layouts of a case.

    Raises InexpressibleError with the reason where the case lacks what a step needs.
    """
    model = replace(architecture(case), dropout=stack.dropout)
    task = str(case.get("task") or "").lower()
    training = Training(
        model,
        number(case, "seq_len"),
        number_format(case),
        document=stack.tuning_document if task in ("sft", "lora") else 0.0,
        expert_imbalance=_capacity(case),
        frozen_weights=task == "lora",
    )
    ranks = number(case, "num_chips") * ranks_per_chip
    rows = list(_rows(case, stack, model, ranks))
    if not rows:
        raise InexpressibleError("no micro-batch divides the batch")
    layouts = Layout(**{key: np.array([row[key] for row in rows], np.int64) for key in rows[0]})
    chosen = []
    if not case.get("micro_batch"):
        chosen.append("micro_batch")
    if len({row["virtual_stages"] for row in rows}) > 1:
        chosen.append("vp")
    if _recompute(case, stack)[1]:
        chosen.append("recompute")
    return Question(training, ranks, layouts, tuple(chosen))
