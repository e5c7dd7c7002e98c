"""Settings of the whole test suite."""

import os

from hypothesis import settings

# No deadline: a busy machine is slow, not wrong. In CI the same examples every time, so that
# a change is judged by what it changes; everywhere else new ones, so that new cases are found.
settings.register_profile("matrixsweep", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("matrixsweep")
