"""Sessions: the only place that opens and commits transactions.

`read()` is one snapshot, `begin()` one writing transaction; db functions take the session they yield and
never commit. What a transaction emits to feeds is written by `begin()` just before the commit, and the
hints go out just after it, so that nobody is told of what was not kept.

On SQLite `read()` and `begin()` run in the event loop (sqlite.py says why), which others have between two
statements when a session has held it for a while; what may take long is for `scan()`, which leaves it free.
"""

import asyncio
import random
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, closing
from typing import Any, TypeVar, cast

import structlog
from sqlalchemy import Connection, Engine, Executable, Pool, make_url
from sqlalchemy.engine import CursorResult
from sqlalchemy.exc import DBAPIError, DisconnectionError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from db import errors, feeds, postgresql, rows, scans, sqlite
from db.bus import Bus, Wake
from db.checkpoints import Checkpoints
from db.lanes import Lanes
from db.rows import Columns, Query
from db.scans import Scans, Threaded, finished

log = structlog.get_logger(__name__)

T = TypeVar("T")
Parameters = Mapping[str, Any] | Sequence[Mapping[str, Any]] | None

_BUSY_SECONDS = 10.0
"""How long a writer waits for another process's SQLite transaction before it gives up."""
_WAIT_SECONDS = 20.0
"""Less than the 30 s that clients wait for an answer, so that they hear of it."""

_UNDONE = frozenset({"40001", "40P01", "55P03", "57014"})
"""PostgreSQL's words for: not serializable, a deadlock, no lock in time, no end in time (its manual, appendix A)."""
_STRETCH_SECONDS = 0.001
"""For how long the statements of a session on SQLite hold the event loop before whoever waits for it has a turn."""
_ASIDE_SECONDS = 0.0007
"""A commit that takes longer is left to a thread, which costs the loop some 0.1 ms."""


class Session:
    """A snapshot to read from."""

    def __init__(self, connection: Connection | AsyncConnection | Threaded) -> None:
        self._connection = connection
        self._resumed_at = time.perf_counter()
        self.postgresql = connection.dialect.name == "postgresql"

    async def execute(self, statement: Executable, parameters: Parameters = None) -> CursorResult[Any]:
        """Run a statement; a list of parameter sets runs it once for each."""
        if not isinstance(self._connection, Connection):
            return await self._connection.execute(statement, parameters)
        if time.perf_counter() - self._resumed_at > _STRETCH_SECONDS:
            await asyncio.sleep(0)
            self._resumed_at = time.perf_counter()
        return self._connection.execute(statement, parameters)

    async def driver(self) -> Any:
        """The driver's own connection in this transaction, for bare.py: sqlite3's or asyncpg's."""
        if isinstance(self._connection, AsyncConnection):
            pooled: Any = await self._connection.get_raw_connection()
            driver = pooled.driver_connection
            if not driver.is_in_transaction():  # SQLAlchemy begins one at the first statement of its own
                await pooled.dbapi_connection._start_transaction()
            return driver
        if isinstance(self._connection, Threaded):
            return self._connection.driver
        return self._connection.connection.dbapi_connection  # also of one that no pool knows

    async def all(
        self,
        kind: type[T],
        statement: Executable | Query,
        parameters: Parameters = None,
        columns: Columns = None,
    ) -> list[T]:
        """Every row, as immutable rows with the attributes of `kind`, read on demand (rows.py).

        Of a query, rows that have at least these columns.
        """
        chosen = statement.only(columns).statement if isinstance(statement, Query) else statement
        return cast("list[T]", rows.fetch_all(await self.execute(chosen, parameters)))

    async def find(self, kind: type[T], statement: Executable, parameters: Parameters = None) -> T | None:
        """The first row, if there is one."""
        return cast("T | None", (await self.execute(statement, parameters)).first())

    async def scalar(self, statement: Executable, parameters: Parameters = None) -> Any:
        """The first column of the first row, None when there is no row."""
        return (await self.execute(statement, parameters)).scalar()


