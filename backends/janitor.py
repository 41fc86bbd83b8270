"""The janitor: what time and crashes leave to be done, in small transactions, by whichever process looks first.

It ends external runs that went silent (db/externals.py) and erases deleted runs (db/deletions.py). Nothing it
holds in memory matters, and any number of replicas may have one: each piece of work is decided by the database.
It wakes on a hint, or on a slow poll.
"""

import asyncio
import contextlib
from collections.abc import Mapping

import structlog

from db import deletions, externals
from db.database import Database

log = structlog.get_logger(__name__)

_POLL_SECONDS = 2.0
_AGAIN_SECONDS = 5.0
"""Before what failed is tried again."""


class Janitor:
    """Looks after one database."""

    def __init__(self, database: Database, *, poll_seconds: float = _POLL_SECONDS) -> None:
        self._database = database
        self._poll_seconds = poll_seconds
        self._woken = asyncio.Event()

    def open(self) -> None:
        """Begin."""
        self._silence = self._database.bus.listen(self._hear)
        self._task = asyncio.create_task(self._run(), name="janitor")

    async def close(self) -> None:
        """Stop; the next one goes on where this one was."""
        self._silence()
        self._task.cancel()
        await asyncio.wait([self._task])

    def _hear(self, _reached: Mapping[int, int], wake: bool) -> None:
        if wake:
            self._woken.set()

    async def _run(self) -> None:
        while True:
            self._woken.clear()
            patience = self._poll_seconds
            try:
                await self.look()
            except Exception as error:
                # The database may be away, or a run refuse to go: whatever it is, the rest goes on later.
                log.error("something is left to be done", error=repr(error), exc_info=error)
                patience = _AGAIN_SECONDS
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await self._woken.wait()

    async def look(self) -> None:
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

    async def _erase(self, run_id: bytes) -> None:
        left = True
        while left:
            async with self._database.begin() as session:
                left = await deletions.erase(session, run_id)
            await asyncio.sleep(0)  # whoever waits to write comes first
