"""Group commit: whatever meets whatever, a batch is kept whole or not at all, once, under a number without gaps."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select
from sqlalchemy.exc import DisconnectionError

from db import errors, headlines
from db.bus import Bus
from db.claims import Launch
from db.database import Database
from db.feeds import Event, Feed
from db.ingest import MOST_CALLERS, MOST_POINTS, Ingest
from db.metrics import Chunk, Series
from db.points import Column, Origin, extremes
from db.reporting import Added, Batch
from db.sqlite import Writer
from db.viewers import Kind, Viewer
from tests.db.world import ROOMY, World, few

NAMES = ("a", "b")


def columns_of(producer: int, number: int, sizes: tuple[int, int]) -> list[Column]:
    """Columns that tell by their values whose they are."""
    mark = producer * 1000.0 + number
    return [
        Column(name, np.arange(size), np.full(size, mark), np.full(size, number % 3, np.int64))
        for name, size in zip(NAMES, sizes, strict=True)
    ]


@dataclass(frozen=True)
class Deed:
    """A batch as one producer sends it, until it is answered: refused, or told again and again."""

    sizes: tuple[int, int]
    job: int = 0
    wrong: str | None = None
    cancelled_after: int | None = None
    repeats: int = 0


deeds = st.builds(
    Deed,
    sizes=st.tuples(st.integers(0, 2), st.integers(1, 2)),
    job=st.integers(0, 1),
    wrong=st.sampled_from([None, None, None, None, "viewer", "rank", "job", "attempt"]),
    cancelled_after=st.none() | st.integers(0, 12),
    repeats=st.integers(0, 2),
)
failures = st.lists(st.sampled_from(["no", "no", "before", "after"]), max_size=6)


@contextmanager
def failing_commits(database: Database, told: list[str]) -> Iterator[None]:
    """The next commits fail as told: before the database has heard of it, or after it has carried it out."""
    engine: Any = database._writer
    dialect: Any = (engine.engine if isinstance(engine, Writer) else engine.sync_engine).dialect
    commit, left = dialect.do_commit, list(told)

    def fail(connection: Any) -> None:
        how = left.pop(0) if left else "no"
        if how != "before":
            commit(connection)
        if how != "no":
            raise DisconnectionError("the line went dead")

    dialect.do_commit = fail
    try:
        yield
    finally:
        del dialect.do_commit


@asynccontextmanager
async def replica(database: Database) -> AsyncIterator[Database]:
    """Another process's way to the same database."""
    other = Database(database.url.render_as_string(hide_password=False), bus=Bus("memory://"))
    yield other
    await other.close()


@dataclass
class Crowd:
    """Producers that report to two jobs of a run through two replicas, and what they were told."""

    world: World
    launches: list[Launch]
    ways: list[Ingest]
    acknowledged: dict[tuple[int, int], int] = field(default_factory=dict)
    refused: set[tuple[int, int]] = field(default_factory=set)
    sent: dict[tuple[int, int], Deed] = field(default_factory=dict)

    def batch(self, producer: int, number: int, deed: Deed) -> Batch:
        launch = self.launches[deed.job]
        job_id = b"?" * 16 if deed.wrong == "job" else launch.job_id
        viewer = Viewer(Kind.JOB, run_id=launch.run_id, job_id=job_id, attempt=launch.number)
        if deed.wrong == "viewer":
            viewer = Viewer(Kind.USER)
        if deed.wrong == "attempt":
            viewer = Viewer(Kind.JOB, run_id=launch.run_id, job_id=job_id, attempt=7)
        rank = 5 if deed.wrong == "rank" else 0
        return Batch(viewer, job_id, rank, f"p{producer}", number, columns_of(producer, number, deed.sizes))

    async def produce(self, producer: int, given: list[Deed]) -> None:
        """Send batch after batch, each until it is answered, and some again."""
        for number, deed in enumerate(given, 1):
            self.sent[producer, number] = deed
            for again in range(deed.repeats + 1):
                await self._send(producer, number, deed, deed.cancelled_after if again == 0 else None)

    async def _send(self, producer: int, number: int, deed: Deed, cancelled_after: int | None) -> None:
        way = self.ways[producer % len(self.ways)]
        while True:
            task = asyncio.ensure_future(way.add(self.batch(producer, number, deed)))
            if cancelled_after is not None:
                for _ in range(cancelled_after):
                    await asyncio.sleep(0)
                task.cancel()
                cancelled_after = None
            try:
                answer = await task
            except (asyncio.CancelledError, errors.Unavailable):
                continue  # nobody knows: the same again
            except errors.DomainError:
                self.refused.add((producer, number))
                return
            before = self.acknowledged.setdefault((producer, number), answer.seq)
            assert before == answer.seq
            return


