"""Sessions: snapshots that hold still, transactions that are whole, and waiting that holds nobody up."""

import asyncio
import sqlite3
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import pytest_asyncio
from sqlalchemy import Connection, func, insert, select, text, update
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from db import columns, errors, ids, projects
from db import database as databases
from db import postgresql as connections
from db.bus import Bus
from db.database import Database, Session, Transaction
from db.projects import Project
from db.sqlite import Writing

HOLDING = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.readline()
connection.execute("COMMIT")
"""


async def _add(session: Transaction, name: str) -> None:
    await session.execute(insert(Project).values(id=ids.new(), name=name, created_at=columns.now()))


async def _count(session: Session) -> int:
    found: int = await session.scalar(select(func.count()).select_from(Project))
    return found


async def _counted(database: Database) -> int:
    async with database.read() as session:
        return await _count(session)


@asynccontextmanager
async def held_elsewhere(path: str) -> AsyncIterator[asyncio.StreamWriter]:
    """Another process holds the file's write lock until a line is written to it."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLDING, path, stdin=pipe, stdout=pipe
    )
    assert process.stdin and process.stdout
    assert await process.stdout.readline() == b"held\n"
    yield process.stdin
    process.stdin.close()
    await process.wait()


@pytest_asyncio.fixture(loop_scope="session")
async def sqlite(sqlite_url: str) -> AsyncIterator[Database]:
    opened = Database(sqlite_url, bus=Bus("memory://"))
    yield opened
    await opened.close()


async def test_an_exception_undoes_the_whole_transaction(database: Database) -> None:
    with pytest.raises(RuntimeError):
        async with database.begin() as session:
            await _add(session, "a")
            raise RuntimeError
    assert await _counted(database) == 0


async def test_a_cancelled_transaction_leaves_nothing_and_no_lock(database: Database) -> None:
    written = asyncio.Event()

    async def write() -> None:
        async with database.begin() as session:
            await _add(session, "a")
            written.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(write())
    await written.wait()
    task.cancel()
    await asyncio.wait({task})
    async with database.begin() as session:
        await _add(session, "a")
    assert await _counted(database) == 1


@pytest.mark.parametrize("kind", ["read", "scan"])
async def test_a_snapshot_holds_still_while_others_commit(database: Database, kind: str) -> None:
    async with getattr(database, kind)() as snapshot:
        assert await _count(snapshot) == 0
        async with database.begin() as session:
            await _add(session, "a")
        assert await _count(snapshot) == 0
        assert await _counted(database) == 1


async def test_a_snapshot_cannot_write(database: Database) -> None:
    with pytest.raises(DBAPIError):
        async with database.read() as session:
            values = {"id": ids.new(), "name": "a", "created_at": columns.now()}
            await session.execute(insert(Project).values(values))
    async with database.begin() as session:
        await projects.ensure_default(session)
    assert await _counted(database) == 1


async def test_many_readers_at_once_are_all_served(database: Database) -> None:
    async def read() -> int:
        async with database.read() as session:
            await asyncio.sleep(0)
            return await _count(session)

    assert await asyncio.gather(*(read() for _ in range(50))) == [0] * 50


async def test_a_writer_waits_for_another_process_and_the_loop_goes_on(sqlite: Database) -> None:
    path = make_url(str(sqlite.url)).database or ""
    async with held_elsewhere(path) as release:
        writing = asyncio.create_task(_write(sqlite))
        turns = 0
        async with asyncio.timeout(5):
            while turns < 100:
                turns += 1
                await asyncio.sleep(0)
                assert await _counted(sqlite) == 0, "reading goes on"
        assert not writing.done()
        release.write(b"\n")
        await writing
    assert await _counted(sqlite) == 1


async def test_a_writer_gives_up_when_another_process_does_not(
    sqlite: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(databases, "_BUSY_SECONDS", 0.05)
    async with held_elsewhere(make_url(str(sqlite.url)).database or "") as release:
        with pytest.raises(errors.Unavailable) as refused:
            await _write(sqlite)
        assert refused.value.retryable
        release.write(b"\n")
        monkeypatch.undo()
        await _write(sqlite)
    assert await _counted(sqlite) == 1


async def test_a_writer_that_is_cancelled_while_it_waits_leaves_no_lock(sqlite: Database) -> None:
    async with held_elsewhere(make_url(str(sqlite.url)).database or "") as release:
        writing = asyncio.create_task(_write(sqlite))
        await asyncio.sleep(0)
        writing.cancel()
        await asyncio.wait({writing})
        release.write(b"\n")
        await _write(sqlite)
    assert await _counted(sqlite) == 1


async def test_what_was_committed_is_in_the_file_for_others(sqlite: Database) -> None:
    await _write(sqlite)
    path = Path(make_url(str(sqlite.url)).database or "")
    other = sqlite3.connect(path)
    assert other.execute("SELECT name FROM projects").fetchall() == [("a",)]
    other.close()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_a_database_in_memory_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="needs a file"):
        Database(url, bus=Bus("memory://"))


