"""Laws of the fit of engine constants: it finds what is there, shares the rest, and drops what no run confirms."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sweep import catalogue, engine_fit
from sweep.engine_constants import Constant, Plan, plan, rounded, written
from sweep.engine_rows import Row, errors_with, model_family, rows_of
from sweep.engine_solve import Problem, left_out, problem, unconfirmed, values
from sweep.validation import read_cases

ROOT = Path(__file__).resolve().parents[2]
CASES = ROOT / "tests" / "published" / "serving_cases.jsonl"
SPEED = Constant("matmul_speed", 1.0, 0.3, 0.0, ("server",))
HOST = Constant("step_s", 1e-3, 0.7, 1e-4, ("server",))
OF = Plan((SPEED, HOST), {"one": "server: one", "two": "server: two", "unseen": "server: unseen"}, {})
PRESENT = {name: {"matmul_speed": 1.0, "step_s": 1e-3} for name in OF.framework}


def rows(truth: dict[str, float], seed: int = 3, noise: float = 0.01, families: int = 4) -> list[Row]:
    """Runs of engines whose matmuls are so much faster than predicted, ten a model family."""
    draw = np.random.default_rng(seed)
    return [
        Row(
            f"{engine}-{family}-{number}", "tpot_s", "A", engine, OF.framework[engine], "h100", f"m{family}", "decode",
            number, float(draw.normal(0.0, noise) + share * np.log(speed)), np.array([-share, 0.5 * (1.0 - share)]),
        )
        for engine, speed in truth.items()
        for family in range(families)
        for number in range(10)
        for share in [draw.uniform(0.1, 0.9)]
    ]  # fmt: skip


def solved(given: Problem, engine: str) -> dict[str, float]:
    """Constants of an engine by a fit with all deviations that are confirmed."""
    return values(OF, given.deviations, given.solve(without=unconfirmed(given)), engine)


def test_a_planted_speed_is_found_and_an_engine_without_runs_gets_the_shared_one() -> None:
    """Of two engines 20 and 30 % faster each gets its own; one that nobody ran lies between, or nearer to the prior."""
    given = problem(rows({"one": 1.2, "two": 1.3}), OF, PRESENT)
    one, two, unseen = (solved(given, name)["matmul_speed"] for name in OF.framework)
    assert one == pytest.approx(1.2, rel=0.03)
    assert two == pytest.approx(1.3, rel=0.03)
    assert 1.0 < unseen < two


def test_what_no_left_out_run_confirms_is_dropped() -> None:
    """Where errors are noise alone, hardly a constant of a framework stays, and none is far from its prior."""
    given = problem(rows({"one": 1.0, "two": 1.0}, noise=0.1), OF, PRESENT)
    whole, kept = given.solve(), given.solve(without=unconfirmed(given))
    assert unconfirmed(given).sum() >= 1
    assert np.abs(kept).sum() <= np.abs(whole).sum() + 1e-9
    assert solved(given, "one")["matmul_speed"] == pytest.approx(1.0, rel=0.1)


def test_rows_left_out_are_predicted_from_the_others_alone() -> None:
    """The error of a framework left out is that of the shared value, whatever its own rows say."""
    given = problem(rows({"one": 1.2, "two": 1.2}), OF, PRESENT)
    broken = problem(rows({"one": 1.2, "two": 5.0}), OF, PRESENT)
    first = np.array([row.engine == "one" for row in given.rows])
    found = given.solve(first)
    assert np.allclose(left_out(given, lambda row: row.framework)[OF.framework["two"]], found)
    assert np.allclose(broken.solve(first), found)


def test_releases_of_a_framework_share_what_they_do_not_differ_in() -> None:
    """Two records of one framework each find their own speed; one that nobody ran lies within what these reach."""
    of = Plan((SPEED, HOST), {"one": "server: both", "two": "server: both", "unseen": "server: both"}, {})
    runs = [replace(row, framework="server: both") for row in rows({"one": 1.2, "two": 1.5})]
    given = problem(runs, of, PRESENT)
    found = given.solve(without=unconfirmed(given))
    one, two, unseen = (values(of, given.deviations, found, name)["matmul_speed"] for name in of.framework)
    assert one == pytest.approx(1.2, rel=0.03)
    assert two == pytest.approx(1.5, rel=0.03)
    assert one - 1e-9 <= unseen <= two + 1e-9


def test_rows_are_predicted_anew_with_other_constants() -> None:
    """The errors with the present constants are the rows' own, and those with one changed are a fit's from there."""
    of, cases = plan(), read_cases([CASES])[::60]
    engines = {name: catalogue.engine(name) for name in of.framework}
    found = rows_of(cases, of, engines)
    now = {name: {one.name: getattr(engine, one.name) for one in of.free(name)} for name, engine in engines.items()}
    slow = {name: constants | {"matmul_speed": 0.5} for name, constants in now.items()}
    errors = errors_with(cases, found, lambda row: [now[row.engine], slow[row.engine]])
    assert errors[:, 0] == pytest.approx(np.array([row.error for row in found]), abs=1e-12)
    slower = {name: replace(engine, matmul_speed=0.5) for name, engine in engines.items()}
    again = rows_of(cases, of, slower)
    assert errors[:, 1] == pytest.approx(np.array([row.error for row in again]), abs=1e-9)
    assert np.any(errors[:, 1] > errors[:, 0] + 0.1)


def test_a_round_goes_no_farther_than_its_reach() -> None:
    """With a reach a step is shorter than without, in the same direction."""
    runs = rows({"one": 1.5, "two": 1.5})
    far, near = problem(runs, OF, PRESENT), problem(runs, OF, PRESENT, reach=0.05)
    steps = [values(OF, one.deviations, one.solve(), "one")["matmul_speed"] - 1.0 for one in (far, near)]
    assert 0.0 < steps[1] < 0.6 * steps[0]


@pytest.mark.parametrize("constant", plan().constants, ids=lambda one: one.name)
def test_constants_are_read_back_as_they_are_written(constant: Constant) -> None:
    """Encoding is undone by decoding, and a file takes a value in its unit."""
    assert constant.decoded(constant.encoded(constant.prior)) == pytest.approx(constant.prior)
    name = next(name for name in plan().framework if constant in plan().free(name))
    text = (catalogue.DATA / "engines" / f"{name}.toml").read_text(encoding="utf-8")
    again = written(text, {constant.name: 1.234567 * constant.prior}, {constant.name: "a test"}, plan())
    line = next(line for line in again.splitlines() if line.startswith(f"{constant.name} = "))
    shown = line.split("value = ")[1].split(",")[0].strip('"')
    scale = {"us": 1e-6, "ms": 1e-3}.get(shown.split()[-1], 1.0)
    assert float(shown.split()[0]) * scale == pytest.approx(rounded(constant, 1.234567 * constant.prior))
    assert again.count(f"\n{constant.name} = ") == 1


def test_slopes_are_those_of_engines_changed_one_by_one() -> None:
    """Arrays of constants give what the same engine with one number changed gives."""
    of, cases = plan(), read_cases([CASES])[::60]
    engines = {name: catalogue.engine(name) for name in of.framework}
    found = rows_of(cases, of, engines)
    assert len(found) > 10
    place = [one.name for one in of.constants].index("matmul_speed")
    one = of.constants[place]
    faster = {
        name: replace(engine, matmul_speed=float(one.decoded(one.encoded(engine.matmul_speed) + 0.1)))
        for name, engine in engines.items()
    }
    for row, moved in zip(found, rows_of(cases, of, faster), strict=True):
        assert moved.error - row.error == pytest.approx(0.1 * row.slopes[place], abs=1e-6), row.id


def test_engines_of_a_framework_hold_what_it_has_in_common() -> None:
    """Records of one framework agree in what is fitted; so do those of one kind in what is no framework's own."""
    of, own = plan(), engine_fit.read()["own"]
    for first in of.framework:
        for second in of.framework:
            for one in set(of.free(first)) & set(of.free(second)):
                mine = [one.name in own.get(of.framework[name], ()) for name in (first, second)]
                released = [one.name in own.get(f"{of.framework[name]}: {name}", ()) for name in (first, second)]
                same = (of.framework[first] == of.framework[second] or not any(mine)) and not any(released)
                if same and of.kind(first) == of.kind(second):
                    assert getattr(catalogue.engine(first), one.name) == getattr(catalogue.engine(second), one.name)


def test_no_constant_serves_a_row() -> None:
    """There are several rows for each number that is fitted."""
    counts = engine_fit.read()["counts"]
    ratio = counts["rows"] / counts["constants"]
    sys.stdout.write(f"{counts['constants']} constants on {counts['rows']} rows: {ratio:.1f} rows a constant\n")
    assert ratio > 8.0


def test_the_page_shows_the_errors_of_the_last_fit() -> None:
    """docs/accuracy.md holds the table as it was printed."""
    page = (ROOT / "docs" / "accuracy.md").read_text(encoding="utf-8")
    assert engine_fit.report_table(engine_fit.read()) in page


def test_families_of_models_are_told_by_their_names() -> None:
    """Sizes and releases of a family are one."""
    assert {model_family(name) for name in ("Llama-3.1-8B", "LLaMA-2-70B", "llama 7b")} == {"llama"}
    assert model_family("DeepSeek-V3/R1") == "deepseek"
