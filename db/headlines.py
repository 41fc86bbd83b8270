"""A run's headline values: what lists filter and sort on.

One row a run and metric: the last, least and greatest finite value, of rank 0, the latest attempt, the job
that reported the metric last. "Last" is at the highest step; of equal steps the one that came last.
"""

from collections.abc import Collection
from math import isfinite
from typing import NamedTuple

import numpy as np
from sqlalchemy import BigInteger, Float, ForeignKey, Index, Integer, Text, select
from sqlalchemy.orm import Mapped, mapped_column

from db import columns
from db.columns import Base, Id
from db.database import Session
from db.points import Column, Floats, Integers, Origin
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


def merge(
    before: RunMetric | Headline | None, origin: Origin, column: Column, steps: Integers
) -> Headline | None:
    """The headline after these points, None when an earlier attempt may not change it."""
    if before is not None and before.job_id == origin.job_id and before.attempt > origin.attempt:
        return None
    same = before if before and (before.job_id, before.attempt) == (origin.job_id, origin.attempt) else None
    told = _extremes(column.values, steps)
    last, minimum, maximum = (
        ((same.last, same.last_step), (same.minimum, same.minimum_step), (same.maximum, same.maximum_step))
        if same
        else ((None, int(steps.max())), (None, None), (None, None))
    )
    if told is not None:
        (value, step), low, high = told
        if last[0] is None or step >= last[1]:
            last = (value, step)
        if minimum[0] is None or low[0] < minimum[0]:
            minimum = low
        if maximum[0] is None or high[0] > maximum[0]:
            maximum = high
    return Headline(
        origin.run_id,
        column.name,
        origin.project_id,
        origin.job_id,
        origin.attempt,
        *last,
        *minimum,
        *maximum,
    )


_At = tuple[float, int]


def _extremes(values: Floats, steps: Integers) -> tuple[_At, _At, _At] | None:
    """The last, least and greatest finite value of a batch with their steps; None if there is none."""
    if len(values) == 1:
        only = values.item(), steps.item()
        return (only, only, only) if isfinite(only[0]) else None
    finite = np.isfinite(values)
    if not finite.all():
        values, steps = values[finite], steps[finite]
        if not len(values):
            return None
    last = len(steps) - 1 - int(steps[::-1].argmax())  # of equal steps the one that came last
    low, high = int(values.argmin()), int(values.argmax())
    return tuple((values.item(at), steps.item(at)) for at in (last, low, high))  # type: ignore[return-value]


_OF_RUNS = Query(
    select(RunMetric)
    .where(columns.Among(RunMetric.run_id, "runs"))
    .order_by(RunMetric.run_id, RunMetric.name)
)


async def of_runs(session: Session, runs: Collection[bytes], columns: Columns = None) -> list[RunMetric]:
    """The headline values of these runs, by name."""
    return await session.all(RunMetric, _OF_RUNS, {"runs": list(runs)}, columns)
