"""What a layout's time rests on: the numbers behind each part of it, their sources, and the share that is estimated.

Every number of the machine is moved a little by itself, all in one call: the change of the time's logarithm with that
of the number is its elasticity. Of each part of the time that share rests on estimates by which it follows the one
estimated number that it follows most: all of a part that is in inverse proportion to one, half of one that follows its
square root. Constants of the software are not among them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from sweep.uncertainty.contenders import Contender
from sweep.uncertainty.points import Scaled, machine_at, numbers_of, placed
from sweep.uncertainty.sensitivity import NOT_KNOWN

_STEP = 0.02  # of the logarithm
_MOST = 8  # numbers told
_LEAST = 0.005  # elasticity of those


@dataclass(frozen=True, slots=True)
class Support:
    """A number that the time rests on.

    Attributes
    ----------
    number
        Entry of the catalogue and path in it.
    kind
        Of its source, or "placeholder".
    value
        With its unit.
    elasticity
        Change of the time's logarithm with that of the number: -0.5 where twice as much saves a third.
    part
        The part of the time that it moves most.
    """

    number: str
    kind: str
    value: str
    source: str
    elasticity: float
    part: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a time rests on.

    Attributes
    ----------
    numbers
        Those that do most, the first first.
    estimated_share
        Share of the time that rests on numbers which nobody published or measured.
    of_parts
        Part of the time -> the number that moves it most.
    """

    numbers: tuple[Support, ...]
    estimated_share: float
    of_parts: dict[str, Support]

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "estimated_time_share": self.estimated_share,
            "rests_on": [asdict(one) for one in self.numbers],
            "part_rests_on": {part: one.number for part, one in self.of_parts.items()},
        }

    def lines(self) -> list[str]:
        """What people read: the share that is estimated, then the numbers."""
        return [
            f"{self.estimated_share:.0%} of the time rests on estimated or rumoured numbers of the machine",
            *(
                f"  {one.elasticity:+.2f}  {one.number} = {one.value} ({one.kind}: {_short(one.source)})"
                for one in self.numbers
            ),
        ]


def _short(source: str) -> str:
    return source if len(source) <= 60 else source[:57].rstrip() + "..."


def evidence_of(one: Contender) -> Evidence:
    """What the time of a contender's first layout rests on."""
    alone = replace(one.take([0]), error=None)
    numbers = [number for number in numbers_of(alone.design) if number.quantity.value]
    moved = np.exp(_STEP * np.concatenate([np.eye(len(numbers)), -np.eye(len(numbers))]))
    points = Scaled(placed([number.own for number in numbers]), moved, apart=True)
    cost = alone.cost(machine_at(alone.design, points), alone.layouts)
    count = len(numbers)
    slopes, nominal = {}, {}
    for name, seconds in cost.time.parts().items():
        values = np.broadcast_to(np.asarray(seconds, float), (2 * count, 1))[:, 0]
        slopes[name] = (values[:count] - values[count:]) / (2.0 * _STEP)
        nominal[name] = float(np.mean(values))
    elasticity = np.sum(list(slopes.values()), axis=0) / sum(nominal.values())
    sizes = np.abs(elasticity)
    names = list(slopes)
    most_moved = [names[i] for i in np.argmax(np.abs(np.stack([slopes[name] for name in names])), axis=0)]
    supports = [
        Support(f"{n.entry}: {n.path}", n.origin, n.quantity.text(), n.quantity.source, float(e), p)
        for n, e, p in zip(numbers, elasticity, most_moved, strict=True)
    ]
    unsure = np.array([one.kind in NOT_KNOWN for one in supports])
    resting = sum(min(nominal[name], float(np.abs(slope[unsure]).max(initial=0.0))) for name, slope in slopes.items())
    order = np.argsort(-sizes, kind="stable")
    of_parts = {name: supports[int(np.argmax(np.abs(slope)))] for name, slope in slopes.items() if np.any(slope)}
    told = tuple(supports[i] for i in order[:_MOST] if sizes[i] >= _LEAST)
    return Evidence(told, resting / sum(nominal.values()), of_parts)
