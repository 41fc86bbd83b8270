"""What all subscriptions to a feed share: the events about the stream itself, and following one.

A stream that is filtered tells how far it has read at least every 15 s, so that who resumes need not read
again what was not for them.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import strawberry

from db import errors
from db.logs import Batch
from graph import live, pacing
from graph.context import Context, Course
from graph.logs import LogGap, LogLine, records
from graph.scalars import Int64

CURSOR_SECONDS = 15.0
_MANY_LINES = 100
"""So many at once come from a flood: whoever reads it leaves the loop to others after each of them."""
_SPREE_SECONDS = 0.002
"""For so long in all, a turn of the loop after each; then for longer: a timer is no finer than a millisecond."""
_LEFT_ALONE = 1.5
"""As many times as long as one who follows a flood has held the loop, it is left to others."""


@strawberry.interface(description="Something that happened, under the next number of a feed.")
class FeedEvent:
    """An event."""

    seq: Int64 = strawberry.field(description="The feed's number: resume after it.")


@strawberry.type(description="How far a filtered stream has read.")
class Cursor(FeedEvent):
    """Progress without news."""


@strawberry.type(description="What lies before `resumeFrom` is no longer kept.")
class FeedTruncated(FeedEvent):
    """A gap at the beginning."""

    resume_from: Int64 = strawberry.field(description="The first number that is kept.")


@strawberry.type(description="Nothing follows.")
class FeedEnded(FeedEvent):
    """The end."""


@strawberry.type(description="Lines were printed.")
class LinesAdded(FeedEvent):
    """Lines."""

    step: str = strawberry.field(description="The job's step; empty for a preparation.")
    lines: list[LogLine] = strawberry.field(description="In the order they were read.")


@strawberry.type(description="Lines that this watcher had not read are no longer kept.")
class LinesDropped(FeedEvent):
    """A gap in the lines of a job."""

    step: str = strawberry.field(description="The job's step.")
    gap: LogGap = strawberry.field(description="All that is missing up to here, also what was read before.")


def lines_added(seq: int, step: str, batch: Batch, first: int = 0) -> LinesAdded | LinesDropped:
    """A batch of lines from its `first` on, or the gap that stands for them, as an event."""
    if batch.dropped:
        return LinesDropped(seq=Int64(seq), step=step, gap=LogGap.of(batch))
    return LinesAdded(seq=Int64(seq), step=step, lines=records(batch, first))


def place(seq: int, *, end: bool = False) -> int:
    """Where an event stands among all of a feed: the end comes after the last event, whose number it has."""
    return seq * 2 + end


async def follow(
    context: Context,
    feed_id: int | None,
    after: int | None,
    told: Callable[[live.Message], Any],
    *,
    points: bool = True,
    paced: pacing.Pace | None = None,
    keep: Callable[[live.Message], live.Message | None] = lambda message: message,
) -> AsyncIterator[Any]:
    """The events of a feed past `after` (None: from now on): what `told` makes of each, None to leave it out.

    Who wants no `points` is told of no gap where only they are no longer kept. At a pace `keep` says first what of
    each message is wanted. Raises NotFound for no feed.
    """
    if feed_id is None:
        raise errors.NotFound("there is no such thing to follow, or you may not see it", path=("id",))
    course = context.course
    after = course.beginning(after)
    cursor = await _head(context, feed_id) if after is None else max(after, 0)
    course.begin(place(cursor))
    until = None if course.until is None else course.until // 2
    hub, remind = context.around.hub, CURSOR_SECONDS
    following = (
        hub.follow(feed_id, cursor, points=points, remind_seconds=remind)
        if paced is None
        else pacing.follow(
            hub, feed_id, cursor, paced, keep, points=points, until=until, remind_seconds=remind
        )
    )
    async with aclosing(_events(course, following, cursor, told)) as events:
        async for course.first, course.at, event in events:
            yield event


async def _events(
    course: Course,
    following: AsyncGenerator[live.Item, None],
    cursor: int,
    told: Callable[[live.Message], Any],
) -> AsyncGenerator[tuple[int, int, Any], None]:
    """Events, each with the places of the first and the last of what it tells."""
    said, at = cursor, time.monotonic()
    held = 0.0
    async with aclosing(following) as items:
        async for item in items:
            if course.until is not None and _is_over(item, course.until):
                course.arrived = True
                if said < course.until // 2:
                    seq = course.until // 2
                    yield place(seq), course.until, Cursor(seq=Int64(seq))
                return
            match item:
                case live.Message(seq=seq):
                    event = told(item)
                    if event is not None:
                        began = time.thread_time()
                        yield place(item.first or seq), place(seq), event
                        said, at = seq, time.monotonic()
                        if item.lines is not None and item.lines.count > _MANY_LINES:
                            # What it took, and no more of what others did while it was being sent.
                            held += min(time.thread_time() - began, _SPREE_SECONDS)
                            await asyncio.sleep(held * _LEFT_ALONE if held >= _SPREE_SECONDS else 0)
                            held = held if held < _SPREE_SECONDS else 0.0
                case live.Reached(seq=seq) if seq > said and time.monotonic() - at >= CURSOR_SECONDS:
                    yield place(seq), place(seq), Cursor(seq=Int64(seq))
                    said, at = seq, time.monotonic()
                case live.Truncated(resume_from=resume_from):
                    seq = resume_from - 1
                    yield (
                        place(seq),
                        place(seq),
                        FeedTruncated(seq=Int64(seq), resume_from=Int64(resume_from)),
                    )
                case live.Ended(seq=seq):
                    end = place(seq, end=True)
                    course.arrived = course.until is not None
                    yield end, end, FeedEnded(seq=Int64(seq))


def _is_over(item: live.Item, until: int) -> bool:
    """Whether all up to a place has been told before this."""
    if isinstance(item, live.Reached):
        return place(item.seq) >= until
    return place(item.seq, end=isinstance(item, live.Ended)) > until


async def _head(context: Context, feed_id: int) -> int:
    async with context.database.read() as session:
        page = await live.read(session, feed_id, 0, most=1)
    return page.head
