"""Outputs: what a worker printed is kept exactly once, whoever reads it however often."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
from sqlalchemy import Engine, event

from db import feeds, leases, lines, logs, outputs
from db.claims import Launch
from db.database import Database
from db.leases import Supervisor
from db.lines import Block
from db.outputs import Printed
from db.paging import Page
from db.points import Column
from tests.db.world import World, function, points_of


async def _launched(database: Database, workers: int = 1) -> tuple[World, Launch]:
    world = await World.make(database, function(workers=workers))
    await world.start({"a": ()})
    launch = (await world.claim())["a"]
    await world.begin(launch)
    return world, launch


async def _record(
    world: World, launch: Launch, was: int, *words: str, supervisor: Supervisor | None = None, rank: int = 0
) -> bool:
    """Record words, of one byte of output each, and a point for each."""
    times = np.array([was], np.int64)
    async with world.database.begin() as session:
        return await outputs.record(
            session,
            supervisor or world.supervisor,
            launch.attempt_id,
            launch.feed_id,
            rank,
            was=was,
            reached=was + len(words),
            chunks=lines.pack([Block(was, 1, word.encode()) for word in words]),
            points=[[Column("count", times, np.array([float(was + i)]))] for i in range(len(words))],
        )


async def _kept(world: World, launch: Launch) -> tuple[list[str], list[float], int]:
    async with world.database.read() as session:
        kept = (await logs.of_job(session, launch.job_id, Page(100))).rows
        series = await points_of(session, world.viewer, [launch.run_id], ["count"])
        reached = await outputs.offset(session, launch.attempt_id, 0)
    values = [value for points in series for value in points.values.tolist()]
    return [placed.line.text for placed in kept], values, reached


async def _seq(world: World, launch: Launch) -> int:
    async with world.database.read() as session:
        head = await feeds.head(session, launch.feed_id)
    assert head is not None
    return head.seq


async def test_what_was_printed_is_kept_with_how_far_it_was_read(database: Database) -> None:
    world, launch = await _launched(database)
    assert await _record(world, launch, 0, "a", "b")
    assert await _record(world, launch, 2, "c")
    assert await _kept(world, launch) == (["a", "b", "c"], [0.0, 1.0, 2.0], 3)


async def test_a_repeated_record_changes_nothing(database: Database) -> None:
    world, launch = await _launched(database)
    assert await _record(world, launch, 0, "a", "b")
    seq = await _seq(world, launch)
    assert not await _record(world, launch, 0, "a", "b")
    assert not await _record(world, launch, 1, "b")
    assert not await _record(world, launch, 5, "gap")
    assert await _seq(world, launch) == seq
    assert await _kept(world, launch) == (["a", "b"], [0.0, 1.0], 2)


async def test_two_recorders_of_one_range_keep_it_once(database: Database) -> None:
    world, launch = await _launched(database)
    for was in range(0, 20, 2):
        tried = await asyncio.gather(*(_record(world, launch, was, "x", "y") for _ in range(3)))
        assert sorted(tried) == [False, False, True]
    assert await _kept(world, launch) == (["x", "y"] * 10, [float(i) for i in range(20)], 20)


async def test_each_worker_has_an_offset_of_its_own(database: Database) -> None:
    world, launch = await _launched(database, workers=2)
    assert await _record(world, launch, 0, "zero")
    assert await _record(world, launch, 0, "one", rank=1)
    kept, values, reached = await _kept(world, launch)
    assert (kept, values, reached) == (["zero", "one"], [0.0, 0.0], 1)


async def test_a_record_that_is_not_ours_changes_nothing(database: Database) -> None:
    world, launch = await _launched(database)
    async with database.begin() as session:
        later = await leases.take(session, "elsewhere", "elsewhere")
        assert later is not None
    former: Any = SimpleNamespace(id=world.supervisor.id, epoch=world.supervisor.epoch - 1)
    seq = await _seq(world, launch)
    assert not await _record(world, launch, 0, "a", supervisor=later)
    assert not await _record(world, launch, 0, "a", supervisor=cast("Supervisor", former))
    await world.end(launch)
    assert not await _record(world, launch, 0, "after the end")
    assert await _kept(world, launch) == ([], [], 0)
    assert await _seq(world, launch) > seq


async def test_what_is_no_line_moves_the_offset_and_takes_no_number(database: Database) -> None:
    world, launch = await _launched(database)
    seq = await _seq(world, launch)
    async with database.begin() as session:
        address = (world.supervisor, launch.attempt_id, launch.feed_id, 0)
        assert await outputs.record(session, *address, was=0, reached=7, chunks=[], points=[[]])
    assert await _kept(world, launch) == ([], [], 7)
    assert await _seq(world, launch) == seq


async def _several(world: World, count: int) -> list[Launch]:
    for _ in range(count):
        await world.start({"a": ()})
    launches = list((await world.claim_all()).values())
    for launch in launches:
        await world.begin(launch)
    return launches


def _printed(launch: Launch, was: int, *words: str) -> Printed:
    chunks = lines.pack([Block(was, 1, word.encode()) for word in words])
    return Printed(launch.attempt_id, launch.feed_id, 0, was, was + len(words), chunks)


async def test_what_several_printed_is_kept_at_once_each_once_and_in_order(database: Database) -> None:
    world = await World.make(database)
    first, second, third = await _several(world, 3)
    assert await _record(world, third, 0, "before")
    given = [
        _printed(first, 0, "a", "b"),
        _printed(second, 0, "c"),
        _printed(first, 0, "a", "b"),
        _printed(third, 0, "before"),
        _printed(second, 7, "gap"),
    ]
    async with database.begin() as session:
        answers = await outputs.printed(session, world.supervisor, given)
    assert answers == [True, True, False, False, False]
    async with database.begin() as session:
        assert await outputs.printed(session, world.supervisor, [_printed(first, 2, "d")]) == [True]
    kept = [(await _kept(world, launch))[::2] for launch in (first, second, third)]
    assert kept == [(["a", "b", "d"], 3), (["c"], 1), (["before"], 1)]


async def test_what_several_printed_is_not_kept_for_whom_it_is_not(database: Database) -> None:
    world = await World.make(database)
    first, second = await _several(world, 2)
    async with database.begin() as session:
        later = await leases.take(session, "elsewhere", "elsewhere")
        assert later is not None
        assert await outputs.printed(session, later, [_printed(first, 0, "a")]) == [False]
    await world.end(second)
    async with database.begin() as session:
        given = [_printed(first, 0, "mine"), _printed(second, 0, "after the end")]
        assert await outputs.printed(session, world.supervisor, given) == [True, False]


async def test_what_many_printed_costs_no_more_statements_than_what_one_did(database: Database) -> None:
    world = await World.make(database)
    launches = await _several(world, 12)
    counts: list[int] = []
    for some in (launches[:1], launches[1:]):
        given = [_printed(launch, 0, "x") for launch in some]
        async with database.begin() as session:
            with _executed() as statements:
                assert all(await outputs.printed(session, world.supervisor, given))
        counts.append(len(statements))
    assert counts[0] == counts[1] <= 4


@contextmanager
def _executed() -> Iterator[list[str]]:
    """The statements that are executed meanwhile; one for many rows is one."""
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(Engine, "before_cursor_execute", note)
