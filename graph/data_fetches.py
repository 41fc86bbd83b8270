"""Fetches of data sources, as the API shows them: how far they are, the file they made, and ending them.

Who follows a fetch is told all of it each time, so there is no cursor: a server looks at the row when a hint comes,
or after a second, for its progress.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Annotated

import strawberry

from db import data_fetches, errors
from db.bus import Wake
from graph import enums, nodes
from graph.context import Context, Info
from graph.errors import UserError, refusing
from graph.files import File
from graph.nodes import Node, key, loads, public
from graph.scalars import Int64

SECONDS = 1.0
"""How late progress is told, which no hint announces."""

enums.show(
    data_fetches.DataFetchState,
    "How far a fetch is.",
    FETCHING="It is being copied.",
    READY="Its file can be used.",
    FAILED="It could not be copied; `message` tells why.",
    CANCELLED="It was ended before it was READY; there is no file.",
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
    ended_at: datetime | None = strawberry.field(description="When it was READY, FAILED or CANCELLED.")

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


@strawberry.input(description="A fetch to end.")
class CancelDataFetchInput:
    """Input of cancelDataFetch."""

    id: strawberry.ID = strawberry.field(description="The fetch.")


@strawberry.type(description="The fetch, or why it was refused.")
class CancelDataFetchPayload:
    """Payload of cancelDataFetch."""

    fetch: DataFetch | None = strawberry.field(default=None, description="CANCELLED, or as it ended before.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="Why it was refused.")


@strawberry.type
class DataFetchMutation:
    """Ending fetches."""

    @strawberry.mutation(description="End a fetch without a file; one that has ended stays as it is.")
    @refusing(CancelDataFetchPayload)
    async def cancel_data_fetch(self, info: Info, input: CancelDataFetchInput) -> CancelDataFetchPayload:
        context, fetch_id = info.context, key("data_fetch", input.id, "id")
        await context.act(data_fetches.cancel, fetch_id)
        return CancelDataFetchPayload(fetch=await context.load(load_fetches, fetch_id))


@strawberry.type
class DataFetchSubscription:
    """Following fetches."""

    @strawberry.subscription(
        description="A fetch as it is now, and again whenever it has changed, until it has ended. Nothing is "
        "replayed, for each event tells all: after a lost connection, subscribe again."
    )
    async def data_fetch(
        self,
        info: Info,
        id: Annotated[strawberry.ID, strawberry.argument(description="The id of the fetch.")],
    ) -> AsyncIterator[DataFetch]:
        context, wanted = info.context, key("data_fetch", id, "id")
        changed = asyncio.Event()

        def hear(_reached: Mapping[int, int], wake: Wake) -> None:
            if wake is Wake.EVERYBODY:
                changed.set()

        silence = context.database.bus.listen(hear)
        try:
            told: tuple[object, ...] = ()
            while True:
                changed.clear()
                found = await _look(context, wanted)
                now = (found.state, found.done_bytes, found.total_bytes)
                if now != told:
                    told = now
                    yield found
                if found.state is not data_fetches.DataFetchState.FETCHING:
                    return
                with suppress(TimeoutError):
                    async with asyncio.timeout(SECONDS):
                        await changed.wait()
        finally:
            silence()


async def _look(context: Context, fetch_id: bytes) -> DataFetch:
    async with context.database.read() as session:
        rows = await data_fetches.find_fetches(session, context.viewer, [fetch_id])
    if not rows:
        raise errors.NotFound("there is no such fetch, or you may not see it", path=("id",))
    return DataFetch.of(rows[0])
