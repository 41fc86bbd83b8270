"""A stretch of a series, read as sparingly as it is wanted: what of it is certain, what must be looked at.

A series is covered by segments: blocks that have picks, and chunks behind them. By how far its steps or times reach,
a segment lies inside the bounds that were asked for, outside, or neither is known: those points are read and looked
at. Then it is known how many points there are, and so how large buckets are, and which picks serve them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from db import downsampling, positions, summaries
from db.database import Session
from db.downsampling import CELLS, NOTHING, Placed
from db.positions import Piece, Reach
from db.summaries import Block


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of steps, or else of times; both included, None: none."""

    first: int | None
    last: int | None
    by_step: bool

    def holds(self, reach: Reach | None) -> bool | None:
        """Whether all points that reach so far lie inside: None where only some may."""
        if self.first is None and self.last is None:
            return True
        if reach is None:
            return None
        least, greatest = (
            (reach.least_step, reach.greatest_step)
            if self.by_step
            else (reach.least_time, reach.greatest_time)
        )
        if (self.last is not None and least > self.last) or (
            self.first is not None and greatest < self.first
        ):
            return False
        is_inside = (self.first is None or least >= self.first) and (
            self.last is None or greatest <= self.last
        )
        return is_inside or None

    def of(self, placed: Placed) -> Placed:
        """The points inside."""
        x = placed.steps if self.by_step else placed.times
        inside = np.ones(len(x), bool)
        if self.first is not None:
            inside &= x >= self.first
        if self.last is not None:
            inside &= x <= self.last
        return placed if inside.all() else placed.at(inside)


@dataclass(frozen=True, slots=True)
class Segment:
    """Positions from `start` to before `stop`, of a block or of a chunk. `is_thin`: only small picks are kept."""

    start: int
    stop: int
    reach: Reach | None
    block: Block | None
    is_thin: bool

    @property
    def available(self) -> int:
        """How many points there are at most."""
        return self.block.picks if self.is_thin and self.block else self.stop - self.start


