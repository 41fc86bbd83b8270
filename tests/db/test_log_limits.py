"""Of a worker that prints much the first and last lines are kept, and whoever reads is told what is not.

However appends, watchers and crashes follow one another: each kept line comes once and in order, a line that
does not come is named by a gap that came before its successor, and no metric is lost.
"""

from dataclasses import dataclass, field

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from db import feeds, lines, logs, outputs
from db.claims import Launch
from db.database import Database
from db.lines import Block
from db.logs import Limit
from db.paging import Page
from db.points import Column
from tests.db.world import World, few, function, points_of

LIMIT = Limit(head_bytes=40, tail_bytes=60)
LONGEST = 30


@dataclass
class Worker:
    """What a worker printed: the model."""

    world: World
    launch: Launch
    rank: int
    printed: list[str] = field(default_factory=list)
    points: list[float] = field(default_factory=list)
    offset: int = 0

    async def append(self, texts: list[str], *, crash: bool = False) -> None:
        """Store lines and a point; `crash` loses the commit's answer, so that it is tried again."""
        values = np.array([float(self.offset)])
        chunks = [chunk for text in texts for chunk in lines.pack([Block(1, 1, text.encode())])]
        for attempt in range(1 + crash):
            async with self.world.database.begin() as session:
                stored = await outputs.record(
                    session,
                    self.world.supervisor,
                    self.launch.attempt_id,
                    self.launch.feed_id,
                    self.rank,
                    was=self.offset,
                    reached=self.offset + 1,
                    chunks=chunks,
                    points=[[Column(f"m{self.rank}", np.array([1]), values)]],
                    limit=LIMIT,
                )
            assert stored is (attempt == 0)
        self.offset += 1
        self.printed += texts
        self.points += values.tolist()


@dataclass
class Watcher:
    """Reads a feed a few batches at a time, and checks what comes."""

    workers: list[Worker]
    cursor: int = 0
    seen: dict[int, int] = field(default_factory=dict)
    gaps: dict[int, logs.Batch] = field(default_factory=dict)

    async def read(self, most: int) -> bool:
        first = self.workers[0]
        async with first.world.database.read() as session:
            batches = await logs.since(session, first.launch.feed_id, self.cursor, most=most)
        for batch in batches:
            assert batch.seq > self.cursor
            self.cursor = batch.seq
            if batch.dropped:
                self.gaps[batch.rank] = batch
            for placed in batch.lines:
                self._line(placed)
        return bool(batches)

    def _line(self, placed: logs.Placed) -> None:
        last = self.seen.get(placed.rank, 0)
        assert placed.number > last
        assert placed.line.text == self.workers[placed.rank].printed[placed.number - 1]
        if placed.number > last + 1:
            gap = self.gaps[placed.rank]
            assert gap.first_line <= last + 1
            assert gap.first_line + gap.dropped >= placed.number
        self.seen[placed.rank] = placed.number


texts = st.lists(st.integers(0, LONGEST).map(lambda size: "x" * size), min_size=1, max_size=8)
appends = st.tuples(st.just("append"), st.integers(0, 1), texts, st.booleans())
reads = st.tuples(st.just("read"), st.integers(0, 2), st.integers(1, 6), st.booleans())


@few
@given(st.lists(appends | reads, max_size=40))
async def test_each_kept_line_comes_once_and_gaps_are_named(
    database: Database, acts: list[tuple[str, int, object, bool]]
) -> None:
    world = await World.make(database, function(workers=2))
    run_id = await world.start({"a": ()})
    launch = (await world.claim_all())[run_id, "a"]
    await world.begin(launch)
    workers = [Worker(world, launch, rank) for rank in range(2)]
    watchers = [Watcher(workers) for _ in range(3)]
    for kind, which, what, crash in acts:
        if kind == "append" and isinstance(what, list):
            await workers[which].append([f"{text}{number}" for number, text in enumerate(what)], crash=crash)
        elif isinstance(what, int):
            await watchers[which].read(what)
    for watcher in watchers:
        while await watcher.read(5):
            pass
        for worker in workers:
            assert watcher.seen.get(worker.rank, 0) == len(worker.printed)
    for worker in workers:
        await _check_kept(worker)
    await world.end(launch)


async def _check_kept(worker: Worker) -> None:
    """The first bytes and the last are there, little more, and the gap names all between."""
    world, launch = worker.world, worker.launch
    async with world.database.read() as session:
        page = await logs.of_job(session, launch.job_id, Page(1000))
        gaps = [gap for gap in await logs.gaps(session, [launch.job_id]) if gap.rank == worker.rank]
        series = await points_of(session, world.viewer, [launch.run_id], [f"m{worker.rank}"])
    kept = [placed.number for placed in page.rows if placed.rank == worker.rank]
    missing = [number for number in range(1, len(worker.printed) + 1) if number not in set(kept)]
    sizes = [len(text) + 1 for text in worker.printed]
    if missing:
        (gap,) = gaps
        assert missing == list(range(gap.first_line, gap.first_line + gap.dropped))
        assert gap.size == sum(sizes[number - 1] for number in missing)
        head, tail = sizes[: missing[0] - 1], sizes[missing[-1] :]
        assert sum(head) >= LIMIT.head_bytes
        assert sum(tail) >= LIMIT.tail_bytes
        assert sum(head) + sum(tail) <= LIMIT.head_bytes + LIMIT.tail_bytes + 2 * (LONGEST + 2)
    else:
        assert not gaps
        assert sum(sizes) <= LIMIT.head_bytes + LIMIT.tail_bytes + 2 * (LONGEST + 2)
    assert [value for points in series for value in points.values.tolist()] == worker.points


async def test_a_middle_of_many_small_chunks_is_taken_out_a_bounded_part_at_a_time(
    database: Database,
) -> None:
    world = await World.make(database)
    run_id = await world.start({"a": ()})
    launch = (await world.claim_all())[run_id, "a"]
    small = [chunk for _ in range(2500) for chunk in lines.pack([Block(1, 1, b"x")])]
    printer = logs.Printer(launch.job_id, 1, 0, 0, 0)
    async with database.begin() as session:
        head = await feeds.lock(session, launch.feed_id)
        await logs.append(session, head, small, printer)
    left = []
    for _ in range(4):
        async with database.begin() as session:
            await feeds.lock(session, launch.feed_id)
            await logs.trim(session, launch.feed_id, printer, 5000, Limit(10, 10))
        async with database.read() as session:
            left.append(len(await logs.since(session, launch.feed_id, 0, most=5000)))
            (gap,) = await logs.gaps(session, [launch.job_id])
    assert left == [1501, 502, 11, 11]
    assert (gap.first_line, gap.dropped, gap.size) == (6, 2490, 4980)
