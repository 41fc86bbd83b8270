"""The kinds of backends that one suite asks; a new one is one more name, and its ground, `<kind>ground.py`."""

import pytest

IN_CONTAINERS = ("docker", "kubernetes")
"""The kinds whose tests run apart: each is a marker, too."""
RUNNING = ["local", *(pytest.param(kind, marks=getattr(pytest.mark, kind)) for kind in IN_CONTAINERS)]
REAL = pytest.mark.parametrize("ground", RUNNING, indirect=True)
"""For what needs somebody to run it."""
