"""Logs: the lines that jobs and preparations print, in numbered batches.

Lines are kept in the order they were read, with their time and stream, a batch a row under one number of
the feed. Whatever bytes a job prints become text that any client can show: what is no UTF-8 is escaped.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import BigInteger, ForeignKey, Index, Integer, LargeBinary, Select, bindparam, insert, select
from sqlalchemy.orm import Mapped, mapped_column

from db import feeds
from db.columns import Base, Id
from db.database import Session, Transaction
from db.paging import Page, Slice

MOST_LINES = 500
MOST_BYTES = 256 << 10
"""Of one batch: what a watcher gets in one message stays small enough to be passed on at once."""


class LogChunk(Base):
    """A batch of lines: `data` is a JSON list of [time in µs, stream, text]. No job: a preparation's."""

    __tablename__ = "log_chunks"
    __table_args__ = (Index("ix_log_chunks_job", "job_id", "seq"),)

    feed_id: Mapped[int] = mapped_column(ForeignKey("feeds.id"), primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    job_id: Mapped[bytes | None] = mapped_column(Id, ForeignKey("jobs.id"))
    attempt: Mapped[int] = mapped_column(Integer, default=0)
    rank: Mapped[int] = mapped_column(Integer, default=0)
    lines: Mapped[int] = mapped_column(Integer)
    data: Mapped[bytes] = mapped_column(LargeBinary)


@dataclass(frozen=True, slots=True)
class Line:
    """One line. `stream` is 1 for standard output, 2 for standard error."""

    time_us: int
    stream: int
    text: str


@dataclass(frozen=True, slots=True)
class Placed:
    """A line where it stands: (seq, index) is its cursor."""

    seq: int
    index: int
    attempt: int
    rank: int
    line: Line


@dataclass(frozen=True, slots=True)
class Batch:
    """The lines under one number of a feed."""

    seq: int
    job_id: bytes | None
    lines: list[Placed]


_INSERT = insert(LogChunk.__table__)  # type: ignore[arg-type]


async def append(
    session: Transaction,
    head: feeds.Head,
    lines: Sequence[Line],
    *,
    job_id: bytes | None = None,
    attempt: int = 0,
    rank: int = 0,
) -> None:
    """Add lines to a locked feed, in as many batches as their size asks for."""
    rows = [
        {
            "feed_id": head.id,
            "seq": head.take(),
            "job_id": job_id,
            "attempt": attempt,
            "rank": rank,
            "lines": len(batch),
            "data": orjson.dumps([[line.time_us, line.stream, line.text] for line in batch]),
        }
        for batch in _batches(lines)
    ]
    if rows:
        await session.execute(_INSERT, rows)


def text_of(data: bytes) -> str:
    """What a job printed, as text: UTF-8 where it is, `\\xff` for a byte that is not."""
    return data.decode("utf-8", "backslashreplace")


def _batches(lines: Sequence[Line]) -> list[list[Line]]:
    batches: list[list[Line]] = []
    size = 0
    for line in lines:
        if not batches or len(batches[-1]) >= MOST_LINES or size >= MOST_BYTES:
            batches.append([])
            size = 0
        batches[-1].append(line)
        size += len(line.text)
    return batches


_SINCE = (
    select(LogChunk)
    .where(LogChunk.feed_id == bindparam("feed"), LogChunk.seq > bindparam("after"))
    .order_by(LogChunk.seq)
    .limit(bindparam("most"))
)


async def since(session: Session, feed_id: int, after: int, *, most: int = 1000) -> list[Batch]:
    """The batches past `after`, in order."""
    rows = await session.all(LogChunk, _SINCE, {"feed": feed_id, "after": after, "most": most})
    return [_batch(row) for row in rows]


async def of_job(session: Session, job_id: bytes, page: Page) -> Slice[Placed]:
    """A page of a job's lines, oldest first, of all its attempts; cursors are (seq, index)."""
    return await _page(session, LogChunk.job_id == job_id, page)


async def of_feed(session: Session, feed_id: int, page: Page) -> Slice[Placed]:
    """A page of the lines of a feed that are no job's, oldest first."""
    return await _page(session, (LogChunk.feed_id == feed_id) & LogChunk.job_id.is_(None), page)


async def _page(session: Session, owner: Any, page: Page) -> Slice[Placed]:
    statement = select(LogChunk).where(owner)
    if page.after is not None:
        statement = statement.where(LogChunk.seq >= page.after[0])
    if page.before is not None:
        statement = statement.where(LogChunk.seq <= page.before[0])
    order = LogChunk.seq.desc() if page.backward else LogChunk.seq.asc()
    rows = await _chunks(session, statement.order_by(order), page)
    found = [line for row in (rows[::-1] if page.backward else rows) for line in _batch(row).lines]
    inside = [line for line in found if _between(line, page)]
    more = len(inside) > page.size
    if page.backward:
        kept = inside[-page.size :] if page.size else []
        return Slice(kept, has_next=page.before is not None, has_previous=more)
    return Slice(inside[: page.size], has_next=more, has_previous=page.after is not None)


async def _chunks(session: Session, statement: Select[Any], page: Page) -> list[LogChunk]:
    """The chunks that have the page's lines and one more, and little beyond."""
    # Every chunk has a line at least; those at the edges may have none past the cursors.
    sized = statement.with_only_columns(LogChunk.seq, LogChunk.lines).limit(page.size + 3)
    wanted, lines, edge = [], 0, {at[0] for at in (page.after, page.before) if at is not None}
    for row in (await session.execute(sized)).all():
        wanted.append(row.seq)
        lines += 0 if row.seq in edge else row.lines
        if lines > page.size:
            break
    return await session.all(LogChunk, statement.where(LogChunk.seq.in_(wanted)))


def _between(line: Placed, page: Page) -> bool:
    at = (line.seq, line.index)
    return (page.after is None or at > tuple(page.after)) and (page.before is None or at < tuple(page.before))


def _batch(row: LogChunk) -> Batch:
    lines = [
        Placed(row.seq, index, row.attempt, row.rank, Line(*fields))
        for index, fields in enumerate(orjson.loads(row.data))
    ]
    return Batch(row.seq, row.job_id, lines)
