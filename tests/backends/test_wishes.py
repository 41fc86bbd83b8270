"""What is wished of attempts reaches their backend: of those that it never launched, that is away, or slow."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from backends import base
from backends.blobs import Blobs
from backends.configured import Caps
from backends.fake import Fake
from backends.fake_cluster import Cluster
from backends.supervisor import Configuration, Supervisor
from db import backends, suspensions, waiting
from db.database import Database
from db.policies import Backoff, Policy, Rule
from db.states import EndReason, JobState, RunState
from db.waiting import Code
from tests.backends.grounds import eventually
from tests.db.world import GIB, World, function

LONG = ("fake", "wait 600")
AGAIN = Policy((Rule(EndReason.TIMED_OUT, 1),), Backoff(first_seconds=0.3))
NEVER = 3600.0
"""Between two polls, where what is found must be found without one."""


@asynccontextmanager
async def supervising(
    world: World, folder: Path, adapter: base.Backend, *, poll_seconds: float = 0.05
) -> AsyncIterator[Supervisor]:
    """A supervisor of the world's backend, at work."""
    made = Supervisor(
        world.database,
        Configuration("local", "fake", adapter, Caps(8, 8.0, GIB, 0)),
        host="here",
        blobs=Blobs(folder / "files"),
        store=folder / "store",
        environment=lambda _: {},
        poll_seconds=poll_seconds,
    )
    await world.database.bus.open()
    await made.open()
    try:
        yield made
    finally:
        await made.close()
        await world.database.bus.close()


async def world_of(database: Database, folder: Path, *command: str, **values: Any) -> World:
    """A world whose one function is this script."""
    world = await World.make(database)
    version = await world.install(function(command=command or LONG, **values))
    (folder / "store" / version.hex()).mkdir(parents=True)
    return world


async def reaches(world: World, run_id: bytes, state: JobState, step: str = "a") -> None:
    """Wait until a job stands so."""

    async def does() -> bool:
        return (await world.jobs(run_id))[step].state is state

    await eventually(does, seconds=20)


class Unable(Fake):
    """A cluster that launches and then breaks off, or breaks off before it launches."""

    after = False

    def __init__(self, cluster: Path) -> None:
        super().__init__(cluster)
        self.asked = asyncio.Event()

    async def launch(self, spec: base.JobSpec) -> base.Handle:
        if self.after:
            await super().launch(spec)
        self.asked.set()
        raise base.BackendUnavailable("the connection broke", retry_in_seconds=NEVER)


class Full(Fake):
    """A cluster whose quota is used up until somebody makes room."""

    full = True

    async def launch(self, spec: base.JobSpec) -> base.Handle:
        if self.full:
            raise base.Crowded("exceeded quota: few", retry_in_seconds=0.05)
        return await super().launch(spec)


async def test_a_backend_without_room_is_told_as_what_a_job_waits_for_and_not_as_away(
    database: Database, tmp_path: Path
) -> None:
    world = await world_of(database, tmp_path)
    adapter = Full(tmp_path / "cluster")
    async with supervising(world, tmp_path, adapter):
        first, second = await world.start({"a": ()}), await world.start({"a": ()})

        async def words() -> str | None:
            async with database.read() as session:
                why = (await waiting.of_runs(session, [second])).get(second)
            assert why is None or why.code in (Code.SCHEDULER, Code.SUPERVISOR), why
            return why.message if why is not None and why.code is Code.SCHEDULER else None

        assert await eventually(words) == "a: exceeded quota: few"
        async with database.read() as session:
            (backend,) = await backends.list_all(session)
        assert backend.unavailable_since is None
        await world.cancel(first)
        await reaches(world, first, JobState.CANCELLED)
        adapter.full = False
        await reaches(world, second, JobState.RUNNING)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_what_cannot_be_launched_can_be_cancelled(
    database: Database, tmp_path: Path, after: bool
) -> None:
    world = await world_of(database, tmp_path)
    adapter = Unable(tmp_path / "cluster")
    adapter.after = after
    async with supervising(world, tmp_path, adapter):
        run_id = await world.start({"a": ()})
        await adapter.asked.wait()
        await world.cancel(run_id)
        await reaches(world, run_id, JobState.CANCELLED)
        job = (await world.jobs(run_id))["a"]
        assert (job.reason, job.message) == (EndReason.CANCELLED, "cancelled")
        assert (await world.run(run_id)).state is RunState.CANCELLED
        assert list(await adapter.held()) == []


