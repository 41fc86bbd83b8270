"""How many runs there are of each kind."""

from datetime import date
from enum import Enum
from typing import Annotated

import strawberry

from db import aggregates, filters, states
from graph import nodes
from graph.context import Info
from graph.filters import RunFilter, document
from graph.pipelines import Pipeline


@strawberry.enum(description="What runs are counted by.")
class RunGrouping(Enum):
    """Groupings."""

    STATE = strawberry.enum_value("STATE", description="Each state.")
    DAY = strawberry.enum_value("DAY", description="The days (UTC) they were asked for, the latest first.")
    PIPELINE = strawberry.enum_value("PIPELINE", description="The newest 100 pipelines.")


@strawberry.type(description="A number of runs.")
class RunCount:
    """A count."""

    count: int = strawberry.field(description="So many; where it is capped, at least so many.")
    capped: bool = strawberry.field(description="Whether counting stopped at a limit.")


@strawberry.type(description="The runs of one kind.")
class RunGroup(RunCount):
    """A group."""

    pipeline_key: strawberry.Private[bytes | None] = None
    state: states.RunState | None = strawberry.field(default=None, description="By STATE: the state.")
    day: date | None = strawberry.field(default=None, description="By DAY: the day.")

    @strawberry.field(description="By PIPELINE: the pipeline.")
    async def pipeline(self, info: Info) -> Pipeline | None:
        found: Pipeline | None = await nodes.get(info.context, "pipeline", self.pipeline_key)
        return found


@strawberry.type(description="How many runs there are.")
class RunCounts:
    """Counts."""

    total: RunCount = strawberry.field(description="Of all kinds.")
    groups: list[RunGroup] = strawberry.field(description="Of each kind.")


@strawberry.type
class AggregateQuery:
    """Counting."""

    @strawberry.field(
        description="How many runs satisfy a filter, of each kind: exact where they are few, "
        "else at least so many. Archived ones only when the filter says so."
    )
    async def run_counts(
        self,
        info: Info,
        by: RunGrouping,
        filter: RunFilter | None = None,
        days: Annotated[int, strawberry.argument(description="Of DAY: so many days back.")] = 30,
    ) -> RunCounts:
        context = info.context
        context.require_viewer()
        where = filters.parse(document(filter))
        async with context.database.scan(seconds=5) as session:
            total = await aggregates.count(session, context.viewer, where)
            found = await aggregates.groups(session, context.viewer, where, by.name, days=days)
        groups = [
            RunGroup(
                count=group.count,
                capped=group.capped,
                state=group.key if isinstance(group.key, states.RunState) else None,
                day=group.key.date() if by is RunGrouping.DAY else None,
                pipeline_key=group.key if by is RunGrouping.PIPELINE else None,
            )
            for group in found
        ]
        return RunCounts(total=RunCount(count=total.count, capped=total.capped), groups=groups)
