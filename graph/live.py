"""Live delivery: one reader a followed feed a process, however many watch it; a watcher is a cursor.

The reader wakes on a hint, or on a slow poll should one be lost, reads what is new once, and keeps the last
messages in a bounded window. Points that were committed in this process, and are all that is new, it takes as they
are. A watcher that has fallen out of the window reads the database from where it
stands. Nothing queues for a watcher, so a slow one costs no memory, and every seq reaches it once, in order.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from itertools import islice

import structlog

from db import errors, feeds, logs, metrics
from db.bus import Wake
from db.changes import Recent
from db.database import Database, Session
from db.feeds import Event
from db.logs import Batch
from db.points import Added, Points

log = structlog.get_logger(__name__)

_WINDOW = 4096
_WINDOW_BYTES = 8 << 20
_PAGE = 500
_PAGE_CHUNKS = 64
"""Of log lines, which are large, and of which a flood has many."""
_POLL_SECONDS = 2.0
_NO_POINTS = Added([], None)


@dataclass(frozen=True, slots=True)
class Message:
    """What happened under one number: one of a state event, the points of a batch, a batch of lines.

    Points that are told together (pacing.py) have those of all numbers from `first` to `seq`, and in `counts`
    how many were added to each series.
    """

    seq: int
    event: Event | None = None
    points: tuple[Points, ...] = ()
    lines: Batch | None = None
    first: int | None = None
    counts: tuple[int, ...] = ()

    @property
    def weight(self) -> int:
        """About how many bytes it holds."""
        text = len(self.lines.data) if self.lines else 0
        return 500 + text + sum(24 * len(points.values) for points in self.points)


@dataclass(frozen=True, slots=True)
class Reached:
    """The watcher has read up to `seq`, and there is nothing more for now."""

    seq: int


@dataclass(frozen=True, slots=True)
class Truncated:
    """What lies before `resume_from` is no longer kept."""

    seq: int
    resume_from: int


@dataclass(frozen=True, slots=True)
class Ended:
    """Nothing follows `seq`."""

    seq: int


Item = Message | Reached | Truncated | Ended
"""What who follows a feed is told."""


@dataclass(frozen=True, slots=True)
class Page:
    """Everything of a feed past a number, up to `upto`; the feed's state is as of the same snapshot."""

    messages: list[Message]
    upto: int
    head: int
    floors: "Floors"
    ended: bool


@dataclass(frozen=True, slots=True)
class Floors:
    """Up to where nothing of a feed is told any more, and up to where no points are."""

    all: int = 0
    points: int = 0

    def of(self, points: bool) -> int:
        """That of who wants points, or does not."""
        return max(self.all, self.points) if points else self.all


async def read(
    session: Session, feed_id: int, after: int, *, most: int = _PAGE, with_points: bool = True
) -> Page:
    """The next messages of a feed, whole and without gaps; of one that has points, or without them."""
    head = await feeds.head(session, feed_id)
    if head is None:
        raise errors.NotFound
    floors = Floors(head.floor, head.points_floor)
    after = max(after, floors.of(with_points))
    if head.seq <= after:
        return Page([], after, head.seq, floors, head.ended)
    points = await metrics.since(session, feed_id, after, most=most) if with_points else _NO_POINTS
    few = min(most, _PAGE_CHUNKS)
    events: list[Event] = []
    lines: list[Batch] = []
    # Each number is of one message: where points have them all, there is nothing else to look for.
    if len({one.seq for one in points.parts}) < head.seq - after:
        events = await feeds.events(session, feed_id, after, most=most)
        lines = await logs.since(session, feed_id, after, most=few)
    # A list that was cut says nothing about what lies past its end.
    ends = [events[-1].seq] if len(events) >= most else []
    ends += [] if points.upto is None else [points.upto]
    ends += [lines[-1].seq] if len(lines) >= few else []
    upto = min([head.seq, *ends])
    messages = _merged(events, points.parts, lines, upto)
    return Page(messages, upto, head.seq, floors, head.ended and upto == head.seq)


def _merged(events: list[Event], points: list[Points], lines: list[Batch], upto: int) -> list[Message]:
    batches: dict[int, list[Points]] = {}
    for one in points:
        batches.setdefault(one.seq, []).append(one)
    messages = [Message(event.seq, event=event) for event in events]
    messages += [Message(seq, points=tuple(batch)) for seq, batch in batches.items()]
    messages += [Message(batch.seq, lines=batch) for batch in lines]
    return sorted((m for m in messages if m.seq <= upto), key=lambda message: message.seq)


