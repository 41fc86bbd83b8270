"""Fetches of data sources, as the API shows them: how far they are, and the file they made."""

from datetime import datetime

import strawberry

from db import data_fetches
from graph import enums, nodes
from graph.context import Context, Info
from graph.files import File
from graph.nodes import Node, loads, public
from graph.scalars import Int64

enums.show(
    data_fetches.DataFetchState,
    "How far a fetch is.",
    FETCHING="It is being copied.",
    READY="Its file can be used.",
    FAILED="It could not be copied; `message` tells why.",
)


@strawberry.type(description="A copy of what lay at a data source, under way or done.")
class DataFetch(Node):
    """A fetch."""

    row: strawberry.Private[data_fetches.DataFetch]
    state: data_fetches.DataFetchState = strawberry.field(description="How far it is.")
    message: str | None = strawberry.field(description="Why it failed.")
    url: str = strawberry.field(description="Where from, as of when it was asked for.")
    done_bytes: Int64 = strawberry.field(description="How much has arrived.")
    total_bytes: Int64 | None = strawberry.field(description="How much there is, once that is known.")
    created_at: datetime = strawberry.field(description="When it was asked for.")
    ended_at: datetime | None = strawberry.field(description="When it was READY or FAILED.")

    @classmethod
    def of(cls, row: data_fetches.DataFetch) -> "DataFetch":
        return cls(
            row=row,
            id=public("data_fetch", row.id),
            state=row.state,
            message=row.message,
            url=row.url,
            done_bytes=Int64(row.done_bytes),
            total_bytes=None if row.total_bytes is None else Int64(row.total_bytes),
            created_at=row.created_at,
            ended_at=row.ended_at,
        )

    @strawberry.field(description="The file it made; null until it is READY.")
    async def file(self, info: Info) -> File | None:
        found: File | None = await nodes.get(info.context, "file", self.row.file_id)
        return found


@loads("data_fetch")
async def load_fetches(context: Context, keys: list[bytes]) -> list[DataFetch | None]:
    """Fetches by key."""
    async with context.database.read() as session:
        rows = await data_fetches.find_fetches(session, context.viewer, keys)
    return nodes.by_key(keys, rows, DataFetch.of)
