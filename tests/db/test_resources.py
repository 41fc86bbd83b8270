"""Resources asked for at the start: they take the place of the function's, and mistakes are all told."""

from dataclasses import replace

import pytest

from db import errors, retries
from db.database import Database
from db.manifests import Resources
from db.resources import StepResources
from db.retries import RerunSpec
from tests.db.world import GIB, World, function

STATED = function("step", workers=1, resources=Resources(1.0, GIB, 0))


async def test_only_what_is_given_takes_the_functions_place(database: Database) -> None:
    world = await World.make(database, STATED, gpus=8)
    given = [StepResources("a", workers=2, gpus=1), StepResources("b", cpus=0.5)]
    run_id = await world.start({"a": (), "b": (), "c": ()}, resources=given)
    launches = await world.claim()
    assert {step: (launch.workers, launch.resources) for step, launch in launches.items()} == {
        "a": (2, Resources(1.0, GIB, 1)),
        "b": (1, Resources(0.5, GIB, 0)),
        "c": (1, Resources(1.0, GIB, 0)),
    }
    assert launches["a"].devices == ((0,), (1,))
    run = await world.run(run_id)
    assert run.resources == [{"step": "a", "workers": 2, "gpus": 1}, {"step": "b", "cpus": 0.5}]


async def test_a_rerun_asks_for_the_same(database: Database) -> None:
    world = await World.make(database, STATED)
    run_id = await world.start({"a": ()}, resources=[StepResources("a", workers=3)])
    async with database.begin() as session:
        again = await retries.rerun(session, world.viewer, RerunSpec(run_id, "local"))
    assert (await world.jobs(again))["a"].workers == 3


async def test_a_rerun_asks_for_something_else(database: Database) -> None:
    world = await World.make(database, STATED)
    run_id = await world.start(
        {"a": (), "b": ()}, resources=[StepResources("a", workers=3), StepResources("b", cpus=0.5)]
    )
    asked = RerunSpec(run_id, "local", resources=[StepResources("a", gpus=1)], idempotency_key="k")
    async with database.begin() as session:
        again = await retries.rerun(session, world.viewer, asked)
    jobs = await world.jobs(again)
    assert (jobs["a"].workers, jobs["a"].gpus, jobs["b"].cpus) == (1, 1, 0.5)
    async with database.begin() as session:
        assert await retries.rerun(session, world.viewer, asked) == again
        with pytest.raises(errors.Conflict):
            await retries.rerun(session, world.viewer, replace(asked, resources=()))


async def test_under_one_key_other_resources_are_another_request(database: Database) -> None:
    world = await World.make(database, STATED)
    pipeline = await world.draw({"a": ()})
    asked = [StepResources("a", workers=2)]
    first = await world.start(pipeline, idempotency_key="k", resources=asked)
    assert await world.start(pipeline, idempotency_key="k", resources=asked) == first
    with pytest.raises(errors.Conflict):
        await world.start(pipeline, idempotency_key="k")


async def test_every_mistake_is_told_with_its_place(database: Database) -> None:
    world = await World.make(database, STATED)
    wrong = [
        StepResources("a", workers=0, cpus=-1.0),
        StepResources("a", memory_bytes=0, gpus=-1),
        StepResources("aa", cpus=float("nan")),
    ]
    with pytest.raises(errors.Invalid) as refused:
        await world.start({"a": ()}, resources=wrong)
    assert [".".join(problem.path) for problem in refused.value.problems] == [
        "resources.0.workers",
        "resources.0.cpus",
        "resources.1.memoryBytes",
        "resources.1.gpus",
        "resources.2.step",
        "resources.2.cpus",
        "resources",
    ]
