"""A lease while it is held: when it was renewed last, and whether it may still be ours.

The database decides who may write (db/leases.py). What is done to a backend it cannot decide, so whoever launches,
stops or removes asks here first. A process that was paused finds the time run out and waits for its next renewal,
which tells. Between that question and the backend's answer it may be paused again: then two launch one name,
which is one launch, unless the next holder has seen the first one end and removed it within the pause.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from db import leases
from db.database import Database, Transaction
from db.leases import LEASE, Supervisor


class Lost(Exception):
    """Somebody else holds the lease by now: nothing was written."""


def _now() -> float:
    """Seconds that go on while this process, or the whole machine, is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Tenure:
    """The time for which a lease is surely held."""

    def __init__(self, lease: Supervisor, asked_at: float) -> None:
        self.lease = lease
        self.lost = asyncio.Event()
        """Set once it is known that somebody else has the lease, or may have."""
        self._until = asked_at + LEASE.total_seconds()
        self._renewed = asyncio.Event()

    @staticmethod
    def asking() -> float:
        """The moment before the database is asked for a lease, from which on it is reckoned."""
        return _now()

    def renew(self, asked_at: float) -> None:
        """It was renewed by a request that began then."""
        self._until = asked_at + LEASE.total_seconds()
        self._renewed.set()
        self._renewed = asyncio.Event()

    @property
    def left(self) -> float:
        """For how many seconds more it is surely ours."""
        return self._until - _now()

    def has_run_out(self) -> bool:
        """Whether it was not renewed in time."""
        return self.left <= 0

    @asynccontextmanager
    async def writing(self, database: Database) -> AsyncIterator[Transaction]:
        """A transaction of the holder's; raises Lost where that is somebody else by now.

        SQLite's commit leaves the loop to who is being answered: a disk that jobs write to, too, may take its time.
        """
        async with database.begin(aside=True) as session:
            await self.hold(session)
            yield session

    async def hold(self, session: Transaction) -> None:
        """Make a transaction the holder's, as the first thing in it; raises Lost where that is somebody else."""
        if not await leases.hold(session, self.lease):
            self.lost.set()
            raise Lost

    async def sure(self) -> None:
        """Return once it is surely ours; for ever where it is lost, until whoever asks is cancelled."""
        while self.lost.is_set() or self.has_run_out():
            await self._renewed.wait()
