"""Which points stand for many: of every bucket the least, the greatest, the last, and the first that is no number.

A bucket is so many points in a row, counted from the beginning of the series: bucket k of size s has the points at
the positions k*s to k*s + s - 1. So what is picked depends on the points alone, not on how they are stored, and
picking may be repeated: what is picked of the picks of smaller buckets is what is picked of all points, where the
size is a multiple of theirs. That is what summaries.py keeps. numpy's reduceat does it; the libraries that pick
points for drawing know neither holes nor picks of picks. Pure.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from db.points import Floats, Integers

CELLS = (64, 1024, 16_384)
"""Points a bucket of what is kept picked, by level."""
BLOCK = 16_384
"""Points whose picks are kept in one row."""
LEAST = 4
"""A bucket may need so many points."""


@dataclass(frozen=True, slots=True)
class Placed:
    """Points of a series with their positions in it, which grow; columns run in parallel."""

    positions: Integers
    steps: Integers
    times: Integers
    values: Floats

    def at(self, where: Integers | slice | np.ndarray) -> "Placed":
        """Some of them, by index or by a mask."""
        return Placed(self.positions[where], self.steps[where], self.times[where], self.values[where])

    def picked(self, size: int) -> "Placed":
        """Those that stand for their buckets of so many points."""
        return self if size == 1 else self.at(pick(self.positions, self.values, size))


_NONE = np.empty(0, np.int64)
NOTHING = Placed(_NONE, _NONE, _NONE, np.empty(0, np.float64))


def joined(parts: Sequence[Placed]) -> Placed:
    """Parts put together, in the order of their positions; none may overlap another."""
    parts = sorted((part for part in parts if len(part.positions)), key=lambda part: int(part.positions[0]))
    if len(parts) < 2:
        return parts[0] if parts else NOTHING
    whole = Placed(
        np.concatenate([part.positions for part in parts]),
        np.concatenate([part.steps for part in parts]),
        np.concatenate([part.times for part in parts]),
        np.concatenate([part.values for part in parts]),
    )
    if all(one.positions[-1] < other.positions[0] for one, other in pairwise(parts)):
        return whole
    return whole.at(np.argsort(whole.positions, kind="stable"))


def pick(positions: Integers, values: Floats, size: int) -> Integers:
    """The indices of the points that stand for their buckets, in order; of equal extremes the first."""
    if not len(values):
        return np.empty(0, np.int64)
    buckets = positions // size
    changes = np.flatnonzero(buckets[1:] != buckets[:-1]) + 1
    starts = np.concatenate((np.zeros(1, np.int64), changes))
    lengths = np.diff(np.append(starts, len(values)))
    groups = np.repeat(np.arange(len(starts)), lengths)
    finite = np.isfinite(values)
    chosen = [starts + lengths - 1]
    whole = bool(finite.all())
    low = values if whole else np.where(finite, values, np.inf)
    high = values if whole else np.where(finite, values, -np.inf)
    for extremes, beyond in ((low, np.minimum), (high, np.maximum)):
        best = beyond.reduceat(extremes, starts)
        hits = np.flatnonzero(extremes == best[groups])
        if not whole:
            hits = hits[finite[hits]]  # a bucket without a number has no extremes
        chosen.append(_firsts(hits, groups))
    if not whole:
        chosen.append(_firsts(np.flatnonzero(~finite), groups))
    found = np.sort(np.concatenate(chosen))
    return found[np.concatenate(([True], found[1:] != found[:-1]))]


def _firsts(hits: Integers, groups: Integers) -> Integers:
    """The first hit of each group."""
    if not len(hits):
        return hits
    of = groups[hits]
    return hits[np.concatenate(([True], of[1:] != of[:-1]))]


def size_for(points: int, buckets: int) -> int:
    """The least size of buckets that this many points need, of the sizes that kept picks can serve."""
    size = -(-points // buckets)
    cell = max((cell for cell in CELLS if 3 * cell <= 2 * size), default=1)
    return -(-size // cell) * cell


def level_of(size: int) -> int:
    """Which level of kept picks serves buckets of a size; 0: none, they are picked from the points."""
    return sum(size % cell == 0 for cell in CELLS)


def count(stretches: list[tuple[int, int]], size: int) -> int:
    """How many buckets of a size there are between these positions (from, to before), in order and apart."""
    found, seen = 0, -1
    for first, stop in stretches:
        least, most = first // size, (stop - 1) // size
        found += most - max(least, seen + 1) + 1
        seen = most
    return found


def fitting(stretches: list[tuple[int, int]], buckets: int) -> int:
    """The size of buckets of which at most so many have points at these positions."""
    size = size_for(sum(stop - first for first, stop in stretches), buckets)
    while (needed := count(stretches, size)) > buckets:
        size = size_for(size * needed, buckets)
    return size


def spans(placed: Placed) -> list[tuple[int, int]]:
    """The stretches of positions without a gap, as (from, to before)."""
    if not len(placed.positions):
        return []
    gaps = np.flatnonzero(np.diff(placed.positions) != 1)
    starts = placed.positions[np.concatenate((np.zeros(1, np.int64), gaps + 1))].tolist()
    stops = (placed.positions[np.append(gaps, len(placed.positions) - 1)] + 1).tolist()
    return list(zip(starts, stops, strict=True))