class Alone(Session):
    """For one statement, which is a snapshot by itself: a query goes to the driver without a detour."""

    def __init__(self, engine: Engine | AsyncEngine, lanes: Lanes | None, stack: AsyncExitStack) -> None:
        self._engine = engine
        self._lanes = lanes
        self._stack = stack
        self._opened: Session | None = None
        self.postgresql = engine.dialect.name == "postgresql"

    async def execute(self, statement: Executable, parameters: Parameters = None) -> CursorResult[Any]:
        """Run a statement."""
        if self._opened is None:
            self._opened = Session(await self._stack.enter_async_context(_connected(self._engine)))
        connection = self._opened._connection
        try:
            return await self._opened.execute(statement, parameters)
        except Exception:
            if isinstance(connection, AsyncConnection):
                await connection.invalidate()  # as below; no transaction's end sets it right here
            raise

    async def all(
        self,
        kind: type[T],
        statement: Executable | Query,
        parameters: Parameters = None,
        columns: Columns = None,
    ) -> list[T]:
        """Every row; of a query, rows that have at least these columns."""
        if not isinstance(statement, Query):
            return await super().all(kind, statement, parameters)
        query = statement.only(columns)
        prepared = query.prepared(self._engine.dialect)
        if prepared is not None:
            try:
                text, values = prepared.filled(cast("Mapping[str, Any]", parameters or {}))
                return list(map(prepared.make, await self._fetch(text, values)))
            except Exception as error:  # noqa: BLE001 - a read may be asked twice: SQLAlchemy says what is wrong
                log.debug("read again", error=repr(error))
        return cast("list[T]", query.fetch_first(await self.execute(query.statement, parameters)))

    async def _fetch(self, text: str, values: Sequence[Any]) -> Sequence[Any]:
        if isinstance(self._engine, Engine):
            with closing(self._engine.raw_connection()) as pooled:
                found: Sequence[Any] = pooled.driver_connection.execute(text, values).fetchall()  # type: ignore[union-attr]
                return found
        assert self._lanes is not None
        return await self._lanes.fetch(text, values)


class Transaction(Session):
    """A writing transaction, and what it will tell the world once it is committed."""

    def __init__(self, connection: Connection | AsyncConnection) -> None:
        super().__init__(connection)
        self.emitted = feeds.Emitted()

    async def change(self, statement: Executable, parameters: Parameters = None) -> int:
        """Run a statement and return how many rows it changed."""
        return (await self.execute(statement, parameters)).rowcount

    def wake(self, whom: Wake = Wake.EVERYBODY) -> None:
        """Tell, after the commit, that there may be something to do."""
        self.emitted.wake = max(self.emitted.wake, whom)


class Database:
    """One database, with its pools and its bus.

    `followers` are called with what each transaction of this process has emitted, once it is committed. Whoever
    needs a connection and finds none free for `wait_seconds` gets Unavailable.
    """

    def __init__(
        self, url: str, *, bus: Bus, pool_size: int = 8, wait_seconds: float = _WAIT_SECONDS
    ) -> None:
        self.bus = bus
        self.followers: list[Callable[[feeds.Emitted], None]] = []
        self.url = make_url(url)
        self._aside = ThreadPoolExecutor(1, "commit")
        self._commit_seconds = 0.0
        self.commits = 0
        """How many transactions of this process were committed."""
        self._reader: Engine | AsyncEngine
        self._writer: sqlite.Writer | AsyncEngine
        self._single: Engine | AsyncEngine
        self._scanner: Scans | AsyncEngine
        self._lanes: Lanes | None = None
        if self.url.get_backend_name() == "sqlite":
            self._writing: asyncio.Lock | None = asyncio.Lock()
            self._reader = sqlite.reading(self.url, size=pool_size)
            self._writer = sqlite.Writer(self.url)
            self._scanner = Scans(self.url, wait_seconds)
            self._single = self._reader
            self._checkpoints: Checkpoints | None = Checkpoints(self.url)
        else:
            self._writing = self._checkpoints = None
            self._writer = postgresql.pooled(self.url, pool_size, wait_seconds)
            self._reader = self._scanner = self._writer.execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=True
            )
            self._single = self._writer.execution_options(isolation_level="AUTOCOMMIT")
            self._lanes = Lanes(self._single)

    @property
    def pools(self) -> tuple[Pool, ...]:
        """Every pool, to count what is out."""
        engines = (self._reader, self._writer, self._scanner)
        return tuple({engine.pool for engine in engines if not isinstance(engine, sqlite.Writer)})

    @asynccontextmanager
    async def read(self) -> AsyncIterator[Session]:
        """One snapshot for a few short reads."""
        async with _connected(self._reader) as connection:
            await _begin(connection)
            yield Session(connection)

    @asynccontextmanager
    async def single(self) -> AsyncIterator[Session]:
        """For one short read: a statement is a snapshot by itself, without two round trips around it."""
        async with AsyncExitStack() as stack:
            yield Alone(self._single, self._lanes, stack)

    @asynccontextmanager
    async def scan(self, *, seconds: float | None = None) -> AsyncIterator[Session]:
        """One snapshot for reads that may take long; the event loop goes on meanwhile.

        Raises LimitExceeded when they take more than `seconds`, in which waiting for a connection is not counted.
        """
        if isinstance(self._scanner, Scans):
            async with self._scanner.open(seconds) as threaded:
                yield Session(threaded)
        else:
            async with scans.opened(self._scanner, seconds) as connection:
                yield Session(connection)

    @asynccontextmanager
    async def begin(self, *, aside: bool = False) -> AsyncIterator[Transaction]:
        """One writing transaction: committed, then announced, at the end; undone by an exception.

        `aside`: SQLite's commit may leave the event loop free, as it comes often or nobody is being answered by it.
        """
        if self._writing:
            async with self._writing, self._transaction(aside) as transaction:
                yield transaction
        else:
            async with self._transaction(aside) as transaction:
                yield transaction
        for follower in self.followers:
            follower(transaction.emitted)
        self.bus.publish(transaction.emitted.reached, wake=transaction.emitted.wake)

    @asynccontextmanager
    async def _transaction(self, aside: bool) -> AsyncIterator[Transaction]:
        if self._checkpoints is not None:
            await self._checkpoints.finish()
        async with _connected(self._writer) as connection:
            await _begin_patiently(connection)
            transaction = Transaction(connection)
            yield transaction
            await feeds.flush(transaction)
            await self._commit(connection, aside)
        self.commits += 1
        if self._checkpoints is not None:
            self._checkpoints.committed()

    async def _commit(self, connection: Connection | AsyncConnection, aside: bool) -> None:
        try:
            if isinstance(connection, AsyncConnection):
                await connection.commit()
            elif aside:
                await self._commit_aside(connection)
            else:
                connection.commit()
        except BaseException:
            # SQLAlchemy takes it for an end and rolls nothing back: the next one would find the transaction open.
            if isinstance(connection, AsyncConnection):
                await connection.invalidate()
            raise

    async def _commit_aside(self, connection: Connection) -> None:
        """COMMIT, in a thread where the last ones took longer than the way there and back."""
        if self._commit_seconds < _ASIDE_SECONDS:
            seconds = _timed(connection.commit)
        else:
            work = asyncio.get_running_loop().run_in_executor(self._aside, _timed, connection.commit)
            # The thread has also waited for the loop to let it tell, for as long as threads wait for each other.
            seconds = max(0.0, await finished(work) - sys.getswitchinterval())
        self._commit_seconds += (seconds - self._commit_seconds) / 4

    async def close(self) -> None:
        """Close every connection."""
        self._aside.shutdown()
        if self._checkpoints is not None:
            self._checkpoints.close()
        if self._lanes is not None:
            await self._lanes.close()
        if isinstance(self._scanner, Scans):
            self._scanner.close()
        if isinstance(self._writer, sqlite.Writer):
            self._writer.close()
        for engine in (self._reader, self._writer):
            if isinstance(engine, AsyncEngine):
                await engine.dispose()
            elif isinstance(engine, Engine):
                engine.dispose()


