"""Jobs: the one guarded way in which a row changes state."""

import itertools

import pytest
from sqlalchemy import update

from db import columns, feeds, jobs
from db.database import Database
from db.jobs import Job
from db.states import JOB_MOVES, JobState
from tests.db.world import World


async def _put(database: Database, job_id: bytes, state: JobState) -> None:
    async with database.begin() as session:
        await session.execute(update(Job).where(Job.id == job_id).values(state=state))


async def _move(world: World, job: Job, to: JobState) -> None:
    async with world.database.begin() as session:
        head = await feeds.lock(session, job.feed_id)
        await jobs.move(session, head, [(job, to)], columns.now())


async def test_every_pair_of_states_is_a_legal_move_or_refused(database: Database) -> None:
    world = await World.make(database)
    run_id = await world.start({"a": ()})
    job_id = (await world.jobs(run_id))["a"].id
    for was, to in itertools.product(JobState, JobState):
        await _put(database, job_id, was)
        job = (await world.jobs(run_id))["a"]
        before = len(await world.events(run_id))
        if to in JOB_MOVES[was]:
            await _move(world, job, to)
        else:
            with pytest.raises(AssertionError):
                await _move(world, job, to)
        moved = to in JOB_MOVES[was]
        assert (await world.states(run_id))["a"] is (to if moved else was)
        assert len(await world.events(run_id)) == before + moved


async def test_a_move_from_a_state_that_has_passed_is_refused(database: Database) -> None:
    world = await World.make(database)
    run_id = await world.start({"a": ()})
    stale = (await world.jobs(run_id))["a"]
    await world.claim()
    before = len(await world.events(run_id))
    with pytest.raises(AssertionError, match="without its feed's lock"):
        await _move(world, stale, JobState.CANCELLED)
    assert await world.states(run_id) == {"a": JobState.STARTING}
    assert len(await world.events(run_id)) == before
