"""Failures and goodput against what operators of clusters have published."""

from dataclasses import replace

import numpy as np
import pytest

from model import reliability
from model.system import System
from sweep import catalogue

HOUR, DAY, WEEK = 3600.0, 86400.0, 7 * 86400.0
BYTES_PER_PARAMETER = 14  # bf16 weights, fp32 master weights and two moments


def run(system: str = "dgx-h100", operation: str = "llama3-2024", **changes: object) -> System:
    """A machine as it is run, with numbers that a publication gives in place of the record's."""
    found = catalogue.system(system, operation=operation)
    assert found.operation is not None
    return replace(found, operation=replace(found.operation, **changes))  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------- what the records are made of
def test_causes_of_interruption_of_llama_3() -> None:
    """Table 5 of arXiv:2407.21783: 419 unexpected interruptions in 54 days on 16,384 H100, by cause.

    The record and the parts' rates are made from this table: the bookkeeping closes.
    """
    counted = {key: float(rate) * 54 * DAY for key, rate in reliability.failures(run(), 16_384).parts().items()}
    assert sum(counted.values()) == pytest.approx(419, rel=0.005)
    assert counted["chips"] == pytest.approx(268, rel=0.01)  # 148 + 72 + 19 + 17 + 6 + 6
    assert counted["software"] == pytest.approx(95, rel=0.01)  # 54 + 32 + 7 + 2
    assert counted["hosts"] == pytest.approx(14, rel=0.02)
    assert counted["nics"] == pytest.approx(7, rel=0.02)
    assert counted["switches"] + counted["optics"] == pytest.approx(35, rel=0.02)
    assert float(reliability.mtbf(run(), 16_384)) / HOUR == pytest.approx(54 * 24 / 419, rel=0.005)


@pytest.mark.parametrize(("packages", "hours"), [(16_384, 1.8), (131_072, 0.23)])
def test_projections_of_rsc_1(packages: int, hours: float) -> None:
    """arXiv:2410.21680 projects its 6.50 failures per 1,000 node-days to larger jobs."""
    assert float(reliability.mtbf(run(operation="rsc-1-2024"), packages)) / HOUR == pytest.approx(hours, rel=0.03)


# ---------------------------------------------------------------------------- runs that no number was taken from
@pytest.mark.parametrize(
    ("packages", "seconds", "least", "most"),
    [
        (4088, WEEK / (0.03 * 511), 0.8, 1.5),  # Imbue 2024, H100: 3 % of 511 nodes break each week
        (98_304, 18 * 60, 1.0, 2.0),  # Meta, arXiv:2602.00277, O(100,000) GPUs: 18 min
        (992, 60 * DAY / 105, 2.0, 4.5),  # OPT-175B, arXiv:2205.01068, A100: 35 manual and some 70 automatic restarts
        (1024, 7.9 * HOUR, 4.0, 7.0),  # RSC-1, arXiv:2410.21680, A100, measured on a shared research cluster
        (8, 47.7 * DAY, 4.0, 7.0),  # the same, jobs of one node
    ],
    ids=["Imbue", "Meta 100k", "OPT", "RSC-1 1024", "RSC-1 8"],
)
def test_time_between_interruptions_of_other_clusters(packages: int, seconds: float, least: float, most: float) -> None:
    """Llama 3's rates at another cluster's size: model over published, in the band of each.

    Clusters of H100 in production agree within a factor of two, a new or a shared cluster of A100 fails up to six
    times as often: rates are a fleet's, not a chip's.
    """
    assert least <= float(reliability.mtbf(run(), packages)) / seconds <= most


def test_gpu_failures_of_bloom() -> None:
    """BLOOM, arXiv:2211.05100: one to two failures of GPUs a week among some 400 A100, their nodes included."""
    rates = reliability.failures(run(), 400).parts()
    assert 0.5 <= float(rates["chips"] + rates["hosts"] + rates["nics"]) * WEEK <= 2.0


def test_restarts_of_megascale() -> None:
    """MegaScale, arXiv:2402.15627: over 100 restarts in several weeks on 12,288 A100, taken as three to six weeks."""
    a_week = float(reliability.failures(run("dgx-a100"), 12_288).total) * WEEK
    assert 100 / 6 <= a_week <= 1.5 * 100 / 3


