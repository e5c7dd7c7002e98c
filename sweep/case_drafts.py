"""Drafted tokens of a measured serving run: how many, and how likely each is accepted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from model.serving.rates import accepted_tokens
from sweep.published import InexpressibleError

_DEFAULT_ACCEPTANCE = 0.7


def stated_number(features: Mapping[str, Any], key: str) -> float | None:
    """A number among the features; None where it is not stated."""
    value = features.get(key)
    if value is None or value is False:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1e9:
        raise InexpressibleError(f"features.{key} is {value!r}, not a number")
    return float(value)


def drafting(case: Mapping[str, Any], chosen: list[str]) -> tuple[int, float]:
    """Drafted tokens of a step, and the probability of each to be accepted."""
    features = case.get("features") or {}
    said = features.get("speculative")
    if said and not str(said).startswith("not recorded"):
        raise InexpressibleError("speculative decoding without the number of tokens drafted")
    if features.get("mtp") == "simulated":
        raise InexpressibleError("drafting is imitated by dummy kernels, which is not modelled")
    drafts = stated_number(features, "mtp") or stated_number(features, "mtp_window") or 0.0
    if not drafts:
        return 0, _DEFAULT_ACCEPTANCE
    if drafts % 1 or drafts > 64:
        raise InexpressibleError(f"features.mtp is {drafts:g}, not a number of tokens")
    emitted = _emitted(features)
    if emitted is None:
        chosen.append(f"acceptance={_DEFAULT_ACCEPTANCE:g}")
        return int(drafts), _DEFAULT_ACCEPTANCE
    return int(drafts), acceptance(drafts, emitted)


def _emitted(features: Mapping[str, Any]) -> float | None:
    """Tokens that a step emits for a sequence, as far as a case says."""
    span = features.get("accept_length_range")
    if isinstance(span, list) and len(span) == 2 and all(isinstance(end, int | float) for end in span):
        return float(sum(span)) / 2.0
    for key in ("accept_length", "accepted_length"):  # with the token that is sampled
        length = stated_number(features, key)
        if length is not None:
            return length
    accepted = stated_number(features, "mtp_accepted_tokens")  # without it
    if accepted is not None:
        return 1.0 + accepted
    share = stated_number(features, "mtp_accept") or stated_number(features, "draft_acceptance")
    drafts = stated_number(features, "mtp") or 0.0
    return None if share is None else sum(share**j for j in range(int(min(drafts, 64)) + 1))


def acceptance(drafts: float, emitted: float) -> float:
    """Probability of a drafted token to be accepted with which a step emits so many tokens in the mean."""
    if not 1.0 <= emitted <= 1.0 + drafts:
        raise InexpressibleError(f"{emitted:g} tokens a step do not come of {drafts:g} drafted ones")
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2.0
        low, high = (middle, high) if accepted_tokens(drafts, middle) < emitted else (low, middle)
    return (low + high) / 2.0
