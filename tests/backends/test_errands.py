"""Errands are looked for at once, on a hint, when they ask for it, and again after a fault; the janitor's are done."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from sqlalchemy import update

from backends import errands
from backends.blobs import Blobs
from backends.errands import Errands, Ongoing
from backends.janitor import Janitor
from db import columns, deletions, externals, runs
from db.bus import Wake
from db.database import Database
from db.externals import External
from db.states import RunState
from tests.backends.grounds import eventually
from tests.db.world import World

NEVER = 3600.0


class Counted:
    """A step that counts how often it was called."""

    def __init__(self, act: Callable[[int], float | None]) -> None:
        self.count = 0
        self._act = act

    async def __call__(self) -> float | None:
        self.count += 1
        return self._act(self.count)

    def reached(self, count: int) -> Callable[[], Awaitable[bool]]:
        """Whether it was called so often."""

        async def holds() -> bool:
            return self.count >= count

        return holds


async def test_a_step_is_taken_at_once_and_on_each_hint(database: Database) -> None:
    world = await World.make(database)
    await database.bus.open()
    step = Counted(lambda _: None)
    working = Errands(database, step, poll_seconds=NEVER, least=Wake.SUPERVISORS)
    working.open()
    try:
        await eventually(step.reached(1))
        await world.start(await world.draw({"a": None}))
        await eventually(step.reached(2))
    finally:
        await working.close()
        await database.bus.close()


async def test_a_step_is_taken_on_hints_that_concern_it_alone(database: Database) -> None:
    await database.bus.open()
    claiming, supervising, any_ = (Counted(lambda _: None) for _ in range(3))
    leasts = {claiming: Wake.CLAIMS, supervising: Wake.SUPERVISORS, any_: Wake.EVERYBODY}
    working = [Errands(database, step, poll_seconds=NEVER, least=least) for step, least in leasts.items()]
    for each in working:
        each.open()
    try:
        for whom, counts in (
            (Wake.NOBODY, (1, 1, 1)),
            (Wake.CLAIMS, (2, 1, 1)),
            (Wake.SUPERVISORS, (3, 2, 1)),
            (Wake.EVERYBODY, (4, 3, 2)),
        ):
            database.bus.publish({}, wake=whom)
            for step, count in zip(leasts, counts, strict=True):
                await eventually(step.reached(count))
            assert tuple(step.count for step in leasts) == counts
            assert whom is Wake.NOBODY or working[0].whom is whom
    finally:
        for each in working:
            await each.close()
        await database.bus.close()


async def test_a_step_comes_again_when_it_asks_to(database: Database) -> None:
    step = Counted(lambda count: 0.0 if count < 5 else None)
    working = Errands(database, step, poll_seconds=NEVER)
    working.open()
    try:
        await eventually(step.reached(5))
    finally:
        await working.close()
    assert step.count == 5


async def test_a_step_that_failed_is_taken_again(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errands, "_AGAIN_SECONDS", 0.0)
    step = Counted(lambda count: 1 // (count - 1))
    working = Errands(database, step, poll_seconds=NEVER)
    working.open()
    try:
        await eventually(step.reached(2))
    finally:
        await working.close()


async def test_what_was_never_begun_can_be_ended(database: Database) -> None:
    step = Counted(lambda _: None)
    await Errands(database, step).close()
    assert step.count == 0


async def test_what_goes_on_is_not_begun_again_until_it_ended() -> None:
    ongoing, gate, begun = Ongoing(), asyncio.Event(), 0

    async def work() -> None:
        nonlocal begun
        begun += 1
        await gate.wait()

    ongoing.begin(b"1", work)
    ongoing.begin(b"1", work)
    ongoing.begin(b"2", work)
    await asyncio.sleep(0)
    assert begun == 2
    await ongoing.end(b"1")
    ongoing.begin(b"1", work)
    await asyncio.sleep(0)
    assert begun == 3
    await ongoing.close()
    assert not ongoing


async def test_the_janitor_ends_what_is_silent_and_erases_what_was_deleted(
    database: Database, tmp_path: Path
) -> None:
    world = await World.make(database)
    async with database.begin() as session:
        run_id = await externals.create(session, world.viewer, externals.ExternalSpec("silent"))
        past = columns.now().replace(year=2000)
        await session.execute(update(External).values(expires_at=past))
    janitor = Janitor(database, Blobs(tmp_path))
    await janitor.step()
    async with database.read() as session:
        row = await runs.find(session, world.viewer, run_id)
    assert row is not None and row.state is RunState.FAILED
    async with database.begin() as session:
        await deletions.mark(session, world.viewer, run_id)
    await janitor.step()
    async with database.read() as session:
        assert await deletions.marked(session) == []
