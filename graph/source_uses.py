"""Data sources that runs were given, as the API shows them: where they were, never what opens them."""

from typing import TYPE_CHECKING, Annotated

import strawberry

from db import source_uses
from graph import nodes
from graph.context import Context, Info

if TYPE_CHECKING:
    from graph.data_sources import DataSource


@strawberry.type(description="A data source that a run's jobs read for themselves.")
class RunSource:
    """A source of a run."""

    row: strawberry.Private[source_uses.RunSource]
    name: str = strawberry.field(description="What the jobs know it by.")
    url: str = strawberry.field(description="As of the start.")
    secret: str | None = strawberry.field(description="The name of the secret that opens it.")

    @classmethod
    def of(cls, row: source_uses.RunSource) -> "RunSource":
        return cls(row=row, name=row.name, url=row.url, secret=row.secret)

    @strawberry.field(description="The source as it is now.")
    async def source(self, info: Info) -> Annotated["DataSource", strawberry.lazy("graph.data_sources")]:
        found: DataSource = await nodes.get(info.context, "data_source", self.row.source_id)
        return found


async def of_runs(context: Context, keys: list[bytes]) -> list[list[RunSource]]:
    """What runs were given, by run."""
    async with context.database.read() as session:
        rows = await source_uses.of_runs(session, keys)
    return nodes.by_owner(keys, rows, lambda row: row.run_id, RunSource.of)
