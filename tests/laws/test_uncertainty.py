"""What must hold of uncertain numbers: quantiles in order, points that are plain machines, shares that add up."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.serving.instance import Instance
from model.serving.workload import Requests, Serving
from model.step import training_step
from model.workload import Training
from sweep import catalogue
from sweep.columns import QUANTITIES
from sweep.designs import Design, machine, machine_as_read
from sweep.residuals import residual
from sweep.uncertainty import (
    NOT_KNOWN,
    Contender,
    Deployed,
    assess,
    cluster_contender,
    flips,
    influences,
    model_error,
    serving_contender,
    share_on,
    spread_of,
    training_contender,
    values,
    variance_shares,
)
from sweep.uncertainty.contenders import best_of
from sweep.uncertainty.distributions import FIXED, Distribution, distribution
from sweep.uncertainty.model_error import slower
from sweep.uncertainty.points import (
    Column,
    Drawn,
    machine_at,
    nominal,
    number_at,
    numbers_of,
    placed,
    sobol_points,
    uncertain_columns,
)
from sweep.uncertainty.propagation import columns_of, weightiest_first
from sweep.uncertainty.sensitivity import sobol_indices
from tests.laws.strategies import random_layouts

RATE = "tokens_per_s_per_chip"
TRAINING = Training(catalogue.architecture("llama-3-70b"), 8192)
SHARES = np.linspace(0.001, 0.999, 499)
NUMBERS = [
    (kind, name, path)
    for kind in ("chips", "calibrations", "systems", "fabrics", "prices", "processes", "memories", "operations")
    for name in catalogue.names(kind)
    for path in catalogue.entry(kind, name).quantities
    if number_at(catalogue.entry(kind, name), path) is not None
]


@cache
def contender(system: str, rows: int = 20, changes: tuple[tuple[str, float], ...] = (), label: str = "") -> Contender:
    """A design that trains, with the best of some random layouts of at most 256 chips."""
    stack = catalogue.stack(catalogue.default_stack(system))
    design = Design(label or system, system, stack.name, (256,), changes=changes)
    layouts = random_layouts(TRAINING, 5, 4000)
    layouts = layouts.take(np.flatnonzero(layouts.ranks <= 256))
    cost = training_step(machine(design), stack, TRAINING, layouts)
    rate = np.where(cost.feasible, cost.tokens_per_second / cost.packages, 0.0)
    assert np.sum(rate > 0) >= rows
    return training_contender(design, stack, TRAINING, layouts.take(np.argsort(-rate)[:rows]))


# --------------------------------------------------------------------------------------------- distributions
@given(st.sampled_from(NUMBERS))
def test_quantiles_are_in_order_and_where_the_catalogue_says(place: tuple[catalogue.Kind, str, str]) -> None:
    """The median is the value, the ends of the range are the 10 and 90 % points, and nothing is below zero."""
    kind, name, path = place
    found = catalogue.entry(kind, name)
    quantity, number = found.quantities[path], number_at(found, path)
    assert number is not None
    drawn = number.distribution.quantile(SHARES)
    assert np.all(np.diff(drawn) >= 0.0)
    assert np.all(drawn >= min(0.0, quantity.value))
    assert number.distribution.quantile(0.5) == quantity.value
    for end, share in ((quantity.low, 0.1), (quantity.high, 0.9)):
        if end is not None:
            assert number.distribution.quantile(share) == pytest.approx(end, rel=1e-9, abs=1e-15)


def test_most_numbers_are_uncertain_and_specifications_are_not() -> None:
    """A number without a range is as uncertain as the kind of its source; what is sold is what it is."""
    seen = set()
    for kind, name, path in NUMBERS:
        quantity = catalogue.entry(kind, name).quantities[path]
        spread = distribution(kind, path, quantity)
        assert spread is not None
        if quantity.low is None and quantity.high is None and quantity.value > 0.0:
            certain = quantity.kind == "datasheet" or (
                kind == "calibrations" and quantity.kind in ("derived", "measured")
            )
            assert spread.certain is (certain and not quantity.placeholder) or path.endswith("oversubscription")
            seen.add((quantity.kind, spread.certain))
    assert ("datasheet", True) in seen
    assert ("estimated", False) in seen
    assert not any(path.rpartition(".")[2] in FIXED for _, _, path in NUMBERS)


def test_what_is_bounded_stays_within_its_bounds() -> None:
    """A fraction of a peak never passes 1, the overhead of a building never falls below 1."""
    system = catalogue.entry("systems", "atlas-910d-supernode")
    overhead = number_at(system, "facility.pue")
    clock = number_at(catalogue.entry("calibrations", "ascend-910d"), "matmul.bf16.sustained_clock")
    assert overhead is not None
    assert clock is not None
    assert overhead.distribution.quantile(SHARES).min() >= 1.0
    assert clock.distribution.quantile(SHARES).max() == 1.0


@given(st.floats(1e-9, 1e15), st.floats(0.0, 2.0), st.floats(0.0, 2.0))
def test_a_distribution_is_log_normal_on_either_side(median: float, below: float, above: float) -> None:
    """One standard deviation up or down is a factor."""
    low, middle, high = Distribution(median, below, above).at([-1.0, 0.0, 1.0])
    assert middle == median
    assert (low, high) == pytest.approx((median * np.exp(-below), median * np.exp(above)))


# ---------------------------------------------------------------------------------------------------- points
@pytest.mark.parametrize("system", ["dgx-h100", "atlas-910d-supernode", "tpu-v5p-pod"])
def test_the_nominal_point_is_the_machine_of_the_catalogue(system: str) -> None:
    """No deviation, no change: the very same record."""
    design = Design("", system, "", ())
    columns = uncertain_columns([design])
    assert len(columns) > 20
    assert machine_at(design, nominal()) == machine(design)
    assert machine_at(design, nominal(columns)) == machine(design)


def test_a_machine_at_a_point_reads_the_quantiles_of_its_numbers() -> None:
    """A package's number is divided by its ranks, as the catalogue's is, and moves with its own column."""
    design = Design("", "atlas-910d-supernode", "", ())
    points = sobol_points(uncertain_columns([design]), 8, 1)
    number = number_at(catalogue.entry("chips", "ascend-910d"), "hbm_bandwidth")
    assert number is not None
    normal = points.normal(number.column)
    assert normal is not None
    np.testing.assert_allclose(machine_at(design, points).chip.hbm_bandwidth[:, 0] * 4, number.distribution.at(normal))


def test_what_a_study_fixes_is_not_drawn() -> None:
    """A number that a study sets is that number at every point."""
    design = Design("", "atlas-910d-supernode", "", (), changes=(("chip.hbm_bandwidth", 8e12),))
    points = sobol_points(uncertain_columns([design]), 8, 1)
    assert machine_at(design, points).chip.hbm_bandwidth == 2e12


def test_drawn_machines_are_not_kept() -> None:
    """Two readings of a machine do not share a record, and corners still do."""
    design = Design("", "dgx-h100", "", ())
    columns = uncertain_columns([design])
    one, other = (machine_as_read(design, sobol_points(columns, 4, seed)) for seed in (1, 2))
    assert not np.array_equal(one.chip.power.idle_w, other.chip.power.idle_w)
    assert catalogue.system("dgx-h100", "low") is catalogue.system("dgx-h100", "low")


def test_more_points_begin_with_those_of_fewer() -> None:
    """The same seed gives the same points, and another seed gives others; their number is a power of two."""
    columns = [Column("a", str(n)) for n in range(5)]
    few, more = sobol_points(columns, 16, 3), sobol_points(columns, 64, 3)
    assert np.array_equal(few.normals, more.normals[:16])
    assert not np.array_equal(few.normals, sobol_points(columns, 16, 4).normals)
    with pytest.raises(ValueError, match="power of two"):
        sobol_points(columns, 100, 3)


def test_the_same_number_of_two_designs_is_one_column() -> None:
    """Machines with one chip share its columns, and all machines share what the catalogue estimates once."""
    first, second = (uncertain_columns([Design("", name, "", ())]) for name in ("dgx-h200", "dgx-h100"))
    common = set(first) & set(second)
    assert {column.entry for column in common} >= {"calibrations/h100", "every machine"}
    assert Column("every machine", "facility.pue") in common


# ------------------------------------------------------------------------------------------------ propagation
def test_an_assessment_equals_a_loop_of_plain_calls() -> None:
    """Each point by itself, with a machine of plain numbers: the same best value, infeasible layouts left out."""
    one = replace(contender("atlas-910d-supernode"), error=None)
    found = assess([one], RATE, 16, seed=2)
    points = sobol_points(found.columns, 16, 2)
    stack = catalogue.stack(one.design.stack)
    for point in range(16):
        alone = machine_as_read(one.design, _plain(points.part(point, point + 1)))
        cost = training_step(alone, stack, TRAINING, one.layouts)
        rate = np.where(cost.feasible, cost.tokens_per_second / cost.packages, -np.inf).max()
        expected = rate if np.isfinite(rate) else np.nan
        np.testing.assert_allclose(found.values[point, 0], expected, 1e-12)
    assert found.standings[0].feasible == np.mean(~np.isnan(found.values[:, 0]))


def _plain(points: Drawn) -> catalogue.Reading:
    """One point as plain numbers."""

    def read(found: catalogue.Entry, path: str) -> Any:
        value = points(found, path)
        return float(value[0, 0]) if isinstance(value, np.ndarray) else value

    return read


def test_the_evenest_places_go_to_the_numbers_that_matter_most() -> None:
    """Every column once, that of the rumoured peak first."""
    pair = [contender("cloudmatrix-384"), contender("atlas-920-supernode")]
    columns = weightiest_first(pair, RATE)
    assert columns[0] == Column("chips/ascend-920", "peak_flops")
    assert sorted(columns) == sorted(columns_of(pair))


def test_equal_designs_are_best_equally_often() -> None:
    """The same machine under two names: a ratio of exactly 1 at every point, and half of the wins each."""
    found = assess([contender("cloudmatrix-384"), contender("cloudmatrix-384", label="the same")], RATE, 64)
    ratio = found.ratio("the same", "cloudmatrix-384")
    assert (ratio.nominal, ratio.low, ratio.median, ratio.high) == (1.0, 1.0, 1.0, 1.0)
    assert [standing.best for standing in found.standings] == [0.5, 0.5]
    assert found.ahead("the same", "cloudmatrix-384") == 0.5
    assert [standing.near_best for standing in found.standings] == [1.0, 1.0]


@pytest.mark.parametrize(
    "quantity", [RATE, "power_w", "energy_per_token_j", "step_time_s", "usd_per_million_tokens", "useful_tokens_per_s"]
)
def test_bands_are_in_order_and_probabilities_add_up(quantity: str) -> None:
    """Of any quantity, more or less of which is better."""
    pair = [contender("dgx-h100"), contender("atlas-920-supernode")]
    found = assess(pair, quantity, 64)
    assert sum(standing.best for standing in found.standings) == pytest.approx(1.0)
    assert found.ahead(pair[0].label, pair[1].label) == pytest.approx(found.standings[0].best)
    for one, standing in zip(pair, found.standings, strict=True):
        band = standing.band
        assert band.low < band.median < band.high
        assert standing.layout_best.sum() == pytest.approx(standing.feasible)
        assert np.all(standing.layout_near >= standing.layout_best)
        assert standing.best <= standing.near_best <= 1.0
        cost = training_step(machine(one.design), catalogue.stack(one.design.stack), TRAINING, one.layouts)
        plain = np.broadcast_to(QUANTITIES[quantity].read(cost), one.layouts.shape)
        assert band.nominal == pytest.approx(plain[standing.layout], rel=1e-12)


def test_what_designs_have_in_common_cancels() -> None:
    """A faster link on the same chip: the ratio is far surer than either figure."""
    faster = contender("cloudmatrix-384", changes=(("tiers.unified-bus.bandwidth", 784e9),), label="faster")
    found = assess([contender("cloudmatrix-384"), faster], RATE, 256)
    ratio, alone = found.ratio("faster", "cloudmatrix-384"), found.standings[0].band
    assert ratio.high / ratio.low < (alone.high / alone.low) ** 0.5
    assert found.standings[1].best > 0.9


def test_bands_agree_with_plain_random_draws() -> None:
    """Quantiles over Sobol points lie within the error of independent draws."""
    one = contender("atlas-910d-supernode", rows=5)
    found = assess([one], RATE, 1024).standings[0].band
    columns = assess([one], RATE, 2).columns
    draws = 4000
    normals = np.random.default_rng(11).standard_normal((draws, len(columns)))
    drawn = best_of(values(one, RATE, Drawn(placed(columns), normals)), RATE)[1]
    for share, value in ((0.1, found.low), (0.5, found.median), (0.9, found.high)):
        below = np.mean(drawn[~np.isnan(drawn)] < value)
        assert below == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / draws) + 0.01)


def test_a_slower_cost_is_slower_in_everything() -> None:
    """Times up, rates down, energy by the power at rest of a longer step."""
    one = contender("dgx-h100")
    cost = training_step(machine(one.design), catalogue.stack(one.design.stack), TRAINING, one.layouts)
    longer = slower(cost, 1.25)
    np.testing.assert_allclose(longer.step_time, cost.step_time * 1.25)
    np.testing.assert_allclose(longer.tokens_per_second, cost.tokens_per_second / 1.25)
    assert np.all(longer.energy.total > cost.energy.total)
    assert np.all(longer.energy.total < cost.energy.total * 1.25)


def test_the_error_of_the_model_is_that_of_measured_runs() -> None:
    """At no deviation a time is what the runs' median says; what software shares is drawn once for all its chips."""
    one, other = (
        model_error("megatron-bridge-2026", "dense", "h100"),
        model_error("megatron-bridge-2026", "dense", "gb200"),
    )
    assert one.software == other.software
    assert one.chip != other.chip
    assert one.factors(nominal()) == (1.0, 1.0)
    times, _ = one.factors(nominal(one.columns))
    assert times[0, 0] == pytest.approx(np.exp(-residual("megatron-bridge-2026", "dense", "h100").log_bias))
    rng = np.random.default_rng(5)
    drawn, _ = one.factors(Drawn(placed(one.columns), rng.standard_normal((20_000, 2))))
    low, high = np.quantile(drawn, (0.1, 0.9))
    assert (low, high) == pytest.approx(residual("megatron-bridge-2026", "dense", "h100").band(1.0), rel=0.01)


