"""Laws of the bands: what they hold of draws from known distributions, how they widen, and how they are pulled."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep import catalogue
from sweep.errors import InputError
from sweep.prediction import Prediction, banded, summarise
from sweep.residual_fit import (
    Points,
    Row,
    coverage,
    expected,
    fit,
    held,
    pulled,
    rows_of,
    shrinkage,
    student,
    tables,
    total,
    written,
)
from sweep.residuals import (
    ANY,
    KINDS,
    QUANTITIES,
    UNSEEN_CHIP,
    Residual,
    Z,
    between,
    fitted,
    is_engine,
    is_rate,
    mirrored,
    residual,
    widened,
)

SOFTWARE = [*catalogue.names("stacks"), *catalogue.names("engines"), "of nobody"]
ASKED = st.tuples(
    st.sampled_from(SOFTWARE), st.sampled_from(KINDS), st.sampled_from([None, *catalogue.names("chips")]),
    st.sampled_from(QUANTITIES),
)  # fmt: skip
POINTS = st.tuples(st.floats(-1.0, 1.0), st.floats(0.001, 2.0), st.floats(0.001, 2.0)).map(
    lambda of: Points(of[0] - of[1], of[0], of[0] + of[2])
)


def rows(values: np.ndarray, software: str, chip: str = "h100", family: str = "training") -> list[Row]:
    """Rows of one stack, each of a case of its own, and of a framework of the stack's name."""
    return [
        Row(f"{software} {chip} {i}", "drawn", family, "dense", software, software, chip, float(value))
        for i, value in enumerate(values)
    ]


def drawn(seed: int, spreads: list[float], count: int, shift: float = 0.0) -> list[Row]:
    """Rows of stacks with normal residuals of known spreads, about means that are spread by `shift`."""
    random = np.random.default_rng(seed)
    return [
        row
        for i, spread in enumerate(spreads)
        for row in rows(random.normal(random.normal(0.0, shift), spread, count), f"stack {i}")
    ]


# ------------------------------------------------------------------------------------------------ one residual
@given(ASKED)
def test_every_band_holds_its_median(asked: tuple[str, str, str | None, str]) -> None:
    """For any software, kind, chip and quantity: low < predicted without its bias < high, all of them positive."""
    found = residual(*asked)
    low, high = found.band(2.0)
    assert 0.0 < low < 2.0 * np.exp(-found.log_bias) < high < np.inf
    assert found.basis


@given(ASKED)
def test_draws_of_a_residual_have_its_band(asked: tuple[str, str, str | None, str]) -> None:
    """Factors of a normal variable's 10, 50 and 90 % points are the band's ends and median, and rise with it."""
    found = residual(*asked)
    low, high = found.band(1.0)
    assert found.factor([-Z, 0.0, Z]) == pytest.approx([low, np.exp(-found.log_bias), high])
    assert (np.diff(found.factor(np.linspace(-4.0, 4.0, 41))) > 0.0).all()


@given(ASKED, st.floats(0.01, 1.0))
def test_a_spread_that_is_added_widens_both_sides(asked: tuple[str, str, str | None, str], spread: float) -> None:
    """An independent spread moves both ends outward, leaves the median, and adds in squares."""
    found = residual(*asked)
    wider = widened(found, spread)
    assert wider.log_bias == found.log_bias
    assert wider.log_low < found.log_low
    assert wider.log_high > found.log_high
    twice = widened(wider, spread)
    once = widened(found, spread * np.sqrt(2.0))
    assert (twice.log_low, twice.log_high) == pytest.approx((once.log_low, once.log_high))


@given(ASKED)
def test_a_rate_errs_as_the_inverse_of_a_time(asked: tuple[str, str, str | None, str]) -> None:
    """The band of a rate is the inverse of the band of its time: nothing is said twice."""
    software, kind, chip, _ = asked
    serving = is_engine(software)
    time = residual(software, kind, chip, "tpot_s" if serving else "step_time_s")
    rate = residual(software, kind, chip, "tokens_per_s_per_chip")
    assert is_rate("tokens_per_s_per_chip")
    low, high = time.band(0.5)
    assert rate.band(2.0) == pytest.approx((1.0 / high, 1.0 / low))
    assert mirrored(mirrored(time)) == time


