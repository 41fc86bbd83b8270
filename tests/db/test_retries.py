"""Running again: a retry is the old run to the letter, a rerun the old request with changes."""

from typing import Any

import pytest
from hypothesis import given

from db import errors, pipelines, retries, runs
from db.database import Database
from db.jobs import Direction, files_of
from db.manifests import Option, OptionType
from db.retries import From, RerunSpec, Revised
from db.states import EndReason, JobState, RunState
from db.steps import StepSpec
from db.viewers import Kind, Viewer
from tests.db.test_states import Graph, graphs
from tests.db.world import World, few, function, made, written

TRAIN = function("train", options=(Option("epochs", OptionType.INT, default=3),))
FAILS = EndReason.EXIT_CODE


async def retry(world: World, run_id: bytes, begin: From = From.FAILURE, key: str | None = None) -> bytes:
    async with world.database.begin() as session:
        return await retries.retry(session, world.viewer, run_id, begin, idempotency_key=key)


async def rerun(world: World, run_id: bytes, **values: Any) -> bytes:
    async with world.database.begin() as session:
        return await retries.rerun(session, world.viewer, RerunSpec(run_id, "local", **values))


async def failed(world: World, **values: Any) -> bytes:
    """A run of three steps whose second failed; the first made a file."""
    run_id = await world.start({"a": (), "b": ("a",), "c": ("b",)}, **values)
    await world.end((await world.claim())["a"], EndReason.COMPLETED, made("a.bin"))
    await world.drive({"b": FAILS})
    assert (await world.run(run_id)).state is RunState.FAILED
    return run_id


async def test_from_the_failure_what_succeeded_stands_with_its_outputs(database: Database) -> None:
    world = await World.make(database)
    old = await failed(world)
    new = await retry(world, old)
    before, after = await world.jobs(old), await world.jobs(new)
    assert (await world.run(new)).state is RunState.QUEUED
    assert await world.states(new) == {
        "a": JobState.SUCCEEDED,
        "b": JobState.QUEUED,
        "c": JobState.WAITING,
    }
    assert [after[step].reused_from for step in "abc"] == [before["a"].id, None, None]
    async with database.read() as session:
        handed_on = await files_of(session, [before["a"].id, after["a"].id], Direction.OUTPUT)
        read = await files_of(session, [after["b"].id], Direction.INPUT)
    assert len({row.id for row in handed_on}) == 1 and len(handed_on) == 2
    assert [row.id for row in read] == [handed_on[0].id]
    assert await world.drive() == ["b", "c"]
    run = await world.run(new)
    assert (run.state, run.retry_of) == (RunState.SUCCEEDED, old)
    assert (await world.run(old)).state is RunState.FAILED


async def test_from_the_start_everything_runs_anew(database: Database) -> None:
    world = await World.make(database)
    new = await retry(world, await failed(world), From.START)
    assert {job.reused_from for job in (await world.jobs(new)).values()} == {None}
    assert await world.drive() == ["a", "b", "c"]


async def test_a_retry_keeps_versions_arguments_files_tags_and_name(database: Database) -> None:
    world = await World.make(database, TRAIN)
    file = await world.upload("in.txt")
    pipeline_id = await world.draw({"fit": StepSpec("fit", "ml/train", {"epochs": 5})})
    given = {"name": "n", "tags": [("t", "1")], "priority": 4, "fail_fast": True, "files": [file]}
    old = await world.start(pipeline_id, **given)
    await world.drive({"fit": FAILS})
    await world.install(function("train", options=(Option("epochs", OptionType.INT, default=9),)))
    async with database.begin() as session:
        steps = [StepSpec("fit", "ml/train", {"epochs": 7})]
        await pipelines.revise(session, world.viewer, pipeline_id, steps=steps)
    new = await retry(world, old, From.START)
    (before,), (after,) = (await world.jobs(old)).values(), (await world.jobs(new)).values()
    assert (after.version_id, after.function_id) == (before.version_id, before.function_id)
    assert after.arguments == {"epochs": 5}
    run = await world.run(new)
    assert (run.name, run.priority, run.fail_fast) == ("n", 4, True)
    async with database.read() as session:
        assert [tag.name for tag in await runs.tags_of(session, [new])] == ["t"]
        assert [row.id for row in await runs.files_of(session, [new])] == [file]


async def test_a_retry_of_a_retry_says_which_job_was_executed(database: Database) -> None:
    world = await World.make(database)
    first = await failed(world)
    second = await retry(world, first)
    await world.drive({"b": FAILS})
    third = await retry(world, second)
    assert (await world.jobs(third))["a"].reused_from == (await world.jobs(first))["a"].id
    assert await world.drive() == ["b", "c"]


async def test_only_what_has_ended_and_failed_is_retried_from_its_failure(database: Database) -> None:
    world = await World.make(database)
    going = await world.start({"a": ()})
    with pytest.raises(errors.Conflict, match="QUEUED"):
        await retry(world, going)
    await world.drive()
    with pytest.raises(errors.Invalid, match="nothing of this run failed") as refused:
        await retry(world, going)
    assert refused.value.problems[0].path == ("from",)
    assert await retry(world, going, From.START)


async def test_the_same_key_gives_the_same_retry_and_another_request_is_refused(database: Database) -> None:
    world = await World.make(database)
    old = await failed(world)
    new = await retry(world, old, key="k")
    assert await retry(world, old, key="k") == new
    with pytest.raises(errors.Conflict):
        await retry(world, old, From.START, key="k")
    with pytest.raises(errors.Conflict):
        await rerun(world, old, idempotency_key="k")


