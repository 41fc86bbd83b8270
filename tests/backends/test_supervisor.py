"""Two supervisors of one cluster: who holds the lease works, the other stands by; whoever loses it steps down."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, update

from backends import base, supervisor, tenure
from backends.blobs import Blobs
from backends.configured import Caps
from backends.fake import Fake
from backends.supervisor import Configuration, Supervisor
from db import columns, leases
from db.backends import Backend
from db.database import Database, Transaction
from db.leases import Supervisor as Lease
from db.states import TERMINAL_RUN, RunState
from tests.backends.conftest import hinting
from tests.backends.grounds import eventually
from tests.db.world import GIB, World, function

NAME = "local"
"""The backend's, which is also that of the small world's."""
LONG = ("fake", "every 0.05 20 print line {n}")


class Cut(Database):
    """A database that can be cut off."""

    away = False

    @asynccontextmanager
    async def begin(self, *, aside: bool = False) -> AsyncIterator[Transaction]:
        if self.away:
            raise OSError("no route to host")
        async with super().begin(aside=aside) as session:
            yield session


@pytest.fixture
async def cut(database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cut]:
    """A database that is not cut off yet; supervisors look often."""
    monkeypatch.setattr(supervisor, "_STAND_BY_SECONDS", 0.05)
    monkeypatch.setattr(supervisor, "_RENEW_SECONDS", 0.05)
    async with hinting(Cut, database_url) as opened:
        yield opened


@asynccontextmanager
async def supervising(database: Database, folder: Path, name: str) -> AsyncIterator[Supervisor]:
    """A replica's supervisor of the cluster, at work or standing by."""
    made = supervisor_of(database, folder, name, Fake(folder / "cluster"))
    await made.open()
    try:
        yield made
    finally:
        await made.close()


def supervisor_of(
    database: Database, folder: Path, name: str, adapter: base.Backend, *, slots: int = 8
) -> Supervisor:
    """A replica's supervisor of a backend."""
    configuration = Configuration(NAME, "fake", adapter, Caps(slots, float(slots), slots * GIB, 0))
    return Supervisor(
        database,
        configuration,
        host=name,
        blobs=Blobs(folder / "files"),
        store=folder / "store",
        environment=lambda _: {},
        poll_seconds=0.05,
    )


async def world_of(database: Database, folder: Path) -> World:
    """A world whose one function takes a second, on a backend that any replica may drive."""
    world = await World.make(database)
    version = await world.install(function(command=LONG))
    (folder / "store" / version.hex()).mkdir(parents=True)
    return world


async def lease_of(database: Database) -> Lease:
    """The cluster's lease as it stands."""
    async with database.read() as session:
        found = await session.find(Lease, select(Lease).where(Lease.name == NAME))
    assert found is not None
    return found


async def held_by(database: Database, name: str) -> Lease:
    """The lease once this replica holds it."""

    async def theirs() -> Lease | None:
        found = await lease_of(database)
        return found if found.holder == name else None

    found = await eventually(theirs)
    assert found is not None
    return found


async def ends_well(world: World, run_id: bytes) -> None:
    """Wait until a run has ended, by one attempt, with every line that its job printed."""

    async def is_over() -> bool:
        return (await world.run(run_id)).state in TERMINAL_RUN

    await eventually(is_over)
    assert (await world.run(run_id)).state is RunState.SUCCEEDED
    (attempt,) = await world.attempts(run_id)
    assert attempt.number == 1


async def started(world: World, folder: Path) -> bytes:
    """A run whose job has been launched."""
    run_id = await world.start({"a": ()})

    async def is_launched() -> bool:
        attempts = await world.attempts(run_id)
        return bool(attempts and attempts[0].handle)

    await eventually(is_launched)
    return run_id


async def test_a_supervisor_that_stops_leaves_its_lease_and_jobs_to_the_one_that_stands_by(
    cut: Cut, tmp_path: Path
) -> None:
    world = await world_of(cut, tmp_path)
    async with contextlib.AsyncExitStack() as stack:
        async with supervising(cut, tmp_path, "a"):
            await stack.enter_async_context(supervising(cut, tmp_path, "b"))
            assert (await held_by(cut, "a")).epoch == 1
            run_id = await started(world, tmp_path)
            await asyncio.sleep(0.2)
            assert (await lease_of(cut)).holder == "a"
        assert (await held_by(cut, "b")).epoch == 2
        await ends_well(world, run_id)


async def test_a_supervisor_whose_lease_was_taken_steps_down_and_stands_by(cut: Cut, tmp_path: Path) -> None:
    world = await world_of(cut, tmp_path)
    async with supervising(cut, tmp_path, "a"):
        run_id = await started(world, tmp_path)
        async with cut.begin() as session:
            late = columns.clock(timedelta(seconds=-1))
            await session.execute(update(Lease).where(Lease.name == NAME).values(expires_at=late))
            taken = await leases.take(session, NAME, "b")
            assert taken is not None
            held = {"supervisor_id": taken.id, "epoch": taken.epoch}
            await session.execute(update(Backend).values(held))
        await asyncio.sleep(0.3)
        assert (await lease_of(cut)).holder == "b"
        async with cut.begin() as session:
            await leases.release(session, taken)
        assert (await held_by(cut, "a")).epoch == 3
        await ends_well(world, run_id)


async def test_a_supervisor_that_is_cut_off_from_the_database_lets_go_and_comes_back(
    cut: Cut, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tenure, "LEASE", timedelta(seconds=0.3))
    monkeypatch.setattr(supervisor, "_LEAST_SECONDS", 0.1)
    world = await world_of(cut, tmp_path)
    async with supervising(cut, tmp_path, "a") as made:
        run_id = await started(world, tmp_path)
        cut.away = True
        await eventually(lambda: _is_standing_by(made))
        cut.away = False
        async with cut.begin() as session:
            late = columns.clock(timedelta(seconds=-1))
            await session.execute(update(Lease).where(Lease.name == NAME).values(expires_at=late))
        await ends_well(world, run_id)
        assert (await lease_of(cut)).epoch == 2


async def _is_standing_by(made: Supervisor) -> bool:
    return made.term is None


async def test_a_supervisor_that_ends_before_it_has_served_leaves_its_lease(cut: Cut, tmp_path: Path) -> None:
    await world_of(cut, tmp_path)
    async with supervising(cut, tmp_path, "a"):
        assert (await lease_of(cut)).holder == "a"
    async with cut.read() as session:
        assert await leases.is_free(session, NAME)
    assert {task for task in asyncio.all_tasks() if "Term" in repr(task)} == set()


class Silent(Fake):
    """A cluster that says nothing when asked what it has."""

    def __init__(self, cluster: Path) -> None:
        super().__init__(cluster)
        self.asked = asyncio.Event()

    async def capacity(self) -> base.Capacity | None:
        self.asked.set()
        await asyncio.Event().wait()
        return None


async def test_a_supervisor_that_ends_while_it_takes_a_lease_leaves_it(cut: Cut, tmp_path: Path) -> None:
    await world_of(cut, tmp_path)
    silent = Silent(tmp_path / "cluster")
    standing_by = supervisor_of(cut, tmp_path, "b", silent)
    async with supervising(cut, tmp_path, "a"):
        await standing_by.open()
    async with asyncio.timeout(30):
        await silent.asked.wait()
        await standing_by.close()
    async with cut.read() as session:
        assert await leases.is_free(session, NAME)
