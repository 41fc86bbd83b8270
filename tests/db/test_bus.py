"""The bus: hints reach every listener, folded together, and a dead connection is replaced."""

import asyncio
from collections.abc import AsyncIterator, Mapping

import pytest
import pytest_asyncio

from db.bus import Bus, Wake
from db.database import Database
from tests.db.world import World

Heard = list[tuple[dict[int, int], Wake]]


@pytest_asyncio.fixture(loop_scope="session")
async def opened() -> AsyncIterator[Bus]:
    made = Bus("memory://")
    await made.open()
    yield made
    await made.close()


class Ear:
    """Keeps what it hears."""

    def __init__(self, listened: Bus) -> None:
        self.heard: Heard = []
        self._something = asyncio.Event()
        self.silence = listened.listen(self._hear)

    async def next(self) -> tuple[dict[int, int], Wake]:
        """What comes next."""
        async with asyncio.timeout(60):
            while not self.heard:
                self._something.clear()
                await self._something.wait()
        return self.heard.pop(0)

    def _hear(self, reached: Mapping[int, int], wake: Wake) -> None:
        self.heard.append((dict(reached), wake))
        self._something.set()


async def test_hints_that_have_not_left_are_folded_together(opened: Bus) -> None:
    ear = Ear(opened)
    opened.publish({1: 5, 2: 1})
    opened.publish({1: 7}, wake=Wake.EVERYBODY)
    opened.publish({1: 6})
    assert await ear.next() == ({1: 7, 2: 1}, Wake.EVERYBODY)
    opened.publish({1: 8})
    assert await ear.next() == ({1: 8}, Wake.NOBODY)
    assert not ear.heard


async def test_nothing_is_said_of_nothing(opened: Bus) -> None:
    ear = Ear(opened)
    opened.publish({})
    opened.publish({}, wake=Wake.EVERYBODY)
    assert await ear.next() == ({}, Wake.EVERYBODY)
    assert not ear.heard


async def test_every_listener_hears_until_it_stops(opened: Bus) -> None:
    one, other = Ear(opened), Ear(opened)
    opened.publish({1: 1})
    assert await one.next() == await other.next() == ({1: 1}, Wake.NOBODY)
    one.silence()
    opened.publish({1: 2})
    assert await other.next() == ({1: 2}, Wake.NOBODY)
    assert not one.heard


async def test_what_was_said_before_it_opened_is_told_then() -> None:
    late = Bus("memory://")
    ear = Ear(late)
    late.publish({1: 1})
    await late.open()
    assert await ear.next() == ({1: 1}, Wake.NOBODY)
    await late.close()


async def test_what_is_said_after_the_end_is_not_told() -> None:
    gone = Bus("memory://")
    ear = Ear(gone)
    await gone.open()
    await gone.close()
    gone.publish({1: 1})
    await asyncio.sleep(0)
    assert not ear.heard


async def test_a_commit_is_announced_and_a_rollback_is_not(database: Database) -> None:
    world = await World.make(database)
    await database.bus.open()
    ear = Ear(database.bus)
    database.bus.publish({0: 1})  # what other tests left to be said is said with it
    await ear.next()
    with pytest.raises(Exception, match="backend"):
        await world.start({"a": ()}, backend="elsewhere")
    run_id = await world.start({"a": ()})
    run = await world.run(run_id)
    reached, wake = await ear.next()
    if run.feed_id not in reached:  # it was the drawing of the pipeline, which says nothing of any feed
        reached, wake = await ear.next()
    assert (reached[run.feed_id], wake) == (len(await world.events(run_id)), Wake.SUPERVISORS)
    await database.bus.close()
