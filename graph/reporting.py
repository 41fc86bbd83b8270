"""Reporting metrics: columns and single points in.

JSON has no NaN: a null in `values` stands for what `nonFinite` says.
"""

from array import array
from collections.abc import Collection, Mapping
from functools import partial
from typing import Any

import numpy as np
import strawberry
from strawberry.types.arguments import InputContext

from db import columns, errors, points
from db.points import Column, Integers
from db.reporting import Batch
from graph.context import Info
from graph.errors import UserError, refusing
from graph.metrics import NonFiniteKind
from graph.nodes import key
from graph.scalars import Int64

_VALUES = {
    NonFiniteKind.NAN: np.nan,
    NonFiniteKind.POSITIVE_INFINITY: np.inf,
    NonFiniteKind.NEGATIVE_INFINITY: -np.inf,
}


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
        at = partial(_place, input)
        points.check(given, at)
        job_id = context.viewer.job_id if input.job is None else key("job", input.job, "job")
        if job_id is None:
            raise errors.Invalid("say which job, or use a job's token", path=("job",))
        batch = Batch(context.viewer, job_id, input.rank, input.producer, input.number, given, at)
        added = await context.around.ingest.add(batch)
        return LogMetricsPayload(seq=Int64(added.seq), duplicate=added.duplicate)


def _place(given: LogMetricsInput, index: int) -> tuple[str, ...]:
    """Where a column was given: single points come after the series, those of one metric together."""
    if index < len(given.series):
        return "series", str(index)
    names = [point.name for point in given.points]
    first = list(dict.fromkeys(names))[index - len(given.series)]
    return "points", str(names.index(first))


def _log_metrics_input(_kind: type, given: Mapping[str, Any], context: InputContext) -> LogMetricsInput:
    """A batch as graphql-core coerced it; strawberry would copy each column, and ask of each member what it is."""
    series = enumerate(given.get("series") or ())
    return LogMetricsInput(
        producer=given["producer"],
        number=given["number"],
        job=given.get("job"),
        rank=given["rank"],
        points=[PointInput(**one) for one in given.get("points") or ()],
        series=[_series_input(one, context, index) for index, one in series],
    )


def _series_input(given: Mapping[str, Any], context: InputContext, index: int) -> SeriesInput:
    told: Any = given.get("nonFinite")
    if told:
        told = context.convert(told, list[NonFiniteInput], "series", index, "nonFinite")
    return SeriesInput(
        name=given["name"],
        values=given["values"],
        steps=given.get("steps"),
        times=given.get("times"),
        non_finite=told or [],
    )


LogMetricsInput.__strawberry_definition__.from_input = _log_metrics_input  # type: ignore[attr-defined]


def _column(given: SeriesInput, index: int) -> Column:
    values = np.array(given.values, np.float64)
    if given.non_finite or not isinstance(given.values, array):  # an array has numbers alone (variables.py)
        (holes,) = np.nonzero(np.isnan(values))  # JSON has no NaN: these are nulls
        told = {one.index: _VALUES[one.kind] for one in given.non_finite}
        _require_told(holes.tolist(), told, len(values), index)
        for at, value in told.items():
            values[at] = value
    times = _now(len(values)) if given.times is None else np.array(given.times, np.int64)
    steps = None if given.steps is None else np.array(given.steps, np.int64)
    return Column(given.name, times, values, steps)


def _require_told(holes: Collection[int], told: Collection[int], count: int, index: int) -> None:
    """Raise Invalid unless nonFinite tells of each null, and of nothing else."""
    if any(not 0 <= at < count for at in told):
        raise errors.Invalid("is outside of values", path=("series", str(index), "nonFinite"))
    odd = set(holes) ^ set(told)
    if odd:
        rule = "a null needs its entry in nonFinite, and only a null has one"
        raise errors.Invalid(rule, path=("series", str(index), "values", str(min(odd))))


def _columns(points: list[PointInput]) -> list[Column]:
    """Single points, those of one metric together, in the order given."""
    if not points:
        return []
    by_name: dict[str, list[PointInput]] = {}
    for point in points:
        by_name.setdefault(point.name, []).append(point)
    now = columns.microseconds(columns.now())
    return [_gathered(name, group, now) for name, group in by_name.items()]


def _gathered(name: str, group: list[PointInput], now: int) -> Column:
    stepped = [point.step for point in group if point.step is not None]
    if stepped and len(stepped) < len(group):
        raise errors.Invalid(f"{name!r}: give a step to each of its points, or to none", path=("points",))
    times = np.array([now if point.time is None else point.time for point in group], np.int64)
    values = np.array([point.value for point in group], np.float64)
    steps: Integers | None = np.array(stepped, np.int64) if stepped else None
    return Column(name, times, values, steps)


def _now(count: int) -> Integers:
    return np.full(count, columns.microseconds(columns.now()), np.int64)
