"""Money adds up by part, better silicon is never dearer, and what is owed is paid back with interest."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from model.money import (
    capital,
    capital_recovery,
    package_usd,
    packages_bought,
    per_chip_hour,
    per_million_tokens,
    spending,
)
from model.power import rated_power
from model.prices import YEAR_S
from model.silicon import (
    Die,
    Process,
    Silicon,
    dies_per_wafer,
    good_die_usd,
    negative_binomial_yield,
    package_cost,
    poisson_yield,
    sold_yield,
)
from model.system import partly_used
from sweep import catalogue, provenance
from sweep.designs import changed
from sweep.errors import InputError
from sweep.price_basis import unknown_names

SYSTEMS = catalogue.names("systems")
OWNED = [name for name in catalogue.names("prices") if catalogue.entry("prices", name).facts["pays"] == "owner"]
LISTED = [name for name in OWNED if catalogue.entry("prices", name).facts.get("chip_price") != "silicon"]

processes = st.builds(
    Process, st.just("p"), st.floats(1e3, 4e4), st.floats(0.0, 1e4), st.floats(1.0, 20.0)
)  # fmt: skip


@st.composite
def dies(draw: st.DrawFn) -> Die:
    """A die of 50 to 850 mm2 with 1 to 144 cores, some of which may be bad."""
    cores = draw(st.integers(1, 144))
    return Die(
        "d", draw(processes), draw(st.floats(50e-6, 850e-6)), 1.0, cores, draw(st.integers(1, cores)),
        draw(st.floats(0.0, 1.0)),
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------------- silicon
@settings(max_examples=60)
@given(die=dies())
def test_without_a_spare_core_the_yield_is_the_negative_binomial(die: Die) -> None:
    """The mean over densities of a die that needs every core is the closed form."""
    whole = replace(die, cores_good=die.cores)
    closed = negative_binomial_yield(die.area_m2, die.process.defects_per_m2, die.process.clustering)
    assert sold_yield(whole) == pytest.approx(float(closed), rel=1e-5)


@settings(max_examples=60)
@given(die=dies(), fewer=st.integers(0, 20), cleaner=st.floats(0.0, 1.0))
def test_a_better_yield_is_never_dearer(die: Die, fewer: int, cleaner: float) -> None:
    """Fewer cores needed, or fewer defects, sell more dies, and no good die then costs more."""
    forgiving = replace(die, cores_good=max(1, die.cores_good - fewer))
    clean = replace(die, process=replace(die.process, defects_per_m2=die.process.defects_per_m2 * cleaner))
    for better in (forgiving, clean):
        assert sold_yield(better) >= sold_yield(die) * (1 - 1e-9)
        assert good_die_usd(better) <= good_die_usd(die) * (1 + 1e-9)
    assert 0.0 < sold_yield(die) <= 1.0 + 1e-9


@given(area=st.floats(10e-6, 850e-6), defects=st.floats(0.0, 1e4), clustering=st.floats(0.5, 1e3))
def test_clustered_defects_spare_more_dies_than_scattered_ones(area: float, defects: float, clustering: float) -> None:
    """The negative binomial yield lies above Poisson's, and tends to it."""
    poisson = poisson_yield(area, defects)
    assert negative_binomial_yield(area, defects, clustering) >= poisson * (1 - 1e-12)
    assert negative_binomial_yield(area, defects, 1e7) == pytest.approx(float(poisson), rel=1e-4)


def test_the_yield_with_spare_cores_is_that_of_drawn_wafers() -> None:
    """A million dies with drawn densities and drawn bad cores sell as often as computed."""
    die = Die("d", Process("p", 1e4, 4400.0, 3.0), 665e-6, 1.0, 25, 22, 0.5)
    draw = np.random.default_rng(0)
    mean = die.area_m2 * draw.gamma(3.0, die.process.defects_per_m2 / 3.0, 1_000_000)
    bad = draw.binomial(25, -np.expm1(-mean * 0.5 / 25))
    sold = (draw.poisson(mean * 0.5) == 0) & (bad <= 3)
    assert sold_yield(die) == pytest.approx(sold.mean(), abs=4 * np.sqrt(0.25 / 1_000_000))


@given(area=st.floats(20e-6, 850e-6))
def test_no_wafer_holds_more_die_than_it_has_area(area: float) -> None:
    """Dies of a wafer fill less than all of it, and small ones fill more."""
    filled = dies_per_wafer(area) * area / (np.pi * 0.15**2)
    assert 0.3 < filled < 1.0
    assert filled >= dies_per_wafer(area * 1.1) * area * 1.1 / (np.pi * 0.15**2)


