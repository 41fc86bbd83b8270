"""Retention: what is inside the window is never touched, what is outside goes to picks and gaps, whoever dies."""

import importlib
import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import delete, func, select, text, update

from backends.aging import Aging
from backends.compactor import Compactor
from db import (
    batches,
    columns,
    curves,
    downsampling,
    errors,
    exports,
    feeds,
    logs,
    metrics,
    reported,
    retention,
    stretches,
    summaries,
)
from db.claims import Launch
from db.curves import Curve, Wanted
from db.database import Database, Transaction
from db.downsampling import Placed
from db.feeds import Feed
from db.headlines import RunMetric
from db.lines import Line, blocks_of, pack
from db.logs import LogChunk, Printer
from db.metrics import Chunk, Series
from db.paging import Page
from db.points import Column
from db.runs import Run
from db.viewers import Kind, Viewer
from graph import live
from tests.db.world import ROOMY, World, few, origin_of

floors_of_points = importlib.import_module("db.migrations.versions.0022_floors_of_points")
numbers = st.floats(-5, 5) | st.sampled_from([0.0, 1.0, math.nan, math.inf])


@pytest.fixture(autouse=True)
def small() -> Iterator[None]:
    """Picks and blocks that a few points fill, and pieces of few rows."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (downsampling, stretches, curves, summaries):
            patch.setattr(module, "CELLS", (4, 8, 16))
        patch.setattr(summaries, "BLOCK", 16)
        patch.setattr(summaries, "_PIECE", 32)
        patch.setattr(metrics, "ERASED_POINTS", 10)
        patch.setattr(retention, "_LOG_CHUNKS", 2)
        patch.setattr(retention, "_PAGE", 2)
        yield


@dataclass
class Life:
    """A run, what it measured and how many lines it printed."""

    world: World
    launch: Launch
    lines: int = 0

    @property
    def run_id(self) -> bytes:
        return self.launch.run_id

    async def report(self, values: Sequence[float], start: int = 0) -> None:
        origin = await origin_of(self.world, self.launch)
        steps = np.arange(start, start + len(values))
        column = Column("loss", steps, np.array(values, np.float64), steps)
        async with self.world.database.begin() as session:
            head = await feeds.lock(session, self.launch.feed_id)
            await batches.append(session, head, origin, [column])

    async def say(self, count: int) -> None:
        async with self.world.database.begin() as session:
            head = await feeds.lock(session, self.launch.feed_id)
            printer = Printer(self.launch.job_id, 1, 0, self.lines, self.lines * 4)
            lines = [Line(1, 1, "said") for _ in range(count)]
            await logs.append(session, head, pack(blocks_of(lines)), printer)
        self.lines += count

    async def change(self, count: int) -> None:
        async with self.world.database.begin() as session:
            head = await feeds.lock(session, self.launch.feed_id)
            for _ in range(count):
                head.emit(feeds.Subject.JOB, self.launch.job_id, columns.now(), state="RUNNING", step="a")

    async def told(self, after: int, *, points: bool) -> list[live.Item]:
        """What who follows its feed from there to the end is told."""
        hub = live.Hub(self.world.database)
        try:
            return [item async for item in hub.follow(self.launch.feed_id, after, points=points)]
        finally:
            hub.close()

    async def end(self, days_ago: float) -> None:
        await self.world.end(self.launch)
        ended = columns.now() - timedelta(days=days_ago)
        async with self.world.database.begin() as session:
            await session.execute(update(Run).where(Run.id == self.run_id).values(ended_at=ended))

    async def read(self, **wanted: Any) -> Curve:
        async with self.world.database.read() as session:
            (found,) = await curves.read(
                session, self.world.viewer, Wanted([self.run_id], ["loss"], **wanted)
            )
        return found

    async def count(self, table: type[Any]) -> int:
        async with self.world.database.read() as session:
            of = select(func.count()).select_from(table).where(table.feed_id == self.launch.feed_id)
            found: int = await session.scalar(of)
        return found

    async def feed(self) -> Feed:
        async with self.world.database.read() as session:
            found = await feeds.head(session, self.launch.feed_id)
        assert found is not None
        return found


async def begun(world: World) -> Life:
    run_id = await world.start({"a": ()})
    launch = (await world.claim_all())[run_id, "a"]
    await world.begin(launch)
    return Life(world, launch)


async def keep(world: World, **days: int | None) -> None:
    async with world.database.begin() as session:
        await retention.set_days(session, world.viewer, None, days)


def picked(values: Sequence[float], cell: int = 4) -> list[float]:
    at = np.arange(len(values))
    whole = Placed(at, at, at, np.array(values, np.float64))
    found: list[float] = whole.picked(cell).values.tolist()
    return found


class Death(BaseException):
    """The process dies."""


class Dies(Aging):
    """Whose process dies in a transaction, after so many of them."""

    def __init__(self, database: Database, lives: int) -> None:
        super().__init__(database)
        self.lives = lives

    async def _until_done(self, work: Any) -> None:
        async def mortal(session: Transaction) -> bool:
            left: bool = await work(session)
            self.lives -= 1
            if self.lives < 0:
                raise Death
            return left

        await super()._until_done(mortal)


@few
@given(
    values=st.lists(numbers, min_size=1, max_size=80),
    more=st.lists(numbers, max_size=30),
    lives=st.lists(st.integers(0, 3), max_size=3),
    most=st.integers(4, 30),
)
async def test_old_points_become_picks_and_nothing_else_whoever_dies(
    database: Database, values: list[float], more: list[float], lives: list[int], most: int
) -> None:
    world = await World.make(database, **ROOMY)
    await keep(world, metrics_days=30, logs_days=None)
    old, young = await begun(world), await begun(world)
    for life in (old, young):
        for start in range(0, len(values), 7):
            await life.report(values[start : start + 7], start)
        await life.say(3)
    before = await old.read(most=most)
    await old.end(31)
    await young.end(29)
    for count in lives:
        with suppress(Death):
            await Dies(database, count).step()
    await Aging(database).step()
    assert (await young.read()).points.values.tobytes() == np.array(values).tobytes()
    assert not (await young.read()).thinned and (await young.feed()).points_floor == 0
    after = await old.read()
    assert after.points.values.tobytes() == np.array(picked(values)).tobytes()
    assert (after.thinned, after.bucket, after.total) == (True, 4, len(values))
    assert await old.count(Chunk) == 0 and await old.count(LogChunk) == await young.count(LogChunk)
    feed = await old.feed()
    assert (feed.floor, feed.points_floor) == (0, feed.seq)
    if before.bucket % 4 == 0 and len(picked(values)) > most:
        drawn = await old.read(most=most)
        assert drawn.points.values.tobytes() == before.points.values.tobytes()
    # A late report of one that was taken for lost: what is behind is whole, and stays so until it is old.
    await old.report(more, len(values))
    await Compactor(database).step()
    late = (await old.read()).points.values
    assert late.tobytes() == np.array([*picked(values), *more]).tobytes() or len(more) >= 16
    await world.drive()


async def test_who_fetches_what_is_left_of_a_series_holds_no_connection_meanwhile(database: Database) -> None:
    world = await World.make(database)
    await keep(world, metrics_days=1, logs_days=None)
    life = await begun(world)
    await life.report([float(value) for value in range(40)])
    await life.end(2)
    await Aging(database).step()
    found = await exports.found(database, world.viewer, Wanted([life.run_id], ["loss"]), every=False)
    taken = []
    async for (part,) in exports.parts(database, found):
        assert {pool.checkedout() for pool in database.pools} == {0}  # type: ignore[attr-defined]
        taken += part.values.tolist()
    assert taken == picked([float(value) for value in range(40)])


async def test_old_lines_become_a_gap_of_each_worker(database: Database) -> None:
    world = await World.make(database)
    await keep(world, logs_days=7)
    old, young = await begun(world), await begun(world)
    for life in (old, young):
        for count in (3, 1, 4, 1, 5):
            await life.say(count)
        await life.report([1.0])
    await old.end(8)
    await young.end(6)
    await Aging(database).step()
    async with database.read() as session:
        assert (await logs.of_job(session, old.launch.job_id, Page(10))).rows == []
        (gap,) = await logs.gaps(session, [old.launch.job_id])
        assert (gap.first_line, gap.dropped) == (1, 14)
        assert len((await logs.of_job(session, young.launch.job_id, Page(20))).rows) == 14
    assert (await old.read()).points.values.tolist() == [1.0] and await old.count(Chunk) == 1
    assert {(feed.floor, feed.points_floor) for feed in (await old.feed(), await young.feed())} == {(0, 0)}
    await Aging(database).step()
    assert await old.count(LogChunk) == 1


@few
@given(
    script=st.lists(
        st.tuples(st.sampled_from(["report", "say", "change"]), st.integers(1, 4)), min_size=1, max_size=12
    ),
    kept=st.sampled_from([{"logs_days": 1}, {"metrics_days": 1}, {"metrics_days": 1, "logs_days": 1}]),
    lives=st.lists(st.integers(0, 3), max_size=3),
    back=st.floats(0, 1),
)
async def test_who_resumes_is_told_of_what_is_gone_that_they_want_and_of_nothing_else(
    database: Database, script: list[tuple[str, int]], kept: dict[str, int], lives: list[int], back: float
) -> None:
    world = await World.make(database, **ROOMY)
    await keep(world, **{"metrics_days": None, "logs_days": None, **kept})
    life = await begun(world)
    for act, count in script:
        await life.report([1.0] * count) if act == "report" else await getattr(life, act)(count)
    await life.end(2)
    after = int(back * (await life.feed()).seq)
    whole = {points: await life.told(after, points=points) for points in (True, False)}
    assert not any(isinstance(item, live.Truncated) for told in whole.values() for item in told)
    for count in [*lives, 1000]:
        with suppress(Death):
            await Dies(database, count).step()
        floor = (await life.feed()).points_floor
        assert not floor or ("metrics_days" in kept and ("report" in {act for act, _ in script}))
        for points in (True, False):
            told = await life.told(after, points=points)
            gaps = [item.resume_from for item in told if isinstance(item, live.Truncated)]
            assert gaps == ([floor + 1] if points and after < floor else [])
            since = max(after, floor if points else 0)
            assert _changes(told) == [seq for seq in _changes(whole[points]) if seq > since]
            assert not points or _points(told) == [seq for seq in _points(whole[True]) if seq > since]
            printed = _lines(told)
            assert printed == sorted(set(printed)), "each line once, as itself or in a gap"
            if since == after:
                assert set(printed) >= set(_lines(whole[points])), "none is missing"
    await world.drive()


def _changes(told: Sequence[live.Item]) -> list[int]:
    return [item.seq for item in told if isinstance(item, live.Message) and item.event is not None]


def _points(told: Sequence[live.Item]) -> list[int]:
    return [item.seq for item in told if isinstance(item, live.Message) and item.points]


def _lines(told: Sequence[live.Item]) -> list[int]:
    """The numbers of the lines, also of those that gaps say are missing."""
    batches = [item.lines for item in told if isinstance(item, live.Message) and item.lines is not None]
    counts = [(batch.first_line, batch.count + batch.dropped) for batch in batches]
    return [number for first, count in counts for number in range(first, first + count)]


async def test_what_was_said_before_of_lines_alone_is_no_gap_any_more(database: Database) -> None:
    world = await World.make(database)
    lined, thinned, deleted = await begun(world), await begun(world), await begun(world)
    for life in (lined, thinned, deleted):
        await life.report([1.0] * 5)
        await life.end(5)
    async with database.begin() as session:
        await session.execute(update(Feed).values(floor=Feed.seq))
        old = update(Series).where(Series.run_id == thinned.run_id)
        await session.execute(old.values(thinned=Series.points, thinned_seq=3))
        await session.execute(update(Run).where(Run.id == deleted.run_id).values(deleted_at=columns.now()))
        await session.execute(text(floors_of_points.APART))
    feeds_of = [await life.feed() for life in (lined, thinned, deleted)]
    assert [(feed.floor, feed.points_floor) for feed in feeds_of] == [(0, 0), (0, 3), (feeds_of[2].seq, 0)]


async def test_what_goes_on_is_never_touched(database: Database) -> None:
    world = await World.make(database)
    await keep(world, metrics_days=1, logs_days=1)
    life = await begun(world)
    await life.report([1.0] * 20)
    await life.say(5)
    await Aging(database).step(now=columns.now() + timedelta(days=400))
    assert len((await life.read()).points.values) == 20 and (await life.feed()).points_floor == 0
    await life.end(0)


async def test_a_run_that_has_gone_on_since_it_was_found_is_left_alone(database: Database) -> None:
    world = await World.make(database)
    life = await begun(world)
    await life.report([1.0] * 20)
    await life.end(5)
    async with database.read() as session:
        (found,) = await retention.with_points(session, world.project_id, columns.now())
    later = update(Run).where(Run.id == life.run_id).values(ended_at=columns.now())
    async with database.begin() as session:
        await session.execute(later)
    async with database.begin() as session:
        assert not await retention.thin(session, found)
        assert not await retention.drop_points(session, found)
        assert not await retention.drop_lines(session, found)
    assert len((await life.read()).points.values) == 20


async def test_a_series_without_all_its_picks_is_not_thinned(database: Database) -> None:
    world = await World.make(database)
    life = await begun(world)
    await life.report([1.0] * 20)
    await life.end(5)
    async with database.read() as session:
        (found,) = await retention.with_points(session, world.project_id, columns.now())
    async with database.begin() as session:
        assert not await retention.thin(session, found)
    assert len((await life.read()).points.values) == 20


async def test_headlines_of_a_job_are_told_from_picks(database: Database) -> None:
    world = await World.make(database)
    await keep(world, metrics_days=1)
    life = await begun(world)
    await life.report([float(n % 13) for n in range(50)])
    await life.end(5)
    await Aging(database).step()
    async with database.begin() as session:
        await session.execute(delete(RunMetric).where(RunMetric.run_id == life.run_id))
    async with database.read() as session:
        found = await reported.of_jobs(session, [life.run_id], [life.launch.job_id])
    headline = found[life.launch.job_id, "loss"]
    assert (headline.minimum, headline.maximum, headline.last, headline.last_step) == (0.0, 12.0, 10.0, 49)


@pytest.mark.parametrize("days", [0, -1, 36_501])
async def test_days_that_are_none_are_refused(database: Database, days: int) -> None:
    world = await World.make(database)
    with pytest.raises(errors.Invalid) as refused:
        await keep(world, logs_days=days)
    assert refused.value.problems[0].path == ("logsDays",)
    with pytest.raises(errors.Forbidden):
        async with database.begin() as session:
            viewer = Viewer(Kind.JOB, run_id=b"", job_id=b"")
            await retention.set_days(session, viewer, None, {"logs_days": 1})


async def test_what_is_not_given_stays(database: Database) -> None:
    world = await World.make(database)
    await keep(world, metrics_days=30, logs_days=7)
    await keep(world, logs_days=None)
    async with database.read() as session:
        assert await retention.days(session) == [(world.project_id, 30, None)]