@dataclass(slots=True)
class Stretch:
    """What is wanted of one series, and what is known of it so far."""

    series_id: int
    bounds: Bounds
    most: int | None
    pieces: Sequence[Piece]
    inside: list[Segment] = field(default_factory=list)
    unsure: list[Segment] = field(default_factory=list)
    looked_at: Placed = NOTHING
    size: int = 1
    level: int = 0
    """Of the picks to read, which must serve the size that is fallen back on, too."""

    def cover(self, blocks: Sequence[Block], thinned: int) -> None:
        """Sort out what lies inside the bounds, and what has to be looked at."""
        behind = blocks[-1].stop if blocks else 0
        segments = [Segment(b.start, b.stop, b.reach, b, b.start < thinned) for b in blocks]
        segments += [
            Segment(max(piece.start, behind), piece.stop, piece.reach, None, False)
            for piece in self.pieces
            if piece.stop > behind
        ]
        for segment in segments:
            held = self.bounds.holds(segment.reach)
            if held is not False:
                (self.inside if held else self.unsure).append(segment)

    @property
    def total(self) -> int:
        """How many points were measured inside the bounds, as far as is known."""
        return sum(each.stop - each.start for each in self.inside) + len(self.looked_at.positions)

    @property
    def bucket(self) -> int:
        """How many points stand together."""
        thin = any(segment.is_thin for segment in (*self.inside, *self.unsure))
        return max(self.size, CELLS[0] if thin else 1)

    def choose(self) -> None:
        """Decide how large buckets are, now that it is known how many points there are."""
        available = sum(each.available for each in self.inside) + len(self.looked_at.positions)
        if self.most is not None and available > self.most:
            self.size = downsampling.fitting(self._spans(), max(self.most // 3, 1))
            self.level = min(map(downsampling.level_of, (self.size, self._larger())))

    def picked(self, found: Placed) -> Placed:
        """What stands for the points that were found inside, which have all that buckets of this size need."""
        whole = downsampling.joined([found, self.looked_at])
        if self.size == 1:
            return whole
        picked = whole.picked(self.size)
        if self.most is not None and len(picked.positions) > self.most:
            self.size = self._larger()
            picked = whole.picked(self.size)
        return picked

    def _larger(self) -> int:
        """The size to fall back on, where buckets have holes too, which take a point more each."""
        assert self.most is not None
        return downsampling.fitting(self._spans(), max(self.most // 4, 1))

    def _spans(self) -> list[tuple[int, int]]:
        spans = [(each.start, each.stop) for each in self.inside]
        return sorted([*spans, *downsampling.spans(self.looked_at)])


async def read(session: Session, stretches: Sequence[Stretch], *, timed: bool) -> list[Placed]:
    """The points of these stretches, which are covered, at most as many of each as it may have.

    Unless they are `timed`, their times mean nothing.
    """
    unsure = await _read(session, [(each, each.unsure, 0) for each in stretches], timed)
    for stretch, found in zip(stretches, unsure, strict=True):
        stretch.looked_at = stretch.bounds.of(found)
        stretch.choose()
    wanted = [(each, each.inside, each.level) for each in stretches]
    inside = await _read(session, wanted, timed)
    return [stretch.picked(found) for stretch, found in zip(stretches, inside, strict=True)]


async def _read(
    session: Session, wanted: Sequence[tuple[Stretch, Sequence[Segment], int]], timed: bool
) -> list[Placed]:
    """What these segments have of points, or of picks of this level."""
    pieces: list[Piece] = []
    keys: dict[int, dict[int, list[int]]] = {}
    raw: list[list[Segment]] = []
    for stretch, segments, level in wanted:
        rest: list[Segment] = []
        numbers: list[int] = []
        for segment in segments:
            if segment.block is not None and (level or segment.is_thin):
                numbers.append(segment.block.number)
            else:
                rest.append(segment)
        if numbers:
            keys.setdefault(max(level, 1), {}).setdefault(stretch.series_id, []).extend(numbers)
        raw.append(rest)
        pieces += _over(stretch.pieces, rest)
    points = await positions.read(session, pieces, timed=timed)
    picks: dict[int, Placed] = {}
    for level, blocks in keys.items():
        picks |= await summaries.of_blocks(session, level, blocks)
    made = []
    for (stretch, _, _), segments in zip(wanted, raw, strict=True):
        found = points.get(stretch.series_id, NOTHING)
        inside = found if _is_whole(stretch, segments) else _inside(found, segments)
        made.append(downsampling.joined([picks.get(stretch.series_id, NOTHING), inside]))
    return made


def _over(pieces: Sequence[Piece], segments: Sequence[Segment]) -> Iterable[Piece]:
    """The chunks that have points of these segments, which are in order, as they are."""
    wanted = iter(segments)
    segment = next(wanted, None)
    for piece in pieces:
        while segment is not None and segment.stop <= piece.start:
            segment = next(wanted, None)
        if segment is None:
            return
        if segment.start < piece.stop:
            yield piece


def _is_whole(stretch: Stretch, segments: Sequence[Segment]) -> bool:
    """Whether every chunk is wanted as it is."""
    return len(segments) == len(stretch.pieces) and all(
        (segment.start, segment.stop) == (piece.start, piece.stop)
        for segment, piece in zip(segments, stretch.pieces, strict=True)
    )


def _inside(whole: Placed, segments: Sequence[Segment]) -> Placed:
    """The points at the positions of these segments, which are in order and apart."""
    if not len(whole.positions) or not segments:
        return NOTHING
    starts = np.array([segment.start for segment in segments])
    stops = np.array([segment.stop for segment in segments])
    of = np.searchsorted(starts, whole.positions, side="right") - 1
    inside = (of >= 0) & (whole.positions < stops[np.maximum(of, 0)])
    return whole if inside.all() else whole.at(inside)
