"""Pipelines, their revisions and steps: creating, changing, listing."""

import asyncio
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import strawberry

from backends import drawings
from db import documents, pipelines
from graph import nodes, paging, users
from graph.context import Context, Info
from graph.errors import UserError, refusing
from graph.nodes import Node, key, loads, maybe_key, public
from graph.paging import Connection
from graph.steps import Step, StepInput, of_revision, specs

if TYPE_CHECKING:
    from graph.runs import Run


@strawberry.type(description="One immutable state of a pipeline.")
class PipelineRevision(Node):
    """A revision."""

    row: strawberry.Private[pipelines.Revision]
    number: int = strawberry.field(description="From 1.")
    created_at: datetime = strawberry.field(description="When it was made.")

    @classmethod
    def of(cls, row: pipelines.Revision) -> "PipelineRevision":
        return cls(row=row, id=public("revision", row.id), number=row.number, created_at=row.created_at)

    @strawberry.field(description="The pipeline.")
    async def pipeline(self, info: Info) -> "Pipeline":
        found: Pipeline = await nodes.get(info.context, "pipeline", self.row.pipeline_id)
        return found

    @strawberry.field(description="In an order in which everything needed comes first.")
    async def steps(self, info: Info) -> list[Step]:
        return await info.context.load(of_revision, self.row.id)

    @strawberry.field(description="The pipeline with these steps as YAML, as importPipeline takes it.")
    async def yaml(self, info: Info) -> str:
        return await info.context.load(_yaml_of, self.row.id)


@strawberry.type(description="A named graph of steps.")
class Pipeline(Node):
    """A pipeline."""

    row: strawberry.Private[pipelines.Pipeline]
    name: str = strawberry.field(description="Unique in its project.")
    description: str = strawberry.field(description="What it is for.")
    created_at: datetime = strawberry.field(description="When it was made.")
    deleted_at: datetime | None = strawberry.field(
        description="When it was deleted: it is in no list, has no runs to come, and its name is free."
    )

    @classmethod
    def of(cls, row: pipelines.Pipeline) -> "Pipeline":
        return cls(
            row=row,
            id=public("pipeline", row.id),
            name=row.name,
            description=row.description,
            created_at=row.created_at,
            deleted_at=row.deleted_at,
        )

    @strawberry.field(description="Its project.")
    async def project(self, info: Info) -> users.Project:
        return await users.project(info.context, self.row.project_id)

    @strawberry.field(description="The latest revision: what a new run executes.")
    async def revision(self, info: Info) -> PipelineRevision:
        return await info.context.load(_latest_revision, self.row.id)

    @strawberry.field(description="All revisions, newest first.")
    async def revisions(
        self,
        info: Info,
        first: paging.First = None,
        after: paging.After = None,
        last: paging.Last = None,
        before: paging.Before = None,
    ) -> Connection[PipelineRevision]:
        page = paging.page(first, after, last, before, paging.a_number)
        async with info.context.database.read() as session:
            rows = await pipelines.list_revisions(session, self.row.id, page)
        return paging.connect(rows, lambda row: row.number, PipelineRevision.of)

    @strawberry.field(description="Its runs, newest first.")
    async def runs(
        self,
        info: Info,
        first: paging.First = None,
        after: paging.After = None,
        last: paging.Last = None,
        before: paging.Before = None,
    ) -> Connection[Annotated["Run", strawberry.lazy("graph.runs")]]:
        page = paging.page(first, after, last, before)
        found: Connection[Run] = await nodes.listing("run")(
            info.context, page, self.row.id, columns=info.columns
        )
        return found


@loads("pipeline")
async def load_pipelines(context: Context, keys: list[bytes]) -> list[Pipeline | None]:
    """Pipelines by key."""
    async with context.database.read() as session:
        rows = await pipelines.find_pipelines(session, context.viewer, keys)
    return nodes.by_key(keys, rows, Pipeline.of)


@loads("revision")
async def load_revisions(context: Context, keys: list[bytes]) -> list[PipelineRevision | None]:
    """Revisions by key."""
    async with context.database.read() as session:
        rows = await pipelines.find_revisions(session, context.viewer, keys)
    return nodes.by_key(keys, rows, PipelineRevision.of)


