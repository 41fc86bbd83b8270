"""Whether a backend answers: met errors are recorded, and it is asked until it does."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, cast

from structlog.testing import capture_logs

from backends import base
from backends.answering import Answering
from backends.tenure import Tenure
from db import backends
from db.backends import Backend
from db.database import Database
from db.resources import StepResources
from tests.backends.grounds import eventually
from tests.db.world import World


class Scripted:
    """What answers as it is told to."""

    def __init__(self) -> None:
        self.answer: base.Capacity | Exception | None = None
        self.asked = 0

    async def capacity(self) -> base.Capacity | None:
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@contextlib.asynccontextmanager
async def answering(world: World, adapter: Scripted) -> AsyncIterator[Answering]:
    found = Answering(
        world.database,
        Tenure(world.supervisor, Tenure.asking()),
        world.backend.id,
        "local",
        cast("base.Backend", adapter),
        every_seconds=0.01,
    )
    task = asyncio.create_task(found.run())
    yield found
    task.cancel()
    await asyncio.wait({task})


async def _backend(world: World) -> Backend:
    async with world.database.read() as session:
        (row,) = await backends.list_all(session)
    return row


async def _until(world: World, **wanted: Any) -> Backend:
    """The backend, once these columns have these values."""

    async def there() -> Backend | None:
        row = await _backend(world)
        return row if all(getattr(row, name) == value for name, value in wanted.items()) else None

    return cast("Backend", await eventually(there))


async def test_what_a_backend_has_is_recorded_when_it_changes(database: Database) -> None:
    world, adapter = await World.make(database), Scripted()
    adapter.answer = base.Capacity(slots=2, memory_bytes=1 << 40)
    async with answering(world, adapter):
        row = await _until(world, available={"slots": 2, "memory_bytes": 1 << 40})
        assert backends.capacity(row)["slots"] == 2 and backends.capacity(row)["gpus"] == row.gpus
        adapter.answer = None
        await _until(world, available=None)


async def test_a_backend_is_away_until_it_answers(database: Database) -> None:
    world, adapter = await World.make(database), Scripted()
    adapter.answer = base.BackendUnavailable("no route to host", retry_in_seconds=0.0)
    async with answering(world, adapter):
        row = await _until(world, last_error="no route to host")
        assert row.unavailable_since is not None
        adapter.answer = None
        await _until(world, unavailable_since=None)


async def test_an_error_that_somebody_met_is_recorded_and_the_backend_asked(database: Database) -> None:
    world, adapter = await World.make(database), Scripted()
    async with answering(world, adapter) as told:
        told.away(base.BackendUnavailable("the launch was not answered", retry_in_seconds=0.0))
        await _until(world, last_error="the launch was not answered", unavailable_since=None)
        assert adapter.asked


async def test_one_look_says_what_a_backend_has_before_anything_is_claimed(database: Database) -> None:
    world, adapter = await World.make(database, config={"caps": []}), Scripted()
    run_id = await world.start({"a": ()}, resources=[StepResources("a", gpus=4)])
    adapter.answer = base.Capacity(gpus=8)
    told = Answering(
        database,
        Tenure(world.supervisor, Tenure.asking()),
        world.backend.id,
        "local",
        cast("base.Backend", adapter),
        every_seconds=60.0,
    )
    await told.begin()
    assert list(await world.claim()) == ["a"]
    assert (await world.jobs(run_id))["a"].message is None


async def test_a_backend_that_stays_away_is_logged_seldom_whatever_it_says(database: Database) -> None:
    world, adapter = await World.make(database), Scripted()
    with capture_logs() as logged:
        async with answering(world, adapter):
            for number in range(3):
                adapter.answer = base.BackendUnavailable(f"port {number} is closed", retry_in_seconds=0.0)
                await _until(world, last_error=f"port {number} is closed")
            adapter.answer = None
            await _until(world, unavailable_since=None)
            adapter.answer = base.BackendUnavailable("no route to host", retry_in_seconds=0.0)
            await _until(world, last_error="no route to host")
    events = [each["event"] for each in logged if each["event"].startswith("backend")]
    assert events == ["backend away", "backend back", "backend away"]
