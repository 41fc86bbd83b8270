"""Deleting runs, one or many at once."""

import strawberry

from db import bulk, deletions
from db.errors import DomainError
from graph.context import Context, Info
from graph.errors import UserError, refusing, told
from graph.nodes import key, public


@strawberry.input(description="Which run to delete, with all that hangs below it.")
class DeleteRunInput:
    """Input of deleteRun."""

    id: strawberry.ID = strawberry.field(description="The run; it must have ended.")


@strawberry.type(description="What is gone, or why it was refused.")
class DeleteRunPayload:
    """Payload of deleteRun."""

    id: strawberry.ID | None = strawberry.field(default=None, description="The run that is no more.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="Why it was refused.")


@strawberry.input(description="Which runs to delete; at most 100.")
class DeleteRunsInput:
    """Input of deleteRuns."""

    ids: list[strawberry.ID] = strawberry.field(description="The runs; they must have ended.")


@strawberry.type(description="What became of each.")
class DeleteRunsPayload:
    """Payload of deleteRuns."""

    results: list[DeleteRunPayload] = strawberry.field(
        default_factory=list, description="In the order of the input; a refused one touches no other."
    )
    errors: list[UserError] = strawberry.field(
        default_factory=list, description="Why all of them were refused."
    )


@strawberry.type
class DeletionMutation:
    """Deleting."""

    @strawberry.mutation(
        description="Delete a run that has ended, with its jobs, metrics, logs and the files only it uses."
        " It is gone at once, and its space soon; runs that point at it stay."
    )
    @refusing(DeleteRunPayload)
    async def delete_run(self, info: Info, input: DeleteRunInput) -> DeleteRunPayload:
        run_id = await _delete(info.context, key("run", input.id, "id"))
        return DeleteRunPayload(id=public("run", run_id))

    @strawberry.mutation(description="Delete many runs, each by itself.")
    @refusing(DeleteRunsPayload)
    async def delete_runs(self, info: Info, input: DeleteRunsInput) -> DeleteRunsPayload:
        context = info.context

        async def delete(_: int, text: str) -> bytes:
            return await _delete(context, key("run", text))

        made = await bulk.each(input.ids, "ids", delete)
        results = [
            DeleteRunPayload(errors=told(one, "ids", str(index)))
            if isinstance(one, DomainError)
            else DeleteRunPayload(id=public("run", one))
            for index, one in enumerate(made)
        ]
        return DeleteRunsPayload(results=results)


async def _delete(context: Context, run_id: bytes) -> bytes:
    await context.act(deletions.mark, run_id)
    return run_id
