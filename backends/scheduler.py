"""The scheduler: sleeps until something is due, and has it fired.

db/firing.py decides what is due and what becomes of it, each in a transaction of its own, so that a hundred at
once hold up nobody. Nothing held in memory here matters, and any number of replicas may run: whoever comes
second finds a fire done. A schedule that cannot fire has that recorded and is moved on; one that meets a fault
of ours is tried again for a while, and then recorded too. The loop goes on whatever happens.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import datetime

import structlog

from backends.errands import Errands
from db import columns, firing
from db.database import Database
from db.errors import DomainError, Unavailable
from db.firing import Due

log = structlog.get_logger(__name__)

POLL_SECONDS = 1.0
"""How late something is found whose hint was lost."""
_AGAIN_SECONDS = 1.0
_LEAST_SECONDS = 0.002
_TRIES = 3
_FAULT = "an internal error, which the server's log has"


class Scheduler:
    """Fires what is due. `now` is the clock."""

    def __init__(
        self,
        database: Database,
        *,
        now: Callable[[], datetime] = columns.now,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self._database = database
        self._now = now
        self._errands = Errands(database, self._turn, poll_seconds=poll_seconds)
        self._faults: Counter[Due] = Counter()

    def open(self) -> None:
        """Begin."""
        self._errands.open()

    async def close(self) -> None:
        """Stop; what is due meanwhile waits for the next one."""
        await self._errands.close()

    async def step(self) -> datetime | None:
        """Fire everything that is due now; returns when the next thing is."""
        before: list[Due] = []
        while True:
            async with self._database.read() as session:
                found = await firing.due(session, self._now())
            if not found or found == before:
                break
            before = found
            for one in found:
                await self._fire(one)
        async with self._database.read() as session:
            return await firing.next_wake(session)

    async def _turn(self) -> float | None:
        until = await self.step()
        return None if until is None else self.patience(until)

    def patience(self, until: datetime) -> float:
        """How many seconds to sleep until then; what has met a fault waits a while.

        Without a fault, what is due already has only just become so: timers may be early.
        """
        least = _AGAIN_SECONDS if self._faults else _LEAST_SECONDS
        return max((until - self._now()).total_seconds(), least)

    async def _fire(self, one: Due) -> None:
        """Fire, or record why not; what meets a fault is tried again later."""
        try:
            await self._try(one)
        except Exception as error:
            # A bug, or the database is away: neither may stop the others.
            log.error("a schedule did not fire", schedule=one.schedule_id.hex(), exc_info=error)
            self._faults[one] += 1
            return
        self._faults.pop(one, None)
        await asyncio.sleep(0)  # requests come between any two

    async def _try(self, one: Due) -> None:
        refusal: DomainError | None = Unavailable(_FAULT) if self._faults[one] >= _TRIES else None
        try:
            async with self._database.begin() as session:
                await firing.fire(session, one, self._now(), refusal=refusal)
        except DomainError as error:
            if error.retryable:
                raise
            async with self._database.begin() as session:
                await firing.fire(session, one, self._now(), refusal=error)
