"""Metrics: a columnar store in tables.

A series is one metric of one worker of one attempt. Its points lie in chunks, packed little-endian arrays
(steps int64, times int64 microseconds, values float64), one chunk a batch until they are compacted. All
points of a batch have the batch's number in the run's feed. RunMetric holds each run's headline values,
which lists filter and sort on. NaN and infinities are stored as they are and ignored by last, min and max.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
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

from db import columns, errors, feeds, manifests, viewers
from db.attempts import Attempt, Worker
from db.columns import Base, Id, Serial
from db.database import Session, Transaction
from db.jobs import Job
from db.viewers import Viewer

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

MOST_POINTS = 1_000_000
MOST_SERIES = 1_000
MAX_INT64 = 2**53 - 1
"""Steps and times travel as JSON numbers, which are exact up to here."""


class Series(Base):
    """A metric of one worker of one attempt. `points` counts them; the next default step."""

    __tablename__ = "series"
    __table_args__ = (UniqueConstraint("worker_id", "name"), Index("ix_series_run", "run_id", "name"))

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    worker_id: Mapped[int] = mapped_column(ForeignKey("workers.id"))
    name: Mapped[str] = mapped_column(Text)
    run_id: Mapped[bytes] = mapped_column(Id, ForeignKey("runs.id"))
    job_id: Mapped[bytes] = mapped_column(Id, ForeignKey("jobs.id"))
    attempt_id: Mapped[bytes] = mapped_column(Id, ForeignKey("attempts.id"))
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


class RunMetric(Base):
    """A run's headline value of a metric: of rank 0, the latest attempt, the job that reported it last."""

    __tablename__ = "run_metrics"
    __table_args__ = (
        Index("ix_run_metrics_last", "project_id", "name", "last", "run_id"),
        Index("ix_run_metrics_min", "project_id", "name", "minimum", "run_id"),
        Index("ix_run_metrics_max", "project_id", "name", "maximum", "run_id"),
    )

    run_id: Mapped[bytes] = mapped_column(Id, ForeignKey("runs.id"), primary_key=True)
    name: Mapped[str] = mapped_column(Text, primary_key=True)
    project_id: Mapped[bytes] = mapped_column(Id, ForeignKey("projects.id"))
    job_id: Mapped[bytes] = mapped_column(Id, ForeignKey("jobs.id"))
    attempt: Mapped[int] = mapped_column(Integer)
    last: Mapped[float | None] = mapped_column(Float)
    last_step: Mapped[int] = mapped_column(BigInteger)
    minimum: Mapped[float | None] = mapped_column(Float)
    minimum_step: Mapped[int | None] = mapped_column(BigInteger)
    maximum: Mapped[float | None] = mapped_column(Float)
    maximum_step: Mapped[int | None] = mapped_column(BigInteger)


class Producer(Base):
    """The number of the last batch that a producer has had committed, so that a repeat changes nothing."""

    __tablename__ = "producers"

    attempt_id: Mapped[bytes] = mapped_column(Id, ForeignKey("attempts.id"), primary_key=True)
    producer: Mapped[str] = mapped_column(Text, primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger)
    seq: Mapped[int] = mapped_column(BigInteger)


@dataclass(frozen=True, slots=True)
class Column:
    """Points of one metric, in parallel. Without `steps` they go on where the series stands."""

    name: str
    times: Integers
    values: Floats
    steps: Integers | None = None


@dataclass(frozen=True, slots=True)
class Origin:
    """The worker that points come from."""

    run_id: bytes
    project_id: bytes
    job_id: bytes
    attempt_id: bytes
    attempt: int
    worker_id: int
    rank: int


@dataclass(frozen=True, slots=True)
class Points:
    """A whole series, or what a batch added to it, with where it comes from; columns run in parallel."""

    run_id: bytes
    job_id: bytes
    step: str
    attempt: int
    rank: int
    name: str
    seq: int
    steps: Integers
    times: Integers
    values: Floats


