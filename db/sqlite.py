"""SQLite as we use it: short work in the event loop, without a thread; one writer that takes its lock at once.

A statement of ours costs tens of microseconds; a hop to aiosqlite's thread and back costs more, four times a
statement. So reads and writes run where they are called, on synchronous engines. What may take long goes
through aiosqlite (`scanning`) and leaves the loop free.
"""

import sqlite3
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from db import checkpoints


class Reading(SQLiteDialect_pysqlite):
    """A transaction that only reads: one snapshot."""

    supports_statement_cache = True

    def do_begin(self, dbapi_connection: Any) -> None:
        dbapi_connection.execute("BEGIN")


class Writing(SQLiteDialect_pysqlite):
    """A transaction that writes. Deferred, it would fail where it has read and another one has written."""

    supports_statement_cache = True

    def do_begin(self, dbapi_connection: Any) -> None:
        dbapi_connection.execute("BEGIN IMMEDIATE")


registry.register("sqlite.rungraph_reading", __name__, "Reading")
registry.register("sqlite.rungraph_writing", __name__, "Writing")


def reading(url: URL, *, size: int) -> Engine:
    """Connections to read from in the event loop; never waits for one."""
    engine = create_engine(_driven(url, "rungraph_reading"), pool_size=size, max_overflow=-1)
    return _configured(engine, "query_only = ON")


def writing(url: URL) -> Engine:
    """The one connection to write through in the event loop."""
    engine = create_engine(_driven(url, "rungraph_writing"), pool_size=1, max_overflow=0)
    return _configured(engine, f"wal_autocheckpoint = {checkpoints.MOST_PAGES}")


def scanning(url: URL, *, size: int) -> AsyncEngine:
    """Connections to read much from, in threads."""
    engine = create_async_engine(_driven(url, "aiosqlite"), pool_size=size, max_overflow=0)
    event.listen(engine.sync_engine, "begin", _begin)
    _configured(engine.sync_engine, "query_only = ON", *_FAR)
    return engine


def _driven(url: URL, driver: str) -> URL:
    if not url.database or url.database == ":memory:":
        raise ValueError("a SQLite database needs a file: each of its connections must see the same data")
    Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    return url.set(drivername=f"sqlite+{driver}")


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


_FAR = ("cache_size = -64000", f"mmap_size = {1 << 34}")
"""For reads of rows that lie far apart in a large file: without a call to the system for each."""

_PRAGMAS = (
    "busy_timeout = 0",  # SQLite's own waiting starves other processes and would hold up the loop
    "journal_mode = WAL",
    "synchronous = FULL",  # what was acknowledged survives a power cut
    "foreign_keys = ON",
    "temp_store = MEMORY",
    "cache_size = -8000",
)


def _configured(engine: Engine, *pragmas: str) -> Engine:
    def configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in (*_PRAGMAS, *pragmas):
            _patiently(cursor, f"PRAGMA {pragma}")
        cursor.close()

    event.listen(engine, "connect", configure)
    return engine


def _patiently(cursor: Any, statement: str) -> None:
    try:
        cursor.execute(statement)
    except sqlite3.OperationalError:
        # Only the very first switch to WAL can meet another process; SQLite's own waiting serves it.
        cursor.execute("PRAGMA busy_timeout = 5000")
        cursor.execute(statement)
        cursor.execute("PRAGMA busy_timeout = 0")
