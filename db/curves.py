"""Reading series: exact, or so many points that stand for all, of any stretch, of workers apart or together.

What is read is what the answer needs: chunks of a stretch, picks of large buckets (summaries.py), and the points
themselves where buckets are small. The answer depends on the points alone: the same whether chunks were
compacted and picks made meanwhile. Where a series' first points are thinned out (retention.py), picks of small buckets
stand for them.
"""

import asyncio
import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from sqlalchemy import select

from db import columns, downsampling, errors, merging, positions, summaries, viewers
from db import stretches as reading
from db.attempts import Attempt, Worker
from db.database import Session
from db.downsampling import CELLS, Placed
from db.jobs import Job
from db.merging import Aggregate
from db.metrics import Series
from db.points import Points
from db.stretches import Bounds, Stretch
from db.viewers import Viewer

MOST_POINTS = 5_000_000
"""Of one answer: 120 MB in memory, and three times as much as JSON."""
_GROUP_POINTS = 2_000_000
"""Points of series that are read together."""
TOO_MANY = (
    f"more than {MOST_POINTS:,} points: give maxPoints or a range, or ask for fewer runs or names at once"
)


class X(enum.Enum):
    """What points are drawn over."""

    STEP = "STEP"
    TIME = "TIME"
    RELATIVE_TIME = "RELATIVE_TIME"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for. `first` and `last` bound x, both included; None of anything: no bound, every one.

    Without `attempts` the latest of each job, or every one if not `latest`. `most` points a series. Who looks at
    no times says so by `timed`, and pays for none.
    """

    runs: Sequence[bytes]
    names: Sequence[str]
    x: X = X.STEP
    first: int | None = None
    last: int | None = None
    most: int | None = None
    ranks: frozenset[int] | None = None
    attempts: frozenset[int] | None = None
    latest: bool = True
    aggregate: Aggregate | None = None
    timed: bool = True

    @property
    def is_whole(self) -> bool:
        """Whether there is no bound of x."""
        return self.first is None and self.last is None


@dataclass(frozen=True, slots=True)
class Curve:
    """A series as it was asked for: `points`, which stand for `total`, one bucket of `bucket` points each few.

    `bucket` is 1 where every point is there. `origin` is the moment, in microseconds, that relative times count
    from. `thinned` says that not all that was measured is kept.
    """

    points: Points
    total: int
    bucket: int
    thinned: bool
    origin: int
    ranks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """A series that is wanted, without its points."""

    id: int
    points: int
    summarised: int
    thinned: int
    thinned_seq: int
    run_id: bytes
    job_id: bytes
    name: str
    step: str
    attempt: int
    rank: int
    origin: int


_FOUND = (
    select(
        Series.id,
        Series.points,
        Series.summarised,
        Series.thinned,
        Series.thinned_seq,
        Series.run_id,
        Series.job_id,
        Series.name,
        Job.step,
        Attempt.number,
        Worker.rank,
        Attempt.started_at,
        Attempt.created_at,
    )
    .join(Worker, Worker.id == Series.worker_id)
    .join(Attempt, Attempt.id == Series.attempt_id)
    .join(Job, Job.id == Series.job_id)
    .where(columns.Among(Series.run_id, "runs"), Series.points > 0)
    .order_by(Series.run_id, Job.position, Series.name, Attempt.number, Worker.rank, Series.id)
)
_NAMED = _FOUND.where(columns.Among(Series.name, "names"))
_LATEST = Attempt.number == Job.attempts


async def find(session: Session, viewer: Viewer, wanted: Wanted, *, every: bool = False) -> list[Found]:
    """The series that are wanted and may be seen: by run, step, name, attempt and rank. `every`: of any name."""
    statement = _FOUND if every else _NAMED
    given: dict[str, Any] = {"runs": list(wanted.runs)} | ({} if every else {"names": list(wanted.names)})
    seen = viewers.visible(viewer, Job.project_id, Series.run_id) & viewers.kept(Series.run_id)
    statement = statement.where(seen)
    if wanted.attempts is not None:
        statement = statement.where(Attempt.number.in_(wanted.attempts))
    elif wanted.latest:
        statement = statement.where(_LATEST)
    if wanted.ranks is not None:
        statement = statement.where(Worker.rank.in_(wanted.ranks))
    return [
        Found(
            id=row.id,
            points=row.points,
            summarised=row.summarised,
            thinned=row.thinned,
            thinned_seq=row.thinned_seq,
            run_id=row.run_id,
            job_id=row.job_id,
            name=row.name,
            step=row.step,
            attempt=row.number,
            rank=row.rank,
            origin=columns.microseconds(row.started_at or row.created_at),
        )
        for row in (await session.execute(statement, given)).all()
    ]


async def read(session: Session, viewer: Viewer, wanted: Wanted) -> list[Curve]:
    """The series that are asked for. Raises Invalid, or LimitExceeded for more points than an answer may have."""
    check(wanted)
    found = await find(session, viewer, wanted)
    if wanted.is_whole:
        _require_few(sum(min(each.points, wanted.most or each.points) for each in found))
    return await of_series(session, found, wanted)


async def of_series(session: Session, found: Sequence[Found], wanted: Wanted) -> list[Curve]:
    """These series, as `read` gives them."""
    made: list[Curve] = []
    count = 0
    for some in _groups(found, wanted):
        for curve in await _read(session, some, wanted):
            count += len(curve.points.values)
            _require_few(count)
            made.append(curve)
        await asyncio.sleep(0)  # what follows is work of this loop: others come between
    return made


def check(wanted: Wanted) -> None:
    """Raise Invalid where this cannot be read."""
    if wanted.most is not None and wanted.most < downsampling.LEAST:
        least = downsampling.LEAST
        rule = f"maxPoints is at least {least}, for a bucket's least, greatest and last, not {wanted.most}"
        raise errors.Invalid(rule, path=("maxPoints",))
    if wanted.first is not None and wanted.last is not None and wanted.first > wanted.last:
        raise errors.Invalid(f"range: from {wanted.first} is beyond to {wanted.last}", path=("range",))


def _require_few(points: int) -> None:
    if points > MOST_POINTS:
        raise errors.LimitExceeded(TOO_MANY, path=("maxPoints",))


def _groups(found: Sequence[Found], wanted: Wanted) -> Iterable[list[Found]]:
    """Series that are read together: those that are put together, and as many more as are cheap."""
    some: list[Found] = []
    points = 0
    for _, group in groupby(found, merging.key if wanted.aggregate else lambda each: each.id):
        of = list(group)
        cost = sum(_cost(each, wanted) for each in of)
        if some and points + cost > _GROUP_POINTS:
            yield some
            some, points = [], 0
        some += of
        points += cost
    if some:
        yield some


def _cost(found: Found, wanted: Wanted) -> int:
    """About how many points are read of a series."""
    if wanted.most is None or wanted.aggregate is not None:
        return found.points
    return min(found.points, max(wanted.most, 2 * CELLS[0] * (wanted.most // 3)))


async def _read(session: Session, some: Sequence[Found], wanted: Wanted) -> list[Curve]:
    if wanted.aggregate is None:
        return await _apart(session, some, wanted)
    _require_few(sum(each.points for each in some))
    whole = await _apart(session, some, replace(wanted, most=None, aggregate=None))
    made = []
    for _, group in groupby(zip(some, whole, strict=True), lambda pair: merging.key(pair[0])):
        curves = [curve for _, curve in group]
        merged = merging.merge([curve.points for curve in curves], wanted.aggregate)
        thinned = any(curve.thinned for curve in curves)
        size, picked = _fit(merged, wanted.most)
        ranks = tuple(curve.points.rank for curve in curves)
        bucket = max(size, *(curve.bucket for curve in curves))
        total = len(merged.positions)
        points = _points(curves[0].points, picked, max(curve.points.seq for curve in curves))
        made.append(Curve(points, total, bucket, thinned, curves[0].origin, ranks))
    return made


async def _apart(session: Session, some: Sequence[Found], wanted: Wanted) -> list[Curve]:
    """These series, each by itself."""
    plain = [each.id for each in some if not _draws_picks(each, wanted)]
    pieces = await positions.pieces(session, plain) if plain else {}
    rest = [each.id for each in some if each.id not in pieces]
    pieces |= await positions.pieces(session, rest, behind=True) if rest else {}
    picked = [each.id for each in some if each.summarised and _looks_at_picks(each, wanted)]
    blocks = await summaries.blocks(session, picked) if picked else {}
    stretches = []
    for each in some:
        stretch = Stretch(each.id, _bounds(each, wanted), wanted.most, pieces[each.id])
        if each.id in rest:
            blocks.setdefault(each.id, summaries.whole_blocks(each.id, each.summarised))
        stretch.cover(blocks.get(each.id, []), each.thinned)
        stretches.append(stretch)
    by_time = wanted.x is not X.STEP and not wanted.is_whole
    found = await reading.read(session, stretches, timed=wanted.timed or by_time)
    return [
        Curve(
            points=_points(each, placed, stretch.pieces[-1].end_seq if stretch.pieces else each.thinned_seq),
            total=stretch.total,
            bucket=stretch.bucket,
            thinned=each.thinned > 0,
            origin=each.origin,
            ranks=(each.rank,),
        )
        for each, stretch, placed in zip(some, stretches, found, strict=True)
    ]


def _draws_picks(found: Found, wanted: Wanted) -> bool:
    """Whether picks serve all of it, so that only what is behind them is read of the points."""
    if wanted.most is None or not wanted.is_whole or not found.summarised or found.thinned:
        return False
    if found.points <= wanted.most:
        return False
    sizes = (downsampling.fitting([(0, found.points)], max(wanted.most // parts, 1)) for parts in (3, 4))
    return all(downsampling.level_of(size) for size in sizes)


def _looks_at_picks(found: Found, wanted: Wanted) -> bool:
    """Whether it must be known what each block has."""
    return found.thinned > 0 or not wanted.is_whole


def _bounds(found: Found, wanted: Wanted) -> Bounds:
    by_step = wanted.x is X.STEP
    offset = found.origin if wanted.x is X.RELATIVE_TIME else 0
    first, last = (None if bound is None else bound + offset for bound in (wanted.first, wanted.last))
    return Bounds(first, last, by_step)


def _points(of: Found | Points, placed: Placed, seq: int) -> Points:
    return Points(
        run_id=of.run_id,
        job_id=of.job_id,
        step=of.step,
        attempt=of.attempt,
        rank=of.rank,
        name=of.name,
        seq=seq,
        steps=placed.steps,
        times=placed.times,
        values=placed.values,
    )


def _fit(whole: Placed, most: int | None) -> tuple[int, Placed]:
    """At most so many of these points, and of what size their buckets are."""
    if most is None or len(whole.positions) <= most:
        return 1, whole
    spans = downsampling.spans(whole)
    size = downsampling.fitting(spans, max(most // 3, 1))
    picked = whole.picked(size)
    if len(picked.positions) > most:
        size = downsampling.fitting(spans, max(most // 4, 1))
        picked = whole.picked(size)
    return size, picked
