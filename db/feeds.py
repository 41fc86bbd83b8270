"""Feeds: the numbered stream of everything that happens to one followed thing.

A transaction that changes or emits anything of a feed locks the feed first (`lock`), then reads and writes
what hangs below it. That makes commit order seq order, without gaps, and lets two parents that end at once
both see it. Several feeds are locked in id order. What a transaction emits is numbered in the process
and written by `flush` at its end: one update of the feed, one insert of its events.
"""

import enum
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    ForeignKey,
    Index,
    bindparam,
    false,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.orm import Mapped, mapped_column

from db import bare, columns
from db.bus import Wake
from db.columns import Base, Choice, Id, Json, Serial, Timestamp

if TYPE_CHECKING:
    from db.database import Session, Transaction
    from db.points import Points


class Kind(enum.Enum):
    """What is followed."""

    RUN = "RUN"
    MODULE_VERSION = "MODULE_VERSION"


class Subject(enum.Enum):
    """What an event is about."""

    RUN = "RUN"
    JOB = "JOB"
    WORKER = "WORKER"
    MODULE_VERSION = "MODULE_VERSION"
    PREPARATION = "PREPARATION"


class Feed(Base):
    """The head of a feed. Everything up to `floor` is no longer kept; once `ended` nothing follows.

    Up to `points_floor` points are no longer told, as picks stand for them. Lines that are gone need no floor: a gap
    stands under their last number (logs.py).
    `settled` says that what hangs below it lies as it is to lie for good (compaction.py).
    """

    __tablename__ = "feeds"
    __table_args__ = (
        columns.one_of("kind", Kind),
        Index(
            "ix_feeds_unsettled",
            "id",
            sqlite_where=text("NOT settled"),
            postgresql_where=text("NOT settled"),
        ),
    )

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    kind: Mapped[Kind] = mapped_column(Choice(Kind))
    owner: Mapped[bytes] = mapped_column(Id, unique=True)
    project_id: Mapped[bytes] = mapped_column(Id, ForeignKey("projects.id"))
    seq: Mapped[int] = mapped_column(BigInteger, default=0)
    floor: Mapped[int] = mapped_column(BigInteger, default=0)
    points_floor: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    ended: Mapped[bool] = mapped_column(Boolean, default=False)
    settled: Mapped[bool] = mapped_column(Boolean, default=False, server_default=false())


