"""Suspending runs and resuming them."""

import strawberry

from db import suspensions
from graph.context import Info
from graph.errors import UserError, refusing
from graph.nodes import key
from graph.runs import Run, load_runs


@strawberry.input(description="Which run is to stand still.")
class SuspendRunInput:
    """Input of suspendRun."""

    id: strawberry.ID = strawberry.field(description="The run.")


@strawberry.type(description="The run, or why it was refused.")
class SuspendRunPayload:
    """Payload of suspendRun."""

    run: Run | None = strawberry.field(default=None, description="Suspended, unless it has ended.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="Why it was refused.")


@strawberry.input(description="Which run is to go on.")
class ResumeRunInput:
    """Input of resumeRun."""

    id: strawberry.ID = strawberry.field(description="The run.")


@strawberry.type(description="The run, or why it was refused.")
class ResumeRunPayload:
    """Payload of resumeRun."""

    run: Run | None = strawberry.field(default=None, description="Not suspended any more.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="Why it was refused.")


@strawberry.type
class SuspensionMutation:
    """Suspending and resuming."""

    @strawberry.mutation(
        description="Have a run stand still: nothing more of it is launched, and what runs stops where it is,"
        " keeping its memory and its place. A repeat changes nothing."
    )
    @refusing(SuspendRunPayload)
    async def suspend_run(self, info: Info, input: SuspendRunInput) -> SuspendRunPayload:
        context, run_id = info.context, key("run", input.id, "id")
        await context.act(suspensions.suspend, run_id)
        return SuspendRunPayload(run=await context.load(load_runs, run_id))

    @strawberry.mutation(description="Let a suspended run go on where it stands. A repeat changes nothing.")
    @refusing(ResumeRunPayload)
    async def resume_run(self, info: Info, input: ResumeRunInput) -> ResumeRunPayload:
        context, run_id = info.context, key("run", input.id, "id")
        await context.act(suspensions.resume, run_id)
        return ResumeRunPayload(run=await context.load(load_runs, run_id))
