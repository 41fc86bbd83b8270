"""The compactor: makes what runs report cheap to read, beside live load, by whichever process looks first.

It puts the small chunks of a feed together (db/compaction.py) and keeps picked points of long series
(db/summaries.py). It reads and computes outside of transactions, which are small, and rests after each piece of work.
Nothing it holds in memory matters: each step is decided by the database, so that any number of servers may
have one, and a crash between two steps only leaves the rest to whoever looks next.
"""

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import structlog

from backends.errands import Errands
from db import compaction, summaries
from db.compaction import Due, Stale, Window
from db.database import Database

log = structlog.get_logger(__name__)

_POLL_SECONDS = 5.0
_REST_SECONDS = 2.0
_MANY_NUMBERS = 256
"""A feed that goes on is looked at when so many numbers have come since,"""
_LATE_SECONDS = 30.0
"""or any, so long ago."""
_REST_BESIDE_OTHERS = 9
"""While others write it rests so many times as long as it worked; else as long."""
_LONGEST_REST_SECONDS = 2.0
"""Whatever kept its work waiting."""
_PAGE = 500


@dataclass(frozen=True, slots=True)
class _Page:
    """Feeds that are to be looked at, and those of them that have something: few, as most runs measure little.

    `next` is the id that the next page begins behind.
    """

    wanted: Sequence[Due]
    worth_it: Collection[int]
    series: Mapping[bytes, Sequence[summaries.Due]]
    next: int | None


class Compactor:
    """Looks after one database."""

    def __init__(self, database: Database, *, poll_seconds: float = _POLL_SECONDS) -> None:
        self._database = database
        self._errands = Errands(database, self._turn, poll_seconds=poll_seconds)
        self._looked: dict[int, tuple[int, float]] = {}
        self._begins_at = 0.0
        self._commits = database.commits

    def open(self) -> None:
        """Begin."""
        self._errands.open()

    async def close(self) -> None:
        """Stop; the next one goes on where this one was."""
        await self._errands.close()

    async def step(self) -> None:
        """Do everything there is to do now, whenever a feed was looked at last."""
        self._looked.clear()
        await self._go_through()

    async def _turn(self) -> float | None:
        """However often it is woken, it looks now and then."""
        early = self._begins_at - time.monotonic()
        if early > 0:
            return early
        await self._go_through()
        self._begins_at = time.monotonic() + _REST_SECONDS
        return None

    async def _go_through(self) -> None:
        after: int | None = 0
        while after is not None:
            began = time.monotonic()
            page = await self._read(after)
            await self._rest(began)
            done = [each for each in page.wanted if await self._settles(each, page)]
            if done:
                async with self._database.begin(aside=True) as session:
                    await compaction.settle(session, done)
                for each in done:
                    self._looked.pop(each.feed_id, None)
            after = page.next

    async def _read(self, after: int) -> _Page:
        async with self._database.scan() as session:
            feeds = await compaction.due(session, after, most=_PAGE)
            wanted = [each for each in feeds if self._is_time(each)]
            runs = [each for each in wanted if each.is_run]
            worth_it = await compaction.worth_it(session, runs)
            going = {each.owner for each in runs if not each.ended}
            ended = {each.owner for each in runs if each.ended}
            series = await summaries.due(session, going, ended)
        return _Page(wanted, worth_it, series, feeds[-1].feed_id if len(feeds) == _PAGE else None)

    async def _settles(self, due: Due, page: _Page) -> bool:
        """Do what there is to do of a feed; True when nothing is left and nothing will come."""
        self._looked[due.feed_id] = due.head, time.monotonic()
        worth_it, series = due.feed_id in page.worth_it, page.series.get(due.owner, ())
        if not worth_it and not series:
            return due.ended
        return await self._work(due, series, worth_it=worth_it)

    async def _rest(self, began: float) -> None:
        """After some work that was begun then. Nobody waits for it, and all who write wait for each other."""
        worked = time.monotonic() - began
        others_write = self._database.commits - self._commits > 1
        await asyncio.sleep(min(worked * (_REST_BESIDE_OTHERS if others_write else 1), _LONGEST_REST_SECONDS))
        self._commits = self._database.commits

    def _is_time(self, due: Due) -> bool:
        head, at = self._looked.get(due.feed_id, (0, 0.0))
        if due.ended or due.head - head >= _MANY_NUMBERS:
            return True
        return due.head > head and time.monotonic() - at >= _LATE_SECONDS

    async def _work(self, due: Due, series: Sequence[summaries.Due], *, worth_it: bool) -> bool:
        try:
            if worth_it:
                await self._compact(due)
            await self._summarise(series, ended=due.ended)
        except Stale:
            log.debug("another server compacts this feed", feed=due.feed_id)
            return False
        except Exception as error:
            # One that fails keeps no other from its turn.
            log.error("a feed is not compacted", feed=due.feed_id, error=repr(error), exc_info=error)
            return False
        return due.ended

    async def _compact(self, due: Due) -> None:
        at = due
        while True:
            at = await self._pass(at)
            if not compaction.begins_again(at):
                break
            at = compaction.again(at)
        if not due.ended and at != due:
            async with self._database.begin(aside=True) as session:
                await compaction.record(session, at)

    async def _pass(self, at: Due) -> Due:
        """Go through the windows of a feed; how far it is then."""
        more = True
        while more:
            began = time.monotonic()
            async with self._database.scan() as session:
                windows = await compaction.windows(session, at)
            await self._rest(began)
            for window in windows:
                if not (window.more or at.ended):
                    return at  # of a feed that goes on, the last window is not full yet
                at = await self._put(at, window) if window.is_worth_it else compaction.passed(at, window)
            more = bool(windows) and windows[-1].more
        return at

    async def _put(self, at: Due, window: Window) -> Due:
        began = time.monotonic()
        async with self._database.scan() as session:
            rows = await compaction.content(session, at, window)
        async with self._database.begin(aside=True) as session:
            at = await compaction.put(session, at, window, rows)
        await self._rest(began)
        return at

    async def _summarise(self, series: Sequence[summaries.Due], *, ended: bool) -> None:
        for each in series:
            at: summaries.Due | None = each
            while at is not None:
                at = await self._pick(at, ended=ended)

    async def _pick(self, at: summaries.Due, *, ended: bool) -> summaries.Due | None:
        """Keep the next picks of a series; where it stands then, None when that was the last."""
        began = time.monotonic()
        async with self._database.scan() as session:
            piece = await summaries.piece(session, at, ended=ended)
        if piece is None:
            return None
        async with self._database.begin(aside=True) as session:
            if not await summaries.write(session, piece):
                raise Stale  # who was faster may not live to keep the rest
        await self._rest(began)
        return piece.then
