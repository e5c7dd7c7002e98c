r"""Lower bounds that no software can beat: used to prune a search and to check the model itself.

.. math::
    T \ge \max(T_c, T_m), \qquad
    T_c = \frac{m + (p-1)/v}{m} \cdot \frac{F}{N P f}, \qquad
    T_m = m \frac{(2 b_w + 8) w}{BW}

F: FLOPs of the step without recomputation (matmuls three times the forward, attention 3.5 times), at the fastest
rate that the calibration allows (burst peak fraction times sustained clock; attention at the better of its two
efficiencies); w: weights of a rank, read twice and their fp32 gradients read and written for every microbatch.
Both are below the model's own operators: tiles add a prologue, waves round up, vector work and traffic only add.
The bubble term holds for schedules that idle; zero-bubble schedules take the bound without it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from model.architecture import Architecture
from model.attention import mean_keys, softmax_factor
from model.chip import FORMATS
from model.layout import SCHEDULES, Array, Layout
from model.stages import mean_stage_weights
from model.system import System
from model.workload import Training

_IDLING = tuple(SCHEDULES.index(name) for name in ("1f1b", "gpipe", "interleaved"))
_ATTENTION_PASSES = 3.5  # one forward, 2.5 backward


def forward_flops_per_token(model: Architecture, sequence: float) -> tuple[float, float, float]:
    """Forward FLOPs per token of the layers' matmuls, of the head (16 bits), and of causal attention."""
    mtp = model.mtp_layers
    routed = model.moe_layers * (model.experts.per_token if model.experts else 0) * model.expert_parameters
    layers = (
        model.layers * model.attention_parameters
        + model.dense_layers * model.dense_feed_forward_parameters
        + model.moe_layers * (model.shared_parameters - _router(model))
        + routed
    )
    head = model.vocabulary * model.hidden * (1.0 + mtp) + model.moe_layers * _router(model)
    keys = float(mean_keys(sequence, model.window, model.full_attention_every))
    attention = 2.0 * model.layers * model.heads * (model.query_key_head + model.value_head) * keys
    return 2.0 * layers, 2.0 * head, attention


def _router(model: Architecture) -> int:
    return model.hidden * model.experts.experts if model.experts else 0


def roofline_seconds(system: System, training: Training, layout: Layout) -> Array:
    """Seconds that a step takes at least, for every layout."""
    model, chip = training.architecture, system.chip
    peak = FORMATS[training.number_format].peak
    layers, head, attention = forward_flops_per_token(model, training.attended)
    fits = chip.calibration.matmul

    def rate(name: str) -> Any:
        return chip.peak_flops[name] * fits[name].peak_fraction * chip.clock(name)

    fused = chip.calibration.attention
    fastest = np.maximum(np.maximum(fused.forward_fraction, fused.backward_fraction), fits["bf16"].peak_fraction)
    fastest = fastest / min(1.0, softmax_factor(model.query_key_head, model.value_head))
    per_token = (
        3.0 * layers / rate(peak)
        + 3.0 * head / rate("bf16")
        + _ATTENTION_PASSES * attention / (chip.peak_flops["bf16"] * fastest)
    )
    tokens = np.asarray(layout.global_batch, float) * training.sequence
    p, v = np.asarray(layout.pipeline_parallel, float), np.asarray(layout.virtual_stages, float)
    m: Any = layout.microbatches
    idle = np.where(np.isin(layout.schedule, _IDLING), (p - 1.0) / (v * m), 0.0)
    compute = tokens * per_token / layout.ranks * (1.0 + idle)
    weights = mean_stage_weights(model, layout)
    local = weights.dense + weights.routed - model.vocabulary * model.hidden / np.asarray(layout.tensor_parallel, float)
    moved = m * (2.0 * FORMATS[training.number_format].input_bytes + 8.0) * np.maximum(local, 0.0)
    return np.asarray(np.maximum(compute, moved / chip.hbm_bandwidth))
