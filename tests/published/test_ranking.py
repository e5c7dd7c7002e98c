"""Layouts of one model on one machine: the model's order against the measured one, and what its choice costs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sweep.prediction import Prediction
from sweep.ranking import NOISE, rankings, summed
from tests.published.test_training_steps import predictions


def run(layout: str, measured: float, predicted: float, quantity: str = "step_time_s", **facts: str) -> Prediction:
    """A run of some layout; `facts` are what else its case states."""
    stated = {"framework": "x", "model": "m", "chips": 8, "layout": layout, **facts}
    error = predicted / measured - 1.0
    return Prediction(layout, "group", quantity, measured, predicted, error, "x-2025", None, stated=stated)


def test_layouts_of_published_runs_are_ordered_as_measured() -> None:
    """Within a release: Kendall's tau 0.8 or more, and the model's choice within 1 % of the best on average."""
    total = summed(rankings(predictions()))
    assert total is not None
    assert total.groups >= 18
    assert total.pairs >= 20
    assert total.tau is not None
    assert total.tau >= 0.8
    assert total.regret <= 0.01


def test_releases_mixed_have_more_groups_and_do_not_flatter() -> None:
    """Mixing releases adds groups, and what it says is told as well."""
    apart, mixed = summed(rankings(predictions())), summed(rankings(predictions(), same_release=False))
    assert apart is not None
    assert mixed is not None
    assert mixed.groups > apart.groups


@pytest.mark.parametrize(
    ("predicted", "tau", "regret"),
    [((1.0, 2.0, 3.0), 1.0, 0.0), ((3.0, 2.0, 1.0), -1.0, 2.0), ((1.0, 3.0, 2.0), 1 / 3, 0.0),
     ((1.0, 1.0, 2.0), 2 / 3, 0.5), ((1.0, 1.0, 1.0), 0.0, 1.0)],
)  # fmt: skip
def test_tau_and_regret(predicted: tuple[float, ...], tau: float, regret: float) -> None:
    """Of three layouts measured at 1, 2 and 3 seconds; what the model takes for equal counts as neither."""
    (found,) = rankings([run(f"tp {at}", float(at + 1), value) for at, value in enumerate(predicted)])
    assert found.tau == pytest.approx(tau)
    assert found.regret == pytest.approx(regret)


def test_pairs_within_noise_say_nothing() -> None:
    """Two layouts that were measured alike have no order, but may still be chosen between."""
    (found,) = rankings([run("tp 1", 1.0, 2.0), run("tp 2", 1.0 + NOISE / 2, 1.0)])
    assert found.pairs == 0
    assert found.tau is None
    assert found.regret == pytest.approx(NOISE / 2)


def test_of_rates_the_higher_is_better() -> None:
    """Tokens per second are ordered the other way round than seconds."""
    rates = [run("tp 1", 10.0, 30.0, "tokens_per_s_per_chip"), run("tp 2", 20.0, 40.0, "tokens_per_s_per_chip")]
    (found,) = rankings(rates)
    assert (found.tau, found.regret, found.best) == (1.0, 0.0, "tp 2")


@pytest.mark.parametrize(
    "fact", ["framework", "release", "chip", "chips", "model", "sequence", "batch", "number_format"]
)
def test_only_runs_of_one_question_are_compared(fact: str) -> None:
    """Runs that differ in anything but their layout are in groups of their own, where one is no group."""
    assert len(rankings([run("tp 1", 1.0, 1.0), run("tp 2", 2.0, 2.0)])) == 1
    assert not rankings([run("tp 1", 1.0, 1.0), run("tp 2", 2.0, 2.0, **{fact: "other"})])


def test_repeated_runs_are_one() -> None:
    """Runs of one configuration are taken together with their mean, so that none counts twice."""
    once = [run("tp 1", 1.0, 1.0), run("tp 2", 2.0, 2.0)]
    again = [*once, replace(once[0], id="again", measured=1.2)]
    (found,) = rankings(again)
    assert found.layouts == 2
    assert found.pairs == 1


def test_nothing_to_rank() -> None:
    """Without layouts there is no summary."""
    assert summed(rankings([])) is None
