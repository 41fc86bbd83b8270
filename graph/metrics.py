"""Metrics: columns in, columns out.

Points leave as numpy arrays (execution.Execution passes them through). JSON has no NaN: in `values` a
null stands for what is not finite, and `nonFinite` says what was there.
"""

from enum import Enum
from typing import TYPE_CHECKING, Annotated

import numpy as np
import strawberry

from db import columns, errors, headlines, metrics, points, reporting, texts
from db.points import Column, Floats, Integers, Points
from graph import nodes
from graph.context import Context, Info
from graph.errors import UserError, refusing
from graph.nodes import found, key
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


_VALUES = {
    NonFiniteKind.NAN: np.nan,
    NonFiniteKind.POSITIVE_INFINITY: np.inf,
    NonFiniteKind.NEGATIVE_INFINITY: -np.inf,
}


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


async def headlines_of(context: Context, keys: list[bytes]) -> list[list[RunMetric]]:
    """The headline values of runs, by name: their rows, which have what the type has."""
    async with context.database.single() as session:
        rows = await headlines.of_runs(session, keys)
    return nodes.by_owner(keys, rows, lambda row: row.run_id)


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


@strawberry.input(description="One point.")
class PointInput:
    """A point."""

    name: str = strawberry.field(description="The metric.")
    value: float = strawberry.field(description="Finite; others go by series with nonFinite.")
    step: Int64 | None = strawberry.field(default=None, description="The next one when not given.")
    time: Int64 | None = strawberry.field(
        default=None, description="Microseconds since the epoch; now when not given."
    )


@strawberry.input(description="A value that JSON cannot hold.")
class NonFiniteInput:
    """One of them."""

    index: int = strawberry.field(description="Where in `values`, which has null there.")
    kind: NonFiniteKind = strawberry.field(description="What it is.")


@strawberry.input(description="Points of one metric, in parallel lists.")
class SeriesInput:
    """A column."""

    name: str = strawberry.field(description="The metric.")
    values: list[float | None] = strawberry.field(description="Null where nonFinite says what it is.")
    steps: list[Int64] | None = strawberry.field(default=None, description="The next ones when not given.")
    times: list[Int64] | None = strawberry.field(
        default=None, description="Microseconds since the epoch; now when not given."
    )
    non_finite: list[NonFiniteInput] = strawberry.field(
        default_factory=list, description="What the nulls are."
    )


@strawberry.input(description="A batch of points. A repeat of (producer, number) changes nothing.")
class LogMetricsInput:
    """Input of logMetrics."""

    producer: str = strawberry.field(description="Who sends, for example a random word a process.")
    number: Int64 = strawberry.field(description="Grows with every batch of the producer.")
    job: strawberry.ID | None = strawberry.field(
        default=None, description="The token's own job when not given."
    )
    rank: int = strawberry.field(default=0, description="The worker's rank.")
    points: list[PointInput] = strawberry.field(default_factory=list, description="Single points.")
    series: list[SeriesInput] = strawberry.field(default_factory=list, description="Columns.")


@strawberry.type(description="Where the batch stands, or why it was refused.")
class LogMetricsPayload:
    """Payload of logMetrics."""

    seq: Int64 | None = strawberry.field(default=None, description="The number in the run's feed.")
    duplicate: bool = strawberry.field(default=False, description="Whether it had been committed before.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="Why it was refused.")


@strawberry.type
class MetricMutation:
    """Reporting metrics."""

    @strawberry.mutation(description="Add points to a running job; answered once they are committed.")
    @refusing(LogMetricsPayload)
    async def log_metrics(self, info: Info, input: LogMetricsInput) -> LogMetricsPayload:
        context = info.context
        given = [_column(one, index) for index, one in enumerate(input.series)] + _columns(input.points)
        points.check(given, ("series",))
        job_id = context.viewer.job_id if input.job is None else key("job", input.job, "job")
        if job_id is None:
            raise errors.Invalid("say which job, or use a job's token", path=("job",))
        async with context.database.begin() as session:
            seq, duplicate = await reporting.log(
                session,
                context.viewer,
                job_id,
                input.rank,
                input.producer,
                input.number,
                given,
            )
        return LogMetricsPayload(seq=Int64(seq), duplicate=duplicate)


def _column(given: SeriesInput, index: int) -> Column:
    told = {one.index: _VALUES[one.kind] for one in given.non_finite}
    for at, value in enumerate(given.values):
        if (value is None) is not (at in told):
            rule = "a null needs its entry in nonFinite, and only a null has one"
            raise errors.Invalid(rule, path=("series", str(index), "values", str(at)))
    if any(not 0 <= at < len(given.values) for at in told):
        raise errors.Invalid("is outside of values", path=("series", str(index), "nonFinite"))
    values = np.array([told[at] if v is None else v for at, v in enumerate(given.values)], np.float64)
    times = _now(len(values)) if given.times is None else np.array(given.times, np.int64)
    steps = None if given.steps is None else np.array(given.steps, np.int64)
    return Column(given.name, times, values, steps)


def _columns(points: list[PointInput]) -> list[Column]:
    """Single points, those of one metric together, in the order given."""
    by_name: dict[str, list[PointInput]] = {}
    for point in points:
        by_name.setdefault(point.name, []).append(point)
    return [_gathered(name, group) for name, group in by_name.items()]


def _gathered(name: str, group: list[PointInput]) -> Column:
    stepped = [point.step for point in group if point.step is not None]
    if stepped and len(stepped) < len(group):
        raise errors.Invalid(f"{name!r}: give a step to each of its points, or to none", path=("points",))
    now = columns.microseconds(columns.now())
    times = np.array([now if point.time is None else point.time for point in group], np.int64)
    values = np.array([point.value for point in group], np.float64)
    steps: Integers | None = np.array(stepped, np.int64) if stepped else None
    return Column(name, times, values, steps)


def _now(count: int) -> Integers:
    return np.full(count, columns.microseconds(columns.now()), np.int64)
