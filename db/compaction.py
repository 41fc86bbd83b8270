"""Compacting: the many small chunks of a feed become few, and nobody who reads notices.

A window is a stretch of a feed's numbers, of at most MOST_POINTS points and MOST_ROWS chunks of all series. Its chunks
are put together, one a series, in one transaction, which holds no feed: what lies in it is committed for good, and
whoever writes writes behind it. Chunks never reach across the end of a window, so that who follows the feed gets
every number whole and in order whatever was compacted meanwhile (metrics.since). While a run goes on only
windows that are full are compacted; those that its many series filled with few points each are put together again in
further passes, and what is left when the run has ended. `version` lets one of several servers do each step.
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from sqlalchemy import bindparam, delete, func, insert, literal_column, select, update

from db import chunks, columns
from db.chunks import Packed
from db.database import Session, Transaction
from db.feeds import Feed, Kind
from db.metrics import Chunk, Compaction

MOST_POINTS = 1 << 15
"""Of a window: 0.8 MB, which a transaction writes in a few milliseconds."""
MOST_ROWS = 1024
_AGAIN = 32
"""After so many windows those that are not full are put together."""
_LARGE = 8192
"""Chunks of so many points are left as they are."""


class Stale(Exception):
    """Somebody else has changed what was to be compacted."""


@dataclass(frozen=True, slots=True)
class Due:
    """A feed that may have something to compact, and how far that is."""

    feed_id: int
    owner: bytes
    is_run: bool
    head: int
    ended: bool
    version: int
    seq: int
    full_seq: int
    windows: int


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch past `after` and up to `upto`, with its chunks; `more` says that others follow."""

    after: int
    upto: int
    rows: int
    series: int
    points: int
    more: bool

    @property
    def is_worth_it(self) -> bool:
        """Whether putting its chunks together makes them far fewer."""
        return self.rows >= 2 * self.series and self.points < _LARGE * self.rows


_DUE = (
    select(
        Feed.id,
        Feed.owner,
        Feed.kind,
        Feed.seq.label("head"),
        Feed.ended,
        Compaction.version,
        Compaction.seq,
        Compaction.full_seq,
        Compaction.windows,
    )
    .outerjoin(Compaction, Compaction.feed_id == Feed.id)
    .where(literal_column("NOT feeds.settled"), Feed.id > bindparam("after"))
    .order_by(Feed.id)
    .limit(bindparam("most"))
)


async def due(session: Session, after: int = 0, *, most: int = 1000) -> list[Due]:
    """Feeds past `after` by id that are not settled yet."""
    rows = (await session.execute(_DUE, {"after": after, "most": most})).all()
    return [
        Due(
            feed_id=row.id,
            owner=row.owner,
            is_run=row.kind is Kind.RUN,
            head=row.head,
            ended=row.ended,
            version=row.version or 0,
            seq=row.seq or 0,
            full_seq=row.full_seq or 0,
            windows=row.windows or 0,
        )
        for row in rows
    ]


_STANDING = (
    select(
        Feed.id,
        func.count().label("rows"),
        func.count(Chunk.series_id.distinct()).label("series"),
        func.sum(Chunk.points).label("points"),
    )
    .select_from(Feed)
    .outerjoin(Compaction, Compaction.feed_id == Feed.id)
    .join(Chunk, (Chunk.feed_id == Feed.id) & (Chunk.last_seq > func.coalesce(Compaction.seq, 0)))
    .where(columns.Among(Feed.id, "feeds"))
    .group_by(Feed.id)
)


async def worth_it(session: Session, page: Sequence[Due]) -> set[int]:
    """Those of these feeds, by id, of which there may be something to put together: most have nothing."""
    worth = {each.feed_id for each in page if begins_again(each)}
    of = {each.feed_id: each for each in page}
    for row in (await session.execute(_STANDING, {"feeds": list(of)})).all() if of else []:
        due = of[row.id]
        fits = row.rows <= MOST_ROWS and row.points <= MOST_POINTS
        whole = Window(due.seq, due.head, row.rows, row.series, row.points, more=False)
        if not fits or (due.ended and whole.is_worth_it):
            worth.add(row.id)
    return worth


_HEADS = (
    select(Chunk.series_id, Chunk.last_seq, Chunk.points)
    .where(
        Chunk.feed_id == bindparam("feed"),
        Chunk.last_seq > bindparam("after"),
        Chunk.last_seq <= bindparam("head"),
    )
    .order_by(Chunk.last_seq)
    .limit(bindparam("most"))
)


async def windows(session: Session, due: Due) -> list[Window]:
    """The next windows of a feed, up to where it stood when it was found due; none where nothing follows."""
    most = MOST_ROWS + 1
    given = {"feed": due.feed_id, "after": due.seq, "head": due.head, "most": most}
    rows = (await session.execute(_HEADS, given)).all()
    if len(rows) < most:
        return list(_cut(due.seq, rows, more=False))
    # A number that was cut is of the next window, unless it is the only one.
    whole = [row for row in rows if row.last_seq < rows[-1].last_seq]
    if not whole:
        return [Window(due.seq, rows[-1].last_seq, 0, 1, 0, more=True)]
    found = list(_cut(due.seq, whole, more=True))
    return found[:-1] or found  # the last of several may go on behind these rows


