"""Feeds: numbers without gaps, in the order of commits, whoever writes at once."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence

import pytest

from db import columns, feeds, ids, projects
from db.database import Database, Transaction
from tests.db.interleaving import until_somebody_waits

Act = Callable[[Transaction], Awaitable[None]]
OWNER = b"\1" * 16


async def _make(database: Database, count: int = 1) -> list[int]:
    async with database.begin() as session:
        project_id = await projects.ensure_default(session)
        heads = [await feeds.create(session, feeds.Kind.RUN, ids.new(), project_id) for _ in range(count)]
    return [head.id for head in heads]


async def _emit(database: Database, feed_id: int, *words: str, fail: bool = False) -> None:
    async with database.begin() as session:
        _say(await feeds.lock(session, feed_id), words)
        await asyncio.sleep(0)
        assert not fail, "undone"


def _say(head: feeds.Head, words: Sequence[str]) -> None:
    for word in words:
        head.emit(feeds.Subject.RUN, OWNER, columns.now(), word=word)


async def _events(database: Database, feed_id: int, after: int = 0, most: int = 1000) -> list[feeds.Event]:
    async with database.read() as session:
        return await feeds.events(session, feed_id, after, most=most)


async def _head(database: Database, feed_id: int) -> feeds.Feed:
    async with database.read() as session:
        found = await feeds.head(session, feed_id)
    assert found is not None
    return found


async def test_a_transaction_numbers_what_it_emits_and_the_next_one_goes_on(database: Database) -> None:
    (feed,) = await _make(database)
    await _emit(database, feed, "a", "b")
    await _emit(database, feed, "c")
    events = await _events(database, feed)
    assert [(event.seq, event.data["word"]) for event in events] == [(1, "a"), (2, "b"), (3, "c")]
    assert (await _head(database, feed)).seq == 3
    assert [event.seq for event in await _events(database, feed, after=1, most=1)] == [2]


async def test_a_transaction_that_emits_nothing_takes_no_number(database: Database) -> None:
    (feed,) = await _make(database)
    async with database.begin() as session:
        await feeds.lock(session, feed)
    assert (await _head(database, feed)).seq == 0


async def test_a_rollback_gives_its_numbers_back(database: Database) -> None:
    (feed,) = await _make(database)
    await _emit(database, feed, "kept")
    with pytest.raises(AssertionError):
        await _emit(database, feed, "lost", "lost too", fail=True)
    await _emit(database, feed, "next")
    assert [(e.seq, e.data["word"]) for e in await _events(database, feed)] == [(1, "kept"), (2, "next")]


async def test_concurrent_writers_and_a_polling_reader_agree_on_every_number(database: Database) -> None:
    (feed,) = await _make(database)
    sizes = [1, 3, 2, 5, 1, 4] * 6

    async def write(index: int, size: int) -> None:
        fail = index % 5 == 4
        try:
            await _emit(database, feed, *[f"{index}"] * size, fail=fail)
        except AssertionError:
            assert fail

    writing = asyncio.gather(*(write(index, size) for index, size in enumerate(sizes)))
    seen: list[feeds.Event] = []
    while not writing.done() or (await _head(database, feed)).seq > len(seen):
        seen += await _events(database, feed, after=len(seen), most=7)
        await asyncio.sleep(0)
    await writing
    assert [event.seq for event in seen] == list(range(1, len(seen) + 1))
    # What one transaction says comes in one piece.
    blocks = [(word, len(list(block))) for word, block in itertools.groupby(e.data["word"] for e in seen)]
    kept = {str(index): size for index, size in enumerate(sizes) if index % 5 != 4}
    assert dict(blocks) == kept and len(blocks) == len(kept)


async def test_the_second_writer_waits_for_the_first_ones_commit(postgresql: Database) -> None:
    (feed,) = await _make(postgresql)
    async with postgresql.begin() as first:
        head = await feeds.lock(first, feed)
        second = asyncio.create_task(_emit(postgresql, feed, "second"))
        await until_somebody_waits(postgresql)
        _say(head, ["first"])
    await second
    assert [e.data["word"] for e in await _events(postgresql, feed)] == ["first", "second"]


async def test_crossed_batches_of_two_feeds_do_not_deadlock(database: Database) -> None:
    one, other = await _make(database, 2)

    async def write(order: Sequence[int]) -> None:
        async with database.begin() as session:
            heads = await feeds.lock_all(session, order)
            await asyncio.sleep(0)
            for feed in order:
                _say(heads[feed], ["batch"])

    await asyncio.gather(*(write(order) for _ in range(10) for order in ([one, other], [other, one])))
    for feed in (one, other):
        assert [event.seq for event in await _events(database, feed)] == list(range(1, 21))


async def test_a_lock_on_the_second_feed_of_a_batch_holds_up_the_whole_batch(postgresql: Database) -> None:
    one, other = await _make(postgresql, 2)

    async def batch(session: Transaction) -> None:
        for head in (await feeds.lock_all(session, [other, one])).values():
            _say(head, ["batch"])

    async with postgresql.begin() as first:
        _say(await feeds.lock(first, other), ["first"])
        second = asyncio.create_task(_in_transaction(postgresql, batch))
        await until_somebody_waits(postgresql)
    await second
    assert [e.data["word"] for e in await _events(postgresql, other)] == ["first", "batch"]
    assert [e.seq for e in await _events(postgresql, one)] == [1]


async def test_a_feed_that_has_ended_says_so(database: Database) -> None:
    (feed,) = await _make(database)
    async with database.begin() as session:
        head = await feeds.lock(session, feed)
        _say(head, ["last"])
        head.end()
    found = await _head(database, feed)
    assert found.ended and found.seq == 1


async def _in_transaction(database: Database, act: Act) -> None:
    async with database.begin() as session:
        await act(session)
