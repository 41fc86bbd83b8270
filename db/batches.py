"""Batches of points: how they are added to their series, and known again when they come twice.

All of a batch has one number of the run's feed. What it adds to a series is one chunk (metrics.py) until chunks
are compacted. `repeated` and `remember` keep a producer's batches, of points or of lines, at most once.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import numpy as np
import structlog
from sqlalchemy import BigInteger, ForeignKey, Text, bindparam, func, insert, select, update
from sqlalchemy.orm import Mapped, mapped_column

from db import bare, errors, feeds, headlines, room
from db.columns import Base, Id
from db.database import Transaction
from db.headlines import Headline
from db.metrics import Chunk, Series
from db.points import Column, Extremes, Floats, Integers, Origin, Points, extremes, has_headline
from db.room import Room

log = structlog.get_logger(__name__)


class Producer(Base):
    """The number of the last batch that a producer has had committed, so that a repeat changes nothing."""

    __tablename__ = "producers"

    attempt_id: Mapped[bytes] = mapped_column(Id, ForeignKey("attempts.id"), primary_key=True)
    producer: Mapped[str] = mapped_column(Text, primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger)
    seq: Mapped[int] = mapped_column(BigInteger)


@dataclass(frozen=True, slots=True)
class Portion:
    """A batch under its number, or a part of it: what one worker adds to its series."""

    origin: Origin
    feed_id: int
    seq: int
    given: Sequence[Column]


CHUNK = (
    *("series_id", "first_seq", "last_seq", "feed_id", "points", "first_step", "last_step"),
    *("minimum", "maximum", "steps", "times", "vals", "seqs"),
)
Numbers = dict[tuple[bytes, str], tuple[int, int]]
"""Of a producer of an attempt, the last batch's number, and the feed's that it got."""


async def append(session: Transaction, head: feeds.Head, origin: Origin, given: Sequence[Column]) -> int:
    """Add a batch under the next number of the run's feed, which is locked; returns that number.

    A batch without points takes none. Metrics that are more than a worker may have are left out.
    """
    if metrics_of.is_full((origin.attempt_id, origin.worker_id)):
        given = await _known(session, origin, given)
    if not any(len(column.values) for column in given):
        return head.seq
    seq = head.take()
    await append_all(session, [Portion(origin, head.id, seq, given)])
    return seq


async def append_all(
    session: Transaction, portions: Sequence[Portion], numbers: Numbers | None = None
) -> None:
    """Add batches in their order, and remember their producers' numbers; their feeds are locked."""
    if not portions:
        return
    held = await _held(session, portions)
    chunks: list[tuple[Any, ...]] = []
    for portion in portions:
        added: list[tuple[int, Points]] = []
        for column in portion.given:
            if len(column.values):
                line = held.lines[portion.origin.worker_id, column.name]
                steps = _with_steps(column, line.points)
                reach = extremes(column.values)
                chunks.append(_chunk(line.id, portion, column, steps, reach))
                line.points += len(column.values)
                held.tell(portion.origin, column, steps, reach)
                added.append((line.id, _points(portion, column, steps)))
        if added:
            added.sort(key=itemgetter(0))  # as they are read
            session.emitted.heads[portion.feed_id].points[portion.seq] = [points for _, points in added]
    told, last = list(held.told.values()), list[headlines.Last]()
    if not session.postgresql:  # which writes every index of a row anyway
        told, last = headlines.parted(held.told, held.before)
    await _WRITES.write(
        session,
        feeds=feeds.advances(session),
        chunks=chunks,
        series=[(line.id, line.points) for line in held.lines.values()],
        headlines=told,
        producers=[(*key, *stand) for key, stand in (numbers or {}).items()],
    )
    if last:
        await _LAST.write(session, headlines=last)


@dataclass(slots=True)
class _Line:
    """A series as far as a transaction has brought it."""

    id: int
    points: int


@dataclass(slots=True)
class _Held:
    """What batches add to: series by worker and name, headlines by run and name; those `told` were added to.

    `before` are those that were there.
    """

    lines: dict[tuple[int, str], _Line]
    headlines: dict[tuple[bytes, str], Headline]
    told: dict[tuple[bytes, str], Headline]
    before: dict[tuple[bytes, str], Headline]

    def tell(self, origin: Origin, column: Column, steps: Integers, reach: Extremes) -> None:
        """Take what a batch adds to a series into the headline of its run."""
        if origin.rank != 0 or not has_headline(column.name):
            return
        key = origin.run_id, column.name
        before = self.headlines.get(key)
        headline = headlines.merge(before, origin, column.name, column.values, steps, reach)
        if headline is not None:
            self.headlines[key] = self.told[key] = headline


async def _held(session: Transaction, portions: Sequence[Portion]) -> _Held:
    origins = {
        (portion.origin.worker_id, column.name): portion.origin
        for portion in portions
        for column in portion.given
        if len(column.values)
    }
    held = _Held({}, {}, {}, {})
    await _find(session, held, [(*key, origin.run_id) for key, origin in origins.items()])
    missing = [key for key in origins if key not in held.lines]
    if missing:
        await _NEW.write(
            session,
            series=[
                (*key, origin.run_id, origin.job_id, origin.attempt_id, 0)
                for key in missing
                for origin in (origins[key],)
            ],
        )
        made = Counter((origins[key].attempt_id, key[0]) for key in missing)
        for worker, count in made.items():
            await metrics_of.take(session, worker, count, {"worker": worker[1]})
        await _find(session, held, [(*key, origins[key].run_id) for key in missing])
    return held


