"""A run's headline values: what lists filter and sort on.

One row a run and metric: the last, least and greatest finite value, of rank 0, the latest attempt, the job
that reported the metric last. "Last" is at the highest step; of equal steps the one that came last.
"""

from collections.abc import Collection, Mapping
from math import isfinite
from typing import NamedTuple

import numpy as np
from sqlalchemy import BigInteger, Float, ForeignKey, Index, Integer, Text, select
from sqlalchemy.orm import Mapped, mapped_column

from db import columns
from db.columns import Base, Id
from db.database import Session
from db.points import Extremes, Floats, Integers, Origin
from db.rows import Columns, Query


class RunMetric(Base):
    """A run's headline value of a metric: of rank 0, the latest attempt, the job that reported it last."""

    __tablename__ = "run_metrics"
    __table_args__ = (
        Index("ix_run_metrics_last", "project_id", "name", "last", "run_id"),
        Index("ix_run_metrics_min", "project_id", "name", "minimum", "run_id"),
        Index("ix_run_metrics_max", "project_id", "name", "maximum", "run_id"),
        {"sqlite_with_rowid": False},
    )

    run_id: Mapped[bytes] = mapped_column(Id, ForeignKey("runs.id"), primary_key=True)
    name: Mapped[str] = mapped_column(Text, primary_key=True)
    project_id: Mapped[bytes] = mapped_column(Id, ForeignKey("projects.id"))
    job_id: Mapped[bytes] = mapped_column(Id, ForeignKey("jobs.id"), index=True)
    attempt: Mapped[int] = mapped_column(Integer)
    last: Mapped[float | None] = mapped_column(Float)
    last_step: Mapped[int] = mapped_column(BigInteger)
    minimum: Mapped[float | None] = mapped_column(Float)
    minimum_step: Mapped[int | None] = mapped_column(BigInteger)
    maximum: Mapped[float | None] = mapped_column(Float)
    maximum_step: Mapped[int | None] = mapped_column(BigInteger)


class Headline(NamedTuple):
    """A row of run_metrics."""

    run_id: bytes
    name: str
    project_id: bytes
    job_id: bytes
    attempt: int
    last: float | None
    last_step: int
    minimum: float | None
    minimum_step: int | None
    maximum: float | None
    maximum_step: int | None


class Last(NamedTuple):
    """What changes in a row of run_metrics whose extremes stand."""

    run_id: bytes
    name: str
    last: float | None
    last_step: int


def parted(
    told: Mapping[tuple[bytes, str], Headline], before: Mapping[tuple[bytes, str], Headline]
) -> tuple[list[Headline], list[Last]]:
    """Headlines to be written whole, and what is last of the others: who names a column writes its index."""
    whole: list[Headline] = []
    last: list[Last] = []
    for key, headline in told.items():
        stood = before.get(key)
        if stood is None or headline._replace(last=stood.last, last_step=stood.last_step) != stood:
            whole.append(headline)
        else:
            last.append(Last(*key, headline.last, headline.last_step))
    return whole, last


def merge(
    before: RunMetric | Headline | None,
    origin: Origin,
    name: str,
    values: Floats,
    steps: Integers,
    extremes: Extremes,
) -> Headline | None:
    """The headline after these points, None when an earlier attempt may not change it."""
    if before is not None and before.job_id == origin.job_id and before.attempt > origin.attempt:
        return None
    if before is not None and (before.job_id, before.attempt) == (origin.job_id, origin.attempt):
        last, last_step = before.last, before.last_step
        minimum, minimum_step = before.minimum, before.minimum_step
        maximum, maximum_step = before.maximum, before.maximum_step
    else:
        last, last_step = None, int(steps.max())
        minimum = minimum_step = maximum = maximum_step = None
    if extremes is not None:
        low, high = extremes
        at = _last(values, steps)
        if last is None or steps.item(at) >= last_step:
            last, last_step = values.item(at), steps.item(at)
        if minimum is None or values.item(low) < minimum:
            minimum, minimum_step = values.item(low), steps.item(low)
        if maximum is None or values.item(high) > maximum:
            maximum, maximum_step = values.item(high), steps.item(high)
    return Headline(
        origin.run_id,
        name,
        origin.project_id,
        origin.job_id,
        origin.attempt,
        last,
        last_step,
        minimum,
        minimum_step,
        maximum,
        maximum_step,
    )


def _last(values: Floats, steps: Integers) -> int:
    """Where the last finite value is, of equal steps the one that came last; there is one."""
    end = len(values) - 1
    if isfinite(values.item(end)) and (end == 0 or steps.item(end) == steps.max()):
        return end
    finite = np.flatnonzero(np.isfinite(values))
    return int(finite[len(finite) - 1 - steps[finite][::-1].argmax()])


_OF_RUNS = Query(
    select(RunMetric)
    .where(columns.Among(RunMetric.run_id, "runs"))
    .order_by(RunMetric.run_id, RunMetric.name)
)


async def of_runs(session: Session, runs: Collection[bytes], columns: Columns = None) -> list[RunMetric]:
    """The headline values of these runs, by name."""
    return await session.all(RunMetric, _OF_RUNS, {"runs": list(runs)}, columns)