def check(given: Sequence[Column], path: Sequence[str] = ()) -> None:
    """Raise Invalid unless the columns can be kept: sizes, names, and that no name comes twice."""
    if len(given) > MOST_SERIES or sum(len(column.values) for column in given) > MOST_POINTS:
        raise errors.LimitExceeded(
            f"a batch has at most {MOST_SERIES} series and {MOST_POINTS} points", path=path
        )
    seen: set[str] = set()
    for index, column in enumerate(given):
        at = (*path, str(index))
        if not 1 <= len(column.name) <= 250 or manifests.text_refusal(column.name):
            raise errors.Invalid("a metric's name has 1 to 250 characters", path=(*at, "name"))
        if column.name in seen:
            raise errors.Invalid(f"{column.name!r} comes twice in this batch", path=(*at, "name"))
        seen.add(column.name)
        if len(column.times) != len(column.values):
            raise errors.Invalid("times and values differ in length", path=(*at, "times"))
        if column.steps is not None and len(column.steps) != len(column.values):
            raise errors.Invalid("steps and values differ in length", path=(*at, "steps"))
        for part, numbers in (("times", column.times), ("steps", column.steps)):
            if numbers is not None and not _exact(numbers):
                raise errors.Invalid(f"{part} must be within ±(2^53−1)", path=(*at, part))


def _exact(numbers: Integers) -> bool:
    """Whether every JSON reader keeps these numbers as they are."""
    return not len(numbers) or (int(numbers.min()) >= -MAX_INT64 and int(numbers.max()) <= MAX_INT64)


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
        await _headline(session, origin, given, whole)
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


async def _headline(
    session: Transaction, origin: Origin, given: Sequence[Column], whole: Sequence[Integers]
) -> None:
    names = [column.name for column in given]
    statement = select(RunMetric).where(RunMetric.run_id == origin.run_id, RunMetric.name.in_(names))
    before = {row.name: row for row in await session.all(RunMetric, statement)}
    rows = []
    for column, steps in zip(given, whole, strict=True):
        row = _merged(before.get(column.name), origin, column, steps)
        if row is not None:
            rows.append(row)
    if rows:
        upsert = columns.upsert(session.postgresql, RunMetric, ("run_id", "name"))
        await session.execute(upsert, rows)


def _merged(
    before: RunMetric | None, origin: Origin, column: Column, steps: Integers
) -> dict[str, Any] | None:
    """The headline row after these points, None when an earlier attempt may not change it."""
    finite = np.isfinite(column.values)
    values, at = column.values[finite], steps[finite]
    if before is not None and before.job_id == origin.job_id and before.attempt > origin.attempt:
        return None
    same = before if before and (before.job_id, before.attempt) == (origin.job_id, origin.attempt) else None
    row: dict[str, Any] = {
        "run_id": origin.run_id,
        "name": column.name,
        "project_id": origin.project_id,
        "job_id": origin.job_id,
        "attempt": origin.attempt,
        "last": same.last if same else None,
        "last_step": same.last_step if same else int(steps.max()),
        "minimum": same.minimum if same else None,
        "minimum_step": same.minimum_step if same else None,
        "maximum": same.maximum if same else None,
        "maximum_step": same.maximum_step if same else None,
    }
    if not len(values):
        return row
    last = len(at) - 1 - int(np.argmax(at[::-1]))  # of equal steps the one that came last
    if row["last"] is None or at[last] >= row["last_step"]:
        row |= {"last": float(values[last]), "last_step": int(at[last])}
    low, high = int(np.argmin(values)), int(np.argmax(values))
    if row["minimum"] is None or values[low] < row["minimum"]:
        row |= {"minimum": float(values[low]), "minimum_step": int(at[low])}
    if row["maximum"] is None or values[high] > row["maximum"]:
        row |= {"maximum": float(values[high]), "maximum_step": int(at[high])}
    return row


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
    exact = _EXACT.where(viewers.visible(viewer, Job.project_id, Series.run_id))
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


async def headlines(
    session: Session, runs: Collection[bytes], names: Collection[str] | None = None
) -> list[RunMetric]:
    """The headline values of these runs, by name."""
    statement = select(RunMetric).where(RunMetric.run_id.in_(runs))
    if names is not None:
        statement = statement.where(RunMetric.name.in_(names))
    return await session.all(RunMetric, statement.order_by(RunMetric.run_id, RunMetric.name))


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
