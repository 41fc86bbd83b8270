"""Reuse: what has been done is taken over, with its files and values, and only where it is the same."""

from typing import Any

import pytest

from db import data_sources, deletions, headlines, jobs, runs
from db.database import Database
from db.jobs import Direction, Job
from db.manifests import Option, OptionType
from db.resources import StepResources
from db.states import EndReason, JobState, RunState
from tests.db.world import World, function, made, report, written

TRAIN = function("train", options=(Option("rate", OptionType.FLOAT, default=1.0),))


def _train(name: str = "fit", **values: Any) -> dict[str, Any]:
    return {"name": name, "function": "ml/train", "cache": True, **values}


async def _done(world: World, *steps: dict[str, Any], **values: Any) -> bytes:
    """A run whose steps each hand on a file of their name and report their loss."""
    run_id = await world.start(written(*steps), **values)
    while launches := await world.claim():
        for step, launch in launches.items():
            await world.begin(launch)
            await report(world, launch, loss=0.5)
            await world.end(launch, EndReason.COMPLETED, made(f"{step}.bin", tags={"of": step}))
    return run_id


async def _outputs(world: World, job: Job) -> list[bytes]:
    async with world.database.read() as session:
        return [row.id for row in await jobs.files_of(session, [job.id], Direction.OUTPUT)]


async def test_the_same_work_is_taken_over_with_files_values_and_dependants(database: Database) -> None:
    world = await World.make(database, TRAIN)
    steps = [_train(), _train("test", cache=False)]
    first = await _done(world, *steps)
    second = await world.start(written(*steps))
    fit = (await world.jobs(first))["fit"]
    again = await world.jobs(second)
    assert (again["fit"].state, again["fit"].reused_from) == (JobState.SUCCEEDED, fit.id)
    assert (again["fit"].attempts, again["fit"].reason) == (0, EndReason.COMPLETED)
    assert await _outputs(world, again["fit"]) == await _outputs(world, fit)
    assert again["test"].state is JobState.QUEUED
    async with database.read() as session:
        (kept,) = await headlines.of_runs(session, [second])
    assert (kept.name, kept.last, kept.job_id) == ("loss", 0.5, again["fit"].id)
    assert await world.drive() == ["test"]
    assert (await world.run(second)).state is RunState.SUCCEEDED


async def test_a_run_all_of_whose_jobs_are_taken_over_ends_as_it_starts(database: Database) -> None:
    world = await World.make(database, TRAIN)
    steps = [
        _train(),
        _train("test"),
        _train("last", when={"step": "fit", "metric": "loss", "op": "LT", "value": 1}),
    ]
    await _done(world, *steps)
    again = await world.start(written(*steps))
    run = await world.run(again)
    assert (run.state, run.ended_at is not None) == (RunState.SUCCEEDED, True)
    assert await world.claim() == {}
    third = await world.start(written(*steps))
    first_jobs, third_jobs = await world.jobs(again), await world.jobs(third)
    assert [job.reused_from for job in third_jobs.values()] == [
        job.reused_from for job in first_jobs.values()
    ]


@pytest.mark.parametrize(
    ("steps", "values"),
    [
        ([_train(arguments={"rate": 2})], {}),
        ([_train(cache=False)], {}),
        ([_train()], {"cache": False}),
        ([_train()], {"arguments": [("fit", {"rate": 3})]}),
        ([_train()], {"files": "other"}),
        ([_train()], {"resources": [StepResources("fit", workers=2)]}),
        ([_train()], {"resources": [StepResources("fit", gpus=1)]}),
    ],
)
async def test_other_work_is_done(database: Database, steps: list[dict[str, Any]], values: Any) -> None:
    world = await World.make(database, TRAIN)
    await _done(world, _train(), files=[await world.upload("data.csv", "1")])
    name = "other.csv" if "files" in values else "data.csv"
    given = {**values, "files": [await world.upload(name, "1")]}
    run_id = await world.start(written(*steps), **given)
    assert (await world.states(run_id))["fit"] is JobState.QUEUED


async def test_equal_files_make_equal_work_whatever_their_ids(database: Database) -> None:
    world = await World.make(database, TRAIN)
    await _done(world, _train(cache=False), files=[await world.upload("data.csv", "1")])
    same = await world.start(written(_train("renamed")), files=[await world.upload("data.csv", "1")])
    assert (await world.states(same))["renamed"] is JobState.SUCCEEDED
    other = await world.start(written(_train()), files=[await world.upload("data.csv", "2")])
    assert (await world.states(other))["fit"] is JobState.QUEUED
    await world.install(TRAIN)
    newer = await world.start(written(_train()), files=[await world.upload("data.csv", "1")])
    assert (await world.states(newer))["fit"] is JobState.QUEUED


async def test_what_reads_a_place_outside_is_done_each_time(database: Database) -> None:
    world = await World.make(database, TRAIN)
    async with database.begin() as session:
        source = await data_sources.create(session, world.viewer, "web", "https://example.org/train.csv")
    for _ in range(2):
        read = await _done(world, _train(), sources=[source])
        assert (await world.jobs(read))["fit"].attempts == 1
    other = await world.start(written(_train()))
    assert (await world.states(other))["fit"] is JobState.QUEUED


async def test_another_project_a_failure_and_a_deleted_run_are_no_sources(database: Database) -> None:
    world = await World.make(database, function())
    step = {"name": "a", "cache": True}
    failed = await world.start(written(step))
    await world.drive({"a": EndReason.EXIT_CODE})
    done = await _done(world, step)
    assert (await world.jobs(failed))["a"].reused_from is None
    other = await world.add_project("other")
    there = await world.start(await world.draw(written(step), project_id=other))
    assert (await world.states(there))["a"] is JobState.QUEUED
    async with database.begin() as session:
        await deletions.mark(session, world.viewer, done)
    again = await world.start(written(step))
    assert (await world.states(again))["a"] is JobState.QUEUED


async def test_what_was_taken_over_outlives_its_source(database: Database) -> None:
    world = await World.make(database, TRAIN)
    first = await _done(world, _train())
    second = await world.start(written(_train()))
    async with database.begin() as session:
        await deletions.mark(session, world.viewer, first)
    while True:
        async with database.begin() as session:
            if not await deletions.erase(session, first):
                break
    third = await world.start(written(_train(), {**_train("test"), "arguments": {"rate": 9}}))
    kept, again = (await world.jobs(second))["fit"], (await world.jobs(third))["fit"]
    assert (again.state, again.reused_from) == (JobState.SUCCEEDED, kept.id)
    assert await _outputs(world, again) == await _outputs(world, kept)
    (test,) = (await world.claim()).values()
    assert [file.name for file in test.inputs] == ["fit.bin"]
    async with database.read() as session:
        assert await runs.find(session, world.viewer, first) is None
