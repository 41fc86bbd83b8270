"""Where the points of series lie: chunks by the positions of their points, read as little as is wanted.

A position counts a series' points from 0, in the order they came. It stays the same when chunks are compacted,
and when the first points are thinned out: what is kept then begins behind them.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any

import numpy as np
from sqlalchemy import bindparam, func, select, tuple_

from db import columns, downsampling
from db.database import Session
from db.downsampling import Placed
from db.metrics import Chunk, Series
from db.points import Integers

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

    @property
    def points(self) -> int:
        """How many there are."""
        return self.stop - self.start


_LAST = func.coalesce(Chunk.end_seq, Chunk.last_seq)
_HEADS = (
    select(
        Chunk.series_id,
        Chunk.first_seq,
        _LAST.label("end_seq"),
        Chunk.points,
        Chunk.least_step,
        Chunk.greatest_step,
        Chunk.least_time,
        Chunk.greatest_time,
        Series.points.label("stop"),
    )
    .join(Series, Series.id == Chunk.series_id)
    .where(columns.Among(Chunk.series_id, "series"), Chunk.first_seq > Series.thinned_seq)
    .order_by(Chunk.series_id, Chunk.first_seq)
)
_BEHIND = _HEADS.where(Series.summarised_seq <= _LAST)
_TIMED = (
    select(
        Chunk.series_id, Chunk.first_seq, Chunk.points, Chunk.steps, Chunk.times, Chunk.values.label("packed")
    )
    .where(tuple_(Chunk.series_id, Chunk.first_seq).in_(bindparam("keys", expanding=True)))
    .order_by(Chunk.series_id, Chunk.first_seq)
)
_UNTIMED = _TIMED.with_only_columns(
    Chunk.series_id, Chunk.first_seq, Chunk.points, Chunk.steps, Chunk.values.label("packed")
)


async def pieces(
    session: Session, series: Collection[int], *, behind: bool = False
) -> dict[int, list[Piece]]:
    """The chunks of these series, in order; `behind`: only those behind what is summarised, and the last one."""
    found: dict[int, list[Piece]] = {key: [] for key in series}
    keys = list(series)
    statement = _BEHIND if behind else _HEADS
    for at in range(0, len(keys), _MOST_KEYS):
        rows = (await session.execute(statement, {"series": keys[at : at + _MOST_KEYS]})).all()
        for series_id, group in groupby(rows, lambda row: row.series_id):
            of = list(group)
            start = of[0].stop - sum(row.points for row in of)  # chunks go to the end of their series
            for row in of:
                reach = None if row.least_step is None else reach_of(row)
                stop = start + row.points
                found[series_id].append(Piece(series_id, row.first_seq, row.end_seq, start, stop, reach))
                start = stop
    return found


async def read(session: Session, pieces: Iterable[Piece], *, timed: bool = True) -> dict[int, Placed]:
    """The points of these chunks, by series; none of a chunk that was compacted since it was listed.

    Unless they are `timed`, their times are zero: a third less is read.
    """
    found: dict[int, list[Placed]] = {}
    for some in _affordable(pieces):
        at = {(piece.series_id, piece.first_seq): piece for piece in some}
        rows = (await session.execute(_TIMED if timed else _UNTIMED, {"keys": list(at)})).all()
        for series_id, group in groupby(rows, lambda row: row.series_id):
            of = [row for row in group if row.points == at[row.series_id, row.first_seq].points]
            if not of:
                continue
            where = [at[row.series_id, row.first_seq] for row in of]
            steps = np.frombuffer(b"".join([row.steps for row in of]), "<i8")
            times = (
                np.frombuffer(b"".join([row.times for row in of]), "<i8") if timed else np.zeros_like(steps)
            )
            values = np.frombuffer(b"".join([row.packed for row in of]), "<f8")
            found.setdefault(series_id, []).append(Placed(_positions(where), steps, times, values))
    return {series_id: downsampling.joined(parts) for series_id, parts in found.items()}


def _positions(pieces: Sequence[Piece]) -> Integers:
    """The positions of the points of chunks of one series, in order."""
    if all(one.stop == other.start for one, other in pairwise(pieces)):
        return np.arange(pieces[0].start, pieces[-1].stop)
    return np.concatenate([np.arange(piece.start, piece.stop) for piece in pieces])


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
