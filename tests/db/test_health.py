"""Health of backends: recorded by whoever holds them, and what it keeps from being claimed."""

from datetime import timedelta

from sqlalchemy import update

from db import backends, columns, health, leases
from db.backends import Backend
from db.database import Database
from db.health import Health
from db.leases import Supervisor
from db.resources import StepResources
from db.states import JobState
from tests.db.world import HOST, World


async def _backend(world: World) -> tuple[Backend, Health]:
    async with world.database.read() as session:
        (row,) = await backends.list_all(session)
        return row, health.of(row, await health.attended(session))


async def _away(world: World, words: str = "no route to host") -> bool:
    async with world.database.begin() as session:
        return await health.away(session, world.supervisor, world.backend.id, words)


async def _answers(world: World, **available: float) -> bool:
    async with world.database.begin() as session:
        return await health.answers(session, world.supervisor, world.backend.id, available or None)


async def test_a_backend_that_is_away_is_left_alone_until_it_answers(database: Database) -> None:
    world = await World.make(database)
    run_id = await world.start({"a": ()})
    assert await _away(world)
    first, state = await _backend(world)
    assert (state, first.last_error) == (Health.UNAVAILABLE, "no route to host")
    assert await world.claim() == {}
    before = await world.states(run_id)
    assert await _away(world, "connection refused")
    again, _ = await _backend(world)
    assert (again.unavailable_since, again.last_error) == (first.unavailable_since, "connection refused")
    assert await _answers(world)
    back, state = await _backend(world)
    assert (state, back.unavailable_since, back.last_error) == (Health.OK, None, "connection refused")
    assert await world.states(run_id) == before
    assert list(await world.claim()) == ["a"]


async def test_what_a_backend_says_it_has_bounds_what_is_claimed(database: Database) -> None:
    world = await World.make(database, slots=3)
    await world.start(dict.fromkeys("abcd", ()))
    await _answers(world, slots=2)
    assert len(await world.claim()) == 2
    await _answers(world, slots=1)  # a node has gone: what runs goes on, nothing is added
    assert await world.claim() == {}
    await _answers(world, slots=100)
    assert len(await world.claim()) == 1  # no more than is configured


async def test_what_is_too_large_only_for_now_waits(database: Database) -> None:
    world = await World.make(database, slots=3)
    run_id = await world.start({"a": ()})
    await _answers(world, slots=0)
    assert await world.claim() == {}
    await _answers(world, slots=3)
    assert list(await world.claim()) == ["a"]
    assert (await world.run(run_id)).ended_at is None


async def test_whoever_lost_the_lease_says_nothing_of_the_backend(database: Database) -> None:
    world = await World.make(database)
    async with database.begin() as session:
        successor = await leases.take(session, HOST, HOST)
        assert successor is not None
        await session.execute(update(Backend).values(epoch=successor.epoch))
    assert not await _away(world)
    assert not await _answers(world, slots=1)
    row, state = await _backend(world)
    assert (state, row.available, row.last_error) == (Health.OK, None, None)


async def test_a_backend_whose_supervisor_is_gone_is_unattended(database: Database) -> None:
    world = await World.make(database)
    past = columns.now() - timedelta(seconds=1)
    async with database.begin() as session:
        await session.execute(update(Supervisor).values(expires_at=past))
    _, state = await _backend(world)
    assert state is Health.UNATTENDED


async def test_a_backend_that_could_not_be_opened_is_away_unless_somebody_holds_it(
    database: Database,
) -> None:
    world = await World.make(database)
    async with database.begin() as session:
        await health.unreachable(session, world.backend.id, "no socket")
    assert (await _backend(world))[1] is Health.OK
    values = {"name": "new", "kind": "docker", "scope": backends.Scope.HOST, "config": {}}
    room = {"slots": 1, "cpus": 1.0, "memory_bytes": 1, "gpus": 0}
    async with database.begin() as session:
        backend_id = await backends.declare(session, {**values, **room})
        await health.unreachable(session, backend_id, "no socket")
    async with database.begin() as session:
        row = next(one for one in await backends.list_all(session) if one.name == "new")
        assert health.of(row, set()) is Health.UNAVAILABLE and row.last_error == "no socket"
        taken = await backends.configure(session, world.supervisor, {**values, **room})
    assert health.of(taken, {backend_id}) is Health.OK


async def test_what_is_not_configured_is_as_the_backend_says(database: Database) -> None:
    world = await World.make(database, slots=2, cpus=1.0, config={"caps": ["slots"]})
    run_id = await world.start({"a": ()}, resources=[StepResources("a", cpus=8.0)])
    await _answers(world, slots=9, cpus=4.0)
    assert await world.claim() == {}  # too large for now: the cluster may grow
    row, _ = await _backend(world)
    assert (backends.capacity(row)["slots"], backends.capacity(row)["cpus"]) == (2, 4.0)
    await _answers(world, slots=9, cpus=16.0)
    assert list(await world.claim()) == ["a"]
    large = await world.start({"a": ()}, resources=[StepResources("a", workers=3)])
    assert await world.claim() == {}
    assert (await world.jobs(large))["a"].message == "asks for 3 workers, backend local has 2"
    assert (await world.states(run_id))["a"] is JobState.STARTING
