"""Metrics: a columnar store in tables.

A series is one metric of one worker of one attempt. Its points lie in chunks, packed little-endian arrays
(steps int64, times int64 microseconds, values float64), one chunk a batch until they are compacted. All
points of a batch have the batch's number in the run's feed. points.py has what goes in and out, headlines.py
each run's last, least and greatest value.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np
from sqlalchemy import (
    BigInteger,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Text,
    UniqueConstraint,
    bindparam,
    insert,
    select,
    update,
)
from sqlalchemy.orm import Mapped, mapped_column

from db import feeds, headlines, viewers
from db.attempts import Attempt, Worker
from db.columns import Base, Id, Serial
from db.database import Session, Transaction
from db.jobs import Job
from db.points import Column, Integers, Origin, Points
from db.viewers import Viewer


class Series(Base):
    """A metric of one worker of one attempt. `points` counts them; the next default step."""

    __tablename__ = "series"
    __table_args__ = (UniqueConstraint("worker_id", "name"), Index("ix_series_run", "run_id", "name"))

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    worker_id: Mapped[int] = mapped_column(ForeignKey("workers.id"))
    name: Mapped[str] = mapped_column(Text)
    run_id: Mapped[bytes] = mapped_column(Id, ForeignKey("runs.id"))
    job_id: Mapped[bytes] = mapped_column(Id, ForeignKey("jobs.id"), index=True)
    attempt_id: Mapped[bytes] = mapped_column(Id, ForeignKey("attempts.id"), index=True)
    points: Mapped[int] = mapped_column(BigInteger, default=0)


class Chunk(Base):
    """Points of one series, in the order they came. `seqs` run-length codes their numbers; NULL: all `first_seq`."""

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


class Producer(Base):
    """The number of the last batch that a producer has had committed, so that a repeat changes nothing."""

    __tablename__ = "producers"

    attempt_id: Mapped[bytes] = mapped_column(Id, ForeignKey("attempts.id"), primary_key=True)
    producer: Mapped[str] = mapped_column(Text, primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger)
    seq: Mapped[int] = mapped_column(BigInteger)


_SERIES = select(Series.id, Series.name, Series.points).where(
    Series.worker_id == bindparam("worker"), Series.name.in_(bindparam("names", expanding=True))
)
_ADD_POINTS = (
    update(Series.__table__)  # type: ignore[arg-type]
    .where(Series.__table__.c.id == bindparam("series"))
    .values(points=Series.__table__.c.points + bindparam("added"))
)
_INSERT_CHUNKS = insert(Chunk.__table__)  # type: ignore[arg-type]


async def append(session: Transaction, head: feeds.Head, origin: Origin, given: Sequence[Column]) -> int:
    """Add a batch under the next number of the run's feed, which is locked; returns that number.

    A batch without points takes none.
    """
    given = [column for column in given if len(column.values)]
    if not given:
        return head.seq
    seq = head.take()
    known = await _series(session, origin, [column.name for column in given])
    whole = [_with_steps(column, known[column.name].points) for column in given]
    rows = [_chunk(known[c.name].id, head.id, seq, c, s) for c, s in zip(given, whole, strict=True)]
    await session.execute(_INSERT_CHUNKS, rows)
    added = [{"series": known[c.name].id, "added": len(c.values)} for c in given]
    await session.execute(_ADD_POINTS, added)
    if origin.rank == 0:
        await headlines.update(session, origin, given, whole)
    return seq


async def repeated(session: Transaction, attempt_id: bytes, producer: str, number: int) -> int | None:
    """The feed's number of what a producer had committed last, if a batch of this number was among it.

    Call it under the feed's lock; `remember` the number that a new batch got.
    """
    ours = (Producer.attempt_id == attempt_id) & (Producer.producer == producer)
    row = await session.find(Producer, select(Producer).where(ours))
    return row.seq if row is not None and number <= row.number else None


async def remember(session: Transaction, attempt_id: bytes, producer: str, number: int, seq: int) -> None:
    """Record that a producer's batch of this number is committed with this transaction."""
    ours = (Producer.attempt_id == attempt_id) & (Producer.producer == producer)
    values = {"number": number, "seq": seq}
    if not await session.change(update(Producer).where(ours).values(values)):
        await session.execute(insert(Producer).values(attempt_id=attempt_id, producer=producer, **values))


