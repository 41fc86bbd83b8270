"""Deleting runs: gone at once for everybody, taken away piece by piece, and nothing of others with it."""

from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select, update

from db import (
    attempts,
    batches,
    columns,
    deletions,
    errors,
    feeds,
    jobs,
    listing,
    logs,
    metrics,
    runs,
    summaries,
)
from db.attempts import Attempt
from db.columns import Base
from db.database import Database
from db.externals import External
from db.files import File
from db.lines import Line, blocks_of, pack
from db.logs import Printer
from db.manifests import Option, OptionType
from db.metrics import Chunk
from db.paging import Page
from db.points import Column
from db.runs import Run
from db.states import EndReason
from db.viewers import Kind, Viewer
from tests.db.world import World, few, function, made, origin_of, points_of

OF_RUNS = sorted(entry[0].__tablename__ for entry in deletions._below(b"", 0) if entry[0] is not External)
"""What a run of ours has rows in."""


async def delete(world: World, run_id: bytes) -> None:
    async with world.database.begin() as session:
        await deletions.mark(session, world.viewer, run_id)


async def let_go(world: World) -> None:
    """As a supervisor does once a backend holds nothing of what has ended."""
    async with world.database.begin() as session:
        await session.execute(update(Attempt).where(Attempt.ended_at.is_not(None)).values(removed=True))


async def erase(world: World, most: int = 1000) -> int:
    """As a janitor does, until nothing is left or it dies; how many transactions it took."""
    for count in range(most):
        async with world.database.read() as session:
            marked = await deletions.marked(session)
        if not marked:
            return count
        async with world.database.begin() as session:
            await deletions.erase(session, marked[0])
    return most


async def counts(world: World) -> dict[str, int]:
    """How many rows each table has."""
    async with world.database.read() as session:
        return {
            name: await session.scalar(select(func.count()).select_from(Base.metadata.tables[name]))
            for name in OF_RUNS
        }


async def full(world: World) -> bytes:
    """A run that has ended, with a row of everything."""
    file = await world.upload("in.txt")
    run_id = await world.start({"a": (), "b": ("a",)}, files=[file], tags=[("t", "1")])
    while claimed := await world.claim():
        for step, launch in claimed.items():
            await world.begin(launch)
            origin = await origin_of(world, launch)
            values = np.arange(3, dtype=np.float64)
            column = Column("loss", np.zeros(3, np.int64), values)
            async with world.database.begin() as session:
                head = await feeds.lock(session, launch.feed_id)
                seq = await batches.append(session, head, origin, [column])
                await batches.remember(session, launch.attempt_id, "p", 1, seq)
                printer = Printer(launch.job_id, 1, 0, 0, 0)
                await logs.append(session, head, pack(blocks_of([Line(1, 1, "said")])), printer)
            await world.end(launch, EndReason.COMPLETED, made(f"{step}.bin"))
    async with world.database.read() as session:
        due = await summaries.unpicked(session, run_id)
        pieces = [await summaries.piece(session, each, ended=True) for each in due]
    async with world.database.begin() as session:
        assert all([piece is not None and await summaries.write(session, piece) for piece in pieces])
    await let_go(world)
    return run_id


async def test_everything_below_goes_and_nothing_else(database: Database) -> None:
    world = await World.make(database, function(options=(Option("n", OptionType.INT, default=1),)))
    await full(world)
    before = await counts(world)
    run_id = await full(world)
    during = await counts(world)
    assert [name for name, count in before.items() if not during[name] > count > 0] == []
    await delete(world, run_id)
    await erase(world)
    assert await counts(world) == before
    async with database.read() as session:
        assert await session.scalar(select(func.count()).where(File.run_id == run_id)) == 0


async def test_a_deleted_run_is_hidden_at_once_with_all_that_hangs_below_it(database: Database) -> None:
    world = await World.make(database)
    run_id = await full(world)
    job = (await world.jobs(run_id))["a"]
    launched = await world.attempts(run_id)
    await delete(world, run_id)
    async with database.read() as session:
        assert await runs.find(session, world.viewer, run_id) is None
        assert await runs.find_runs(session, world.viewer, [run_id]) == []
        assert (await listing.list_runs(session, world.viewer, Page(10))).rows == []
        assert await jobs.find_jobs(session, world.viewer, [job.id]) == []
        keys = [attempt.id for attempt in launched]
        assert await attempts.find_attempts(session, world.viewer, keys) == []
        assert await points_of(session, world.viewer, [run_id], ["loss"]) == []
    with pytest.raises(errors.NotFound):
        await delete(world, run_id)


async def test_a_run_that_goes_on_is_not_deleted(database: Database) -> None:
    world = await World.make(database)
    run_id = await world.start({"a": ()})
    with pytest.raises(errors.Conflict, match="QUEUED") as refused:
        await delete(world, run_id)
    assert not refused.value.retryable
    await world.cancel(run_id)
    await delete(world, run_id)


async def test_others_may_not_delete(database: Database) -> None:
    world = await World.make(database)
    run_id = await full(world)
    job = (await world.jobs(run_id))["a"]
    reporter = Viewer(Kind.JOB, run_id=run_id, job_id=job.id, attempt=1)
    stranger = Viewer(Kind.USER, projects=frozenset())
    for viewer, refusal in ((reporter, errors.Forbidden), (stranger, errors.NotFound)):
        with pytest.raises(refusal):
            async with database.begin() as session:
                await deletions.mark(session, viewer, run_id)
    assert await world.run(run_id)


