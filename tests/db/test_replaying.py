"""Following a feed on several replicas: whatever is written where, repeated, cut off or not told, each watcher gets
every number once, in order, and every point once, also at a pace of its own.

Each replica has a database of its own to work with, and a bus that loses what it is told by chance.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from db import batches, columns, feeds
from db.bus import Bus, Wake
from db.claims import Launch
from db.database import Database
from db.points import Column
from graph import live, pacing
from tests.db.world import ROOMY, World, few, origin_of

POLL_SECONDS = 0.02


class Lossy(Bus):
    """Tells this process and the others, or some of them, or nobody."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__("memory://")
        self.others: list[Lossy] = []
        self._chance = chance

    def publish(self, reached: Mapping[int, int], *, wake: Wake = Wake.NOBODY) -> None:
        if self._chance.random() < 0.6:
            super().publish(reached, wake=wake)
        for other in self.others:
            if self._chance.random() < 0.6:
                Bus.publish(other, reached, wake=wake)


@dataclass(frozen=True)
class Replica:
    database: Database
    hub: live.Hub


@pytest_asyncio.fixture(loop_scope="session")
async def replicas(database: Database) -> AsyncIterator[list[Replica]]:
    """Three, of the database of each kind."""
    url = database.url.render_as_string(hide_password=False)
    buses = [Lossy(random.Random(seed)) for seed in range(3)]
    for bus in buses:
        bus.others = [other for other in buses if other is not bus]
        await bus.open()
    databases = [Database(url, bus=bus, pool_size=4) for bus in buses]
    made = [Replica(each, live.Hub(each, poll_seconds=POLL_SECONDS)) for each in databases]
    yield made
    for replica in made:
        assert replica.hub.readers == 0
        replica.hub.close()
        await replica.database.bus.close()
        await replica.database.close()


@dataclass
class Run:
    """A run whose one worker reports, by whatever replica."""

    world: World
    launch: Launch
    number: int = 0
    points: list[float] = field(default_factory=list)

    async def report(self, replica: Replica, count: int) -> None:
        """A batch of points under the next number."""
        self.number += 1
        await self._commit(replica, self.number, [float(len(self.points) + n) for n in range(count)])

    async def repeat(self, replica: Replica, _: int) -> None:
        """The last batch again, as by a producer that has heard no answer."""
        await self._commit(replica, self.number, self.points[-1:] or [0.0])

    async def change(self, replica: Replica, count: int) -> None:
        """Events of states."""
        async with replica.database.begin() as session:
            head = await feeds.lock(session, self.launch.feed_id)
            for _ in range(count):
                head.emit(feeds.Subject.JOB, self.launch.job_id, columns.now(), state="RUNNING", step="a")

    async def fail(self, replica: Replica, count: int) -> None:
        """What a crash undoes."""
        with pytest.raises(ConnectionError):
            async with replica.database.begin() as session:
                head = await feeds.lock(session, self.launch.feed_id)
                head.emit(feeds.Subject.JOB, self.launch.job_id, columns.now(), state="RUNNING", step="a")
                raise ConnectionError

    async def head(self) -> int:
        async with self.world.database.read() as session:
            found = await feeds.head(session, self.launch.feed_id)
        assert found is not None
        return found.seq

    async def _commit(self, replica: Replica, number: int, values: list[float]) -> None:
        origin = await origin_of(self.world, self.launch)
        async with replica.database.begin() as session:
            head = await feeds.lock(session, self.launch.feed_id)
            if await batches.repeated(session, self.launch.attempt_id, "p", number) is not None:
                return
            column = Column("loss", np.zeros(len(values), np.int64), np.array(values))
            seq = await batches.append(session, head, origin, [column])
            await batches.remember(session, self.launch.attempt_id, "p", number, seq)
        self.points += values


class Watcher:
    """Follows on one replica, or another, from where it stands; `seqs` and `points` are what it was told."""

    def __init__(self, run: Run, after: int, hz: float | None) -> None:
        self._run = run
        self._pace = None if hz is None else pacing.Pace(hz, None)
        self.cursor = after
        self.spans: list[tuple[int, int]] = []
        self.points: list[float] = []
        self._task: asyncio.Task[None] | None = None

    async def move(self, replica: Replica) -> None:
        """Lose the connection, and go on there."""
        await self.stop()
        self._task = asyncio.create_task(self._follow(replica))

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            assert self._task.cancelled() or self._task.exception() is None

    async def reaches(self, head: int) -> None:
        async with asyncio.timeout(20):
            while self.cursor < head:  # noqa: ASYNC110
                await asyncio.sleep(0.002)

    async def _follow(self, replica: Replica) -> None:
        feed, hub = self._run.launch.feed_id, replica.hub
        items: Any = (
            hub.follow(feed, self.cursor)
            if self._pace is None
            else pacing.follow(hub, feed, self.cursor, self._pace, lambda m: m, remind_seconds=1.0)
        )
        async with aclosing(items):
            async for item in items:
                if isinstance(item, live.Message):
                    self.spans.append((item.first or item.seq, item.seq))
                    self.points += [float(v) for points in item.points for v in points.values]
                self.cursor = max(self.cursor, item.seq)


places = st.integers(0, 2)
acts = st.one_of(
    st.tuples(st.sampled_from(["report", "repeat", "change", "fail"]), places, st.integers(1, 5)),
    st.tuples(st.just("move"), places, places),
    st.tuples(st.just("breathe"), places, places),
)


@few
@given(script=st.lists(acts, min_size=5, max_size=40))
async def test_every_watcher_is_told_every_number_once_and_in_order(
    database: Database, replicas: list[Replica], script: list[tuple[str, int, int]]
) -> None:
    world = await World.make(database, **ROOMY)
    await world.start({"a": ()})
    (launch,) = (await world.claim()).values()
    await world.begin(launch)
    run = Run(world, launch)
    start = await run.head()
    watchers = [Watcher(run, start, hz) for hz in (None, 50.0, 7.0)]
    for watcher, replica in zip(watchers, replicas, strict=True):
        await watcher.move(replica)
    for act, where, what in script:
        if act == "move":
            await watchers[what].move(replicas[where])
        elif act == "breathe":
            await asyncio.sleep(POLL_SECONDS * where)
        else:
            await getattr(run, act)(replicas[where], what)
    head = await run.head()
    for watcher in watchers:
        await watcher.reaches(head)
        await watcher.stop()
        assert watcher.points == run.points
        assert all(first <= last for first, last in watcher.spans)
        told = [seq for first, last in watcher.spans for seq in range(first, last + 1)]
        assert told == list(range(start + 1, head + 1))
    await world.end(launch)
