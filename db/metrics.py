"""Metrics: a columnar store in tables.

A series is one metric of one worker of one attempt. Its points lie in chunks, packed little-endian arrays
(steps int64, times int64 microseconds, values float64): one chunk a batch, until compaction.py merges those of a
window of the feed. Here are the tables and how a feed is followed; batches.py adds to them, curves.py reads whole
series, chunks.py has what is in a chunk, summaries.py picked points, headlines.py each run's last, least and
greatest value.
"""

from typing import Any

import numpy as np
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Text,
    UniqueConstraint,
    bindparam,
    case,
    delete,
    select,
    true,
    tuple_,
)
from sqlalchemy.orm import Mapped, mapped_column

from db import chunks
from db.attempts import Attempt, Worker
from db.columns import Base, Id, Serial
from db.database import Session, Transaction
from db.jobs import Job
from db.points import Added, Points


class Series(Base):
    """A metric of one worker of one attempt. `points` counts them; the next default step.

    Of the first `summarised` points there are picks (summaries.py); what follows is in the chunks that end at
    `summarised_seq` or later. Of the first `thinned`, which came up to `thinned_seq`, nothing else is kept
    (retention.py).
    """

    __tablename__ = "series"
    __table_args__ = (UniqueConstraint("worker_id", "name"), Index("ix_series_run", "run_id", "name"))

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    worker_id: Mapped[int] = mapped_column(ForeignKey("workers.id"))
    name: Mapped[str] = mapped_column(Text)
    run_id: Mapped[bytes] = mapped_column(Id, ForeignKey("runs.id"))
    job_id: Mapped[bytes] = mapped_column(Id, ForeignKey("jobs.id"), index=True)
    attempt_id: Mapped[bytes] = mapped_column(Id, ForeignKey("attempts.id"), index=True)
    points: Mapped[int] = mapped_column(BigInteger, default=0)
    summarised: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    summarised_seq: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    thinned: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    thinned_seq: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")


class Chunk(Base):
    """Points of one series, in the order they came. `seqs` codes their numbers (chunks.py); NULL: all `first_seq`.

    The chunks of a window that was compacted have its end as `last_seq`, their own last number as `end_seq`, and
    say how far their steps and times reach.
    """

    __tablename__ = "metric_chunks"
    __table_args__ = (Index("ix_metric_chunks_feed", "feed_id", "last_seq"),)

    series_id: Mapped[int] = mapped_column(ForeignKey("series.id"), primary_key=True)
    first_seq: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    last_seq: Mapped[int] = mapped_column(BigInteger)
    feed_id: Mapped[int] = mapped_column(ForeignKey("feeds.id"))
    points: Mapped[int] = mapped_column(Integer)
    first_step: Mapped[int] = mapped_column(BigInteger)
    last_step: Mapped[int] = mapped_column(BigInteger)
    minimum: Mapped[float | None] = mapped_column(Float)
    maximum: Mapped[float | None] = mapped_column(Float)
    steps: Mapped[bytes] = mapped_column(LargeBinary)
    times: Mapped[bytes] = mapped_column(LargeBinary)
    values: Mapped[bytes] = mapped_column("vals", LargeBinary)
    seqs: Mapped[bytes | None] = mapped_column(LargeBinary)
    end_seq: Mapped[int | None] = mapped_column(BigInteger)
    least_step: Mapped[int | None] = mapped_column(BigInteger)
    greatest_step: Mapped[int | None] = mapped_column(BigInteger)
    least_time: Mapped[int | None] = mapped_column(BigInteger)
    greatest_time: Mapped[int | None] = mapped_column(BigInteger)


class Summary(Base):
    """Points that stand for the others of a block of a series, picked for one level (summaries.py).

    `points` says how many the block has, `picks` how many were picked; `positions` are counted from its beginning.
    """

    __tablename__ = "metric_summaries"

    series_id: Mapped[int] = mapped_column(ForeignKey("series.id", ondelete="CASCADE"), primary_key=True)
    level: Mapped[int] = mapped_column(Integer, primary_key=True)
    block: Mapped[int] = mapped_column(Integer, primary_key=True)
    points: Mapped[int] = mapped_column(Integer)
    picks: Mapped[int] = mapped_column(Integer)
    least_step: Mapped[int] = mapped_column(BigInteger)
    greatest_step: Mapped[int] = mapped_column(BigInteger)
    least_time: Mapped[int] = mapped_column(BigInteger)
    greatest_time: Mapped[int] = mapped_column(BigInteger)
    positions: Mapped[bytes] = mapped_column(LargeBinary)
    steps: Mapped[bytes] = mapped_column(LargeBinary)
    times: Mapped[bytes] = mapped_column(LargeBinary)
    values: Mapped[bytes] = mapped_column("vals", LargeBinary)


class Compaction(Base):
    """How far the chunks of a feed are compacted: up to `seq`, and for good up to `full_seq` (compaction.py)."""

    __tablename__ = "compactions"

    feed_id: Mapped[int] = mapped_column(ForeignKey("feeds.id", ondelete="CASCADE"), primary_key=True)
    version: Mapped[int] = mapped_column(BigInteger)
    seq: Mapped[int] = mapped_column(BigInteger)
    full_seq: Mapped[int] = mapped_column(BigInteger)
    windows: Mapped[int] = mapped_column(Integer)


