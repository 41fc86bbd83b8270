"""All points of series, for who hands them on: read a bounded piece at a time, each in a transaction of its own.

A client may take minutes to fetch millions of points, and no snapshot is held for so long. A series' points are
counted from its first; that stays the same while chunks are compacted, so reading goes on by position. Where what was
found is deleted or thinned out meanwhile, reading breaks off: an end would say that this was all.
"""

from collections.abc import AsyncIterator, Iterator, Sequence

from db import curves, downsampling, errors, positions, summaries
from db.curves import Found, Wanted
from db.database import Database
from db.downsampling import NOTHING, Placed
from db.points import Points
from db.positions import Piece
from db.viewers import Viewer

_PART_POINTS = 1 << 17
"""Points that are handed on together, about: 3 MB."""
_MOST_TOGETHER = 500


async def found(database: Database, viewer: Viewer, wanted: Wanted, *, every: bool) -> list[Found]:
    """The series that are wanted, of any name where `every` is, that may be seen."""
    async with database.scan() as session:
        return await curves.find(session, viewer, wanted, every=every)


async def parts(database: Database, series: Sequence[Found]) -> AsyncIterator[list[Points]]:
    """All that is kept of these series, in order, so many points at a time, each part of one series."""
    for some in _groups(series):
        if len(some) > 1:
            yield await _together(database, some)
        else:
            async for part in _alone(database, some[0]):
                yield [part]


def _groups(series: Sequence[Found]) -> Iterator[list[Found]]:
    """Small series together, large ones each alone."""
    some: list[Found] = []
    points = 0
    for each in series:
        if some and (points + each.points > _PART_POINTS or len(some) == _MOST_TOGETHER):
            yield some
            some, points = [], 0
        some.append(each)
        points += each.points
    if some:
        yield some


async def _together(database: Database, some: Sequence[Found]) -> list[Points]:
    async with database.read() as session:
        pieces = await positions.pieces(session, [each.id for each in some])
        read = await positions.read(session, [piece for own in pieces.values() for piece in own])
        thin = {
            each.id: await summaries.thin(session, each.id, each.thinned) for each in some if each.thinned
        }
    made = []
    for each in some:
        if len(read.get(each.id, NOTHING).positions) < each.points - each.thinned:
            raise _gone(each)
        parts = [source[each.id] for source in (thin, read) if each.id in source]
        if parts:
            made.append(_points(each, parts))
    return made


async def _alone(database: Database, series: Found) -> AsyncIterator[Points]:
    """One series, which may be larger than memory."""
    if series.thinned:
        async with database.read() as session:
            thin = await summaries.thin(session, series.id, series.thinned)
        yield _points(series, [thin])  # whoever takes it may take minutes, and no session is held for so long
    at = series.thinned
    listed: list[Piece] = []
    while True:
        async with database.read() as session:
            if not listed:
                pieces = (await positions.pieces(session, [series.id]))[series.id]
                listed = [piece for piece in pieces if piece.stop > at][::-1]
                if at < (pieces[0].start if pieces else series.points):
                    raise _gone(series)
                if not listed:
                    return
            some: list[Piece] = []
            while listed and sum(piece.points for piece in some) < _PART_POINTS:
                some.append(listed.pop())
            read = (await positions.read(session, some)).get(series.id, NOTHING)
        if len(read.positions) < sum(piece.points for piece in some):
            listed = []  # chunks were compacted since they were listed
            continue
        if read.positions[0] < at:
            read = read.at(read.positions >= at)
        yield _points(series, [read])
        at = some[-1].stop


def _gone(series: Found) -> errors.Conflict:
    """What is handed on already lacks the rest."""
    return errors.Conflict(f"{series.name!r} was deleted or thinned out while it was read: ask again")


def _points(of: Found, parts: list[Placed]) -> Points:
    whole = downsampling.joined(parts)
    return Points(
        run_id=of.run_id,
        job_id=of.job_id,
        step=of.step,
        attempt=of.attempt,
        rank=of.rank,
        name=of.name,
        seq=0,
        steps=whole.steps,
        times=whole.times,
        values=whole.values,
    )
