"""Series of several workers put together, step by step. Pure.

At each step that any worker has: the mean, least, greatest or sum of what the workers have there that is finite. A
worker without that step is left out of it. Of several points of one worker at one step the last one counts. The time
is that of the last to come. Where no worker has a number at a step, there is none in the result either: NaN.
"""

import enum
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from db.downsampling import NOTHING, Placed
from db.points import Integers, Points


class Aggregate(enum.Enum):
    """What is made of the workers' values at a step."""

    MEAN = "MEAN"
    MIN = "MIN"
    MAX = "MAX"
    SUM = "SUM"


class Measured(Protocol):
    """A series as far as it is told apart here."""

    @property
    def run_id(self) -> bytes: ...
    @property
    def job_id(self) -> bytes: ...
    @property
    def name(self) -> str: ...
    @property
    def attempt(self) -> int: ...


def key(of: Measured) -> tuple[bytes, bytes, str, int]:
    """What series have in common that are put together."""
    return of.run_id, of.job_id, of.name, of.attempt


def merge(given: Sequence[Points], by: Aggregate) -> Placed:
    """One series of the workers', in the order of its steps; its positions count the steps."""
    if not given:
        return NOTHING
    kept = [_last_of_steps(points.steps) for points in given]
    steps = np.concatenate([points.steps[at] for points, at in zip(given, kept, strict=True)])
    times = np.concatenate([points.times[at] for points, at in zip(given, kept, strict=True)])
    values = np.concatenate([points.values[at] for points, at in zip(given, kept, strict=True)])
    if not len(steps):
        return NOTHING
    order = np.argsort(steps, kind="stable")
    steps, times, values = steps[order], times[order], values[order]
    starts = np.flatnonzero(np.concatenate(([True], steps[1:] != steps[:-1])))
    finite = np.isfinite(values)
    has = np.add.reduceat(finite.astype(np.int64), starts)
    made = _reduced(values, finite, starts, by)
    if by is Aggregate.MEAN:
        made = made / np.maximum(has, 1)
    made = np.where(has > 0, made, np.nan)
    return Placed(np.arange(len(starts)), steps[starts], np.maximum.reduceat(times, starts), made)


def _reduced(values: np.ndarray, finite: np.ndarray, starts: Integers, by: Aggregate) -> np.ndarray:
    found: np.ndarray
    match by:
        case Aggregate.MIN:
            found = np.minimum.reduceat(np.where(finite, values, np.inf), starts)
        case Aggregate.MAX:
            found = np.maximum.reduceat(np.where(finite, values, -np.inf), starts)
        case _:
            found = np.add.reduceat(np.where(finite, values, 0.0), starts)
    return found


def _last_of_steps(steps: Integers) -> Integers:
    """The indices of the last point of each step."""
    _, first = np.unique(steps[::-1], return_index=True)
    found: Integers = len(steps) - 1 - first
    return found
