"""Rows read their columns on demand, and equal what SQLAlchemy makes of the same statement."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Float, bindparam, create_engine, func, insert, literal, select, text
from sqlalchemy.dialects.sqlite import dialect
from sqlalchemy.exc import StatementError

from db import columns, ids, rows
from db.bus import Bus
from db.database import Database
from db.projects import Project


async def test_a_row_has_the_values_that_sqlalchemy_would_give(database: Database) -> None:
    made = [
        {"id": ids.new(), "name": f"p{n}", "created_at": datetime(2026, 1, 1, 1, 2, 3, n, tzinfo=UTC)}
        for n in range(3)
    ]
    async with database.begin() as session:
        await session.execute(insert(Project), made)
    statement = select(Project, literal("x").label("more")).order_by(Project.id)
    async with database.read() as session:
        usual = (await session.execute(statement)).all()
        rows = await session.all(Project, statement)
    names = [*Project.__table__.columns.keys(), "more"]
    assert [[getattr(row, name) for name in names] for row in rows] == [
        [getattr(row, name) for name in names] for row in usual
    ]
    assert rows[0].created_at == datetime(2026, 1, 1, 1, 2, 3, 0, tzinfo=UTC)


async def test_a_statement_run_again_gives_rows_of_the_same_class(database: Database) -> None:
    async with database.read() as session:
        first = await session.all(Project, select(Project).where(Project.name == "a"))
        async with database.begin() as writing:
            await writing.execute(
                insert(Project), {"id": ids.new(), "name": "a", "created_at": datetime.now(UTC)}
            )
    async with database.read() as session:
        second = await session.all(Project, select(Project).where(Project.name == "a"))
        third = await session.all(Project, select(Project).where(Project.name == "a"))
    assert first == []
    assert type(second[0]) is type(third[0]) and second == third


async def test_among_finds_the_rows_of_any_number_of_keys(database: Database) -> None:
    made = [{"id": ids.new(), "name": f"p{n}", "created_at": datetime.now(UTC)} for n in range(70)]
    async with database.begin() as session:
        await session.execute(insert(Project), made)
    statement = select(Project).where(columns.Among(Project.id, "keys")).order_by(Project.name)
    for keys in ([], [one["id"] for one in made[:1]], [one["id"] for one in made[3:70]], [b"?" * 16]):
        async with database.single() as session:
            found = await session.all(Project, statement, {"keys": keys})
        assert {row.id for row in found} == {one["id"] for one in made} & set(keys)


async def test_among_is_looked_up_in_an_index(sqlite_url: str) -> None:
    statement = select(Project).where(columns.Among(Project.id, "keys"))
    given = statement.params(keys=[b"?" * 16])
    spelt = str(given.compile(dialect=dialect(), compile_kwargs={"literal_binds": True}))
    engine = create_engine(sqlite_url)
    with engine.connect() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {spelt}").all()
    engine.dispose()
    assert all("SEARCH" in row[-1] for row in plan), plan


async def _projects(database: Database, count: int) -> list[dict[str, Any]]:
    moment = datetime(2026, 1, 1, 1, 2, 3, tzinfo=UTC)
    made = [{"id": ids.new(), "name": f"p{n:02}", "created_at": moment} for n in range(count)]
    async with database.begin() as session:
        await session.execute(insert(Project), made)
    return made


POOLED = 8
OF_KEYS = select(Project).where(columns.Among(Project.id, "keys")).order_by(Project.name)


@pytest.mark.parametrize("wanted", [None, frozenset({"name"}), frozenset({"id", "created_at", "unknown"})])
async def test_a_query_run_by_the_driver_gives_what_sqlalchemy_gives(
    database: Database, wanted: rows.Columns
) -> None:
    keys = [one["id"] for one in await _projects(database, 70)]
    query = rows.Query(OF_KEYS)
    names = [name for name in list(Project.__table__.columns.keys()) if wanted is None or name in wanted]
    for some in ([], keys[:1], keys, keys[3:8], [b"?" * 16]):
        async with database.read() as session:
            usual = (await session.execute(OF_KEYS, {"keys": some})).all()
        async with database.single() as session:
            found = await session.all(Project, query, {"keys": some}, wanted)
        assert [[getattr(row, name) for name in names] for row in found] == [
            [getattr(row, name) for name in names] for row in usual
        ]
        assert not found or hasattr(found[0], "created_at") is ("created_at" in names)


async def test_a_query_in_a_transaction_is_of_its_snapshot(database: Database) -> None:
    await _projects(database, 2)
    query = rows.Query(select(Project).order_by(Project.name))
    for _ in range(2):
        async with database.single() as session:
            before = await session.all(Project, query)
    async with database.read() as session:
        assert len(await session.all(Project, query)) == len(before) == 2
        await _projects_more(database)
        assert len(await session.all(Project, query)) == 2
    async with database.single() as session:
        assert len(await session.all(Project, query)) == 3


async def test_what_the_driver_refuses_is_told_by_sqlalchemy(database: Database) -> None:
    await _projects(database, 1)
    query = rows.Query(select(Project).where(Project.name == bindparam("name")))
    async with database.single() as session:
        assert await session.all(Project, query, {"name": "p00"})
    async with database.single() as session:
        with pytest.raises(StatementError):
            await session.all(Project, query, {"name": object()})
    for _ in range(POOLED):
        async with database.read() as session:
            assert len(await session.all(Project, select(Project))) == 1, "whichever connection it is"
    async with database.single() as session:
        assert await session.all(Project, query, {"name": "p00"})


async def _projects_more(database: Database) -> None:
    async with database.begin() as session:
        await session.execute(
            insert(Project), {"id": ids.new(), "name": "more", "created_at": datetime.now(UTC)}
        )


async def test_a_query_that_is_cancelled_leaves_its_connection_to_others(postgresql_url: str) -> None:
    slow = rows.Query(select(func.pg_sleep(bindparam("seconds", type_=Float))))
    busy = text("SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%pg_sleep%'")
    database = Database(postgresql_url, bus=Bus("memory://"), pool_size=2)

    async def ask(seconds: float) -> int:
        async with database.single() as session:
            return len(await session.all(Project, slow, {"seconds": seconds}))

    assert [await ask(0), await ask(0)] == [1, 1]
    asking = asyncio.ensure_future(ask(600))
    async with asyncio.timeout(30), database.single() as session:
        while await session.scalar(busy) < 2:  # this question is one
            pass
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert await asyncio.gather(*(ask(0) for _ in range(4))) == [1, 1, 1, 1]
    assert [pool.checkedout() for pool in database.pools] == [0]  # type: ignore[attr-defined]
    await database.close()