class Hub:
    """The readers of one process."""

    def __init__(self, database: Database, *, poll_seconds: float = _POLL_SECONDS) -> None:
        self._database = database
        self._poll_seconds = poll_seconds
        self._readers: dict[int, _Reader] = {}
        self._silence = database.bus.listen(self._hear, missed=self._look_everywhere)
        database.followers.append(self._take)
        self.recent = Recent(database.bus)

    def close(self) -> None:
        """Stop hearing hints; watchers end with their connections."""
        self._silence()
        self._database.followers.remove(self._take)
        self.recent.close()

    @property
    def readers(self) -> int:
        """How many feeds are being followed."""
        return len(self._readers)

    async def follow(
        self,
        feed_id: int,
        after: int,
        *,
        points: bool = True,
        remind_seconds: float | Callable[[], float] | None = None,
    ) -> AsyncGenerator[Item, None]:
        """Everything past `after`, then what comes, until the feed's end; who wants no `points` may be told some.

        Reached comes whenever the watcher has caught up, and again after `remind_seconds` in which nothing
        came, so that who filters can tell how far it has read.
        """
        reader = self._readers.get(feed_id)
        if reader is None or reader.ended:  # an external run goes on after an end that was none
            reader = self._readers[feed_id] = _Reader(self._database, feed_id, self._poll_seconds)
        reader.watchers += 1
        try:
            async with aclosing(self._follow(reader, after, points, remind_seconds)) as items:
                async for item in items:
                    yield item
        finally:
            reader.watchers -= 1
            if not reader.watchers:
                if self._readers.get(feed_id) is reader:
                    del self._readers[feed_id]
                reader.stop()

    async def _follow(
        self,
        reader: "_Reader",
        cursor: int,
        points: bool,
        remind_seconds: float | Callable[[], float] | None,
    ) -> AsyncGenerator[Item, None]:
        await reader.ready.wait()
        while True:
            tick = reader.tick
            messages, upto, floor, ended = await self._past(reader, cursor, points)
            if cursor < floor:
                yield Truncated(cursor, floor + 1)
                cursor = floor
            for message in messages:
                yield message
            cursor = max(cursor, upto)
            if ended:
                yield Ended(cursor)
                return
            if cursor >= reader.head:
                yield Reached(cursor)
                seconds = remind_seconds() if callable(remind_seconds) else remind_seconds
                with suppress(TimeoutError):
                    async with asyncio.timeout(seconds):
                        await tick.wait()

    async def _past(
        self, reader: "_Reader", cursor: int, points: bool
    ) -> tuple[list[Message], int, int, bool]:
        """From the window where that reaches back far enough, else from the database."""
        if cursor >= reader.start:
            messages = reader.past(cursor)
            return messages, reader.head, reader.floors.of(points), reader.ended
        async with self._database.read() as session:
            page = await read(session, reader.feed_id, cursor, with_points=points)
        return page.messages, page.upto, page.floors.of(points), page.ended

    def _take(self, emitted: feeds.Emitted) -> None:
        for head in emitted.heads.values():
            reader = self._readers.get(head.id)
            if reader is not None:
                reader.take(head)

    def _hear(self, reached: Mapping[int, int], _wake: Wake) -> None:
        for feed_id, seq in reached.items():
            reader = self._readers.get(feed_id)
            if reader is not None and seq > reader.head:
                reader.wanted.set()

    def _look_everywhere(self) -> None:
        for reader in self._readers.values():
            reader.wanted.set()


class _Reader:
    """Reads one feed for all who watch it: `start` < every message of the window <= `head`."""

    def __init__(self, database: Database, feed_id: int, poll_seconds: float) -> None:
        self.feed_id = feed_id
        self.watchers = 0
        self.start = self.head = 0
        self.floors = Floors()
        self.ended = False
        self.ready = asyncio.Event()
        self.wanted = asyncio.Event()
        self.tick = asyncio.Event()
        self._database = database
        self._poll_seconds = poll_seconds
        self._window: deque[Message] = deque()
        self._weight = 0
        self._is_reading = False
        self._task = asyncio.create_task(self._run(), name=f"feed {feed_id}")

    def stop(self) -> None:
        """Nobody watches any more."""
        self._task.cancel()
        del self._task  # It keeps the frames that it was ended in, and those what the window holds.

    def past(self, cursor: int) -> list[Message]:
        """The messages of the window past a cursor that is not before its start."""
        behind = 0
        for message in reversed(self._window):
            if message.seq <= cursor:
                break
            behind += 1
        return list(islice(self._window, len(self._window) - behind, None))

    def take(self, head: feeds.Head) -> None:
        """Go on with what was committed, if that is points alone and the next that is new; else it is read."""
        is_next = self.ready.is_set() and not self._is_reading and self.head == head.start
        if is_next and not self.ended and not head.ended and 0 < len(head.points) == head.seq - head.start:
            messages = [Message(seq, points=tuple(points)) for seq, points in head.points.items()]
            self._keep(Page(messages, head.seq, head.seq, self.floors, ended=False))

    async def _run(self) -> None:
        while not self.ended:
            self._is_reading = True
            try:
                await self._read()
            except Exception as error:
                # The database may be away for a moment; the watchers wait, and lose nothing.
                log.warning("feed not read", feed=self.feed_id, error=repr(error), exc_info=error)
                await asyncio.sleep(self._poll_seconds)
                continue
            finally:
                self._is_reading = False
            if self.ended:
                return
            try:
                async with asyncio.timeout(self._poll_seconds):
                    await self.wanted.wait()
            except TimeoutError:
                continue

    async def _read(self) -> None:
        self.wanted.clear()
        if not self.ready.is_set():
            async with self._database.read() as session:
                head = await feeds.head(session, self.feed_id)
            assert head is not None
            self.start = self.head = head.seq
            self.floors, self.ended = Floors(head.floor, head.points_floor), head.ended
            self.ready.set()
            return
        while True:
            async with self._database.read() as session:
                page = await read(session, self.feed_id, self.head)
            self._keep(page)
            if page.upto >= page.head:
                return

    def _keep(self, page: Page) -> None:
        self._window.extend(page.messages)
        self._weight += sum(message.weight for message in page.messages)
        while len(self._window) > _WINDOW or (self._weight > _WINDOW_BYTES and self._window):
            dropped = self._window.popleft()
            self._weight -= dropped.weight
            self.start = dropped.seq
        moved = page.upto > self.head or page.ended
        self.head, self.floors, self.ended = page.upto, page.floors, page.ended
        if moved:
            self.tick.set()
            self.tick = asyncio.Event()
