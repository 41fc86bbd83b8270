"""The scheduler on a clock of the test's own: every due time once, whatever dies when and whoever else is there."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select, update

from backends.scheduler import Scheduler
from db import calendars, fires, firing, ids, runs, schedules, scheduling
from db.bus import Bus
from db.database import Database, Transaction
from db.fires import Outcome
from db.pipelines import Pipeline
from db.requests import Request
from db.schedules import (
    CatchUp,
    CronTrigger,
    IntervalTrigger,
    Overlap,
    Schedule,
    ScheduleState,
    Trigger,
)
from tests.backends.grounds import eventually
from tests.db.world import World, few

MANY = 40
BEGIN = datetime(2026, 3, 28, 22, 30, 30, tzinfo=UTC)
"""Some hours before the clocks of Europe change."""


class Clock:
    """A clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.at = BEGIN

    def __call__(self) -> datetime:
        return self.at

    def pass_(self, seconds: float) -> datetime:
        """Let so much time pass."""
        self.at += timedelta(seconds=seconds)
        return self.at


class Killed(BaseException):
    """The process is no more."""


class Mortal(Database):
    """A database whose process dies just before or just after some of its commits."""

    deaths: Iterator[str] = iter(())

    @asynccontextmanager
    async def begin(self, *, aside: bool = False) -> AsyncIterator[Transaction]:
        """A transaction, perhaps the last."""
        death = next(self.deaths, "")
        async with super().begin(aside=aside) as session:
            yield session
            if death == "before":
                raise Killed
        if death == "after":
            raise Killed


@pytest.fixture
def clock() -> Clock:
    """The time."""
    return Clock()


@pytest.fixture
async def mortal(database_url: str) -> AsyncIterator[Mortal]:
    """A database in a process that may die."""
    opened = Mortal(database_url, bus=Bus("memory://"))
    yield opened
    left = [pool.checkedout() for pool in opened.pools]  # type: ignore[attr-defined]
    await opened.close()
    assert not any(left), f"connections are still out: {left}"


async def schedule(world: World, clock: Clock, trigger: Trigger, **values: Any) -> bytes:
    """A schedule of a pipeline of one step."""
    pipeline_id = values.pop("pipeline_id", None) or await world.draw({"a": None})
    name = values.pop("name", f"s{ids.new().hex()}")
    request = values.pop("request", Request("local"))
    spec = scheduling.ScheduleSpec(name, pipeline_id, trigger, request, **values)
    async with world.database.begin() as session:
        return await scheduling.create(session, world.viewer, spec, clock())


async def fired(world: World, schedule_id: bytes) -> list[fires.Fire]:
    """Every fire of a schedule, the oldest first."""
    async with world.database.read() as session:
        return await session.all(
            fires.Fire,
            select(fires.Fire).where(fires.Fire.schedule_id == schedule_id).order_by(fires.Fire.id),
        )


async def row_of(world: World, schedule_id: bytes) -> schedules.Schedule:
    """A schedule as it stands."""
    async with world.database.read() as session:
        return await schedules.get(session, world.viewer, schedule_id)


async def mark(world: World, pipeline_id: bytes, deleted_at: datetime | None) -> None:
    """Delete a pipeline, or have it back."""
    changed = update(Pipeline).where(Pipeline.id == pipeline_id).values(deleted_at=deleted_at)
    async with world.database.begin() as session:
        await session.execute(changed)


def started(rows: Iterable[fires.Fire]) -> list[datetime]:
    """The due times of the fires that started something."""
    return [row.due_at for row in rows if row.outcome is Outcome.STARTED]


def every(seconds: float) -> IntervalTrigger:
    """An interval from the beginning on."""
    return IntervalTrigger(seconds, 0)


TRIGGERS = st.one_of(
    st.sampled_from([900.0, 1234.5, 3600.0]).map(every),
    st.tuples(
        st.sampled_from(["*/20 * * * *", "7 * * * *", "30 2 * * *", "0,30 1-4 * * *"]),
        st.sampled_from(["UTC", "Europe/Berlin", "Australia/Lord_Howe"]),
    ).map(lambda given: CronTrigger(*given)),
)
DEATHS = st.lists(st.sampled_from(["", "", "before", "after"]), max_size=12)


