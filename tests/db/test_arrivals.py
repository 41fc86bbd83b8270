"""Files that arrive and runs that end: once each, in batches if asked, and never in a circle."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from db import arrivals, columns, errors, fires, firing, ids, runs, schedules, scheduling, users
from db.arrivals import Arrival
from db.database import Database
from db.fires import Fire, Outcome
from db.requests import Request
from db.schedules import FileTrigger, IntervalTrigger, RunTrigger, ScheduleState, Trigger
from db.states import EndReason
from db.viewers import Kind, Viewer
from tests.db.world import World, made

ANY = FileTrigger(("INPUT", "OUTPUT"), "*", {}, None)


async def schedule(world: World, trigger: Trigger, **values: Any) -> bytes:
    """A schedule of a pipeline of one step."""
    viewer = values.pop("viewer", world.viewer)
    pipeline_id = values.pop("pipeline_id", None) or await world.draw({"a": None})
    spec = scheduling.ScheduleSpec(f"s{ids.new().hex()}", pipeline_id, trigger, Request("local"), **values)
    async with world.database.begin() as session:
        return await scheduling.create(session, viewer, spec, columns.now())


async def fire_all(world: World, *, later: float = 0.0) -> None:
    """Fire what is due in so many seconds; a refusal is recorded."""
    now = columns.now() + timedelta(seconds=later)
    async with world.database.read() as session:
        found = await firing.due(session, now)
    for one in found:
        try:
            async with world.database.begin() as session:
                await firing.fire(session, one, now)
        except errors.DomainError as refusal:
            async with world.database.begin() as session:
                await firing.fire(session, one, now, refusal=refusal)


async def fired(world: World, schedule_id: bytes) -> list[Fire]:
    """A schedule's fires, the oldest first."""
    async with world.database.read() as session:
        mine = select(Fire).where(Fire.schedule_id == schedule_id).order_by(Fire.id)
        return await session.all(Fire, mine)


async def files_of(world: World, rows: Sequence[Fire]) -> list[list[str]]:
    """The names of the input files of the runs that were started."""
    async with world.database.read() as session:
        found = [await runs.files_of(session, [row.run_id]) for row in rows if row.run_id is not None]
    return [[file.name for file in files] for files in found]


async def finish(world: World, outcomes: Any = None, *outputs: str) -> None:
    """Launch and end what is queued now, each job making these files."""
    for launch in (await world.claim_all()).values():
        await world.begin(launch)
        await world.end(launch, EndReason.COMPLETED, *(made(name) for name in outputs))


@pytest.mark.parametrize(
    ("trigger", "file", "expected"),
    [
        (FileTrigger(("INPUT",), "*.csv", {}, None), Arrival(b"", "a.csv", "INPUT", {}), True),
        (FileTrigger(("INPUT",), "*.csv", {}, None), Arrival(b"", "a.CSV", "INPUT", {}), False),
        (FileTrigger(("INPUT",), "*.csv", {}, None), Arrival(b"", "a.csv", "OUTPUT", {}), False),
        (FileTrigger(("INPUT",), "a[0-9].csv", {}, None), Arrival(b"", "a7.csv", "INPUT", {}), True),
        (FileTrigger(("INPUT",), "*", {"n": 1}, None), Arrival(b"", "a", "INPUT", {"n": 1, "m": 2}), True),
        (FileTrigger(("INPUT",), "*", {"n": 1}, None), Arrival(b"", "a", "INPUT", {"n": 2}), False),
        (FileTrigger(("INPUT",), "*", {"n": 1}, None), Arrival(b"", "a", "INPUT", {}), False),
    ],
)
def test_a_trigger_takes_files_by_kind_name_and_tags(
    trigger: FileTrigger, file: Arrival, expected: bool
) -> None:
    assert arrivals.matches(trigger, file) is expected


async def test_each_file_gives_one_run_however_often_it_is_looked_at(database: Database) -> None:
    world = await World.make(database)
    schedule_id = await schedule(world, ANY)
    for name in ("a", "b", "c"):
        await world.upload(name)
    await fire_all(world)
    await fire_all(world)
    rows = await fired(world, schedule_id)
    assert [row.outcome for row in rows] == [Outcome.STARTED] * 3
    assert await files_of(world, rows) == [["a"], ["b"], ["c"]]


