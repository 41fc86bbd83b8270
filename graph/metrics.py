"""Metrics: columns out; reporting.py has the way in.

Points leave as numpy arrays (execution.Execution passes them through). JSON has no NaN: in `values` a
null stands for what is not finite, and `nonFinite` says what was there.
"""

from collections.abc import Collection, Iterable
from enum import Enum
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated

import numpy as np
import strawberry
from strawberry.types.nodes import SelectedField, Selection

from db import curves, errors, headlines, job_metrics, texts
from db.curves import Curve
from db.merging import Aggregate
from db.points import Floats, Points
from db.rows import Columns, including
from graph import enums, nodes
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
    description="The points of one metric of one worker of one attempt, in the order they came, or those that stand"
    " for them: of every bucket the least, the greatest, the last, and the first that is no number."
)
class Series:
    """A series."""

    curve: strawberry.Private[Curve]
    points: strawberry.Private[Points]
    relative_to: strawberry.Private[curves.X]
    attempt: int = strawberry.field(description="The attempt's number.")
    rank: int = strawberry.field(description="The worker's rank; the least of several that are put together.")
    ranks: list[int] = strawberry.field(description="The ranks of the workers whose points these are.")
    name: str = strawberry.field(description="The metric.")
    count: Int64 = strawberry.field(description="How many points are here.")
    total: Int64 = strawberry.field(description="How many were measured in the range, which these stand for.")
    bucket: Int64 = strawberry.field(
        description="How many points in a row were looked at together; 1: every point is here."
    )
    truncated: bool = strawberry.field(
        description="Whether the project's retention has left but a few points of the older ones."
    )
    steps: list[Int64] = strawberry.field(description="In parallel with values.")
    times: list[Int64] = strawberry.field(description="Microseconds since the epoch.")
    values: list[float | None] = strawberry.field(description="Null where nonFinite says what was there.")
    seq: Int64 = strawberry.field(
        description="The run's feed's number of the last point of the series: subscribe after it."
    )

    @classmethod
    def of(cls, curve: Curve, x: curves.X) -> "Series":
        points = curve.points
        return cls(
            curve=curve,
            points=points,
            relative_to=x,
            attempt=points.attempt,
            rank=points.rank,
            ranks=list(curve.ranks),
            name=points.name,
            count=Int64(len(points.values)),
            total=Int64(curve.total),
            bucket=Int64(curve.bucket),
            truncated=curve.thinned,
            steps=points.steps,  # type: ignore[arg-type]
            times=points.times,  # type: ignore[arg-type]
            values=points.values,  # type: ignore[arg-type]
            seq=Int64(points.seq),
        )

    @strawberry.field(
        description="What `x` asks for, in parallel with values: steps, or microseconds since the epoch or since the"
        " attempt's start."
    )
    def x(self) -> list[Int64]:
        match self.relative_to:
            case curves.X.STEP:
                found = self.points.steps
            case curves.X.TIME:
                found = self.points.times
            case curves.X.RELATIVE_TIME:
                found = self.points.times - self.curve.origin
        return found  # type: ignore[return-value]

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


