"""Points that are committed in this process reach who follows here as they are, and as a reader finds them."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import numpy as np
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from db import batches, columns, feeds
from db.bus import Bus, Wake
from db.claims import Launch
from db.database import Database
from db.feeds import Head
from db.points import Column, Points
from graph import live
from tests.db.world import ROOMY, World, few, function, origin_of

LONG_SECONDS = 60.0
"""Nothing is looked for by itself in a test's time."""


class Silent(Bus):
    """Tells nobody."""

    def publish(self, reached: Mapping[int, int], *, wake: Wake = Wake.NOBODY) -> None:
        pass


@pytest_asyncio.fixture(loop_scope="session")
async def silent(database: Database) -> AsyncIterator[Database]:
    bus = Silent("memory://")
    made = Database(database.url.render_as_string(hide_password=False), bus=bus, pool_size=4)
    yield made
    await made.close()


def shown(points: Points) -> tuple[Any, ...]:
    given = replace(points, steps=None, times=None, values=None)  # type: ignore[arg-type]
    return given, points.steps.tobytes(), points.times.tobytes(), points.values.tobytes()


names = st.sampled_from(["loss", "accuracy", "b", "a"])
values = st.lists(st.floats(width=32), max_size=3)
added = st.lists(
    st.tuples(st.integers(0, 1), st.dictionaries(names, values, min_size=1)), min_size=1, max_size=4
)


async def _add(world: Database, launch: Launch, origins: list[Any], given: Any, *, stepped: bool) -> Head:
    async with world.begin() as session:
        head = await feeds.lock(session, launch.feed_id)
        portions = []
        for rank, lists in given:
            steps = {name: np.arange(len(found)) * 7 if stepped else None for name, found in lists.items()}
            told = [
                Column(name, np.arange(len(found)) + 5, np.array(found, np.float64), steps[name])
                for name, found in lists.items()
            ]
            if any(len(column.values) for column in told):
                portions.append(batches.Portion(origins[rank], head.id, head.take(), told))
        await batches.append_all(session, portions)
    return head


@few
@given(given=added, then=added, stepped=st.booleans())
async def test_points_that_are_taken_equal_those_that_are_read(
    database: Database, silent: Database, given: Any, then: Any, stepped: bool
) -> None:
    world = await World.make(database, function(workers=2), **ROOMY)
    await world.start({"a": ()})
    (launch,) = (await world.claim()).values()
    await world.begin(launch)
    origins = [await origin_of(world, launch, rank) for rank in range(2)]
    hub = live.Hub(silent, poll_seconds=LONG_SECONDS)
    found: list[live.Message] = []
    async with database.read() as session:
        start = await feeds.head(session, launch.feed_id)
    assert start is not None
    async with aclosing(hub.follow(launch.feed_id, start.seq)) as items, asyncio.timeout(LONG_SECONDS / 2):
        assert await anext(items) == live.Reached(start.seq)
        for batch in (given, then):
            head = await _add(silent, launch, origins, batch, stepped=stepped)
            while head.seq > head.start:
                item = await anext(items)
                if item == live.Reached(head.seq):
                    break
                assert isinstance(item, live.Message)
                found.append(item)
    hub.close()
    async with database.read() as session:
        page = await live.read(session, launch.feed_id, start.seq)
    assert [message.seq for message in found] == [message.seq for message in page.messages]
    ours, theirs = (
        [[shown(p) for p in message.points] for message in told] for told in (found, page.messages)
    )
    assert ours == theirs
    await world.end(launch)


async def test_what_is_not_points_alone_or_not_the_next_is_read(database: Database, silent: Database) -> None:
    world = await World.make(database, **ROOMY)
    await world.start({"a": ()})
    (launch,) = (await world.claim()).values()
    await world.begin(launch)
    origin = await origin_of(world, launch)
    hub = live.Hub(silent, poll_seconds=0.05)
    async with database.read() as session:
        start = await feeds.head(session, launch.feed_id)
    assert start is not None

    def column() -> list[Column]:
        return [Column("loss", np.zeros(1, np.int64), np.ones(1))]

    async with aclosing(hub.follow(launch.feed_id, start.seq)) as items, asyncio.timeout(LONG_SECONDS):
        assert await anext(items) == live.Reached(start.seq)
        async with database.begin() as session:  # elsewhere
            await batches.append(session, await feeds.lock(session, launch.feed_id), origin, column())
        async with silent.begin() as session:  # here, but not the next
            await batches.append(session, await feeds.lock(session, launch.feed_id), origin, column())
        async with silent.begin() as session:
            head = await feeds.lock(session, launch.feed_id)
            head.emit(feeds.Subject.JOB, launch.job_id, columns.now(), state="RUNNING", step="a")
            await batches.append(session, head, origin, column())
        told: list[int] = []
        while not told or told[-1] < head.seq:
            item = await anext(items)
            if isinstance(item, live.Message):
                told.append(item.seq)
    hub.close()
    assert told == list(range(start.seq + 1, start.seq + 5))
    await world.end(launch)
