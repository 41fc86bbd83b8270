"""What one job reported: the headline values of its latest attempt, of rank 0.

A run keeps one headline value a name, of the job that reported it last (headlines.py). Where that is this job
it is taken from there; else it is computed from the job's points. A job that took its outputs from another
has the values it took with them.
"""

from collections.abc import Collection
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
from sqlalchemy import bindparam, select

from db import points, summaries
from db.attempts import Attempt, Worker
from db.database import Session
from db.downsampling import Placed
from db.headlines import RunMetric
from db.jobs import Job
from db.metrics import Series


@dataclass(frozen=True, slots=True)
class Reported:
    """A metric's headline values: the last at the highest step, the least, the greatest; None if none is finite."""

    last: float | None
    last_step: int
    minimum: float | None
    minimum_step: int | None
    maximum: float | None
    maximum_step: int | None

    def columns(self) -> dict[str, Any]:
        """As the columns of RunMetric."""
        return {name: getattr(self, name) for name in self.__slots__}

    def encode(self) -> list[Any]:
        """As JSON holds it; `Reported(*encoded)` gives it back."""
        return list(astuple(self))


_TAKEN = select(Job.id, Job.headlines).where(
    Job.id.in_(bindparam("jobs", expanding=True)), Job.headlines.is_not(None)
)
_KEPT = (
    select(RunMetric)
    .join(Job, (Job.id == RunMetric.job_id) & (Job.run_id == RunMetric.run_id))
    .where(Job.id.in_(bindparam("jobs", expanding=True)), RunMetric.attempt == Job.attempts)
)
_SERIES = (
    select(Series.id, Series.job_id, Series.name, Series.thinned)
    .join(Attempt, Attempt.id == Series.attempt_id)
    .join(Job, Job.id == Series.job_id)
    .join(Worker, Worker.id == Series.worker_id)
    .where(
        Series.run_id.in_(bindparam("runs", expanding=True)),
        Series.job_id.in_(bindparam("jobs", expanding=True)),
        Attempt.number == Job.attempts,
        Worker.rank == 0,
    )
)


async def of_jobs(
    session: Session, runs: Collection[bytes], jobs: Collection[bytes], names: Collection[str] | None = None
) -> dict[tuple[bytes, str], Reported]:
    """What these jobs of these runs reported, by job and name; of these names if given."""
    if not jobs:
        return {}
    found: dict[tuple[bytes, str], Reported] = {}
    for row in (await session.execute(_TAKEN, {"jobs": list(jobs)})).all():
        found |= {(row.id, name): Reported(*values) for name, values in row.headlines.items()}
    for kept in await session.all(RunMetric, _KEPT, {"jobs": list(jobs)}):
        found[kept.job_id, kept.name] = Reported(
            kept.last, kept.last_step, kept.minimum, kept.minimum_step, kept.maximum, kept.maximum_step
        )
    for series in (await session.execute(_SERIES, {"runs": list(runs), "jobs": list(jobs)})).all():
        key = (series.job_id, series.name)
        is_wanted = points.has_headline(series.name) and (names is None or series.name in names)
        if key not in found and is_wanted:
            found[key] = _of(await summaries.kept(session, series.id, series.thinned))
    return {key: value for key, value in found.items() if names is None or key[1] in names}


def _of(whole: Placed) -> Reported:
    """What headlines.py would keep of these points."""
    finite = np.isfinite(whole.values)
    steps, values = whole.steps[finite], whole.values[finite]
    if not len(values):
        return Reported(None, int(whole.steps.max()), None, None, None, None)
    last = len(steps) - 1 - int(np.argmax(steps[::-1]))  # of equal steps the one that came last
    low, high = int(np.argmin(values)), int(np.argmax(values))
    return Reported(
        float(values[last]),
        int(steps[last]),
        float(values[low]),
        int(steps[low]),
        float(values[high]),
        int(steps[high]),
    )
