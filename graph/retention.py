"""Retention: for how many days a project keeps what its ended runs measured and printed."""

import strawberry

from db import retention
from graph import users
from graph.context import Info
from graph.errors import UserError, refusing
from graph.nodes import maybe_key


@strawberry.input(description="For how many days to keep what ended runs measured and printed: 1 or more.")
class SetRetentionInput:
    """Input of setRetention."""

    project: strawberry.ID | None = strawberry.field(
        default=None, description="The default project when not given."
    )
    metrics_days: int | None = strawberry.field(
        default=strawberry.UNSET,
        description="Then a few points stand for every 64: the least, the greatest, the last. Null: for ever.",
    )
    logs_days: int | None = strawberry.field(
        default=strawberry.UNSET, description="Then lines are deleted, and a gap is told. Null: for ever."
    )


@strawberry.type(description="The project, or why it was refused.")
class SetRetentionPayload:
    """Payload of setRetention."""

    project: users.Project | None = strawberry.field(default=None, description="The project.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="Why it was refused.")


@strawberry.type
class RetentionMutation:
    """Saying what is kept."""

    @strawberry.mutation(
        description="Say for how many days a project keeps what its runs measured and printed, counted from their end;"
        " what is not given stays as it is. What is gone does not come back."
    )
    @refusing(SetRetentionPayload)
    async def set_retention(self, info: Info, input: SetRetentionInput) -> SetRetentionPayload:
        context = info.context
        given = {"metrics_days": input.metrics_days, "logs_days": input.logs_days}
        days = {name: count for name, count in given.items() if count is not strawberry.UNSET}
        project = maybe_key("project", input.project, "project")
        chosen = await context.act(retention.set_days, project, days)
        return SetRetentionPayload(project=await users.project(context, chosen))