@pytest.mark.parametrize("software", ["megatron-bridge-2026", "nemo-2025", "vllm-2026", "tensorrt-llm-2026"])
def test_bands_widen_with_what_is_unknown(software: str) -> None:
    """A chip that the stack did not run on widens the band, a chip without any row more."""
    kind, quantity = ("dense", "tpot_s") if is_engine(software) else ("dense", "step_time_s")
    if software == "vllm-2026":
        kind = "MoE"
    widths = [residual(software, kind, chip, quantity).log_sd for chip in (None, "ascend-910b3", "ascend-910d")]
    assert widths[0] < widths[1] < widths[2]


@pytest.mark.parametrize("chip", ["ascend-910d", "ascend-920", "ascend-960", "rubin"])
@pytest.mark.parametrize("software", ["mindspeed-2025", "megatron-bridge-2026", "of nobody", "cann-2025"])
def test_a_chip_that_nobody_measured_has_a_wide_band(software: str, chip: str) -> None:
    """Of announced chips no band is narrower than what an unseen chip reaches is uncertain by."""
    for kind in KINDS:
        assert residual(software, kind, chip, "mfu").log_sd >= UNSEEN_CHIP


def test_software_without_rows_has_a_wider_band_than_the_usual_stack() -> None:
    """The band of an unseen stack is at least as wide as that of most stacks; those of one case have its width."""
    found = fitted()
    for (family, kind), unseen in found.unseen.items():
        of = [one for place, one in found.groups.items() if place[:2] == (family, kind) and not place[3]]
        assert sum(one.log_sd <= unseen.log_sd + 1e-3 for one in of) > len(of) / 2


def test_the_chip_of_a_case_is_the_chip_of_the_catalogue() -> None:
    """Names that cases use and names of the catalogue give one residual."""
    assert residual("nemo-2025", "dense", "h100_sxm") == residual("nemo-2025", "dense", "h100")
    assert residual("nemo-2025", "dense", "h100").n > 50


@pytest.mark.parametrize(("kind", "quantity"), [("dense", "joy"), ("sparse", "step_time_s"), ("sparse", "joy")])
def test_what_was_never_compared_is_refused(kind: str, quantity: str) -> None:
    """An unknown quantity or kind is an error that names what there is, both at once."""
    with pytest.raises(InputError) as refused:
        residual("nemo-2025", kind, "h100", quantity)
    assert len(refused.value.problems) == (quantity == "joy") + (kind == "sparse")


# ------------------------------------------------------------------------------------------------ shrinkage
@given(POINTS, st.lists(st.floats(-1.0, 1.0), min_size=2, max_size=30, unique=True))
def test_a_group_is_pulled_the_more_the_larger_the_weight(towards: Points, own: list[float]) -> None:
    """The median moves from the group's own to that of the others, never back; so do the widths."""
    weights = (0.0, 0.5, 1.0, 4.0, 1e9)
    found = [pulled(own, len(own), towards, weight) for weight in weights]
    for part in (lambda p: p.median, lambda p: p.median - p.low, lambda p: p.high - p.median):
        path = np.array([part(one) for one in found])
        steps = np.diff(path) * np.sign(part(towards) - path[0])
        assert (steps >= -1e-9).all()
    last = found[-1]
    assert (last.low, last.median, last.high) == pytest.approx((towards.low, towards.median, towards.high), abs=1e-6)
    assert found[0].median == pytest.approx(float(np.median(own)))


@given(POINTS, st.floats(-1.0, 1.0), st.floats(0.1, 4.0))
def test_few_cases_lean_on_what_they_belong_to(towards: Points, value: float, weight: float) -> None:
    """Without a case a group is its parent; of one case it has the parent's width and a share of the case's place."""
    assert pulled([], 0, towards, weight) == towards
    one = pulled([value], 1, towards, weight)
    assert one.high - one.low == pytest.approx(towards.high - towards.low)
    assert one.median == pytest.approx((value + weight * towards.median) / (1.0 + weight))


def test_students_factor_is_the_tabulated_one() -> None:
    """One-sided 90 % points of Student's distribution, Abramowitz and Stegun table 26.10."""
    table = {1: 3.078, 2: 1.886, 3: 1.638, 4: 1.533, 5: 1.476, 8: 1.397, 12: 1.356, 30: 1.310}
    for freedom, value in table.items():
        assert student(freedom) == pytest.approx(value, abs=0.004)


