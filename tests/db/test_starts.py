"""Starting a run: all of it or nothing, every mistake told at once, and frozen from then on."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import func, select

from db import backends, errors, files, forecasts, manifests, pipelines, starts
from db.database import Database
from db.feeds import Feed
from db.jobs import Job
from db.manifests import Option, OptionType
from db.runs import Run
from db.starts import StartSpec
from db.states import JobState, RunState
from db.steps import StepSpec
from db.viewers import Kind, Viewer
from tests.db.world import World, function, written

TRAIN = function(
    "train",
    options=(
        Option("epochs", OptionType.INT, default=3, minimum=1),
        Option("rate", OptionType.FLOAT, required=True),
    ),
    retries=2,
    workers=2,
)


def _step(name: str, needs: tuple[str, ...] | None = None, **arguments: Any) -> StepSpec:
    return StepSpec(name, "ml/train", arguments, needs)


async def _problems(world: World, pipeline_id: bytes, **values: Any) -> dict[str, str]:
    with pytest.raises(errors.Invalid) as refused:
        await world.start(pipeline_id, **values)
    return {".".join(problem.path): problem.message for problem in refused.value.problems}


async def _count(database: Database, table: type[Any]) -> int:
    async with database.read() as session:
        count: int = await session.scalar(select(func.count()).select_from(table))
    return count


async def test_a_start_queues_what_needs_nothing_and_freezes_arguments_with_defaults(
    database: Database,
) -> None:
    world = await World.make(database, TRAIN)
    pipeline_id = await world.draw({"fit": _step("fit", rate=1), "test": _step("test", rate=0.5, epochs=1)})
    run_id = await world.start(pipeline_id, arguments=[("fit", {"epochs": 9})], tags=[("team", "a")])
    run, jobs = await world.run(run_id), await world.jobs(run_id)
    assert run.state is RunState.QUEUED and run.started_at is None
    assert {name: job.state for name, job in jobs.items()} == {
        "fit": JobState.QUEUED,
        "test": JobState.WAITING,
    }
    assert jobs["fit"].arguments == {"epochs": 9, "rate": 1.0}
    assert jobs["test"].arguments == {"epochs": 1, "rate": 0.5}
    assert (jobs["fit"].workers, jobs["fit"].retries) == (2, 2)


async def test_a_started_run_keeps_its_version_and_revision_whatever_changes_later(
    database: Database,
) -> None:
    world = await World.make(database, TRAIN)
    pipeline_id = await world.draw({"fit": _step("fit", rate=1.0)})
    before = await world.start(pipeline_id)
    version = (await world.jobs(before))["fit"].version_id
    await world.install(TRAIN)
    async with database.begin() as session:
        changed = [_step("fit", rate=2.0), _step("more", rate=3.0)]
        await pipelines.revise(session, world.viewer, pipeline_id, steps=changed)
    after = await world.start(pipeline_id)
    old, new = await world.jobs(before), await world.jobs(after)
    assert (list(old), old["fit"].arguments["rate"], old["fit"].version_id) == (["fit"], 1.0, version)
    assert (list(new), new["fit"].arguments["rate"]) == (["fit", "more"], 2.0)
    assert new["fit"].version_id != version


async def test_an_earlier_revision_can_be_started_and_one_of_another_pipeline_not(database: Database) -> None:
    world = await World.make(database)
    pipeline_id, other = await world.draw({"a": ()}), await world.draw({"z": ()})
    before = await world.run(await world.start(pipeline_id))
    async with database.begin() as session:
        await pipelines.revise(session, world.viewer, pipeline_id, steps=[StepSpec("b", "ml/step", {})])
    again = await world.start(pipeline_id, revision_id=before.revision_id, idempotency_key="k")
    assert list(await world.jobs(again)) == ["a"]
    assert (await world.run(again)).revision_id == before.revision_id
    with pytest.raises(errors.Conflict):
        await world.start(pipeline_id, idempotency_key="k")
    with pytest.raises(errors.NotFound):
        await world.start(other, revision_id=before.revision_id)


async def test_every_mistake_is_told_at_once_where_it_is(database: Database) -> None:
    world = await World.make(database, TRAIN)
    pipeline_id = await world.draw({"fit": _step("fit", rate=1.0)})
    problems = await _problems(
        world,
        pipeline_id,
        backend="locl",
        priority=5000,
        name="",
        tags=[("a", "1"), ("a", "2"), ("", "3")],
        files=[b"?" * 16],
        arguments=[("fit", {"epochs": 0, "rat": 1.0}), ("fti", {})],
    )
    assert set(problems) == {
        "backend",
        "priority",
        "name",
        "tags",
        "tags.2",
        "files.0",
        "arguments.0.arguments.epochs",
        "arguments.0.arguments.rat",
        "arguments.1.step",
    }
    assert "did you mean 'fit'" in problems["arguments.1.step"]
    assert "did you mean 'rate'" in problems["arguments.0.arguments.rat"]
    assert await _count(database, Run) == await _count(database, Job) == 0


async def test_what_a_pipeline_leaves_open_a_run_has_to_say(database: Database) -> None:
    world = await World.make(database, TRAIN)
    pipeline_id = await world.draw({"fit": _step("fit"), "test": _step("test", rate=None, epochs=2)})
    problems = await _problems(world, pipeline_id, arguments=[("test", {"epochs": 1})])
    assert problems == {
        "arguments.rate": "fit: rate is required (float)",
        "arguments.0.arguments.rate": "test: rate is required (float)",
    }
    async with database.read() as session:
        spec = StartSpec(pipeline_id=pipeline_id, backend="local", arguments=[("fit", {"rate": 1.0})])
        forecast = await forecasts.make(session, world.viewer, spec)
    assert [problem.message for problem in forecast.problems] == ["test: rate is required (float)"]
    run_id = await world.start(pipeline_id, arguments=[("fit", {"rate": 1.0}), ("test", {"rate": 2})])
    jobs = await world.jobs(run_id)
    assert [jobs[name].arguments["rate"] for name in ("fit", "test")] == [1.0, 2.0]


async def test_a_file_must_be_ready_and_given_once(database: Database) -> None:
    world = await World.make(database)
    pipeline_id = await world.draw({"a": ()})
    ready = await world.upload("a.txt")
    async with database.begin() as session:
        unready = await files.create_upload(session, world.viewer, "b.txt", 3)
    problems = await _problems(world, pipeline_id, files=[ready, unready, ready])
    assert set(problems) == {"files.1", "files.2"}
    assert "b.txt" in problems["files.1"] and "twice" in problems["files.2"]


async def test_a_refused_start_leaves_nothing_behind(database: Database) -> None:
    world = await World.make(database)
    pipeline_id = await world.draw({"a": ()})
    feeds_before = await _count(database, Feed)
    await _problems(world, pipeline_id, backend="elsewhere", idempotency_key="k")
    assert await _count(database, Feed) == feeds_before
    assert await world.start(pipeline_id, idempotency_key="k")


async def test_an_unknown_pipeline_is_not_found_and_a_strangers_too(database: Database) -> None:
    world = await World.make(database)
    pipeline_id = await world.draw({"a": ()})
    with pytest.raises(errors.NotFound):
        await world.start(b"?" * 16)
    stranger = Viewer(Kind.USER, projects=frozenset())
    with pytest.raises(errors.NotFound):
        async with database.begin() as session:
            await starts.start(session, stranger, StartSpec(pipeline_id=pipeline_id, backend="local"))


async def test_the_same_key_and_input_give_the_same_run(database: Database) -> None:
    world = await World.make(database, TRAIN)
    pipeline_id = await world.draw({"fit": _step("fit", rate=1.0), "test": _step("test", rate=1.0)})
    one = [("fit", {"rate": 2, "epochs": 1}), ("test", {"epochs": 2})]
    other = [("test", {"epochs": 2}), ("fit", {"epochs": 1, "rate": 2})]
    first = await world.start(pipeline_id, idempotency_key="k", arguments=one, tags=[("a", "1"), ("b", "2")])
    again = await world.start(
        pipeline_id, idempotency_key="k", arguments=other, tags=[("b", "2"), ("a", "1")]
    )
    assert first == again
    assert await _count(database, Run) == 1


@pytest.mark.parametrize(
    "values",
    [
        {"backend": "elsewhere"},
        {"priority": 1},
        {"name": "x"},
        {"fail_fast": True},
        {"tags": [("a", "1")]},
        {"arguments": [("a", {"n": 1})]},
        {"arguments": [("a", {"n": 1}), ("a", {"n": "1"})]},
        {"arguments": [("a", {"n": 2**80, "text": "\ud800", "ratio": float("nan")})]},
    ],
)
async def test_the_same_key_with_another_input_is_a_conflict(
    database: Database, values: dict[str, Any]
) -> None:
    world = await World.make(database)
    pipeline_id = await world.draw({"a": ()})
    await world.start(pipeline_id, idempotency_key="k")
    with pytest.raises(errors.Conflict) as refused:
        await world.start(pipeline_id, idempotency_key="k", **values)
    assert refused.value.problems[0].path == ("idempotencyKey",)


@pytest.mark.parametrize("key", ["", "k" * 201, "a\0b", "\ud800"])
async def test_a_key_that_cannot_be_kept_is_refused(database: Database, key: str) -> None:
    world = await World.make(database)
    with pytest.raises(errors.Invalid):
        await world.start({"a": ()}, idempotency_key=key)


async def test_a_key_belongs_to_its_project(database: Database) -> None:
    world = await World.make(database)
    other = await world.add_project("other")
    here = await world.draw({"a": ()})
    there = await world.draw({"a": ()}, project_id=other)
    assert await world.start(here, idempotency_key="k") != await world.start(there, idempotency_key="k")


async def test_concurrent_first_requests_under_one_key_start_one_run(database: Database) -> None:
    world = await World.make(database)
    pipeline_id = await world.draw({"a": ()})
    started = await asyncio.gather(*(world.start(pipeline_id, idempotency_key="k") for _ in range(8)))
    assert len(set(started)) == 1
    assert await _count(database, Run) == 1


async def test_a_start_does_not_wait_for_a_claim_on_its_backend(postgresql: Database) -> None:
    world = await World.make(postgresql)
    pipeline_id = await world.draw({"a": ()})
    async with postgresql.begin() as claiming:
        await backends.lock(claiming, world.backend.id)
        async with asyncio.timeout(60):
            await world.start(pipeline_id)


async def test_a_function_that_has_gone_is_named(database: Database) -> None:
    world = await World.make(database, function("train"), function("test"))
    pipeline_id = await world.draw(
        {"fit": StepSpec("fit", "ml/train", {}), "b": StepSpec("b", "ml/test", {})}
    )
    await world.install(function("trains"))
    problems = await _problems(world, pipeline_id)
    assert "fit" in problems["pipeline"] or "b" in problems["pipeline"]


async def test_a_failure_found_in_the_same_moment_stops_what_was_just_queued(database: Database) -> None:
    world = await World.make(database, function(), function("reader", accepts=(manifests.Accept(),)))
    steps = written(
        {"name": "fine", "needs": []},
        {"name": "good", "needs": []},
        {"name": "read", "needs": [], "function": "ml/reader", "inputs": [{"files": "*"}]},
    )
    run_id = await world.start(steps, fail_fast=True)
    jobs = await world.jobs(run_id)
    assert {name: job.state.value for name, job in jobs.items()} == {
        "fine": "SKIPPED",
        "good": "SKIPPED",
        "read": "FAILED",
    }
    assert (await world.run(run_id)).state.value == "FAILED"
    assert await world.claim() == {}