# ------------------------------------------------------------------------------------------------------- goodput
def test_effective_time_of_llama_3() -> None:
    """Llama 3 405B on 16,384 H100: more than 90 % of the time was effective training."""
    found = reliability.availability(run(), 16_384, 405e9 * BYTES_PER_PARAMETER / 16_384, step_s=5.0)
    assert 0.90 < float(found.goodput) < 0.96


def test_effective_time_of_megascale() -> None:
    """MegaScale on 12,288 A100: over 90 % effective, detection under 10 min, caught up within 15."""
    system = run("dgx-a100", detection_s=600.0, reschedule_s=100.0, warm_up_s=200.0)
    found = reliability.availability(system, 12_288, 175e9 * BYTES_PER_PARAMETER / 12_288, step_s=6.0)
    assert 0.90 < float(found.goodput) < 0.96


def test_effective_time_of_byterobust() -> None:
    """ByteRobust, arXiv:2509.16293: 97 % of three months on 9,600 GPUs."""
    found = reliability.availability(run(operation="careful-2026"), 9600, 7e8, step_s=5.0)
    assert float(found.goodput) == pytest.approx(0.97, abs=0.02)


def test_effective_time_at_100_000() -> None:
    """Meta at O(100,000) GPUs, arXiv:2602.00277: 44 % with a failure every 18 min and 10 min for a recovery.

    The paper takes (18 - 10)/18; here a recovery may fail too, and the interval is the best one.
    """
    rate = 1 / (18 * 60 * 98_304)
    system = run(
        chip_failure_rate=rate, software_failure_rate=0.0, part_failure_factor=0.0, removed_share=0.0, jitter=0.0,
        slow_share=0.0,
    )  # fmt: skip
    found = reliability.availability(system, 98_304, 1e8, step_s=20.0)
    assert 0.44 <= float(found.goodput) <= 0.44 + 0.13


@pytest.mark.parametrize(("per_thousand_node_days", "least", "most"), [(6.5, 0.85, 0.97), (22.8, 0.80, 0.92)])
def test_effective_time_of_large_jobs_in_rsc_1(per_thousand_node_days: float, least: float, most: float) -> None:
    """arXiv:2410.21680: jobs beyond 1,024 GPUs were effective about 0.9 of the time, checkpoints every hour.

    With the rate that the paper gives and with the one that follows from 7.9 h at 1,024: the published value between.
    """
    system = run(operation="rsc-1-2024", chip_failure_rate=per_thousand_node_days / 1000 / 8 / DAY)
    assert least <= float(reliability.availability(system, 2048, 1e9).goodput) <= most


def test_availability_of_the_networks_of_ub_mesh() -> None:
    """arXiv:2503.20377: 98.8 % and 91.6 % with 98.5 h and 13.8 h between failures and 75 min for a repair."""
    for hours, published in ((98.5, 0.988), (13.8, 0.916)):
        system = run(
            chip_failure_rate=1 / (hours * HOUR), software_failure_rate=0.0, part_failure_factor=0.0, jitter=0.0,
            removed_share=0.0, slow_share=0.0, detection_s=75 * 60.0, reschedule_s=0.0, warm_up_s=0.0,
        )  # fmt: skip
        found = reliability.availability(system, 1, 0.0)
        assert float(found.goodput) == pytest.approx(published, abs=0.005)


def test_expected_time_of_rsc_1s_own_formula() -> None:
    """The first-order formula of arXiv:2410.21680 is the limit of the exact one where failures are rare."""
    interval, blocking, restart = 3600.0, 30.0, 300.0
    packages = np.array([256, 1024, 4096])
    rate = 6.5e-3 / 8 / DAY
    system = run(
        chip_failure_rate=rate, software_failure_rate=0.0, part_failure_factor=0.0, jitter=0.0, removed_share=0.0,
        slow_share=0.0, asynchronous=False, storage_bandwidth=1 / blocking, detection_s=restart - blocking,
        reschedule_s=0.0, warm_up_s=0.0, interval_rule="fixed", interval_s=interval,
    )  # fmt: skip
    first_order = (1 - packages * rate * (restart + interval / 2)) / (1 + blocking / interval)
    np.testing.assert_allclose(reliability.availability(system, packages, 1.0).goodput, first_order, atol=0.006)