@settings(max_examples=50)
@given(die=dies(), memory=st.floats(0, 1e12), loss=st.floats(0.0, 0.5), count=st.floats(1, 8))
def test_a_package_costs_the_sum_of_its_parts(die: Die, memory: float, loss: float, count: float) -> None:
    """Good dies, memory and packaging, over the yield of assembly, and the module on top."""
    silicon = Silicon((replace(die, count=count),), 1e-8, 700.0, 1.0 - loss, 300.0, 1.05)
    cost = package_cost(silicon, memory)
    assert cost.total == pytest.approx(sum(float(part) for part in cost.parts().values()))
    put_together = count * float(good_die_usd(die)) + memory * 1.05e-8 + 700.0
    assert cost.total == pytest.approx(put_together / (1.0 - loss) + 300.0)


def test_silicon_broadcasts() -> None:
    """Arrays of densities, areas and clusterings give each die its own yield."""
    areas, densities = np.array([100e-6, 400e-6, 800e-6]), np.array([[900.0], [4400.0]])
    many = sold_yield(Die("d", Process("p", 1e4, densities, 3.0), areas, 1.0, 25, 22, 0.5))  # type: ignore[arg-type]
    assert many.shape == (2, 3)
    one = sold_yield(Die("d", Process("p", 1e4, 4400.0, 3.0), 800e-6, 1.0, 25, 22, 0.5))
    assert many[1, 2] == pytest.approx(float(one))


# ------------------------------------------------------------------------------------------------------- capital
@pytest.mark.parametrize("basis", LISTED)
@pytest.mark.parametrize("name", SYSTEMS)
def test_the_parts_add_up_to_the_price_of_the_machine(name: str, basis: str) -> None:
    """Where a machine has a listed price, its parts and what they leave over are that price."""
    system, entry, terms = catalogue.system(name, prices=basis), catalogue.entry("systems", name), catalogue.entry
    prices, listed = system.prices, terms("prices", basis).quantities
    assert prices is not None
    parts = capital(system, system.unit_packages)
    assert parts.total == pytest.approx(sum(float(part) for part in parts.parts().values()))
    unit = listed.get(f"machines.{name}.price_usd", entry.quantities.get("cost.price_usd"))
    if prices.integration_usd:
        assert unit is not None
        apart = sum(p.count * p.price_usd / p.per_packages for p in system.parts if p.outside)
        whole = unit.value + apart * system.unit_packages
        assert parts.total == pytest.approx(whole * prices.paid_fraction)
    else:
        assert parts.integration > 0  # a share of the parts, as no price of the machine holds


@pytest.mark.parametrize("basis", OWNED)
def test_capital_and_spending_broadcast(basis: str) -> None:
    """A million packages are priced at once, in proportion."""
    system = catalogue.system("cloudmatrix-384", prices=basis)
    number = np.array([[1.0, 384.0, 8192.0]])
    power = np.array([[1e3], [2e3]]) * number
    assert capital(system, number).total.shape == (1, 3)
    spent = spending(system, number, power)
    assert spent.total.shape == (2, 3)
    assert spent.total[1, 2] == pytest.approx(float(spending(system, 8192, 2e3 * 8192).total))
    hours = per_chip_hour(spent, number)
    assert hours == pytest.approx(np.broadcast_to(hours[:, :1], (2, 3)))


def test_prices_may_be_arrays() -> None:
    """Many points of uncertain prices are one call, and each is what it is alone."""
    system = catalogue.system("atlas-910d-supernode", prices="silicon")
    points = {"prices.annual_interest": [[0.05], [0.1]], "prices.gross_margin": [[0.5], [0.8]],
              "chip.silicon.dies.compute.process.defects_per_m2": [[2e3], [6e3]],
              "chip.silicon.dies.compute.process.clustering": [[2.0], [4.0]],
              "chip.silicon.assembly_yield": [[0.6], [0.9]]}  # fmt: skip
    many = system
    for path, values in points.items():
        many = changed(many, path, np.array(values))  # type: ignore[arg-type]
    spent = spending(many, np.array([384.0, 768.0, 1152.0]), 1e6).total
    assert spent.shape == (2, 3)
    for point in range(2):
        alone = system
        for path, values in points.items():
            alone = changed(alone, path, values[point][0])
        assert spent[point, 1] == pytest.approx(float(spending(alone, 768, 1e6).total))


@pytest.mark.parametrize("basis", ["list", "silicon", "rental"])
def test_packages_that_stand_idle_are_paid_for(basis: str) -> None:
    """A rack of which 64 of 72 packages work costs as much as the rack."""
    whole = catalogue.system("gb200-nvl72", prices=basis)
    part = partly_used(whole, "nvlink", 64)
    assert packages_bought(part, 64) == pytest.approx(72)
    assert capital(part, 64).total == pytest.approx(float(capital(whole, 72).total))
    spent, of_all = spending(part, 64, 1e5), spending(whole, 72, 1e5)
    for paid in ("depreciation", "interest", "maintenance", "electricity", "rent"):
        assert getattr(spent, paid) == pytest.approx(float(getattr(of_all, paid)))
    if basis != "rental":  # idle packages need less of the building, but some
        assert of_all.facility * 64 / 72 < spent.facility < of_all.facility