def test_frameworks_count_alike() -> None:
    """Of three frameworks the middle one has the median, whichever has the most rows; the others the 10 % points."""
    many, middle, few = (np.random.default_rng(at).normal(at, 0.01, count) for at, count in enumerate((900, 9, 30)))
    points = expected([many, middle, few])
    assert points.median == pytest.approx(1.0, abs=0.05)
    assert points.low < 0.0 < 2.0 < points.high


# ------------------------------------------------------------------------------------------------ coverage
@pytest.mark.parametrize(("count", "within"), [(5, 0.05), (12, 0.07), (30, 0.04), (200, 0.02)])
def test_bands_hold_four_of_five_of_what_is_drawn_next(count: int, within: float) -> None:
    """Fitted to draws of log-normals of unlike spreads, bands hold 80 % of further draws; those of few rows nearly."""
    spreads = [0.02, 0.04, 0.08, 0.16, 0.3] * 4
    shares = [
        np.mean(held(fit(drawn(seed, spreads, count), 1.0), drawn(100 + seed, spreads, 100))) for seed in range(8)
    ]
    assert np.mean(shares) == pytest.approx(0.8, abs=within)


def test_bands_of_skewed_draws_have_unlike_sides() -> None:
    """A two-piece distribution comes back: 10 % of further draws on each side, the long side as much longer."""
    truth = between(-0.05, 0.0, 0.3, 1, "")

    def draws(seed: int, count: int) -> np.ndarray:
        return -np.log(truth.factor(np.random.default_rng(seed).normal(size=count)))

    found = fit([row for i in range(5) for row in rows(draws(i, 400), f"stack {i}")], 1.0)
    one = found.of("training", "dense", "stack 0", "h100")
    assert (one.log_low, one.log_high) == pytest.approx((truth.log_low, truth.log_high), rel=0.2)
    further = draws(9, 5000)
    assert np.mean(further < one.log_low) == pytest.approx(0.1, abs=0.03)
    assert np.mean(further > one.log_high) == pytest.approx(0.1, abs=0.03)


def test_bands_of_unseen_software_hold_four_of_five_of_another_stack() -> None:
    """Where stacks err by unlike amounts, the band for a stack without rows holds 80 % of the rows of further ones."""
    spreads = [0.05] * 15
    shares = []
    for seed in range(20):
        found = fit(drawn(seed, spreads, 20, shift=0.15), 1.0)
        others = [replace(row, software="of nobody") for row in drawn(1000 + seed, spreads, 20, shift=0.15)]
        shares.append(np.mean(held(found, others)))
    assert np.mean(shares) == pytest.approx(0.8, abs=0.05)


def test_leaving_a_framework_out_takes_its_rows_away() -> None:
    """A stack that lies apart is in its own band, and in none that is made without it."""
    apart = [*drawn(3, [0.05] * 6, 40), *rows(np.random.default_rng(4).normal(2.0, 0.05, 40), "apart")]
    found = {one.name[2]: one for one in coverage(apart, 1.0)}
    assert 0.7 <= found["apart"].in_sample <= 0.9
    assert found["apart"].case_out is not None and 0.7 <= found["apart"].case_out <= 0.9
    assert found["apart"].framework_out == 0.0
    sums = total(list(found.values()))
    assert 0.7 <= sums["in_sample"][0] <= 0.9


def test_a_chip_of_many_cases_has_numbers_apart() -> None:
    """A chip on which a stack errs otherwise has its own band; one of few cases has the stack's."""
    random = np.random.default_rng(5)
    here, there = random.normal(0.0, 0.03, 40), random.normal(0.4, 0.03, 40)
    few = rows(random.normal(0.4, 0.03, 3), "stack 0", "a100-80")
    found = fit([*rows(here, "stack 0"), *rows(there, "stack 0", "b200"), *few, *drawn(6, [0.1] * 3, 9)[9:]], 1.0)
    assert found.of("training", "dense", "stack 0", "b200").log_bias == pytest.approx(0.4, abs=0.03)
    assert found.of("training", "dense", "stack 0", "h100").log_bias == pytest.approx(0.0, abs=0.03)
    assert found.of("training", "dense", "stack 0", "a100-80") == found.of("training", "dense", "stack 0", "")
    assert found.chip_spread["training"] > 0.1


