"""Metrics: a columnar store in tables.

A series is one metric of one worker of one attempt. Its points lie in chunks, packed little-endian arrays
(steps int64, times int64 microseconds, values float64), one chunk a batch until they are compacted. All
points of a batch have the batch's number in the run's feed. Here are the tables and how they are read; batches.py
adds to them, points.py has what goes in and out, headlines.py each run's last, least and greatest value.
"""

from collections.abc import Collection, Iterable
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
    select,
)
from sqlalchemy.orm import Mapped, mapped_column

from db import viewers
from db.attempts import Attempt, Worker
from db.columns import Base, Id, Serial
from db.database import Session
from db.jobs import Job
from db.points import Points
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
