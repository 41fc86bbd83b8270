"""Points of metrics as they go in and out: columns in parallel, and the rules they keep. Pure."""

from collections.abc import Sequence
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


def check(given: Sequence[Column], path: Sequence[str] = ()) -> None:
    """Raise Invalid unless the columns can be kept: sizes, names, and that no name comes twice."""
    if len(given) > MOST_SERIES or sum(len(column.values) for column in given) > MOST_POINTS:
        raise errors.LimitExceeded(
            f"a batch has at most {MOST_SERIES} series and {MOST_POINTS} points", path=path
        )
    seen: set[str] = set()
    for index, column in enumerate(given):
        at = (*path, str(index))
        if not 1 <= len(column.name) <= 250 or texts.refusal(column.name):
            raise errors.Invalid("a metric's name has 1 to 250 characters", path=(*at, "name"))
        if column.name in seen:
            raise errors.Invalid(f"{column.name!r} comes twice in this batch", path=(*at, "name"))
        seen.add(column.name)
        if len(column.times) != len(column.values):
            raise errors.Invalid("times and values differ in length", path=(*at, "times"))
        if column.steps is not None and len(column.steps) != len(column.values):
            raise errors.Invalid("steps and values differ in length", path=(*at, "steps"))
        for part, numbers in (("times", column.times), ("steps", column.steps)):
            if numbers is not None and not _exact(numbers):
                raise errors.Invalid(f"{part} must be within ±(2^53−1)", path=(*at, part))


def _exact(numbers: Integers) -> bool:
    """Whether every JSON reader keeps these numbers as they are."""
    if len(numbers) == 1:
        return -MAX_INT64 <= numbers.item() <= MAX_INT64
    return not len(numbers) or (int(numbers.min()) >= -MAX_INT64 and int(numbers.max()) <= MAX_INT64)
