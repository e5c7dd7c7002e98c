"""Good input with something wrong in it: where, and what."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

Path = tuple[str | int, ...]
# What nobody means where it stands; TOML and JSON have it all but the None and the numbers that are none.
ODD: list[Any] = [
    0, -1, 3, 2.5, -0.5, 1e308, 1e-300, 10**25, float("nan"), float("inf"), True, False, "", " ", "8", "x", "8 kg",
    "-3 W", "0 W", "1e400 W", "1 TB/s", "<= 5", "<= nan ms", ">= 1 MW", "none", "best", "ünïcode ☃", "a" * 300, "../..",
    "<script>alert(1)</script>", "%s{0}\n\x00", [], [[]], [1, "a"], ["x"], [0], {}, {"a": 1}, {"low": 1}, [{}],
    {"value": "x"}, {"value": 3, "source": 1, "kind": "guess"},
]  # fmt: skip
WORDS = ["x", "", "chips ", "Chips", "tp", "contxt", "a.b", "ключ", "__class__", "value"]


def paths(value: Any, above: Path = ()) -> Iterator[Path]:
    """Every key and every item, those inside of others too."""
    inside: list[tuple[str | int, Any]] = []
    if isinstance(value, dict):
        inside = list(value.items())
    elif isinstance(value, list):
        inside = list(enumerate(value))
    for step, one in inside:
        yield (*above, step)
        yield from paths(one, (*above, step))


def at(value: Any, path: Path) -> Any:
    """What stands at a path."""
    for step in path:
        value = value[step]
    return value


@st.composite
def broken(draw: st.DrawFn, good: Any, most: int = 3) -> Any:
    """A copy with one to `most` things put in place of others, left out, renamed or added."""
    made = copy.deepcopy(good)
    for _ in range(draw(st.integers(1, most))):
        known = list(paths(made))
        if not known:
            break
        path = draw(st.sampled_from(known))
        holder, step = at(made, path[:-1]), path[-1]
        how = draw(st.sampled_from(("replace", "replace", "replace", "leave out", "rename", "add")))
        if how == "leave out":
            del holder[step]
        elif how == "replace" or isinstance(holder, list):
            holder[step] = copy.deepcopy(draw(st.sampled_from(ODD)))
        elif how == "rename":
            holder[f"{step}{draw(st.sampled_from(WORDS))}"] = holder.pop(step)
        else:
            holder[draw(st.sampled_from(WORDS))] = copy.deepcopy(draw(st.sampled_from(ODD)))
    return made


@st.composite
def torn(draw: st.DrawFn, good: str) -> bytes:
    """The bytes of a file with a piece lost, doubled, or of another kind."""
    raw = good.encode()
    place = draw(st.integers(0, len(raw)))
    odd = (b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"[" * 5000, b"]", b'"', b"=", b"\n[[", b"9" * 5000, b"\r", b"{" * 3)
    piece = draw(st.sampled_from(odd) | st.binary(max_size=6))
    return raw[:place] + piece + raw[draw(st.integers(place, min(len(raw), place + 40))) :]
