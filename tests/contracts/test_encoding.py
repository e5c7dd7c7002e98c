"""Layouts as places on axes: both ways the same, every proposal a legal layout that was not tried."""

from __future__ import annotations

import numpy as np
import pytest

from model.layout import OVERLAPS
from sweep import catalogue
from sweep.axes import Axes, Degrees, Problem
from sweep.columns import plain
from sweep.encoding import Encoding, distributions
from sweep.space import layout_space

PROBLEMS = {
    "dense": ("llama-3-70b", 8192, 256, 256, Axes()),
    "experts": ("deepseek-v3", 4096, 192, 1920, Axes(overlap_off=tuple(range(1 << len(OVERLAPS))))),
    "one layout": ("llama-3-8b", 8192, 1, 1, Axes(recompute=(("none",),), zero_stage=(0,))),
}
each = pytest.mark.parametrize("name", PROBLEMS)


def encoding(name: str) -> Encoding:
    model, sequence, ranks, batch, axes = PROBLEMS[name]
    problem = Problem(catalogue.architecture(model), sequence, ranks, batch, ("core_attention",))
    return Encoding(layout_space(problem, axes))


def some(one: Encoding, count: int = 500) -> np.ndarray:
    return np.unique(np.linspace(0, one.space.count - 1, count).astype(np.int64))


@each
def test_a_layout_is_found_at_its_places(name: str) -> None:
    """Places of a layout lead back to it, and its params say what the data set's columns say."""
    one = encoding(name)
    numbers = some(one)
    assert (one.find(one.places(numbers)) == numbers).all()
    assert (one.find(one.places_of(one.params(numbers))) == numbers).all()
    columns = one.space.take(numbers).columns()
    for i, params in enumerate(one.params(numbers)):
        for column in set(params) - {"schedule"}:
            assert params[column] == plain(column, columns[column][i])


@each
def test_every_proposal_becomes_a_legal_layout_of_its_own(name: str) -> None:
    """Wherever a sampler points, in any order, until nothing is left; a legal new layout stays what it is."""
    one = encoding(name)
    rng = np.random.default_rng(1)
    sizes = [len(axis.words) for axis in one.axes.values()]
    places = np.stack([rng.integers(0, size, 200) for size in sizes], axis=1) if sizes else np.zeros((1, 0), np.int64)
    places = places[: one.space.count]
    legal = one.find(places)
    seen: set[int] = set()
    settled = one.settle(places, seen)
    assert len(set(settled)) == len(settled) == len(seen)
    assert all(0 <= number < one.space.count for number in settled)
    stayed = [a == b for a, b in zip(settled, legal.tolist(), strict=True) if b >= 0]
    assert not sizes or sum(stayed) > 0.8 * len(stayed)
    assert one.settle(places, set()) == settled


def test_a_small_space_is_gone_through_wholly() -> None:
    """As many proposals as layouts try each layout once."""
    axes = Axes(recompute=(("none",),), zero_stage=(0, 1), context_parallel=Degrees(high=2))
    problem = Problem(catalogue.architecture("llama-3-8b"), 8192, 4, 4, ("core_attention",))
    one = Encoding(layout_space(problem, axes))
    places = np.zeros((one.space.count, len(one.axes)), np.int64)
    assert sorted(one.settle(places, set())) == list(range(one.space.count))


@each
def test_an_illegal_proposal_moves_no_further_than_it_must(name: str) -> None:
    """Where layouts one step away are legal, the proposal becomes one of those."""
    one = encoding(name)
    sizes = np.asarray([len(axis.words) for axis in one.axes.values()])
    rng = np.random.default_rng(2)
    places = np.stack([rng.integers(0, size, 60) for size in sizes], axis=1) if len(sizes) else np.zeros((0, 0), int)
    moved = 0
    for row in places[one.find(places) < 0] if len(places) else ():
        around = np.repeat(row[None], 2 * len(sizes), axis=0)
        around[np.arange(2 * len(sizes)), np.arange(2 * len(sizes)) // 2] += np.tile((1, -1), len(sizes))
        near = one.find(around[((around >= 0) & (around < sizes)).all(axis=1)])
        if (near >= 0).any():
            moved += 1
            assert one.settle(row[None], set())[0] in near
    assert moved or name == "one layout"


@pytest.mark.parametrize("name", ["dense", "experts"])
def test_steps_stay_on_the_axes(name: str) -> None:
    """Random steps are places on the axes, mostly one or two, seldom none, and the same for a seed."""
    one = encoding(name)
    around = one.places(some(one, 200))
    moved = one.stepped(around, np.random.default_rng(3))
    sizes = [len(axis.words) for axis in one.axes.values()]
    assert ((moved >= 0) & (moved < sizes)).all()
    assert (moved != around).any(axis=1).mean() > 0.7
    assert ((moved != around).sum(axis=1) <= 2).mean() > 0.75
    assert (one.stepped(around, np.random.default_rng(3)) == moved).all()


def test_axes_cover_what_a_space_varies() -> None:
    """Every field of a layout is set by one axis, but those that follow from the others."""
    from dataclasses import fields

    from model.layout import Layout

    set_by = [field for axis in distributions(encoding("experts").space).values() for field in axis.fields]
    assert len(set_by) == len(set(set_by))
    assert set(set_by) == {field.name for field in fields(Layout)} - {"data_parallel", "global_batch"}
