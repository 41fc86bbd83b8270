"""Preparations as the API shows them."""

from datetime import datetime

import strawberry

from db import logs, preparations, states
from graph import backends, enums, nodes, paging
from graph.context import Context, Info
from graph.logs import LogLine, connect
from graph.nodes import Node, loads, public
from graph.paging import Connection

enums.show(
    states.PreparationState,
    "How far a version is made ready for a backend.",
    PENDING="The work has not begun.",
    BUILDING="It is being done.",
    READY="Jobs can be launched.",
    FAILED="It cannot be done; `message` tells why.",
)


@strawberry.type(description="A version made ready for a backend: an environment on a host, an image.")
class Preparation(Node):
    """A preparation."""

    row: strawberry.Private[preparations.Preparation]
    state: states.PreparationState = strawberry.field(description="How far it is.")
    message: str | None = strawberry.field(description="Why it failed.")
    started_at: datetime | None = strawberry.field(description="When the work began.")
    ended_at: datetime | None = strawberry.field(description="When it ended.")

    @classmethod
    def of(cls, row: preparations.Preparation) -> "Preparation":
        return cls(
            row=row,
            id=public("preparation", row.id),
            state=row.state,
            message=row.message,
            started_at=row.started_at,
            ended_at=row.ended_at,
        )

    @strawberry.field(description="Where it is made ready.")
    async def backend(self, info: Info) -> backends.Backend:
        found: backends.Backend = await nodes.get(info.context, "backend", self.row.backend_id)
        return found

    @strawberry.field(description="What the work printed, oldest first.")
    async def log(
        self,
        info: Info,
        first: paging.First = None,
        after: paging.After = None,
        last: paging.Last = None,
        before: paging.Before = None,
    ) -> Connection[LogLine]:
        page = paging.page(first, after, last, before, paging.a_line, logs.MOST_A_PAGE)
        async with info.context.database.read() as session:
            return connect(await logs.of_feed(session, self.row.feed_id, page))


@loads("preparation")
async def load_preparations(context: Context, keys: list[bytes]) -> list[Preparation | None]:
    """Preparations by key."""
    async with context.database.read() as session:
        rows = await preparations.find_preparations(session, context.viewer, keys)
    return nodes.by_key(keys, rows, Preparation.of)


async def of_versions(context: Context, keys: list[bytes]) -> list[list[Preparation]]:
    async with context.database.read() as session:
        rows = await preparations.of_versions(session, keys)
    return nodes.by_owner(keys, rows, lambda row: row.version_id, Preparation.of)
