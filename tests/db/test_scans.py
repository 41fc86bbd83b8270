"""Scans: reads that take long leave the loop to others, and end when nobody waits for them any more."""

import asyncio
import threading
import time
from typing import Any

import pytest
from sqlalchemy import event, text

from db import errors
from db.bus import Bus
from db.database import Database
from db.scans import MOST, Scans

ENDLESS = text("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n")
NUMBERS = text("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5) SELECT i FROM n")


async def test_others_have_their_turns_while_one_takes_long(database: Database) -> None:
    async def scan() -> None:
        async with database.scan() as session:
            await session.execute(ENDLESS)

    scanning = asyncio.create_task(scan())
    turns, until = 0, time.monotonic() + 0.3
    while time.monotonic() < until:
        await asyncio.sleep(0)
        turns += 1
    assert turns > 100 and not scanning.done()
    scanning.cancel()
    await asyncio.wait({scanning}, timeout=5)
    assert scanning.cancelled()


async def test_one_that_is_cancelled_gives_its_connection_back_whole(database: Database) -> None:
    async def scan() -> None:
        async with database.scan() as session:
            await session.execute(ENDLESS)

    for pause in (0.0, 0.001, 0.05) * 2 * MOST:
        scanning = asyncio.create_task(scan())
        await asyncio.sleep(pause)
        scanning.cancel()
        await asyncio.wait({scanning}, timeout=5)
        assert scanning.cancelled()
    async with asyncio.timeout(5), database.scan() as session:
        assert await session.scalar(text("SELECT 1")) == 1


async def test_rows_are_had_in_every_way(database: Database) -> None:
    async with database.scan() as session:
        assert [row.i for row in await session.execute(NUMBERS)] == [1, 2, 3, 4, 5]
        assert (await session.execute(NUMBERS)).scalars().all() == [1, 2, 3, 4, 5]
        assert [len(some) for some in (await session.execute(NUMBERS)).partitions(2)] == [2, 2, 1]
        found = await session.execute(NUMBERS)
        assert (found.fetchone(), found.fetchmany(2)) == ((1,), [(2,), (3,)])
        assert found.all() == [(4,), (5,)]
        assert (await session.execute(NUMBERS)).first() == (1,)
        assert await session.scalar(NUMBERS) == 1


async def test_more_than_there_are_connections_wait_for_each_other(database: Database) -> None:
    async def scan() -> int:
        async with database.scan() as session:
            await asyncio.sleep(0)
            found: int = await session.scalar(text("SELECT 1"))
            return found

    assert await asyncio.gather(*(scan() for _ in range(10 * MOST))) == [1] * 10 * MOST


async def test_a_statement_is_one_hop_to_a_thread(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    scanner = database._scanner
    if not isinstance(scanner, Scans):
        pytest.skip("PostgreSQL is asked without a thread")
    hops, threads = 0, set()

    def count(*given: Any, submit: Any = scanner._threads.submit) -> Any:
        nonlocal hops
        hops += 1
        return submit(*given)

    def note(*_: Any) -> None:
        threads.add(threading.current_thread())

    monkeypatch.setattr(scanner._threads, "submit", count)
    event.listen(scanner.engine, "before_cursor_execute", note)
    try:
        for statements in (0, 1, 3):
            before = hops
            async with database.scan() as session:
                for _ in range(statements):
                    await session.execute(NUMBERS)
            assert hops - before == statements
    finally:
        event.remove(scanner.engine, "before_cursor_execute", note)
    assert threads and threading.main_thread() not in threads


async def test_whoever_finds_every_connection_held_is_told_to_ask_again(database: Database) -> None:
    url = database.url.render_as_string(hide_password=False)
    hasty = Database(url, bus=Bus("memory://"), pool_size=MOST, wait_seconds=0.2)
    try:
        async with hasty.scan() as one, hasty.scan(seconds=5) as other:
            began = time.monotonic()
            with pytest.raises(errors.Unavailable, match="; ask again") as refused:
                async with hasty.scan(seconds=5):
                    pass
            assert refused.value.retryable and 0.15 < time.monotonic() - began < 5
            assert (await one.scalar(text("SELECT 1")), await other.scalar(text("SELECT 2"))) == (1, 2)
            waiting = asyncio.create_task(_scanned(hasty))
            await asyncio.sleep(0)
        assert await waiting == 1
        assert await asyncio.gather(*(_scanned(hasty) for _ in range(5))) == [1] * 5
    finally:
        await hasty.close()


async def test_a_read_that_finds_every_connection_held_is_told_to_ask_again(postgresql: Database) -> None:
    url = postgresql.url.render_as_string(hide_password=False)
    hasty = Database(url, bus=Bus("memory://"), pool_size=1, wait_seconds=0.1)
    try:
        async with hasty.read() as session:
            for opening in (hasty.read, hasty.begin, hasty.scan):
                with pytest.raises(errors.Unavailable, match="every connection to the database is in use"):
                    async with opening():
                        pass
            assert await session.scalar(text("SELECT 1")) == 1
    finally:
        await hasty.close()


async def _scanned(database: Database) -> int:
    async with database.scan() as session:
        found: int = await session.scalar(text("SELECT 1"))
        return found
