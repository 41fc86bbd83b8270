"""Lists of runs: a filter, an order, a page. What they cost is decided in db/listing.py."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Annotated, Any

import strawberry

from db import filters, listing, paging, sorting
from db.database import Session
from db.filters import Belongs, Condition
from db.rows import Columns
from db.sorting import Sort
from graph import paging as pages
from graph.context import Context, Info
from graph.filters import RunFilter, document, together
from graph.nodes import lists
from graph.paging import After, Before, Connection, First, Last
from graph.runs import Run
from graph.sorting import RunSort
from graph.views import saved


def reading(context: Context, where: Sequence[Condition], sort: Sort) -> AbstractAsyncContextManager[Session]:
    """A session for a page: in the event loop where that is sure to be short."""
    if listing.is_short(where, sort):
        return context.database.single()
    return context.database.scan(seconds=listing.SECONDS)


async def connect(
    context: Context, page: paging.Page, where: Sequence[Condition], sort: Sort, columns: Columns = None
) -> Connection[Run]:
    """A page of runs as a connection."""
    async with reading(context, where, sort) as session:
        rows = await listing.list_runs(session, context.viewer, page, where=where, sort=sort, columns=columns)
    made: Connection[Run] = pages.connect(rows, lambda row: row.id, Run.of)
    return made


@lists("run")
async def list_runs(
    context: Context,
    page: paging.Page,
    pipeline_id: bytes | None = None,
    *,
    parent_id: bytes | None = None,
    columns: Columns = None,
) -> Connection[Run]:
    """A page of runs, newest first: of a pipeline, those not archived; of a parent, all."""
    if parent_id is not None:
        return await connect(context, page, (Belongs("parent", parent_id),), Sort(), columns)
    of = () if pipeline_id is None else (Belongs("pipeline", pipeline_id),)
    return await connect(context, page, (*of, *listing.LIVE), Sort(), columns)


@strawberry.type
class RunListQuery:
    """Listing runs."""

    @strawberry.field(
        description="Runs, newest first unless sorted otherwise; archived ones only when the filter says so. "
        "A view's filter holds beside what is given; its order is the list's unless one is given. "
        "A search ends a page early once it has met enough runs: go on while there is a next page."
    )
    async def runs(
        self,
        info: Info,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
        filter: RunFilter | None = None,
        sort: RunSort | None = None,
        view: Annotated[
            strawberry.ID | None, strawberry.argument(description="The id of a saved view.")
        ] = None,
    ) -> Connection[Run]:
        context = info.context
        context.require_viewer()
        narrowed, ordered = await saved(context, view)
        asked = together(narrowed, document(filter))
        where: Any = filters.parse(asked) if asked else listing.LIVE
        order = sorting.parse(document(sort) or ordered)
        page = pages.page(first, after, last, before, order.key)
        return await connect(context, page, where, order, info.columns)
