"""Data sources: places outside, made known, changed, and fetched from."""

from datetime import datetime

import strawberry

from db import data_fetches, data_sources
from graph import nodes, paging, users
from graph.context import Context, Info
from graph.data_fetches import DataFetch
from graph.errors import UserError, refusing
from graph.nodes import Node, key, loads, maybe_key, public
from graph.paging import Connection
from graph.scalars import Int64


@strawberry.type(description="A named place outside, by URL.")
class DataSource(Node):
    """A source."""

    row: strawberry.Private[data_sources.DataSource]
    name: str = strawberry.field(description="Unique among its project's sources that are not deleted.")
    url: str = strawberry.field(description="file, http, https, s3, gs or hdfs; without credentials.")
    secret: str | None = strawberry.field(description="The name of the secret that opens it.")
    description: str = strawberry.field(description="What is there, for people.")
    created_at: datetime = strawberry.field(description="When it was made known.")
    deleted_at: datetime | None = strawberry.field(description="When it was taken out of use.")

    @classmethod
    def of(cls, row: data_sources.DataSource) -> "DataSource":
        return cls(
            row=row,
            id=public("data_source", row.id),
            name=row.name,
            url=row.url,
            secret=row.secret,
            description=row.description,
            created_at=row.created_at,
            deleted_at=row.deleted_at,
        )

    @strawberry.field(description="Its project.")
    async def project(self, info: Info) -> users.Project:
        return await users.project(info.context, self.row.project_id)

    @strawberry.field(description="What was fetched from it, newest first.")
    async def fetches(
        self,
        info: Info,
        first: paging.First = None,
        after: paging.After = None,
        last: paging.Last = None,
        before: paging.Before = None,
    ) -> Connection[DataFetch]:
        page = paging.page(first, after, last, before)
        async with info.context.database.read() as session:
            rows = await data_fetches.list_fetches(session, self.row.id, page)
        return paging.connect(rows, lambda row: row.id, DataFetch.of)


@loads("data_source")
async def load_sources(context: Context, keys: list[bytes]) -> list[DataSource | None]:
    """Sources by key."""
    async with context.database.read() as session:
        rows = await data_sources.find_sources(session, context.viewer, keys)
    return nodes.by_key(keys, rows, DataSource.of)


@strawberry.type
class DataSourceQuery:
    """Finding sources and fetches."""

    @strawberry.field(
        description="The data source of this id, or of this name: one of both; null if there is none."
    )
    async def data_source(
        self, info: Info, id: nodes.ById = None, name: nodes.ByName = None
    ) -> DataSource | None:
        return await nodes.by_id_or_name(
            info.context, "data_source", id, name, data_sources.find_named, DataSource.of
        )

    @strawberry.field(description="Data sources that are not deleted, newest first.")
    async def data_sources(
        self,
        info: Info,
        first: paging.First = None,
        after: paging.After = None,
        last: paging.Last = None,
        before: paging.Before = None,
    ) -> Connection[DataSource]:
        page = paging.page(first, after, last, before)
        async with info.context.database.read() as session:
            rows = await data_sources.list_sources(session, info.context.viewer, page)
        return paging.connect(rows, lambda row: row.id, DataSource.of)


@strawberry.input(description="A place to make known.")
class CreateDataSourceInput:
    """Input of createDataSource."""

    name: str = strawberry.field(description="Unique in the project.")
    url: str = strawberry.field(description="file, http, https, s3, gs or hdfs; without credentials.")
    secret: str | None = strawberry.field(default=None, description="The name of the secret that opens it.")
    description: str = strawberry.field(default="", description="For people.")
    project: strawberry.ID | None = strawberry.field(
        default=None, description="The default project when not given."
    )


