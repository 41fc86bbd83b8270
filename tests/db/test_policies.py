"""Retrying by the reason of an end: rules, what stands before what, memory that grows, and how long is waited."""

from datetime import timedelta
from typing import Any

import pytest

from db import errors, policies, requests, retries
from db.database import Database
from db.jobs import Job
from db.manifests import Resources
from db.policies import Backoff, Policy, Rule
from db.retries import From, RerunSpec
from db.states import EndReason, JobState
from tests.db.world import GIB, World, function

R, S = EndReason, JobState


async def _end(world: World, run_id: bytes, *reasons: EndReason) -> Job:
    """Have the one job's attempts end so, one after the other; the job then."""
    for reason in reasons:
        await world.wait_out(run_id)
        (launch,) = (await world.claim()).values()
        await world.begin(launch)
        assert await world.end(launch, reason)
    return (await world.jobs(run_id))["a"]


async def _start(world: World, **asked: Any) -> bytes:
    return await world.start({"a": ()}, **asked)


@pytest.mark.parametrize(("reason", "times"), list(policies.DEFAULTS.items()))
async def test_what_is_no_fault_of_the_job_is_tried_again_by_itself(
    database: Database, reason: EndReason, times: int
) -> None:
    world = await World.make(database)
    run_id = await _start(world)
    assert (await _end(world, run_id, *[reason] * times)).state is S.QUEUED
    job = await _end(world, run_id, reason)
    assert (job.state, job.reason, job.attempts) == (S.FAILED, reason, times + 1)
    assert len(await world.attempts(run_id)) == times + 1


@pytest.mark.parametrize("reason", [R.EXIT_CODE, R.OUT_OF_MEMORY, R.TIMED_OUT])
async def test_what_a_job_did_itself_is_not_tried_again_unless_asked(
    database: Database, reason: EndReason
) -> None:
    world = await World.make(database)
    assert (await _end(world, await _start(world), reason)).state is S.FAILED
    asked = await _start(world, retry=[Rule(reason, 1)])
    assert (await _end(world, asked, reason)).state is S.QUEUED
    assert (await _end(world, asked, reason)).state is S.FAILED


async def test_each_reason_is_counted_by_itself(database: Database) -> None:
    rules = (Rule(R.EXIT_CODE, 1), Rule(R.LOST, 1))
    world = await World.make(database, function(retry=Policy(rules)))
    run_id = await _start(world)
    assert (await _end(world, run_id, R.EXIT_CODE, R.LOST)).state is S.QUEUED
    assert (await _end(world, run_id, R.LOST)).state is S.FAILED


async def test_what_a_run_asks_for_stands_before_what_its_function_says(database: Database) -> None:
    world = await World.make(database, function(retries=3, retry=Policy((Rule(R.LOST, 3),))))
    run_id = await _start(world, retry=[Rule(R.LOST, 0)])
    assert (await _end(world, run_id, R.EXIT_CODE)).state is S.QUEUED  # by its retries, which no rule names
    assert (await _end(world, run_id, R.LOST)).state is S.FAILED


async def test_a_job_that_ran_out_of_memory_gets_more_up_to_a_bound(database: Database) -> None:
    rule = Rule(R.OUT_OF_MEMORY, 9, memory_factor=2.0, most_memory_bytes=3 * GIB)
    world = await World.make(
        database, function(resources=Resources(memory_bytes=GIB), retry=Policy((rule,))), memory_bytes=8 * GIB
    )
    run_id = await _start(world)
    job = await _end(world, run_id, R.OUT_OF_MEMORY)
    assert (job.state, job.memory_bytes) == (S.QUEUED, 2 * GIB)
    assert (job.message or "").endswith("; tried again with 2048 MiB")
    other = await _start(world)
    assert (await world.jobs(other))["a"].kind != job.kind  # in the queue it is of another kind
    await world.cancel(other)
    job = await _end(world, run_id, R.OUT_OF_MEMORY)
    assert (job.state, job.memory_bytes) == (S.QUEUED, 3 * GIB)
    job = await _end(world, run_id, R.OUT_OF_MEMORY)
    assert (job.state, job.reason, job.attempts) == (S.FAILED, R.OUT_OF_MEMORY, 3)


async def test_the_wait_doubles_up_to_what_the_function_says(database: Database) -> None:
    policy = Policy((Rule(R.EXIT_CODE, 9),), Backoff(first_seconds=5.0, most_seconds=12.0))
    world = await World.make(database, function(retry=policy))
    run_id = await _start(world)
    for seconds in (5, 10, 12, 12):
        job = await _end(world, run_id, R.EXIT_CODE)
        assert job.not_before is not None and job.queued_at is not None
        assert job.not_before - job.queued_at == timedelta(seconds=seconds)


async def test_a_retry_and_a_rerun_keep_the_rules_of_their_run(database: Database) -> None:
    world = await World.make(database)
    run_id = await _start(world, retry=[Rule(R.EXIT_CODE, 1)])
    await _end(world, run_id, R.EXIT_CODE, R.EXIT_CODE)
    async with database.begin() as session:
        again = await retries.retry(session, world.viewer, run_id, From.START)
    assert (await _end(world, again, R.EXIT_CODE)).state is S.QUEUED
    await world.cancel(again)
    async with database.begin() as session:
        other = await retries.rerun(session, world.viewer, RerunSpec(run_id))
    assert (await _end(world, other, R.EXIT_CODE)).state is S.QUEUED


@pytest.mark.parametrize(
    ("rule", "path", "why"),
    [
        (Rule(R.BAD_OUTPUT, 1), "reason", "no other attempt would end otherwise"),
        (Rule(R.LOST, 101), "times", "must be from 0 to 100, not 101"),
        (Rule(R.LOST, -1), "times", "must be from 0 to 100, not -1"),
        (Rule(R.LOST, 1, memory_factor=2.0), "memoryFactor", "is for OUT_OF_MEMORY alone"),
        (Rule(R.OUT_OF_MEMORY, 1, memory_factor=0.5), "memoryFactor", "must be from 1 to 16, not 0.5"),
        (Rule(R.OUT_OF_MEMORY, 1, most_memory_bytes=0), "mostMemoryBytes", "must be from 1 to 2^53 bytes"),
    ],
)
async def test_a_rule_that_cannot_be_meant_is_refused(
    database: Database, rule: Rule, path: str, why: str
) -> None:
    world = await World.make(database)
    with pytest.raises(errors.Invalid) as refused:
        await _start(world, retry=[rule])
    (problem,) = refused.value.problems
    assert problem.path == ("retry", "0", path) and why in problem.message


async def test_a_reason_that_is_named_twice_is_refused(database: Database) -> None:
    world = await World.make(database)
    with pytest.raises(errors.Invalid, match="named twice"):
        await _start(world, retry=[Rule(R.LOST, 1), Rule(R.LOST, 2)])


def test_rules_are_kept_with_a_request() -> None:
    asked = requests.Request("local", retry=(Rule(R.OUT_OF_MEMORY, 2, 1.5, GIB), Rule(R.LOST, 0)))
    assert requests.decode(requests.encode(asked)).retry == asked.retry
    policy = Policy(tuple(asked.retry), Backoff(2.0, 9.0))
    assert policies.decode(policies.encode(policy)) == policy
    assert policies.encode(policies.NOTHING) is None
