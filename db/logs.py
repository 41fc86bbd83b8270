"""Logs: the lines that jobs and preparations print, in numbered chunks.

Lines are kept in the order they were read, a chunk a row under one number of the feed (lines.py has what is
in one). Of a worker that prints past a limit the beginning and the end are kept: chunks in the middle are
deleted in the transactions that store what follows, and one row, the gap, stands under the last of their
numbers and says what is missing, so that whoever reads past it is told.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Select,
    bindparam,
    delete,
    insert,
    select,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from db import feeds, lines
from db.columns import Base, Id
from db.database import Session, Transaction
from db.lines import Line, Packed
from db.paging import Page, Slice

MOST_A_PAGE = 500
_GAP_ROWS = 1000
"""How many rows one transaction takes out of a middle at most; those that follow take the rest."""


class LogChunk(Base):
    """Lines in a row (see lines.py), or the gap that `dropped` lines left. No job: a preparation's.

    `first_line` counts a worker's lines from 1, `start` its bytes of text from 0, of which `size` are here.
    """

    __tablename__ = "log_chunks"
    __table_args__ = (
        Index("ix_log_chunks_job", "job_id", "seq"),
        Index("ix_log_chunks_worker", "job_id", "attempt", "rank", "start"),
        Index(
            "ix_log_chunks_gap",
            "job_id",
            sqlite_where=text("dropped > 0"),
            postgresql_where=text("dropped > 0"),
        ),
    )

    feed_id: Mapped[int] = mapped_column(ForeignKey("feeds.id"), primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    job_id: Mapped[bytes | None] = mapped_column(Id, ForeignKey("jobs.id"))
    attempt: Mapped[int] = mapped_column(Integer, default=0)
    rank: Mapped[int] = mapped_column(Integer, default=0)
    lines: Mapped[int] = mapped_column(Integer)
    data: Mapped[bytes] = mapped_column(LargeBinary)
    first_line: Mapped[int] = mapped_column(BigInteger, default=1, server_default="1")
    start: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    size: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    dropped: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")


class Placed(NamedTuple):
    """A line where it stands: (seq, position) is its cursor, `number` its place in what its worker printed."""

    seq: int
    position: int
    attempt: int
    rank: int
    number: int
    line: Line


@dataclass(frozen=True, slots=True)
class Batch:
    """What stands under one number of a feed: lines, or the gap that so many `dropped` lines left.

    The lines are taken out of `data` by who wants them.
    """

    seq: int
    job_id: bytes | None
    attempt: int
    rank: int
    first_line: int
    count: int
    size: int
    dropped: int
    data: bytes

    @property
    def lines(self) -> list[Placed]:
        if not self.data:
            return []
        seq, attempt, rank, first = self.seq, self.attempt, self.rank, self.first_line
        return [
            Placed(seq, index, attempt, rank, first + index, line)
            for index, line in enumerate(lines.unpack(self.data))
        ]


@dataclass(frozen=True, slots=True)
class Limit:
    """How much of what a worker prints is kept: the first bytes and the last."""

    head_bytes: int = 16 << 20
    tail_bytes: int = 48 << 20


@dataclass(frozen=True, slots=True)
class Printer:
    """Whose lines they are, and how much it had printed before: `lines` and bytes of text."""

    job_id: bytes
    attempt: int
    rank: int
    lines: int
    size: int


_INSERT = insert(LogChunk.__table__)  # type: ignore[arg-type]
_AFTER = select(LogChunk.first_line + LogChunk.lines, LogChunk.start + LogChunk.size).where(
    LogChunk.feed_id == bindparam("feed"), LogChunk.job_id.is_(None)
)
_LAST = _AFTER.order_by(LogChunk.seq.desc()).limit(1)


async def append(session: Transaction, head: feeds.Head, chunks: Sequence[Packed], printer: Printer) -> None:
    """Add what a worker printed to a locked feed."""
    await append_all(session, [(head, chunks, printer)])


async def append_all(
    session: Transaction, given: Iterable[tuple[feeds.Head, Sequence[Packed], Printer]]
) -> None:
    """Add what several workers printed, each to a locked feed."""
    rows: list[dict[str, Any]] = []
    for head, chunks, printer in given:
        values = {"job_id": printer.job_id, "attempt": printer.attempt, "rank": printer.rank}
        rows += _placed(head, chunks, values, printer.lines + 1, printer.size)
    if rows:
        await session.execute(_INSERT, rows)


async def note(session: Transaction, head: feeds.Head, given: Sequence[Line]) -> None:
    """Add lines that are no job's to a locked feed."""
    row = (await session.execute(_LAST, {"feed": head.id})).first()
    first, start = tuple(row) if row is not None else (1, 0)
    chunks = lines.pack(lines.blocks_of(given))
    rows = _placed(head, chunks, {"job_id": None, "attempt": 0, "rank": 0}, first, start)
    if rows:
        await session.execute(_INSERT, rows)


