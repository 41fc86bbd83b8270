"""One writer for what a supervisor observes: reports that wait together are committed together.

A report names its run's feed and what to write; the recorder takes all that have gathered, locks their
feeds in id order, writes them in the order they came below each feed, those of one kind together, and answers
each after the commit: False where somebody else holds the lease by now, and nothing was written. When a batch
fails, its reports are tried one by one, so that one that cannot be written fails no other. A batch has so
many bytes at most: on SQLite nothing else runs while it is written.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import structlog

from backends.tenure import Lost, Tenure
from backends.turning import Steps
from db import feeds
from db.database import Database, Transaction
from db.leases import Supervisor

T = TypeVar("T")
R = TypeVar("R")
Write = Callable[[Transaction], Awaitable[Any]]
WriteAll = Callable[[Transaction, Supervisor, Sequence[R]], Awaitable[Sequence[T]]]
"""Writes reports of one kind, and answers each."""

log = structlog.get_logger(__name__)

_MOST = 256
_MOST_BYTES = 1 << 20
_GATHER_SECONDS = 0.02
"""Where many report, it rests as long as it wrote, to this: few large transactions cost less than many small ones."""


@dataclass(frozen=True, slots=True)
class _Report:
    feed_id: int
    done: "asyncio.Future[Any]"
    size: int
    write: Write | None = None
    write_all: WriteAll[Any, Any] | None = None
    what: Any = None


@dataclass(frozen=True, slots=True)
class _Group:
    """Reports that are written together; their places in the batch."""

    reports: list[_Report]
    places: list[int]


class Recorder:
    """Commits reports in groups."""

    def __init__(self, database: Database, tenure: Tenure, steps: Steps | None = None) -> None:
        self._database = database
        self._tenure = tenure
        self._steps = steps or Steps()
        self._waiting: asyncio.Queue[_Report] = asyncio.Queue()

    async def record(self, feed_id: int, write: Callable[[Transaction], Awaitable[T]], *, size: int = 0) -> T:
        """Write below a feed, about `size` bytes; returns what `write` returned once it is committed."""
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait(_Report(feed_id, done, size, write=write))
        return cast("T", await done)

    async def report(self, feed_id: int, write_all: WriteAll[R, T], what: R, *, size: int = 0) -> T | bool:
        """Write a report with the others of its kind; returns what `write_all` answered it once it is committed."""
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait(_Report(feed_id, done, size, write_all=write_all, what=what))
        return cast("T", await done)

    async def run(self) -> None:
        """Commit what comes, until cancelled."""
        while True:
            batch = [await self._waiting.get()]
            await self._steps.turn()
            size = batch[0].size
            while len(batch) < _MOST and size < _MOST_BYTES and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
                size += batch[-1].size
            began = time.monotonic()
            await self._commit(batch)
            if len(batch) > 1:
                await asyncio.sleep(min(time.monotonic() - began, _GATHER_SECONDS))

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
        async with self._tenure.writing(self._database) as session:
            await feeds.lock_all(session, sorted({report.feed_id for report in batch}))
            results: dict[int, Any] = {}
            for group in _groups(batch):
                answers = await self._written(session, group.reports)
                results |= zip(group.places, answers, strict=True)
            return [results[place] for place in range(len(batch))]

    async def _written(self, session: Transaction, alike: Sequence[_Report]) -> Sequence[Any]:
        first = alike[0]
        if first.write_all is not None:
            return await first.write_all(session, self._tenure.lease, [each.what for each in alike])
        assert first.write is not None
        return [await first.write(session)]


def _groups(batch: Sequence[_Report]) -> list[_Group]:
    """A batch by kind; below one feed, nothing comes before what came before it."""
    groups: list[_Group] = []
    latest: dict[Any, int] = {}
    last_of: dict[int, int] = {}
    for place, report in enumerate(batch):
        at = latest.get(report.write_all, -1) if report.write_all is not None else -1
        if at < last_of.get(report.feed_id, 0):
            at = len(groups)
            groups.append(_Group([], []))
            latest[report.write_all] = at
        groups[at].reports.append(report)
        groups[at].places.append(place)
        last_of[report.feed_id] = at
    return groups