def test_a_chip_without_runs_errs_in_its_own_numbers_alone() -> None:
    """What an unseen chip reaches of its peaks is drawn with its calibration, and not added a second time."""
    unseen = model_error("mindspeed-2025", "dense", "ascend-910d").time
    assert unseen == residual("mindspeed-2025", "dense", None)
    assert unseen.log_sd < residual("mindspeed-2025", "dense", "ascend-910d").log_sd


def test_serving_is_assessed_at_given_working_points() -> None:
    """Instances that decode, of a rumoured machine and of one that is sold."""
    serving = Serving(catalogue.architecture("deepseek-r1"), Requests(4096.0, 1024.0), "int8")
    instances = Instance(1, 1, 1, np.array([32, 64]), np.array([32, 64]), batch=np.array([512.0, 2048.0]))
    pair = []
    for system in ("cloudmatrix-384", "atlas-910d-supernode"):
        engine = catalogue.engine(catalogue.default_engine(system))
        design = Design(system, system, engine.name, (384,))
        pair.append(serving_contender(design, engine, serving, instances, "decode"))
    found = assess(pair, "energy_per_token_j", 128)
    assert all(standing.band.low < standing.band.median < standing.band.high for standing in found.standings)
    assert any(influence.effect for influence in influences(pair[1], "tpot_s"))


