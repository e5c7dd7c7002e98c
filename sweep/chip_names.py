"""Chips as cases name them: the machine that a run on each is costed on, and the spellings that people use."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from sweep.catalogue import spelling
from sweep.errors import nearest

# Published chip names -> the machine of the catalogue that a run on them is costed on, and which of its chips.
CHIP_SYSTEMS: Mapping[str, tuple[str, str | None]] = {
    "a100_40": ("dgx-a100", "a100-40"),
    "a100_80": ("dgx-a100", None),
    "h100_sxm": ("dgx-h100", None),
    "h800": ("dgx-h800", None),
    "h20": ("hgx-h20", None),
    "h200": ("dgx-h200", None),
    "b200": ("dgx-b200", None),
    "b300": ("hgx-b300", None),
    "gb200": ("gb200-nvl72", None),
    "gb300": ("gb300-nvl72", None),
    "mi300x": ("mi300x-node", None),
    "mi325x": ("mi325x-node", None),
    "mi355x": ("mi355x-node", None),
    "ascend_910b1": ("atlas-800t-a2", "ascend-910b1"),
    "ascend_910b2": ("atlas-800t-a2", "ascend-910b2"),
    "ascend_910b3": ("atlas-800t-a2", None),
    "ascend_910b4": ("atlas-800t-a2", "ascend-910b4"),
    "ascend_910c": ("cloudmatrix-384", None),
    "ascend_910c_die": ("cloudmatrix-384", None),
    "ascend_950dt": ("atlas-950-superpod", None),
    "tpu_v4": ("tpu-v4-pod", None),
    "tpu_v5e": ("tpu-v5e-pod", None),
    "tpu_v5p": ("tpu-v5p-pod", None),
    "tpu_v6e": ("tpu-v6e-pod", None),
    "tpu_v7x": ("tpu-v7x-pod", None),
    "trainium1": ("trn1", None),
    "trainium2": ("trn2-ultra", None),
}

# Other names of the same parts, after `_bare`. A chip that is sold in several forms, named without one, is taken as
# the form that clusters are built of.
_ALSO: Mapping[str, str] = {
    **dict.fromkeys(("a100", "a100sxm", "a100sxm4", "a10080sxm", "a100sxm80", "a100sxm480", "a800"), "a100_80"),
    **dict.fromkeys(("a10040sxm", "a100sxm40", "a100sxm440"), "a100_40"),
    **dict.fromkeys(("h100", "h10080", "h100sxm5", "h100sxm80", "h100sxm580", "h10080hbm3", "h100hgx"), "h100_sxm"),
    **dict.fromkeys(("h800sxm", "h800sxm5", "h80080"), "h800"),
    **dict.fromkeys(("h20sxm", "h2096", "h20141", "h20e"), "h20"),
    **dict.fromkeys(("h200sxm", "h200sxm5", "h200141", "h200141hbm3e"), "h200"),
    **dict.fromkeys(("b200sxm", "b200sxm6", "b200180", "b200192", "hgxb200", "dgxb200"), "b200"),
    **dict.fromkeys(("b300sxm", "b300sxm6", "b300288", "hgxb300", "dgxb300"), "b300"),
    **dict.fromkeys(("gb200nvl72", "gb200nvl36", "gb200nvl4"), "gb200"),
    **dict.fromkeys(("gb300nvl72", "gb300nvl4"), "gb300"),
    **dict.fromkeys(("ascend910b", "910b", "910b3", "atlas800ta2", "atlas900a2podc"), "ascend_910b3"),
    **{name: f"ascend_{name}" for name in ("910b1", "910b2", "910b4", "910c", "950dt")},
    **dict.fromkeys(("ascend910c", "atlas900a3", "ascenda3", "cloudmatrix384"), "ascend_910c"),
    **{name: f"tpu_{name}" for name in ("v4", "v5e", "v5p", "v6e", "v7x")},
    **dict.fromkeys(("v5litepod", "tpuv5lite", "tpuv5litepod"), "tpu_v5e"),
    **dict.fromkeys(("trillium", "tputrillium", "tpuv6", "v6"), "tpu_v6e"),
    **dict.fromkeys(("ironwood", "tpuironwood", "tpuv7", "tpu7x", "v7"), "tpu_v7x"),
    **dict.fromkeys(("trn1", "trn1n", "trainium", "awstrainium", "awstrainium1"), "trainium1"),
    **dict.fromkeys(("trn2", "awstrainium2", "trn2ultra"), "trainium2"),
}
_WITHOUT = ("nvidia", "amd", "instinct", "huawei", "google", "cloud", "gpu", "tensorcore")


def _bare(name: str) -> str:
    """A name without makers and signs, and without "GB": "NVIDIA A100-SXM4-80GB" is "a100sxm480"."""
    said = name.lower()
    for word in _WITHOUT:
        said = said.replace(word, " ")
    words = [part.removesuffix("gb") if part[:-2].isdigit() else part for part in _words(said) if part != "gb"]
    return spelling("".join(words))


def _words(said: str) -> list[str]:
    return "".join(letter if letter.isalnum() else " " for letter in said).split()


@cache
def chip_of(name: str) -> str:
    """The name in `CHIP_SYSTEMS` of a chip as somebody spells it; the text itself where it is none of them."""
    if name in CHIP_SYSTEMS:
        return name
    known = {_bare(key): key for key in CHIP_SYSTEMS}
    said = _bare(name)
    return known.get(said) or _ALSO.get(said) or name


def unknown_chip(name: object) -> str:
    """Why a chip cannot be taken, and the nearest known names or what it lacks."""
    if name is None:
        return "chip is not stated"
    reason = _LACKING.get(_bare(str(name)))
    return f"chip {name!r} is not in the catalogue; {reason or nearest(str(name).lower(), CHIP_SYSTEMS)}"


# Parts that people ask for and that no entry stands for, with the reason.
_LACKING: Mapping[str, str] = {}
