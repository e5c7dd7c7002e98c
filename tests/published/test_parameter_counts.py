"""The shapes of the catalogue give the parameter counts that their publishers state."""

import pytest

from sweep import catalogue

ROUNDING = 0.01  # where a file allows more, it says why


@pytest.mark.parametrize("name", catalogue.names("models"))
def test_the_shapes_give_the_published_parameter_count(name: str) -> None:
    """A model's matrices sum to the published count, within its rounding."""
    entry = catalogue.entry("models", name)
    allowed = entry.quantities.get("published.tolerance")
    published = entry.value("published.parameters")
    counted = catalogue.architecture(name).parameters
    assert counted == pytest.approx(published, rel=allowed.value if allowed else ROUNDING)


ACTIVE = "published.active_parameters"
WITH_ACTIVE = [name for name in catalogue.names("models") if ACTIVE in catalogue.entry("models", name).quantities]


@pytest.mark.parametrize("name", WITH_ACTIVE)
def test_the_shapes_give_the_published_active_count(name: str) -> None:
    """The weights that a token passes through sum to the published count of active parameters."""
    entry = catalogue.entry("models", name)
    allowed = entry.quantities.get("published.active_tolerance")
    counted = catalogue.architecture(name).active_parameters
    published = entry.value(ACTIVE)
    assert counted == pytest.approx(published, rel=allowed.value if allowed else ROUNDING)


@pytest.mark.parametrize("name", catalogue.names("models"))
def test_a_wider_tolerance_says_why(name: str) -> None:
    """A count that may differ by more than the rounding carries the reason in its file."""
    for path, one in catalogue.entry("models", name).quantities.items():
        if path.endswith("tolerance"):
            assert one.note or one.source.startswith("as "), path


def test_r1_is_not_the_236_billion_of_v2() -> None:
    """DeepSeek-R1 has the 671 billion parameters of V3; the 236 billion that articles give it are V2's."""
    r1, v3, v2 = (catalogue.architecture(f"deepseek-{name}") for name in ("r1", "v3", "v2"))
    assert r1.parameters == v3.parameters == pytest.approx(671e9, rel=0.001)
    assert v2.parameters == pytest.approx(236e9, rel=0.005)
