"""The schema: migrated once however often and by how many, and what it refuses to hold."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect, make_url, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from db import columns, ids, limiting, occupancy, queues, schema, tables
from db.attempts import Attempt
from db.database import Database, Session
from db.jobs import Job
from db.projects import Project
from db.runs import Run
from tests import forged
from tests.conftest import DATABASES
from tests.db.world import World

pytestmark = [
    pytest.mark.filterwarnings("ignore:Skipped unsupported reflection"),
    pytest.mark.filterwarnings("ignore:autogenerate skipping"),
]


def upgrade(url: str) -> None:
    """Bring a database up to date, in a process of its own."""
    asyncio.run(schema.upgrade(url))


@pytest.fixture(params=DATABASES)
def blank_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database without any table, on each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'new' / 'blank.db'}"
    url: str = request.getfixturevalue("blank_postgresql_url")
    return url


async def _inspected(url: str, look: Any) -> Any:
    parsed = make_url(url)
    driver = "sqlite+aiosqlite" if parsed.get_backend_name() == "sqlite" else "postgresql+asyncpg"
    engine = create_async_engine(parsed.set(drivername=driver), poolclass=NullPool)
    async with engine.connect() as connection:
        found = await connection.run_sync(look)
    await engine.dispose()
    return found


def _revision(connection: Connection) -> str | None:
    return connection.execute(text(f"SELECT version_num FROM {tables.VERSION_TABLE}")).scalar()


def _difference(connection: Connection) -> list[Any]:
    options = {"version_table": tables.VERSION_TABLE, "compare_type": True, "include_object": _comparable}
    return list(compare_metadata(MigrationContext.configure(connection, opts=options), tables.METADATA))


def _comparable(_object: Any, name: str | None, _kind: str, _reflected: bool, _other: Any) -> bool:
    # SQLite does not reflect expressions; what finds words is an index of its own kind on each database.
    expressions = ("ix_jobs_claim", "ix_runs_duration", "ix_runs_words")
    return name not in expressions and not (name or "").startswith("run_words")


async def test_the_migrations_make_what_the_tables_say(database_url: str) -> None:
    assert await _inspected(database_url, _difference) == []


async def test_an_upgrade_of_what_is_up_to_date_changes_nothing(database_url: str) -> None:
    await schema.upgrade(database_url)
    assert await _inspected(database_url, _revision) == schema.HEAD


@pytest.mark.slow
async def test_several_servers_that_upgrade_at_once_take_turns(blank_url: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    upgrading = [forged.process(upgrade, blank_url, environment=os.environ, log=log) for _ in range(2)]
    for process in upgrading:
        await asyncio.to_thread(process.join, 60)
    assert [process.exitcode for process in upgrading] == [0, 0], log.read_text()
    assert await _inspected(blank_url, _revision) == schema.HEAD
    assert await _inspected(blank_url, _difference) == []


async def test_every_constraint_has_a_name_to_migrate_it_by(database_url: str) -> None:
    def unnamed(connection: Connection) -> list[str]:
        inspector = inspect(connection)
        return [
            table
            for table in inspector.get_table_names()
            if table != tables.VERSION_TABLE
            for found in (
                *inspector.get_unique_constraints(table),
                *inspector.get_foreign_keys(table),
                *inspector.get_check_constraints(table),
            )
            if not found["name"]
        ]

    assert await _inspected(database_url, unnamed) == []


@pytest.mark.parametrize(
    ("statement", "constraint"),
    [
        ("UPDATE runs SET state = 'PAUSED'", "ck_runs_state"),
        ("UPDATE jobs SET state = 'PAUSED'", "ck_jobs_state"),
        ("UPDATE jobs SET position = 0", "jobs"),
        ("UPDATE workers SET phase = 'PAUSED'", "ck_workers_phase"),
        ("UPDATE feeds SET kind = 'NEWS'", "ck_feeds_kind"),
        ("UPDATE backends SET scope = 'WORLD'", "ck_backends_scope"),
        ("UPDATE module_versions SET state = 'LOST'", "ck_module_versions_state"),
        ("UPDATE preparations SET state = 'LOST'", "ck_preparations_state"),
        ("UPDATE events SET subject = 'WEATHER'", "ck_events_subject"),
        ("UPDATE tokens SET kind = 'SKELETON'", "ck_tokens_kind"),
        ("UPDATE jobs SET run_id = project_id", ""),
        ("UPDATE runs SET name = NULL", "name"),
        ("DELETE FROM runs", ""),
    ],
)
async def test_the_database_itself_refuses_what_must_not_be(
    database: Database, statement: str, constraint: str
) -> None:
    world = await World.make(database)
    await world.start({"a": (), "b": ()})
    await world.claim(most=1)
    with pytest.raises(IntegrityError) as refused:
        async with database.begin() as session:
            await session.execute(text(statement))
    assert constraint in str(refused.value.orig)


async def test_no_attempt_of_a_job_is_launched_under_a_number_twice(database: Database) -> None:
    world = await World.make(database)
    await world.start({"a": (), "b": ()})
    await world.claim()
    with pytest.raises(IntegrityError):
        async with database.begin() as session:
            job_id = await session.scalar(select(Attempt.job_id).limit(1))
            await session.execute(update(Attempt).values(job_id=job_id))


async def test_a_key_is_unique_in_its_project(database: Database) -> None:
    world = await World.make(database)
    for _ in range(2):
        await world.start({"a": ()})
    with pytest.raises(IntegrityError):
        async with database.begin() as session:
            await session.execute(update(Run).values(idempotency_key="k"))


@pytest.mark.parametrize(
    ("statement", "index"),
    [
        (queues.HEADS, "ix_jobs_claim"),
        (occupancy._HELD_ON, "ix_jobs_active"),
        (occupancy._HELD, "ix_jobs_active"),
        (limiting._HELD_BY_TAG, "ix_jobs_active"),
        (select(Attempt).where(Attempt.backend_id == b"", ~Attempt.removed), "ix_attempts_held"),
        (select(Job).where(Job.run_id == b"").order_by(Job.position), "run_id"),
    ],
)
async def test_what_is_asked_often_walks_an_index(database: Database, statement: Any, index: str) -> None:
    async with database.read() as session:
        if session.postgresql:
            await session.execute(text("SET LOCAL enable_seqscan = off"))
            await session.execute(text("SET LOCAL enable_bitmapscan = off"))
        plan = await _plan(session, statement)
    assert index in plan


async def test_ids_are_stored_as_sixteen_bytes(database: Database) -> None:
    world = await World.make(database)
    async with database.read() as session:
        stored = await session.scalar(select(Project.id).where(Project.id == world.project_id))
    assert isinstance(stored, bytes) and ids.decode("project", ids.encode("project", stored)) == stored


async def _plan(session: Session, statement: Any) -> str:
    given = {"backend": b"", "host": "", "now": columns.now(), "names": ["a"]}
    wanted = statement.params({name: given[name] for name in statement.compile().params if name in given})
    compiled = wanted.compile(dialect=session._connection.dialect, compile_kwargs={"literal_binds": True})
    explain = "EXPLAIN" if session.postgresql else "EXPLAIN QUERY PLAN"
    rows = (await session.execute(text(f"{explain} {compiled}".replace(":", "\\:")))).all()
    return "\n".join(str(row[-1]) for row in rows)