@strawberry.type(description="The source, or every mistake.")
class CreateDataSourcePayload:
    """Payload of createDataSource."""

    source: DataSource | None = strawberry.field(default=None, description="The source.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="Why it was refused.")


@strawberry.input(description="What to change of a source.")
class UpdateDataSourceInput:
    """Input of updateDataSource."""

    id: strawberry.ID = strawberry.field(description="The source.")
    url: str | None = strawberry.field(default=None, description="Kept when not given.")
    secret: str | None = strawberry.field(default=None, description="Kept when not given; none when empty.")
    description: str | None = strawberry.field(default=None, description="Kept when not given.")


@strawberry.type(description="The source, or every mistake.")
class UpdateDataSourcePayload:
    """Payload of updateDataSource."""

    source: DataSource | None = strawberry.field(default=None, description="The source as it is now.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="Why it was refused.")


@strawberry.input(description="A source to take out of use.")
class DeleteDataSourceInput:
    """Input of deleteDataSource."""

    id: strawberry.ID = strawberry.field(description="The source.")


@strawberry.type(description="The source, or why it was refused.")
class DeleteDataSourcePayload:
    """Payload of deleteDataSource."""

    source: DataSource | None = strawberry.field(default=None, description="The source, deleted.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="Why it was refused.")


@strawberry.input(description="What to fetch.")
class FetchDataSourceInput:
    """Input of fetchDataSource."""

    id: strawberry.ID = strawberry.field(description="The source.")
    name: str | None = strawberry.field(
        default=None, description="The file's name; the last part of the URL when not given."
    )
    limit_bytes: Int64 | None = strawberry.field(
        default=None, description="Refuse more than this; at most what the server takes in uploads."
    )


@strawberry.type(description="The fetch, or why it was refused.")
class FetchDataSourcePayload:
    """Payload of fetchDataSource."""

    fetch: DataFetch | None = strawberry.field(
        default=None, description="FETCHING; the one under way if there is one."
    )
    errors: list[UserError] = strawberry.field(default_factory=list, description="Why it was refused.")


@strawberry.type
class DataSourceMutation:
    """Making sources known and fetching them."""

    @strawberry.mutation(description="Make a place outside known.")
    @refusing(CreateDataSourcePayload)
    async def create_data_source(self, info: Info, input: CreateDataSourceInput) -> CreateDataSourcePayload:
        context = info.context
        project = maybe_key("project", input.project, "project")
        source_id = await context.act(
            data_sources.create,
            input.name,
            input.url,
            secret=input.secret,
            description=input.description,
            project_id=project,
        )
        return CreateDataSourcePayload(source=await context.load(load_sources, source_id))

    @strawberry.mutation(description="Change a source; what was fetched or started keeps what it had.")
    @refusing(UpdateDataSourcePayload)
    async def update_data_source(self, info: Info, input: UpdateDataSourceInput) -> UpdateDataSourcePayload:
        context, source_id = info.context, key("data_source", input.id, "id")
        await context.act(
            data_sources.change, source_id, url=input.url, secret=input.secret, description=input.description
        )
        return UpdateDataSourcePayload(source=await context.load(load_sources, source_id))

    @strawberry.mutation(description="Take a source out of use.")
    @refusing(DeleteDataSourcePayload)
    async def delete_data_source(self, info: Info, input: DeleteDataSourceInput) -> DeleteDataSourcePayload:
        context, source_id = info.context, key("data_source", input.id, "id")
        await context.act(data_sources.delete, source_id)
        return DeleteDataSourcePayload(source=await context.load(load_sources, source_id))

    @strawberry.mutation(
        description="Copy what lies there into a file; follow it with the subscription dataFetch."
    )
    @refusing(FetchDataSourcePayload)
    async def fetch_data_source(self, info: Info, input: FetchDataSourceInput) -> FetchDataSourcePayload:
        context, source_id = info.context, key("data_source", input.id, "id")
        most = context.around.max_upload_bytes
        limit = most if input.limit_bytes is None else min(input.limit_bytes, most)
        fetch_id = await context.act(data_fetches.request, source_id, name=input.name, limit_bytes=limit)
        return FetchDataSourcePayload(fetch=await nodes.get(context, "data_fetch", fetch_id))
