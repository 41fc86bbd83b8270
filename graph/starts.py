"""Starting and cancelling runs, one or many at once."""

from collections.abc import Callable
from typing import Any

import strawberry

from db import bulk, families, plans, runs, starts
from db.errors import DomainError
from graph import enums
from graph.context import Context, Info
from graph.errors import UserError, refusing, told
from graph.nodes import key, maybe_key
from graph.requests import RequestInput, request_of
from graph.runs import Run, load_runs

enums.show(
    plans.IfBusy,
    "What to do with a run that would have to wait.",
    QUEUE="Start it, and let it wait.",
    REJECT="Refuse it with CONFLICT and the reason, and leave nothing of it.",
)


@strawberry.input(description="What to run, on what.")
class StartRunInput(RequestInput):
    """Input of startRun."""

    pipeline: strawberry.ID = strawberry.field(description="Its latest revision is executed.")
    idempotency_key: str | None = strawberry.field(
        default=None, description="The same key with the same input gives the run it started."
    )
    parent: strawberry.ID | None = strawberry.field(
        default=None, description="A run of the same project that this one is a part of."
    )
    if_busy: plans.IfBusy | None = strawberry.field(
        default=None,
        description="QUEUE when not given. What if none of its jobs could be launched now: for want of room, by a "
        "limit, before its turn, without its module or a backend that answers.",
    )


@strawberry.type(description="The run, or every mistake.")
class StartRunPayload:
    """Payload of startRun."""

    run: Run | None = strawberry.field(default=None, description="QUEUED, or what the key started before.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="Why it was refused.")


@strawberry.input(description="Which run to end.")
class CancelRunInput:
    """Input of cancelRun."""

    id: strawberry.ID = strawberry.field(description="The run.")
    grace_seconds: float = strawberry.field(
        default=10.0, description="How long its processes may take to end by themselves."
    )
    cascade: bool = strawberry.field(
        default=False,
        description="Whether its children end with it, and theirs; repeat it if it is interrupted.",
    )


@strawberry.type(description="The run, or why it was refused.")
class CancelRunPayload:
    """Payload of cancelRun."""

    run: Run | None = strawberry.field(
        default=None, description="CANCELLING, CANCELLED, or as it ended before."
    )
    errors: list[UserError] = strawberry.field(default_factory=list, description="Why it was refused.")


@strawberry.input(description="What to run, one after the other; at most 100.")
class StartRunsInput:
    """Input of startRuns."""

    runs: list[StartRunInput] = strawberry.field(description="Each as startRun takes it.")


@strawberry.type(description="What became of each.")
class StartRunsPayload:
    """Payload of startRuns."""

    results: list[StartRunPayload] = strawberry.field(
        default_factory=list, description="In the order of the input; a refused one touches no other."
    )
    errors: list[UserError] = strawberry.field(
        default_factory=list, description="Why all of them were refused."
    )


@strawberry.input(description="Which runs to end; at most 100.")
class CancelRunsInput:
    """Input of cancelRuns."""

    ids: list[strawberry.ID] = strawberry.field(description="The runs.")
    grace_seconds: float = strawberry.field(
        default=10.0, description="How long their processes may take to end by themselves."
    )
    cascade: bool = strawberry.field(default=False, description="Whether their children end with them.")


@strawberry.type(description="What became of each.")
class CancelRunsPayload:
    """Payload of cancelRuns."""

    results: list[CancelRunPayload] = strawberry.field(
        default_factory=list, description="In the order of the input; a refused one touches no other."
    )
    errors: list[UserError] = strawberry.field(
        default_factory=list, description="Why all of them were refused."
    )


@strawberry.type
class StartMutation:
    """Starting and cancelling."""

    @strawberry.mutation(description="Start a run: everything is checked and frozen now, and launched soon.")
    @refusing(StartRunPayload)
    async def start_run(self, info: Info, input: StartRunInput) -> StartRunPayload:
        run_id = await _start(info.context, input)
        return StartRunPayload(run=await info.context.load(load_runs, run_id))

    @strawberry.mutation(
        description="Start many runs, each by itself: what is right starts, whatever is wrong."
    )
    @refusing(StartRunsPayload)
    async def start_runs(self, info: Info, input: StartRunsInput) -> StartRunsPayload:
        context = info.context
        made = await bulk.each(input.runs, "runs", lambda _, one: _start(context, one))
        return StartRunsPayload(results=await results(context, made, "runs", StartRunPayload))

    @strawberry.mutation(
        description="End a run: what was not launched ends now, the rest within the grace period."
    )
    @refusing(CancelRunPayload)
    async def cancel_run(self, info: Info, input: CancelRunInput) -> CancelRunPayload:
        run_id = key("run", input.id, "id")
        await _cancel(info.context, run_id, input.grace_seconds, input.cascade)
        return CancelRunPayload(run=await info.context.load(load_runs, run_id))

    @strawberry.mutation(description="End many runs, each by itself.")
    @refusing(CancelRunsPayload)
    async def cancel_runs(self, info: Info, input: CancelRunsInput) -> CancelRunsPayload:
        context = info.context

        async def cancel(_: int, text: str) -> bytes:
            return await _cancel(context, key("run", text), input.grace_seconds, input.cascade)

        made = await bulk.each(input.ids, "ids", cancel)
        return CancelRunsPayload(results=await results(context, made, "ids", CancelRunPayload))


async def results(
    context: Context, made: list[bytes | DomainError], path: str, payload: Callable[..., Any]
) -> list[Any]:
    """The payloads of a bulk command: each item's run as it is after all of them, or its refusal."""
    return [
        payload(errors=told(one, path, str(index)))
        if isinstance(one, DomainError)
        else payload(run=await context.load(load_runs, one))
        for index, one in enumerate(made)
    ]


def spec_of(context: Context, input: StartRunInput) -> starts.StartSpec:
    """What is asked for, as the system of record takes it; raises what is wrong in how it is written."""
    return starts.StartSpec(
        pipeline_id=key("pipeline", input.pipeline, "pipeline"),
        idempotency_key=input.idempotency_key,
        parent_id=maybe_key("run", input.parent, "parent"),
        if_busy=input.if_busy or plans.IfBusy.QUEUE,
        **request_of(context, input).asked(),
    )


async def _start(context: Context, input: StartRunInput) -> bytes:
    spec = spec_of(context, input)
    return await context.act(starts.start, spec)


async def _cancel(context: Context, run_id: bytes, grace_seconds: float, cascade: bool) -> bytes:
    """Cancel a run and, if asked, what descends from it: each by itself, its parent first."""
    await context.act(runs.cancel, run_id, grace_seconds=grace_seconds)
    if cascade:
        async with context.database.read() as session:
            below = await families.descendants(session, run_id)
        for one in below:
            await context.act(runs.cancel, one, grace_seconds=grace_seconds)
    return run_id
