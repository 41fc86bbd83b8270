"""External runs: reported from outside, LOST when nothing is heard, and going on when something is again."""

import itertools
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import update

from db import (
    attempts,
    columns,
    errors,
    external_reports,
    externals,
    feeds,
    files,
    ingest,
    jobs,
    logs,
    reporting,
)
from db.database import Database
from db.externals import External, ExternalSpec
from db.jobs import Direction
from db.lines import Line
from db.paging import Page
from db.points import Column
from db.states import EndReason, JobState, RunState, WorkerPhase
from db.viewers import Kind, Viewer
from tests.db.test_deletions import delete, erase
from tests.db.world import World, few

S = JobState
LATER = timedelta(hours=1)


async def create(world: World, **values: Any) -> tuple[bytes, jobs.Job]:
    """An external run and its job."""
    spec = ExternalSpec(**{"name": "outside", **values})
    async with world.database.begin() as session:
        run_id = await externals.create(session, world.viewer, spec)
    (job,) = (await world.jobs(run_id)).values()
    return run_id, job


def reporter(job: jobs.Job, attempt: int = 1) -> Viewer:
    return Viewer(Kind.JOB, run_id=job.run_id, job_id=job.id, attempt=attempt)


async def beat(world: World, job: jobs.Job) -> bool:
    async with world.database.begin() as session:
        return await external_reports.heartbeat(session, reporter(job), job.id)


async def measure(world: World, job: jobs.Job, number: int = 1) -> tuple[int, bool]:
    column = Column("loss", np.zeros(1, np.int64), np.ones(1))
    batch = reporting.Batch(reporter(job), job.id, 0, "p", number, [column])
    return await ingest.Ingest(world.database).add(batch)


async def say(world: World, job: jobs.Job, *texts: str, number: int = 1) -> tuple[int, bool]:
    given = [Line(5, 1, text) for text in texts]
    async with world.database.begin() as session:
        return await external_reports.log_lines(session, reporter(job), job.id, "p", number, given)


async def finish(world: World, job: jobs.Job, state: JobState = S.SUCCEEDED, **values: Any) -> None:
    async with world.database.begin() as session:
        await external_reports.finish(session, reporter(job), job.id, state, **values)


async def expire(world: World, now: datetime) -> list[bytes]:
    """As a janitor does at some time; what it ended."""
    async with world.database.read() as session:
        due = await externals.due(session, now=now)
    for run_id in due:
        async with world.database.begin() as session:
            assert await externals.expire(session, run_id, now=now)
    return due


async def test_it_runs_from_the_start_and_ends_as_its_reporter_says(database: Database) -> None:
    world = await World.make(database)
    run_id, job = await create(world, step="train", tags=[("a", "1")], notes="on the cluster")
    run = await world.run(run_id)
    assert (run.state, run.external, run.notes, run.pipeline_id) == (
        RunState.RUNNING,
        True,
        "on the cluster",
        None,
    )
    assert (job.step, job.state) == ("train", S.RUNNING)
    assert await world.claim() == {}
    assert not (await measure(world, job))[1] and (await measure(world, job))[1]
    assert not (await say(world, job, "one", "two\nthree"))[1] and (await say(world, job, "again"))[1]
    await finish(world, job, S.FAILED, message="no memory", exit_code=137)
    run, (job,) = await world.run(run_id), (await world.jobs(run_id)).values()
    assert (run.state, job.state, job.reason) == (RunState.FAILED, S.FAILED, EndReason.EXIT_CODE)
    assert (job.message, job.exit_code) == ("no memory", 137)
    async with database.read() as session:
        told = await logs.of_job(session, job.id, Page(10))
        head = await feeds.head(session, run.feed_id)
    assert [placed.line.text for placed in told.rows] == ["one", "two", "three"]
    assert head is not None and head.ended


async def test_silence_makes_it_lost_and_a_late_report_corrects_that(database: Database) -> None:
    world = await World.make(database)
    run_id, job = await create(world, heartbeat_seconds=10.0)
    assert await expire(world, columns.now() + timedelta(seconds=29)) == []
    assert await expire(world, columns.now() + timedelta(seconds=31)) == [run_id]
    (lost,) = (await world.jobs(run_id)).values()
    assert (lost.state, lost.reason) == (S.FAILED, EndReason.LOST)
    assert lost.message == "nothing was heard of it for 30 s"
    assert (await world.run(run_id)).state is RunState.FAILED
    assert await expire(world, columns.now() + LATER) == []
    await measure(world, job)
    run, (back,) = await world.run(run_id), (await world.jobs(run_id)).values()
    assert (run.state, run.ended_at) == (RunState.RUNNING, None)
    assert (back.state, back.reason, back.ended_at, back.message) == (S.RUNNING, None, None, None)
    assert (await world.attempts(run_id))[0].ended_at is None
    said = [event.data.get("message") for event in await world.events(run_id)]
    assert "reported again after it was taken for lost" in said
    async with database.read() as session:
        head = await feeds.head(session, run.feed_id)
    assert head is not None and not head.ended
    await finish(world, job)
    assert (await world.run(run_id)).state is RunState.SUCCEEDED