def test_memory_moves_the_price_of_silicon_and_no_list_price() -> None:
    """A study that changes a chip's memory pays for it where chips are priced from their silicon."""
    for basis, moves in (("silicon", True), ("list", False)):
        system = catalogue.system("cloudmatrix-384", prices=basis)
        more = changed(system, "chip.hbm_bytes", 256 * 2**30)
        difference = capital(more, 384).total - capital(system, 384).total
        assert bool(difference > 0) is moves
    assert system.prices is not None


def test_prices_can_be_changed_by_a_study() -> None:
    """Terms, prices of parts and silicon are numbers of the machine."""
    system = catalogue.system("atlas-910d-supernode", prices="silicon")
    cost = float(capital(system, 384).total)
    for path, value, dearer in (
        ("prices.gross_margin", 0.8, True),
        ("parts.400G LPO module.price_usd", 600.0, True),
        ("chip.silicon.assembly_yield", 0.95, False),
        ("chip.silicon.dies.compute.area_m2", 500e-6, False),
        ("chip.silicon.dies.compute.process.defects_per_m2", 2000.0, False),
    ):
        assert (float(capital(changed(system, path, value), 384).total) > cost) is dearer, path


# ------------------------------------------------------------------------------------------------------ spending
@given(interest=st.floats(0.0, 0.5), years=st.integers(1, 30))
def test_the_annuity_pays_the_price_back(interest: float, years: int) -> None:
    """A debt that bears interest and is paid the annuity each year is gone when its years are over."""
    payment, debt = float(capital_recovery(interest, years)), 1.0
    for _ in range(years):
        debt = debt * (1.0 + interest) - payment
    assert debt == pytest.approx(0.0, abs=1e-9 * (1.0 + interest) ** years)


rates = st.floats(0.0, 0.5)


@settings(max_examples=60)
@given(name=st.sampled_from(SYSTEMS), low=rates, more=rates, years=st.floats(1.0, 10.0))
@example(name="atlas-800t-a2", low=0.0, more=5e-324, years=1.5)
def test_higher_interest_is_never_cheaper(name: str, low: float, more: float, years: float) -> None:
    """Interest makes the annuity dearer, depreciation stays, and without interest none is paid."""
    system = catalogue.system(name, prices="list")
    assert system.prices is not None

    def at(interest: float) -> tuple[float, float]:
        prices = replace(system.prices, annual_interest=interest, lifetime_s=years * YEAR_S)  # type: ignore[type-var]
        spent = spending(replace(system, prices=prices), 8, 8e3)
        return float(spent.depreciation), float(spent.interest)

    (straight, cheap), (same, dear), (_, none) = at(low), at(low + more), at(0.0)
    assert straight == same
    assert dear >= cheap - 1e-12
    assert none == pytest.approx(0.0, abs=1e-15)


@pytest.mark.parametrize("name", ["cloudmatrix-384", "gb200-nvl72"])
def test_a_machine_in_use_half_of_the_time_costs_twice_as_much_an_hour(name: str) -> None:
    """The owner's spending falls on the hours in use; electricity is that of those hours."""
    system = catalogue.system(name, prices="list")
    assert system.prices is not None
    half = replace(system, prices=replace(system.prices, utilisation=0.5))
    always, seldom = (spending(one, 72, 9e4).parts() for one in (system, half))
    for part, usd in always.items():
        assert seldom[part] == pytest.approx(float(usd) * (1.0 if part == "electricity" else 2.0))


def test_the_building_is_paid_for_the_peak() -> None:
    """Without a peak of its own the rating is provided, and a cap lowers it."""
    system = catalogue.system("dgx-h100", prices="us")
    spent = spending(system, 8, 5e3)
    assert spent.facility == pytest.approx(float(spending(system, 8, 5e3, rated_power(system, 8).machine).facility))
    capped = changed(system, "chip.power_cap_w", 500.0)
    assert spending(capped, 8, 5e3).facility < spent.facility
    assert spending(capped, 8, 5e3).electricity == spent.electricity


@pytest.mark.parametrize("name", SYSTEMS)
def test_who_rents_pays_by_the_hour_and_nothing_else(name: str) -> None:
    """Under a rental nothing is bought, and only rent is spent."""
    system = catalogue.system(name, prices="rental")
    assert float(capital(system, 100).total) == 0.0
    parts = spending(system, 100, 1e5).parts()
    assert parts.pop("rent") > 0
    assert not any(float(part) for part in parts.values())


