"""Preparations that runs want: asked for by the first job, taken over from a host that is gone, tried again."""

from typing import Any

from db import columns, leases, modules, preparations, wanted
from db.database import Database
from db.states import EndReason, JobState, PreparationState, RunState
from db.wanted import Place
from tests.db.world import HOST, World


async def _unprepared(world: World, host: str) -> list[bytes]:
    async with world.database.read() as session:
        return [one.id for one in await wanted.unprepared(session, _place(world, host))]


def _place(world: World, host: str = HOST) -> Place:
    return Place(world.backend.id, "local", host)


async def _hopeless(world: World) -> list[Any]:
    async with world.database.read() as session:
        return list(await wanted.hopeless(session, _place(world)))


async def _fail(world: World, version_id: bytes) -> None:
    """Have the version's preparation have failed."""
    async with world.database.begin() as session:
        table: Any = preparations.Preparation.__table__
        failed = table.update().where(table.c.version_id == version_id)
        values = {"message": "no such package", "ended_at": columns.now()}
        await session.execute(failed.values(state=PreparationState.FAILED, **values))


async def _version(world: World) -> bytes:
    async with world.database.read() as session:
        (function,) = (await modules.addressed(session, world.project_id, {"ml"})).values()
    found: bytes = function.version_id
    return found


async def test_what_waits_on_a_host_is_prepared_by_another_only_when_that_is_gone(database: Database) -> None:
    world = await World.make(database)
    assert await _unprepared(world, "other") == []
    await world.start({"a": ()})
    async with database.begin() as session:
        lease = await leases.take(session, f"local@{HOST}", HOST)
    assert lease is not None
    assert await _unprepared(world, HOST) == []
    assert await _unprepared(world, "other") == []
    async with database.begin() as session:
        await leases.release(session, lease)
    assert await _unprepared(world, HOST) == []
    assert await _unprepared(world, "other") == [await _version(world)]


async def test_a_failed_preparation_ends_who_waited_and_is_tried_again_for_who_comes_later(
    database: Database,
) -> None:
    world = await World.make(database)
    version = await _version(world)
    early = await world.start({"a": (), "b": ("a",)})
    assert await _hopeless(world) == []
    await _fail(world, version)
    (failed,) = await _hopeless(world)
    async with database.begin() as session:
        assert await wanted.refuse(session, _place(world), failed) == 1
    run = await world.run(early)
    assert run.state is RunState.FAILED
    job = (await world.jobs(early))["a"]
    assert (job.state, job.reason) == (JobState.FAILED, EndReason.LAUNCH_REJECTED)
    assert job.message == "its module could not be made ready on local: no such package"
    assert (await world.jobs(early))["b"].state is JobState.SKIPPED
    assert await _hopeless(world) == []
    late = await world.start({"a": ()})
    (failed,) = await _hopeless(world)
    async with database.begin() as session:
        assert await wanted.refuse(session, _place(world), failed) == 0
        await wanted.again(session, failed)
    async with database.read() as session:
        (again,) = await preparations.of_versions(session, [version])
    assert (again.id, again.state.value, again.message) == (failed.id, "PENDING", None)
    await world.prepare(version)
    assert list(await world.claim()) == ["a"]
    assert (await world.run(late)).state is RunState.RUNNING
