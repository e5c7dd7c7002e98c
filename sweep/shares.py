"""Parts of a quantity as a tree for the terminal: groups, their parts, shares and bars."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from model.units import show

if TYPE_CHECKING:
    from rich.tree import Tree

_WIDTH = 24  # of a bar
_NOTHING = 1e-9  # share of the whole
# Group -> its parts, of whatever is taken apart; parts of no group stand beside the groups.
GROUPS: Mapping[str, tuple[str, ...]] = {
    "kernels": ("compute", "optimizer", "linear", "attention", "experts", "vector"),
    "traffic": ("tensor", "context", "expert", "transfer", "data", "offload", "exchange"),
    "waiting": ("bubble", "host", "fixed"),
    "model state": ("weights", "gradients"),
    "chips": ("matrix", "hbm", "link", "idle"),
    "around them": ("network", "conversion", "cooling"),
}
_ALSO = {"J": {"host": "around them"}, "byte": {"optimizer": "model state"}}


def group_of(part: str, unit: str) -> str:
    """The group of a part; empty for one that stands for itself."""
    own = _ALSO.get(unit, {}).get(part)
    if own is not None:
        return own
    timed = unit == "s"
    for name, parts in GROUPS.items():
        if part in parts and timed == (name in ("kernels", "traffic", "waiting")):
            return name if unit in ("s", "byte", "J") else ""
    return ""


def tree_of(title: str, unit: str, parts: Mapping[str, float], remarks: Mapping[str, str] | None = None) -> Tree:
    """A tree of the parts of a quantity, the largest first, each with its share of the whole.

    Nothing stands for what is 0, or as small beside the whole as rounding leaves. Parts without a unit are shares
    themselves. `remarks` are set behind the parts that they are of.
    """
    from rich.text import Text
    from rich.tree import Tree

    total = sum(parts.values())
    tree = Tree(Text(f"{title}: {show(total, unit)}" if unit else title, style="bold"), guide_style="dim")
    groups: dict[str, dict[str, float]] = {}
    for part, value in parts.items():
        if abs(value) > _NOTHING * abs(total):
            groups.setdefault(group_of(part, unit) or part, {})[part] = value
    for name, own in sorted(groups.items(), key=lambda item: -sum(item[1].values())):
        alone = list(own) == [name] or len(own) == 1
        head = next(iter(own)) if alone else name
        branch = tree.add(_line(head, sum(own.values()), total, unit, "" if not alone else _of(remarks, head)))
        for part, value in [] if alone else sorted(own.items(), key=lambda item: -item[1]):
            branch.add(_line(part, value, total, unit, _of(remarks, part), 4))
    return tree


def _of(remarks: Mapping[str, str] | None, part: str) -> str:
    return (remarks or {}).get(part, "")


def _line(name: str, value: float, total: float, unit: str, remark: str, indent: int = 0) -> Any:
    from rich.text import Text

    share = value / total if total else 0.0
    bar = "█" * round(_WIDTH * max(0.0, share))
    line = Text(f"{name:<{18 - indent}}{show(value, unit) if unit else '':>10} {share:>6.1%}  ")
    line.append(f"{bar:<{_WIDTH}}" if remark else bar, style="cyan")
    line.append(f" {remark}" if remark else "", style="dim")
    return line