async def strange(session: Transaction, keys: Collection[tuple[int, str]]) -> set[tuple[int, str]]:
    """Those metrics, by worker and name, that the worker does not have yet."""
    rows = await bare.look(session, _NAMED, list(keys))
    return {(worker_id, name) for worker_id, name, series_id in rows if series_id is None}


async def _known(session: Transaction, origin: Origin, given: Sequence[Column]) -> list[Column]:
    new = await strange(session, {(origin.worker_id, column.name) for column in given})
    if new:
        names = sorted(name for _, name in new)[:3]
        log.warning(
            "metrics left out", most=room.MOST, run=origin.run_id.hex(), step=origin.step, names=names
        )
    return [column for column in given if (origin.worker_id, column.name) not in new]


async def _find(session: Transaction, held: _Held, keys: bare.Rows) -> None:
    for worker_id, name, series_id, points, *headline in await bare.look(session, _FOUND, keys):
        if series_id is not None:
            held.lines[worker_id, name] = _Line(series_id, points)
        if headline[0] is not None:
            found = Headline._make(headline)
            held.headlines[found.run_id, name] = held.before[found.run_id, name] = found


_FOUND = bare.Look(
    """
    SELECT k.worker, k.name, s.id, s.points, m.run_id, m.name, m.project_id, m.job_id, m.attempt,
           m.last, m.last_step, m.minimum, m.minimum_step, m.maximum, m.maximum_step
    FROM {keys}
    LEFT JOIN series s ON s.worker_id = k.worker AND s.name = k.name
    LEFT JOIN run_metrics m ON m.run_id = k.run AND m.name = k.name
    """,
    worker="bigint",
    name="text",
    run="bytea",
)
_NAMED = bare.Look(
    """
    SELECT k.worker, k.name, s.id FROM {keys}
    LEFT JOIN series s ON s.worker_id = k.worker AND s.name = k.name
    """,
    worker="bigint",
    name="text",
)
metrics_of = Room(select(func.count()).where(Series.worker_id == bindparam("worker")))
"""What a worker may still measure, by attempt and worker."""
producers_of = Room(select(func.count()).where(Producer.attempt_id == bindparam("attempt")))
"""How many producers an attempt may still have."""
_NEW = bare.Puts(series=bare.Put(Series, ("worker_id", "name", "run_id", "job_id", "attempt_id", "points")))
_WRITES = bare.Puts(
    feeds=feeds.ADVANCE,
    chunks=bare.Put(Chunk, CHUNK),
    series=bare.Put(Series, ("id", "points"), unique=("id",), only_update=True),
    headlines=bare.Put(headlines.RunMetric, Headline._fields, unique=("run_id", "name")),
    producers=bare.Put(
        Producer, ("attempt_id", "producer", "number", "seq"), unique=("attempt_id", "producer")
    ),
)
_LAST = bare.Puts(
    headlines=bare.Put(
        headlines.RunMetric, headlines.Last._fields, unique=("run_id", "name"), only_update=True
    )
)


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
        if producers_of.is_full(attempt_id):
            raise too_many_producers()
        await producers_of.take(session, attempt_id, 1, {"attempt": attempt_id})
        await session.execute(insert(Producer).values(attempt_id=attempt_id, producer=producer, **values))


def too_many_producers() -> errors.LimitExceeded:
    """What one more is refused with."""
    message = f"an attempt has at most {room.MOST:,} producers: let each process keep its name"
    return errors.LimitExceeded(message, path=("producer",))


def _with_steps(column: Column, points: int) -> Integers:
    if column.steps is not None:
        return column.steps
    return np.arange(points, points + len(column.values), dtype=np.int64)


def _points(portion: Portion, column: Column, steps: Integers) -> Points:
    origin = portion.origin
    return Points(
        run_id=origin.run_id,
        job_id=origin.job_id,
        step=origin.step,
        attempt=origin.attempt,
        rank=origin.rank,
        name=column.name,
        seq=portion.seq,
        steps=steps,
        times=column.times,
        values=column.values,
    )


def _chunk(
    series_id: int, portion: Portion, column: Column, steps: Integers, reach: Extremes
) -> tuple[Any, ...]:
    """What is in the columns CHUNK."""
    seq, values = portion.seq, column.values
    least, greatest = (None, None) if reach is None else (values.item(reach[0]), values.item(reach[1]))
    return (
        *(series_id, seq, seq, portion.feed_id, len(values), steps.item(0), steps.item(-1)),
        *(least, greatest, _packed(steps, "<i8"), _packed(column.times, "<i8"), _packed(values, "<f8"), None),
    )


def _packed(numbers: Floats | Integers, kind: str) -> bytes:
    return numbers.astype(kind, copy=False).tobytes()
