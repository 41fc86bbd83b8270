"""SQLite's log is copied into the database by a thread, and begins anew while others go on to write."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text

from db import checkpoints
from db.bus import Bus
from db.database import Database

_PAGE = 4096 + 24
"""A page in the log, with its head."""
_ROW = b"x" * 4000


@pytest.fixture
async def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Database]:
    """A database whose log nobody copies but the thread, after every hundred pages."""
    monkeypatch.setattr(checkpoints, "PAGES", 100)
    monkeypatch.setattr(checkpoints, "MOST_PAGES", 1 << 30)
    monkeypatch.setattr(checkpoints, "_COMMITS", 10)
    database = Database(f"sqlite:///{tmp_path / 'some.db'}", bus=Bus("memory://"))
    async with database.begin() as session:
        await session.execute(text("CREATE TABLE rows (id INTEGER PRIMARY KEY, content BLOB)"))
    yield database
    await database.close()


async def _write(database: Database, count: int) -> None:
    """So many transactions; while the thread copies, one more is written."""
    for _ in range(count):
        async with database.begin(aside=True) as session:
            rows = [{"content": _ROW} for _ in range(5)]
            await session.execute(text("INSERT INTO rows (content) VALUES (:content)"), rows)
        ours = database._checkpoints
        assert ours is not None
        if ours._copying is not None:
            await asyncio.wrap_future(ours._copying)


def _pages(database: Database) -> int:
    """How long the log has been."""
    return Path(f"{database.url.database}-wal").stat().st_size // _PAGE


def _kept(path: str | None) -> int:
    with closing(sqlite3.connect(path or "")) as connection:
        (count,) = connection.execute("SELECT count(*) FROM rows WHERE length(content) = 4000").fetchone()
    return int(count)


async def test_the_log_stays_short_however_much_is_written(written: Database) -> None:
    await _write(written, 200)
    assert _pages(written) < 300
    assert _kept(written.url.database) == 1000


async def test_a_reader_keeps_its_snapshot_and_the_log_begins_anew_after_it(written: Database) -> None:
    count = text("SELECT count(*) FROM rows")
    await _write(written, 10)
    async with written.read() as session:
        assert await session.scalar(count) == 50
        await _write(written, 100)
        assert await session.scalar(count) == 50
    longest = _pages(written)
    assert longest > 500
    await _write(written, 200)
    assert _pages(written) < longest + 200
    assert _kept(written.url.database) == 1550


async def test_a_log_that_cannot_be_copied_keeps_nobody_from_writing(
    written: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = written._checkpoints
    assert ours is not None
    monkeypatch.setattr(ours, "_path", "/nowhere/at/all.db")
    await _write(written, 50)
    assert _kept(written.url.database) == 250


async def test_closing_waits_for_what_is_copied(written: Database) -> None:
    await _write(written, 9)
    async with written.begin() as session:
        await session.execute(text("INSERT INTO rows (content) VALUES (:content)"), {"content": _ROW})
    await written.close()
    assert _kept(written.url.database) == 46