class Event(Base):
    """A change of state. `data` is a snapshot of what changed, in the words of the table it changed in."""

    __tablename__ = "events"
    __table_args__ = (columns.one_of("subject", Subject),)

    feed_id: Mapped[int] = mapped_column(ForeignKey("feeds.id", ondelete="CASCADE"), primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    at: Mapped[datetime] = mapped_column(Timestamp)
    subject: Mapped[Subject] = mapped_column(Choice(Subject))
    subject_id: Mapped[bytes] = mapped_column(Id)
    data: Mapped[dict[str, Any]] = mapped_column(Json)


class Head:
    """A locked feed: gives out the numbers that follow, and gathers events until the transaction ends.

    `points` are those of each number that has some, for who follows in this process and need not read them again.
    Up to `written` its row says what is here.
    """

    def __init__(self, feed_id: int, seq: int) -> None:
        self.id = feed_id
        self.start = self.seq = self.written = seq
        self.ended = False
        self.events: list[dict[str, Any]] = []
        self.points: dict[int, list[Points]] = {}

    def take(self) -> int:
        """The next number, for a message that is kept in a table of its own (points, lines)."""
        self.seq += 1
        return self.seq

    def emit(self, subject: Subject, subject_id: bytes, at: datetime, **data: Any) -> int:
        """Say that something changed, and what it is now; returns the event's number."""
        seq = self.take()
        data = {key: value.value if isinstance(value, enum.Enum) else value for key, value in data.items()}
        self.events.append(
            {
                "feed_id": self.id,
                "seq": seq,
                "at": at,
                "subject": subject,
                "subject_id": subject_id,
                "data": data,
            }
        )
        return seq

    def end(self) -> None:
        """Nothing will follow what was emitted so far."""
        self.ended, self.written = True, -1


class Emitted:
    """What a transaction has to tell once it is committed."""

    def __init__(self) -> None:
        self.heads: dict[int, Head] = {}
        self.reached: dict[int, int] = {}
        self.wake = Wake.NOBODY


# FOR NO KEY UPDATE: who inserts a row that refers to a feed does not wait for whoever writes to it.
_LOCK = (
    select(Feed.id, Feed.seq)
    .where(Feed.id.in_(bindparam("ids", expanding=True)))
    .order_by(Feed.id)
    .with_for_update(key_share=True)
)
_LOCK_ONE = select(Feed.id, Feed.seq).where(Feed.id == bindparam("id")).with_for_update(key_share=True)
ADVANCE = bare.Put(Feed, ("id", "seq", "ended"), unique=("id",), only_update=True)
"""Of what `advances` gives."""
_ADVANCE = bare.Puts(feeds=ADVANCE)
_CREATE = insert(Feed).returning(Feed.id)
_INSERT_EVENTS = insert(Event.__table__)  # type: ignore[arg-type]


async def create(session: "Transaction", kind: Kind, owner: bytes, project_id: bytes) -> Head:
    """A new feed, locked by being new."""
    values = {"kind": kind, "owner": owner, "project_id": project_id}
    head = Head(await session.scalar(_CREATE, values), 0)
    session.emitted.heads[head.id] = head
    return head


async def lock(session: "Transaction", feed_id: int) -> Head:
    """Lock a feed, before anything that hangs below it is read."""
    held = session.emitted.heads.get(feed_id)
    if held is None:
        row = (await session.execute(_LOCK_ONE, {"id": feed_id})).one()
        held = session.emitted.heads[feed_id] = Head(row.id, row.seq)
    return held


async def lock_all(session: "Transaction", feed_ids: Sequence[int]) -> dict[int, Head]:
    """Lock several feeds in id order, so that no two transactions wait for each other."""
    heads = session.emitted.heads
    if heads.keys() >= set(feed_ids):
        return heads
    assert not heads, "feeds are locked all at once or one a transaction"
    for row in (await session.execute(_LOCK, {"ids": sorted(feed_ids)})).all():
        heads.setdefault(row.id, Head(row.id, row.seq))
    return heads


def hold(session: "Transaction", feed_id: int, seq: int) -> Head:
    """The head of a feed that is locked and stands at this number."""
    return session.emitted.heads.setdefault(feed_id, Head(feed_id, seq))


def advances(session: "Transaction") -> list[tuple[int, int, bool]]:
    """How far feeds have come since this was asked last: for who writes it along with rows of theirs."""
    changed = [head for head in session.emitted.heads.values() if head.seq != head.written]
    for head in changed:
        head.written = head.seq
    return [(head.id, head.seq, head.ended) for head in changed]


async def flush(session: "Transaction") -> None:
    """Write what was emitted; `Database.begin` calls it as the last thing before the commit."""
    changed = [head for head in session.emitted.heads.values() if head.seq != head.start]
    if not changed:
        return
    rows = advances(session)
    if rows:
        await _ADVANCE.write(session, feeds=rows)
    events = [event for head in changed for event in head.events]
    if events:
        await session.execute(_INSERT_EVENTS, events)
    session.emitted.reached |= {head.id: head.seq for head in changed}


async def unsettle(session: "Transaction", head: Head) -> None:
    """Have what hangs below a locked feed looked at again: it goes on after an end that was none."""
    await session.execute(update(Feed).where(Feed.id == head.id).values(settled=False))


_HEAD = select(Feed.id, Feed.seq, Feed.floor, Feed.points_floor, Feed.ended).where(Feed.id == bindparam("id"))
_EVENTS = (
    select(Event)
    .where(Event.feed_id == bindparam("id"), Event.seq > bindparam("after"))
    .order_by(Event.seq)
    .limit(bindparam("most"))
)


async def head(session: "Session", feed_id: int) -> Feed | None:
    """Where a feed stands: id, seq, floor, points_floor, ended."""
    return await session.find(Feed, _HEAD, {"id": feed_id})


async def events(session: "Session", feed_id: int, after: int, *, most: int = 1000) -> list[Event]:
    """State events past `after`, in order."""
    return await session.all(Event, _EVENTS, {"id": feed_id, "after": after, "most": most})


async def timeline(session: "Session", feed_ids: Sequence[int]) -> list[Event]:
    """Every state event of several feeds, in order."""
    statement = select(Event).where(Event.feed_id.in_(feed_ids)).order_by(Event.feed_id, Event.seq)
    return await session.all(Event, statement)
