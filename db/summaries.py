"""Picked points, kept: so that ten million points are drawn by reading a few thousand.

The first points of a series are kept as picks of small buckets too, at three levels (downsampling.CELLS), a block of
16,384 points a row. Blocks are full while a run goes on; when it has ended, the last one has what there is. A
block that is not full is made again from its own picks and what came after it: picks of picks are picks. So
nothing is ever picked from points that are kept no longer. `Series.summarised` says how far they go, and lets
one of several servers write each piece.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby, pairwise
from typing import Any

import numpy as np
from sqlalchemy import bindparam, delete, insert, select, update

from db import columns, downsampling, positions
from db.database import Session, Transaction
from db.downsampling import BLOCK, CELLS, NOTHING, Placed
from db.metrics import Series, Summary
from db.positions import Reach, reach_of

LEAST_POINTS = 1 << 16
"""A series of a run that goes on has picks from here on: before, all its points are read as fast."""
_PIECE = 16 * BLOCK
"""Points that one step picks from."""
_MOST_KEYS = 500
_MOST_SERIES = 100
"""Of picks, which are large, in one statement."""


@dataclass(frozen=True, slots=True)
class Due:
    """A series that has points without picks."""

    series_id: int
    points: int
    summarised: int
    thinned: int
    thinned_seq: int


_DUE = select(Series.id, Series.points, Series.summarised, Series.thinned, Series.thinned_seq)


_MANY = (
    _DUE.add_columns(Series.run_id)
    .where(columns.Among(Series.run_id, "runs"), Series.points > Series.summarised, Series.points >= BLOCK)
    .order_by(Series.run_id, Series.id)
)


async def due(session: Session, going: Collection[bytes], ended: Collection[bytes]) -> dict[bytes, list[Due]]:
    """The series of runs that go on, and of runs that have ended, that can have more picks: those of many points."""
    found: dict[bytes, list[Due]] = {}
    runs = [*going, *ended]
    for row in (await session.execute(_MANY, {"runs": runs})).all() if runs else []:
        is_long = row.points - row.summarised >= BLOCK and row.points >= LEAST_POINTS
        if row.run_id in ended or is_long:
            found.setdefault(row.run_id, []).append(_due(row))
    return found


async def unpicked(session: Session, run_id: bytes) -> list[Due]:
    """The series of a run of which not all points have picks, however few."""
    wanted = (Series.run_id == run_id) & (Series.points > Series.summarised)
    return [_due(row) for row in (await session.execute(_DUE.where(wanted))).all()]


def _due(row: Any) -> Due:
    return Due(row.id, row.points, row.summarised, row.thinned, row.thinned_seq)


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows to write, and how far the series is summarised with them."""

    due: Due
    upto: int
    seq: int
    rows: list[dict[str, Any]]

    @property
    def then(self) -> Due:
        """The series once they are written."""
        return replace(self.due, summarised=self.upto)


async def piece(session: Session, due: Due, *, ended: bool) -> Piece | None:
    """The next picks of a series, so many at once as are made in little time; None if there are none to make."""
    start = due.summarised // BLOCK * BLOCK
    upto = min(due.points, start + _PIECE)
    if not ended:
        upto = upto // BLOCK * BLOCK
    if upto <= due.summarised:
        return None
    before, reach = NOTHING, None
    if due.summarised > start:
        last = start // BLOCK
        before = (await of_blocks(session, 1, {due.series_id: [last]}))[due.series_id]
        reach = (await blocks(session, [due.series_id]))[due.series_id][last].reach
    pieces = (await positions.pieces(session, [due.series_id], behind=True))[due.series_id]
    wanted = [piece for piece in pieces if piece.stop > due.summarised and piece.start < upto]
    found = (await positions.read(session, wanted))[due.series_id]
    edges = np.searchsorted(found.positions, (due.summarised, upto))
    raw = found.at(slice(int(edges[0]), int(edges[1])))
    rows = await asyncio.to_thread(_rows, due.series_id, before, reach, raw)
    return Piece(due, upto, wanted[-1].first_seq, rows)


async def write(session: Transaction, piece: Piece) -> bool:
    """Keep them; False where somebody else was faster, or the series is no more."""
    due = piece.due
    ours = (Series.id == due.series_id) & (Series.summarised == due.summarised)
    upto = {"summarised": piece.upto, "summarised_seq": piece.seq}
    if not await session.change(update(Series).where(ours).values(upto)):
        return False
    first = due.summarised // BLOCK
    if due.summarised % BLOCK:
        again = (Summary.series_id == due.series_id) & (Summary.block >= first)
        await session.execute(delete(Summary).where(again))
    await session.execute(insert(Summary.__table__), piece.rows)  # type: ignore[arg-type]
    return True


def _rows(series_id: int, before: Placed, reach: Reach | None, raw: Placed) -> list[dict[str, Any]]:
    """Rows of every level, of the picks that there were of the first block and the points behind them."""
    source = downsampling.joined([before, raw])
    first, stop = int(source.positions[0]) // BLOCK, int(source.positions[-1]) + 1
    reaches = _reaches(raw, reach, first)
    rows: list[dict[str, Any]] = []
    for level, cell in enumerate(CELLS, 1):
        source = source.picked(cell)
        edges = _edges(source, first, len(reaches))
        for index, reached in enumerate(reaches):
            part = source.at(slice(edges[index], edges[index + 1]))
            begin = (first + index) * BLOCK
            rows.append(
                {
                    **{"series_id": series_id, "level": level, "block": first + index, **asdict(reached)},
                    **{"points": min(BLOCK, stop - begin), "picks": len(part.values)},
                    "positions": (part.positions - begin).astype("<u2").tobytes(),
                    "steps": part.steps.tobytes(),
                    "times": part.times.tobytes(),
                    "vals": part.values.tobytes(),
                }
            )
    return rows