async def test_a_late_end_is_taken_for_what_it_says(database: Database) -> None:
    world = await World.make(database)
    run_id, job = await create(world)
    await expire(world, columns.now() + LATER)
    await finish(world, job)
    assert (await world.run(run_id)).state is RunState.SUCCEEDED


async def test_nothing_brings_a_deleted_run_back(database: Database) -> None:
    world = await World.make(database)
    run_id, job = await create(world)
    await expire(world, columns.now() + LATER)
    await delete(world, run_id)
    for report in (beat(world, job), measure(world, job), say(world, job, "x"), finish(world, job)):
        with pytest.raises(errors.Conflict):
            await report
    (still,) = (await world.jobs(run_id)).values()
    assert (still.state, still.reason) == (S.FAILED, EndReason.LOST)


async def test_any_report_is_a_sign_of_life(database: Database) -> None:
    world = await World.make(database)
    run_id, job = await create(world, heartbeat_seconds=1.0)
    for index, report in enumerate((beat(world, job), measure(world, job), say(world, job, "x"))):
        async with database.begin() as session:
            past = columns.now() + timedelta(seconds=0.1 * index)
            await session.execute(update(External).values(expires_at=past))
        await report
        async with database.read() as session:
            assert (await externals.get(session, run_id)).expires_at > columns.now() + timedelta(seconds=2)  # type: ignore[operator]


async def test_who_is_asked_to_stop_hears_of_it_and_has_the_grace_period(database: Database) -> None:
    world = await World.make(database)
    run_id, job = await create(world, heartbeat_seconds=10.0)
    assert not await beat(world, job)
    await world.cancel(run_id, grace_seconds=20.0)
    assert (await world.run(run_id)).state is RunState.CANCELLING
    assert await beat(world, job)
    assert await expire(world, columns.now() + timedelta(seconds=29)) == []
    assert await expire(world, columns.now() + timedelta(seconds=31)) == [run_id]
    assert (await world.run(run_id)).state is RunState.CANCELLED
    with pytest.raises(errors.Conflict, match="CANCELLED"):
        await beat(world, job)


async def test_what_was_asked_to_stop_ends_cancelled_whatever_it_says(database: Database) -> None:
    world = await World.make(database)
    run_id, job = await create(world)
    await world.cancel(run_id)
    await finish(world, job, S.SUCCEEDED)
    await finish(world, job, S.SUCCEEDED)
    assert (await world.run(run_id)).state is RunState.CANCELLED


async def test_an_end_is_told_once_and_no_other_follows(database: Database) -> None:
    world = await World.make(database)
    run_id, job = await create(world)
    await finish(world, job)
    seq = (await world.run(run_id)).seq
    await finish(world, job)
    assert (await world.run(run_id)).seq == seq
    with pytest.raises(errors.Conflict, match="SUCCEEDED"):
        await finish(world, job, S.FAILED)
    for report in (measure(world, job), say(world, job, "x"), beat(world, job)):
        with pytest.raises(errors.Conflict):
            await report


async def test_only_its_own_token_and_writers_report(database: Database) -> None:
    world = await World.make(database)
    _, job = await create(world)
    _, other = await create(world)
    strangers = Viewer(Kind.USER, projects=frozenset())
    for viewer in (reporter(other), strangers):
        with pytest.raises(errors.NotFound, match="there is no job job_"):
            async with database.begin() as session:
                await external_reports.heartbeat(session, viewer, job.id)
    async with database.begin() as session:
        assert not await external_reports.heartbeat(session, world.viewer, job.id)
        with pytest.raises(errors.NotFound):
            await external_reports.heartbeat(session, world.viewer, b"?" * 16)


async def test_a_job_of_ours_is_not_reported_so(database: Database) -> None:
    world = await World.make(database)
    run_id = await world.start({"a": ()})
    await world.begin((await world.claim())["a"])
    job = (await world.jobs(run_id))["a"]
    with pytest.raises(errors.Invalid, match="launched here"):
        await say(world, job, "x")