async def _write(database: Database) -> None:
    async with database.begin() as session:
        await _add(session, "a")


async def test_a_connection_that_was_ended_is_told_from_a_fault(postgresql: Database) -> None:
    told = []
    for statement in ("SELECT pg_terminate_backend(pg_backend_pid())", "SELECT 1 / 0", "SELECT nothing"):
        with pytest.raises(DBAPIError) as caught:
            async with postgresql.read() as session:
                await session.execute(text(statement))
        told.append(databases.is_lost(caught.value))
    assert told == [True, False, False]
    async with postgresql.read() as session:
        assert await session.scalar(text("SELECT 1")) == 1


async def test_what_was_undone_for_others_is_told_from_a_fault(postgresql: Database) -> None:
    await _write(postgresql)
    told = []
    async with postgresql.begin() as holder:
        await holder.execute(update(Project).values(name="held"))
        for limit, statement in (
            ("lock_timeout", "UPDATE projects SET name = 'b'"),
            ("statement_timeout", "UPDATE projects SET name = 'b'"),
            ("statement_timeout", "SELECT 1 / 0"),
        ):
            with pytest.raises(DBAPIError) as caught:
                async with postgresql.begin() as session:
                    await session.execute(text(f"SET LOCAL {limit} = 100"))
                    await session.execute(text(statement))
            told.append((databases.is_undone(caught.value), databases.is_lost(caught.value)))
    assert told == [(True, False), (True, False), (False, False)]


async def test_slow_commits_leave_the_loop_alone_and_fast_ones_come_back(
    sqlite: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    places: list[bool] = []
    pauses = [0.0]

    def commit(_connection: Connection, committed: Callable[..., None] = Connection.commit) -> None:
        places.append(threading.current_thread() is threading.main_thread())
        time.sleep(pauses[-1])
        committed(_connection)

    monkeypatch.setattr(Connection, "commit", commit)
    monkeypatch.setattr(databases, "_ASIDE_SECONDS", 0.02)
    monkeypatch.setattr(sys, "getswitchinterval", lambda: 0.005)
    for pause, number in ((0.0, 2), (0.1, 4), (0.0, 12)):
        pauses.append(pause)
        for _ in range(number):
            async with sqlite.begin(aside=True) as session:
                await _add(session, ids.new().hex())
    assert places[:4] == [True, True, True, False]  # one slow one is enough
    assert not any(places[4:6]) and all(places[-4:])
    places.clear()
    async with sqlite.begin() as session:
        await _add(session, "in the loop")
    assert places == [True]


async def test_who_stands_still_between_preparing_a_statement_and_running_it_keeps_nobody_waiting(
    postgresql: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_WHOLE_MS", 200)
    paused = Database(postgresql.url.render_as_string(hide_password=False), bus=Bus("memory://"))
    try:
        async with postgresql.begin() as session:
            await _add(session, "a")
        with pytest.raises(DBAPIError) as ended:
            async with paused.begin() as session:
                await session.execute(update(Project).values(name="b"))
                await (await session.driver()).prepare("SELECT 1")
                async with asyncio.timeout(10.0), postgresql.begin() as other:
                    await other.execute(update(Project).values(name="c"))
                await session.execute(text("SELECT 1"))
        assert databases.is_lost(ended.value)
        async with paused.scan() as scan:
            await asyncio.sleep(0.4)
            assert await scan.scalar(select(Project.name)) == "c"
        async with paused.begin() as session:
            assert await _count(session) == 1
    finally:
        await paused.close()


async def test_a_commit_that_fails_leaves_nothing_to_the_next_transaction(
    sqlite: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("the disk is gone")

    unread = []
    for aside in (False, True):
        with monkeypatch.context() as patch:
            patch.setattr(Writing, "do_commit", fail)
            with pytest.raises(OSError, match="the disk is gone"):
                async with sqlite.begin(aside=aside) as session:
                    await _add(session, "a")
                    unread.append((await session.driver()).execute("SELECT 1 UNION ALL SELECT 2"))
                    unread[-1].fetchone()
        assert await _counted(sqlite) == 0
    await _write(sqlite)
    assert await _counted(sqlite) == 1


async def test_the_connection_to_write_through_outlives_what_is_undone(sqlite: Database) -> None:
    drivers = []
    for name in ("a", "a", "b"):  # of which the second is refused
        with suppress(DBAPIError):
            async with sqlite.begin() as session:
                drivers.append(await session.driver())
                await _add(session, name)
    assert len({id(driver) for driver in drivers}) == 1 and not drivers[0].in_transaction
    assert await _counted(sqlite) == 2
