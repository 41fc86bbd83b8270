"""Interleaving two transactions on PostgreSQL without guessing how long anything takes."""

from sqlalchemy import text

from db.database import Database

_WAITING = text(
    "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
)


async def until_somebody_waits(database: Database, count: int = 1) -> None:
    """Return once this many transactions wait for another one's lock."""
    waiting = 0
    while waiting < count:
        async with database.read() as session:
            waiting = await session.scalar(_WAITING)
