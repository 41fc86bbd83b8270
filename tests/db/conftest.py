"""One event loop and one Database of each kind for all tests here, emptied before each test.

A Database compiles every statement once; that is most of what a small test would take.
"""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
import pytest_asyncio
from sqlalchemy import text

from db import tables
from db.bus import Bus
from db.database import Database
from tests.conftest import DATABASES, EMPTY

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run what is asynchronous in this folder on one loop."""
    for item in items:
        if HERE in item.path.parents and pytest_asyncio.is_async_test(item):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_sqlite(sqlite_migrated: Path) -> AsyncIterator[Database]:
    """The SQLite database that the tests here take turns with."""
    shared = Database(f"sqlite:///{sqlite_migrated.with_name('shared.db')}", bus=Bus("memory://"))
    sqlite_migrated.with_name("shared.db").write_bytes(sqlite_migrated.read_bytes())
    yield shared
    await shared.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_postgresql(postgresql_copy: str) -> AsyncIterator[Database]:
    """The PostgreSQL database that the tests here take turns with."""
    shared = Database(postgresql_copy, bus=Bus("memory://"))
    yield shared
    await shared.close()


@pytest.fixture(params=DATABASES)
def shared(request: pytest.FixtureRequest) -> Database:
    """The database of each kind, as the test before left it."""
    found: Database = request.getfixturevalue(f"shared_{request.param}")
    return found


@pytest_asyncio.fixture(loop_scope="session")
async def database(shared: Database) -> AsyncIterator[Database]:
    """An empty database of each kind; fails a test that leaves a connection out."""
    async for emptied in _emptied(shared):
        yield emptied


@pytest_asyncio.fixture(loop_scope="session")
async def sqlite(shared_sqlite: Database) -> AsyncIterator[Database]:
    """An empty SQLite database, for what is tried more often there, where it takes less time."""
    async for emptied in _emptied(shared_sqlite):
        yield emptied


@pytest_asyncio.fixture(loop_scope="session")
async def postgresql(shared_postgresql: Database) -> AsyncIterator[Database]:
    """An empty PostgreSQL database, for what needs two transactions at once; SQLite's writers take turns."""
    async for emptied in _emptied(shared_postgresql):
        yield emptied


async def _emptied(shared: Database) -> AsyncIterator[Database]:
    if shared.url.get_backend_name() == "sqlite":
        _empty_sqlite(shared.url.database or "")
    else:
        async with shared.begin() as session:
            await session.execute(text(EMPTY))
    yield shared
    left = [pool.checkedout() for pool in shared.pools]  # type: ignore[attr-defined]
    assert not any(left), f"connections are still out: {left}"


def _empty_sqlite(path: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        for table in tables.METADATA.tables:
            connection.execute(f"DELETE FROM {table}")
