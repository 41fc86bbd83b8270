"""Statements that stand alone have connections of their own on PostgreSQL, planned once and opened again."""

import asyncio
from collections.abc import AsyncIterator

import pytest_asyncio
from sqlalchemy import Integer, bindparam, func, select, text

from db import lanes, rows
from db.bus import Bus
from db.database import Database
from db.projects import Project

SETTING = rows.Query(
    select(func.current_setting("plan_cache_mode").label("mode"), func.pg_backend_pid().label("id"))
)
NUMBERS = rows.Query(select(func.generate_series(1, bindparam("most", type_=Integer)).label("id")))


@pytest_asyncio.fixture(loop_scope="session")
async def opened(postgresql_url: str) -> AsyncIterator[Database]:
    database = Database(postgresql_url, bus=Bus("memory://"), pool_size=2)
    for query in (SETTING, NUMBERS):
        await _ask(database, query, 1)  # SQLAlchemy's turn, from which the others learn
    yield database
    await database.close()


async def _ask(database: Database, query: rows.Query, most: int = 0) -> list[Project]:
    async with database.single() as session:
        return await session.all(Project, query, {"most": most} if most else {})


async def test_a_statement_is_planned_once_for_all_values(opened: Database) -> None:
    (found,) = await _ask(opened, SETTING)
    assert found.mode == "force_generic_plan"  # type: ignore[attr-defined]
    async with opened.read() as session:
        assert await session.scalar(text("SHOW plan_cache_mode")) == "auto"


async def test_a_connection_that_was_closed_is_opened_again(opened: Database) -> None:
    (before,) = await _ask(opened, SETTING)
    async with opened.begin() as session:
        await session.execute(select(func.pg_terminate_backend(before.id)))
    for _ in range(3):
        assert len(await _ask(opened, NUMBERS, 3)) == 3
    (after,) = await _ask(opened, SETTING)
    assert (before.mode, after.mode) == ("force_generic_plan",) * 2  # type: ignore[attr-defined]
    assert before.id != after.id


async def test_many_statements_share_few_connections(opened: Database) -> None:
    many = await asyncio.gather(*(_ask(opened, SETTING) for _ in range(50)))
    assert len({found.id for (found,) in many}) <= lanes.MOST
    answers = await asyncio.gather(*(_ask(opened, NUMBERS, most) for most in range(1, 50)))
    assert [len(answer) for answer in answers] == list(range(1, 50))


async def test_none_is_left_when_the_database_is_closed(opened: Database, postgresql_url: str) -> None:
    many = await asyncio.gather(*(_ask(opened, SETTING) for _ in range(8)))
    await opened.close()
    ours = text("SELECT count(*) FROM pg_stat_activity WHERE pid = ANY(:pids)")
    pids = {"pids": [found.id for (found,) in many]}
    other = Database(postgresql_url, bus=Bus("memory://"))
    async with asyncio.timeout(10), other.single() as session:
        while await session.scalar(ours, pids):
            pass  # a server takes a moment to forget a connection
    await other.close()