async def test_a_jobs_token_retries_nothing(database: Database) -> None:
    world = await World.make(database)
    old = await failed(world)
    viewer = Viewer(Kind.JOB, run_id=old, job_id=(await world.jobs(old))["a"].id, attempt=1)
    with pytest.raises(errors.Forbidden):
        async with database.begin() as session:
            await retries.retry(session, viewer, old, From.START)


async def test_a_rerun_takes_the_old_request_and_the_changes_win(database: Database) -> None:
    world = await World.make(database, TRAIN)
    file = await world.upload("in.txt")
    steps = {name: StepSpec(name, "ml/train", {}, ()) for name in ("fit", "test")}
    pipeline_id = await world.draw(steps)
    asked = [("fit", {"epochs": 5}), ("test", {"epochs": 6})]
    old = await world.start(pipeline_id, arguments=asked, files=[file], tags=[("t", "1")], priority=3)
    new = await rerun(world, old, arguments=[("test", {"epochs": 8})], name="other")
    assert {step: job.arguments["epochs"] for step, job in (await world.jobs(new)).items()} == {
        "fit": 5,
        "test": 8,
    }
    run = await world.run(new)
    assert (run.name, run.priority, run.based_on, run.retry_of) == ("other", 3, old, None)
    async with database.read() as session:
        assert [row.id for row in await runs.files_of(session, [new])] == [file]
    bare = await rerun(world, old, only_these=True, files=[], tags=[], priority=0)
    assert {job.arguments["epochs"] for job in (await world.jobs(bare)).values()} == {3}
    async with database.read() as session:
        assert await runs.files_of(session, [bare]) == await runs.tags_of(session, [bare]) == []


async def test_a_rerun_executes_its_own_revision_or_the_latest(database: Database) -> None:
    world = await World.make(database, TRAIN)
    pipeline_id = await world.draw({"fit": StepSpec("fit", "ml/train", {"epochs": 1})})
    old = await world.start(pipeline_id)
    async with database.begin() as session:
        changed = [StepSpec("fit", "ml/train", {"epochs": 2})]
        await pipelines.revise(session, world.viewer, pipeline_id, steps=changed)
    for revision, epochs in ((Revised.ORIGINAL, 1), (Revised.LATEST, 2)):
        new = await rerun(world, old, revision=revision)
        assert (await world.jobs(new))["fit"].arguments == {"epochs": epochs}


async def test_every_mistake_of_a_rerun_is_told_where_it_was_made(database: Database) -> None:
    world = await World.make(database, TRAIN)
    pipeline_id = await world.draw({"fit": StepSpec("fit", "ml/train", {})})
    old = await world.start(pipeline_id, arguments=[("fit", {"epochs": 5})])
    with pytest.raises(errors.Invalid) as refused:
        await rerun(world, old, arguments=[("fti", {}), ("fit", {"epoch": 1})], priority=9000)
    paths = {".".join(problem.path) for problem in refused.value.problems}
    assert paths == {"arguments.0.step", "arguments.1.arguments.epoch", "priority"}


@few
@given(graph=graphs())
async def test_a_retry_launches_what_failed_and_what_hangs_on_it_and_nothing_else(
    database: Database, graph: Graph
) -> None:
    world = await World.make(database)
    drawn = {f"s{i}": tuple(f"s{need}" for need in needs) for i, (needs, _) in enumerate(graph)}
    old = await world.start(drawn)
    await world.drive({f"s{i}": FAILS for i, (_, end) in enumerate(graph) if end is not JobState.SUCCEEDED})
    left = {step for step, state in (await world.states(old)).items() if state is not JobState.SUCCEEDED}
    if not left:
        return
    new = await retry(world, old)
    assert set(await world.drive()) == left
    assert set((await world.states(new)).values()) == {JobState.SUCCEEDED}


async def test_what_stands_keeps_also_the_files_it_read(database: Database) -> None:
    world = await World.make(database)
    old = await world.start({"a": (), "b": ("a",), "c": ("b",)})
    await world.end((await world.claim())["a"], EndReason.COMPLETED, made("a.bin"))
    await world.drive({"c": FAILS})
    new = await retry(world, old)
    after = await world.jobs(new)
    async with database.read() as session:
        (read,) = await files_of(session, [after["b"].id], Direction.INPUT)
    assert (read.name, read.owner) == ("a.bin", after["b"].id)
    assert await world.drive() == ["c"]


async def test_what_a_condition_skipped_makes_nothing_run_again(database: Database) -> None:
    world = await World.make(database)
    steps = written(
        {"name": "train"},
        {"name": "clean", "when": {"step": "train", "state": "FAILED"}},
        {"name": "tell", "needs": [], "when": {"step": "clean", "state": "SKIPPED"}},
        {"name": "publish", "needs": ["train"]},
    )
    done = await world.start(steps)
    await world.drive()
    with pytest.raises(errors.Invalid, match="nothing of this run failed"):
        await retry(world, done)
    old = await world.start(steps)
    await world.drive({"publish": FAILS})
    new = await retry(world, old)
    assert await world.drive() == ["publish"]
    assert (await world.states(new))["clean"] is JobState.SKIPPED


async def test_from_the_start_also_what_is_cached_runs_anew(database: Database) -> None:
    world = await World.make(database)
    old = await world.start(written({"name": "a", "cache": True}))
    await world.drive()
    await retry(world, old, From.START)
    assert await world.drive() == ["a"]