def test_a_cluster_serves_as_many_times_what_an_instance_does() -> None:
    """Rates add up, latencies stay, chips without work draw their power at rest."""
    serving = Serving(catalogue.architecture("deepseek-r1"), Requests(4096.0, 1024.0), "int8")
    instances = Instance(1, 1, 1, np.array([32, 64]), np.array([32, 64]), batch=np.array([512.0, 2048.0]))
    engine = catalogue.engine(catalogue.default_engine("cloudmatrix-384"))
    design = Design("", "cloudmatrix-384", engine.name, (384,))
    count = np.array([24.0, 11.0])
    deployed = Deployed(instances.flat(), count, np.array([768.0, 768.0]))
    cluster = cluster_contender(design, engine, serving, deployed, "decode")
    alone = serving_contender(design, engine, serving, instances, "decode")
    points = sobol_points(columns_of([cluster]), 16, 0)

    def of(quantity: str, one: Contender) -> Any:
        return values(one, quantity, points, infeasible=True)

    np.testing.assert_allclose(of("tokens_per_s", cluster), of("tokens_per_s", alone) * count)
    np.testing.assert_allclose(of("tpot_s", cluster), of("tpot_s", alone))
    np.testing.assert_allclose(of("tokens_per_s_per_user", cluster), 1.0 / of("tpot_s", alone))
    np.testing.assert_allclose(of("chips_used", cluster), np.broadcast_to([384.0, 352.0], (16, 2)))
    assert np.all(of("power_w", cluster)[:, 1] > of("power_w", alone)[:, 1] * 11.0)
    assert assess([cluster], "usd_per_million_tokens", 16).standings[0].band.nominal > 0.0
    assert influences(cluster, "tpot_s")


