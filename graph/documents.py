"""Pipelines as YAML: exporting, importing, cloning; and deleting them."""

import asyncio

import strawberry

from backends import drawings
from db import documents, errors, pipelines
from graph import nodes
from graph.context import Context, Info
from graph.errors import UserError, refusing
from graph.nodes import key, maybe_key
from graph.pipelines import Pipeline


@strawberry.input(description="A pipeline as YAML.")
class ImportPipelineInput:
    """Input of importPipeline."""

    yaml: str = strawberry.field(
        description="At most 256 KiB: name, description, steps, as `yaml` of one has it."
    )
    name: str | None = strawberry.field(default=None, description="In place of the one in the text.")
    replace: bool = strawberry.field(
        default=False, description="Make a new revision where there is a pipeline of this name."
    )
    project: strawberry.ID | None = strawberry.field(
        default=None, description="The default project when not given."
    )


@strawberry.type(description="The pipeline, or every mistake with its line.")
class ImportPipelinePayload:
    """Payload of importPipeline."""

    pipeline: Pipeline | None = strawberry.field(default=None, description="The pipeline as it is now.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="Why it was refused.")


@strawberry.input(description="Which pipeline to copy, and what the copy is called.")
class ClonePipelineInput:
    """Input of clonePipeline."""

    id: strawberry.ID = strawberry.field(description="The pipeline; it may have been deleted.")
    name: str = strawberry.field(description="The copy's, unique in its project.")
    revision: strawberry.ID | None = strawberry.field(default=None, description="The latest when not given.")
    project: strawberry.ID | None = strawberry.field(default=None, description="The same when not given.")


@strawberry.type(description="The pipeline, or every mistake.")
class ClonePipelinePayload:
    """Payload of clonePipeline."""

    pipeline: Pipeline | None = strawberry.field(default=None, description="The copy.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="Why it was refused.")


@strawberry.input(description="Which pipeline to delete.")
class DeletePipelineInput:
    """Input of deletePipeline."""

    id: strawberry.ID = strawberry.field(description="The pipeline.")


@strawberry.type(description="The pipeline as it was, or why it was refused.")
class DeletePipelinePayload:
    """Payload of deletePipeline."""

    pipeline: Pipeline | None = strawberry.field(default=None, description="With `deletedAt`.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="Why it was refused.")


@strawberry.type
class DocumentMutation:
    """What is done to whole pipelines."""

    @strawberry.mutation(
        description="Make a pipeline of its YAML, or a new revision; mistakes have their lines."
    )
    @refusing(ImportPipelinePayload)
    async def import_pipeline(self, info: Info, input: ImportPipelineInput) -> ImportPipelinePayload:
        context = info.context
        project = maybe_key("project", input.project, "project")
        pipeline_id = await _import(context, input, project)
        return ImportPipelinePayload(pipeline=await nodes.get(context, "pipeline", pipeline_id))

    @strawberry.mutation(description="Make a pipeline with the steps of another.")
    @refusing(ClonePipelinePayload)
    async def clone_pipeline(self, info: Info, input: ClonePipelineInput) -> ClonePipelinePayload:
        context = info.context
        pipeline_id = await context.act(
            pipelines.clone,
            key("pipeline", input.id, "id"),
            input.name,
            revision_id=maybe_key("revision", input.revision, "revision"),
            project_id=maybe_key("project", input.project, "project"),
        )
        return ClonePipelinePayload(pipeline=await nodes.get(context, "pipeline", pipeline_id))

    @strawberry.mutation(
        description="Take a pipeline out of use: its name is free, its runs and revisions stay. "
        "Refused while a run of it has not ended or a schedule uses it."
    )
    @refusing(DeletePipelinePayload)
    async def delete_pipeline(self, info: Info, input: DeletePipelineInput) -> DeletePipelinePayload:
        context = info.context
        pipeline_id = await context.act(pipelines.delete, key("pipeline", input.id, "id"))
        return DeletePipelinePayload(pipeline=await nodes.get(context, "pipeline", pipeline_id))


async def _import(context: Context, input: ImportPipelineInput, project: bytes | None) -> bytes:
    try:
        drawing = await asyncio.to_thread(drawings.read, input.yaml)
    except errors.LimitExceeded as refused:
        raise errors.LimitExceeded(str(refused), path=("yaml",)) from refused
    except errors.Invalid as refused:
        raise errors.Invalid(problems=[_below(problem) for problem in refused.problems]) from refused
    named = drawing.document
    if input.name is not None and isinstance(named, dict):
        named = {**named, "name": input.name}
    document, problems = documents.read(named)
    try:
        return await context.act(
            pipelines.import_, document, replace=input.replace, project_id=project, problems=problems
        )
    except errors.Invalid as refused:
        found = [_below(drawing.located(problem)) for problem in refused.problems]
        raise errors.Invalid(problems=found) from refused


def _below(problem: errors.Problem) -> errors.Problem:
    return errors.Problem(("yaml", *problem.path), problem.message)
