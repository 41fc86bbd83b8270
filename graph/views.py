"""Saved views of the list of runs: kept in the words of RunFilter and RunSort, and used by `runs(view:)`."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import strawberry
from strawberry.scalars import JSON

from db import views
from db.views import RunView as Row
from db.views import ViewSpec
from graph import nodes, paging, users
from graph.context import Context, Info
from graph.errors import UserError, refusing
from graph.filters import RunFilter, document
from graph.nodes import Node, key, loads, maybe_key, public
from graph.paging import Connection
from graph.sorting import RunSort


@strawberry.type(description="A filter, an order and columns of the list of runs, under a name.")
class RunView(Node):
    """A saved view."""

    row: strawberry.Private[Row]
    name: str = strawberry.field(description="Unique among its owner's in the project.")
    shared: bool = strawberry.field(description="Whether everybody of the project sees it.")
    filter: JSON | None = strawberry.field(description="As RunFilter takes it.")
    sort: JSON | None = strawberry.field(description="As RunSort takes it.")
    columns: list[str] = strawberry.field(description="What a page shows, in its own words.")
    created_at: datetime = strawberry.field(description="When it was saved.")
    updated_at: datetime = strawberry.field(description="When it was changed last.")

    @classmethod
    def of(cls, row: Row) -> "RunView":
        return cls(
            row=row,
            id=public("view", row.id),
            name=row.name,
            shared=row.shared,
            filter=row.filter,
            sort=row.sort,
            columns=row.columns,
            created_at=row.created_at,
            updated_at=row.updated_at,
        )

    @strawberry.field(description="Its project.")
    async def project(self, info: Info) -> users.Project:
        return await users.project(info.context, self.row.project_id)

    @strawberry.field(description="Whether the viewer may change it.")
    def mine(self, info: Info) -> bool:
        return info.context.viewer.sees_all or self.row.owner_id == info.context.viewer.user_id


@loads("view")
async def load_views(context: Context, keys: list[bytes]) -> list[RunView | None]:
    """Views by key."""
    async with context.database.read() as session:
        rows = await views.find_views(session, context.viewer, keys)
    return nodes.by_key(keys, rows, RunView.of)


async def saved(
    context: Context, id: str | None
) -> tuple[Mapping[str, Any] | None, Mapping[str, Any] | None]:
    """The filter and the sort of a view; raises NotFound."""
    if id is None:
        return None, None
    view_id = key("view", id, "view")
    async with context.database.read() as session:
        view = await views.get(session, context.viewer, view_id)
    return view.filter, view.sort


@strawberry.type
class ViewQuery:
    """Finding views."""

    @strawberry.field(description="The viewer's own views and the shared ones, newest first.")
    async def run_views(
        self,
        info: Info,
        first: paging.First = None,
        after: paging.After = None,
        last: paging.Last = None,
        before: paging.Before = None,
    ) -> Connection[RunView]:
        page = paging.page(first, after, last, before)
        async with info.context.database.read() as session:
            rows = await views.list_views(session, info.context.viewer, page)
        return paging.connect(rows, lambda row: row.id, RunView.of)


@strawberry.input(description="What to save.")
class CreateRunViewInput:
    """Input of createRunView."""

    name: str = strawberry.field(description="1 to 100 characters.")
    project: strawberry.ID | None = strawberry.field(
        default=None, description="The default one if not given."
    )
    filter: RunFilter | None = strawberry.field(default=None, description="Which runs.")
    sort: RunSort | None = strawberry.field(default=None, description="In which order.")
    columns: list[str] = strawberry.field(default_factory=list, description="At most 50 words of your own.")
    shared: bool = strawberry.field(default=False, description="Whether everybody of the project sees it.")


@strawberry.input(description="What to change on a view; what is not given stays.")
class UpdateRunViewInput:
    """Input of updateRunView."""

    id: strawberry.ID = strawberry.field(description="The view.")
    name: str | None = strawberry.field(default=None, description="1 to 100 characters.")
    filter: RunFilter | None = strawberry.field(default=None, description="Takes the former one's place.")
    sort: RunSort | None = strawberry.field(default=None, description="Takes the former one's place.")
    columns: list[str] | None = strawberry.field(default=None, description="Take the former ones' place.")
    shared: bool | None = strawberry.field(default=None, description="Whether everybody sees it.")


@strawberry.input(description="Which view to delete.")
class DeleteRunViewInput:
    """Input of deleteRunView."""

    id: strawberry.ID = strawberry.field(description="The view.")


@strawberry.type(description="The view, or every mistake.")
class CreateRunViewPayload:
    """Payload of createRunView."""

    view: RunView | None = strawberry.field(default=None, description="The new view.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="Why it was refused.")


@strawberry.type(description="The view, or every mistake.")
class UpdateRunViewPayload:
    """Payload of updateRunView."""

    view: RunView | None = strawberry.field(default=None, description="The view as it is now.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="Why it was refused.")


@strawberry.type(description="What was deleted, or why not.")
class DeleteRunViewPayload:
    """Payload of deleteRunView."""

    id: strawberry.ID | None = strawberry.field(default=None, description="The view that is gone.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="Why it was refused.")


@strawberry.type
class ViewMutation:
    """Saving, changing and deleting views."""

    @strawberry.mutation(description="Save a view.")
    @refusing(CreateRunViewPayload)
    async def create_run_view(self, info: Info, input: CreateRunViewInput) -> CreateRunViewPayload:
        context = info.context
        project = maybe_key("project", input.project, "project")
        spec = ViewSpec(input.name, input.shared, document(input.filter), document(input.sort), input.columns)
        view_id = await context.act(views.create, spec, project)
        return CreateRunViewPayload(view=await context.load(load_views, view_id))

    @strawberry.mutation(description="Change a view of one's own; an administrator changes any.")
    @refusing(UpdateRunViewPayload)
    async def update_run_view(self, info: Info, input: UpdateRunViewInput) -> UpdateRunViewPayload:
        context = info.context
        view_id = key("view", input.id, "id")
        spec = ViewSpec(input.name, input.shared, document(input.filter), document(input.sort), input.columns)
        await context.act(views.change, view_id, spec)
        return UpdateRunViewPayload(view=await context.load(load_views, view_id))

    @strawberry.mutation(description="Delete a view of one's own; an administrator deletes any.")
    @refusing(DeleteRunViewPayload)
    async def delete_run_view(self, info: Info, input: DeleteRunViewInput) -> DeleteRunViewPayload:
        context = info.context
        view_id = key("view", input.id, "id")
        await context.act(views.remove, view_id)
        return DeleteRunViewPayload(id=input.id)
