"""Batches of points: how they are added to their series, and known again when they come twice.

All of a batch has one number of the run's feed. What it adds to a series is one chunk (metrics.py) until chunks
are compacted. `repeated` and `remember` keep a producer's batches, of points or of lines, at most once.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sqlalchemy import BigInteger, ForeignKey, Text, bindparam, insert, select, update
from sqlalchemy.orm import Mapped, mapped_column

from db import feeds, headlines
from db.columns import Base, Id
from db.database import Transaction
from db.metrics import Chunk, Series
from db.points import Column, Integers, Origin


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