def _edges(source: Placed, first: int, blocks: int) -> list[int]:
    """Where each block begins among these points, and the last one ends."""
    starts = np.arange(first, first + blocks + 1) * BLOCK
    found: list[int] = np.searchsorted(source.positions, starts).tolist()
    return found


def _reaches(raw: Placed, before: Reach | None, first: int) -> list[Reach]:
    """How far each block reaches; of the first one a part may have been there `before`."""
    blocks = int(raw.positions[-1]) // BLOCK - first + 1
    edges = _edges(raw, first, blocks)
    found = []
    for begin, end in pairwise(edges):
        steps, times = raw.steps[begin:end], raw.times[begin:end]
        found.append(Reach(int(steps.min()), int(steps.max()), int(times.min()), int(times.max())))
    if before is not None:
        one = found[0]
        found[0] = Reach(
            min(one.least_step, before.least_step),
            max(one.greatest_step, before.greatest_step),
            min(one.least_time, before.least_time),
            max(one.greatest_time, before.greatest_time),
        )
    return found


@dataclass(frozen=True, slots=True)
class Block:
    """A block without its picks: it has the positions from `start` to before `stop`."""

    series_id: int
    number: int
    start: int
    stop: int
    picks: int
    reach: Reach | None


def whole_blocks(series_id: int, summarised: int) -> list[Block]:
    """The blocks that there are of a series, for who need not know how far they reach, nor how many picks they have."""
    starts = range(0, summarised, BLOCK)
    return [
        Block(series_id, number, start, min(start + BLOCK, summarised), BLOCK, None)
        for number, start in enumerate(starts)
    ]


_BLOCKS = (
    select(
        Summary.series_id,
        Summary.block,
        Summary.points,
        Summary.picks,
        Summary.least_step,
        Summary.greatest_step,
        Summary.least_time,
        Summary.greatest_time,
    )
    .where(Summary.level == 1)
    .order_by(Summary.series_id, Summary.block)
)


async def blocks(session: Session, series: Collection[int]) -> dict[int, list[Block]]:
    """The blocks of these series, in order."""
    found: dict[int, list[Block]] = {key: [] for key in series}
    keys = list(series)
    for at in range(0, len(keys), _MOST_KEYS):
        rows = (await session.execute(_BLOCKS.where(Summary.series_id.in_(keys[at : at + _MOST_KEYS])))).all()
        for row in rows:
            start = row.block * BLOCK
            block = Block(row.series_id, row.block, start, start + row.points, row.picks, reach_of(row))
            found[row.series_id].append(block)
    return found


_PICKS = (
    select(
        Summary.series_id,
        Summary.block,
        Summary.picks,
        Summary.positions,
        Summary.steps,
        Summary.times,
        Summary.values.label("packed"),
    )
    .where(
        columns.Among(Summary.series_id, "series"),
        Summary.level == bindparam("level"),
        Summary.block.between(bindparam("first"), bindparam("last")),
    )
    .order_by(Summary.series_id, Summary.block)
)


async def of_blocks(session: Session, level: int, wanted: Mapping[int, Sequence[int]]) -> dict[int, Placed]:
    """The picks of a level of some blocks of series, by series."""
    found: dict[int, Placed] = {}
    series = [key for key, numbers in wanted.items() if numbers]
    for at in range(0, len(series), _MOST_SERIES):
        some = series[at : at + _MOST_SERIES]
        first, last = min(wanted[key][0] for key in some), max(wanted[key][-1] for key in some)
        given = {"series": some, "level": level, "first": first, "last": last}
        rows = (await session.execute(_PICKS, given)).all()
        for series_id, group in groupby(rows, lambda row: row.series_id):
            numbers = set(wanted[series_id])
            found[series_id] = _placed([row for row in group if row.block in numbers])
    return found


def _placed(rows: Sequence[Any]) -> Placed:
    """The picks of blocks of one series, in order: rows as _PICKS has them."""
    if not rows:
        return NOTHING
    _, numbers, picks, positions, steps, times, packed = zip(*rows, strict=True)
    starts = np.repeat(np.array(numbers, np.int64) * BLOCK, picks)
    return Placed(
        starts + np.frombuffer(b"".join(positions), "<u2"),
        np.frombuffer(b"".join(steps), "<i8"),
        np.frombuffer(b"".join(times), "<i8"),
        np.frombuffer(b"".join(packed), "<f8"),
    )


async def thin(session: Session, series_id: int, thinned: int) -> Placed:
    """The small picks that are all that is kept of the first points of a series."""
    if not thinned:
        return NOTHING
    numbers = range(-(-thinned // BLOCK))
    return (await of_blocks(session, 1, {series_id: numbers})).get(series_id, NOTHING)


async def kept(session: Session, series_id: int, thinned: int) -> Placed:
    """Everything that is kept of a series."""
    pieces = (await positions.pieces(session, [series_id]))[series_id]
    behind = (await positions.read(session, pieces)).get(series_id, NOTHING)
    return downsampling.joined([await thin(session, series_id, thinned), behind])