def _cut(after: int, rows: Sequence[Any], *, more: bool) -> Iterator[Window]:
    """These rows in windows that are not too many points each, one number at least; `more` follow."""
    upto = count = points = 0
    series: set[int] = set()
    for last_seq, group in groupby(rows, lambda row: row.last_seq):
        of = list(group)
        size = sum(row.points for row in of)
        if count and points + size > MOST_POINTS:
            yield Window(after, upto, count, len(series), points, more=True)
            after, count, points, series = upto, 0, 0, set()
        upto, count, points = last_seq, count + len(of), points + size
        series |= {row.series_id for row in of}
    if count:
        yield Window(after, upto, count, len(series), points, more=more)


_CONTENT = (
    select(
        Chunk.series_id,
        Chunk.first_seq,
        Chunk.last_seq,
        Chunk.end_seq,
        Chunk.points,
        Chunk.steps,
        Chunk.times,
        Chunk.values.label("packed"),
        Chunk.seqs,
    )
    .where(
        Chunk.feed_id == bindparam("feed"),
        Chunk.last_seq > bindparam("after"),
        Chunk.last_seq <= bindparam("upto"),
    )
    .order_by(Chunk.series_id, Chunk.first_seq)
)


async def content(session: Session, due: Due, window: Window) -> list[dict[str, Any]]:
    """The rows that the window's chunks become; raises Stale where they are there no more."""
    wanted = {"feed": due.feed_id, "after": window.after, "upto": window.upto}
    rows = [Packed(**row._mapping) for row in (await session.execute(_CONTENT, wanted)).all()]
    if len(rows) != window.rows:
        raise Stale
    return await asyncio.to_thread(_merged, rows, due.feed_id, window.upto)


def _merged(rows: list[Packed], feed_id: int, upto: int) -> list[dict[str, Any]]:
    return [chunks.merge(list(group), feed_id, upto) for _, group in groupby(rows, lambda row: row.series_id)]


_DELETE = delete(Chunk).where(
    Chunk.feed_id == bindparam("feed"),
    Chunk.last_seq > bindparam("after"),
    Chunk.last_seq <= bindparam("upto"),
)
_INSERT: Any = insert(Chunk.__table__)  # type: ignore[arg-type]


async def put(session: Transaction, due: Due, window: Window, rows: list[dict[str, Any]]) -> Due:
    """Put a window's new chunks in the place of its old ones; raises Stale, and the transaction is undone."""
    moved = passed(due, window)
    if due.full_seq < moved.full_seq and window.points < MOST_POINTS // 2:
        moved = replace(moved, full_seq=due.full_seq)
    moved = await record(session, replace(moved, windows=due.windows + 1))
    old = {"feed": due.feed_id, "after": window.after, "upto": window.upto}
    if await session.change(_DELETE, old) != window.rows:
        raise Stale
    await session.execute(_INSERT, rows)
    return moved


def passed(due: Due, window: Window) -> Due:
    """Where a feed stands once a window is left as it is."""
    is_full = due.full_seq == due.seq
    return replace(due, seq=window.upto, full_seq=window.upto if is_full else due.full_seq)


def begins_again(due: Due) -> bool:
    """Whether windows were made since the last pass that another one may put together."""
    return due.windows >= (1 if due.ended else _AGAIN)


def again(due: Due) -> Due:
    """Where another pass begins: behind what is full."""
    return replace(due, seq=due.full_seq, windows=0)


_BEGUN = {on: columns.insert_once(on, Compaction, ("feed_id",)) for on in (False, True)}
_GONE_ON = (
    update(Compaction)
    .where(Compaction.feed_id == bindparam("feed"), Compaction.version == bindparam("before"))
    .values({name: bindparam(f"new_{name}") for name in ("version", "seq", "full_seq", "windows")})
)


async def record(session: Transaction, due: Due) -> Due:
    """Keep how far a feed is compacted; raises Stale where somebody else was faster."""
    values = {"version": due.version + 1, "seq": due.seq, "full_seq": due.full_seq, "windows": due.windows}
    if not due.version:
        made = await session.change(_BEGUN[session.postgresql], {"feed_id": due.feed_id, **values})
    else:
        given = {f"new_{name}": value for name, value in values.items()}
        made = await session.change(_GONE_ON, {"feed": due.feed_id, "before": due.version, **given})
    if not made:
        raise Stale
    return replace(due, version=due.version + 1)


async def settle(session: Transaction, due: Sequence[Due]) -> None:
    """Record that nothing is left to do of these feeds, which have ended."""
    # Not of one that has gone on meanwhile.
    same = (Feed.id == bindparam("feed")) & (Feed.seq == bindparam("head")) & Feed.ended
    done = update(Feed.__table__).where(same).values(settled=True)  # type: ignore[arg-type]
    await session.execute(done, [{"feed": each.feed_id, "head": each.head} for each in due])
