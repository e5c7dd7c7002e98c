"""Measured serving runs as questions to the model: one case in, machine, engine, model, instance and traffic out.

What a case states is taken. What it leaves open is filled by the engine's settings, by what memory or the stated
concurrency allows, or by trying the possible layouts and keeping the fastest; every such choice is reported. Chips are
as the source counts them; ranks are those of the catalogue (an Ascend 910C is two). Nothing here knows a case by its
name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from model.architecture import Architecture, SparseAttention
from model.serving.instance import Instance
from model.serving.stack import ServingStack
from model.serving.workload import Balance, Requests, Serving
from model.system import System
from sweep import catalogue
from sweep.case_drafts import drafting, stated_number
from sweep.chip_names import CHIP_SYSTEMS, unknown_chip
from sweep.engine_choice import choose
from sweep.known_models import compressed
from sweep.published import InexpressibleError, architecture, number
from sweep.serving_formats import precision

Way = Literal["prefill", "decode", "static", "concurrent", "offline"]

PHASES = ("prefill", "decode", "end_to_end")
_COPIES_OF_EIGHT = 8  # one redundant expert for so many, where a source balances and does not say how many
_MOST_EXPERTS = 2**16
_LEAST = 1e-12  # of anything measured
_AGREE = 1.05  # a printed latency and throughput that differ by more contradict each other

# Parts of architectures that the model has no words for: key under `arch` -> reason.
_FOREIGN = {
    "linear_attention": "linear attention is not modelled",
    "mamba": "state-space layers are not modelled",
    "ngram": "n-gram embeddings are not modelled",
    "attention_blocks_per_layer": "several attention blocks in a layer are not modelled",
}
_SAMPLED = re.compile(r"drawn from ([\d.]+) to ([\d.]+) of nominal")
# Clients that ask the same number of times for each user: InferenceX runs benchmark_serving with 10 x users prompts.
_ROUNDS = {"inferencex": 10.0}
_THOUSANDS = re.compile(r"(\d+)\s*k\b", re.I)
_PIPELINE_BY_TENSOR = re.compile(r"\bPP(\d+)\s*x\s*TP(\d+)\b")
_COPIES = re.compile(r"(\d+) redundant experts?( per rank)?")


@dataclass(frozen=True, slots=True)
class ServingQuestion:
    """A serving case made ready for the model; the instance holds one row for each layout that the case leaves open."""

    way: Way
    system: System
    engine: ServingStack
    serving: Serving
    instance: Instance
    chips: int  # as the source counts
    batch: float | None  # sequences in flight; None: what memory and the engine allow
    most: float  # sequences that there are at all
    rounds: float | None  # requests of each user, who start together; None: not known
    context: float | None  # tokens in the cache of a decoding sequence, where stated
    chosen: tuple[str, ...]
    rules: tuple[str, ...]


def is_serving(case: Mapping[str, Any]) -> bool:
    """Whether a case measures inference."""
    return case.get("phase") is not None


def kind_of(case: Mapping[str, Any]) -> Way:
    """Which function of the model a case is a question to."""
    phase, features = case.get("phase"), case.get("features") or {}
    if phase not in PHASES:
        raise InexpressibleError(f"phase is {phase!r}, not one of {', '.join(PHASES)}")
    if phase != "end_to_end":
        return "prefill" if phase == "prefill" else "decode"
    if features.get("offline_max_load"):
        return "offline"
    if features.get("static_batching") or features.get("offline_batch"):
        return "static"
    if _sequences(case) is not None:
        return "concurrent" if not _only(case, "total_time_s") else "static"
    return "offline"


def _only(case: Mapping[str, Any], quantity: str) -> bool:
    return set(case.get("target") or {}) == {quantity}


def serving_group_of(case: Mapping[str, Any]) -> str:
    """Source, chip and kind of run: the group that errors are summed over."""
    source = case.get("group") or (case.get("software") or {}).get("framework") or "unknown"
    try:
        kind: str = kind_of(case)
    except InexpressibleError:
        kind = str(case.get("phase"))
    return f"{source} {case.get('chip') or 'unknown chip'} {kind}"


# ------------------------------------------------------------------------------------------------ model and traffic
def _served_architecture(case: Mapping[str, Any]) -> Architecture:
    arch = case.get("arch") or {}
    for key, reason in _FOREIGN.items():
        if arch.get(key):
            raise InexpressibleError(reason)
    model = architecture(case)
    _plausible(model)
    window, sparse = model.window, arch.get("dsa")
    every = arch.get("sliding_window_every_n_layers")
    if every and window:
        model = replace(model, full_attention_every=int(every))
    padded = arch.get("heads_padded_to")
    if padded:
        model = replace(model, heads=int(padded))
    if sparse:
        # what lies in the window is attended to besides what the indexer picks
        keys, heads, head = (int(sparse[key]) for key in ("index_topk", "index_n_heads", "index_head_dim"))
        model = replace(model, sparse=SparseAttention(keys, heads, head, window), window=0)
    return compressed(replace(model, parallel_blocks=bool(arch.get("parallel_attn_ffn"))))


def _plausible(model: Architecture) -> None:
    """Refuse counts of experts that no router has."""
    experts = model.experts
    if experts is not None and not 1 <= experts.per_token <= experts.experts <= _MOST_EXPERTS:
        raise InexpressibleError(f"{experts.per_token} of {experts.experts} experts for a token is not a mixture")


def _requests(case: Mapping[str, Any], way: Way, rules: list[str]) -> tuple[Requests, float | None]:
    """Mean lengths, and the tokens in the cache of a decoding sequence where the case states them alone."""
    features = case.get("features") or {}
    scale, variation = 1.0, 0.5 if features.get("real_dataset") else 0.0
    sampled = _SAMPLED.search(str(features.get("length_sampling") or ""))
    if sampled:
        low, high = float(sampled.group(1)), float(sampled.group(2))
        scale = (low + high) / 2.0
        variation = (high - low) / 12.0**0.5 / max(scale, 1e-9)
        rules.append(f"mean length {scale:g} of nominal")
    kv, prompt, output = (case.get(key) for key in ("kv_len", "input_len", "output_len"))
    if way == "decode" and not (prompt and output):
        context = kv or prompt
        if not context:
            raise InexpressibleError("neither kv_len nor input_len and output_len are stated")
        return Requests(float(context), float(output or 1.0), 0.0, variation), float(context)
    needed = ("input_len",) if way == "prefill" else ("input_len", "output_len")
    for key in needed:
        if not case.get(key):
            raise InexpressibleError(f"{key} is not stated")
    hit = stated_number(features, "prefix_hit_rate") or stated_number(features, "cache_hit_rate") or 0.0
    if hit >= 1.0:
        raise InexpressibleError(f"a prefix hit rate of {hit:g} leaves nothing to compute")
    return Requests(scale * float(prompt or 0), scale * float(output or 1.0), hit, variation), None


def _balance(case: Mapping[str, Any], model: Architecture, ranks: int, rules: list[str]) -> Balance:
    """Evenness of experts: forced, or real traffic with the copies that the case states."""
    features = case.get("features") or {}
    if model.experts is None:
        return Balance()
    copies = _redundant(features, model, ranks)
    whole = -(-(model.experts.experts + copies) // ranks) * ranks - model.experts.experts
    if whole != copies and ranks > 1:
        copies = whole
        rules.append("experts copied until they divide evenly")
    if features.get("perfect_balance"):
        return Balance("perfect", 0.0, copies)
    return Balance(redundant=copies)


def _redundant(features: Mapping[str, Any], model: Architecture, ranks: int) -> int:
    stated = stated_number(features, "redundant_experts")
    if stated is not None:
        return int(stated)
    text = str(features.get("eplb") or "")
    found = _COPIES.search(text)
    if found:
        return int(found.group(1)) * (ranks if found.group(2) else 1)
    experts = model.experts.experts if model.experts else 0
    return experts // _COPIES_OF_EIGHT if text and text != "False" else 0


# ------------------------------------------------------------------------------------------------ layout
@dataclass(frozen=True, slots=True)
class _Layout:
    tensor: int
    pipeline: int
    data: int
    expert: int


def _attention_groups(case: Mapping[str, Any], stage: int) -> int | None:
    """Attention groups that a case states; None where it says nothing."""
    said = case.get("attention_dp")
    tensor = int(case.get("tp") or 1)
    if isinstance(said, bool) or said is None:
        if said:
            return tensor if tensor > 1 else stage
        if (case.get("features") or {}).get("attention_dp_enabled") is True:
            return tensor if tensor > 1 else stage
        return int(case["dp"]) if case.get("dp") else None
    if isinstance(said, int):
        return said
    if "SP" in str(said):  # sequences divided over the ranks, heads only inside of attention
        return stage
    raise InexpressibleError(f"attention_dp is {said!r}, which is not understood")


def _stages(case: Mapping[str, Any], ranks: int, rules: list[str]) -> tuple[int, Any]:
    """Pipeline stages and tensor parallelism, from the notes where the fields are silent."""
    stages, tensor = number(case, "pp", 1), case.get("tp")
    said = _PIPELINE_BY_TENSOR.search(str(case.get("notes") or ""))
    if said and case.get("pp") is None and tensor is None and int(said[1]) * int(said[2]) == ranks:
        rules.append("layout from the notes")
        return int(said[1]), int(said[2])
    if ranks % stages:
        raise InexpressibleError(f"pp = {stages} does not divide {ranks} ranks")
    return stages, tensor


def _layouts(
    case: Mapping[str, Any], model: Architecture, ranks: int, chosen: list[str], rules: list[str]
) -> list[_Layout]:
    """Every layout that a case may mean."""
    stages, tensor = _stages(case, ranks, rules)
    stage = ranks // stages
    groups = _attention_groups(case, stage)
    features = case.get("features") or {}
    if groups is None and tensor is None:
        if stage == 1:
            return [_Layout(1, stages, 1, 1)]
        if model.experts is not None and case.get("ep"):
            groups = stage  # experts over all ranks, nothing about attention: each rank has its own sequences
        else:
            chosen.append("layout")
            open_ones = [_Layout(stage, stages, 1, _experts_over(case, features, stage, 1))]
            if model.experts is not None:
                open_ones.append(_Layout(1, stages, stage, _experts_over(case, features, stage, stage)))
            return open_ones
    if groups is None:
        groups = max(stage // int(tensor), 1) if stage % int(tensor) == 0 else 1
        if groups > 1 and model.experts is None:
            rules.append("replicas")
    if stage % groups:
        raise InexpressibleError(f"{groups} attention groups do not divide the {stage} ranks of a stage")
    own = stage // groups
    if tensor is not None and int(tensor) not in (own, stage):
        raise InexpressibleError(f"tp {tensor} x {groups} attention groups x pp {stages} are not {ranks} ranks")
    return [_Layout(own, stages, groups, _experts_over(case, features, stage, groups))]


def _experts_over(case: Mapping[str, Any], features: Mapping[str, Any], stage: int, groups: int) -> int:
    """Ranks that the experts of a layer are laid over: stated; else all with attention groups, and one without."""
    stated = int(stated_number(features, "moe_ep") or 0) or int(case.get("ep") or 0)
    if not stated:
        return stage if groups > 1 else 1
    if stage % stated:
        raise InexpressibleError(f"ep = {stated} does not divide the {stage} ranks of a stage")
    return stated


# ------------------------------------------------------------------------------------------------ batch and chunks
def _sequences(case: Mapping[str, Any]) -> float | None:
    """Sequences in flight in all chips together, as stated."""
    batch = case.get("batch") or {}
    if str(batch.get("unit") or "").startswith("token"):
        return None
    for value in (batch.get("global"), case.get("concurrency")):
        if value:
            return float(value)
    if batch.get("per_chip") and case.get("num_chips"):
        return float(batch["per_chip"]) * float(case["num_chips"])
    return None


def _tokens_at_once(case: Mapping[str, Any]) -> float | None:
    """Prompt tokens in flight in all chips together, where the batch is given in tokens."""
    batch = case.get("batch") or {}
    if str(batch.get("unit") or "").startswith("token") and batch.get("per_chip"):
        return float(batch["per_chip"]) * number(case, "num_chips")
    return None


def _chunk(case: Mapping[str, Any], engine: ServingStack, way: Way, rules: list[str]) -> int:
    """Prompt tokens of a pass: stated, or the engine's; 0 for whole prompts."""
    features = case.get("features") or {}
    stated = stated_number(features, "max_num_tokens")
    if stated:
        rules.append(f"chunk={stated:g}")
        return int(stated)
    for key in ("chunked_prefill", "pipeline"):
        said = features.get(key)
        found = _THOUSANDS.search(str(said)) if isinstance(said, str) else None
        if found:
            rules.append(f"chunk={int(found.group(1)) * 1024}")
            return int(found.group(1)) * 1024
    if features.get("chunked_prefill") is False and way == "prefill":
        return 0
    return engine.chunk


