"""Published memory: peaks that a source prints, runs that ran out of it, and what the model says of both.

Every run that was measured did fit. Frameworks print GiB and MiB under the names of GB and MB (PyTorch's peaks divided
by powers of 1,024), so that both are read as powers of two.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sweep.prediction import Prediction

_PRINTED = re.compile(
    r"(?:real_|max_|peak_)*(?:gpu_|npu_|hbm_|device_)?(?:alloc|allocated|mem|memory)"
    r"(?:_(?:alloc|allocated|used|usage|peak|max|per_gpu|per_chip|per_rank))*_(gib|gb|mib|mb|bytes)"
)
_SCALES = {"gib": 2.0**30, "gb": 2.0**30, "mib": 2.0**20, "mb": 2.0**20, "bytes": 1.0}
_RAN_OUT = re.compile(r"\s*(?:cuda |npu |hbm )?(?:oom|out[ _-]of[ _-]memory)(?: error)?\s*", re.I)
_WHERE = ("measured", "target", "extra")


def measured_memory(case: Mapping[str, Any]) -> float | None:
    """Peak bytes of a rank, as `extra`, `measured` or `target` print them; None where none does."""
    for part in _WHERE:
        for key, value in _fields(case, part).items():
            found = _PRINTED.fullmatch(str(key).lower())
            if found and isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e15:
                return float(value) * _SCALES[found.group(1)]
    return None


def ran_out_of_memory(case: Mapping[str, Any]) -> bool:
    """Whether a source says that a run ran out of memory.

    It does so by `oom` or `out_of_memory` set, by a `status` of these words, or by these words in place of a number.
    """
    for fields in (case, *(_fields(case, part) for part in _WHERE)):
        if fields.get("oom") is True or fields.get("out_of_memory") is True:
            return True
        if any(_says_so(fields.get(key)) for key in ("status", "result", "outcome")):
            return True
    return any(_says_so(value) for part in ("measured", "target") for value in _fields(case, part).values())


def without_failures(case: Mapping[str, Any]) -> dict[str, Any]:
    """The case without what stands in place of a number."""
    kept = {
        part: {key: value for key, value in _fields(case, part).items() if not _says_so(value)}
        for part in ("measured", "target")
        if isinstance(case.get(part), dict)
    }
    return {**case, **kept}


def _fields(case: Mapping[str, Any], part: str) -> Mapping[str, Any]:
    value = case.get(part)
    return value if isinstance(value, dict) else {}


def _says_so(value: Any) -> bool:
    return isinstance(value, str) and _RAN_OUT.fullmatch(value) is not None


@dataclass(frozen=True, slots=True)
class MemoryCheck:
    """Whether runs fit, as measured and as predicted. Runs whose memory the model counts, each once."""

    ran: int
    ran_but_not_predicted: tuple[str, ...]  # ids of runs that were measured and that the model says do not fit
    ran_out: int
    ran_out_but_predicted: tuple[str, ...]  # ids of runs that ran out and that the model says fit

    @property
    def right(self) -> float | None:
        """Share of runs that the model judges as they went."""
        runs = self.ran + self.ran_out
        wrong = len(self.ran_but_not_predicted) + len(self.ran_out_but_predicted)
        return 1.0 - wrong / runs if runs else None


def checked(predictions: Sequence[Prediction]) -> MemoryCheck:
    """The runs that fit and those that do not."""
    known = {one.id: one for one in predictions if one.memory is not None}
    ran = [one for one in known.values() if one.ran]
    out = [one for one in known.values() if one.ran is False]
    return MemoryCheck(
        len(ran),
        tuple(one.id for one in ran if (one.memory or 0.0) > 1.0),
        len(out),
        tuple(one.id for one in out if (one.memory or 0.0) <= 1.0),
    )
