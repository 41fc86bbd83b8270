"""PostgreSQL's connections, and for how long one may keep others waiting."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from sqlalchemy import event, exc
from sqlalchemy.engine import URL
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from db import errors

# A process that is paused in the middle of a transaction keeps its locks from everybody no longer than this.
_LIMITS = {
    "statement_timeout": "60000",
    "lock_timeout": "20000",
    "idle_in_transaction_session_timeout": "10000",
}
_WHOLE_MS = 30_000
"""The most a transaction takes. asyncpg prepares a statement in an exchange that it ends when it runs it: whoever is
paused in between is not idle to PostgreSQL, which lets neither of the other limits end that."""
_LIMITS_WHOLE = (17,)
"""The first version that can."""


def pooled(url: URL, size: int, wait_seconds: float) -> AsyncEngine:
    """An engine whose transactions end, should their process stand still."""
    engine = create_async_engine(
        url.set(drivername="postgresql+asyncpg"),
        pool_size=size,
        max_overflow=0,
        pool_timeout=wait_seconds,
        isolation_level="READ COMMITTED",
        connect_args={"server_settings": _LIMITS},
    )
    event.listen(engine.sync_engine, "connect", _limit_whole)
    event.listen(engine.sync_engine, "checkout", _require_open)
    return engine


@asynccontextmanager
async def connected(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A connection of the pool; raises DisconnectionError where there is no database, Unavailable for none free."""
    async with AsyncExitStack() as stack:
        try:
            connection = await stack.enter_async_context(engine.connect())
        except OSError as error:  # as asyncpg leaves it
            raise DisconnectionError("the database cannot be reached") from error
        except exc.TimeoutError as error:
            raise errors.Unavailable("every connection to the database is in use; ask again") from error
        yield connection


async def unlimited(connection: AsyncConnection) -> None:
    """Let this transaction take as long as whoever it is read to."""
    names = ["idle_in_transaction_session_timeout"]
    if (connection.dialect.server_version_info or ()) >= _LIMITS_WHOLE:
        names.append("transaction_timeout")
    settings = ", ".join(f"set_config('{name}', '0', true)" for name in names)
    await connection.exec_driver_sql(f"SELECT {settings}")


def _limit_whole(connection: Any, _record: Any) -> None:
    if connection.driver_connection.get_server_version() >= _LIMITS_WHOLE:
        connection.run_async(lambda driver: driver.execute(f"SET transaction_timeout = {_WHOLE_MS}"))


def _require_open(connection: Any, _record: Any, _proxy: Any) -> None:
    """A connection that the server has closed meanwhile is not handed out: the pool makes another."""
    if connection.driver_connection.is_closed():
        raise DisconnectionError
