"""Bringing a database up to date: `upgrade`, and `is_current` to know whether that is needed.

Alembic's migrations are synchronous, so they run in a thread on a connection of their own. An advisory lock
on PostgreSQL, SQLite's own write lock there, make several servers that start at once take turns.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, make_url, pool, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from db.tables import VERSION_TABLE

if TYPE_CHECKING:
    from alembic.config import Config

HEAD = "0022"
"""The revision that this code needs. Known without alembic, whose import costs a start 150 ms."""

_LOCK = 7_234_116_350_211_904_201
"""An arbitrary number that names our migrations among the database's advisory locks."""


async def upgrade(url: str, revision: str = "head") -> None:
    """Create or upgrade the database at `url`; does nothing where it is up to date."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite" and parsed.database:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_async_engine(parsed.set(drivername=_driver(parsed)), poolclass=pool.NullPool)
    try:
        async with engine.connect() as connection:
            await connection.run_sync(_upgrade, revision)
    finally:
        await engine.dispose()


async def is_current(url: str) -> bool:
    """Whether the database at `url` is what this code needs."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite" and not Path(parsed.database or "").is_file():
        return False
    engine = create_async_engine(parsed.set(drivername=_driver(parsed)), poolclass=pool.NullPool)
    try:
        async with engine.connect() as connection:
            found = await connection.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}"))
            return bool(found == HEAD)
    except DBAPIError:
        return False  # no such table
    finally:
        await engine.dispose()


def _driver(url: URL) -> str:
    return "sqlite+aiosqlite" if url.get_backend_name() == "sqlite" else "postgresql+asyncpg"


def _upgrade(connection: Connection, revision: str) -> None:
    from alembic import command

    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        connection.execute(text("SET LOCAL lock_timeout = '60s'"))
    else:
        connection.exec_driver_sql("PRAGMA busy_timeout = 60000")
        connection.exec_driver_sql("PRAGMA journal_mode = WAL")
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, revision)
    connection.commit()


def _config() -> "Config":
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    return config
