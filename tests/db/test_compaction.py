"""Compaction: whoever follows or reads gets every point once, in order, whatever is put together meanwhile."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select, update

from backends import compactor as compactors
from backends.compactor import Compactor
from db import batches, chunks, columns, compaction, feeds, metrics, summaries
from db.claims import Launch
from db.compaction import Due, Window
from db.database import Database, Session
from db.feeds import Feed
from db.metrics import Chunk
from db.points import Column, Points
from tests.db.world import ROOMY, World, few, function, origin_of, points_of

Told = list[tuple[int, str, int, list[int], list[float]]]


@given(st.lists(st.tuples(st.integers(1, 2**40), st.integers(1, 70_000)), min_size=1, max_size=50))
def test_numbers_are_coded_and_read_again(runs: list[tuple[int, int]]) -> None:
    seqs = np.cumsum([step for step, _ in runs]).astype(np.int64)
    counts = np.array([count for _, count in runs], np.int64)
    coded = chunks.encode(seqs, counts)
    found, of = chunks.decode(coded, int(seqs[0]), int(counts.sum()))
    assert (found.tolist(), of.tolist()) == (seqs.tolist(), counts.tolist())
    for after in (0, int(seqs[0]), int(seqs[-1]) - 1, int(seqs[-1])):
        past = list(chunks.numbers_past(coded, int(seqs[0]), int(counts.sum()), after))
        assert [seq for seq, _, _ in past] == [seq for seq in seqs.tolist() if seq > after]
        assert [stop - start for _, start, stop in past] == counts[seqs > after].tolist()


def test_numbers_at_a_rhythm_take_next_to_nothing() -> None:
    coded = chunks.encode(np.arange(1, 60_000, 3), np.full(20_000, 1))
    assert coded is not None and len(coded) < 20


def told(parts: Sequence[Points]) -> Told:
    return [(p.seq, p.name, p.rank, p.steps.tolist(), p.values.tolist()) for p in parts]


@dataclass
class Life:
    """A run whose workers report, and watchers that stand somewhere in its feed."""

    world: World
    launch: Launch
    expected: Told = field(default_factory=list)
    count: int = 0

    async def report(self, sizes: Sequence[int]) -> None:
        """A batch: so many points of each metric."""
        given = []
        for index, size in enumerate(sizes):
            values = np.arange(self.count, self.count + size, dtype=np.float64)
            self.count += size
            given.append(Column(f"m{index}", np.zeros(size, np.int64), values, values.astype(np.int64)))
        origin = await origin_of(self.world, self.launch, 0)
        async with self.world.database.begin() as session:
            head = await feeds.lock(session, self.launch.feed_id)
            seq = await batches.append(session, head, origin, given)
        self.expected += [
            (seq, c.name, 0, [int(v) for v in c.values], c.values.tolist()) for c in given if len(c.values)
        ]

    async def say(self) -> None:
        """Something else takes a number."""
        async with self.world.database.begin() as session:
            head = await feeds.lock(session, self.launch.feed_id)
            head.emit(feeds.Subject.RUN, self.launch.run_id, columns.now(), state="RUNNING")

    async def end(self, *, ended: bool = True) -> None:
        """The feed ends, or goes on."""
        async with self.world.database.begin() as session:
            this = update(Feed).where(Feed.id == self.launch.feed_id)
            await session.execute(this.values(ended=ended, settled=False))

    async def after(self, cursor: int, most: int) -> tuple[Told, int | None]:
        """What a watcher that stands there is told next, and where it stands then."""
        async with self.world.database.read() as session:
            added = await metrics.since(session, self.launch.feed_id, cursor, most=most)
        return told(added.parts), added.upto

    async def head(self) -> int:
        """The last number of the feed."""
        async with self.world.database.read() as session:
            feed = await feeds.head(session, self.launch.feed_id)
        assert feed is not None
        return feed.seq

    def by_name(self) -> dict[str, list[float]]:
        """What was reported of each metric."""
        found: dict[str, list[float]] = {}
        for _, name, _, _, values in self.expected:
            found[name] = found.get(name, []) + values
        return found

    async def _series(self) -> list[Points]:
        names = [f"m{index}" for index in range(4)]
        async with self.world.database.read() as session:
            return await points_of(session, self.world.viewer, [self.launch.run_id], names)

    async def whole(self) -> dict[str, list[float]]:
        """What is read of each metric."""
        return {points.name: points.values.tolist() for points in await self._series()}

    async def ends(self) -> dict[str, int]:
        """The number of each metric's last point."""
        return {points.name: points.seq for points in await self._series()}

    async def rows(self) -> int:
        """How many chunks there are."""
        async with self.world.database.read() as session:
            of = select(func.count()).select_from(Chunk).where(Chunk.feed_id == self.launch.feed_id)
            found: int = await session.scalar(of)
        return found


