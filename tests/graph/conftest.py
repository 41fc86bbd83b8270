"""A server for each file of tests and kind of database, and servers of a test's own where it needs them."""

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
import structlog
from sqlalchemy import make_url

from tests.conftest import EMPTY
from tests.graph.serving import Server, clear, serving

Serve = Callable[..., contextlib.AbstractAsyncContextManager[Server]]


@pytest.fixture(scope="package", autouse=True)
def plain_log() -> Iterator[None]:
    """The server's log in plain words: tracebacks drawn with all their variables take half a second each."""
    structlog.configure(
        processors=[structlog.processors.format_exc_info, structlog.processors.KeyValueRenderer()],
        logger_factory=structlog.PrintLoggerFactory(),
    )
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def postgresql_served(postgresql_server: str, postgresql_migrated: str) -> str:
    """The URL of a migrated PostgreSQL database that is no other test's."""
    asyncio.run(_execute(postgresql_server, "CREATE DATABASE served TEMPLATE migrated"))
    return make_url(postgresql_server).set(database="served").render_as_string(hide_password=False)


# What differs between the databases is tried in tests/db on both of them each time; whole servers on
# PostgreSQL take as long again, and belong to the slow tests.
KINDS = ("sqlite", pytest.param("postgresql", marks=pytest.mark.slow))


@pytest.fixture(params=KINDS)
def database_url(request: pytest.FixtureRequest) -> str:
    """The URL of a migrated, empty database of the test's own."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture(scope="module", params=KINDS)
def server_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a migrated, empty database that a file's tests share."""
    if request.param == "postgresql":
        url: str = request.getfixturevalue("postgresql_served")
        asyncio.run(_execute(url, EMPTY))
        yield url
        return
    migrated: Path = request.getfixturevalue("sqlite_migrated")
    with tempfile.TemporaryDirectory(dir=migrated.parent) as folder:
        yield f"sqlite:///{shutil.copy(migrated, folder)}"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    """A running server that a file's tests share; each makes what it needs under names of its own."""
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


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