# ------------------------------------------------------------------------------------------------ sensitivity
def test_influences_are_the_differences_of_the_plain_model() -> None:
    """An elasticity is what two calls of the plain model say, for a number of the chip and one of the fabric."""
    one = contender("cloudmatrix-384", rows=1)
    found = {influence.column: influence for influence in influences(one, "energy_per_token_j")}
    stack = catalogue.stack(one.design.stack)
    system = catalogue.entry("systems", "cloudmatrix-384")
    places = {
        "facility.cooling_fraction": (system, "facility.cooling_fraction"),
        "tiers.unified-bus.bandwidth": (system, "tiers.unified-bus.bandwidth"),
        "chip.power.idle_w": (catalogue.entry("chips", "ascend-910c"), "power.idle_w"),
    }
    for changeable, (entry, path) in places.items():
        number = number_at(entry, path)
        assert number is not None
        low, high = number.distribution.at([-0.25, 0.25])  # a quarter of a standard deviation either way
        logs = []
        for value in (low, high):
            changed = machine(replace(one.design, changes=((changeable, float(value)),)))
            logs.append(float(np.log(training_step(changed, stack, TRAINING, one.layouts).energy_per_token[0])))
        elasticity = (logs[1] - logs[0]) / np.log(high / low)
        assert found[number.column].elasticity == pytest.approx(elasticity, rel=1e-6), changeable
        assert found[number.column].effect == pytest.approx(elasticity * number.distribution.log_sd, rel=1e-6)