async def kept(
    world: World, launches: list[Launch]
) -> dict[int, list[tuple[str, list[float], list[int], bytes]]]:
    """What the run's chunks have under each number: name, values, steps, job."""
    statement = (
        select(Chunk.first_seq, Series.name, Chunk.values.label("packed"), Chunk.steps, Series.job_id)
        .join(Series, Series.id == Chunk.series_id)
        .where(Chunk.feed_id == launches[0].feed_id)
        .order_by(Chunk.first_seq, Series.name)
    )
    found: dict[int, list[tuple[str, list[float], list[int], bytes]]] = {}
    async with world.database.read() as session:
        for row in (await session.execute(statement)).all():
            values, steps = np.frombuffer(row.packed).tolist(), np.frombuffer(row.steps, np.int64).tolist()
            found.setdefault(row.first_seq, []).append((row.name, values, steps, row.job_id))
    return found


async def require_contiguous(world: World, launch: Launch, points: set[int]) -> None:
    """Every number up to the feed's belongs to an event or to a batch, and to one of them."""
    async with world.database.read() as session:
        seq = await session.scalar(select(Feed.seq).where(Feed.id == launch.feed_id))
        told = select(Event.seq).where(Event.feed_id == launch.feed_id)
        events = [row.seq for row in (await session.execute(told)).all()]
    assert sorted([*events, *points]) == list(range(1, seq + 1))


async def require_headlines(world: World, launches: list[Launch], kept_as: dict[int, Any]) -> None:
    """The headline values are what one batch after the other makes of them."""
    expected: dict[str, headlines.Headline] = {}
    for seq in sorted(kept_as):
        for name, values, steps, job_id in kept_as[seq]:
            origin = Origin(launches[0].run_id, world.project_id, job_id, "", b"", 1, 0, 0)
            column, at = np.array(values), np.array(steps, np.int64)
            merged = headlines.merge(expected.get(name), origin, name, column, at, extremes(column))
            assert merged is not None
            expected[name] = merged
    async with world.database.read() as session:
        found = await headlines.of_runs(session, [launches[0].run_id])
    names = headlines.Headline._fields
    assert {row.name: tuple(getattr(row, name) for name in names) for row in found} == {
        name: tuple(headline) for name, headline in expected.items()
    }


async def launched(world: World) -> list[Launch]:
    run_id = await world.start({"a": (), "b": ()})
    claimed = await world.claim_all()
    launches = [claimed[run_id, step] for step in ("a", "b")]
    for launch in launches:
        await world.begin(launch)
    return launches


@few
@given(
    given=st.lists(st.lists(deeds, max_size=4), min_size=1, max_size=5),
    failing=failures,
    ends_after=st.none() | st.integers(0, 30),
)
async def test_batches_are_kept_whole_and_once_whatever_meets(
    database: Database, given: list[list[Deed]], failing: list[str], ends_after: int | None
) -> None:
    world = await World.make(database, **ROOMY)
    launches = await launched(world)

    async def end() -> None:
        for _ in range(ends_after or 0):
            await asyncio.sleep(0)
        if ends_after is not None:
            await world.end(launches[1])

    async with replica(database) as other:
        crowd = Crowd(world, launches, [Ingest(database), Ingest(other)])
        with failing_commits(other, failing):
            await asyncio.gather(end(), *(crowd.produce(at, some) for at, some in enumerate(given)))
        for way in crowd.ways:
            await way.close()
    found = await kept(world, launches)
    await require_contiguous(world, launches[0], set(found))
    await require_headlines(world, launches, found)
    # Each batch is there as it was sent, under the number its producer was told, or not at all.
    marked = {seq: int(parts[0][1][0]) for seq, parts in found.items()}
    assert len(set(marked.values())) == len(marked)
    for seq, parts in found.items():
        producer, number = divmod(marked[seq], 1000)
        deed = crowd.sent[producer, number]
        sent = [c for c in columns_of(producer, number, deed.sizes) if len(c.values)]
        job_id = launches[deed.job].job_id
        assert parts == [
            (c.name, c.values.tolist(), c.steps.tolist(), job_id) for c in sent if c.steps is not None
        ]
        assert deed.wrong is None and crowd.acknowledged.get((producer, number), seq) == seq
    for key, seq in crowd.acknowledged.items():
        assert marked.get(seq) == key[0] * 1000 + key[1]
    if ends_after is None:
        for key, deed in crowd.sent.items():
            assert (key in crowd.refused) is (deed.wrong is not None)
        await world.end(launches[1])
    await world.end(launches[0])


