"""Suspending: what is recorded, what is not claimed any more, and what a resumed run goes on with."""

from datetime import timedelta

import pytest
from sqlalchemy import update

from db import errors, suspensions
from db.attempts import Attempt
from db.database import Database
from db.runs import Run
from db.states import EndReason, RunState
from db.viewers import Kind, Viewer
from db.waiting import Code, of_runs
from tests.db.world import World, function


async def _suspend(world: World, run_id: bytes) -> Run:
    async with world.database.begin() as session:
        await suspensions.suspend(session, world.viewer, run_id)
    return await world.run(run_id)


async def _resume(world: World, run_id: bytes) -> Run:
    async with world.database.begin() as session:
        await suspensions.resume(session, world.viewer, run_id)
    return await world.run(run_id)


async def test_what_is_suspended_is_not_claimed_until_it_is_resumed(database: Database) -> None:
    world = await World.make(database)
    run_id, other = await world.start({"a": (), "b": ("a",)}), await world.start({"o": ()})
    run = await _suspend(world, run_id)
    assert (run.state, suspensions.is_suspended(run)) == (RunState.QUEUED, True)
    async with database.read() as session:
        why = (await of_runs(session, [run_id, other]))[run_id]
    assert why.code is Code.SUSPENDED
    assert list(await world.claim()) == ["o"]
    run = await _resume(world, run_id)
    assert not suspensions.is_suspended(run)
    assert await world.drive() == ["a", "b"]


async def test_what_becomes_ready_meanwhile_waits_too(database: Database) -> None:
    world = await World.make(database, function(retries=1))
    run_id = await world.start({"a": (), "b": ("a",), "c": ()})
    launched = await world.claim()
    await _suspend(world, run_id)
    await world.end(launched["a"])
    await world.end(launched["c"], EndReason.EXIT_CODE)
    await world.wait_out(run_id)
    assert await world.claim() == {}
    await _resume(world, run_id)
    assert set(await world.claim()) == {"b", "c"}


async def test_the_time_an_attempt_stands_still_is_summed_up(database: Database) -> None:
    world = await World.make(database)
    run_id = await world.start({"a": ()})
    await world.begin((await world.claim())["a"])
    for _ in range(2):
        await _suspend(world, run_id)
        (attempt,) = await world.attempts(run_id)
        assert attempt.suspended_at is not None
        async with database.begin() as session:
            earlier = attempt.suspended_at - timedelta(seconds=60)
            await session.execute(update(Attempt).values(suspended_at=earlier))
        await _resume(world, run_id)
    (attempt,) = await world.attempts(run_id)
    assert attempt.suspended_at is None
    assert 120 <= attempt.suspended_seconds < 180


async def test_a_suspended_run_can_be_cancelled(database: Database) -> None:
    world = await World.make(database)
    run_id = await world.start({"a": (), "b": ()})
    launched = await world.claim(most=1)
    await _suspend(world, run_id)
    await world.cancel(run_id)
    (attempt,) = await world.attempts(run_id)
    assert attempt.stop_reason is EndReason.CANCELLED
    await world.end(next(iter(launched.values())), EndReason.CANCELLED)
    run = await world.run(run_id)
    assert (run.state, suspensions.is_suspended(run)) == (RunState.CANCELLED, False)


async def test_repeats_change_nothing_and_every_change_is_told(database: Database) -> None:
    world = await World.make(database)
    run_id = await world.start({"a": ()})
    before = len(await world.events(run_id))
    for change in (_suspend, _suspend, _resume, _resume):
        await change(world, run_id)
    assert [event.data for event in (await world.events(run_id))[before:]] == [
        {"state": "QUEUED", "edited": ["suspended"]}
    ] * 2
    await world.drive()
    run = await _suspend(world, run_id)
    assert (run.state, run.suspended_at) == (RunState.SUCCEEDED, None)


async def test_who_may_not_write_may_not_suspend(database: Database) -> None:
    world = await World.make(database)
    run_id = await world.start({"a": ()})
    async with database.begin() as session:
        with pytest.raises(errors.DomainError):
            await suspensions.suspend(session, Viewer(Kind.JOB, run_id=run_id), run_id)