async def test_a_cancel_while_the_backend_is_away_is_told_and_reaches_it_when_it_is_back(
    database: Database, tmp_path: Path
) -> None:
    world = await world_of(database, tmp_path)
    adapter, cluster = Fake(tmp_path / "cluster"), Cluster(tmp_path / "cluster")
    async with supervising(world, tmp_path, adapter):
        run_id = await world.start({"a": (), "b": ()})
        await reaches(world, run_id, JobState.RUNNING, "b")
        cluster.leave(60)
        await world.cancel(run_id, grace_seconds=0)

        async def is_told() -> bool:
            async with database.read() as session:
                why = (await waiting.of_runs(session, [run_id])).get(run_id)
            return why is not None and why.code is Code.BACKEND_UNAVAILABLE

        await eventually(is_told, seconds=20)
        assert (await world.run(run_id)).state is RunState.CANCELLING
        cluster.leave(0)
        for step in "ab":
            await reaches(world, run_id, JobState.CANCELLED, step)


async def test_a_cancel_is_found_by_the_next_supervisor(database: Database, tmp_path: Path) -> None:
    world = await world_of(database, tmp_path)
    adapter = Unable(tmp_path / "cluster")
    async with supervising(world, tmp_path, adapter):
        run_id = await world.start({"a": ()})
        await adapter.asked.wait()
    await world.cancel(run_id)
    sound = Fake(tmp_path / "cluster")
    async with supervising(world, tmp_path, sound):
        await reaches(world, run_id, JobState.CANCELLED)
    assert Cluster(tmp_path / "cluster").launched() == []


class Slow(Fake):
    """A cluster that takes for ever to stop what runs on it, but for some."""

    def __init__(self, cluster: Path) -> None:
        super().__init__(cluster)
        self.stuck: set[str] = set()
        self.stopping: list[str] = []

    async def stop(self, handle: base.Handle, grace_seconds: float) -> None:
        name = str(handle["name"])
        self.stopping.append(name)
        if name in self.stuck:
            await asyncio.Event().wait()
        await super().stop(handle, grace_seconds)


async def test_a_stop_that_takes_long_delays_no_other_and_no_timeout(
    database: Database, tmp_path: Path
) -> None:
    world = await world_of(database, tmp_path, timeout_seconds=1.0)
    adapter = Slow(tmp_path / "cluster")
    async with supervising(world, tmp_path, adapter):
        first, second, third = [await world.start({"a": ()}) for _ in range(3)]
        for run_id in (first, second, third):
            await reaches(world, run_id, JobState.RUNNING)
        (attempt,) = await world.attempts(first)
        assert attempt.handle is not None
        adapter.stuck.add(str(attempt.handle["name"]))
        await world.cancel(first, grace_seconds=0)
        await eventually(lambda: _is_stopping(adapter, 1))
        await world.cancel(second, grace_seconds=0)
        await reaches(world, second, JobState.CANCELLED)
        await reaches(world, third, JobState.FAILED)
        assert (await world.jobs(third))["a"].reason is EndReason.TIMED_OUT
        assert adapter.stopping.count(str(attempt.handle["name"])) == 1
        assert (await world.jobs(first))["a"].state is JobState.CANCELLING


async def _is_stopping(adapter: Slow, some: int) -> bool:
    return len(adapter.stopping) >= some


async def test_a_timeout_and_a_retry_are_found_when_they_are_due_without_a_poll(
    database: Database, tmp_path: Path
) -> None:
    world = await world_of(database, tmp_path, timeout_seconds=0.5, retry=AGAIN)
    async with supervising(world, tmp_path, Fake(tmp_path / "cluster"), poll_seconds=NEVER):
        run_id = await world.start({"a": ()})
        await reaches(world, run_id, JobState.FAILED)
        first, second = await world.attempts(run_id)
        assert first.reason is second.reason is EndReason.TIMED_OUT
        assert first.started_at is not None and first.ended_at is not None
        assert 0.5 <= (first.ended_at - first.started_at).total_seconds() < 2.0


async def test_what_stands_still_takes_no_time_and_what_goes_on_is_given_what_is_left(
    database: Database, tmp_path: Path
) -> None:
    world = await world_of(database, tmp_path, timeout_seconds=0.6)
    async with supervising(world, tmp_path, Fake(tmp_path / "cluster"), poll_seconds=NEVER):
        run_id = await world.start({"a": ()})
        await reaches(world, run_id, JobState.RUNNING)
        async with database.begin() as session:
            await suspensions.suspend(session, world.viewer, run_id)
        await asyncio.sleep(0.8)
        assert (await world.jobs(run_id))["a"].state is JobState.RUNNING
        async with database.begin() as session:
            await suspensions.resume(session, world.viewer, run_id)
        await reaches(world, run_id, JobState.FAILED)
