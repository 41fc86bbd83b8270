"""The janitor: what time and crashes leave to be done, in small transactions, by whichever process looks first.

It ends external runs that went silent (db/externals.py), erases deleted runs (db/deletions.py) and frees contents
that nobody names (freeing.py). Nothing it holds in memory matters, and any number of replicas may have one: each
piece of work is decided by the database. It wakes on a hint, or on a slow poll.
"""

import asyncio

import structlog

from backends import freeing
from backends.blobs import Blobs
from backends.errands import Errands
from backends.freeing import Freeing
from db import deletions, externals
from db.database import Database

log = structlog.get_logger(__name__)

_POLL_SECONDS = 2.0
"""How late a silent run is found, whose end no hint announces."""


class Janitor:
    """Looks after one database."""

    def __init__(self, database: Database, blobs: Blobs, *, poll_seconds: float = _POLL_SECONDS) -> None:
        self._database = database
        self._errands = Errands(database, self.step, poll_seconds=poll_seconds)
        self._poll_seconds = poll_seconds
        self._freeing = Freeing(database, blobs)
        self._blobs = blobs
        self._frees_at = 0.0

    def open(self) -> None:
        """Begin; once, what deaths in the middle of a write have left among the contents is freed."""
        self._sweeping = asyncio.create_task(self._sweep())
        self._errands.open()

    async def close(self) -> None:
        """Stop; the next one goes on where this one was."""
        self._sweeping.cancel()
        await asyncio.wait({self._sweeping})
        await self._errands.close()

    async def step(self) -> None:
        """Do everything there is to do now."""
        async with self._database.read() as session:
            due = await externals.due(session)
            marked = await deletions.marked(session)
        for run_id in due:
            async with self._database.begin() as session:
                await externals.expire(session, run_id)
        for run_id in marked:
            try:
                await self._erase(run_id)
            except Exception as error:
                # One that does not want to go keeps no other.
                log.error(
                    "a deleted run is not gone yet", run=run_id.hex(), error=repr(error), exc_info=error
                )
        await self._free()

    async def _sweep(self) -> None:
        try:
            await self._blobs.sweep()
        except OSError as error:
            log.error("what writers left is not freed", error=repr(error), exc_info=error)

    async def _free(self) -> None:
        """A step at each poll, however often it is woken; a folder that fails is no reason to look again soon."""
        now = asyncio.get_running_loop().time()
        if now >= self._frees_at:
            self._frees_at = now + freeing.REST_SECONDS
            if await self._freeing.step():
                self._frees_at = now + self._poll_seconds

    async def _erase(self, run_id: bytes) -> None:
        left = True
        while left:
            async with self._database.begin() as session:
                left = await deletions.erase(session, run_id)
            await asyncio.sleep(0)  # whoever waits to write comes first
