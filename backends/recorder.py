"""One writer for what a supervisor observes: reports that wait together are committed together.

A report names its run's feed and what to write; the recorder takes all that have gathered, locks their
feeds in id order, writes them in the order they came, and answers each after the commit: False where somebody
else holds the lease by now, and nothing was written. When a batch
fails, its reports are tried one by one, so that one that cannot be written fails no other. A batch has so
many bytes at most: on SQLite nothing else runs while it is written.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import structlog

from backends.tenure import Lost, Tenure
from backends.turning import LIGHT_BYTES
from db import feeds
from db.database import Database, Transaction

T = TypeVar("T")
Write = Callable[[Transaction], Awaitable[Any]]

log = structlog.get_logger(__name__)

_MOST = 256
_MOST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class _Report:
    feed_id: int
    write: Write
    done: "asyncio.Future[Any]"
    size: int


class Recorder:
    """Commits reports in groups."""

    def __init__(self, database: Database, tenure: Tenure) -> None:
        self._database = database
        self._tenure = tenure
        self._waiting: asyncio.Queue[_Report] = asyncio.Queue()

    async def record(self, feed_id: int, write: Callable[[Transaction], Awaitable[T]], *, size: int = 0) -> T:
        """Write below a feed, about `size` bytes; returns what `write` returned once it is committed."""
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait(_Report(feed_id, write, done, size))
        return cast("T", await done)

    async def run(self) -> None:
        """Commit what comes, until cancelled."""
        while True:
            batch = [await self._waiting.get()]
            size = batch[0].size
            while len(batch) < _MOST and size < _MOST_BYTES and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
                size += batch[-1].size
            await self._commit(batch)

    async def _commit(self, batch: Sequence[_Report]) -> None:
        try:
            results = await self._write(batch)
        except Lost:
            results = [False] * len(batch)
        except Exception as error:
            # Whatever one report raised, the others were undone with it: each gets a transaction of its own.
            if len(batch) > 1:
                for report in batch:
                    await self._commit([report])
                return
            log.error("report not recorded", error=repr(error), exc_info=error)
            if not batch[0].done.done():
                batch[0].done.set_exception(error)
            return
        for report, result in zip(batch, results, strict=True):
            if not report.done.done():
                report.done.set_result(result)

    async def _write(self, batch: Sequence[_Report]) -> list[Any]:
        much = sum(report.size for report in batch) > LIGHT_BYTES  # a flood's, of which many come
        async with self._tenure.writing(self._database, aside=much) as session:
            await feeds.lock_all(session, sorted({report.feed_id for report in batch}))
            return [await report.write(session) for report in batch]
