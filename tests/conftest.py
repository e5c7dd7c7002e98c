"""Settings of the whole test suite."""

import os

import pytest
from hypothesis import settings

# No deadline: a busy machine is slow, not wrong. In CI the same examples every time, so that
# a change is judged by what it changes; everywhere else new ones, so that new cases are found.
settings.register_profile("matrixsweep", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("matrixsweep")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests first, so that at the end no worker is left alone with one."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