def _little(case: Mapping[str, Any]) -> float | None:
    """Sequences in flight by Little's law, where a source prints latency and throughput but no batch."""
    target = case.get("target") or {}
    if case.get("phase") == "decode" and target.get("tpot_s") and target.get("tokens_per_s_per_chip"):
        return float(target["tpot_s"]) * float(target["tokens_per_s_per_chip"]) * number(case, "num_chips")
    return None


def _working_point(
    case: Mapping[str, Any], way: Way, layout: _Layout, requests: Requests, chunk: int, chosen: list[str]
) -> tuple[float | None, int]:
    """Sequences in flight and prompt tokens of a pass."""
    sequences = _sequences(case)
    if way == "prefill":
        tokens = _tokens_at_once(case)
        if tokens is not None:
            return max(tokens / requests.input_tokens, 1.0), int(tokens / layout.data)
        if sequences is None or case.get("concurrency") == sequences > layout.data:
            # a stream of prompts: each group always has a pass full of them
            sequences = max(chunk / requests.input_tokens, 1.0) * layout.data
            chosen.append(f"batch={sequences:g}")
        return sequences, chunk
    if sequences is None and way == "decode":
        sequences = _little(case)
        if sequences is not None:
            chosen.append(f"batch={sequences:.0f}")
    return sequences, chunk