@few
@given(TRIGGERS, st.sampled_from(CatchUp), st.lists(st.integers(1, 7200), min_size=1, max_size=4), DEATHS)
async def test_no_due_time_is_fired_twice_or_with_all_missed(
    mortal: Mortal, trigger: Trigger, catch_up: CatchUp, passing: list[int], deaths: list[str]
) -> None:
    mortal.deaths = iter(())
    world, clock = await World.make(mortal), Clock()
    schedule_id = await schedule(world, clock, trigger, catch_up=catch_up)
    mortal.deaths = iter(deaths)
    for seconds in passing:
        clock.pass_(seconds)
        for _ in range(len(deaths) + 1):  # whoever died is replaced, by one who knows nothing
            try:
                await Scheduler(mortal, now=clock).step()
                break
            except Killed:
                continue
    row = await row_of(world, schedule_id)
    calendar = schedules.calendar_of(schedules.trigger_of(row))
    assert calendar is not None and row.next_at == calendar.after(clock())
    expected = calendars.latest(calendar, BEGIN + timedelta(microseconds=1), clock(), 1000)
    done = started(await fired(world, schedule_id))
    assert done == sorted(set(done)) and set(done) <= set(expected)
    if catch_up is CatchUp.ALL:
        assert done == expected
    if catch_up is CatchUp.LAST and expected:
        assert done[-1] == expected[-1]
    async with mortal.read() as session:
        ran = await session.scalar(
            select(func.count()).where(
                runs.Run.idempotency_key.startswith(ids.encode("schedule", schedule_id))
            )
        )
    assert ran == len(done)
    mortal.deaths = iter(())
    async with mortal.begin() as session:
        await scheduling.remove(session, world.viewer, schedule_id)


async def test_two_replicas_fire_what_is_due_once(database: Database, clock: Clock) -> None:
    world = await World.make(database)
    made = [await schedule(world, clock, every(60)) for _ in range(5)]
    clock.pass_(60)
    await asyncio.gather(*(Scheduler(database, now=clock).step() for _ in range(3)))
    assert [len(await fired(world, one)) for one in made] == [1] * 5


@pytest.mark.repeats
async def test_many_at_once_let_others_come_in_between(database: Database, clock: Clock) -> None:
    world = await World.make(database)
    pipeline_id = await world.draw({"a": None})
    specs = [scheduling.ScheduleSpec(f"s{n}", pipeline_id, every(60), Request("local")) for n in range(MANY)]
    async with database.begin() as session:
        made = [await scheduling.create(session, world.viewer, spec, clock()) for spec in specs]
    clock.pass_(60)
    stepping = asyncio.create_task(Scheduler(database, now=clock).step())
    turns = 0
    while not stepping.done():
        await asyncio.sleep(0)
        turns += 1
    assert await stepping == clock() + timedelta(seconds=60)
    assert turns >= MANY, "it held the loop"
    async with database.read() as session:
        latest = await fires.latest(session, made)
    assert [row.outcome for row in latest] == [Outcome.STARTED] * MANY


@pytest.mark.parametrize(
    ("catch_up", "expected"),
    [(CatchUp.SKIP, []), (CatchUp.LAST, [3540]), (CatchUp.ALL, [600 * n for n in range(1, 6)])],
)
async def test_what_passed_meanwhile_is_caught_up_as_it_is_told(
    database: Database, clock: Clock, catch_up: CatchUp, expected: list[int]
) -> None:
    world = await World.make(database)
    seconds = 590 if catch_up is CatchUp.LAST else 600
    schedule_id = await schedule(world, clock, every(seconds), catch_up=catch_up)
    clock.pass_(3599)
    await Scheduler(database, now=clock).step()
    rows = await fired(world, schedule_id)
    assert [int((due - BEGIN).total_seconds()) for due in started(rows)] == expected
    skipped = [row.message for row in rows if row.outcome is Outcome.SKIPPED]
    assert len(skipped) == (catch_up is not CatchUp.ALL)
    assert all(message and message.startswith("missed: due 2026-03-28 ") for message in skipped)


