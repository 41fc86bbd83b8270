"""Running again what has run: as it was, or with changes."""

import strawberry

from db import retries
from graph import enums, steps
from graph.context import Info
from graph.errors import UserError, refusing
from graph.filters import TagInput
from graph.nodes import key
from graph.requests import RetryRuleInput, RunDatasetInput, StepArgumentsInput, StepResourcesInput
from graph.runs import Run, load_runs

enums.show(
    retries.From,
    "Where a retry begins.",
    name="RetryFrom",
    START="Anew: every job.",
    FAILURE="Where it failed: jobs that SUCCEEDED stand with their outputs.",
)
enums.show(
    retries.Revised,
    "Which revision of the pipeline to execute.",
    name="RerunRevision",
    ORIGINAL="The one that the run executed.",
    LATEST="The pipeline's newest one.",
)


@strawberry.input(description="Which run to repeat.")
class RetryRunInput:
    """Input of retryRun."""

    id: strawberry.ID = strawberry.field(description="The run; it must have ended.")
    begin: retries.From | None = strawberry.field(
        name="from",
        default=None,
        description="FAILURE, also when not given: jobs that SUCCEEDED stand with their outputs.",
    )
    idempotency_key: str | None = strawberry.field(
        default=None, description="The same key with the same input gives the run it started."
    )


@strawberry.type(description="The new run, or why it was refused.")
class RetryRunPayload:
    """Payload of retryRun."""

    run: Run | None = strawberry.field(default=None, description="Its `retryOf` is the run it repeats.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="Why it was refused.")


@strawberry.input(description="Which run to take, and what to change; what is not given is as it was there.")
class RerunRunInput:
    """Input of rerunRun."""

    id: strawberry.ID = strawberry.field(description="The run, in whatever state.")
    revision: retries.Revised | None = strawberry.field(
        default=None, description="The run's own, also when not given, or the pipeline's latest."
    )
    idempotency_key: str | None = strawberry.field(
        default=None, description="The same key with the same input gives the run it started."
    )
    backend: str | None = strawberry.field(default=None, description="Where, by name.")
    name: str | None = strawberry.field(default=None, description="1 to 200 characters.")
    priority: int | None = strawberry.field(default=None, description="-1000 to 1000; higher ones first.")
    arguments: list[StepArgumentsInput] = strawberry.field(
        default_factory=list, description="Added to those that the run was given, before which they come."
    )
    replace_arguments: bool = strawberry.field(
        default=False, description="Whether `arguments` take the place of all the run was given."
    )
    files: list[strawberry.ID] | None = strawberry.field(default=None, description="Input files, in order.")
    datasets: list[RunDatasetInput] | None = strawberry.field(
        default=None, description="Without them the very versions the run was given."
    )
    sources: list[strawberry.ID] | None = strawberry.field(
        default=None, description="Data sources that its jobs read for themselves; at most 20."
    )
    retry: list[RetryRuleInput] | None = strawberry.field(
        default=None, description="At most one a reason; in the place of all that the run was given."
    )
    resources: list[StepResourcesInput] = strawberry.field(
        default_factory=list,
        description="At most one a step; they take the place of what the run was given for these steps.",
    )
    tags: list[TagInput] | None = strawberry.field(default=None, description="At most 100.")
    fail_fast: bool | None = strawberry.field(
        default=None, description="Skip what is not launched after a failure."
    )
    cache: bool = strawberry.field(
        default=True, description="False: no job takes its outputs from another, whatever its step says."
    )


@strawberry.type(description="The new run, or every mistake.")
class RerunRunPayload:
    """Payload of rerunRun."""

    run: Run | None = strawberry.field(default=None, description="Its `basedOn` is the run it was made from.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="Why it was refused.")


@strawberry.type
class RetryMutation:
    """Running again."""

    @strawberry.mutation(
        description="Run an ended run again, exactly as it was: same versions, arguments and files."
    )
    @refusing(RetryRunPayload)
    async def retry_run(self, info: Info, input: RetryRunInput) -> RetryRunPayload:
        context = info.context
        old = key("run", input.id, "id")
        begin = input.begin or retries.From.FAILURE
        run_id = await context.act(retries.retry, old, begin, idempotency_key=input.idempotency_key)
        return RetryRunPayload(run=await context.load(load_runs, run_id))

    @strawberry.mutation(
        description="Start a run from what another was asked for, with changes; functions are those of today."
    )
    @refusing(RerunRunPayload)
    async def rerun_run(self, info: Info, input: RerunRunInput) -> RerunRunPayload:
        context = info.context
        files = None
        if input.files is not None:
            files = [key("file", text, "files", str(at)) for at, text in enumerate(input.files)]
        spec = retries.RerunSpec(
            run_id=key("run", input.id, "id"),
            backend=input.backend,
            revision=input.revision or retries.Revised.ORIGINAL,
            idempotency_key=input.idempotency_key,
            name=input.name,
            priority=input.priority,
            arguments=[
                (one.step, steps.arguments(one.arguments, "arguments", str(index), "arguments"))
                for index, one in enumerate(input.arguments)
            ],
            only_these=input.replace_arguments,
            files=files,
            datasets=None
            if input.datasets is None
            else [given.use("datasets", str(index)) for index, given in enumerate(input.datasets)],
            sources=None
            if input.sources is None
            else [key("data_source", text, "sources", str(at)) for at, text in enumerate(input.sources)],
            resources=[given.resources() for given in input.resources],
            retry=None if input.retry is None else [one.rule() for one in input.retry],
            tags=None if input.tags is None else [(tag.name, tag.value) for tag in input.tags],
            fail_fast=input.fail_fast,
            cache=input.cache,
        )
        run_id = await context.act(retries.rerun, spec)
        return RerunRunPayload(run=await context.load(load_runs, run_id))
