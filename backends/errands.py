"""Errands: work of the server's whose intent lies in the database, looked for on every hint.

Should a hint be lost, a slow poll finds it. What a step does can be repeated, so that it is simply begun again
after whatever went wrong: a crash, or a database that was away.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping

import structlog

from db.database import Database

log = structlog.get_logger(__name__)

POLL_SECONDS = 10.0
"""How late work is found whose hint was lost."""
_AGAIN_SECONDS = 1.0


class Errands:
    """Calls `step` whenever there may be something to do."""

    def __init__(
        self, database: Database, step: Callable[[], Awaitable[None]], *, poll_seconds: float = POLL_SECONDS
    ) -> None:
        self._database = database
        self._step = step
        self._poll_seconds = poll_seconds
        self._woken = asyncio.Event()

    def open(self) -> None:
        """Begin, with what a former server left undone."""
        self._silence = self._database.bus.listen(self._hear)
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Stop; what was not finished is begun again next time."""
        self._silence()
        self._task.cancel()
        await asyncio.wait([self._task])

    def _hear(self, _reached: Mapping[int, int], wake: bool) -> None:
        if wake:
            self._woken.set()

    async def _run(self) -> None:
        while True:
            self._woken.clear()
            try:
                await self._step()
            except Exception as error:
                # Nothing is lost: the intent is in the database.
                name = getattr(self._step, "__qualname__", repr(self._step))
                log.error("it will be tried again", work=name, error=repr(error), exc_info=error)
                await asyncio.sleep(_AGAIN_SECONDS)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._poll_seconds):
                    await self._woken.wait()
