"""What a chip package costs to make: wafers, defects, dies that are good enough, memory, packaging.

Defects fall on a wafer with a density that varies between wafers and places as a gamma distribution, so that a whole
die of area A is good with (1 + A D / alpha)^-alpha, the negative binomial model; alpha without bound is Poisson's
exp(-A D). Source: C. H. Stapper, IBM J. Res. Dev. 27 (1983) 549; alpha about 3 in the ITRS roadmaps. A die is still
sold with some cores bad: under one density cores fail independently, and the binomial sum is averaged over densities.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from model.cost import Parts
from model.layout import Array
from model.powers import power

_WAFER_M = 0.3
_EDGE_M = 0.003  # of the wafer that holds no good die
_NODES = 32  # of the quadrature over defect densities


@dataclass(frozen=True, slots=True)
class Process:
    """A process that wafers are made in."""

    name: str
    wafer_usd: float
    defects_per_m2: float  # mean density of killing defects
    clustering: float  # alpha: how alike wafers and places are


@dataclass(frozen=True, slots=True)
class Die:
    """One kind of die in a package."""

    name: str
    process: Process
    area_m2: float
    count: float  # in a package
    cores: int = 1  # built
    cores_good: int = 1  # least number of them with which it is sold in this package
    core_fraction: float = 1.0  # of its area; a defect beside the cores kills the die


@dataclass(frozen=True, slots=True)
class Silicon:
    """What a package is made of. Its memory is the chip's own: `Chip.hbm_bytes`."""

    dies: tuple[Die, ...]
    memory_usd_per_byte: float
    packaging_usd: float  # interposer, substrate, assembly
    assembly_yield: float  # of packages; dies and memory of a bad one are lost
    module_usd: float = 0.0  # board of the package, regulators, test
    memory_built: float = 1.0  # bytes of the stacks, over those that can be used


@dataclass(frozen=True, slots=True)
class SiliconParts(Parts):
    """USD of making one package."""

    dies: Any
    memory: Any
    packaging: Any
    scrap: Any  # packages that fail after assembly
    module: Any


def poisson_yield(area_m2: Any, defects_per_m2: Any) -> Array:
    """Share of dies without a defect where defects fall independently."""
    return np.asarray(np.exp(-np.multiply(area_m2, defects_per_m2)))


def negative_binomial_yield(area_m2: Any, defects_per_m2: Any, clustering: Any) -> Array:
    """Share of dies without a defect where defects cluster: never less than Poisson's."""
    return np.asarray(power(1.0 + np.multiply(area_m2, defects_per_m2) / clustering, -np.asarray(clustering, float)))


def _densities(clustering: Any) -> tuple[Array, Array]:
    """Nodes and weights of a mean over gamma-distributed densities of mean 1: generalised Gauss-Laguerre.

    By eigenvalues of the Jacobi matrix (Golub and Welsch 1969). Shape: that of `clustering`, then the nodes.
    """
    alpha = np.asarray(clustering, float)[..., None]
    index = np.arange(_NODES, dtype=float)
    step = np.arange(1, _NODES)
    matrix = np.zeros((*alpha.shape[:-1], _NODES, _NODES))
    matrix[..., np.arange(_NODES), np.arange(_NODES)] = 2.0 * index + alpha
    matrix[..., step, step - 1] = np.sqrt(step * (step + alpha - 1.0))
    nodes, vectors = np.linalg.eigh(matrix)
    return nodes / alpha, vectors[..., 0, :] ** 2


def sold_yield(die: Die) -> Array:
    """Share of dies that can be sold: all beside the cores good, and no more cores bad than the package allows.

    With every core needed it is the negative binomial yield of the whole die.
    """
    density, weight = _densities(die.process.clustering)
    mean = np.multiply(die.area_m2, die.process.defects_per_m2)[..., None] * density
    in_core = mean * np.asarray(die.core_fraction, float)[..., None] / die.cores
    good, bad = np.exp(-in_core), -np.expm1(-in_core)
    term = power(good, die.cores)
    enough = term
    for failed in range(die.cores - die.cores_good):
        term = term * (bad / good) * (die.cores - failed) / (failed + 1.0)
        enough = enough + term
    beside = np.exp(-mean * (1.0 - np.asarray(die.core_fraction, float)[..., None]))
    return np.asarray((weight * beside * enough).sum(axis=-1))


def dies_per_wafer(area_m2: Any) -> Array:
    """Whole dies on a wafer of 300 mm without 3 mm of edge: pi r^2 / A - pi d / sqrt(2 A).

    Source: de Vries, IEEE Trans. Semicond. Manuf. 18 (2005) 136, the common first-order form.
    """
    across = _WAFER_M - 2.0 * _EDGE_M
    area = np.asarray(area_m2, float)
    return np.asarray(np.pi * (across / 2.0) ** 2 / area - np.pi * across / np.sqrt(2.0 * area))


def good_die_usd(die: Die) -> Array:
    """USD of wafer for each die that can be sold."""
    return np.asarray(die.process.wafer_usd / (dies_per_wafer(die.area_m2) * sold_yield(die)))


def package_cost(silicon: Silicon, memory_bytes: Any) -> SiliconParts:
    """USD of making one package with so much usable memory."""
    dies = np.asarray(sum(die.count * good_die_usd(die) for die in silicon.dies))
    memory = np.asarray(memory_bytes * silicon.memory_built * silicon.memory_usd_per_byte)
    lost = (dies + memory + silicon.packaging_usd) * (1.0 / silicon.assembly_yield - 1.0)
    return SiliconParts(dies, memory, np.asarray(silicon.packaging_usd), lost, np.asarray(silicon.module_usd))
