"""What the keys of files mean: from the comments beside the fields of the records that they feed, else from here."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields
from functools import cache

from model.architecture import Architecture, Experts, LatentAttention, LowRankProjections, SparseAttention
from model.chip import (
    AttentionCalibration,
    Calibration,
    Chip,
    ChipPower,
    DecodeCalibration,
    MatmulCalibration,
    MemoryCalibration,
)
from model.prices import Prices
from model.reliability import Operation
from model.serving.stack import ServingStack
from model.silicon import Die, Silicon
from model.stack import Stack
from model.system import Facility, Host, Part, Racks, System, Tier

_OF_KIND: dict[str, tuple[type, ...]] = {
    "chips": (Chip, ChipPower, Silicon, Die),
    "calibrations": (Calibration, MatmulCalibration, AttentionCalibration, MemoryCalibration, DecodeCalibration),
    "systems": (System, Tier, Part, Facility, Host, Racks),
    "fabrics": (Tier,),
    "models": (Architecture, Experts, LatentAttention, SparseAttention, LowRankProjections),
    "stacks": (Stack,),
    "engines": (ServingStack,),
    "operations": (Operation,),
    "prices": (Prices,),
    "processes": (),
    "memories": (),
}
_OF_ALL = {
    "title": "full name",
    "why": "what the entry is for",
    "note": "what a reader must know",
    "status": "on sale since when, or not yet",
    "scenario": "true for what exists in rumour only",
    "year": "of the first machines",
    "frameworks": "names under which cases and exports know it",
    "from_year": "first year of its releases",
    "to_year": "last year of its releases",
    "vendors": "of the chips that it runs on",
    "like": "another entry that says what this one does not",
    "source": "of every number of the file that has none of its own",
    "kind": "of the source: one of " + ", ".join(("datasheet", "measured", "derived", "estimated", "rumour")),
    "name": "of the item",
    "price_usd": "price of one",
    "hour_usd": "price of an hour of rent; not read by the cost model",
    "dropout": "share that dropout takes; 0 keeps no masks",
    "topology": "switch, full_mesh or torus",
    "medium": "copper or optics",
    "failure_rate": "failures that stop a job, of one",
    "all_reduce": "achieved share of the bandwidth in all-reduce",
    "all_gather": "achieved share of the bandwidth in all-gather",
    "reduce_scatter": "achieved share of the bandwidth in reduce-scatter",
    "all_to_all": "achieved share of the bandwidth in all-to-all",
    "point_to_point": "achieved share of the bandwidth between two ranks",
}
_OF_FIELD = {
    "chips": {
        "vendor": "who makes it",
        "process": "process that it is made in, in words",
        "memory_type": "kind of memory, in words",
        "calibration": "entry of calibrations with what is achieved of its peaks",
        "ranks_per_package": "ranks, each of which one process drives",
        "bf16": "of a package, dense; with 16-bit inputs", "fp8": "the same with 8-bit floats",
        "fp4": "the same with 4-bit floats", "int8": "the same with 8-bit integers",
        "hbm_bandwidth": "of a package, read and write together",
        "tiles": "rows and columns of a matmul's tile, the preferred first",
        "joule_per_hbm_byte": "energy of a byte to or from memory",
        "scale_up_bandwidth": "of a package, one direction, as listed; not read by the cost model",
        "scale_out_bandwidth": "of a package, one direction, as listed; not read by the cost model",
        "memory": "entry of memories", "packaging_usd": "interposer, substrate and assembly",
        "assembly_yield": "packages that work, of those assembled", "module_usd": "board or module around the package",
        "memory_built": "memory built in over memory sold", "dies.process": "entry of processes",
        "area_m2": "of a die", "count": "dies in a package", "cores_good": "cores that must work",
        "core_fraction": "share of the die that cores take",
    },
    "calibrations": {
        "fitted_on": "measurements that the constants come from",
        "grouped_overhead": "time that grouped matmuls take over, as a share",
        "launch_s": "start of a kernel", "forward_fraction": "share of the peak in attention, forward",
        "backward_fraction": "share of the peak in attention, backward",
        "matmul_fraction": "share of the bandwidth that matmuls' operands get",
        "vector_launch_s": "start of an elementwise kernel",
        "attention_launch_s": "start of attention in a decode step",
        "latent_cache_fraction": "share of the bandwidth in reading a latent cache",
        "latent_launch_s": "start of latent attention", "indexer_launch_s": "start of the indexer",
        "grouped_launch_s": "start of a grouped matmul",
    },
    "systems": {
        "chip": "entry of chips", "other_chips": "chips that cases name for the same machine",
        "default_stack": "software where a study names none", "default_engine": "engine where a study names none",
        "fabric": "entry of fabrics that says what the tier does not",
        "count": "how many of it", "watts": "of one, at the plug of the rack",
        "per_packages": "packages that `count` of it serve", "group": "host, switch, optics, nic, board or storage",
        "memory_bytes": "of the host, a package's share",
        "network_usd": "of a unit's network; not read by the cost model",
        "power_w": "published power, against which a test holds the computed one",
        "boundary": "what the published power includes",
    },
    "models": {
        "alias_of": "another entry of the same shapes", "layers": "transformer layers", "heads": "query heads",
        "key_value_heads": "key and value heads; fewer than heads in grouped attention", "head_size": "of a head",
        "vocabulary": "tokens", "tied_embeddings": "true where the last matmul uses the embedding",
        "norms_per_layer": "normalisations in a layer", "value_head": "of a value in latent attention",
        "index_heads": "heads of the indexer", "output_rank": "rank of the output projection",
        "output_groups": "groups of the output projection",
        "parameters": "as published, in all", "active_parameters": "as published, used by a token",
        "tolerance": "by which the count may differ from what is published",
        "active_tolerance": "the same of active parameters",
    },
    "stacks": {
        "dispatch": "how tokens travel to experts",
        "parameter_wire_bytes": "of a parameter that is gathered",
        "zero_stage": "sharding where a case does not say",
    },
    "engines": {"variant": "eager, without captured graphs, or large_ep, experts over many nodes"},
    "operations": {"interval_rule": "how the time between checkpoints is chosen"},
    "prices": {
        "pays": "owner, or rent", "chip_price": "listed, or silicon",
        "silicon_chips": "chips priced from their silicon",
        "annual_interest": "a year",
    },
    "processes": {
        "wafer_usd": "price of a wafer", "defects_per_m2": "density of defects",
        "clustering": "how defects cluster: the alpha of the negative binomial",
    },
    "memories": {"usd_per_byte": "price"},
}  # fmt: skip
_TIER = {
    "oversubscription": "bandwidth asked for over bandwidth that there is, towards the next tier",
    "exchange_fraction": "share of the bandwidth that small exchanges of a decode step get",
    "bulk_fraction": "share of the bandwidth that large exchanges get",
    "port_w": "power of a port with its optics", "port_usd": "price of a port with its optics",
    "switch_w": "power of a port's share of the switches", "switch_usd": "price of a port's share of the switches",
}  # fmt: skip


@cache
def of_record(record: type) -> dict[str, str]:
    """Field -> the comment beside it in the code, or its line in the docstring."""
    source, doc = inspect.getsource(record), record.__doc__ or ""
    found = {}
    for field in fields(record):
        beside = re.search(rf"^    {field.name}: [^#\n]*# (.*)$", source, re.M)
        below = re.search(rf"^    (?:\w+, )*{field.name}(?:, \w+)*\n        (.*)$", doc, re.M)
        told = beside or below
        if told:
            found[field.name] = told.group(1)
    return found


def meaning(kind: str, path: str) -> str:
    """What a key of an entry means; empty where nobody has said."""
    *above, name = path.split(".")
    own = _OF_FIELD.get(kind, {}) | (_TIER if kind in ("fabrics", "systems") else {})
    told = own.get(f"{above[-1]}.{name}" if above else name) or own.get(name)
    if told:
        return told
    for record in _OF_KIND[kind]:
        if name in of_record(record) and (name != "kind" or above):
            return of_record(record)[name]
    return _OF_ALL.get(name, "")
