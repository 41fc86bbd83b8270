"""Where the points of series lie: chunks by the positions of their points, read as little as is wanted.

A position counts a series' points from 0, in the order they came. It stays the same when chunks are compacted,
and when the first points are thinned out: what is kept then begins behind them.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from sqlalchemy import func, select, tuple_

from db.database import Session
from db.downsampling import Placed
from db.metrics import Chunk, Series

MOST_POINTS = 1 << 20
"""Points that one statement reads, about: 24 MB."""
_MOST_KEYS = 500


@dataclass(frozen=True, slots=True)
class Reach:
    """How far the steps and the times of some points reach."""

    least_step: int
    greatest_step: int
    least_time: int
    greatest_time: int


def reach_of(row: Any) -> Reach:
    """From the columns of a row."""
    return Reach(row.least_step, row.greatest_step, row.least_time, row.greatest_time)


@dataclass(frozen=True, slots=True)
class Piece:
    """A chunk without its points: they have the positions from `start` to before `stop`. No `reach`: not known."""

    series_id: int
    first_seq: int
    end_seq: int
    start: int
    stop: int
    reach: Reach | None


_HEADS = (
    select(
        Chunk.series_id,
        Chunk.first_seq,
        func.coalesce(Chunk.end_seq, Chunk.last_seq).label("end_seq"),
        Chunk.points,
        Chunk.least_step,
        Chunk.greatest_step,
        Chunk.least_time,
        Chunk.greatest_time,
        Series.thinned,
    )
    .join(Series, Series.id == Chunk.series_id)
    .where(Chunk.first_seq > Series.thinned_seq)
    .order_by(Chunk.series_id, Chunk.first_seq)
)
_POINTS = select(Chunk.series_id, Chunk.first_seq, Chunk.steps, Chunk.times, Chunk.values.label("packed"))


async def pieces(session: Session, series: Collection[int]) -> dict[int, list[Piece]]:
    """The chunks of these series, in order."""
    found: dict[int, list[Piece]] = {key: [] for key in series}
    keys = list(series)
    for at in range(0, len(keys), _MOST_KEYS):
        statement = _HEADS.where(Chunk.series_id.in_(keys[at : at + _MOST_KEYS]))
        rows = (await session.execute(statement)).all()
        for series_id, group in groupby(rows, lambda row: row.series_id):
            start: int | None = None
            for row in group:
                begin = row.thinned if start is None else start
                start = begin + row.points
                reach = None if row.least_step is None else reach_of(row)
                found[series_id].append(Piece(series_id, row.first_seq, row.end_seq, begin, start, reach))
    return found


async def read(session: Session, pieces: Iterable[Piece]) -> dict[int, list[Placed]]:
    """The points of these chunks, by series, a part a chunk."""
    found: dict[int, list[Placed]] = {}
    for some in _affordable(pieces):
        at = {(piece.series_id, piece.first_seq): piece for piece in some}
        statement = _POINTS.where(tuple_(Chunk.series_id, Chunk.first_seq).in_(list(at)))
        for row in (await session.execute(statement)).all():
            piece = at[row.series_id, row.first_seq]
            found.setdefault(row.series_id, []).append(
                Placed(
                    np.arange(piece.start, piece.stop),
                    np.frombuffer(row.steps, "<i8"),
                    np.frombuffer(row.times, "<i8"),
                    np.frombuffer(row.packed, "<f8"),
                )
            )
    return found


def _affordable(pieces: Iterable[Piece]) -> Iterable[Sequence[Piece]]:
    """As many at once as one statement may read."""
    some: list[Piece] = []
    points = 0
    for piece in pieces:
        size = piece.stop - piece.start
        if some and (points + size > MOST_POINTS or len(some) == _MOST_KEYS):
            yield some
            some, points = [], 0
        some.append(piece)
        points += size
    if some:
        yield some
