"""Laws of failures: shares of the time add up, more failures never help, and events drawn one by one agree."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model import reliability
from model.reliability import Operation, availability, daly_interval, failures, optimal_interval, young_interval
from model.system import System, partly_used
from sweep import catalogue

HOUR = 3600.0
RULES = ("optimal", "daly", "young", "fixed")


def machine(name: str = "dgx-h100", operation: str = "llama3-2024", **changes: object) -> System:
    """A machine whose way of being run is changed."""
    system = catalogue.system(name, operation=operation)
    assert system.operation is not None
    return replace(system, operation=replace(system.operation, **changes))  # type: ignore[arg-type]


def clean(**changes: object) -> System:
    """A machine whose chips alone fail, with neither stragglers nor repairs."""
    still = {"software_failure_rate": 0.0, "part_failure_factor": 0.0, "removed_share": 0.0, "jitter": 0.0,
             "slow_share": 0.0}  # fmt: skip
    return machine(**(still | changes))


@st.composite
def operated(draw: st.DrawFn) -> System:
    """Machines run in any way, from faultless to hopeless."""
    number = lambda low, high: draw(st.floats(low, high))  # noqa: E731
    return machine(
        draw(st.sampled_from(("dgx-h100", "gb200-nvl72", "cloudmatrix-384", "tpu-v4-pod"))),
        chip_failure_rate=number(0, 2) / 31557600.0,
        software_failure_rate=number(0, 1) / 31557600.0,
        part_failure_factor=number(0, 3),
        removed_share=number(0, 1),
        repair_s=number(0, 400 * HOUR),
        detection_s=number(0, 1800),
        warm_up_s=number(0, 1800),
        asynchronous=draw(st.booleans()),
        copy_bandwidth=number(1e8, 5e10),
        storage_bandwidth=number(1e7, 1e10),
        interval_rule=draw(st.sampled_from(RULES)),
        interval_s=number(10, 2 * HOUR),
        spare_share=number(0, 0.03),
        shortage=draw(st.sampled_from(("shrink", "wait"))),
        jitter=number(0, 0.05),
        slow_share=number(0, 1e-3),
        slow_loss=number(0, 0.3),
    )


sizes = st.lists(st.integers(1, 200_000), min_size=1, max_size=5).map(lambda packages: np.array(sorted(packages)))
states = st.floats(0, 5e10)


# ------------------------------------------------------------------------------------------------------ shares
@settings(max_examples=200)
@given(system=operated(), packages=sizes, state=states, step_s=st.floats(0.1, 60), replica=st.integers(1, 4096))
def test_the_shares_of_the_time_add_up(
    system: System, packages: np.ndarray, state: float, step_s: float, replica: int
) -> None:
    """Each share lies in [0, 1] and all of them are the whole time."""
    found = availability(system, packages, state, step_s=step_s, replica_packages=replica)
    for name, share in found.parts().items():
        assert (share >= -1e-12).all(), name
        assert (share <= 1 + 1e-12).all(), name
    np.testing.assert_allclose(found.total, 1.0, rtol=1e-9)


@pytest.mark.parametrize("rule", ["young", "daly", "optimal"])
def test_what_fails_as_good_as_never_is_checkpointed_as_good_as_never(rule: str) -> None:
    """Of the smallest numbers that there are one over them is none: intervals grow without end, and no warning."""
    intervals = {"young": reliability.young_interval, "daly": reliability.daly_interval,
                 "optimal": reliability.optimal_interval}  # fmt: skip
    for rate in (5e-324, 1e-312, 0.0):
        assert intervals[rule](1e-2, np.array([rate]))[0] > 1e150
    assert np.isinf(reliability.days_to_train(1e12, 1e-320, 1.0))


@pytest.mark.parametrize("name", catalogue.names("systems"))
def test_all_time_is_useful_where_nothing_fails(name: str) -> None:
    """Without a record of operation, and with the one in which nothing fails, goodput is exactly 1."""
    packages = np.array([1, 64, 16_384])
    for operation in (None, "none"):
        system = catalogue.system(name, operation=operation)
        found = availability(system, packages, 1e10)
        assert (found.goodput == 1.0).all()
        assert all((share == 0.0).all() for cause, share in found.parts().items() if cause != "useful")
        assert np.isinf(reliability.mtbf(system, packages)).all()


@settings(max_examples=100)
@given(system=operated(), packages=sizes, state=states)
def test_causes_add_up_to_the_rate_of_the_job(system: System, packages: np.ndarray, state: float) -> None:
    """The mean time between failures is the inverse of the sum over causes, and of a job twice as large half of it."""
    assert all((rate >= 0).all() for rate in failures(system, packages).parts().values())
    once, twice = (reliability.mtbf(system, n) for n in (packages, 2 * packages))
    np.testing.assert_allclose(once, 2 * twice, rtol=1e-12)


# ---------------------------------------------------------------------------------------------------- monotone
@settings(max_examples=200)
@given(system=operated(), packages=sizes, state=states, spares=st.integers(0, 400))
def test_a_larger_job_never_has_more_goodput(system: System, packages: np.ndarray, state: float, spares: int) -> None:
    """With the same equipment standing by, goodput falls with size; Daly's formula jumps where it changes branches.

    Sizes are whole numbers of fault domains: a part of a domain counts as one that can be lost.
    """
    whole = packages * (system.fault_domain_packages or system.unit_packages)
    found = availability(system, whole, state, spares=spares)
    slack = 1e-3 if system.operation is not None and system.operation.interval_rule in ("daly", "young") else 1e-9
    assert (np.diff(found.goodput) <= slack).all()


@settings(max_examples=100)
@given(system=operated(), packages=sizes, state=states, two=st.tuples(st.integers(0, 2000), st.integers(0, 2000)))
def test_more_spares_never_lower_goodput(
    system: System, packages: np.ndarray, state: float, two: tuple[int, int]
) -> None:
    """Of two numbers of packages that stand by, the larger one serves at least as well."""
    few, many = (availability(system, packages, state, spares=number).goodput for number in sorted(two))
    assert (many >= few - 1e-12).all()


@settings(max_examples=100)
@given(
    system=operated(),
    packages=sizes,
    state=states,
    factor=st.floats(1, 20),
    what=st.sampled_from(
        ("detection_s", "warm_up_s", "repair_s", "chip_failure_rate", "jitter", "slow_loss", "removed_share")
    ),
)
def test_nothing_worse_helps(system: System, packages: np.ndarray, state: float, factor: float, what: str) -> None:
    """Longer restarts and repairs, more failures and slower stragglers never raise goodput at the best interval.

    More packages that are slow may: the runs that step times come from then had more of them too.
    """
    assert system.operation is not None
    operation = replace(system.operation, interval_rule="optimal")
    worse = replace(
        operation,
        **{what: min(getattr(operation, what) * factor, 1.0 if "share" in what else 0.9 if "loss" in what else np.inf)},
    )
    before, after = (
        availability(replace(system, operation=one), packages, state).goodput for one in (operation, worse)
    )
    assert (after <= before + 1e-9).all()


# --------------------------------------------------------------------------------------------------- intervals
@settings(max_examples=200)
@given(blocking=st.floats(1e-3, 1e5), mean=st.floats(1.0, 1e8))
def test_the_optimal_interval_loses_least(blocking: float, mean: float) -> None:
    """No interval near or far loses less than the optimal one; Daly's is within 0.2 % of it, Young's above it."""

    def kept(interval: float) -> float:
        exponent = (interval + blocking) / mean
        return float(interval / mean / np.expm1(exponent)) if exponent < 700 else 0.0

    best = float(optimal_interval(blocking, 1 / mean))
    most = kept(best)
    for factor in (0.1, 0.9, 0.999, 1.001, 1.1, 10):
        assert kept(best * factor) <= most * (1 + 1e-9)
    assert kept(float(daly_interval(blocking, 1 / mean))) >= most * 0.998
    assert float(young_interval(blocking, 1 / mean)) >= best * (1 - 1e-9)
    assert best <= mean * (1 + 1e-9)


def test_intervals_of_a_machine_that_never_fails() -> None:
    """Without failures no checkpoint is needed."""
    for rule in (optimal_interval, daly_interval, young_interval):
        assert np.isinf(rule(10.0, 0.0))


def test_an_interval_is_a_step_and_the_writing_of_a_checkpoint_at_least() -> None:
    """Checkpoints neither come within a step nor faster than storage takes them."""
    system = clean(storage_bandwidth=1e8, copy_bandwidth=1e11)
    times = reliability.checkpointing(system, 1e6, np.array([0.0, 1e9, 1e10]), step_s=20.0)
    np.testing.assert_allclose(times.interval_s, np.maximum(20.0, times.lag_s))
    assert times.lag_s[-1] == pytest.approx(100.0)


# --------------------------------------------------------------------------------------- against drawn events
def drawn(rng: np.random.Generator, mean: float, interval: float, blocking: float, lag: float, restart: float,
          checkpoints: int) -> dict[str, float]:  # fmt: skip
    """Seconds by what they were spent on, with failures drawn one by one, until so many checkpoints are taken."""
    spent = dict.fromkeys(("useful", "checkpointing", "rework", "restart"), 0.0)
    done, behind = 0, 0.0  # `behind`: work of the checkpoint before, to be done again
    since_checkpoint = np.inf
    left = rng.exponential(mean)
    while done < checkpoints:
        attempt = behind + interval + blocking
        if left >= attempt:
            left -= attempt
            spent["rework"] += behind
            spent["useful"] += interval
            spent["checkpointing"] += blocking
            done, behind, since_checkpoint = done + 1, 0.0, 0.0
            continue
        if since_checkpoint + left < lag:  # the last checkpoint is not written yet, and all since the one before lost
            behind = interval + blocking
        spent["rework"] += left
        since_checkpoint = np.inf
        while (left := rng.exponential(mean)) < restart:
            spent["restart"] += left
        spent["restart"] += restart
        left -= restart
    total = sum(spent.values())
    return {cause: seconds / total for cause, seconds in spent.items()}


@pytest.mark.parametrize(
    ("mean", "interval", "blocking", "restart"),
    [(11_000, 480, 10, 720), (11_000, 60, 2, 600), (1080, 100, 5, 600), (600, 900, 60, 1200), (1e5, 3600, 300, 300)],
)
def test_drawn_failures_agree_with_the_formula(mean: float, interval: float, blocking: float, restart: float) -> None:
    """Failures drawn event by event give the shares of the formula within their own error."""
    system = clean(
        chip_failure_rate=1 / mean, asynchronous=False, storage_bandwidth=1.0 / blocking,
        detection_s=restart - blocking, reschedule_s=0.0, warm_up_s=0.0, interval_rule="fixed", interval_s=interval,
    )  # fmt: skip
    told = availability(system, 1, 1.0, spares=8)
    checkpoints = int(20_000 * max(1.0, mean / interval) / max(1.0, mean / interval) ** 0.5)
    rng = np.random.default_rng(7)
    runs = [drawn(rng, mean, interval, blocking, 0.0, restart, checkpoints // 10) for _ in range(10)]
    for cause in runs[0]:
        seen = np.array([run[cause] for run in runs])
        error = seen.std(ddof=1) / np.sqrt(len(runs))
        assert float(getattr(told, cause)) == pytest.approx(seen.mean(), abs=4 * error + 1e-6), cause


@pytest.mark.parametrize(("mean", "interval", "lag"), [(11_000, 600, 60), (3_000, 300, 120)])
def test_a_checkpoint_under_way_costs_its_lag(mean: float, interval: float, lag: float) -> None:
    """Failures while the last checkpoint is being written cost about the lag each, as the formula says."""
    system = clean(
        chip_failure_rate=1 / mean, asynchronous=True, copy_bandwidth=1.0 / 2.0, storage_bandwidth=1.0 / lag,
        detection_s=600.0, reschedule_s=0.0, warm_up_s=0.0, interval_rule="fixed", interval_s=interval,
    )  # fmt: skip
    system = replace(system, host=None)
    told = availability(system, 1, 1.0, spares=8)
    seen = drawn(np.random.default_rng(11), mean, interval, 2.0, lag, 600.0 + lag, 60_000)
    assert float(told.goodput) == pytest.approx(seen["useful"], abs=0.01)
    assert float(told.rework) == pytest.approx(seen["rework"], abs=0.01)


def test_drawn_repairs_agree_with_the_probability_of_a_shortage() -> None:
    """Repairs drawn one by one leave too few nodes as often as the Poisson number says."""
    repair, nodes, spares, rng = 48 * HOUR, 512, 4, np.random.default_rng(3)
    system = machine(software_failure_rate=0.0, removed_share=1.0, repair_s=repair, shortage="wait")
    told = float(reliability.shortage(system, 8 * nodes, spares=8 * spares))
    rates = failures(system, 8).parts()
    rate = float(rates["chips"] + rates["hosts"] + rates["nics"])  # of a node
    length = 4e9
    starts = rng.uniform(0, length, rng.poisson(nodes * rate * length))
    events = np.concatenate([starts, starts + rng.exponential(repair, len(starts))])
    order = np.argsort(events)
    change = np.concatenate([np.ones(len(starts)), -np.ones(len(starts))])[order]
    gaps = np.diff(events[order])
    seen = float(gaps[np.cumsum(change)[:-1] > spares].sum() / gaps.sum())
    assert told == pytest.approx(seen, rel=0.05)


# ------------------------------------------------------------------------------------------ spares, stragglers
def test_a_domain_that_must_be_whole_breaks_more_often_the_larger_it_is() -> None:
    """Groups of 8, 72 and 384 packages; a few idle packages in each make a broken group rare."""
    tray, rack = (reliability.broken_share(machine("gb200-nvl72"), whole) for whole in (None, 72))
    node, supernode = (reliability.broken_share(machine("cloudmatrix-384"), whole) for whole in (None, 384))
    assert tray < node < rack < supernode
    kept = reliability.broken_share(partly_used(machine("gb200-nvl72"), "nvlink", 64))
    assert kept < rack / 100


@pytest.mark.parametrize(("name", "whole"), [("dgx-h100", None), ("gb200-nvl72", 72), ("cloudmatrix-384", 384)])
def test_the_spares_that_are_needed_are_enough_and_no_more(name: str, whole: int | None) -> None:
    """With as many spares a shortage is no likelier than asked, with one group fewer it is."""
    system, packages = machine(name, shortage="wait"), np.array([384, 4608, 18_432])
    needed = reliability.spares_needed(system, packages, 0.01, whole)
    group = whole or system.fault_domain_packages or system.unit_packages
    assert (needed % group == 0).all()
    assert (reliability.shortage(system, packages, spares=needed, whole_packages=whole) <= 0.01).all()
    assert (reliability.shortage(system, packages, spares=needed - group, whole_packages=whole)[1:] > 0.01).all()


def test_stragglers_count_beyond_the_reference_size_only() -> None:
    """Up to the size that step times were measured at nothing is added; beyond it the slowest of more ranks."""
    system = machine(jitter=0.01, slow_share=0.0, reference_ranks=1024.0)
    factor = reliability.slow_down(system, np.array([8, 1024, 131_072]))
    assert factor[:2].tolist() == [1.0, 1.0]
    largest = [0.01 * np.sqrt(2 * np.log(n)) for n in (1024, 131_072)]
    assert factor[2] == pytest.approx((1 + largest[1]) / (1 + largest[0]))


def test_days_follow_from_the_useful_rate() -> None:
    """15.6 T tokens at 2.8 M tokens/s take 64.5 days undisturbed, and a ninth longer at 90 %."""
    undisturbed, disturbed = reliability.days_to_train(15.6e12, 2.8e6, np.array([1.0, 0.9]))
    assert undisturbed == pytest.approx(64.48, abs=0.01)
    assert disturbed == pytest.approx(undisturbed / 0.9)
    assert np.isinf(reliability.days_to_train(1.0, 1.0, 0.0))


@pytest.mark.parametrize("name", catalogue.names("operations"))
def test_corners_of_an_operation_enclose_it(name: str) -> None:
    """At the worst ends of the ranges goodput is no higher, at the best no lower."""
    at: dict[str, float] = {}
    for corner in ("low", "nominal", "high"):
        system = catalogue.system("dgx-h100", corner, operation=name)  # type: ignore[arg-type]
        at[corner] = float(availability(system, 16_384, 3e8).goodput)
    assert at["low"] <= at["nominal"] <= at["high"]


def test_sizes_and_layouts_broadcast() -> None:
    """Sizes along one axis and states along another give a table."""
    found = availability(machine(), np.array([[8], [16_384]]), np.array([1e8, 1e9, 1e10]))
    assert np.broadcast(*found.parts().values()).shape == (2, 3)
    assert isinstance(machine().operation, Operation)


def test_rates_that_are_arrays_broadcast_against_sizes() -> None:
    """A record whose numbers are samples gives what each of the samples gives alone."""
    rates = np.array([[1e-9], [4e-9], [1e-8]])
    repairs = np.array([[1e4], [1e5], [1e6]])
    packages = np.array([64, 8192])
    together = availability(machine(chip_failure_rate=rates, repair_s=repairs), packages, 1e9).goodput
    for row, rate, repair in zip(together, rates.ravel(), repairs.ravel(), strict=True):
        alone = availability(machine(chip_failure_rate=rate, repair_s=repair), packages, 1e9).goodput
        np.testing.assert_allclose(row, alone, rtol=1e-12)
