"""A job's own headline values: last, least and greatest of each metric, of rank 0 and its latest attempt.

headlines.py keeps them of a run, whose jobs may report the same metric; those of a job are read from the picks and
chunks of its series, a few points each, so that storing points costs nothing more.
"""

from collections.abc import Collection
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from sqlalchemy import bindparam, select

from db import curves, downsampling
from db.database import Session
from db.jobs import Job
from db.points import Points, has_headline
from db.viewers import Viewer

MOST = 100
"""Metrics of one job: each is read for itself."""


@dataclass(frozen=True, slots=True)
class JobMetric:
    """Of one metric; `last` is None where that is no finite number, the extremes where there is none."""

    job_id: bytes
    name: str
    last: float | None
    last_step: int
    minimum: float | None
    minimum_step: int | None
    maximum: float | None
    maximum_step: int | None


_At = tuple[float | None, int | None]

_RUNS = select(Job.run_id).where(Job.id.in_(bindparam("jobs", expanding=True))).distinct()


async def of_jobs(session: Session, viewer: Viewer, jobs: Collection[bytes]) -> list[JobMetric]:
    """The first hundred by name of each job."""
    runs = (await session.execute(_RUNS, {"jobs": list(jobs)})).scalars().all()
    wanted = curves.Wanted(runs=runs, names=(), most=downsampling.LEAST, ranks=frozenset({0}))
    found = await curves.find(session, viewer, wanted, every=True)
    mine = [each for each in found if each.job_id in jobs and each.points and has_headline(each.name)]
    chosen = [each for _, of in groupby(mine, lambda each: each.job_id) for each in list(of)[:MOST]]
    drawn = await curves.of_series(session, chosen, wanted)
    return [_headline(curve.points) for curve in drawn]


def _headline(points: Points) -> JobMetric:
    values, steps = points.values, points.steps
    finite = np.flatnonzero(np.isfinite(values))
    last = values.item(-1) if len(finite) and finite[-1] == len(values) - 1 else None
    low: _At = (None, None)
    high: _At = (None, None)
    if len(finite):
        at = int(finite[values[finite].argmin()]), int(finite[values[finite].argmax()])
        low, high = ((values.item(place), steps.item(place)) for place in at)
    return JobMetric(points.job_id, points.name, last, steps.item(-1), *low, *high)
