"""A run's headline values: what lists filter and sort on.

One row a run and metric: the last, least and greatest finite value, of rank 0, the latest attempt, the job
that reported the metric last. "Last" is at the highest step; of equal steps the one that came last.
"""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from sqlalchemy import BigInteger, Float, ForeignKey, Index, Integer, Text, select
from sqlalchemy.orm import Mapped, mapped_column

from db import columns
from db.columns import Base, Id
from db.database import Session, Transaction
from db.points import Column, Integers, Origin
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


async def update(
    session: Transaction, origin: Origin, given: Sequence[Column], whole: Sequence[Integers]
) -> None:
    """Take a batch into the headline values of its run, whose feed is locked."""
    names = [column.name for column in given]
    statement = select(RunMetric).where(RunMetric.run_id == origin.run_id, RunMetric.name.in_(names))
    before = {row.name: row for row in await session.all(RunMetric, statement)}
    rows = []
    for column, steps in zip(given, whole, strict=True):
        row = _merged(before.get(column.name), origin, column, steps)
        if row is not None:
            rows.append(row)
    if rows:
        upsert = columns.upsert(session.postgresql, RunMetric, ("run_id", "name"))
        await session.execute(upsert, rows)


def _merged(
    before: RunMetric | None, origin: Origin, column: Column, steps: Integers
) -> dict[str, Any] | None:
    """The headline row after these points, None when an earlier attempt may not change it."""
    finite = np.isfinite(column.values)
    values, at = column.values[finite], steps[finite]
    if before is not None and before.job_id == origin.job_id and before.attempt > origin.attempt:
        return None
    same = before if before and (before.job_id, before.attempt) == (origin.job_id, origin.attempt) else None
    row: dict[str, Any] = {
        "run_id": origin.run_id,
        "name": column.name,
        "project_id": origin.project_id,
        "job_id": origin.job_id,
        "attempt": origin.attempt,
        "last": same.last if same else None,
        "last_step": same.last_step if same else int(steps.max()),
        "minimum": same.minimum if same else None,
        "minimum_step": same.minimum_step if same else None,
        "maximum": same.maximum if same else None,
        "maximum_step": same.maximum_step if same else None,
    }
    if not len(values):
        return row
    last = len(at) - 1 - int(np.argmax(at[::-1]))  # of equal steps the one that came last
    if row["last"] is None or at[last] >= row["last_step"]:
        row |= {"last": float(values[last]), "last_step": int(at[last])}
    low, high = int(np.argmin(values)), int(np.argmax(values))
    if row["minimum"] is None or values[low] < row["minimum"]:
        row |= {"minimum": float(values[low]), "minimum_step": int(at[low])}
    if row["maximum"] is None or values[high] > row["maximum"]:
        row |= {"maximum": float(values[high]), "maximum_step": int(at[high])}
    return row


_OF_RUNS = Query(
    select(RunMetric)
    .where(columns.Among(RunMetric.run_id, "runs"))
    .order_by(RunMetric.run_id, RunMetric.name)
)


async def of_runs(session: Session, runs: Collection[bytes], columns: Columns = None) -> list[RunMetric]:
    """The headline values of these runs, by name."""
    return await session.all(RunMetric, _OF_RUNS, {"runs": list(runs)}, columns)
