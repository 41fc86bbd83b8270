"""Runs side by side."""

from typing import Annotated

import strawberry
from strawberry.scalars import JSON

from db import comparisons
from graph.context import Info
from graph.nodes import key
from graph.runs import Run


@strawberry.type(description="One argument of all runs that are compared.")
class ComparedArgument:
    """A line of arguments."""

    step: str = strawberry.field(description="The step.")
    name: str = strawberry.field(description="The option.")
    differs: bool = strawberry.field(description="Whether not all runs have the same value.")
    values: list[JSON | None] = strawberry.field(description="Parallel to `runs`; null where a run has none.")


@strawberry.type(description="The function that a step was, in all runs that are compared.")
class ComparedFunction:
    """A line of functions."""

    step: str = strawberry.field(description="The step.")
    differs: bool = strawberry.field(description="Whether not all runs had the same version.")
    versions: list[str | None] = strawberry.field(
        description="Parallel to `runs`, as module/function@version; null where a run has no such step."
    )


@strawberry.type(description="One tag of all runs that are compared.")
class ComparedTag:
    """A line of tags."""

    name: str = strawberry.field(description="The tag.")
    differs: bool = strawberry.field(description="Whether not all runs have the same value.")
    values: list[str | None] = strawberry.field(description="Parallel to `runs`; null where a run has none.")


@strawberry.type(description="A headline value of all runs that are compared; lists are parallel to `runs`.")
class ComparedValues:
    """Values of a metric."""

    values: list[float | None] = strawberry.field(description="The values; null where a run has none.")
    deltas: list[float | None] = strawberry.field(description="Less the baseline's; null without one.")
    relative: list[float | None] = strawberry.field(
        description="The delta in parts of the baseline's size; null without one, or where it is 0."
    )


@strawberry.type(description="A metric of all runs that are compared.")
class ComparedMetric:
    """A line of metrics."""

    name: str = strawberry.field(description="The metric.")
    last: ComparedValues = strawberry.field(description="Its last value.")
    min: ComparedValues = strawberry.field(description="Its least value.")
    max: ComparedValues = strawberry.field(description="Its greatest value.")


@strawberry.type(description="Runs side by side.")
class RunComparison:
    """A comparison."""

    row: strawberry.Private[comparisons.Comparison]
    runs: list[Run] = strawberry.field(description="In the order given.")
    baseline: Run | None = strawberry.field(description="What deltas are from.")

    @strawberry.field(description="By step and option; with `differing` only those that differ, or do not.")
    def arguments(
        self,
        differing: Annotated[
            bool | None,
            strawberry.argument(description="Only those that differ, or do not; all when not given."),
        ] = None,
    ) -> list[ComparedArgument]:
        return [
            ComparedArgument(step=line.step, name=line.name, differs=line.differs, values=line.values)
            for line in self.row.arguments
            if differing in (None, line.differs)
        ]

    @strawberry.field(description="By step; with `differing` only those that differ, or do not.")
    def functions(
        self,
        differing: Annotated[
            bool | None,
            strawberry.argument(description="Only those that differ, or do not; all when not given."),
        ] = None,
    ) -> list[ComparedFunction]:
        return [
            ComparedFunction(step=line.step, differs=line.differs, versions=line.values)
            for line in self.row.functions
            if differing in (None, line.differs)
        ]

    @strawberry.field(description="By name; with `differing` only those that differ, or do not.")
    def tags(
        self,
        differing: Annotated[
            bool | None,
            strawberry.argument(description="Only those that differ, or do not; all when not given."),
        ] = None,
    ) -> list[ComparedTag]:
        return [
            ComparedTag(name=line.name, differs=line.differs, values=line.values)
            for line in self.row.tags
            if differing in (None, line.differs)
        ]

    @strawberry.field(description="Headline values, by name; of these names if given.")
    def metrics(
        self,
        names: Annotated[
            list[str] | None, strawberry.argument(description="Only these; all when not given.")
        ] = None,
    ) -> list[ComparedMetric]:
        return [
            ComparedMetric(
                name=line.name, last=_values(line.last), min=_values(line.minimum), max=_values(line.maximum)
            )
            for line in self.row.metrics
            if names is None or line.name in names
        ]


def _values(measured: comparisons.Measured) -> ComparedValues:
    return ComparedValues(values=measured.values, deltas=measured.deltas, relative=measured.relative)


@strawberry.type
class ComparisonQuery:
    """Comparing."""

    @strawberry.field(description="At most 100 runs side by side, with deltas to a baseline among them.")
    async def compare_runs(
        self,
        info: Info,
        ids: Annotated[list[strawberry.ID], strawberry.argument(description="The runs, at most 100.")],
        baseline: Annotated[
            strawberry.ID | None, strawberry.argument(description="The one of them that deltas are from.")
        ] = None,
    ) -> RunComparison:
        context = info.context
        keys = [key("run", text, "ids", str(index)) for index, text in enumerate(ids)]
        base = None if baseline is None else key("run", baseline, "baseline")
        async with context.database.scan(seconds=5) as session:
            found = await comparisons.compare(session, context.viewer, keys, base)
        made = [Run.of(row) for row in found.runs]
        return RunComparison(
            row=found, runs=made, baseline=None if found.baseline is None else made[found.baseline]
        )
