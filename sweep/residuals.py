"""How far measurements lie from predictions: the distribution of log(predicted / measured), fitted to published runs.

    python -m sweep.residuals CASES...          # fit, write the numbers and print the coverage
    python -m sweep.residuals CASES... --check  # fit, and fail where the numbers of the product are others

A residual belongs to a software stack or serving engine, a kind of model ("dense" or "MoE"), a family of quantities
and a chip; never to a case. Where there are no rows of a stack, the spread over all frameworks is taken; where the
stack ran on other chips only, the spread between chips of one stack is added; where nothing was measured on a chip of
the calibration, the uncertainty of what an unseen chip reaches as well. `sweep/residual_fit.py` says how they are
fitted.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import exp, hypot
from pathlib import Path
from statistics import NormalDist
from typing import Any, Literal

import numpy as np

from sweep import catalogue
from sweep.chip_names import CHIP_SYSTEMS
from sweep.errors import InputError, Problem

DATA = catalogue.DATA / "residuals.toml"
TAIL = 0.1  # a band reaches from this share of the measurements to all but this share
Z = NormalDist().inv_cdf(1.0 - TAIL)

# Relative standard deviation of what a chip reaches of its peaks, where none of its kind was measured: over the known
# chips the share runs from 0.45 to 0.84, of which knowing the maker's last chip takes a part. An estimate.
UNSEEN_CHIP = 0.15
# The same of memory between frameworks: only one printed what it allocated. An estimate.
UNSEEN_MEMORY = 0.1

Family = Literal["training", "serving", "first token", "memory", "power"]
_FIRST = ("ttft_s", "ttft_p99_s")
_LATENCIES = ("tpot_s", "tpot_p99_s", "latency_s", "total_time_s", "layer_s", "tokens_per_s_per_user", "requests_per_s")
_MEMORY = ("memory_bytes", "hbm_used_bytes")
# Of power there are few rows: software and kinds of model share what they say.
ANY = "any"
_POWER = (
    "power_w", "peak_power_w", "idle_w", "power_fraction", "peak_power_fraction", "energy_j", "energy_per_token_j",
    "energy_per_flop_j", "tokens_per_s_per_watt",
)  # fmt: skip
_RATES = (
    "tokens_per_s_per_watt",
    "tokens_per_s",
    "tokens_per_s_per_chip",
    "tokens_per_s_per_user",
    "requests_per_s",
    "mfu",
)
KINDS = ("dense", "MoE")
QUANTITIES = tuple(dict.fromkeys(("step_time_s", *_FIRST, *_LATENCIES, *_MEMORY, *_POWER, *_RATES)))


@dataclass(frozen=True, slots=True)
class Residual:
    """Distribution of log(predicted / measured): a two-piece log-normal, of which half lies on each side of the bias.

    Attributes
    ----------
    log_bias
        Median: above 0 predictions are too high.
    log_sd
        Standard deviation of a log-normal with a band of the same width.
    n
        Cases of the group that it was fitted to; 0 where other software stands in.
    basis
        In words: the rows it rests on, and what was added.
    log_low, log_high
        The 10 and 90 % points.
    """

    log_bias: float
    log_sd: float
    n: int
    basis: str
    log_low: float
    log_high: float

    def band(self, predicted: float) -> tuple[float, float]:
        """What 10 and 90 % of measurements are expected to lie below, where `predicted` was predicted.

        The band is about predicted / exp(log_bias): what the group is known to err is taken off.
        """
        return predicted * exp(-self.log_high), predicted * exp(-self.log_low)

    def factor(self, normal: Any) -> Any:
        """Measured / predicted for draws of a standard normal variable, an array of the same shape.

        More is more: of -1.28, 0 and 1.28 it gives the low end of the band, its median and its high end.
        """
        normal = np.asarray(normal, float)
        below, above = (self.log_high - self.log_bias) / Z, (self.log_bias - self.log_low) / Z
        return np.exp(-self.log_bias + np.where(normal < 0.0, below, above) * normal)


def between(low: float, median: float, high: float, n: int, basis: str) -> Residual:
    """The residual of three points of a distribution."""
    return Residual(median, (high - low) / (2.0 * Z), n, basis, low, high)


def widened(one: Residual, *spreads: float, basis: str = "") -> Residual:
    """A residual to which independent relative standard deviations are added, on both sides of its bias."""
    low = one.log_bias - hypot(one.log_bias - one.log_low, *(Z * spread for spread in spreads))
    high = one.log_bias + hypot(one.log_high - one.log_bias, *(Z * spread for spread in spreads))
    return between(low, one.log_bias, high, one.n, f"{one.basis}{basis}")


def mirrored(one: Residual) -> Residual:
    """The residual of the inverse: of a rate, from that of a time."""
    return replace(one, log_bias=-one.log_bias, log_low=-one.log_high, log_high=-one.log_low)


def family_of(quantity: str, serving: bool) -> Family | None:
    """The family of a quantity: those of one share a residual. None where nothing of the kind was ever compared."""
    if quantity in _MEMORY:
        return "memory"
    if quantity in _POWER:
        return "power"
    if quantity in _FIRST:
        return "first token"
    if quantity in _LATENCIES:
        return "serving"
    if quantity in QUANTITIES:
        return "serving" if serving else "training"
    return None


def is_rate(quantity: str) -> bool:
    """Whether more of a quantity is less time."""
    return quantity in _RATES


def is_engine(software: str) -> bool:
    """Whether the catalogue has a serving engine of the name."""
    return software in _engines()


@cache
def _engines() -> frozenset[str]:
    return frozenset(catalogue.names("engines"))


@cache
def chip_named(chip: str) -> str:
    """The catalogue's name of a chip that a case names, or the name itself."""
    if chip in CHIP_SYSTEMS:
        system, sold_with = CHIP_SYSTEMS[chip]
        return sold_with or str(catalogue.entry("systems", system).facts["chip"])
    return chip