async def _series(session: Transaction, origin: Origin, names: Sequence[str]) -> dict[str, Any]:
    parameters = {"worker": origin.worker_id, "names": list(names)}
    found = {row.name: row for row in (await session.execute(_SERIES, parameters)).all()}
    missing = [name for name in names if name not in found]
    if missing:
        rows = [
            {
                "worker_id": origin.worker_id,
                "name": name,
                "run_id": origin.run_id,
                "job_id": origin.job_id,
                "attempt_id": origin.attempt_id,
            }
            for name in missing
        ]
        await session.execute(insert(Series), rows)
        found = {row.name: row for row in (await session.execute(_SERIES, parameters)).all()}
    return found


def _with_steps(column: Column, points: int) -> Integers:
    if column.steps is not None:
        return column.steps
    return np.arange(points, points + len(column.values), dtype=np.int64)


def _chunk(series_id: int, feed_id: int, seq: int, column: Column, steps: Integers) -> dict[str, Any]:
    finite = column.values[np.isfinite(column.values)]
    return {
        "series_id": series_id,
        "first_seq": seq,
        "last_seq": seq,
        "feed_id": feed_id,
        "points": len(column.values),
        "first_step": int(steps[0]),
        "last_step": int(steps[-1]),
        "minimum": float(finite.min()) if len(finite) else None,
        "maximum": float(finite.max()) if len(finite) else None,
        "steps": steps.astype("<i8", copy=False).tobytes(),
        "times": column.times.astype("<i8", copy=False).tobytes(),
        "vals": column.values.astype("<f8", copy=False).tobytes(),
        "seqs": None,
    }


_READ = (
    select(
        Chunk.series_id,
        Chunk.last_seq,
        Chunk.steps,
        Chunk.times,
        Chunk.values.label("packed"),
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
)
_EXACT = _READ.where(
    Series.run_id.in_(bindparam("runs", expanding=True)),
    Series.name.in_(bindparam("names", expanding=True)),
    Attempt.number == Job.attempts,
).order_by(Series.run_id, Job.position, Series.name, Worker.rank, Chunk.series_id, Chunk.first_seq)
_SINCE = (
    _READ.where(Chunk.feed_id == bindparam("feed"), Chunk.last_seq > bindparam("after"))
    .order_by(Chunk.last_seq, Chunk.series_id)
    .limit(bindparam("most"))
)

_REST = _READ.where(
    Chunk.feed_id == bindparam("feed"),
    Chunk.last_seq == bindparam("seq"),
    Chunk.series_id > bindparam("series"),
).order_by(Chunk.series_id)


async def series(
    session: Session, viewer: Viewer, runs: Collection[bytes], names: Collection[str]
) -> list[Points]:
    """Every point of these metrics of these runs, in the order they came, of each job's latest attempt."""
    found: list[Points] = []
    chunks: list[Any] = []
    seen = viewers.visible(viewer, Job.project_id, Series.run_id) & viewers.kept(Series.run_id)
    exact = _EXACT.where(seen)
    for row in (await session.execute(exact, {"runs": list(runs), "names": list(names)})).all():
        if chunks and chunks[0].series_id != row.series_id:
            found.append(_joined(chunks))
            chunks = []
        chunks.append(row)
    if chunks:
        found.append(_joined(chunks))
    return found


async def since(session: Session, feed_id: int, after: int, *, most: int = 1000) -> list[Points]:
    """What batches past `after` added, in order: of at least `most` chunks where there are so many.

    Never part of a batch: fewer than `most` means that there is nothing more.
    """
    parameters = {"feed": feed_id, "after": after, "most": most}
    rows = list((await session.execute(_SINCE, parameters)).all())
    if len(rows) == most:
        rest = {"feed": feed_id, "seq": rows[-1].last_seq, "series": rows[-1].series_id}
        rows += (await session.execute(_REST, rest)).all()
    return [_joined([row]) for row in rows]


def _joined(chunks: Iterable[Any]) -> Points:
    rows = list(chunks)
    first = rows[0]
    return Points(
        run_id=first.run_id,
        job_id=first.job_id,
        step=first.step,
        attempt=first.number,
        rank=first.rank,
        name=first.name,
        seq=rows[-1].last_seq,
        steps=np.frombuffer(b"".join(row.steps for row in rows), "<i8"),
        times=np.frombuffer(b"".join(row.times for row in rows), "<i8"),
        values=np.frombuffer(b"".join(row.packed for row in rows), "<f8"),
    )
