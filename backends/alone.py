"""Work that one replica does for all while there is any: under a lease, as backends are driven.

The others stand by, and one of them goes on where the one that had it has died, or was silent for as long as a lease
lasts. What is written of the work is written under the lease: a replica that was paused and wakes changes nothing.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from backends.tenure import Lost
from db import leases
from db.database import Database, Transaction
from db.leases import Supervisor

log = structlog.get_logger(__name__)

RENEW_SECONDS = 5.0
STAND_BY_SECONDS = 2.0
"""How often who has the turn, and who has not, asks for it."""


class Alone:
    """One replica's turn at one kind of work. No backend may be called as `work` is: their leases stand beside."""

    def __init__(self, database: Database, work: str, host: str) -> None:
        self._database = database
        self._work = work
        self._host = host
        self._lease: Supervisor | None = None
        self._again = False

    async def has_turn(self) -> bool:
        """Whether it is ours to do, from now on until a lease has run out; ask again before."""
        async with self._database.begin() as session:
            if self._lease is not None and await leases.renew(session, self._lease):
                return True
            self._lease = await leases.take(session, self._work, self._host, again=self._again)
        self._again = True
        return self._lease is not None

    async def let_go(self) -> None:
        """There is nothing to do: whoever finds something next may take it at once."""
        if self._lease is None:
            return
        async with self._database.begin() as session:
            await leases.release(session, self._lease)
        self._lease = None

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[Transaction]:
        """A transaction of whoever has the turn; raises Lost where that is another one by now."""
        async with self._database.begin() as session:
            if self._lease is None or not await leases.hold(session, self._lease):
                raise Lost
            yield session

    async def close(self) -> None:
        """Leave it to others."""
        try:
            await self.let_go()
        except Exception as error:
            # It runs out by itself.
            log.warning("lease not released", lease=self._work, error=repr(error), exc_info=error)