async def test_an_arrival_that_was_read_twice_fires_once(database: Database) -> None:
    world = await World.make(database)
    schedule_id = await schedule(world, ANY)
    await world.upload("a")
    now = columns.now()
    async with database.read() as session:
        (one,) = await firing.due(session, now)
    for _ in range(2):
        async with database.begin() as session:
            await firing.fire(session, one, now)
    assert len(await fired(world, schedule_id)) == 1
    assert len(await world.claim_all()) == 1


async def test_files_of_a_batch_are_one_run(database: Database) -> None:
    world = await World.make(database)
    schedule_id = await schedule(world, FileTrigger(("INPUT",), "*", {}, 60.0))
    for name in ("a", "b", "c"):
        await world.upload(name)
    await fire_all(world)
    assert [row.outcome for row in await fired(world, schedule_id)] == [Outcome.PENDING] * 3
    await fire_all(world, later=61)
    rows = await fired(world, schedule_id)
    assert len({row.run_id for row in rows}) == 1
    assert await files_of(world, rows[:1]) == [["a", "b", "c"]]


async def test_what_a_schedule_caused_does_not_fire_it_again(database: Database) -> None:
    """Two schedules that feed each other, and one that would feed itself: each fires once."""
    world = await World.make(database)
    own = await schedule(world, FileTrigger(("INPUT", "OUTPUT"), "in*", {}, None))
    there = await schedule(world, FileTrigger(("OUTPUT",), "in*", {}, None))
    await world.upload("in.txt")
    for _ in range(4):
        await fire_all(world)
        await finish(world, None, "in-made.txt")
    assert [row.file_id is not None for row in await fired(world, own)] == [True]
    assert len(await fired(world, there)) == 1
    assert await world.claim_all() == {}


async def test_a_run_that_ended_starts_another_with_the_outputs_that_are_asked_for(
    database: Database,
) -> None:
    world = await World.make(database)
    first = await world.draw({"a": (), "b": ("a",), "c": ("a",)})
    last = await schedule(world, RunTrigger(("SUCCEEDED",), True, None), after_pipeline_id=first)
    of_a = await schedule(world, RunTrigger(("SUCCEEDED",), True, ("a",)), after_pipeline_id=first)
    none = await schedule(world, RunTrigger(("SUCCEEDED", "FAILED"), False, None), after_pipeline_id=first)
    failed = await schedule(world, RunTrigger(("FAILED",), False, None), after_pipeline_id=first)
    run_id = await world.start(first)
    while claimed := await world.claim():
        for step, launch in claimed.items():
            await world.begin(launch)
            await world.end(launch, EndReason.COMPLETED, made(f"{step}.txt"))
    await fire_all(world)
    (row,) = await fired(world, last)
    assert row.after_run_id == run_id
    assert await files_of(world, [row]) == [["b.txt", "c.txt"]]
    assert await files_of(world, await fired(world, of_a)) == [["a.txt"]]
    assert await files_of(world, await fired(world, none)) == [[]]
    assert await fired(world, failed) == []


async def test_pipelines_that_would_start_each_other_are_refused_by_name(database: Database) -> None:
    world = await World.make(database)
    a, b, c = [await world.draw({"s": None}, name=name) for name in ("alpha", "beta", "gamma")]
    trigger = RunTrigger(("SUCCEEDED",), False, None)
    await schedule(world, trigger, after_pipeline_id=a, pipeline_id=b)
    second = await schedule(world, trigger, after_pipeline_id=b, pipeline_id=c)
    with pytest.raises(errors.Invalid, match=r"start each other: alpha → alpha$"):
        await schedule(world, trigger, after_pipeline_id=a, pipeline_id=a)
    with pytest.raises(errors.Invalid, match=r"start each other: gamma → alpha → beta → gamma$"):
        await schedule(world, trigger, after_pipeline_id=c, pipeline_id=a)
    with pytest.raises(errors.Invalid, match=r"start each other: beta → alpha → beta$"):
        async with database.begin() as session:
            changes = scheduling.Changes(pipeline_id=a)
            await scheduling.change(session, world.viewer, second, changes, columns.now())