def test_the_spread_of_small_effects_is_that_of_plain_random_draws() -> None:
    """Where uncertainty is small, the sum of squares of the effects is the variance."""
    one = contender("dgx-h100", rows=1)
    found = influences(one, RATE)
    columns = [influence.column for influence in found if influence.effect]
    draws = 4000
    normals = np.random.default_rng(3).standard_normal((draws, len(columns)))
    drawn = np.log(values(one, RATE, Drawn(placed(columns), normals), infeasible=True)[:, 0])
    assert spread_of(found) == pytest.approx(drawn.std(), rel=4 / np.sqrt(2 * draws) + 0.03)


def test_rumoured_machines_rest_on_what_is_not_known() -> None:
    """Of a rumour half is in numbers that nobody knows and the rest is the model, of an H100 next to nothing is."""
    shares = {
        name: share_on(influences(contender(name), RATE))
        for name in ("dgx-h100", "cloudmatrix-384", "atlas-910d-supernode", "atlas-920-supernode")
    }
    assert 0.0 <= shares["dgx-h100"] < 0.1
    assert shares["atlas-910d-supernode"] > 0.4
    assert shares["atlas-920-supernode"] > 0.4
    found = influences(contender("atlas-920-supernode"), RATE)
    model = share_on(found, frozenset({"model"}))
    assert shares["atlas-920-supernode"] + model == pytest.approx(1.0, abs=0.05)
    unpublished = frozenset({"rumour", "placeholder"})
    assert unpublished < NOT_KNOWN
    assert share_on(influences(contender("cloudmatrix-384"), RATE), unpublished) < 0.1
    assert share_on(influences(contender("atlas-910d-supernode"), RATE), unpublished) > 0.2


WEIGHTS = np.array([1.0, 0.5, 0.25, 0.0])


def test_indices_of_a_sum_are_shares_of_its_variance() -> None:
    """Nothing acts together in a sum: first order and total are the squares of the weights."""
    found = sobol_indices(lambda normals: normals @ WEIGHTS + 7.0, 4, [[0], [1], [2, 3]], 4096)
    expected = np.array([1.0, 0.25, 0.0625]) / 1.3125
    assert found.first == pytest.approx(expected, abs=0.02)
    assert found.total == pytest.approx(expected, abs=0.02)
    assert found.variance == pytest.approx(1.3125, rel=0.02)