def _placed(
    head: feeds.Head, chunks: Sequence[Packed], values: dict[str, Any], first: int, start: int
) -> list[dict[str, Any]]:
    rows = []
    for chunk in chunks:
        place = {"feed_id": head.id, "seq": head.take(), "first_line": first, "start": start, "dropped": 0}
        rows.append({**values, **place, "lines": chunk.lines, "size": chunk.size, "data": chunk.data})
        first += chunk.lines
        start += chunk.size
    return rows


_MIDDLE = (
    select(LogChunk.seq, LogChunk.first_line, LogChunk.lines, LogChunk.dropped, LogChunk.start, LogChunk.size)
    .where(
        LogChunk.job_id == bindparam("job"),
        LogChunk.attempt == bindparam("attempt"),
        LogChunk.rank == bindparam("rank"),
        LogChunk.start >= bindparam("head"),
        LogChunk.start + LogChunk.size <= bindparam("tail"),
        LogChunk.start < bindparam("tail"),
    )
    .order_by(LogChunk.start)
    .limit(_GAP_ROWS)
)
_DROP = delete(LogChunk).where(
    LogChunk.job_id == bindparam("job"),
    LogChunk.attempt == bindparam("attempt"),
    LogChunk.rank == bindparam("rank"),
    LogChunk.start.between(bindparam("first"), bindparam("last")),
)


async def trim(session: Transaction, feed_id: int, printer: Printer, size: int, limit: Limit) -> None:
    """Take out of the middle what is neither of the first bytes nor of the last, now that there are `size`.

    The feed is locked. The gap takes the number of the last chunk that was dropped: who has read less is
    told when they come past it, and who has read on misses nothing.
    """
    tail = size - limit.tail_bytes
    if tail <= limit.head_bytes:
        return
    whose = {"job": printer.job_id, "attempt": printer.attempt, "rank": printer.rank}
    rows = (await session.execute(_MIDDLE, {**whose, "head": limit.head_bytes, "tail": tail})).all()
    if not any(row.lines for row in rows):
        return
    first, last = rows[0], rows[-1]
    await session.execute(_DROP, {**whose, "first": first.start, "last": last.start})
    gap = {
        **{"feed_id": feed_id, "seq": last.seq, "first_line": first.first_line, "start": first.start},
        **{"job_id": printer.job_id, "attempt": printer.attempt, "rank": printer.rank, "lines": 0},
        "dropped": sum(row.lines + row.dropped for row in rows),
        "size": sum(row.size for row in rows),
        "data": b"",
    }
    await session.execute(_INSERT, gap)


async def gaps(session: Session, jobs: Collection[bytes]) -> list[Batch]:
    """What is missing of the logs of these jobs, in order."""
    statement = select(LogChunk).where(LogChunk.job_id.in_(jobs), LogChunk.dropped > 0)
    return [batch_of(row) for row in await session.all(LogChunk, statement.order_by(LogChunk.seq))]


_SINCE = (
    select(LogChunk)
    .where(LogChunk.feed_id == bindparam("feed"), LogChunk.seq > bindparam("after"))
    .order_by(LogChunk.seq)
    .limit(bindparam("most"))
)


async def since(session: Session, feed_id: int, after: int, *, most: int = 1000) -> list[Batch]:
    """The batches past `after`, gaps among them, in order."""
    rows = await session.all(LogChunk, _SINCE, {"feed": feed_id, "after": after, "most": most})
    return [batch_of(row) for row in rows]


async def of_job(session: Session, job_id: bytes, page: Page) -> Slice[Placed]:
    """A page of a job's lines, oldest first, of all its attempts; cursors are (seq, position)."""
    return await _page(session, LogChunk.job_id == job_id, page)


async def of_feed(session: Session, feed_id: int, page: Page) -> Slice[Placed]:
    """A page of the lines of a feed that are no job's, oldest first."""
    return await _page(session, (LogChunk.feed_id == feed_id) & LogChunk.job_id.is_(None), page)


async def _page(session: Session, owner: Any, page: Page) -> Slice[Placed]:
    statement = select(LogChunk).where(owner, LogChunk.lines > 0)
    if page.after is not None:
        statement = statement.where(LogChunk.seq >= page.after[0])
    if page.before is not None:
        statement = statement.where(LogChunk.seq <= page.before[0])
    order = LogChunk.seq.desc() if page.backward else LogChunk.seq.asc()
    rows = await _chunks(session, statement.order_by(order), page)
    found = [line for row in (rows[::-1] if page.backward else rows) for line in batch_of(row).lines]
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
    wanted, count, edge = [], 0, {at[0] for at in (page.after, page.before) if at is not None}
    for row in (await session.execute(sized)).all():
        wanted.append(row.seq)
        count += 0 if row.seq in edge else row.lines
        if count > page.size:
            break
    return await session.all(LogChunk, statement.where(LogChunk.seq.in_(wanted)))


def _between(line: Placed, page: Page) -> bool:
    at = (line.seq, line.position)
    return (page.after is None or at > tuple(page.after)) and (page.before is None or at < tuple(page.before))


def batch_of(row: LogChunk) -> Batch:
    """What a row holds."""
    return Batch(
        row.seq,
        row.job_id,
        row.attempt,
        row.rank,
        row.first_line,
        row.lines,
        row.size,
        row.dropped,
        row.data,
    )