def serving_question(case: Mapping[str, Any]) -> ServingQuestion:
    """What a serving case asks of the model.

    Raises InexpressibleError with the reason where the case lacks what its kind of run needs.
    """
    way, features = kind_of(case), case.get("features") or {}
    if case.get("chip") not in CHIP_SYSTEMS:
        raise InexpressibleError(unknown_chip(case.get("chip")))
    if features.get("cumulative_optimisation"):
        raise InexpressibleError("a state of the software between releases")
    if way in ("concurrent", "offline") and features.get("disaggregated"):
        raise InexpressibleError("prefill and decode apart, without the layout of each")
    name, sold_with = CHIP_SYSTEMS[str(case["chip"])]
    system = catalogue.system(name, chip_name=sold_with)
    found = choose(case, name)
    chosen = [f"engine={found.name}"] if found.why else []
    rules = [found.why] if found.why else []
    model = _served_architecture(case)
    requests, context = _requests(case, way, rules)
    chips = number(case, "num_chips")
    ranks = chips * (1 if str(case["chip"]).endswith("_die") else system.chip.ranks_per_package)
    layouts = _layouts(case, model, ranks, chosen, rules)
    formats = precision(case, model, system.chip)
    chosen.extend(formats.chosen)
    drafts, accepted = drafting(case, chosen)
    engine = _as_run(found.engine, way, features, rules)
    chunk = _chunk(case, engine, way, rules)
    batch, chunk = _working_point(case, way, layouts[0], requests, chunk, chosen)
    if batch is None:
        chosen.append("batch")
    serving = Serving(
        model, requests, formats.weights, formats.experts, formats.projections, formats.attention_core,
        formats.kv_bytes, accepted, _balance(case, model, max(one.expert for one in layouts), rules),
    )  # fmt: skip
    # an engine that can overlap two micro-batches does so where it pays
    halves = np.array([1, 2] if features.get("dual_micro_batch_overlap") else [1])
    tried = [one for one in layouts for _ in halves]
    instance = Instance(
        tensor_parallel=np.array([one.tensor for one in tried]),
        pipeline_parallel=np.array([one.pipeline for one in tried]),
        data_parallel=np.array([one.data for one in tried]),
        expert_parallel=np.array([one.expert for one in tried]),
        micro_batches=np.tile(halves, len(layouts)),
        draft_tokens=drafts if way != "prefill" else 0,
        batch=1.0 if batch is None else batch,
        chunk=chunk,
    )
    most = stated_number(features, "num_requests") or stated_number(features, "num_prompts") or np.inf
    return ServingQuestion(
        way,
        system,
        engine,
        serving,
        instance,
        chips,
        batch,
        most,
        _rounds(features, batch, most),
        context,
        tuple(chosen),
        tuple(rules),
    )


