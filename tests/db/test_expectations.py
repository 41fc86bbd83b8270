"""How long runs still take: from what the same steps took before, along the longest way, or unknown."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text, update

from db import expectations
from db.database import Database
from db.expectations import Expected, expect
from db.jobs import Job
from db.states import TERMINAL_JOB, JobState
from tests.db.test_schema import _plan
from tests.db.world import World

NOW = datetime(2026, 1, 1, tzinfo=UTC)
S = JobState


async def took(world: World, pipeline_id: bytes, **seconds: float) -> bytes:
    """A run of this pipeline that succeeded, its steps in so many seconds."""
    run_id = await world.start(pipeline_id)
    await world.drive()
    async with world.database.begin() as session:
        for step, spent in seconds.items():
            ours = update(Job).where(Job.run_id == run_id, Job.step == step)
            await session.execute(ours.values(started_at=NOW, ended_at=NOW + timedelta(seconds=spent)))
    return run_id


async def expected(world: World, *runs: bytes, now: datetime = NOW) -> dict[bytes, Expected]:
    async with world.database.read() as session:
        return await expectations.of_runs(session, runs, now=now)


async def test_a_run_takes_its_longest_way_at_the_median_of_former_ones(database: Database) -> None:
    world = await World.make(database)
    pipeline_id = await world.draw({"a": (), "b": ("a",), "c": ("a",)})
    for a in (1.0, 2.0, 90.0):
        await took(world, pipeline_id, a=a, b=10.0, c=30.0)
    run_id = await world.start(pipeline_id)
    members = await world.jobs(run_id)
    (found,) = (await expected(world, run_id)).values()
    assert found.seconds == 32.0
    assert found.jobs == {members["a"].id: 2.0, members["b"].id: 12.0, members["c"].id: 32.0}
    claimed = await world.claim()
    await world.begin(claimed["a"])
    async with database.begin() as session:
        await session.execute(update(Job).where(Job.id == members["a"].id).values(started_at=NOW))
    for passed, left in ((1.5, 30.5), (60.0, 30.0)):
        assert (await expected(world, run_id, now=NOW + timedelta(seconds=passed)))[run_id].seconds == left
    await world.end(claimed["a"])
    assert (await expected(world, run_id))[run_id].seconds == 30.0


async def test_what_never_succeeded_is_unknown_and_what_has_ended_left_out(database: Database) -> None:
    world = await World.make(database)
    pipeline_id = await world.draw({"a": (), "b": ("a",)})
    run_id, other = await world.start(pipeline_id), await world.start({"a": ()})
    assert [found.seconds for found in (await expected(world, run_id, other)).values()] == [None, None]
    await world.cancel(run_id)
    assert run_id not in await expected(world, run_id)


async def test_only_the_last_ones_count(database: Database) -> None:
    world = await World.make(database)
    pipeline_id = await world.draw({"a": ()})
    await took(world, pipeline_id, a=1000.0)
    for _ in range(expectations.SAMPLES):
        await took(world, pipeline_id, a=7.0)
    run_id = await world.start(pipeline_id)
    assert (await expected(world, run_id))[run_id].seconds == 7.0
    async with database.read() as session:
        if session.postgresql:
            await session.execute(text("SET LOCAL enable_seqscan = off"))
            await session.execute(text("SET LOCAL enable_bitmapscan = off"))
        plan = await _plan(session, expectations._last((b"", "a")))
    assert "ix_jobs_succeeded" in plan


def job(position: int, state: JobState = S.WAITING, needs: tuple[int, ...] = (), **values: Any) -> Any:
    about = {"id": bytes([position]), "pipeline_id": b"p", "step": f"s{position}", "started_at": None}
    return SimpleNamespace(
        **{**about, "position": position, "state": state, "needs": needs, "awaits": (), **values}
    )


@given(st.data())
def test_no_end_comes_before_what_it_waits_for(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 7))
    jobs = [
        job(
            i,
            data.draw(st.sampled_from([S.WAITING, S.QUEUED, S.RUNNING, S.SUCCEEDED])),
            tuple(data.draw(st.sets(st.integers(0, i - 1), max_size=3))) if i else (),
            started_at=NOW,
        )
        for i in range(size)
    ]
    seconds = st.floats(0, 1e6)
    usual: Any = {(b"p", f"s{i}"): data.draw(seconds) for i in range(size) if data.draw(st.booleans())}
    found = expect(jobs, usual, NOW + timedelta(seconds=data.draw(seconds)))
    assert found.jobs.keys() == {one.id for one in jobs if one.state not in TERMINAL_JOB}
    for one in jobs:
        end = found.jobs.get(one.id)
        waited = [found.jobs.get(bytes([need])) for need in one.needs if bytes([need]) in found.jobs]
        if end is not None:
            assert end >= max([0.0, *(other for other in waited if other is not None)])
            assert None not in waited and (b"p", one.step) in usual
    if found.jobs:
        known = [end for end in found.jobs.values() if end is not None]
        assert found.seconds == (max(known) if len(known) == len(found.jobs) else None)
