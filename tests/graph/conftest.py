"""A server for each file of tests and kind of database, and servers of a test's own where it needs them."""

import contextlib
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.conftest import _EMPTY, DATABASES, _execute
from tests.graph.serving import Server, clear, serving

Serve = Callable[..., contextlib.AbstractAsyncContextManager[Server]]


@pytest.fixture(scope="module", params=DATABASES)
def server_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of a migrated database that a file's tests share."""
    if request.param == "postgresql":
        url: str = request.getfixturevalue("postgresql_migrated")
        return url
    path = tmp_path_factory.mktemp("database") / "rungraph.db"
    return f"sqlite:///{shutil.copy(request.getfixturevalue('sqlite_migrated'), path)}"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    """A running server that a file's tests share; each makes what it needs under names of its own."""
    if server_url.startswith("postgresql"):
        await _execute(server_url, _EMPTY)
    home = tmp_path_factory.mktemp("server") / "home"
    async with serving(home, server_url) as server:
        yield server
    await clear(home)


@pytest_asyncio.fixture(loop_scope="module")
async def serve(tmp_path: Path, database_url: str) -> AsyncIterator[Serve]:
    """Starts servers of the test's own, all of one home and database, one after the other."""
    home = tmp_path / "home"

    def start(**settings: Any) -> contextlib.AbstractAsyncContextManager[Server]:
        return serving(home, database_url, **settings)

    yield start
    await clear(home)
