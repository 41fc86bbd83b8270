"""Reports: what a supervisor saw, recorded once, with everything that follows from it."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from db import attempts, columns, ends, feeds, jobs, reports
from db.claims import Launch
from db.contracts import OutputKind
from db.database import Database
from db.ends import Ended
from db.jobs import Direction
from db.leases import Supervisor
from db.reports import Started
from db.states import EndReason, JobState, RunState, WorkerPhase
from tests.db.interleaving import until_somebody_waits
from tests.db.world import World, ending, function, made, names

S, R = JobState, EndReason
DIAMOND = {"top": (), "left": ("top",), "right": ("top",), "bottom": ("left", "right")}


async def _reached(world: World, run_id: bytes) -> int:
    async with world.database.read() as session:
        head = await feeds.head(session, (await world.run(run_id)).feed_id)
    assert head is not None
    return head.seq


async def _files(world: World, run_id: bytes, step: str, direction: Direction) -> list[Any]:
    job = (await world.jobs(run_id))[step]
    async with world.database.read() as session:
        return await jobs.files_of(session, [job.id], direction)


async def test_a_job_runs_once_all_its_workers_do(database: Database) -> None:
    world = await World.make(database, function(workers=2))
    run_id = await world.start({"a": ()})
    launch = (await world.claim())["a"]
    at = columns.now()
    for rank, expected in ((1, S.STARTING), (1, S.STARTING), (0, S.RUNNING)):
        async with database.begin() as session:
            started = Started(launch.attempt_id, launch.feed_id, rank, "n", "10.0.0.1", at)
            await reports.started(session, world.supervisor, [started])
        assert (await world.states(run_id))["a"] is expected
    async with database.read() as session:
        workers = await attempts.workers_of(session, [launch.attempt_id])
    assert [(w.phase, w.node) for w in workers] == [(WorkerPhase.RUNNING, "n")] * 2
    assert (await world.jobs(run_id))["a"].started_at == at


async def test_an_end_hands_files_on_to_what_waits_for_them(database: Database) -> None:
    world = await World.make(database)
    given = await world.upload("in.txt")
    run_id = await world.start({"a": (), "b": ("a",)}, files=[given])
    launch = (await world.claim())["a"]
    await world.begin(launch)
    handed = made("in.txt", kind=OutputKind.UNCHANGED, input_id=given)
    changed = made("out.txt", kind=OutputKind.MODIFIED, input_id=given)
    assert await world.end(launch, R.COMPLETED, made("new.csv", size_bytes=9), handed, changed)
    outputs = await _files(world, run_id, "a", Direction.OUTPUT)
    assert names(outputs) == ["new.csv", "in.txt", "out.txt"]
    assert outputs[1].id == given
    assert (outputs[0].derived_from, outputs[2].derived_from) == (None, given)
    assert (outputs[0].size_bytes, outputs[0].media_type) == (9, "text/csv")
    assert names(await _files(world, run_id, "b", Direction.INPUT)) == ["new.csv", "in.txt", "out.txt"]
    assert names((await world.claim())["b"].inputs) == ["new.csv", "in.txt", "out.txt"]


async def test_a_failure_skips_its_dependants_and_other_branches_go_on(database: Database) -> None:
    world = await World.make(database)
    run_id = await world.start({**DIAMOND, "after": ("right",)})
    assert await world.drive({"left": R.EXIT_CODE}) == ["top", "left", "right", "after"]
    assert await world.states(run_id) == {
        "top": S.SUCCEEDED,
        "left": S.FAILED,
        "right": S.SUCCEEDED,
        "bottom": S.SKIPPED,
        "after": S.SUCCEEDED,
    }
    assert (await world.run(run_id)).state is RunState.FAILED


async def test_fail_fast_stops_what_has_not_been_launched(database: Database) -> None:
    world = await World.make(database, slots=2)
    run_id = await world.start({"a": (), "b": (), "c": (), "d": ("b",)}, fail_fast=True)
    claimed = await world.claim()
    await world.end(claimed["a"], R.OUT_OF_MEMORY)
    assert await world.states(run_id) == {"a": S.FAILED, "b": S.STARTING, "c": S.SKIPPED, "d": S.SKIPPED}
    assert (await world.run(run_id)).state is RunState.RUNNING
    await world.end(claimed["b"])
    assert (await world.run(run_id)).state is RunState.FAILED


async def test_a_retried_job_backs_off_and_fails_with_its_last_attempt(database: Database) -> None:
    world = await World.make(database, function(retries=2))
    run_id = await world.start({"a": (), "b": ("a",)})
    for number, delay in ((1, 1), (2, 2), (3, 0)):
        launch = (await world.claim())["a"]
        assert launch.number == number
        await world.begin(launch)
        await world.end(launch, R.EXIT_CODE if number < 3 else R.OUT_OF_MEMORY)
        job = (await world.jobs(run_id))["a"]
        assert job.state is (S.QUEUED if delay else S.FAILED)
        if delay:
            assert job.not_before is not None and job.queued_at is not None
            assert job.not_before - job.queued_at == timedelta(seconds=delay)
            assert await world.claim() == {} and (await world.run(run_id)).state is RunState.RUNNING
            await world.wait_out(run_id)
    assert [a.reason for a in await world.attempts(run_id)] == [R.EXIT_CODE, R.EXIT_CODE, R.OUT_OF_MEMORY]
    assert (await world.run(run_id)).state is RunState.FAILED


@pytest.mark.parametrize("reason", [R.BAD_OUTPUT, R.TIMED_OUT, R.LAUNCH_REJECTED])
async def test_what_would_only_end_the_same_is_not_retried(database: Database, reason: EndReason) -> None:
    world = await World.make(database, function(retries=3))
    run_id = await world.start({"a": ()})
    await world.drive({"a": reason})
    job = (await world.jobs(run_id))["a"]
    assert (job.state, job.reason, job.attempts) == (S.FAILED, reason, 1)


async def test_a_retry_that_succeeds_leaves_no_trace_of_failure_on_its_job(database: Database) -> None:
    world = await World.make(database, function(retries=1))
    run_id = await world.start({"a": ()})
    await world.drive({"a": R.EXIT_CODE})
    await world.wait_out(run_id)
    await world.drive()
    job = (await world.jobs(run_id))["a"]
    assert (job.state, job.reason, job.exit_code, job.message) == (S.SUCCEEDED, R.COMPLETED, 0, None)


async def test_two_files_of_one_name_end_a_job_bad_input_and_both_are_named(database: Database) -> None:
    world = await World.make(database)
    run_id = await world.start({**DIAMOND, "after": ("bottom",)})
    await world.end((await world.claim())["top"])
    for launch in (await world.claim()).values():
        await world.end(launch, R.COMPLETED, made("model.bin"))
    jobs_ = await world.jobs(run_id)
    assert (jobs_["bottom"].state, jobs_["bottom"].reason) == (S.FAILED, R.BAD_INPUT)
    message = jobs_["bottom"].message or ""
    assert "model.bin" in message and "step left" in message and "step right" in message
    assert jobs_["after"].state is S.SKIPPED
    assert names(await _files(world, run_id, "bottom", Direction.INPUT)) == ["model.bin", "model.bin"]
    assert (await world.run(run_id)).state is RunState.FAILED


async def test_a_first_step_whose_files_cannot_be_right_fails_at_the_start(database: Database) -> None:
    world = await World.make(database)
    twins = [await world.upload("a.txt", "1"), await world.upload("a.txt", "2")]
    run_id = await world.start({"a": (), "b": ("a",)}, files=twins)
    assert await world.states(run_id) == {"a": S.FAILED, "b": S.SKIPPED}
    run = await world.run(run_id)
    assert run.state is RunState.FAILED and run.ended_at is not None


async def test_an_end_recorded_twice_changes_nothing(database: Database) -> None:
    world = await World.make(database)
    run_id = await world.start({"a": (), "b": ("a",)})
    launch = (await world.claim())["a"]
    assert await world.end(launch, R.COMPLETED, made("x"))
    reached = await _reached(world, run_id)
    assert not await world.end(launch, R.EXIT_CODE)
    await world.begin(launch)
    assert await _reached(world, run_id) == reached
    assert (await world.jobs(run_id))["a"].state is S.SUCCEEDED


@pytest.mark.parametrize("former", [True, False])
async def test_reports_of_a_former_epoch_or_a_stranger_change_nothing(
    database: Database, former: bool
) -> None:
    world = await World.make(database)
    run_id = await world.start({"a": ()})
    launch = (await world.claim())["a"]
    fields = world.supervisor._asdict()  # type: ignore[attr-defined]
    fields |= {"epoch": 0} if former else {"id": b"?" * 16}
    stranger = replace(world, supervisor=cast("Supervisor", SimpleNamespace(**fields)))
    reached = await _reached(world, run_id)
    await stranger.begin(launch)
    assert not await stranger.end(launch)
    async with database.begin() as session:
        assert not await reports.time_out(
            session, stranger.supervisor, launch.attempt_id, launch.feed_id, 1.0
        )
    assert await _reached(world, run_id) == reached
    (attempt,) = await world.attempts(run_id)
    assert (attempt.handle, attempt.stop_reason, attempt.ended_at) == (None, None, None)


async def test_an_attempt_that_takes_too_long_is_asked_to_stop_once(database: Database) -> None:
    world = await World.make(database, function(timeout_seconds=1.5))
    run_id = await world.start({"a": ()})
    launch = (await world.claim())["a"]
    await world.begin(launch)
    for first in (True, False):
        async with database.begin() as session:
            asked = await reports.time_out(session, world.supervisor, launch.attempt_id, launch.feed_id, 3.0)
        assert asked is first
    (attempt,) = await world.attempts(run_id)
    assert (attempt.stop_reason, attempt.stop_grace_seconds) == (R.TIMED_OUT, 3.0)
    await world.end(launch, R.EXIT_CODE)
    job = (await world.jobs(run_id))["a"]
    assert (job.state, job.reason, job.message) == (S.FAILED, R.TIMED_OUT, "took longer than 1.5 s")


async def test_an_end_says_how_each_worker_ended(database: Database) -> None:
    world = await World.make(database, function(workers=3))
    await world.start({"a": ()})
    launch = (await world.claim())["a"]
    await world.begin(launch)
    end = replace(ending(launch, R.EXIT_CODE), exit_code=2, exit_codes={0: 0, 1: 2})
    async with database.begin() as session:
        await ends.ended(session, world.supervisor, [Ended(launch.attempt_id, launch.feed_id, end)])
    async with database.read() as session:
        workers = await attempts.workers_of(session, [launch.attempt_id])
    phases = [WorkerPhase.SUCCEEDED, WorkerPhase.FAILED, WorkerPhase.LOST]
    assert [(w.phase, w.exit_code) for w in workers] == list(zip(phases, [0, 2, None], strict=True))


@pytest.mark.parametrize("first", ["left", "right"])
async def test_two_parents_that_end_at_once_queue_their_dependant_once(
    postgresql: Database, first: str
) -> None:
    world = await World.make(postgresql)
    run_id = await world.start(DIAMOND)
    await world.end((await world.claim())["top"])
    parents = await world.claim()
    launch = parents.pop(first)
    async with postgresql.begin() as session:
        end = Ended(*_address(launch), ending(launch, R.COMPLETED))
        await ends.ended(session, world.supervisor, [end])
        (other,) = parents.values()
        second = asyncio.create_task(world.end(other))
        await until_somebody_waits(postgresql)
    assert await second
    assert (await world.states(run_id))["bottom"] is S.QUEUED
    bottom = (await world.jobs(run_id))["bottom"].id
    queued = [
        e for e in await world.events(run_id) if (e.subject_id, e.data.get("state")) == (bottom, "QUEUED")
    ]
    assert len(queued) == 1
    assert list(await world.claim()) == ["bottom"]


async def test_parents_that_end_in_any_interleaving_queue_their_dependant_once(database: Database) -> None:
    world = await World.make(database)
    parents = [f"p{i}" for i in range(6)]
    run_id = await world.start({**dict.fromkeys(parents, ()), "child": tuple(parents)})
    claimed = await world.claim()
    assert all(await asyncio.gather(*(world.end(claimed[name]) for name in parents)))
    assert list(await world.claim()) == ["child"]
    assert (await world.run(run_id)).state is RunState.RUNNING


def _address(launch: Launch) -> tuple[bytes, int]:
    return launch.attempt_id, launch.feed_id