async def test_while_it_is_paused_nothing_arrives_and_what_had_arrived_waits(database: Database) -> None:
    world = await World.make(database)
    schedule_id = await schedule(world, ANY)
    await world.upload("before")
    async with database.begin() as session:
        await scheduling.pause(session, world.viewer, schedule_id)
    await world.upload("meanwhile")
    await fire_all(world)
    assert await world.claim_all() == {}
    async with database.begin() as session:
        await scheduling.resume(session, world.viewer, schedule_id, columns.now())
    await fire_all(world)
    assert await files_of(world, await fired(world, schedule_id)) == [["before"]]


async def test_who_lost_the_permission_starts_nothing_until_another_resumes(database: Database) -> None:
    world = await World.make(database)
    user_id, token_id = ids.new(), ids.new()
    token = {
        "id": token_id,
        "kind": users.TokenKind.USER,
        "sha256": users.digest("theirs"),
        "user_id": user_id,
        "project_id": world.project_id,
        "created_at": columns.now(),
    }
    async with database.begin() as session:
        values = {"id": user_id, "name": "ada", "created_at": columns.now()}
        await session.execute(insert(users.User).values(values))
        await session.execute(insert(users.Token).values(token))
    ada = Viewer(Kind.USER, user_id=user_id, projects=frozenset({world.project_id}))
    schedule_id = await schedule(world, ANY, viewer=ada)
    await world.upload("a")
    await fire_all(world)
    async with database.begin() as session:
        revoked = update(users.Token).where(users.Token.id == token_id)
        await session.execute(revoked.values(revoked_at=columns.now()))
    await world.upload("b")
    await fire_all(world)
    first, second = await fired(world, schedule_id)
    assert first.run_id is not None and (await world.run(first.run_id)).created_by == user_id
    assert (second.outcome, second.error_code) == (Outcome.FAILED, "FORBIDDEN")
    assert second.message == "the schedule's owner may not start runs in this project any more"
    async with database.begin() as session:
        await scheduling.pause(session, world.viewer, schedule_id)
        await scheduling.resume(session, world.viewer, schedule_id, columns.now())
    await world.upload("c")
    await fire_all(world)
    assert (await fired(world, schedule_id))[-1].outcome is Outcome.STARTED


async def test_a_schedule_of_another_project_is_not_there(database: Database) -> None:
    world = await World.make(database)
    schedule_id = await schedule(world, ANY)
    stranger = Viewer(Kind.USER, user_id=ids.new(), projects=frozenset({ids.new()}))
    async with database.begin() as session:
        assert await schedules.find_schedules(session, stranger, [schedule_id]) == []
        for command in (scheduling.pause, scheduling.remove):
            with pytest.raises(errors.NotFound):
                await command(session, stranger, schedule_id)
        with pytest.raises(errors.NotFound):
            await firing.fire_now(session, stranger, schedule_id, "key", columns.now())


async def test_an_event_schedule_ends_with_its_bound(database: Database) -> None:
    world = await World.make(database)
    ends_at = columns.now() + timedelta(seconds=100)
    schedule_id = await schedule(world, ANY, ends_at=ends_at)
    await fire_all(world, later=50)
    async with database.read() as session:
        row = await schedules.get(session, world.viewer, schedule_id)
        assert row.state is ScheduleState.ACTIVE
        assert await firing.next_wake(session) == ends_at
    await fire_all(world, later=101)
    async with database.read() as session:
        row = await schedules.get(session, world.viewer, schedule_id)
    assert (row.state, row.wake_at) == (ScheduleState.ENDED, None)


async def test_only_so_many_fires_are_kept(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(firing, "FIRES_KEPT", 5)
    world = await World.make(database)
    schedule_id = await schedule(world, IntervalTrigger(60, 0))
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    rows: list[dict[str, Any]] = [
        {
            "id": ids.new(),
            "schedule_id": schedule_id,
            "key": f"at/{number}",
            "outcome": Outcome.PENDING if number == 3 else Outcome.SKIPPED,
            "due_at": begin,
            "chain": [],
        }
        for number in range(20)
    ]
    async with database.begin() as session:
        await session.execute(insert(Fire), rows)
        await firing._prune(session, schedule_id)
    assert [row.key for row in await fired(world, schedule_id)] == [
        f"at/{n}" for n in (3, 15, 16, 17, 18, 19)
    ]
    async with database.read() as session:
        assert await fires.of_runs(session, [ids.new()]) == []
