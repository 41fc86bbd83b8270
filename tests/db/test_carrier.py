"""Hints between processes: over Redis and PostgreSQL they arrive, and no loss of either is for ever."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
import structlog

from db import carrier
from db.bus import Bus, Wake
from tests.backends.grounds import eventually
from tests.db.test_bus import Ear

CARRIERS = ("redis", "postgresql")


@pytest.fixture(scope="module", autouse=True)
def plain_log() -> Iterator[None]:
    """Tracebacks drawn with all their variables take half a second each."""
    structlog.configure(processors=[structlog.processors.KeyValueRenderer()])
    yield
    structlog.reset_defaults()


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carrier, "_RETRY_SECONDS", (0.0, 0.05))
    monkeypatch.setattr(carrier, "BEAT_SECONDS", 0.05)


@pytest.fixture(params=CARRIERS)
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "redis":
        yield request.getfixturevalue("redis_server").url
    else:
        yield request.getfixturevalue("postgresql_server")


@pytest_asyncio.fixture(loop_scope="session")
async def pair(url: str) -> AsyncIterator[tuple[Bus, Bus]]:
    """Those of two processes."""
    one, other = Bus(url), Bus(url)
    try:
        await asyncio.gather(one.open(), other.open())
        await until(lambda: one.connected and other.connected)
        yield one, other
    finally:
        # The loop is all tests': what were left in it would look for its broker beside every later one.
        await asyncio.gather(one.close(), other.close())


async def until(condition: Callable[[], bool]) -> None:
    async def met() -> bool:
        return condition()

    await eventually(met)


async def meet(one: Bus, other: Bus) -> None:
    """Until what one says is heard by the other again."""
    ear = Ear(other)
    async with asyncio.timeout(20):
        while not any(99 in reached for reached, _ in ear.heard):
            one.publish({99: 1})
            await asyncio.sleep(0.01)
    ear.silence()


async def test_what_one_says_both_hear_once(pair: tuple[Bus, Bus]) -> None:
    one, other = pair
    ours, theirs = Ear(one), Ear(other)
    one.publish({1: 5})
    one.publish({1: 7, 2: 1}, wake=Wake.EVERYBODY)
    assert await ours.next() == await theirs.next() == ({1: 7, 2: 1}, Wake.EVERYBODY)
    other.publish({1: 8})
    assert await ours.next() == await theirs.next() == ({1: 8}, Wake.NOBODY)
    await asyncio.sleep(0.05)
    assert not ours.heard and not theirs.heard


async def test_more_feeds_than_a_message_holds_are_all_told(pair: tuple[Bus, Bus]) -> None:
    one, other = pair
    ear = Ear(other)
    one.publish({feed: 2**52 + feed for feed in range(1, 1001)}, wake=Wake.EVERYBODY)
    reached: dict[int, int] = {}
    while len(reached) < 1000:
        reached |= (await ear.next())[0]
    assert reached == {feed: 2**52 + feed for feed in range(1, 1001)}


async def test_without_the_other_side_a_process_still_hears_itself() -> None:
    alone = Bus("redis://127.0.0.1:1/0")
    ear = Ear(alone)
    try:
        await alone.open()
        assert not alone.connected
        alone.publish({1: 1})
        assert await ear.next() == ({1: 1}, Wake.NOBODY)
    finally:
        await alone.close()


async def test_who_is_closed_while_it_lets_go_of_a_connection_lets_go_of_all_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parting, parted = asyncio.Event(), asyncio.Event()

    async def slowly(*_: object) -> None:
        parting.set()
        await asyncio.sleep(0.05)
        parted.set()

    monkeypatch.setattr(carrier, "_disconnect", slowly)
    alone = Bus("redis://127.0.0.1:1/0")
    await alone.open()
    parting.clear()
    await parting.wait()
    parted.clear()
    await alone.close()
    assert parted.is_set()


@pytest.mark.parametrize("url", ["redis"], indirect=True)
async def test_a_redis_that_is_gone_for_a_while_is_found_again(
    pair: tuple[Bus, Bus], redis_server: Any
) -> None:
    one, other = pair
    missed = []
    other.listen(lambda reached, wake: None, missed=lambda: missed.append(True))
    redis_server.kill()
    await until(lambda: not one.connected and not other.connected)
    ear = Ear(one)
    one.publish({1: 1})
    assert await ear.next() == ({1: 1}, Wake.NOBODY)
    assert not missed
    redis_server.start()
    await meet(one, other)
    await until(lambda: missed == [True])  # it hears others before it hears itself


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
async def test_a_listener_that_postgresql_ends_is_replaced(pair: tuple[Bus, Bus], url: str) -> None:
    one, other = pair
    connection = await asyncpg.connect(url)
    for _ in range(3):
        ended = await connection.fetch(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE query ~ 'LISTEN|pg_notify' AND pid <> pg_backend_pid()"
        )
        assert ended
        await until(lambda: not (one.connected and other.connected))
        await meet(one, other)
    await connection.close()


def _listener() -> "asyncio.Task[Any]":
    """broadcaster's own task, of one of them."""
    return next(
        task
        for task in asyncio.all_tasks()
        if getattr(task.get_coro(), "__qualname__", "") == "Broadcast._listener"
    )


async def test_a_listener_that_dies_is_replaced(pair: tuple[Bus, Bus]) -> None:
    one, other = pair
    dead = _listener()
    dead.cancel()
    await asyncio.wait({dead})
    await until(lambda: not (one.connected and other.connected))
    await meet(one, other)
    await meet(other, one)


async def test_a_connection_that_tells_nothing_more_is_made_anew(
    pair: tuple[Bus, Bus], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of one that is half open: it takes what is sent, and nothing comes."""
    monkeypatch.setattr(carrier, "DEAF_SECONDS", 0.3)
    one, other = pair
    frame: Any = _listener().get_coro()
    deaf = frame.cr_frame.f_locals["self"]
    deaf._subscribers.clear()
    await until(lambda: not (one.connected and other.connected))
    await meet(one, other)
    await meet(other, one)
