"""How much chaos, and its figures as a table at the end: `make chaos KILLS=5 JOBS=20`."""

import os
from collections.abc import Callable

import pytest

from tests.chaos.loads import Figures

RESTART = "RUNGRAPH_TEST_ENGINE_RESTART"
"""The command that starts the engine anew, where that harms nobody."""
_FIGURES = pytest.StashKey[list[Figures]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, default=5, help="How often something is disturbed, of each kind.")
    parser.addoption("--jobs", type=int, default=20, help="How many jobs run meanwhile.")


@pytest.fixture
def kills(request: pytest.FixtureRequest) -> int:
    """How often to disturb."""
    count: int = request.config.getoption("--kills", default=5)
    return count


@pytest.fixture
def jobs(request: pytest.FixtureRequest) -> int:
    """How many jobs to run meanwhile."""
    count: int = request.config.getoption("--jobs", default=20)
    return count


@pytest.fixture
def told(request: pytest.FixtureRequest) -> Callable[[Figures], None]:
    """Where figures go that are to stand in the table."""
    return request.config.stash.setdefault(_FIGURES, []).append


@pytest.fixture
def restart() -> str:
    """The command that starts the engine anew."""
    command = os.environ.get(RESTART)
    if not command:
        pytest.skip(f"{RESTART} has no command that starts the engine anew")
    return command


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The table."""
    figures = config.stash.get(_FIGURES, [])
    if figures:
        terminalreporter.section("chaos")
        terminalreporter.write_line(Figures.HEAD)
    for each in figures:
        terminalreporter.write_line(each.row())