def is_lost(error: BaseException) -> bool:
    """Whether this says no more than that a connection to the database went away, so that asking again helps.

    The error may be SQLAlchemy's, or the driver's own (bare.py).
    """
    if isinstance(error, DisconnectionError):
        return True
    if isinstance(error, DBAPIError):
        return error.connection_invalidated or _is_farewell(error.orig)
    return type(error).__module__.startswith("asyncpg.") and _is_farewell(error)


def is_undone(error: BaseException) -> bool:
    """Whether PostgreSQL ended a transaction for what others held or for its length: nothing of it has happened."""
    state = getattr(error.orig if isinstance(error, DBAPIError) else error, "sqlstate", None)
    return state in _UNDONE


def _is_farewell(error: BaseException | None) -> bool:
    if (getattr(error, "sqlstate", None) or "").startswith(("08", "57P")):
        return True
    kind = type(error).__name__
    if (
        kind == "InternalClientError"
    ):  # asyncpg's own word, when the farewell comes between two messages of ours
        return True
    return kind == "InterfaceError" and "closed" in str(error)  # else of what was asked in a wrong way


@asynccontextmanager
async def _connected(
    engine: Engine | AsyncEngine | sqlite.Writer,
) -> AsyncIterator[Connection | AsyncConnection]:
    if isinstance(engine, AsyncEngine):
        async with postgresql.connected(engine) as connection:
            yield connection
    else:
        with engine.opened() if isinstance(engine, sqlite.Writer) else engine.connect() as here:
            yield here


def _timed(work: Callable[[], None]) -> float:
    """Do it; returns the seconds it took."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


async def _begin(connection: Connection | AsyncConnection) -> None:
    if isinstance(connection, AsyncConnection):
        await connection.begin()
    else:
        connection.begin()


async def _begin_patiently(connection: Connection | AsyncConnection) -> None:
    """BEGIN; on SQLite it waits, without holding up the loop, for another process's transaction."""
    deadline = asyncio.get_running_loop().time() + _BUSY_SECONDS
    while True:
        try:
            await _begin(connection)
            return
        except OperationalError as error:
            if "locked" not in str(error.orig):
                raise
            if asyncio.get_running_loop().time() > deadline:
                raise errors.Unavailable("the database is held by another process") from error
        await asyncio.sleep(random.uniform(0.001, 0.02))
