"""Metrics: columns out; reporting.py has the way in.

Points leave as numpy arrays (execution.Execution passes them through). JSON has no NaN: in `values` a
null stands for what is not finite, and `nonFinite` says what was there.
"""

from enum import Enum
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated

import numpy as np
import strawberry

from db import errors, headlines, metrics, texts
from db.points import Floats, Points
from db.rows import Columns, including
from graph import nodes
from graph.context import Context, Info
from graph.nodes import found
from graph.scalars import Int64

if TYPE_CHECKING:
    from graph.jobs import Job
    from graph.runs import Run


@strawberry.enum(description="What stands where a value is null.")
class NonFiniteKind(Enum):
    """Floats that JSON does not have."""

    NAN = strawberry.enum_value("NAN", description="Not a number.")
    POSITIVE_INFINITY = strawberry.enum_value("POSITIVE_INFINITY", description="Beyond every number.")
    NEGATIVE_INFINITY = strawberry.enum_value("NEGATIVE_INFINITY", description="Below every number.")


@strawberry.type(description="A value that JSON cannot hold.")
class NonFinite:
    """One of them."""

    index: int = strawberry.field(description="Where in `values`.")
    kind: NonFiniteKind = strawberry.field(description="What it is.")


@strawberry.type(
    description="The points of one metric of one worker of a job's latest attempt, as they came."
)
class Series:
    """A series."""

    points: strawberry.Private[Points]
    attempt: int = strawberry.field(description="The attempt's number.")
    rank: int = strawberry.field(description="The worker's rank.")
    name: str = strawberry.field(description="The metric.")
    count: Int64 = strawberry.field(description="How many points.")
    steps: list[Int64] = strawberry.field(description="In parallel with values.")
    times: list[Int64] = strawberry.field(description="Microseconds since the epoch.")
    values: list[float | None] = strawberry.field(description="Null where nonFinite says what was there.")
    seq: Int64 = strawberry.field(description="The run's feed's number of the last of these points.")

    @classmethod
    def of(cls, points: Points) -> "Series":
        return cls(
            points=points,
            attempt=points.attempt,
            rank=points.rank,
            name=points.name,
            count=Int64(len(points.values)),
            steps=points.steps,  # type: ignore[arg-type]
            times=points.times,  # type: ignore[arg-type]
            values=points.values,  # type: ignore[arg-type]
            seq=Int64(points.seq),
        )

    @strawberry.field(description="What the nulls in values stand for.")
    def non_finite(self) -> list[NonFinite]:
        return non_finite(self.points.values)

    @strawberry.field(description="The run.")
    async def run(self, info: Info) -> Annotated["Run", strawberry.lazy("graph.runs")]:
        found: Run = await nodes.get(info.context, "run", self.points.run_id)
        return found

    @strawberry.field(description="The job.")
    async def job(self, info: Info) -> Annotated["Job", strawberry.lazy("graph.jobs")]:
        found: Job = await nodes.get(info.context, "job", self.points.job_id)
        return found


@strawberry.type(description="What a batch added to one series.")
class PointsOfSeries:
    """Points."""

    points: strawberry.Private[Points]
    name: str = strawberry.field(description="The metric.")
    rank: int = strawberry.field(description="The worker's rank.")
    attempt: int = strawberry.field(description="The attempt's number.")
    steps: list[Int64] = strawberry.field(description="In parallel with values.")
    times: list[Int64] = strawberry.field(description="Microseconds since the epoch.")
    values: list[float | None] = strawberry.field(description="Null where nonFinite says what was there.")

    @classmethod
    def of(cls, points: Points) -> "PointsOfSeries":
        return cls(
            points=points,
            name=points.name,
            rank=points.rank,
            attempt=points.attempt,
            steps=points.steps,  # type: ignore[arg-type]
            times=points.times,  # type: ignore[arg-type]
            values=points.values,  # type: ignore[arg-type]
        )

    @strawberry.field(description="What the nulls in values stand for.")
    def non_finite(self) -> list[NonFinite]:
        return non_finite(self.points.values)


@strawberry.type(
    description="A run's headline value: of rank 0, the latest attempt, the job that reported it last."
)
class RunMetric:
    """A headline value."""

    name: str = strawberry.field(description="The metric.")
    last: float | None = strawberry.field(description="At the highest step; null when never finite.")
    last_step: Int64 = strawberry.field(description="The step of last.")
    minimum: float | None = strawberry.field(name="min", description="The least finite value.")
    minimum_step: Int64 | None = strawberry.field(name="minStep", description="The step of min.")
    maximum: float | None = strawberry.field(name="max", description="The greatest finite value.")
    maximum_step: Int64 | None = strawberry.field(name="maxStep", description="The step of max.")


async def headlines_of(context: Context, keys: list[bytes], columns: Columns = None) -> list[list[RunMetric]]:
    """The headline values of runs, by name: their rows, which have what the type has."""
    async with context.database.single() as session:
        rows = await headlines.of_runs(session, keys, including(columns, "run_id"))
    return nodes.by_owner(keys, rows, attrgetter("run_id"))


def non_finite(values: Floats) -> list[NonFinite]:
    """Where and what a column's values are that JSON cannot hold."""
    (where,) = np.nonzero(~np.isfinite(values))
    return [NonFinite(index=int(index), kind=_kind(values[index])) for index in where]


def _kind(value: float) -> NonFiniteKind:
    if np.isnan(value):
        return NonFiniteKind.NAN
    return NonFiniteKind.POSITIVE_INFINITY if value > 0 else NonFiniteKind.NEGATIVE_INFINITY


@strawberry.type
class MetricQuery:
    """Reading metrics."""

    @strawberry.field(
        description="Metrics of runs, exact, a series a worker; at most 100 runs and 100 names."
    )
    async def series(
        self,
        info: Info,
        runs: Annotated[list[strawberry.ID], strawberry.argument(description="The runs, at most 100.")],
        names: Annotated[list[str], strawberry.argument(description="Of the metrics, at most 100.")],
    ) -> list[Series]:
        if len(runs) > 100 or len(names) > 100:
            raise errors.LimitExceeded("at most 100 runs and 100 names at once")
        wanted = [key for text in runs if (key := found(info.context, "run", text)) is not None]
        storable = [name for name in names if texts.is_storable(name)]
        context = info.context
        async with context.database.scan() as session:
            seen = await metrics.series(session, context.viewer, wanted, storable)
        return [Series.of(points) for points in seen]
