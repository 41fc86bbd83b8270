"""Reads that may take long: the event loop goes on meanwhile, and whoever asks may say how long they take at most.

PostgreSQL's go over its pool like all others. SQLite's have connections of their own, and each statement is one piece
of work of a thread: it is run and its rows are fetched before anybody is told, for every hop to a thread and back
costs more than most statements. What begins and ends the transaction waits for nothing, and stays in the loop.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, TypeVar

from sqlalchemy import Connection, Dialect, Executable, Pool
from sqlalchemy.engine import URL, CursorResult
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from db import errors, postgresql, sqlite

T = TypeVar("T")

MOST = 2
"""At once, on SQLite."""
_STEPS = 20_000
"""SQLite looks at the clock after so many of its virtual machine's instructions: some 100 µs."""
_HURRY_SECONDS = 0.02


class Threaded:
    """A connection of SQLite's whose statements run in a thread, one after the other."""

    def __init__(self, connection: Connection, threads: Executor) -> None:
        self._connection = connection
        self._threads = threads

    @property
    def dialect(self) -> Dialect:
        """As of any connection."""
        return self._connection.dialect

    @property
    def driver(self) -> Any:
        """sqlite3's own connection."""
        return self._connection.connection.driver_connection

    async def execute(self, statement: Executable, parameters: Any = None) -> CursorResult[Any]:
        """Run a statement, and fetch its rows. Who is cancelled meanwhile waits for its end, which comes soon."""
        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(self._threads, self._connection.execute, statement, parameters)
        return await finished(work, hurry=self.driver.interrupt)


class Scans:
    """The scans of one SQLite database."""

    def __init__(self, url: URL, wait_seconds: float) -> None:
        self._wait_seconds = wait_seconds
        self.engine = sqlite.scanning(url)
        self._threads = ThreadPoolExecutor(MOST, "scan")
        self._free = asyncio.Semaphore(MOST)

    @property
    def pool(self) -> Pool:
        """Its connections."""
        return self.engine.pool

    @asynccontextmanager
    async def open(self, seconds: float | None) -> AsyncIterator[Threaded]:
        """One snapshot; raises Unavailable when others hold all connections for too long."""
        async with self._turn():
            with self.engine.connect() as connection, connection.begin():
                threaded = Threaded(connection, self._threads)
                if seconds is None:
                    yield threaded
                    return
                deadline = time.monotonic() + seconds
                threaded.driver.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS)
                try:
                    with _cut_off(seconds):
                        yield threaded
                finally:
                    threaded.driver.set_progress_handler(None, 0)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._wait_seconds):
                await self._free.acquire()
        except TimeoutError:
            message = f"{MOST} reads that take long are under way and did not end; ask again"
            raise errors.Unavailable(message) from None
        try:
            yield
        finally:
            self._free.release()

    def close(self) -> None:
        """Close every connection, once what goes on is done."""
        self._threads.shutdown()
        self.engine.dispose()


@asynccontextmanager
async def opened(engine: AsyncEngine, seconds: float | None) -> AsyncIterator[AsyncConnection]:
    """One snapshot of PostgreSQL's."""
    async with postgresql.connected(engine) as connection, connection.begin():
        await postgresql.unlimited(connection)  # whoever is read to may be slow
        if seconds is None:
            yield connection
            return
        await connection.exec_driver_sql(f"SET LOCAL statement_timeout = {int(seconds * 1000)}")
        with _cut_off(seconds):
            yield connection


@contextmanager
def _cut_off(seconds: float) -> Iterator[None]:
    """Raise LimitExceeded for a statement that was ended for its time."""
    try:
        yield
    except DBAPIError as error:
        if "interrupted" not in str(error.orig) and getattr(error.orig, "sqlstate", "") != "57014":
            raise
        raise errors.LimitExceeded(
            f"this takes more than {seconds:g} s: narrow it by a state, a pipeline, a tag or a range of time"
        ) from error


async def finished(work: asyncio.Future[T], *, hurry: Callable[[], None] | None = None) -> T:
    """Wait for a thread's work to end, also when cancelled: nobody else may touch its connection before.

    `hurry` is called then, again and again, for it may come before the work has begun.
    """
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        while not work.done():
            if hurry is not None:
                hurry()
            with suppress(asyncio.CancelledError):
                await asyncio.wait({work}, timeout=None if hurry is None else _HURRY_SECONDS)
        if not work.cancelled():
            work.exception()  # nobody else asks for it
        raise
