"""Aging: what ended runs measured and printed goes by their project's retention, in small transactions.

It goes through the runs of each project that does not keep everything, now and then, and whenever a policy changes,
and remembers nothing: what is left to do is asked of what is there (db/retention.py). Any number of servers may do
so at once.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import datetime

import structlog

from backends.errands import Errands
from db import retention, summaries
from db.database import Database, Session, Transaction
from db.retention import Aged, Policy

log = structlog.get_logger(__name__)

REST_SECONDS = 600.0
"""Between two times through everything."""

Find = Callable[[Session, bytes, datetime, Aged | None], Awaitable[list[Aged]]]
Age = Callable[[Aged], Awaitable[None]]


class Aging:
    """Looks after one database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._errands = Errands(database, self._turn)
        self._begins_at = 0.0
        self._known: list[tuple[bytes, int | None, int | None]] = []

    def open(self) -> None:
        """Begin."""
        self._errands.open()

    async def close(self) -> None:
        """Stop; the next one goes on."""
        await self._errands.close()

    async def _turn(self) -> None:
        async with self._database.read() as session:
            known = await retention.days(session)
        if known == self._known and time.monotonic() < self._begins_at:
            return
        await self.step()
        self._known, self._begins_at = known, time.monotonic() + REST_SECONDS

    async def step(self, *, now: datetime | None = None) -> None:
        """Go through everything once."""
        async with self._database.read() as session:
            policies = await retention.policies(session, now=now)
        for policy in policies:
            await self._age(policy, policy.logs_before, retention.with_lines, self._forget_lines)
            await self._age(policy, policy.metrics_before, retention.with_points, self._forget_points)

    async def _age(self, policy: Policy, before: datetime | None, find: Find, age: Age) -> None:
        if before is None:
            return
        after: Aged | None = None
        while True:
            async with self._database.scan() as session:
                runs = await find(session, policy.project_id, before, after)
            for run in runs:
                try:
                    await age(run)
                except Exception as error:
                    # One that fails keeps no other from its turn.
                    log.error("a run is not aged", run=run.id.hex(), error=repr(error), exc_info=error)
            if not runs:
                return
            after = runs[-1]

    async def _forget_lines(self, run: Aged) -> None:
        await self._until_done(lambda session: retention.drop_lines(session, run))

    async def _forget_points(self, run: Aged) -> None:
        async with self._database.scan() as session:
            due = list(await retention.unpicked(session, run))
        for series in due:
            await self._pick(series)
        async with self._database.begin(aside=True) as session:
            thinned = await retention.thin(session, run)
        if thinned:
            await self._until_done(lambda session: retention.drop_points(session, run))

    async def _pick(self, due: summaries.Due) -> None:
        at: summaries.Due | None = due
        while at is not None:
            async with self._database.scan() as session:
                piece = await summaries.piece(session, at, ended=True)
            if piece is None:
                return
            async with self._database.begin(aside=True) as session:
                at = piece.then if await summaries.write(session, piece) else None
            await asyncio.sleep(0)

    async def _until_done(self, work: Callable[[Transaction], Awaitable[bool]]) -> None:
        """Piece after piece, resting as long as each took: others write meanwhile."""
        left = True
        while left:
            began = time.monotonic()
            async with self._database.begin(aside=True) as session:
                left = await work(session)
            await asyncio.sleep(time.monotonic() - began)