def batch(launch: Launch, producer: str, number: int, *sizes: int, **other: Any) -> Batch:
    given = [Column(f"m{at}", np.arange(size), np.zeros(size)) for at, size in enumerate(sizes)]
    viewer = Viewer(Kind.JOB, run_id=launch.run_id, job_id=launch.job_id, attempt=launch.number)
    return Batch(viewer, launch.job_id, other.get("rank", 0), producer, number, given)


async def test_callers_of_one_moment_share_a_transaction_and_one_refusal_fails_no_other(
    database: Database,
) -> None:
    world = await World.make(database)
    (launch, other) = await launched(world)
    way = Ingest(database)
    told = [way.add(batch(launch, f"p{n}", 1, 1)) for n in range(10)]
    told.insert(5, way.add(batch(launch, "q", 1, 1, rank=3)))
    told.append(way.add(batch(other, "p0", 1, 2, 3)))
    database.bus._reached.clear()
    answers = await asyncio.gather(*told, return_exceptions=True)
    assert isinstance(answers.pop(5), errors.Conflict)
    seqs = [answer.seq for answer in answers if isinstance(answer, Added)]
    assert seqs == list(range(seqs[0], seqs[0] + 11))
    assert database.bus._reached == {launch.feed_id: seqs[-1]}


async def test_who_has_arrived_comes_along_where_several_came_lately(database: Database) -> None:
    world = await World.make(database)
    (launch, _) = await launched(world)
    way = Ingest(database)
    sizes: list[int] = []
    take = way._take

    def noted() -> Any:
        taken = take()
        sizes.append(len(taken))
        return taken

    way._take = noted  # type: ignore[method-assign]

    async def later(number: int, turns: int) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        await way.add(batch(launch, f"p{turns}", number, 1))

    await asyncio.gather(
        later(1, 0), later(1, 0), later(1, 1), later(1, 3)
    )  # two, then who comes a turn apart
    assert sizes == [4]
    await later(2, 0)
    await later(3, 0)
    assert sizes == [4, 1, 1]


async def test_numbers_of_one_producer_that_meet_in_a_transaction_are_told_apart(database: Database) -> None:
    world = await World.make(database)
    (launch, _) = await launched(world)
    way = Ingest(database)
    given = [batch(launch, "p", number, 1) for number in (1, 1, 2, 1, 2)]
    first, again, second, late, last = await asyncio.gather(*map(way.add, given))
    assert [first, again] == [(first.seq, False), (first.seq, True)]
    assert [second, late, last] == [(first.seq + 1, False), (second.seq, True), (second.seq, True)]


async def test_a_transaction_is_bounded(database: Database) -> None:
    world = await World.make(database)
    (launch, _) = await launched(world)
    way = Ingest(database)
    calls = [way.add(batch(launch, f"p{n}", 1, 1)) for n in range(MOST_CALLERS + 1)]
    calls += [way.add(batch(launch, f"q{n}", 1, MOST_POINTS // 2 + 1)) for n in range(2)]
    tasks = [asyncio.ensure_future(call) for call in calls]
    await asyncio.sleep(0)
    sizes = []
    while taken := way._take():
        sizes.append(len(taken))
        for call in taken:
            call.answer.cancel()
    assert sizes == [MOST_CALLERS, 2, 1]
    await asyncio.wait(tasks)


@pytest.mark.parametrize("how", ["before", "after"])
async def test_a_commit_that_fails_is_tried_again_job_by_job(database: Database, how: str) -> None:
    world = await World.make(database)
    (launch, other) = await launched(world)
    way = Ingest(database)
    with failing_commits(database, [how]):
        first, second = await asyncio.gather(
            way.add(batch(launch, "p", 1, 1)), way.add(batch(other, "p", 1, 1))
        )
    assert first.seq + 1 == second.seq
    assert first.duplicate is second.duplicate is (how == "after")
    with (
        failing_commits(database, ["before", "before"]),
        pytest.raises(errors.Unavailable, match="same batch again"),
    ):
        await way.add(batch(launch, "p", 2, 1))
    assert await way.add(batch(launch, "p", 2, 1)) == (second.seq + 1, False)
