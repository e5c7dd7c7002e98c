"""What the files of prices, processes and memories may say, and the table of a chip's silicon."""

from __future__ import annotations

from typing import Any, Literal

from model.prices import Prices
from model.silicon import Die, Process, Silicon
from sweep.catalogue_schema import TITLE, each_with, may, need, record, table, under

_RESOLVED = ("name", "package_usd", "gross_margin", "integration_usd", "rent_usd_per_s")


def _named(**quantities: Any) -> Any:
    return table("named", {"name": need(str), "note": may(str), **quantities})


def basis() -> Any:
    """A price basis: the terms of an owner, or hours of rent."""
    terms = record(Prices, "data", without=_RESOLVED, all_optional=True)
    priced = each_with(_named(price_usd=need(under("price_usd", sense=0))))
    return table("basis", {
        **TITLE, "why": need(str), "note": may(str), "year": may(int),
        "pays": need(Literal["owner", "rent"]),
        "chip_price": may(Literal["listed", "silicon"]), "silicon_chips": may(list[str]),
        **terms,
        "margins": may(each_with(_named(gross_margin=need(under("gross_margin", sense=0))))),
        "packages": may(priced), "machines": may(priced),
        "rents": may(each_with(_named(rent_usd_per_s=need(under("rent_usd_per_s", sense=0))))),
    })  # fmt: skip


def process() -> Any:
    """A process that wafers are made in."""
    return table("process", {**TITLE, "note": may(str), **record(Process, "data", without=("name",))})


def memory() -> Any:
    """A kind of memory by the byte."""
    return table("memory", {**TITLE, "note": may(str), "usd_per_byte": need(under("memory_usd_per_byte", sense=0))})


def silicon() -> Any:
    """The table of a chip's silicon: it names its process and its memory."""
    die = {"name": need(str), "process": need(str), **record(Die, "data", without=("name", "process"))}
    return table("silicon", {
        "memory": need(str), "note": may(str),
        **record(Silicon, "data", without=("dies", "memory_usd_per_byte")),
        "dies": need(each_with(table("die", die))),
    })  # fmt: skip