def test_tokens_share_what_is_spent() -> None:
    """A million tokens cost what their seconds cost; less availability costs more, and no tokens without end."""
    system = catalogue.system("dgx-h800", prices="rental")
    spent = spending(system, 8, 0.0)
    assert per_million_tokens(spent, 1000.0) == pytest.approx(1000 * 8 * 2.0 / 3600)
    assert per_million_tokens(spent, 1000.0, 0.5) == pytest.approx(2000 * 8 * 2.0 / 3600)
    assert np.isinf(per_million_tokens(spent, np.array([0.0])))


def test_without_prices_there_is_no_answer() -> None:
    """A machine without a basis, and a chip with neither price nor silicon, are named."""
    bare = catalogue.system("dgx-h100")
    assert bare.prices is None
    for ask in (lambda: capital(bare, 8), lambda: spending(bare, 8, 1e3)):
        with pytest.raises(ValueError, match=r"'dgx-h100' has no prices: name a price basis"):
            ask()
    priced = catalogue.system("tpu-v4-pod", prices="list")
    assert priced.prices is not None
    with pytest.raises(ValueError, match=r"'tpu-v4' has neither a price nor a table of its silicon"):
        package_usd(priced.chip, replace(priced.prices, package_usd=None))


# --------------------------------------------------------------------------------------------------- price bases
@pytest.mark.parametrize("basis", catalogue.names("prices"))
@pytest.mark.parametrize("name", SYSTEMS)
def test_every_basis_prices_every_machine_that_is_sold(name: str, basis: str) -> None:
    """Only chips of which no silicon is known cannot be priced from it, and the answer says what to add."""
    if basis == "silicon" and catalogue.system(name).chip.silicon is None:
        with pytest.raises(InputError, match=r"add \[silicon\] to chips/.*or \[\[packages\]\]"):
            catalogue.system(name, prices=basis)
        return
    system = catalogue.system(name, prices=basis)
    spent = spending(system, 1, rated_power(system, 1).total)
    assert 0.1 < per_chip_hour(spent, 1) < 12.0
    assert catalogue.system(name, prices=basis) is system
    assert replace(system, prices=None) == catalogue.system(name)
    assert catalogue.prices(basis, name) == system.prices


def test_what_a_basis_lacks_is_named(tmp_path: Path) -> None:
    """A rent, a term or a margin that is missing, and a chip that does not exist, get the keys to write."""
    rents, silicon = (catalogue.entry("prices", name).text for name in ("rental", "silicon"))
    head, *items = rents.split("\n[[rents]]\n")
    texts = {
        "slip": rents.replace('name = "h800"', 'name = "h80"'),
        "few": "\n[[rents]]\n".join([head, *(item for item in items if 'name = "h100"' in item)]),
        "empty": 'title = "T"\nwhy = "w"\npays = "owner"\n',
        "bare": silicon.replace('name = "AMD"', 'name = "Other"'),
    }
    (tmp_path / "prices").mkdir()
    for name, text in texts.items():
        (tmp_path / "prices" / f"{name}.toml").write_text(text, encoding="utf-8")
    (slip,) = unknown_names("slip", tmp_path)
    assert (slip.key, slip.value) == ("rents", "h80")
    assert all(not unknown_names(name) for name in catalogue.names("prices"))
    assert catalogue.system("dgx-h100", prices="few", extra=tmp_path).prices is not None
    with pytest.raises(InputError, match=r"no rent of chip 'h800'.*add \[\[rents\]\] with name = 'h800'"):
        catalogue.system("dgx-h800", prices="few", extra=tmp_path)
    with pytest.raises(InputError) as failure:
        catalogue.system("dgx-h100", prices="empty", extra=tmp_path)
    assert {"annual_interest", "lifetime_s", "electricity_usd_per_j"} <= {one.key for one in failure.value.problems}
    with pytest.raises(InputError, match=r"no gross margin of AMD.*add \[\[margins\]\] with name = 'AMD'"):
        catalogue.system("mi300x-node", prices="bare", extra=tmp_path)


def test_a_priced_result_keeps_the_files_of_its_prices() -> None:
    """The basis, the processes and the memory are among the files that a priced result rests on."""
    plain = provenance.entries_used("cloudmatrix-384", "deepseek-v3", "deepseek")
    priced = provenance.entries_used("cloudmatrix-384", "deepseek-v3", "deepseek", prices="silicon")
    assert set(priced) - set(plain) == {"prices/silicon.toml", "processes/smic-n-plus-2.toml", "memories/hbm2e.toml"}


def test_prices_and_failures_are_no_numbers_behind_time_and_energy() -> None:
    """The share of estimated numbers of a machine is that of what moves its time and energy."""
    kinds = provenance.source_kinds("cloudmatrix-384")
    others = ("usd", ".silicon.", "failure_rate", ".racks.", "fault_domain")
    assert not [path for path in kinds if any(mark in path for mark in others)]
