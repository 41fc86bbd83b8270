"""Runs: cancelled, followed, found and listed."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db import errors, feeds, projects, runs
from db.database import Database
from db.states import EndReason, JobState, RunState
from db.viewers import Kind, Viewer
from tests.db.interleaving import until_somebody_waits
from tests.db.test_states import Graph, expected, graphs
from tests.db.world import World, few, function

S, R = JobState, EndReason
REASONS = {S.SUCCEEDED: R.COMPLETED, S.FAILED: R.EXIT_CODE, S.CANCELLED: R.CANCELLED}


async def _head(world: World, run_id: bytes) -> feeds.Feed:
    async with world.database.read() as session:
        head = await feeds.head(session, (await world.run(run_id)).feed_id)
    assert head is not None
    return head


async def test_cancel_before_launch_ends_the_run_cancelled(database: Database) -> None:
    world = await World.make(database)
    run_id = await world.start({"a": (), "b": ("a",)})
    await world.cancel(run_id)
    run = await world.run(run_id)
    assert run.state is RunState.CANCELLED and run.ended_at is not None and run.started_at is None
    assert set((await world.states(run_id)).values()) == {S.CANCELLED}
    assert await world.claim() == {}
    assert (await _head(world, run_id)).ended


async def test_cancel_while_running_asks_the_attempt_to_stop(database: Database) -> None:
    world = await World.make(database, slots=2)
    run_id = await world.start({"a": (), "b": (), "c": (), "d": ("a",)})
    claimed = await world.claim()
    await world.begin(claimed["a"])
    await world.cancel(run_id, grace_seconds=7.0)
    assert await world.states(run_id) == {
        "a": S.CANCELLING,
        "b": S.CANCELLING,
        "c": S.CANCELLED,
        "d": S.CANCELLED,
    }
    assert (await world.run(run_id)).state is RunState.CANCELLING
    asked = [(a.stop_reason, a.stop_grace_seconds) for a in await world.attempts(run_id)]
    assert asked == [(R.CANCELLED, 7.0)] * 2
    for launch in claimed.values():
        await world.end(launch, R.EXIT_CODE)
    assert (await world.run(run_id)).state is RunState.CANCELLED
    assert {job.message for job in (await world.jobs(run_id)).values()} == {"cancelled", None}


async def test_a_cancelled_job_is_not_retried(database: Database) -> None:
    world = await World.make(database, function(retries=5))
    run_id = await world.start({"a": ()})
    launch = (await world.claim())["a"]
    await world.cancel(run_id)
    await world.end(launch, R.EXIT_CODE)
    assert await world.states(run_id) == {"a": S.CANCELLED}


async def test_a_job_that_waits_for_its_next_attempt_is_cancelled_at_once(database: Database) -> None:
    world = await World.make(database, function(retries=5))
    run_id = await world.start({"a": ()})
    await world.drive({"a": R.EXIT_CODE})
    await world.cancel(run_id)
    assert await world.states(run_id) == {"a": S.CANCELLED}


async def test_cancelling_again_or_after_the_end_changes_nothing(database: Database) -> None:
    world = await World.make(database)
    going, over = await world.start({"a": ()}), await world.start({"a": ()})
    (_, other) = (await world.claim_all()).values()
    await world.end(other)
    for run_id in (going, over):
        await world.cancel(run_id)
        reached = (await _head(world, run_id)).seq
        await world.cancel(run_id, grace_seconds=99.0)
        assert (await _head(world, run_id)).seq == reached
    assert (await world.run(over)).state is RunState.SUCCEEDED
    assert (await world.attempts(going))[0].stop_grace_seconds == 5.0


async def test_a_cancel_that_meets_an_end_leaves_the_end_as_it_was(postgresql: Database) -> None:
    world = await World.make(postgresql)
    run_id = await world.start({"a": (), "b": ("a",)})
    launch = (await world.claim())["a"]
    async with postgresql.begin() as session:
        await feeds.lock(session, launch.feed_id)
        ending = asyncio.create_task(world.end(launch))
        await until_somebody_waits(postgresql)
        cancelling = asyncio.create_task(world.cancel(run_id))
        await until_somebody_waits(postgresql, 2)
    assert await ending
    await cancelling
    assert await world.states(run_id) == {"a": S.SUCCEEDED, "b": S.CANCELLED}
    assert (await world.run(run_id)).state is RunState.CANCELLED


async def test_who_may_not_see_or_change_a_run_cannot_cancel_it(database: Database) -> None:
    world = await World.make(database)
    run_id = await world.start({"a": ()})
    with pytest.raises(errors.Invalid):
        await world.cancel(run_id, grace_seconds=-1.0)
    job = Viewer(Kind.JOB, run_id=run_id)
    for viewer, refusal in ((Viewer(Kind.USER), errors.NotFound), (job, errors.Forbidden)):
        with pytest.raises(refusal):
            async with database.begin() as session:
                await runs.cancel(session, viewer, run_id, grace_seconds=1.0)
    assert (await world.run(run_id)).state is RunState.QUEUED


async def test_the_feed_of_a_run_tells_its_whole_life_in_order(database: Database) -> None:
    world = await World.make(database)
    run_id = await world.start({"a": (), "b": ("a",)})
    await world.drive()
    told = [
        (event.subject.value, event.data.get("step"), event.data.get("state") or event.data.get("phase"))
        for event in await world.events(run_id)
    ]
    life = [("JOB", "STARTING"), ("WORKER", "RUNNING"), ("JOB", "RUNNING")]
    end = [("WORKER", "SUCCEEDED"), ("JOB", "SUCCEEDED")]
    assert told == [
        ("RUN", None, "QUEUED"),
        ("JOB", "a", "WAITING"),
        ("JOB", "b", "WAITING"),
        ("JOB", "a", "QUEUED"),
        ("JOB", "a", "STARTING"),
        ("RUN", None, "RUNNING"),
        *((subject, "a", state) for subject, state in (*life[1:], *end)),
        ("JOB", "b", "QUEUED"),
        *((subject, "b", state) for subject, state in (*life, *end)),
        ("RUN", None, "SUCCEEDED"),
    ]
    head = await _head(world, run_id)
    assert (head.seq, head.ended) == (len(told), True)


@few
@given(graph=graphs(), fail_fast=st.booleans())
async def test_a_run_ends_as_its_graph_says(database: Database, graph: Graph, fail_fast: bool) -> None:
    world = await World.make(database)
    names = [f"s{i}" for i in range(len(graph))]
    drawn = {
        name: tuple(names[need] for need in needs) for name, (needs, _) in zip(names, graph, strict=True)
    }
    run_id = await world.start(drawn, fail_fast=fail_fast)
    outcomes = {name: REASONS[outcome] for name, (_, outcome) in zip(names, graph, strict=True)}
    launched = await world.drive(outcomes)
    ends = list((await world.states(run_id)).values())
    assert len(launched) == len(set(launched)) == sum(state is not S.SKIPPED for state in ends)
    if fail_fast:
        assert all(end in (S.SKIPPED, model) for end, model in zip(ends, expected(graph), strict=True))
    else:
        assert ends == expected(graph)
    state = (await world.run(run_id)).state
    assert (state is RunState.SUCCEEDED) is (set(ends) == {S.SUCCEEDED})
    assert (state is RunState.FAILED) is (S.FAILED in ends)


async def test_a_job_sees_its_own_run_and_a_user_those_of_their_projects(database: Database) -> None:
    world = await World.make(database)
    one, other = await world.start({"a": ()}), await world.start({"a": ()})
    seen: dict[str, Any] = {
        "job": Viewer(Kind.JOB, run_id=one),
        "user": Viewer(Kind.USER, projects=frozenset({world.project_id})),
        "stranger": Viewer(Kind.USER, projects=frozenset({b"?" * 16})),
    }
    async with database.read() as session:
        for name, viewer in seen.items():
            seen[name] = {run.id for run in await runs.find_runs(session, viewer, [one, other])}
    assert seen == {"job": {one}, "user": {one, other}, "stranger": set()}


async def test_the_default_project_is_made_once(database: Database) -> None:
    async def ensure() -> bytes:
        async with database.begin() as session:
            return await projects.ensure_default(session)

    assert len(set(await asyncio.gather(*(ensure() for _ in range(4))))) == 1