_INLINE = 2048
"""Points of a chunk that is read at once; larger ones are read when it is known how many there are."""
_MOST_POINTS = 1 << 18
"""Points of one answer, about: windows are whole."""

_FOLLOWED = (
    select(
        Chunk.series_id,
        Chunk.first_seq,
        Chunk.last_seq,
        Chunk.points,
        Chunk.seqs,
        *(
            case((Chunk.points <= _INLINE, column)).label(name)
            for name, column in (("steps", Chunk.steps), ("times", Chunk.times), ("packed", Chunk.values))
        ),
        Series.run_id,
        Series.job_id,
        Series.name,
        Job.step,
        Attempt.number,
        Worker.rank,
    )
    .join(Series, Series.id == Chunk.series_id)
    .join(Worker, Worker.id == Series.worker_id)
    .join(Attempt, Attempt.id == Series.attempt_id)
    .join(Job, Job.id == Series.job_id)
    .where(Chunk.feed_id == bindparam("feed"))
    .order_by(Chunk.last_seq, Chunk.series_id)
)
_SINCE = _FOLLOWED.where(Chunk.last_seq > bindparam("after")).limit(bindparam("most"))
_REST = _FOLLOWED.where(Chunk.last_seq == bindparam("seq"), Chunk.series_id > bindparam("series"))
_LARGE = select(Chunk.series_id, Chunk.first_seq, Chunk.steps, Chunk.times, Chunk.values.label("packed"))


async def since(session: Session, feed_id: int, after: int, *, most: int = 1000) -> Added:
    """What batches past `after` added, in order: whole numbers, about `most` parts of them or a bounded size.

    The answer is the same before and after chunks are compacted: those of a window have its end as `last_seq`,
    so that a list of chunks by `last_seq` that ends with a window lacks nothing up to there.
    """
    rows = list((await session.execute(_SINCE, {"feed": feed_id, "after": after, "most": most})).all())
    more = len(rows) == most
    if more:
        rest = {"feed": feed_id, "seq": rows[-1].last_seq, "series": rows[-1].series_id}
        rows += (await session.execute(_REST, rest)).all()
    taken = _affordable(rows)
    more = more or len(taken) < len(rows)
    parts = await _parts(session, taken, after)
    upto = taken[-1].last_seq if more else None
    if len(parts) > most and parts[most - 1].seq < parts[-1].seq:
        upto = parts[most - 1].seq
        parts = [part for part in parts if part.seq <= upto]
    return Added(parts, upto)


def _affordable(rows: list[Any]) -> list[Any]:
    """The first whole windows that are not too many points; one at least."""
    points = 0
    for index, row in enumerate(rows):
        if points > _MOST_POINTS and row.last_seq > rows[index - 1].last_seq:
            return rows[:index]
        points += row.points
    return rows


async def _parts(session: Session, rows: list[Any], after: int) -> list[Points]:
    """What chunks have past a number, a part a number and series, in order."""
    large = await _large(session, rows)
    found: list[tuple[int, int, Points]] = []
    for row in rows:
        packed = row if row.steps is not None else large[row.series_id, row.first_seq]
        steps = np.frombuffer(packed.steps, "<i8")
        times = np.frombuffer(packed.times, "<i8")
        values = np.frombuffer(packed.packed, "<f8")
        for seq, start, stop in chunks.numbers_past(row.seqs, row.first_seq, row.points, after):
            part = Points(
                run_id=row.run_id,
                job_id=row.job_id,
                step=row.step,
                attempt=row.number,
                rank=row.rank,
                name=row.name,
                seq=seq,
                steps=steps[start:stop],
                times=times[start:stop],
                values=values[start:stop],
            )
            found.append((seq, row.series_id, part))
    found.sort(key=lambda each: each[:2])
    return [part for _, _, part in found]


async def _large(session: Session, rows: list[Any]) -> dict[tuple[int, int], Any]:
    wanted = [(row.series_id, row.first_seq) for row in rows if row.steps is None]
    if not wanted:
        return {}
    statement = _LARGE.where(tuple_(Chunk.series_id, Chunk.first_seq).in_(wanted))
    found = (await session.execute(statement)).all()
    return {(row.series_id, row.first_seq): row for row in found}


ERASED_POINTS = 50_000
"""Points of which one transaction deletes the chunks, of 24 bytes each; one chunk at least."""
_ERASED_CHUNKS = 500


async def erase(session: Transaction, feed_id: int, which: ColumnElement[bool] | None = None) -> bool:
    """Delete a piece of the chunks of a feed, of those that `which` names; False when there were none."""
    first = (
        select(Chunk.series_id, Chunk.first_seq, Chunk.points)
        .where(Chunk.feed_id == feed_id, true() if which is None else which)
        .order_by(Chunk.last_seq, Chunk.series_id)
        .limit(_ERASED_CHUNKS)
    )
    keys: list[tuple[int, int]] = []
    points = 0
    for row in (await session.execute(first)).all():
        keys.append((row.series_id, row.first_seq))
        points += row.points
        if points >= ERASED_POINTS:
            break
    if keys:
        await session.execute(delete(Chunk).where(tuple_(Chunk.series_id, Chunk.first_seq).in_(keys)))
    return bool(keys)