async def begun(database: Database) -> Life:
    world = await World.make(database, function(workers=1), **ROOMY)
    run_id = await world.start({"a": ()})
    launch = (await world.claim_all())[run_id, "a"]
    await world.begin(launch)
    return Life(world, launch)


@pytest.fixture(autouse=True)
def small() -> Iterator[None]:
    """Windows that a few points fill."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compaction, "MOST_POINTS", 12)
        patch.setattr(compaction, "MOST_ROWS", 6)
        patch.setattr(compaction, "_AGAIN", 2)
        patch.setattr(metrics, "_MOST_POINTS", 10)
        patch.setattr(metrics, "_INLINE", 2)
        yield


class Death(BaseException):
    """The process dies."""


class Dies(Compactor):
    """A compactor whose process dies in a transaction, after so many windows."""

    def __init__(self, database: Database, lives: int) -> None:
        super().__init__(database)
        self.lives = lives

    async def _put(self, at: Due, window: Window) -> Due:
        if not self.lives:
            async with self._database.read() as reading:
                rows = await compaction.content(reading, at, window)
            async with self._database.begin() as session:
                await compaction.put(session, at, window, rows)
                raise Death
        self.lives -= 1
        return await super()._put(at, window)


@dataclass
class Watcher:
    """Who follows a feed a page at a time."""

    life: Life
    cursor: int
    seen: Told = field(default_factory=list)

    async def look(self, most: int) -> bool:
        """Read on; False at the end."""
        parts, upto = await self.life.after(self.cursor, most)
        assert all(self.cursor < seq and (upto is None or seq <= upto) for seq, *_ in parts)
        self.seen += parts
        self.cursor = max([upto or self.cursor, *(seq for seq, *_ in parts)])
        return upto is not None


acts = st.one_of(
    st.tuples(st.just("report"), st.lists(st.integers(0, 4), min_size=1, max_size=4)),
    st.tuples(st.just("say"), st.none()),
    st.tuples(st.just("compact"), st.integers(0, 5)),
    st.tuples(st.just("both"), st.none()),
    st.tuples(st.just("end"), st.booleans()),
    st.tuples(st.just("watch"), st.tuples(st.integers(0, 2), st.integers(1, 5))),
)


async def act(life: Life, watchers: Sequence[Watcher], kind: str, given: Any) -> None:
    match kind:
        case "report":
            await life.report(given)
        case "say":
            await life.say()
        case "compact":
            with suppress(Death):
                await Dies(life.world.database, given).step()
        case "both":
            await asyncio.gather(*(Compactor(life.world.database).step() for _ in range(2)))
        case "end":
            await life.end(ended=given)
        case "watch":
            await watchers[given[0]].look(given[1])


@few
@given(script=st.lists(acts, min_size=4, max_size=40))
async def test_every_watcher_gets_every_number_once_and_in_order(
    database: Database, script: list[tuple[str, Any]]
) -> None:
    life = await begun(database)
    start = await life.head()
    watchers = [Watcher(life, start) for _ in range(3)]
    for kind, of in script:
        await act(life, watchers, kind, of)
    for watcher in watchers:
        while await watcher.look(2):
            pass
        assert [seq for seq, *_ in watcher.seen] == sorted(seq for seq, *_ in watcher.seen)
        assert sorted(watcher.seen) == sorted(life.expected)
    assert await life.whole() == life.by_name()
    await life.end()
    await life.world.end(life.launch)


async def test_an_ended_run_has_few_chunks_that_are_left_alone_then(database: Database) -> None:
    life = await begun(database)
    for _ in range(50):
        await life.report([1, 1])
    assert await life.rows() == 100
    await life.end()
    await Compactor(database).step()
    rows = await life.rows()
    assert rows <= 2 * (100 // 6 + 1), "windows are at least half full"
    async with database.read() as session:
        assert [due.feed_id for due in await compaction.due(session) if due.ended] == []
    assert await life.whole() == life.by_name()


async def test_a_run_that_goes_on_keeps_its_newest_chunks_as_they_came(database: Database) -> None:
    life = await begun(database)
    for _ in range(9):
        await life.report([1])
    await Compactor(database).step()
    assert await life.rows() == 1 + 3, "six in a window, and three that fill none"


async def test_what_was_compacted_is_read_with_the_number_of_its_own_last_point(database: Database) -> None:
    life = await begun(database)
    await life.report([1, 1])
    await life.report([1, 1])
    await life.report([0, 1])
    before = await life.ends()
    await life.end()
    await Compactor(database).step()
    assert await life.rows() == 2
    assert await life.ends() == before


async def test_of_two_that_compact_the_same_window_one_gives_way(database: Database) -> None:
    life = await begun(database)
    for _ in range(4):
        await life.report([1])
    await life.end()
    async with database.read() as session:
        (due,) = [each for each in await compaction.due(session) if each.feed_id == life.launch.feed_id]
        (window,) = await compaction.windows(session, due)
        rows = await compaction.content(session, due, window)
    async with database.begin() as session:
        await compaction.put(session, due, window, rows)
    with pytest.raises(compaction.Stale):
        async with database.begin() as session:
            await compaction.put(session, due, window, rows)
    assert await life.whole() == life.by_name()


async def test_ended_runs_with_nothing_to_put_together_cost_no_statement_each(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await World.make(database, function(workers=1), **ROOMY)
    statements = 0
    execute = Session.execute

    async def counting(session: Session, *given: Any) -> Any:
        nonlocal statements
        statements += 1
        return await execute(session, *given)

    counts = []
    for number in (1, 5):
        started = [await world.start({"a": ()}) for _ in range(number)]
        claimed = await world.claim_all()
        lives = [Life(world, claimed[run_id, "a"]) for run_id in started]
        for life in lives:
            await world.begin(life.launch)
            await life.report([1, 1])
            await life.end()
        with monkeypatch.context() as patch:
            patch.setattr(Session, "execute", counting)
            statements = 0
            await Compactor(database).step()
            counts.append(statements)
        async with database.read() as session:
            left = {due.feed_id for due in await compaction.due(session)}
        assert not left & {life.launch.feed_id for life in lives}
        assert [await life.rows() for life in lives] == [2] * number
    assert counts[0] == counts[1] <= 4


async def test_windows_that_are_read_together_are_those_that_are_read_one_by_one(database: Database) -> None:
    life = await begun(database)
    for sizes in ([1], [5, 5], [12], [3, 3], [13], [1, 1, 1], [1], [1]):
        await life.report(sizes)
    async with database.read() as session:
        (due,) = [each for each in await compaction.due(session) if each.feed_id == life.launch.feed_id]
        together, at = [], due
        while found := await compaction.windows(session, at):
            together += found
            at = compaction.passed(at, found[-1])
        alone, at = [], due
        while found := await compaction.windows(session, at):
            alone.append(found[0])
            at = compaction.passed(at, found[0])
    assert [(w.after, w.upto, w.rows, w.points) for w in together] == [
        (w.after, w.upto, w.rows, w.points) for w in alone
    ]
    assert sum(w.points for w in together) == life.count
    assert not together[-1].more and all(w.more for w in together[:-1])


async def test_what_comes_meanwhile_is_left_for_the_next_time(database: Database) -> None:
    life = await begun(database)
    for _ in range(7):
        await life.report([1])
    async with database.read() as session:
        (due,) = [each for each in await compaction.due(session) if each.feed_id == life.launch.feed_id]
    for _ in range(7):
        await life.report([1])
    async with database.read() as session:
        found = await compaction.windows(session, due)
    assert sum(window.rows for window in found) in (6, 7) and found[-1].upto <= due.head


async def test_it_rests_long_while_others_write_and_goes_on_when_nobody_does(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_REST_BESIDE_OTHERS", "_LONGEST_REST_SECONDS"):
        monkeypatch.setattr(compactors, name, 1e6)
    life = await begun(database)
    for _ in range(30):
        await life.report([1])
    await life.end()
    compacting = asyncio.create_task(Compactor(database).step())
    for _ in range(20):
        await life.say()
    assert not compacting.done()
    compacting.cancel()
    await asyncio.wait({compacting})
    await life.end()
    async with asyncio.timeout(20):
        await Compactor(database).step()
    assert await life.rows() == 5


async def test_a_run_whose_picks_another_server_makes_is_not_settled_before_they_are_all_there(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    life = await begun(database)
    await life.report([1])
    await life.end()

    async def due(_: Session, __: object, ended: set[bytes]) -> dict[bytes, list[object]]:
        return {owner: [object()] for owner in ended}

    async def piece(*_: object, **__: object) -> object:
        return object()

    async def write(*_: object) -> bool:
        return False

    async def is_due() -> bool:
        async with database.read() as session:
            return life.launch.feed_id in {each.feed_id for each in await compaction.due(session)}

    with monkeypatch.context() as patch:
        for each in (due, piece, write):
            patch.setattr(summaries, each.__name__, each)
        await Compactor(database).step()
    assert await is_due()
    await Compactor(database).step()
    assert not await is_due()