def test_indices_of_a_product_are_all_of_acting_together() -> None:
    """A product of two has no effect of either alone, and a constant has no indices at all."""
    found = sobol_indices(lambda normals: normals[:, 0] * normals[:, 1], 3, [[0], [1], [2]], 4096)
    assert found.first == pytest.approx([0.0, 0.0, 0.0], abs=0.06)
    assert found.total == pytest.approx([1.0, 1.0, 0.0], abs=0.06)
    assert sobol_indices(lambda normals: np.ones(len(normals)), 2, [[0]], 16).variance == 0.0


def test_shares_of_variance_follow_the_influences() -> None:
    """The step of a rumoured chip is nearly a product of its numbers: indices are squares of effects."""
    one = contender("atlas-910d-supernode", rows=3)
    shares = variance_shares(one, RATE, most=4, points=512)
    found = [influence for influence in influences(one, RATE) if influence.effect]
    assert [share.columns[0] for share in shares[:4]] == [influence.column for influence in found[:4]]
    assert sum(len(share.columns) for share in shares) == len(found)
    assert sum(share.first for share in shares) == pytest.approx(1.0, abs=0.1)
    assert all(share.total > share.first - 0.05 for share in shares)
    linear = np.array([influence.effect**2 for influence in found[:3]]) / spread_of(found) ** 2
    assert [share.first for share in shares[:3]] == pytest.approx(linear, abs=0.1)


# ------------------------------------------------------------------------------------------------------ flips
def test_designs_change_places_at_a_flip() -> None:
    """Just below its value one design is ahead, just above it the other, by the plain model."""
    one, other = contender("atlas-910d-supernode"), contender("gb200-nvl72")
    found = flips(one, other, RATE)
    flip = next(flip for flip in found if flip.column == Column("chips/ascend-910d", "peak_flops"))
    assert flip.factor is not None
    stack = catalogue.stack(one.design.stack)
    rival = _best(other, other.design)
    peaks = {
        path: quantity.value
        for path, quantity in catalogue.entry("chips", "ascend-910d").quantities.items()
        if path.startswith("peak_flops")
    }
    ahead = []
    for aside in (0.999, 1.001):
        changes = tuple((f"chip.{path}", value * flip.factor * aside) for path, value in peaks.items())
        ahead.append(_best(one, replace(one.design, changes=changes)) > rival)
    assert ahead == ([False, True] if _best(one, one.design) < rival else [True, False])
    assert flip.value == pytest.approx(peaks[flip.number.path] * flip.factor)
    assert stack.name == one.design.stack


def _best(one: Contender, design: Design) -> float:
    cost = training_step(machine(design), catalogue.stack(design.stack), TRAINING, one.layouts)
    return float(np.where(cost.feasible, cost.tokens_per_second / cost.packages, 0.0).max())


def test_flips_are_sorted_and_say_how_likely_they_are() -> None:
    """The nearest first; one within the range has at least a tenth of the probability beyond it."""
    found = flips(contender("atlas-920-supernode"), contender("dgx-h100"), RATE)
    factors = [flip.factor for flip in found]
    known = [factor for factor in factors if factor is not None]
    assert known
    assert factors[: len(known)] == known
    assert np.all(np.diff(np.abs(np.log(known))) >= 0.0)
    assert len({flip.column for flip in found}) == len(found)
    for flip in found:
        assert 0.0 <= flip.probability <= 0.5
        assert not flip.inside or flip.probability >= 0.09
        assert flip.factor is None or 0.25 <= flip.factor <= 4.0


def test_the_same_design_never_overtakes_itself() -> None:
    """No value of any number makes a difference."""
    one = contender("dgx-h100", rows=3)
    assert all(flip.factor is None for flip in flips(one, contender("dgx-h100", rows=3, label="again"), RATE))


def test_every_number_of_a_machine_is_listed_once() -> None:
    """Numbers that a machine reads, each with its source."""
    found = numbers_of(Design("", "atlas-920-supernode", "", ()))
    assert len({(number.entry, number.path) for number in found}) == len(found)
    assert {number.origin for number in found} >= {"rumour", "placeholder", "estimated"}
