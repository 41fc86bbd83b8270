"""SQLite as we use it: in the event loop, without a thread, one writer that takes its lock at once.

A statement of ours costs tens of microseconds; a hop to a thread and back costs more, four times a
statement. So reads and writes run where they are called. What may take long goes through aiosqlite.
"""

import sqlite3
from pathlib import Path
from typing import Any

from sqlalchemy import event
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, Pool


class Reading(SQLiteDialect_pysqlite):
    """The standard library's sqlite3 inside an AsyncEngine: nothing to await, so nothing to hop to."""

    is_async = True
    supports_statement_cache = True

    @classmethod
    def get_pool_class(cls, url: URL) -> type[Pool]:
        return AsyncAdaptedQueuePool

    def do_begin(self, dbapi_connection: Any) -> None:
        dbapi_connection.execute("BEGIN")


class Writing(Reading):
    """The same for the writer: deferred, a transaction that has read fails when another one has written."""

    supports_statement_cache = True

    def do_begin(self, dbapi_connection: Any) -> None:
        dbapi_connection.execute("BEGIN IMMEDIATE")


registry.register("sqlite.rungraph_reading", __name__, "Reading")
registry.register("sqlite.rungraph_writing", __name__, "Writing")


def engine(url: URL, driver: str, *, size: int) -> AsyncEngine:
    """A pool of `size` connections by one of the drivers rungraph_reading, rungraph_writing, aiosqlite."""
    if not url.database or url.database == ":memory:":
        raise ValueError("a SQLite database needs a file: each of its connections must see the same data")
    Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    made = create_async_engine(
        url.set(drivername=f"sqlite+{driver}"),
        pool_size=size,
        max_overflow=0,
        pool_timeout=30,
        connect_args={"check_same_thread": False},
    )
    event.listen(made.sync_engine, "connect", _configure)
    return made


def _configure(connection: Any, _record: Any) -> None:
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in (
        "busy_timeout = 0",  # SQLite's own waiting starves other processes and would hold up the loop
        "journal_mode = WAL",
        "synchronous = FULL",  # what was acknowledged survives a power cut
        "foreign_keys = ON",
        "temp_store = MEMORY",
        "cache_size = -8000",
    ):
        _patiently(cursor, f"PRAGMA {pragma}")
    cursor.close()


def _patiently(cursor: Any, statement: str) -> None:
    try:
        cursor.execute(statement)
    except sqlite3.OperationalError:
        # Only the very first switch to WAL can meet another process; SQLite's own waiting serves it.
        cursor.execute("PRAGMA busy_timeout = 5000")
        cursor.execute(statement)
        cursor.execute("PRAGMA busy_timeout = 0")