@strawberry.type(description="What a batch, or those of a while, added to one series.")
class PointsOfSeries:
    """Points."""

    points: strawberry.Private[Points]
    step: str = strawberry.field(description="The job's step.")
    name: str = strawberry.field(description="The metric.")
    rank: int = strawberry.field(description="The worker's rank.")
    attempt: int = strawberry.field(description="The attempt's number.")
    count: Int64 = strawberry.field(
        description="How many were added: more than are listed where `maxPoints` left some out."
    )
    steps: list[Int64] = strawberry.field(description="In parallel with values.")
    times: list[Int64] = strawberry.field(description="Microseconds since the epoch.")
    values: list[float | None] = strawberry.field(description="Null where nonFinite says what was there.")

    @classmethod
    def of(cls, points: Points, count: int | None = None) -> "PointsOfSeries":
        return cls(
            points=points,
            step=points.step,
            name=points.name,
            rank=points.rank,
            attempt=points.attempt,
            count=Int64(len(points.values) if count is None else count),
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


@strawberry.type(description="A job's own headline value: of rank 0, its latest attempt.")
class JobMetric:
    """A headline value of a job."""

    name: str = strawberry.field(description="The metric.")
    last: float | None = strawberry.field(description="At the highest step; null where that is not finite.")
    last_step: Int64 = strawberry.field(description="The highest step.")
    minimum: float | None = strawberry.field(name="min", description="The least finite value.")
    minimum_step: Int64 | None = strawberry.field(name="minStep", description="The step of min.")
    maximum: float | None = strawberry.field(name="max", description="The greatest finite value.")
    maximum_step: Int64 | None = strawberry.field(name="maxStep", description="The step of max.")

    @classmethod
    def of(cls, found: job_metrics.JobMetric) -> "JobMetric":
        return cls(
            name=found.name,
            last=found.last,
            last_step=Int64(found.last_step),
            minimum=found.minimum,
            minimum_step=_step(found.minimum_step),
            maximum=found.maximum,
            maximum_step=_step(found.maximum_step),
        )


def _step(given: int | None) -> Int64 | None:
    return None if given is None else Int64(given)


async def headlines_of_jobs(context: Context, keys: list[bytes]) -> list[list[JobMetric]]:
    """The headline values of jobs, by name."""
    async with context.database.scan() as session:
        rows = await job_metrics.of_jobs(session, context.viewer, set(keys))
    return nodes.by_owner(keys, rows, attrgetter("job_id"), JobMetric.of)


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


enums.show(
    curves.X,
    "What points are drawn over.",
    name="SeriesX",
    STEP="Steps.",
    TIME="Microseconds since the epoch.",
    RELATIVE_TIME="Microseconds since the attempt's start.",
)
enums.show(
    Aggregate,
    "What is made of the workers' finite values at a step; who has none there is left out.",
    name="WorkerAggregate",
    MEAN="Their mean.",
    MIN="The least.",
    MAX="The greatest.",
    SUM="Their sum.",
)


@strawberry.input(description="A stretch of x, both ends included; one that is not given is open.")
class SeriesRange:
    """A range."""

    first: Int64 | None = strawberry.field(name="from", default=None, description="The least x.")
    last: Int64 | None = strawberry.field(name="to", default=None, description="The greatest x.")


def _asks(selections: Iterable[Selection], names: Collection[str]) -> bool:
    """Whether any field of these names is asked for, however deep in fragments."""
    return any(
        (isinstance(each, SelectedField) and each.name in names) or _asks(each.selections, names)
        for each in selections
    )


@strawberry.type
class MetricQuery:
    """Reading metrics."""

    @strawberry.field(
        description="Metrics of at most 100 runs and 100 names: every point, or at most `maxPoints` a series, in which"
        " the least, the greatest and the last of every bucket are kept. At most 5,000,000 points in all."
    )
    async def series(
        self,
        info: Info,
        runs: Annotated[list[strawberry.ID], strawberry.argument(description="The runs, at most 100.")],
        names: Annotated[list[str], strawberry.argument(description="Of the metrics, at most 100.")],
        x: Annotated[
            curves.X | None,
            strawberry.argument(description="What `range` is of, and `x` of each series; STEP by default."),
        ] = None,
        range: Annotated[
            SeriesRange | None, strawberry.argument(description="Only points of this stretch of x.")
        ] = None,
        max_points: Annotated[
            int | None,
            strawberry.argument(description="Of each series, 4 or more; a series of fewer points is exact."),
        ] = None,
        workers: Annotated[
            list[int] | None, strawberry.argument(description="Only workers of these ranks.")
        ] = None,
        aggregate: Annotated[
            Aggregate | None,
            strawberry.argument(description="Put the workers of an attempt together, step by step."),
        ] = None,
        attempts: Annotated[
            list[int] | None,
            strawberry.argument(description="The attempts of these numbers; each job's latest by default."),
        ] = None,
    ) -> list[Series]:
        if len(runs) > 100 or len(names) > 100:
            raise errors.LimitExceeded("at most 100 runs and 100 names at once")
        context = info.context
        over = x or curves.X.STEP
        wanted = curves.Wanted(
            runs=[key for text in runs if (key := found(context, "run", text)) is not None],
            names=[name for name in names if texts.is_storable(name)],
            x=over,
            first=range.first if range else None,
            last=range.last if range else None,
            most=max_points,
            ranks=None if workers is None else frozenset(workers),
            attempts=None if attempts is None else frozenset(attempts),
            aggregate=aggregate,
            timed=_asks(info.selected_fields, {"times"} if over is curves.X.STEP else {"times", "x"}),
        )
        async with context.database.scan() as session:
            seen = await curves.read(session, context.viewer, wanted)
        return [Series.of(curve, over) for curve in seen]
