"""Fetching data where there are several replicas: one of them does it, and another one when that is gone."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select, update

from backends.blobs import Blobs
from backends.contents import Stored
from backends.outside import Policy
from backends.retrieving import LEASE, Retriever
from backends.vault import Vault
from db import columns, data_fetches, data_sources, ids
from db.data_fetches import DataFetch, DataFetchState
from db.database import Database
from db.files import File
from db.leases import Supervisor
from tests.backends.grounds import eventually
from tests.db.world import World, few

REPLICAS = ("a", "b", "c")
ACTS = st.tuples(st.sampled_from(REPLICAS), st.sampled_from(("step", "step", "finish", "die", "run out")))


class Gate(Blobs):
    """Where what has arrived waits, and is counted, until a test lets it be stored."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.begun = 0
        self.waiting = 0
        self.opened = asyncio.Event()

    async def write(self, chunks: AsyncIterator[bytes], *, limit_bytes: int) -> Stored:
        self.begun += 1
        self.waiting += 1
        try:
            await self.opened.wait()
        finally:
            self.waiting -= 1
        return await super().write(chunks, limit_bytes=limit_bytes)


class Replica:
    """One that fetches, and may die or stand still at any moment."""

    def __init__(self, database: Database, folder: Path, name: str) -> None:
        self.database, self.folder, self.name = database, folder, name
        self.gate = Gate(folder / "files")
        self.retriever = self._born()

    def _born(self) -> Retriever:
        return Retriever(self.database, self.gate, Vault(), Policy((self.folder,)), self.name)

    async def step(self) -> None:
        """Look for work, and go on until it waits at the gate."""
        await self.retriever.step()

        async def is_settled() -> bool:
            return len(self.retriever._ongoing._tasks) == self.gate.waiting

        await eventually(is_settled)

    async def finish(self) -> None:
        """Store what has arrived, and say so."""
        tasks = list(self.retriever._ongoing._tasks.values())
        self.gate.opened.set()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(each is None or isinstance(each, asyncio.CancelledError) for each in found)
        self.gate.opened.clear()

    async def die(self) -> None:
        """Be gone without a word, and come back knowing nothing."""
        await self.retriever._ongoing.close()
        self.retriever = self._born()


async def requested(world: World, folder: Path) -> bytes:
    """A fetch of a file of this machine."""
    name = f"data-{ids.new().hex()}"
    (folder / name).write_bytes(b"content")
    async with world.database.begin() as session:
        source = await data_sources.create(session, world.viewer, name, f"file://{folder / name}")
        return await data_fetches.request(session, world.viewer, source, limit_bytes=100)


async def begun_by_one_of_two(database: Database, folder: Path) -> tuple[World, Replica, Replica, bytes]:
    """Two replicas, and a fetch that the first of them has begun."""
    world = await World.make(database)
    a, b = (Replica(database, folder, name) for name in "ab")
    fetch_id = await requested(world, folder)
    await a.step()
    return world, a, b, fetch_id


async def run_out(database: Database) -> None:
    """Have the time of a lease pass."""
    async with database.begin() as session:
        late = update(Supervisor).where(Supervisor.name == LEASE)
        await session.execute(late.values(expires_at=columns.clock(timedelta(seconds=-1))))


async def outcome(world: World, fetch_id: bytes) -> tuple[DataFetchState, int]:
    """How the fetch stands, and how many files were made of it."""
    async with world.database.read() as session:
        (fetch,) = await data_fetches.find_fetches(session, world.viewer, [fetch_id])
        count = select(func.count()).select_from(File).where(File.name == fetch.name)
        return fetch.state, await session.scalar(count) or 0


async def abandoned(database: Database) -> None:
    """Nothing is left to be fetched by whoever comes next."""
    async with database.begin() as session:
        going = update(DataFetch).where(DataFetch.state == DataFetchState.FETCHING)
        await session.execute(going.values(state=DataFetchState.CANCELLED))


async def test_of_several_replicas_one_fetches_and_the_others_take_over_when_it_dies(
    database: Database, tmp_path: Path
) -> None:
    world, a, b, fetch_id = await begun_by_one_of_two(database, tmp_path)
    await b.step()
    assert (a.gate.begun, b.gate.begun) == (1, 0)
    await a.die()
    await b.step()
    assert b.gate.begun == 0, "a may live"
    await run_out(database)
    await b.step()
    await b.finish()
    assert b.gate.begun == 1
    assert await outcome(world, fetch_id) == (DataFetchState.READY, 1)
    for each in (a, b):
        await each.retriever.step()
        await each.retriever.close()


async def test_a_replica_that_was_paused_changes_nothing_when_it_wakes(
    database: Database, tmp_path: Path
) -> None:
    world, a, b, fetch_id = await begun_by_one_of_two(database, tmp_path)
    await run_out(database)
    await b.step()
    await a.finish()
    assert await outcome(world, fetch_id) == (DataFetchState.FETCHING, 0)
    await a.step()
    assert (a.gate.begun, b.gate.begun) == (1, 1)
    await b.finish()
    assert await outcome(world, fetch_id) == (DataFetchState.READY, 1)
    await a.retriever.close()
    await b.retriever.close()


@few
@given(st.lists(ACTS, max_size=20))
async def test_however_they_interleave_nothing_is_fetched_twice_at_once_and_all_is_fetched(
    database: Database, tmp_path_factory: object, acts: list[tuple[str, str]]
) -> None:
    folder = tmp_path_factory.mktemp("replicas")  # type: ignore[attr-defined]
    world = await World.make(database)
    await abandoned(database)
    await run_out(database)
    replicas = {name: Replica(database, folder, name) for name in REPLICAS}
    fetch_id = await requested(world, folder)
    excused = 1
    for name, act in acts:
        replica = replicas[name]
        if act == "step":
            await replica.step()
        elif act == "finish":
            await replica.finish()
        else:
            excused += 1  # somebody may begin once more
            await (replica.die() if act == "die" else run_out(database))
        assert sum(each.gate.begun for each in replicas.values()) <= excused
    await run_out(database)
    for each in replicas.values():
        await each.step()
        await each.finish()
    assert await outcome(world, fetch_id) == (DataFetchState.READY, 1)
    for each in replicas.values():
        await each.retriever.close()
