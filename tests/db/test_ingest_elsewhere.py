"""Group commit where the database is another process: connections that are lost, and others that write to the run."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import func, select, text

from db import ends, errors, reporting
from db.bus import Bus
from db.database import Database, Transaction
from db.ends import Ended
from db.ingest import Ingest
from db.reporting import Added
from db.states import EndReason
from tests.db.test_ingest import batch, kept, launched, replica
from tests.db.world import World, ending


@contextmanager
def losing_connections(database: Database, at: int, *, times: int) -> Iterator[list[int]]:
    """The server ends the connection of so many transactions when these hand the driver its next statement."""
    ended: list[int] = []
    asked: dict[int, int] = {}

    async def driver(session: Transaction, found: Any = Transaction.driver) -> Any:
        connection = await found(session)
        asked[id(session)] = asked.get(id(session), 0) + 1
        if asked[id(session)] == at and len(ended) < times:
            ended.append(connection.get_server_pid())
            async with database.read() as other:
                await other.execute(select(func.pg_terminate_backend(ended[-1], 5000)))
        return connection

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Transaction, "driver", driver)
        yield ended


@pytest.mark.parametrize("at", [1, 2, 3])
async def test_a_connection_that_is_ended_in_the_middle_of_a_batch_is_unavailable_and_doubles_nothing(
    postgresql: Database, at: int
) -> None:
    world = await World.make(postgresql)
    (launch, _) = await launched(world)
    async with replica(postgresql) as other:
        way = Ingest(other)
        first = await way.add(batch(launch, "p", 1, 1))
        with losing_connections(postgresql, at, times=1) as ended:
            assert await way.add(batch(launch, "p", 2, 1)) == (first.seq + 1, False)  # tried again
        assert len(ended) == 1
        with (
            losing_connections(postgresql, at, times=2) as ended,
            pytest.raises(errors.Unavailable, match="same batch again"),
        ):
            await way.add(batch(launch, "p", 3, 1))
        assert len(ended) == 2
        assert await way.add(batch(launch, "p", 3, 1)) == (first.seq + 2, False)
        assert sorted(await kept(world, [launch])) == [first.seq, first.seq + 1, first.seq + 2]


async def test_a_server_that_cannot_be_reached_is_unavailable(postgresql: Database) -> None:
    world = await World.make(postgresql)
    (launch, _) = await launched(world)
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        nowhere = postgresql.url.set(host="127.0.0.1", port=unheard.getsockname()[1], query={})
        away = Database(nowhere.render_as_string(hide_password=False), bus=Bus("memory://"))
        with pytest.raises(errors.Unavailable, match="same batch again"):
            await Ingest(away).add(batch(launch, "p", 1, 1))
        await away.close()


_WAITING = text("SELECT count(*) FROM pg_locks WHERE NOT granted")


async def _until_somebody_waits(database: Database) -> None:
    async with asyncio.timeout(10.0):
        while True:
            async with database.single() as session:
                if await session.scalar(_WAITING):
                    return
            await asyncio.sleep(0.01)


async def test_who_waited_for_another_process_knows_what_it_has_committed(postgresql: Database) -> None:
    world = await World.make(postgresql)
    (launch, _) = await launched(world)
    async with replica(postgresql) as other:
        way = Ingest(other)
        first = await way.add(batch(launch, "p", 1, 1))
        async with postgresql.begin() as session:
            (second,) = await reporting.add(session, [batch(launch, "p", 2, 1)])
            late = [asyncio.create_task(way.add(batch(launch, name, 2, 1))) for name in ("p", "q")]
            await _until_somebody_waits(postgresql)
        assert isinstance(second, Added) and second == (first.seq + 1, False)
        assert await asyncio.gather(*late) == [(second.seq, True), (second.seq + 1, False)]


async def test_who_waited_for_the_end_of_a_job_is_told_of_it(postgresql: Database) -> None:
    world = await World.make(postgresql)
    (launch, _) = await launched(world)
    async with replica(postgresql) as other:
        async with postgresql.begin() as session:
            ended = Ended(launch.attempt_id, launch.feed_id, ending(launch, EndReason.COMPLETED))
            await ends.ended(session, world.supervisor, [ended])
            late = asyncio.create_task(Ingest(other).add(batch(launch, "p", 1, 1)))
            await _until_somebody_waits(postgresql)
        with pytest.raises(errors.Conflict):
            await late