async def test_who_follows_it_comes_to_its_end(database: Database) -> None:
    world = await World.make(database)
    run_id = await full(world)
    feed_id = (await world.run(run_id)).feed_id
    await delete(world, run_id)
    for _ in range(2):
        async with database.read() as session:
            head = await feeds.head(session, feed_id)
        assert head is not None and head.ended and head.floor == head.seq > 0
        await erase(world)


async def test_a_file_that_another_run_uses_stays_as_nobodys_output(database: Database) -> None:
    world = await World.make(database)
    run_id = await full(world)
    async with database.read() as session:
        own = {f.name: f for f in await session.all(File, select(File).where(File.run_id == run_id))}
    other = await world.start({"a": ()}, files=[own["a.bin"].id])
    await delete(world, run_id)
    await erase(world)
    async with database.read() as session:
        left = {f.name: f for f in await session.all(File, select(File))}
        assert [f.id for f in await runs.files_of(session, [other])] == [own["a.bin"].id]
    assert "b.bin" not in left
    assert (left["a.bin"].id, left["a.bin"].run_id, left["a.bin"].job_id) == (own["a.bin"].id, None, None)


async def test_a_file_that_another_derives_from_stays(database: Database) -> None:
    world = await World.make(database)
    run_id = await full(world)
    async with database.begin() as session:
        own = {f.name: f for f in await session.all(File, select(File).where(File.run_id == run_id))}
        derived = update(File).where(File.run_id.is_(None)).values(derived_from=own["b.bin"].id)
        await session.execute(derived)
        chain = update(File).where(File.id == own["b.bin"].id).values(derived_from=own["a.bin"].id)
        await session.execute(chain)
    await delete(world, run_id)
    await erase(world)
    async with database.read() as session:
        assert {f.name for f in await session.all(File, select(File))} == {"in.txt", "a.bin", "b.bin"}


async def test_runs_that_point_at_it_stay_and_point_at_nothing(database: Database) -> None:
    world = await World.make(database)
    run_id, other = await full(world), await full(world)
    async with database.begin() as session:
        pointing = update(Run).where(Run.id == other)
        await session.execute(pointing.values(retry_of=run_id, parent_id=run_id))
    await delete(world, run_id)
    await erase(world)
    row = await world.run(other)
    assert (row.retry_of, row.parent_id) == (None, None)


async def test_its_key_is_free_again(database: Database) -> None:
    world = await World.make(database)
    pipeline_id = await world.draw({"a": ()})
    first = await world.start(pipeline_id, idempotency_key="k")
    await world.cancel(first)
    await delete(world, first)
    assert await world.start(pipeline_id, idempotency_key="k", priority=3) != first


async def test_a_run_waits_for_its_backend_to_let_go_but_not_for_ever(database: Database) -> None:
    world = await World.make(database)
    run_id = await world.start({"a": ()})
    await world.drive()
    await delete(world, run_id)
    async with database.read() as session:
        assert await deletions.marked(session) == []
        assert await deletions.marked(session, now=columns.now() + timedelta(hours=2)) == [run_id]
    await let_go(world)
    async with database.read() as session:
        assert await deletions.marked(session) == [run_id]


async def test_a_run_of_many_points_goes_in_bounded_pieces(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "ERASED_POINTS", 4)
    world = await World.make(database)
    run_id = await full(world)
    feed_id = (await world.run(run_id)).feed_id
    await delete(world, run_id)
    left = select(func.sum(Chunk.points)).where(Chunk.feed_id == feed_id)
    async with database.begin() as session:
        await deletions.erase(session, run_id)
    async with database.read() as session:
        assert await session.scalar(left) is None, "3 points are less than 4, so a second chunk goes with it"


@few
@given(dies_after=st.lists(st.integers(0, 4), max_size=5), rows=st.integers(1, 3))
async def test_whatever_interrupts_it_the_next_one_goes_on(
    database: Database, dies_after: list[int], rows: int
) -> None:
    world = await World.make(database)
    run_id = await full(world)
    await delete(world, run_id)
    with pytest.MonkeyPatch.context() as small:
        small.setattr(deletions, "_ROWS", rows)
        for transactions in dies_after:
            await erase(world, transactions)
            with pytest.raises(RuntimeError):
                async with database.begin() as session:
                    await deletions.erase(session, run_id)
                    raise RuntimeError("the process died in the middle of a piece")
        await erase(world)
    async with database.read() as session:
        assert await session.scalar(select(func.count()).select_from(Run).where(Run.id == run_id)) == 0
        assert await deletions.marked(session) == []


def test_every_table_below_a_run_is_known() -> None:
    """A table of another aggregate that cannot be without a run's row is named in `_below`, or cascades."""
    known = {entry[0].__table__.name for entry in deletions._below(b"", 0)} | {"metric_chunks", "runs"}
    owned = {
        table.name
        for table in Base.metadata.sorted_tables
        for key in table.foreign_keys
        if key.column.table.name in known and not key.parent.nullable and key.ondelete != "CASCADE"
    }
    assert owned <= known