async def test_no_more_than_so_many_are_caught_up(
    database: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(firing, "MOST_CAUGHT_UP", 10)
    world = await World.make(database)
    schedule_id = await schedule(world, clock, every(60), catch_up=CatchUp.ALL)
    clock.pass_(60 * 15)
    await Scheduler(database, now=clock).step()
    rows = await fired(world, schedule_id)
    assert len(started(rows)) == firing.MOST_CAUGHT_UP and started(rows)[-1] == clock()
    assert rows[0].outcome is Outcome.SKIPPED


@pytest.mark.parametrize("overlap", Overlap)
async def test_a_run_that_is_still_active_is_met_as_it_is_told(
    database: Database, clock: Clock, overlap: Overlap
) -> None:
    world = await World.make(database)
    schedule_id = await schedule(world, clock, every(60), overlap=overlap)
    for _ in range(2):
        clock.pass_(60)
        await Scheduler(database, now=clock).step()
    first, second = await fired(world, schedule_id)
    assert first.run_id is not None
    state = (await world.run(first.run_id)).state.value
    told = (second.outcome, second.run_id is not None, state)
    assert (
        told
        == {
            Overlap.ALLOW: (Outcome.STARTED, True, "QUEUED"),
            Overlap.SKIP: (Outcome.SKIPPED, False, "QUEUED"),
            Overlap.CANCEL_PREVIOUS: (Outcome.STARTED, True, "CANCELLED"),
        }[overlap]
    )
    if overlap is Overlap.SKIP:
        await world.drive()
        clock.pass_(60)
        await Scheduler(database, now=clock).step()
        assert (await fired(world, schedule_id))[-1].outcome is Outcome.STARTED


async def test_the_jitter_is_kept_and_the_due_time_is_what_it_was(database: Database, clock: Clock) -> None:
    world = await World.make(database)
    schedule_id = await schedule(world, clock, every(600), jitter_seconds=300)
    row = await row_of(world, schedule_id)
    assert row.next_at is not None and row.wake_at is not None
    assert row.next_at <= row.wake_at < row.next_at + timedelta(seconds=300)
    clock.at = row.wake_at - timedelta(microseconds=1)
    assert await Scheduler(database, now=clock).step() == row.wake_at
    assert await fired(world, schedule_id) == []
    clock.at = row.wake_at
    await Scheduler(database, now=clock).step()
    assert started(await fired(world, schedule_id)) == [row.next_at]


async def test_bounds_are_kept_and_a_schedule_ends(database: Database, clock: Clock) -> None:
    world = await World.make(database)
    starts_at, ends_at = clock() + timedelta(seconds=100), clock() + timedelta(seconds=160)
    schedule_id = await schedule(world, clock, every(60), starts_at=starts_at, ends_at=ends_at)
    for _ in range(30):
        clock.pass_(10)
        await Scheduler(database, now=clock).step()
    assert started(await fired(world, schedule_id)) == [starts_at, ends_at]
    assert (await row_of(world, schedule_id)).state is ScheduleState.ENDED


async def test_a_clock_that_is_set_back_fires_nothing_twice(database: Database, clock: Clock) -> None:
    world = await World.make(database)
    trigger = CronTrigger("* * * * *", "UTC")
    schedule_id = await schedule(world, clock, trigger)
    clock.pass_(60)
    await Scheduler(database, now=clock).step()
    clock.pass_(-60)
    async with database.begin() as session:
        await scheduling.pause(session, world.viewer, schedule_id)
        await scheduling.resume(session, world.viewer, schedule_id, clock())
    clock.pass_(61)
    await Scheduler(database, now=clock).step()
    assert len(await fired(world, schedule_id)) == 1
    clock.pass_(60)
    await Scheduler(database, now=clock).step()
    assert len(started(await fired(world, schedule_id))) == 2


async def test_what_cannot_fire_is_recorded_and_stops_nobody(database: Database, clock: Clock) -> None:
    world = await World.make(database)
    bad = await schedule(world, clock, every(60), overlap=Overlap.ALLOW)
    good = await schedule(world, clock, every(60))
    pipeline_id = (await row_of(world, bad)).pipeline_id
    await mark(world, pipeline_id, clock())
    for _ in range(schedules.FAILURES_TO_FAILING):
        clock.pass_(60)
        await Scheduler(database, now=clock).step()
    row = await row_of(world, bad)
    assert (row.state, row.failures, row.last_error_code) == (ScheduleState.FAILING, 3, "NOT_FOUND")
    assert row.last_error is not None and row.last_error.endswith(" was deleted")
    assert [fire.outcome for fire in await fired(world, bad)] == [Outcome.FAILED] * 3
    assert len(started(await fired(world, good))) == 3
    await mark(world, pipeline_id, None)
    clock.pass_(60)
    await Scheduler(database, now=clock).step()
    row = await row_of(world, bad)
    assert (row.state, row.failures, row.last_error) == (ScheduleState.ACTIVE, 0, None)


async def test_who_wakes_a_little_early_looks_again_at_once(database: Database, clock: Clock) -> None:
    assert 0 < Scheduler(database, now=clock).patience(clock()) < 0.01


@pytest.mark.repeats
async def test_a_fault_of_ours_is_tried_again_and_then_recorded(database: Database, clock: Clock) -> None:
    """A request that this code cannot read, as an older or newer one may have left it."""
    world = await World.make(database)
    bad, good = await schedule(world, clock, every(60)), await schedule(world, clock, every(60))
    async with database.begin() as session:
        await session.execute(update(Schedule).where(Schedule.id == bad).values(request={"unknown": 1}))
    clock.pass_(60)
    scheduler = Scheduler(database, now=clock)
    for _ in range(5):
        await scheduler.step()
    assert len(started(await fired(world, good))) == 1
    (fire,) = await fired(world, bad)
    assert (fire.outcome, fire.error_code) == (Outcome.FAILED, "UNAVAILABLE")
    assert fire.message == "an internal error, which the server's log has"


async def test_the_loop_wakes_for_a_new_schedule_and_fires_in_time(database: Database) -> None:
    world = await World.make(database)
    await database.bus.open()
    scheduler = Scheduler(database, poll_seconds=3600)
    scheduler.open()
    try:
        from_now = Clock()
        from_now.at = datetime.now(UTC)
        schedule_id = await schedule(world, from_now, every(1))

        async def has_fired() -> bool:
            return bool(await fired(world, schedule_id))

        await eventually(has_fired)
        rows = await fired(world, schedule_id)
        assert rows[0].fired_at is not None
        assert rows[0].fired_at - rows[0].due_at < timedelta(seconds=1)
    finally:
        await scheduler.close()
        await database.bus.close()