def _rounds(features: Mapping[str, Any], batch: float | None, most: float) -> float | None:
    """Requests of each user of a closed loop: stated in all, or those of a client whose lengths the case names."""
    if batch and np.isfinite(most):
        return max(most / batch, 1.0)
    said = str(features.get("length_sampling") or "").lower()
    return next((rounds for client, rounds in _ROUNDS.items() if client in said), None)


def _as_run(engine: ServingStack, way: Way, features: Mapping[str, Any], rules: list[str]) -> ServingStack:
    """The engine with the settings that the case states. At unlimited load texts leave whole, not token by token."""
    if way == "offline":
        engine = replace(engine, output_s=0.0)
    for key in ("max_num_seqs", "max_batch_size"):
        stated = stated_number(features, key)
        if stated:
            rules.append(f"{key}={stated:g}")
            return replace(engine, max_sequences=int(stated))
    return engine


# ------------------------------------------------------------------------------------------------ what was measured
QUANTITIES = ("tpot_s", "ttft_s", "step_time_s", "layer_s", "total_time_s", "tokens_per_s_per_chip")


def measured_quantities(case: Mapping[str, Any], rules: list[str]) -> dict[str, float]:
    """What a case measures, by quantity.

    Where a latency and a throughput of the same batch contradict each other, the throughput is taken: it is counted.
    """
    stated = {key: value for key, value in (case.get("target") or {}).items() if key in QUANTITIES}
    target = {key: float(value) for key, value in stated.items() if value > _LEAST}
    layer = (case.get("derived") or {}).get("per_layer_latency_us")
    if not target and layer and layer > _LEAST * 1e6:
        target["layer_s"] = float(layer) * 1e-6
    batch, tpot, rate = _sequences(case), target.get("tpot_s"), target.get("tokens_per_s_per_chip")
    if case.get("phase") == "decode" and batch and tpot and rate and case.get("num_chips"):
        implied = batch / tpot / float(case["num_chips"])
        if not 1.0 / _AGREE < implied / rate < _AGREE:
            rules.append("printed latency and throughput disagree: throughput taken")
            del target["tpot_s"]
    if not target:
        raise InexpressibleError("no quantity is measured that the model predicts")
    return target
