"""Editing runs: name, notes, tags, archived."""

import strawberry

from db import edits
from graph.context import Info
from graph.errors import UserError, refusing
from graph.filters import TagInput
from graph.nodes import key
from graph.runs import Run, load_runs


@strawberry.input(description="How a run's tags change; those that are not named stay.")
class TagsInput:
    """A change of tags."""

    set: list[TagInput] = strawberry.field(default_factory=list, description="Added, or given another value.")
    remove: list[str] = strawberry.field(default_factory=list, description="Taken away, if they are there.")
    replace: list[TagInput] | None = strawberry.field(
        default=None, description="Take the place of all tags, before set and remove."
    )


@strawberry.input(description="What to change on a run; what is not given stays.")
class UpdateRunInput:
    """Input of updateRun."""

    id: strawberry.ID = strawberry.field(description="The run.")
    name: str | None = strawberry.field(default=None, description="1 to 200 characters.")
    notes: str | None = strawberry.field(default=None, description="Up to 100,000 characters.")
    tags: TagsInput | None = strawberry.field(default=None, description="A run has at most 100.")
    archived: bool | None = strawberry.field(
        default=None, description="Whether lists leave it out unless asked."
    )
    edition: int | None = strawberry.field(
        default=None, description="The edition this was made from: CONFLICT if there is a newer one."
    )


@strawberry.type(description="The run, or why it was refused.")
class UpdateRunPayload:
    """Payload of updateRun."""

    run: Run | None = strawberry.field(default=None, description="As it is now.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="Why it was refused.")


@strawberry.type
class EditMutation:
    """Editing."""

    @strawberry.mutation(description="Change what is written on a run; whoever follows it is told.")
    @refusing(UpdateRunPayload)
    async def update_run(self, info: Info, input: UpdateRunInput) -> UpdateRunPayload:
        context = info.context
        run_id = key("run", input.id, "id")
        tags = input.tags or TagsInput()
        edit = edits.Edit(
            name=input.name,
            notes=input.notes,
            archived=input.archived,
            tags_replaced=None if tags.replace is None else [(tag.name, tag.value) for tag in tags.replace],
            tags_set=[(tag.name, tag.value) for tag in tags.set],
            tags_removed=tags.remove,
            edition=input.edition,
        )
        await context.act(edits.edit, run_id, edit)
        return UpdateRunPayload(run=await context.load(load_runs, run_id))
