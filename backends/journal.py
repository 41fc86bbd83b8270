"""The log of work on a version, on its way to the version's feed."""

import asyncio

import structlog

from backends.tenure import Tenure
from db import columns, feeds, logs
from db.database import Database
from db.lines import Line

log = structlog.get_logger(__name__)

_FLUSH_SECONDS = 0.1
_STDOUT = 1


class Journal:
    """Log lines on their way to a feed, a few together; none waits long for the next one to come.

    Of work that one replica does, its tenure keeps another's lines out.
    """

    def __init__(self, database: Database, feed_id: int, tenure: Tenure | None = None) -> None:
        self._database = database
        self._tenure = tenure
        self._feed_id = feed_id
        self._lines: list[Line] = []
        self._flushing: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()

    async def write(self, text: str) -> None:
        """Keep a line; it is stored soon, with those that come meanwhile."""
        self._lines.append(Line(columns.microseconds(columns.now()), _STDOUT, text))
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush_soon())

    async def flush(self) -> None:
        """Store what has gathered."""
        async with self._turn:
            lines = tuple(self._lines)
            if lines:
                async with self._database.begin() as session:
                    if self._tenure is not None:
                        await self._tenure.hold(session)
                    head = await feeds.lock(session, self._feed_id)
                    await logs.note(session, head, lines)
                del self._lines[: len(lines)]

    async def close(self) -> None:
        """Store what has gathered, and nothing more."""
        if self._flushing is not None:
            self._flushing.cancel()
            await asyncio.wait({self._flushing})
        await self.flush()

    async def _flush_soon(self) -> None:
        await asyncio.sleep(_FLUSH_SECONDS)
        self._flushing = None
        try:
            await self.flush()
        except Exception as error:
            # The lines wait for the next ones, or for the end.
            log.warning("log lines not stored", error=repr(error), exc_info=error)
