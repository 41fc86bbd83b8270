"""Points of metrics as they go in and out: columns in parallel, and the rules they keep. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np
from numpy.typing import NDArray

from db import errors, texts

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Extremes = tuple[int, int] | None
"""Where the least and the greatest finite value of a column are; None if there is none."""

MOST_POINTS = 1_000_000
MOST_SERIES = 1_000
USAGE = "system/"
"""So begin the names of what workers use, which adapters measure: series as any other, but no headline of a run."""
MAX_INT64 = 2**53 - 1
"""Steps and times travel as JSON numbers, which are exact up to here."""


@dataclass(frozen=True, slots=True)
class Column:
    """Points of one metric, in parallel. Without `steps` they go on where the series stands."""

    name: str
    times: Integers
    values: Floats
    steps: Integers | None = None


@dataclass(frozen=True, slots=True)
class Origin:
    """The worker that points come from, and its job's step."""

    run_id: bytes
    project_id: bytes
    job_id: bytes
    step: str
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


@dataclass(frozen=True, slots=True)
class Added:
    """What was added to the series of a feed, in order. Up to `upto` nothing is lacking; None: it is everything."""

    parts: list[Points]
    upto: int | None


def has_headline(name: str) -> bool:
    """Whether runs keep a headline value of a metric."""
    return not name.startswith(USAGE)


def extremes(values: Floats) -> Extremes:
    """Where the least and the greatest finite value are, of equal ones the first."""
    low, high = int(values.argmin()), int(values.argmax())  # NaN and infinities are extremes themselves
    if isfinite(values.item(low)) and isfinite(values.item(high)):
        return low, high
    finite = np.flatnonzero(np.isfinite(values))
    if not len(finite):
        return None
    some = values[finite]
    return int(finite[some.argmin()]), int(finite[some.argmax()])


Place = Callable[[int], tuple[str, ...]]
"""Where in what was asked the column of this index is."""


def check(given: Sequence[Column], at: Place = lambda index: (str(index),)) -> None:
    """Raise Invalid unless the columns can be kept: sizes, names, and that no name comes twice."""
    count = sum(len(column.values) for column in given)
    if len(given) > MOST_SERIES or count > MOST_POINTS:
        most = f"a batch has at most {MOST_SERIES:,} series and {MOST_POINTS:,} points"
        raise errors.LimitExceeded(f"{most}: this one has {len(given):,} and {count:,}", path=at(0)[:-1])
    seen: set[str] = set()
    for index, column in enumerate(given):
        refusal = texts.refusal(column.name)
        if refusal or not 1 <= len(column.name) <= 250:
            message = f"a metric's name {refusal or f'has 1 to 250 characters, not {len(column.name):,}'}"
            raise errors.Invalid(message, path=(*at(index), "name"))
        if column.name in seen:
            raise errors.Invalid(f"{column.name!r} comes twice in this batch", path=(*at(index), "name"))
        seen.add(column.name)
        for part, numbers in (("times", column.times), ("steps", column.steps)):
            if numbers is None:
                continue
            if len(numbers) != len(column.values):
                message = f"there are {len(numbers):,} {part} for {len(column.values):,} values"
                raise errors.Invalid(message, path=(*at(index), part))
            if not _exact(numbers):
                raise errors.Invalid(f"{part} must be within ±(2^53−1)", path=(*at(index), part))


def _exact(numbers: Integers) -> bool:
    """Whether every JSON reader keeps these numbers as they are."""
    if len(numbers) == 1:
        return -MAX_INT64 <= numbers.item() <= MAX_INT64
    return not len(numbers) or (int(numbers.min()) >= -MAX_INT64 and int(numbers.max()) <= MAX_INT64)
