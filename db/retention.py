"""Retention: a project's ended runs keep what they measured whole for so many days, and what they printed.

After that small picks stand for the points (summaries.py), of every 64 the extremes and the last, and a gap for
the lines of each worker. What is under way is never touched, nor what ended later than that, by the database's
clock. Who follows a run from before is told: of points up to the feed's `points_floor` that there is a gap, of
lines by the gaps, and of states everything. Then what is not needed any more is deleted in pieces; readers do not look
at it. Whatever dies in between, the next one goes on: what is to be done is asked of what is there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, exists, insert, or_, select, update

from db import columns, errors, externals, feeds, metrics, projects, summaries
from db.database import Session, Transaction
from db.feeds import Feed
from db.logs import LogChunk
from db.metrics import Chunk, Compaction, Series
from db.projects import Project
from db.runs import Run
from db.states import TERMINAL_RUN
from db.viewers import Viewer

MOST_DAYS = 36_500
_LOG_CHUNKS = 40
"""Of at most 256 KiB each (logs.py)."""
_PAGE = 200


@dataclass(frozen=True, slots=True)
class Policy:
    """What a project keeps: of runs that ended before these moments, nothing but picks and gaps."""

    project_id: bytes
    metrics_before: datetime | None
    logs_before: datetime | None


@dataclass(frozen=True, slots=True)
class Aged:
    """A run that ended long ago."""

    id: bytes
    feed_id: int
    ended_at: datetime


async def set_days(
    session: Transaction, viewer: Viewer, project_id: bytes | None, days: dict[str, int | None]
) -> bytes:
    """Say how many days a project keeps `metrics_days` and `logs_days`, those that are given; None: for ever."""
    chosen = await projects.choose(session, viewer, project_id)
    for name, count in days.items():
        if count is not None and not 1 <= count <= MOST_DAYS:
            words = name.split("_")
            path = words[0] + words[1].title()
            raise errors.Invalid(f"1 to {MOST_DAYS:,} days, or null for ever, not {count}", path=(path,))
    if days:
        await session.execute(update(Project).where(Project.id == chosen).values(days))
        session.wake()
    return chosen


_LIMITED = (
    select(Project.id, Project.metrics_days, Project.logs_days)
    .where(or_(Project.metrics_days.is_not(None), Project.logs_days.is_not(None)))
    .order_by(Project.id)
)


async def days(session: Session) -> list[tuple[bytes, int | None, int | None]]:
    """Of the projects that do not keep everything for ever: how many days of metrics and of logs they keep."""
    return [(row.id, row.metrics_days, row.logs_days) for row in (await session.execute(_LIMITED)).all()]


async def policies(session: Session, *, now: datetime | None = None) -> list[Policy]:
    """What that comes to now."""
    at = now or await externals.clock(session)
    return [
        Policy(key, _before(at, metrics), _before(at, logs)) for key, metrics, logs in await days(session)
    ]


def _before(at: datetime, days: int | None) -> datetime | None:
    return None if days is None else at - timedelta(days=days)


_AGED = select(Run.id, Run.feed_id, Run.ended_at).where(Run.state.in_(TERMINAL_RUN), Run.deleted_at.is_(None))


async def with_points(
    session: Session, project_id: bytes, before: datetime, after: Aged | None = None
) -> list[Aged]:
    """Runs of a project that ended before then and have points that are to go, past `after`, in order."""
    return await _having(session, project_id, before, after, exists().where(Chunk.feed_id == Run.feed_id))


async def with_lines(
    session: Session, project_id: bytes, before: datetime, after: Aged | None = None
) -> list[Aged]:
    """Runs of a project that ended before then and have lines that are to go, past `after`, in order."""
    lines = exists().where(LogChunk.feed_id == Run.feed_id, LogChunk.dropped == 0)
    return await _having(session, project_id, before, after, lines)


async def _having(
    session: Session, project_id: bytes, before: datetime, after: Aged | None, what: ColumnElement[bool]
) -> list[Aged]:
    statement = _AGED.where(Run.project_id == project_id, Run.ended_at < before, what)
    if after is not None:
        statement = statement.where(
            or_(Run.ended_at > after.ended_at, and_(Run.ended_at == after.ended_at, Run.id > after.id))
        )
    rows = (await session.execute(statement.order_by(Run.ended_at, Run.id).limit(_PAGE))).all()
    return [Aged(row.id, row.feed_id, row.ended_at) for row in rows]


async def thin(session: Transaction, run: Aged) -> bool:
    """Let picks stand for all points of a run, each of which has some; False where that is not so, or it went on."""
    head = await _hold(session, run)
    if head is None:
        return False
    behind = exists().where(Series.run_id == run.id, Series.summarised < Series.points)
    if await session.scalar(select(behind)):
        return False
    thinned = {"thinned": Series.points, "thinned_seq": head.seq}
    whole = (Series.run_id == run.id) & (Series.thinned < Series.points)
    await session.execute(update(Series).where(whole).values(thinned))
    await _begin_behind(session, head)
    await session.execute(update(Feed).where(Feed.id == head.id).values(points_floor=head.seq))
    return True


async def drop_points(session: Transaction, run: Aged) -> bool:
    """Delete a piece of the points that nobody reads any more; False when there are none."""
    head = await _hold(session, run)
    if head is None:
        return False
    unread = select(Series.id).where(Series.id == Chunk.series_id, Chunk.first_seq <= Series.thinned_seq)
    return await metrics.erase(session, head.id, unread.exists())


async def drop_lines(session: Transaction, run: Aged) -> bool:
    """Put gaps in the place of a piece of what a run printed; False when there is nothing left."""
    head = await _hold(session, run)
    if head is None:
        return False
    kept = select(LogChunk.seq, LogChunk.job_id, LogChunk.attempt, LogChunk.rank).where(
        LogChunk.feed_id == head.id, LogChunk.dropped == 0
    )
    rows = (await session.execute(kept.order_by(LogChunk.seq).limit(_LOG_CHUNKS))).all()

    def whose(row: Any) -> tuple[bytes, int, int]:
        return row.job_id or b"", row.attempt, row.rank

    for _, group in groupby(sorted(rows, key=whose), whose):
        of = list(group)
        await _drop_of_worker(session, head.id, of[0], max(row.seq for row in of))
    return bool(rows)


async def _drop_of_worker(session: Transaction, feed_id: int, worker: Any, last: int) -> None:
    """One gap for everything that a worker printed up to a number, the gaps that were there included."""
    ours = (
        (LogChunk.feed_id == feed_id)
        & (LogChunk.job_id == worker.job_id)
        & (LogChunk.attempt == worker.attempt)
        & (LogChunk.rank == worker.rank)
        & (LogChunk.seq <= last)
    )
    sized = select(
        LogChunk.first_line, LogChunk.start, LogChunk.lines, LogChunk.dropped, LogChunk.size
    ).where(ours)
    rows = (await session.execute(sized)).all()
    await session.execute(delete(LogChunk).where(ours))
    gap = {
        **{"feed_id": feed_id, "seq": last, "lines": 0, "data": b""},
        **{"job_id": worker.job_id, "attempt": worker.attempt, "rank": worker.rank},
        "first_line": min(row.first_line for row in rows),
        "start": min(row.start for row in rows),
        "dropped": sum(row.lines + row.dropped for row in rows),
        "size": sum(row.size for row in rows),
    }
    await session.execute(insert(LogChunk.__table__), gap)  # type: ignore[arg-type]


async def _hold(session: Transaction, run: Aged) -> feeds.Head | None:
    """Lock the feed of a run that is as it was when it was found; None where it has gone on, or is deleted."""
    head = await feeds.lock(session, run.feed_id)
    same = _AGED.where(Run.id == run.id, Run.ended_at == run.ended_at)
    return head if (await session.execute(same)).first() is not None else None


async def _begin_behind(session: Transaction, head: feeds.Head) -> None:
    """Have nothing of what was thinned out compacted with what may follow."""
    ours = Compaction.feed_id == head.id
    behind = {"version": Compaction.version + 1, "seq": head.seq, "full_seq": head.seq, "windows": 0}
    if not await session.change(update(Compaction).where(ours).values(behind)):
        once = columns.insert_once(session.postgresql, Compaction, ("feed_id",))
        values = {"feed_id": head.id, "version": 1, "seq": head.seq, "full_seq": head.seq, "windows": 0}
        await session.execute(once, values)


async def unpicked(session: Session, run: Aged) -> Sequence[summaries.Due]:
    """The series of a run that have no picks of some of their points yet."""
    return await summaries.unpicked(session, run.id)