async def test_uploads_become_outputs_and_go_with_the_run(database: Database) -> None:
    world = await World.make(database)
    run_id, job = await create(world)
    one, two = await world.upload("a"), await world.upload("b")
    async with database.begin() as session:
        await external_reports.add_outputs(session, world.viewer, job.id, [one])
        await external_reports.add_outputs(session, world.viewer, job.id, [one, two])
        with pytest.raises(errors.Forbidden):
            await external_reports.add_outputs(session, reporter(job), job.id, [one])
        with pytest.raises(errors.NotFound):
            await external_reports.add_outputs(session, world.viewer, job.id, [b"?" * 16])
    async with database.read() as session:
        listed = await jobs.files_of(session, [job.id], Direction.OUTPUT)
    assert [(row.id, row.job_id) for row in listed] == [(one, job.id), (two, job.id)]
    await finish(world, job)
    await delete(world, run_id)
    await erase(world)
    async with database.read() as session:
        assert await files.find_files(session, world.viewer, [one, two]) == []


async def test_the_same_key_gives_the_same_run(database: Database) -> None:
    world = await World.make(database)
    run_id, _ = await create(world, idempotency_key="k")
    assert (await create(world, idempotency_key="k"))[0] == run_id
    with pytest.raises(errors.Conflict):
        await create(world, idempotency_key="k", name="other")


async def test_every_mistake_is_told_at_once(database: Database) -> None:
    world = await World.make(database)
    with pytest.raises(errors.Invalid) as refused:
        await create(world, name="", step="", heartbeat_seconds=0.0, tags=[("", "")], notes="\0")
    paths = {".".join(problem.path) for problem in refused.value.problems}
    assert paths == {"name", "step", "notes", "tags.0", "heartbeatSeconds"}


DEEDS = st.lists(
    st.sampled_from(["beat", "measure", "say", "expire", "cancel", "succeed", "fail"]),
    min_size=1,
    max_size=10,
)


@few
@given(deeds=DEEDS)
async def test_however_reports_silence_and_ends_follow_one_another_all_rows_agree(
    database: Database, deeds: list[str]
) -> None:
    """Against a model of four words: running, cancelling, lost, or ended for good."""
    world = await World.make(database)
    run_id, job = await create(world)
    model = S.RUNNING
    lost = asked = False
    for number, deed in enumerate(deeds, 1):
        over = model in (S.SUCCEEDED, S.FAILED, S.CANCELLED) and not lost
        if deed == "expire":
            await expire(world, columns.now() + LATER)
            if not over and not lost:
                model, lost = (S.CANCELLED, False) if asked else (S.FAILED, True)
        elif deed == "cancel":
            await world.cancel(run_id)
            if not over and not lost:
                asked, model = True, S.CANCELLING
        elif deed in ("succeed", "fail"):
            said = S.SUCCEEDED if deed == "succeed" else S.FAILED
            if over and model not in (said, S.CANCELLED):
                with pytest.raises(errors.Conflict):
                    await finish(world, job, said)
            else:
                await finish(world, job, said)
            if not over:
                model, lost = (S.CANCELLED if asked else said), False
        else:
            report = {"beat": beat(world, job), "measure": measure(world, job, number)}
            report["say"] = say(world, job, "x", number=number)
            wanted = report.pop(deed)
            for unwanted in report.values():
                unwanted.close()
            if over:
                with pytest.raises(errors.Conflict):
                    await wanted
            else:
                await wanted
                model, lost = (S.CANCELLING if asked else S.RUNNING), False
        await _require_agreement(world, run_id, model, lost)


async def _require_agreement(world: World, run_id: bytes, model: JobState, lost: bool) -> None:
    run, (job,) = await world.run(run_id), (await world.jobs(run_id)).values()
    (attempt,) = await world.attempts(run_id)
    async with world.database.read() as session:
        (worker,) = await attempts.workers_of(session, [attempt.id])
        external = await externals.get(session, run_id)
        head = await feeds.head(session, run.feed_id)
    live = model in (S.RUNNING, S.CANCELLING)
    assert (job.state, run.state.value) == (model, model.value)
    assert (job.reason is EndReason.LOST) is lost
    ended = [job.ended_at, run.ended_at, attempt.ended_at, worker.ended_at]
    assert [at is None for at in ended] == [live] * 4
    assert (worker.phase is WorkerPhase.RUNNING) is live
    assert (external.expires_at is not None) is live
    assert head is not None and head.ended is not live
    states = [e.data["state"] for e in await world.events(run_id) if e.subject is feeds.Subject.RUN]
    assert states[-1] == model.value
    assert all(a != b for a, b in itertools.pairwise(states))