def test_the_weight_is_small_where_stacks_differ_and_large_where_they_do_not() -> None:
    """Stacks that are alike are best predicted together, stacks that lie apart each by itself."""
    alike = [row for seed in range(6) for row in rows(np.random.default_rng(seed).normal(0.0, 0.1, 4), f"stack {seed}")]
    apart = [replace(row, value=row.value + int(row.software[-1])) for row in alike]
    assert shrinkage(alike) >= 4.0
    assert shrinkage(apart) <= 1.0


def test_the_file_of_numbers_reads_as_it_was_written() -> None:
    """Tables that are written as TOML come back, and give the residuals that were fitted."""
    import tomllib

    from sweep.residuals import read

    given_rows = drawn(7, [0.05, 0.1, 0.2], 12)
    of = tables(given_rows, 1.0)
    assert read(tomllib.loads(written(of))) == fit(given_rows, 1.0)


# ------------------------------------------------------------------------------------------------ predictions
BLANK = Prediction(
    "one", "group", "step_time_s", 1.0, 1.0, 0.0, "nemo-2025", None, grade="A", kind="dense", chip="h100_sxm"
)


def test_a_prediction_is_covered_where_the_measured_value_lies_in_its_band() -> None:
    """Low and high of a prediction are its residual's; what lies beyond either is not covered."""
    one = banded(BLANK)
    assert one.low is not None and one.high is not None
    assert (one.low, one.high) == residual("nemo-2025", "dense", "h100_sxm").band(1.0)
    assert one.covered
    assert not banded(replace(BLANK, measured=one.low * 0.99)).covered
    assert not banded(replace(BLANK, measured=one.high * 1.01)).covered


@pytest.mark.parametrize("change", [{"predicted": None}, {"stack": None}, {"kind": None}, {"quantity": "seconds"}])
def test_what_nothing_is_known_of_has_no_band(change: dict[str, object]) -> None:
    """Without a prediction, software, or residuals of its quantity there is no band."""
    one = replace(BLANK, **change)  # type: ignore[arg-type]
    assert banded(one) == one
    assert one.covered is None


def test_power_has_a_band_whatever_runs() -> None:
    """The few rows of power are shared: neither software nor kind changes the band, an unseen chip does."""
    idle = banded(replace(BLANK, quantity="idle_w", stack=None, kind=None, grade=None))
    assert idle.low is not None
    assert residual("nemo-2025", "dense", "h100", "power_w") == residual("of nobody", "MoE", "h100", "power_w")
    widths = [residual("nemo-2025", "dense", chip, "power_w").log_sd for chip in ("h100", "rubin")]
    assert widths[0] < widths[1]


@pytest.mark.parametrize(
    ("inside", "outside", "word"), [(5, 5, "tight"), (6, 4, ""), (7, 3, ""), (9, 1, ""), (10, 0, "")]
)
def test_groups_say_where_bands_hold_too_few_or_too_many(inside: int, outside: int, word: str) -> None:
    """Coverage is the share of the covered; of ten rows and more it has a remark where chance would rarely do it."""
    members = [banded(BLANK)] * inside + [banded(replace(BLANK, measured=2.0))] * outside
    found = summarise(members)[0]
    assert found.coverage == pytest.approx(inside / 10)
    assert "loose" in (summarise([banded(BLANK)] * 20)[0].remark or "")
    assert (word in (found.remark or "")) and (bool(word) == bool(found.remark))
    assert summarise(members[:9])[0].remark is None


def test_grade_c_is_neither_fitted_to_nor_counted() -> None:
    """Headlines of unknown layout have bands, and weigh nowhere."""
    headline = banded(replace(BLANK, grade="C", measured=9.0))
    assert headline.covered is False
    assert summarise([headline, banded(BLANK)])[0].coverage == 1.0
    assert [row.id for row in rows_of([headline, replace(BLANK, id="other")])] == ["other"]


def test_fitted_groups_name_what_the_catalogue_has() -> None:
    """Every software and chip of the fitted numbers is an entry, so that no number is out of reach."""
    found = fitted()
    assert {place[2] for place in found.groups} <= {*SOFTWARE, ANY}
    assert {place[3] for place in found.groups} - {""} <= set(catalogue.names("chips"))
    assert set.union(*map(set, found.classes.values())) <= set(catalogue.names("calibrations"))
    assert all(isinstance(one, Residual) and one.log_low < one.log_bias < one.log_high for one in found.groups.values())