async def _latest_revision(context: Context, keys: list[bytes]) -> list[PipelineRevision]:
    async with context.database.read() as session:
        rows = await pipelines.latest_revisions(session, keys)
    by_key = {row.pipeline_id: PipelineRevision.of(row) for row in rows}
    return [by_key[key] for key in keys]


async def _yaml_of(context: Context, keys: list[bytes]) -> list[str]:
    async with context.database.read() as session:
        found = {key: await pipelines.export(session, context.viewer, key) for key in dict.fromkeys(keys)}
    return [await asyncio.to_thread(drawings.write, documents.write(found[key])) for key in keys]


@strawberry.type
class PipelineQuery:
    """Finding pipelines."""

    @strawberry.field(
        description="The pipeline of this id, or of this name: one of both; null if there is none."
    )
    async def pipeline(self, info: Info, id: nodes.ById = None, name: nodes.ByName = None) -> Pipeline | None:
        return await nodes.by_id_or_name(
            info.context, "pipeline", id, name, pipelines.find_pipeline, Pipeline.of
        )

    @strawberry.field(description="Pipelines, newest first.")
    async def pipelines(
        self,
        info: Info,
        first: paging.First = None,
        after: paging.After = None,
        last: paging.Last = None,
        before: paging.Before = None,
    ) -> Connection[Pipeline]:
        page = paging.page(first, after, last, before)
        async with info.context.database.read() as session:
            rows = await pipelines.list_pipelines(session, info.context.viewer, page)
        return paging.connect(rows, lambda row: row.id, Pipeline.of)


@strawberry.input(description="A pipeline to be.")
class CreatePipelineInput:
    """Input of createPipeline."""

    name: str = strawberry.field(description="Unique in the project.")
    steps: list[StepInput] = strawberry.field(description="At least one; in order, unless they say `needs`.")
    description: str = strawberry.field(default="", description="What it is for.")
    project: strawberry.ID | None = strawberry.field(
        default=None, description="The default project when not given."
    )


@strawberry.type(description="The pipeline, or every mistake.")
class CreatePipelinePayload:
    """Payload of createPipeline."""

    pipeline: Pipeline | None = strawberry.field(default=None, description="The new pipeline.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="Why it was refused.")


@strawberry.input(description="What to change; what is not given stays.")
class UpdatePipelineInput:
    """Input of updatePipeline."""

    id: strawberry.ID = strawberry.field(description="The pipeline.")
    name: str | None = strawberry.field(default=None, description="A new name.")
    description: str | None = strawberry.field(default=None, description="A new description.")
    steps: list[StepInput] | None = strawberry.field(default=None, description="All steps of a new revision.")


@strawberry.type(description="The pipeline, or every mistake.")
class UpdatePipelinePayload:
    """Payload of updatePipeline."""

    pipeline: Pipeline | None = strawberry.field(default=None, description="The pipeline as it is now.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="Why it was refused.")


@strawberry.type
class PipelineMutation:
    """Making and changing pipelines."""

    @strawberry.mutation(description="Make a pipeline; every mistake is told with its path.")
    @refusing(CreatePipelinePayload)
    async def create_pipeline(self, info: Info, input: CreatePipelineInput) -> CreatePipelinePayload:
        context = info.context
        project = maybe_key("project", input.project, "project")
        pipeline_id = await context.act(
            pipelines.create,
            input.name,
            specs(input.steps),
            description=input.description,
            project_id=project,
        )
        return CreatePipelinePayload(pipeline=await nodes.get(context, "pipeline", pipeline_id))

    @strawberry.mutation(
        description="Change a pipeline; new steps make a new revision, old runs keep theirs."
    )
    @refusing(UpdatePipelinePayload)
    async def update_pipeline(self, info: Info, input: UpdatePipelineInput) -> UpdatePipelinePayload:
        context = info.context
        pipeline_id = key("pipeline", input.id, "id")
        await context.act(
            pipelines.revise,
            pipeline_id,
            name=input.name,
            description=input.description,
            steps=None if input.steps is None else specs(input.steps),
        )
        return UpdatePipelinePayload(pipeline=await nodes.get(context, "pipeline", pipeline_id))
