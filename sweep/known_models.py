"""What published cases leave out of a model's shape, taken from models of the same widths in the catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

from model.architecture import Architecture
from sweep import catalogue


def completed(model: Architecture, stated: Mapping[str, Any]) -> Architecture:
    """The model with what its case does not state: its window, and biases and clamps of its experts.

    They are as in a known model of the same widths. Depths and numbers of experts may differ: runs are published of
    reduced models and of several sizes of a family.

    Parameters
    ----------
    stated : `arch` of the case
    """
    known = _by_widths().get(_widths(model), model)
    if stated.get("sliding_window") is None and not stated.get("attention"):
        model = replace(model, window=known.window, full_attention_every=known.full_attention_every)
    if model.experts is not None and known.experts is not None:
        said, others = stated.get("moe") or {}, known.experts
        biases = others.biases if said.get("biases") is None else bool(said["biases"])
        clamped = others.clamped if said.get("clamped") is None else bool(said["clamped"])
        model = replace(model, experts=replace(model.experts, biases=biases, clamped=clamped))
    return model


def compressed(model: Architecture) -> Architecture:
    """The model with how it compresses keys, values and projections, which sources of serving leave out."""
    known = _by_widths().get(_widths(model))
    if known is None or not (known.low_rank or known.sparse) or known.latent != model.latent:
        return model
    return replace(model, low_rank=known.low_rank, sparse=known.sparse, residual_streams=known.residual_streams)


@cache
def _by_widths() -> dict[tuple[Any, ...], Architecture]:
    return {_widths(one): one for one in map(catalogue.architecture, catalogue.names("models"))}


def _widths(model: Architecture) -> tuple[Any, ...]:
    experts = model.experts
    inner = (experts.per_token, experts.hidden) if experts else (model.feed_forward, -(-model.vocabulary // 128))
    return (model.hidden, model.heads, model.key_value_heads, model.query_key_head, *inner)