@cache
def chip_class(chip: str) -> str:
    """The calibration of a chip: chips of one class reach the same shares of their peaks."""
    name = chip_named(chip)
    return str(catalogue.entry("chips", name).facts["calibration"]) if name in catalogue.names("chips") else name


# ------------------------------------------------------------------------------------------------ fitted numbers
@dataclass(frozen=True, slots=True)
class Residuals:
    """Fitted residuals of times and bytes.

    Attributes
    ----------
    groups
        By family, kind, software and chip; a chip of "" is the software on all of its chips.
    unseen
        By family and kind: of software without rows.
    chip_spread
        By family: relative standard deviation between the chips of one stack.
    classes
        By family: calibrations with rows.
    """

    groups: Mapping[tuple[str, str, str, str], Residual]
    unseen: Mapping[tuple[str, str], Residual]
    chip_spread: Mapping[str, float]
    classes: Mapping[str, frozenset[str]]

    def of(self, family: str, kind: str, software: str, chip: str) -> Residual:
        """The residual of a time or of bytes; a chip of "" asks for no chip in particular."""
        chip = chip_named(chip)
        exact = self.groups.get((family, kind, software, chip))
        if exact is not None:
            return exact
        found = self.groups.get((family, kind, software, "")) or self.unseen[family, kind]
        if chip and found.n:
            found = widened(found, self.chip_spread[family], basis=", on other chips")
        if chip and family != "memory" and chip_class(chip) not in self.classes[family]:
            found = widened(found, UNSEEN_CHIP, basis=", and no row of such a chip")
        return found


@cache
def fitted() -> Residuals:
    """The numbers of the product."""
    with DATA.open("rb") as file:
        return read(tomllib.load(file))


def read(tables: Mapping[str, Any]) -> Residuals:
    """Residuals of the tables of the file."""
    groups, unseen = {}, {}
    for one in tables["group"]:
        family, kind, software, chip = (one[key] for key in ("family", "kind", "software", "chip"))
        chips = one.get("chips", ())
        cases = "1 case" if one["cases"] == 1 else f"{one['cases']} cases"
        what = family if software == ANY else f"{software}, {kind}"
        basis = f"{cases} of {what}{f' on {chip}' if chip else ''}"
        found = between(one["low"], one["median"], one["high"], one["cases"], basis)
        # of a software on all chips before those of single chips, which stand after it
        groups.update({(family, kind, software, of): found for of in (chip, *chips)})
    for one in tables["unseen"]:
        basis = f"{one['cases']} cases of other software, {one['kind']}; frameworks: {one['frameworks']}"
        unseen[one["family"], one["kind"]] = between(one["low"], one["median"], one["high"], 0, basis)
    spread = {one["family"]: float(one["between_chips"]) for one in tables["family"]}
    classes = {one["family"]: frozenset(one["calibrations"]) for one in tables["family"]}
    return Residuals(groups, unseen, spread, classes)


def residual_of(
    software: str | None,
    kind: str | None,
    chip: str | None,
    quantity: str = "step_time_s",
    serving: bool | None = None,
) -> Residual | None:
    """As `residual`, but None for a quantity that was not compared with measurements, or another kind.

    Power needs neither software nor kind.
    """
    family = family_of(quantity, is_engine(software or "") if serving is None else serving)
    if family == "power":
        software = kind = ANY
    if family is None or software is None or kind not in (*KINDS, ANY):
        return None
    found = fitted().of(family, kind, software, chip or "")
    return mirrored(found) if is_rate(quantity) else found


def residual(
    software: str, kind: str, chip: str | None, quantity: str = "step_time_s", serving: bool | None = None
) -> Residual:
    """Distribution of log(predicted / measured) of a quantity.

    Parameters
    ----------
    software
        Name of a stack or serving engine; one that the catalogue does not have is software without rows.
    kind
        Kind of model: "dense" or "MoE".
    chip
        Name of a chip as the catalogue or a case has it. None for the software on the chips it was measured on: where
        the uncertainty of the chip's own numbers is drawn apart.
    quantity
        Name of a predicted quantity or of a column of studies, one of `QUANTITIES`.
    serving
        Whether software that the catalogue does not have serves.

    Raises InputError where nothing measured says how wrong a quantity is, or there is no such kind.
    """
    found = residual_of(software, kind, chip, quantity, serving) if kind in KINDS else None
    if found is not None:
        return found
    problems = []
    if quantity not in QUANTITIES:
        rule = "has no residuals: it was not compared with measurements"
        problems.append(Problem("residual", "quantity", rule, quantity, f"one of {', '.join(QUANTITIES)}"))
    if kind not in KINDS:
        problems.append(Problem("residual", "kind", "is no kind of model", kind, f"one of {', '.join(KINDS)}"))
    raise InputError(problems)


def main(arguments: Sequence[str]) -> int:
    """Fit to files of cases; write the numbers, or with --check only compare them."""
    from sweep.residual_fit import fit_files

    files = [Path(one) for one in arguments if one != "--check"]
    if not files:
        sys.stderr.write("give the files of cases: python -m sweep.residuals CASES... [--check]\n")
        return 2
    return fit_files(files, DATA, check="--check" in arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
