"""SQLite as we use it: short work in the event loop, without a thread; one writer that takes its lock at once.

A statement of ours costs tens of microseconds; a hop to a thread and back costs more. So reads and writes run where
they are called. What may take long goes to threads (`scanning`) and leaves the loop free.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.base import SQLiteExecutionContext
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from db import checkpoints


class Reading(SQLiteDialect_pysqlite):
    """A transaction that only reads: one snapshot."""

    supports_statement_cache = True

    def do_begin(self, dbapi_connection: Any) -> None:
        dbapi_connection.execute("BEGIN")


class Fetched(sqlite3.Cursor):
    """Has fetched every row when a statement was run."""

    def execute(self, *given: Any) -> "Fetched":
        """Run a statement."""
        super().execute(*given)
        self._rows = iter(super().fetchall())
        return self

    def fetchone(self) -> Any:
        """The next row."""
        return next(self._rows, None)

    def fetchmany(self, size: int | None = 1) -> list[Any]:
        """The next rows."""
        return list(islice(self._rows, size))

    def fetchall(self) -> list[Any]:
        """The rows that are left."""
        return list(self._rows)


class _Fetching(SQLiteExecutionContext):
    def create_default_cursor(self) -> Any:
        return self._dbapi_connection.cursor(Fetched)


class Scanning(Reading):
    """One whose statements run in a thread, and are done with when they come back."""

    supports_statement_cache = True
    execution_ctx_cls = _Fetching


class Writing(SQLiteDialect_pysqlite):
    """A transaction that writes. Deferred, it would fail where it has read and another one has written."""

    supports_statement_cache = True

    def do_begin(self, dbapi_connection: Any) -> None:
        dbapi_connection.execute("BEGIN IMMEDIATE")


registry.register("sqlite.rungraph_reading", __name__, "Reading")
registry.register("sqlite.rungraph_scanning", __name__, "Scanning")
registry.register("sqlite.rungraph_writing", __name__, "Writing")


def reading(url: URL, *, size: int) -> Engine:
    """Connections to read from in the event loop; never waits for one."""
    engine = create_engine(_driven(url, "rungraph_reading"), pool_size=size, max_overflow=-1)
    return _configured(engine, "query_only = ON")


class Writer:
    """The one connection to write through in the event loop, kept open: a pool takes longer than most statements."""

    def __init__(self, url: URL) -> None:
        self.engine = create_engine(_driven(url, "rungraph_writing"), pool_size=1, max_overflow=0)
        _configured(self.engine, f"wal_autocheckpoint = {checkpoints.MOST_PAGES}")
        self._kept: Connection | None = None

    @contextmanager
    def opened(self) -> Iterator[Connection]:
        """The connection, for one transaction; what is not committed at the end is undone."""
        if self._kept is None:
            self._kept = self.engine.connect()
            self._kept.detach()
        connection = self._kept
        try:
            yield connection
        except BaseException:
            is_fit = False
            try:
                if connection.in_transaction():
                    connection.rollback()
                    is_fit = True
            finally:
                # After a COMMIT that failed SQLAlchemy takes the transaction for ended, and SQLite does not. Closing
                # ends it only where no result is still open.
                if not is_fit:
                    with suppress(sqlite3.Error, SQLAlchemyError):
                        connection.connection.rollback()
                    self.close()
            raise

    def close(self) -> None:
        """Close it; the next one opens another."""
        connection, self._kept = self._kept, None
        if connection is not None:
            connection.close()


def scanning(url: URL) -> Engine:
    """Connections to read much from, in threads (scans.py); never waits for one."""
    engine = create_engine(_driven(url, "rungraph_scanning"), max_overflow=-1)
    return _configured(engine, "query_only = ON", *_FAR)


def _driven(url: URL, driver: str) -> URL:
    if not url.database or url.database == ":memory:":
        raise ValueError("a SQLite database needs a file: each of its connections must see the same data")
    Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    return url.set(drivername=f"sqlite+{driver}")


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
