"""Logs: whatever was printed, whole and in order, in pages of any size from either end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db import feeds, lines, logs
from db.claims import Launch
from db.database import Database
from db.lines import Line
from db.logs import Placed
from db.paging import Page
from tests.db.world import World, few

texts = (st.text(max_size=8) | st.binary(max_size=8).map(lines.text_of)).map(
    lambda text: text.replace("\n", "")
)


def cursor(placed: Placed) -> tuple[int, int]:
    return placed.seq, placed.position


async def _launched(world: World) -> Launch:
    run_id = await world.start({"a": ()})
    return (await world.claim_all())[run_id, "a"]


async def _append(
    world: World, launch: Launch, given: list[Line], *, attempt: int = 1, rank: int = 0
) -> None:
    async with world.database.begin() as session:
        head = await feeds.lock(session, launch.feed_id)
        printer = logs.Printer(launch.job_id, attempt, rank, 0, 0)
        await logs.append(session, head, lines.pack(lines.blocks_of(given)), printer)


async def _walk(world: World, launch: Launch, size: int, *, backward: bool) -> list[Placed]:
    walked: list[Placed] = []
    page, more = Page(size, backward=backward), True
    while more:
        async with world.database.read() as session:
            part = await logs.of_job(session, launch.job_id, page)
        assert len(part.rows) == size or not (part.has_previous if backward else part.has_next)
        walked = [*part.rows, *walked] if backward else [*walked, *part.rows]
        more = part.has_previous if backward else part.has_next
        if backward:
            page = Page(size, before=cursor(part.rows[0]), backward=True) if more else page
        else:
            page = Page(size, after=cursor(part.rows[-1])) if more else page
    return walked


@few
@given(
    batches=st.lists(st.lists(texts, min_size=1, max_size=7), max_size=7),
    size=st.integers(1, 9),
    backward=st.booleans(),
)
async def test_pages_of_any_size_make_the_whole(
    database: Database, batches: list[list[str]], size: int, backward: bool
) -> None:
    world = await World.make(database)
    launch = await _launched(world)
    for batch in batches:
        await _append(world, launch, [Line(i, 1 + i % 2, text) for i, text in enumerate(batch)])
    walked = await _walk(world, launch, size, backward=backward)
    assert [placed.line.text for placed in walked] == [text for batch in batches for text in batch]
    assert [cursor(placed) for placed in walked] == sorted({cursor(placed) for placed in walked})
    assert await _walk(world, launch, 100, backward=not backward) == walked
    await world.end(launch)


async def test_many_lines_are_kept_in_batches_that_a_watcher_can_take(database: Database) -> None:
    world = await World.make(database)
    launch = await _launched(world)
    short = [Line(i, 1, str(i)) for i in range(lines.MOST_LINES * 2 + 1)]
    await _append(world, launch, short)
    await _append(world, launch, [Line(0, 2, "x" * lines.MOST_BYTES), Line(1, 2, "y")])
    async with database.read() as session:
        batches = await logs.since(session, launch.feed_id, 0)
        assert await logs.since(session, launch.feed_id, batches[1].seq, most=1) == [batches[2]]
    assert [len(batch.lines) for batch in batches] == [lines.MOST_LINES, lines.MOST_LINES, 1, 1, 1]
    seqs = [batch.seq for batch in batches]
    assert seqs == list(range(seqs[0], seqs[0] + 5))
    assert [placed.line for batch in batches[:3] for placed in batch.lines] == short


async def test_a_page_between_two_cursors_has_what_lies_between(database: Database) -> None:
    world = await World.make(database)
    launch = await _launched(world)
    for start in (0, 3, 6):
        await _append(world, launch, [Line(0, 1, str(start + i)) for i in range(3)])
    every = await _walk(world, launch, 100, backward=False)
    for backward in (False, True):
        page = Page(10, after=cursor(every[1]), before=cursor(every[7]), backward=backward)
        async with database.read() as session:
            part = await logs.of_job(session, launch.job_id, page)
        assert part.rows == every[2:7]


async def test_lines_say_which_attempt_and_worker_printed_them(database: Database) -> None:
    world = await World.make(database)
    launch, other = await _launched(world), await _launched(world)
    await _append(world, launch, [Line(5, 2, "first")], rank=1)
    await _append(world, other, [Line(5, 2, "elsewhere")])
    await _append(world, launch, [Line(6, 1, "second")], attempt=2)
    walked = await _walk(world, launch, 1, backward=False)
    assert [(p.attempt, p.rank, p.line) for p in walked] == [
        (1, 1, Line(5, 2, "first")),
        (2, 0, Line(6, 1, "second")),
    ]


async def test_the_lines_of_a_preparation_are_those_of_no_job(database: Database) -> None:
    world = await World.make(database)
    launch = await _launched(world)
    async with database.begin() as session:
        head = await feeds.lock(session, launch.feed_id)
        await logs.note(session, head, [Line(1, 1, "installing")])
    await _append(world, launch, [Line(2, 1, "a job's")])
    async with database.read() as session:
        part = await logs.of_feed(session, launch.feed_id, Page(10))
    assert [placed.line.text for placed in part.rows] == ["installing"]


@pytest.mark.parametrize(
    ("printed", "shown"),
    [
        (b"caf\xc3\xa9", "café"),
        (b"\xff\xfe\x00ok", "\\xff\\xfe\x00ok"),
        (b"\xed\xa0\x80", "\\xed\\xa0\\x80"),
        (b"\x1b[31mred\x1b[0m\r", "\x1b[31mred\x1b[0m\r"),
        (b"cut \xe2\x82", "cut \\xe2\\x82"),
    ],
)
async def test_noise_becomes_text_that_can_be_kept_and_shown(
    database: Database, printed: bytes, shown: str
) -> None:
    world = await World.make(database)
    launch = await _launched(world)
    await _append(world, launch, [Line(1, 1, lines.text_of(printed))])
    assert [placed.line.text for placed in await _walk(world, launch, 5, backward=False)] == [shown]
